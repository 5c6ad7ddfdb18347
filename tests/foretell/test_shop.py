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
