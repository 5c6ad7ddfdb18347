"""``foretell demo``: the whole product on one machine, with real stores and synthetic data, by one command."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any
from urllib.parse import quote

import typer

from foretell.console import USAGE, console, fail, progress

if TYPE_CHECKING:
    from app.settings import Settings

#: The synthetic shop of the demo: the catalogue is the one the shipped model knows, the customers are others.
DEMO = {"seed": 11, "users": 300, "items": 5_000, "events": 150_000}


def demo(
    host: Annotated[str | None, typer.Option(help="Address to listen on [FORETELL_HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [FORETELL_PORT].")] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="FORETELL_DATA_DIR", help="Where the embedded stores keep their data.")
    ] = Path(".foretell"),
    load_only: Annotated[bool, typer.Option("--load-only", help="Load the demo data into MongoDB and leave.")] = False,
) -> None:
    """Show Foretell predicting: start stores, load a synthetic shop, serve the shipped model.

    FORETELL_REDIS_URL and FORETELL_MONGO_URL point it at real stores; what is not set is embedded.
    """
    from app.settings import SettingsError, load_settings
    from foretell.commands.serve import run
    from foretell.embedded import EmbeddedError, EmbeddedStores

    with ExitStack() as stack:
        try:
            load_settings(host=host, port=port)  # a bad setting is told before anything starts
            redis_url, mongo_url = os.environ.get("FORETELL_REDIS_URL"), os.environ.get("FORETELL_MONGO_URL")
            if load_only:
                redis_url = redis_url or "redis://unused"
            stores = stack.enter_context(EmbeddedStores(data_dir, redis_url=redis_url, mongo_url=mongo_url))
            settings = load_settings(host=host, port=port, redis_url=stores.redis_url, mongo_url=stores.mongo_url)
        except SettingsError as error:
            fail("\n".join(error.problems), USAGE)
        except EmbeddedError as error:
            fail(str(error))
        shopper = load_shop(settings)
        if load_only:
            return
        threading.Thread(target=announce, args=(settings, shopper), daemon=True).start()
        code = run(settings)
    raise typer.Exit(code)


def load_shop(settings: Settings) -> dict[str, Any]:
    """Load the synthetic shop unless it is there already; returns a customer with a history to try things with."""
    import pymongo
    from pymongo.errors import PyMongoError

    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(
        settings.mongo_url, serverSelectionTimeoutMS=settings.mongo_timeout_ms
    )
    try:
        meta = client[settings.mongo_database]["meta"]
        known = meta.find_one({"_id": "demo"})
        if known is None or known["shop"] != DEMO:
            known = {"_id": "demo", "shop": DEMO, **_simulate_and_load(settings)}
            meta.replace_one({"_id": "demo"}, known, upsert=True)
    except PyMongoError as error:
        fail(f"MongoDB does not answer ({type(error).__name__}); check FORETELL_MONGO_URL.")
    finally:
        client.close()
    return known


def _simulate_and_load(settings: Settings) -> dict[str, Any]:
    from datetime import UTC, datetime

    from foretell.loading import load_dataset
    from models.datasets.dataset import rebase
    from models.datasets.storefront import simulate

    console.print("Making a synthetic shop (once) ...")
    shop = rebase(simulate(**DEMO), datetime.now(UTC))
    with progress() as bar:
        task = bar.add_task("load", total=None)
        load_dataset(
            shop,
            settings.mongo_url,
            settings.mongo_database,
            lambda what, done, total: bar.update(task, description=what, completed=done, total=total),
        )
    counts = shop.events.group_by("user_id").len().sort("len", "user_id")
    shopper = counts.filter(counts["len"] >= 30).row(0)[0]
    seen = shop.events.filter(shop.events["user_id"] == shopper)["item_id"].to_list()
    return {"user_id": shopper, "items": list(dict.fromkeys(seen[::-1]))[:2]}


def announce(settings: Settings, shopper: dict[str, Any]) -> None:
    """Wait until the service is ready, then print lines that can be pasted."""
    base = f"http://{settings.host}:{settings.port}"
    while not _ready(base):
        time.sleep(0.2)
    user, items = shopper["user_id"], shopper["items"]
    named = ", ".join(f'"{item}"' for item in items)
    console.print(
        f"""
[bold green]Foretell is ready[/bold green] on {base} (synthetic shop, {settings.model_name}). See it in a browser:
{base}/?user={quote(user)}

Or paste into another terminal:

[bold]# What will this customer do next? Again: the state comes from the cache.[/bold]
curl -s {base}/predict -H 'Content-Type: application/json' \\
  -d '{{"user_id": "{user}", "items": [{named}], "k": 5, "context": {{"device": "mobile"}}}}'

[bold]# They click something; the next prediction knows.[/bold]
curl -s {base}/events -H 'Content-Type: application/json' \\
  -d '{{"events": [{{"event_id": "'$(date +%s%N)'", "user_id": "{user}", "item_id": "{items[0]}", "type": "click"}}]}}'

[bold]# What operations see, and the API to try in a browser.[/bold]
curl -s {base}/metrics | grep foretell_state_lookups
{base}/docs
""",
        soft_wrap=True,
    )


def _ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
