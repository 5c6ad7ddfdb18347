"""The demo's shop: loaded once, with a customer to show, whenever the last run was cut short."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import pymongo
import pytest
from pymongo.database import Database

from foretell import shop
from foretell.embedded import EmbeddedStores
from foretell.loading import LoadError
from foretell.shop import open_shop


@pytest.fixture
def database(stores: EmbeddedStores) -> Iterator[Database[dict[str, Any]]]:
    """A database of this test alone."""
    with pymongo.MongoClient[dict[str, Any]](stores.mongo_url) as client:
        opened = client[f"shop_{uuid4().hex[:16]}"]
        yield opened
        client.drop_database(opened.name)


def test_a_run_cut_short_after_the_load_is_made_good_by_the_next(
    stores: EmbeddedStores, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "SIZE", {"seed": 11, "users": 20, "items": 200, "events": 5_000})
    first = open_shop(stores.mongo_url, database.name)
    assert database.events.count_documents({"user_id": first.user_id}) >= shop.EVENTS
    assert len(first.items) == 2
    database.meta.delete_one({"_id": "shopper"})  # as if it had been killed before it wrote this
    assert open_shop(stores.mongo_url, database.name) == first
    assert open_shop(stores.mongo_url, database.name) == first


def test_a_shop_of_before_makes_room_for_one_that_knows_what_was_shown(
    stores: EmbeddedStores, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shop, "SIZE", {"seed": 11, "users": 20, "items": 200, "events": 5_000})
    database.meta.insert_one({"_id": "dataset", "name": "storefront", "key": "demo seed=1", "complete": True})
    database.events.insert_one({"_id": "old"})
    open_shop(stores.mongo_url, database.name)
    assert database.events.count_documents({"_id": "old"}) == 0
    assert database.events.count_documents({"exposed": {"$size": 10}})


def test_other_data_stay_where_they_are(stores: EmbeddedStores, database: Database[dict[str, Any]]) -> None:
    database.meta.insert_one({"_id": "dataset", "name": "theirs", "key": "d3m0", "complete": True})
    with pytest.raises(LoadError, match="holds the data set theirs already"):
        open_shop(stores.mongo_url, database.name)
