"""``foretell demo``: the whole product on one machine, with real stores and synthetic data, by one command."""

from __future__ import annotations

import os
import signal
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated
from urllib.parse import quote

import typer

from foretell.console import USAGE, console, fail
from foretell.signals import Ending, ending, follow_terminal

if TYPE_CHECKING:
    from app.settings import Settings
    from foretell.shop import Shopper


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
    It serves with one worker, and does not compile the model.
    """
    from pymongo.errors import PyMongoError

    from app.settings import SettingsError
    from foretell.address import ListenError
    from foretell.embedded import EmbeddedError
    from foretell.loading import LoadError

    try:
        with ending(signal.SIGINT, signal.SIGTERM, signal.SIGHUP) as end:
            code = load(host, port, end) if load_only else show(host, port, data_dir, end)
    except SettingsError as error:
        fail("\n".join(error.problems), USAGE)
    except (EmbeddedError, ListenError, LoadError) as error:
        fail(str(error))
    except PyMongoError as error:
        fail(f"MongoDB stopped answering ({type(error).__name__}); run the demo again.")
    raise typer.Exit(code)


def load(host: str | None, port: int | None, end: Ending) -> int:
    """Make sure that the shop is in the MongoDB of the settings, for a service that runs elsewhere."""
    from app.pseudonyms import alias_of
    from app.settings import load_settings
    from foretell.address import base_url
    from foretell.shop import open_shop

    settings = load_settings(host=host, port=port)
    with end.hold():
        shopper = open_shop(settings.mongo_url, settings.mongo_database, end.check, alias_of(settings))
    print_requests(base_url(settings.host, settings.port), shopper, settings)
    return 0


def show(host: str | None, port: int | None, data_dir: Path, end: Ending) -> int:
    """Everything on this machine until a signal comes; what can fail at once (settings, port, folder) comes first."""
    from app.pseudonyms import alias_of
    from app.settings import load_settings
    from foretell.address import base_url, bind
    from foretell.commands.serve import run
    from foretell.embedded import EmbeddedStores
    from foretell.reach import reachable
    from foretell.shop import open_shop

    # One worker: it is this process, so nothing of the service can outlive it. Not compiled: who looks for the first
    # time waits for the start, not for the thousandth answer.
    settings = reachable(load_settings(host=host, port=port, workers=1, xla=False))
    redis_url, mongo_url = os.environ.get("FORETELL_REDIS_URL"), os.environ.get("FORETELL_MONGO_URL")
    with (
        bind(settings.host, settings.port) as listener,
        EmbeddedStores(data_dir, redis_url=redis_url, mongo_url=mongo_url) as stores,
    ):
        follow_terminal()  # now, because a child is best started before there are threads
        settings = settings.model_copy(update={"redis_url": stores.redis_url, "mongo_url": stores.mongo_url})
        with end.hold():
            shopper = open_shop(settings.mongo_url, settings.mongo_database, end.check, alias_of(settings))
        base = base_url(settings.host, listener.getsockname()[1])
        return run(settings, listener, partial(announce, base, shopper, settings))


def announce(base: str, shopper: Shopper, settings: Settings) -> None:
    """Say that it is ready, and what to try."""
    console.print(f"\n[bold green]Foretell is ready[/bold green] on {base} (synthetic shop, {settings.model_name}).")
    print_requests(base, shopper, settings)


def print_requests(base: str, shopper: Shopper, settings: Settings) -> None:
    """Lines that can be pasted into a browser and a terminal; where the service wants a key, from the variable KEY."""
    key = ' -H "Authorization: Bearer $KEY"' if settings.keys else ""
    metrics = f"curl -s {base}/metrics{key} | grep foretell_state_lookups\n" if settings.ops_port is None else ""
    user = shopper.user_id
    named = ", ".join(f'"{item}"' for item in shopper.items)
    click = f'"user_id": "{user}", "item_id": "{shopper.items[0]}", "type": "click", "exposed": [{named}]'
    console.print(
        f"""See a customer of it in a browser:

{base}/?user={quote(user)}

Or paste into another terminal:

[bold]# What will this customer do next? Asked again, the state comes from the cache.[/bold]
curl -s {base}/predict{key} -H 'Content-Type: application/json' \\
  -d '{{"user_id": "{user}", "items": [{named}], "k": 5, "context": {{"device": "mobile"}}}}'

[bold]# They click one of the two that were shown; the next prediction knows.[/bold]
curl -s {base}/events{key} -H 'Content-Type: application/json' \\
  -d '{{"events": [{{"event_id": "'$(date +%s)'", {click}}}]}}'

[bold]# What operations see, and the API to try in a browser.[/bold]
{metrics}{base}/docs
""",
        soft_wrap=True,
    )
