"""The demo's synthetic shop: made and loaded once, and a customer of it to try things with."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import pymongo

from app.pseudonyms import Alias, same
from foretell.console import console, progress
from foretell.loading import load_dataset, loaded_key

#: The catalogue is the one the shipped model knows; the customers are others than it was trained on.
SIZE: dict[str, Any] = {"seed": 11, "users": 300, "items": 5_000, "events": 150_000}
#: Tells this shop from other data in the same database, and from the demo's shops of before, which knew no exposures.
DEMO = "demo "
KEY = f"{DEMO}exposures " + " ".join(f"{name}={number}" for name, number in SIZE.items())
#: A customer with about so many events shows well: enough to know them, few enough to see one more.
EVENTS = 30


@dataclass(frozen=True, slots=True)
class Shopper:
    """A customer of the shop, and the items they touched last, newest first."""

    user_id: str
    items: tuple[str, ...]


def open_shop(mongo_url: str, database: str, rest: Callable[[], None] = lambda: None, alias: Alias = same) -> Shopper:
    """Make sure that the shop is in MongoDB. Times are moved by whole weeks, so that it was busy until days ago.

    Args:
        rest: called again and again while the shop is made and loaded, where it may be interrupted.
        alias: makes of a user id the one that is stored.

    Raises:
        LoadError: MongoDB does not answer, or the database holds other data.
        PyMongoError: it stopped answering in between.
    """
    client: pymongo.MongoClient[dict[str, Any]] = pymongo.MongoClient(mongo_url, serverSelectionTimeoutMS=5000)
    with client:
        meta = client[database]["meta"]
        held = loaded_key(mongo_url, database) or ""
        known = meta.find_one({"_id": "shopper"}) if held == KEY else None
        if known is None:  # not loaded, or cut short after the load: then only the shopper is found again
            older = held.startswith(DEMO) and held != KEY
            shopper = _make_and_load(mongo_url, database, rest, alias, replace=older)
            known = {"_id": "shopper", "user_id": shopper.user_id, "items": list(shopper.items)}
            meta.replace_one({"_id": "shopper"}, known, upsert=True)
    return Shopper(known["user_id"], tuple(known["items"]))


def _make_and_load(mongo_url: str, database: str, rest: Callable[[], None], alias: Alias, *, replace: bool) -> Shopper:
    from models.datasets.dataset import rebase
    from models.datasets.storefront import simulate

    console.print("Making a synthetic shop (once) ...")
    shop = rebase(simulate(**SIZE), datetime.now(UTC))
    counts = shop.events.group_by("user_id").len().sort("len", "user_id")
    user_id = next(str(user) for user, events in counts.iter_rows() if events >= EVENTS)
    seen = shop.events.filter(shop.events["user_id"] == user_id)["item_id"].to_list()
    rest()
    with progress() as bar:
        task = bar.add_task("load", total=None)

        def advance(what: str, done: int, total: int) -> None:
            bar.update(task, description=f"load {what}", completed=done, total=total)
            rest()

        load_dataset(shop, mongo_url, database, advance, key=KEY, alias=alias, replace=replace)
    return Shopper(user_id, tuple(dict.fromkeys(seen[::-1]))[:2])
