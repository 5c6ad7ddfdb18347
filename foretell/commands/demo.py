"""``foretell demo``: the whole product on one machine, with real stores and synthetic data, by one command."""

from __future__ import annotations

import os
import threading
import time
import urllib.error
import urllib.request
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from foretell.console import USAGE, console, fail

if TYPE_CHECKING:
    from app.settings import Settings
    from foretell.shop import Shopper

POLL_SECONDS = 0.2


def demo(
    host: Annotated[str | None, typer.Option(help="Address to listen on [FORETELL_HOST].")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on [FORETELL_PORT].")] = None,
    data_dir: Annotated[
        Path, typer.Option(envvar="FORETELL_DATA_DIR", help="Where the embedded stores keep their data.")
    ] = Path(".foretell"),
    load_only: Annotated[
        bool, typer.Option("--load-only", help="Load the demo data into FORETELL_MONGO_URL and leave.")
    ] = False,
) -> None:
    """Show Foretell predicting: start stores, load a synthetic shop, serve the shipped model.

    FORETELL_REDIS_URL and FORETELL_MONGO_URL point it at real stores; what is not set is embedded.
    """
    from pymongo.errors import PyMongoError

    from app.settings import SettingsError, load_settings
    from foretell.commands.serve import run
    from foretell.embedded import EmbeddedError, EmbeddedStores
    from foretell.loading import LoadError
    from foretell.shop import open_shop

    redis_url, mongo_url = os.environ.get("FORETELL_REDIS_URL"), os.environ.get("FORETELL_MONGO_URL")
    try:
        settings = load_settings(host=host, port=port)  # a bad setting is told before anything starts
        if load_only:
            print_requests(settings, open_shop(settings.mongo_url, settings.mongo_database))
            return
        with ExitStack() as stack:
            stores = stack.enter_context(EmbeddedStores(data_dir, redis_url=redis_url, mongo_url=mongo_url))
            settings = load_settings(host=host, port=port, redis_url=stores.redis_url, mongo_url=stores.mongo_url)
            shopper = open_shop(settings.mongo_url, settings.mongo_database)
            threading.Thread(target=announce, args=(settings, shopper), daemon=True).start()
            code = run(settings)
    except SettingsError as error:
        fail("\n".join(error.problems), USAGE)
    except (EmbeddedError, LoadError) as error:
        fail(str(error))
    except PyMongoError as error:
        fail(f"MongoDB stopped answering ({type(error).__name__}); run the demo again.")
    raise typer.Exit(code)


def announce(settings: Settings, shopper: Shopper) -> None:
    """Wait until the service is ready, then print what to try."""
    base = base_url(settings)
    while not _ready(base):
        time.sleep(POLL_SECONDS)
    console.print(f"\n[bold green]Foretell is ready[/bold green] on {base} (synthetic shop, {settings.model_name}).")
    print_requests(settings, shopper)


def print_requests(settings: Settings, shopper: Shopper) -> None:
    """Lines that can be pasted into a browser and a terminal."""
    base, user = base_url(settings), shopper.user_id
    named = ", ".join(f'"{item}"' for item in shopper.items)
    click = f'"user_id": "{user}", "item_id": "{shopper.items[0]}", "type": "click"'
    console.print(
        f"""See a customer of it in a browser:

{base}/?user={quote(user)}

Or paste into another terminal:

[bold]# What will this customer do next? Asked again, the state comes from the cache.[/bold]
curl -s {base}/predict -H 'Content-Type: application/json' \\
  -d '{{"user_id": "{user}", "items": [{named}], "k": 5, "context": {{"device": "mobile"}}}}'

[bold]# They click something; the next prediction knows.[/bold]
curl -s {base}/events -H 'Content-Type: application/json' \\
  -d '{{"events": [{{"event_id": "'$(date +%s)'", {click}}}]}}'

[bold]# What operations see, and the API to try in a browser.[/bold]
curl -s {base}/metrics | grep foretell_state_lookups
{base}/docs
""",
        soft_wrap=True,
    )


def base_url(settings: Settings) -> str:
    """Where a browser on this machine finds the service."""
    host = "127.0.0.1" if settings.host in {"0.0.0.0", "::"} else settings.host
    return f"http://{host}:{settings.port}"


def _ready(base: str) -> bool:
    try:
        with urllib.request.urlopen(f"{base}/health/ready", timeout=2) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False
