"""Loading a data set into MongoDB: whole, once, and again after it was cut short."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any
from uuid import uuid4

import polars as pl
import pymongo
import pytest
from pymongo.database import Database

from app.mongo import EVENT_INDEX
from foretell import loading
from foretell.embedded import EmbeddedStores
from foretell.loading import LoadError, load_dataset, loaded_key
from models.datasets.dataset import Dataset
from models.domain import load_domain

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def dataset(name: str = "toy", events: int = 5) -> Dataset:
    """Users u0 and u1 in turns; event n is e<n>; only the first is a purchase with a value, context and request."""
    frame = pl.DataFrame(
        {
            "event_id": [f"e{n:04}" for n in range(events)],
            "user_id": [f"u{n % 2}" for n in range(events)],
            "item_id": ["i1"] * events,
            "type": ["purchase"] + ["click"] * (events - 1),
            "at": [NOON] * events,
            "value": [9.5] + [None] * (events - 1),
            "request_id": ["r1"] + [None] * (events - 1),
            "context_device": ["mobile"] + [None] * (events - 1),
        },
        schema_overrides={"at": pl.Datetime("ms", "UTC")},
    )
    items = pl.DataFrame(
        {"item_id": ["i1"], "title": ["One"], "categories": [["a", "b"]], "price": [2.5], "available": [True]}
    )
    users = pl.DataFrame({"user_id": ["u0", "u1"], "profile_segment": ["new", None]})
    return Dataset.build(name, load_domain("ecommerce"), events=frame, items=items, users=users, synthetic=True)


@pytest.fixture
def database(stores: EmbeddedStores) -> Iterator[Database[dict[str, Any]]]:
    """A database of this test alone."""
    with pymongo.MongoClient[dict[str, Any]](stores.mongo_url, tz_aware=True) as client:
        opened = client[f"load_{uuid4().hex[:16]}"]
        yield opened
        client.drop_database(opened.name)


def test_documents_are_as_the_service_reads_them(stores: EmbeddedStores, database: Database[dict[str, Any]]) -> None:
    loaded = load_dataset(dataset(events=2), stores.mongo_url, database.name)
    assert loaded.counts == {"items": 1, "users": 2, "events": 2}
    base = {"item_id": "i1", "at": NOON}
    first = {"value": 9.5, "request_id": "r1", "context": {"device": "mobile"}}
    assert list(database.events.find(sort=[("_id", 1)])) == [
        {"_id": "e0000", "user_id": "u0", "type": "purchase", **base, **first},
        {"_id": "e0001", "user_id": "u1", "type": "click", **base},
    ]
    users = [{"_id": "u0", "profile": {"segment": "new"}}, {"_id": "u1", "profile": {}}]
    assert list(database.users.find(sort=[("_id", 1)])) == users
    item = database.items.find_one()
    assert item is not None
    assert isinstance(item.pop("updated_at"), datetime)
    assert item == {"_id": "i1", "title": "One", "categories": ["a", "b"], "price": 2.5, "available": True}
    assert [list(i["key"].items()) for i in database.events.list_indexes()][1] == EVENT_INDEX


def test_an_event_says_what_was_shown_since_the_one_before(
    stores: EmbeddedStores, database: Database[dict[str, Any]]
) -> None:
    toy = dataset(events=4)
    moments = [NOON + timedelta(minutes=n) for n in range(4)]
    events = toy.events.sort("event_id").with_columns(pl.Series("at", moments, pl.Datetime("ms", "UTC")))
    shown = pl.DataFrame(
        {
            "event_id": [f"x{n}" for n in range(4)],
            "user_id": ["u0", "u0", "u1", "u0"],
            "item_id": ["a", "b", "c", "d"],
            "at": [NOON - timedelta(minutes=1), NOON, NOON + timedelta(minutes=2), NOON + timedelta(minutes=9)],
            "position": [1, 2, 1, 1],
        },
        schema_overrides={"at": pl.Datetime("ms", "UTC"), "position": pl.Int32},
    )
    toy = Dataset.build("shown", load_domain("ecommerce"), events=events, exposures=shown, synthetic=True)
    load_dataset(toy, stores.mongo_url, database.name)
    stored = {event["_id"]: event.get("exposed") for event in database.events.find()}
    assert stored == {"e0000": ["a", "b"], "e0001": [], "e0002": [], "e0003": ["c"]}


def test_an_item_is_stamped_when_it_is_sent(
    stores: EmbeddedStores, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A running service asks for what changed in the last minute; a load may take longer than that."""
    toy = dataset()
    items = pl.DataFrame({"item_id": ["i1", "i2"]})
    toy = Dataset.build("two", load_domain("ecommerce"), events=toy.events, items=items, synthetic=True)
    monkeypatch.setattr(loading, "BATCH", 1)
    sent: list[datetime] = []
    load_dataset(toy, stores.mongo_url, database.name, lambda name, done, total: sent.append(datetime.now(UTC)))
    late = database.items.find_one({"_id": "i2"})
    assert late is not None
    assert late["updated_at"] >= sent[0].replace(microsecond=sent[0].microsecond // 1000 * 1000)


def test_the_second_load_of_the_same_data_does_nothing(
    stores: EmbeddedStores, database: Database[dict[str, Any]], tmp_path: Path
) -> None:
    toy = dataset()
    toy.write(tmp_path / "toy")
    assert loaded_key(stores.mongo_url, database.name) is None
    assert not load_dataset(tmp_path / "toy", stores.mongo_url, database.name).skipped
    database.events.delete_one({"_id": "e0001"})  # were it loaded again, this one would come back
    assert load_dataset(toy, stores.mongo_url, database.name).skipped
    assert database.events.count_documents({}) == 4
    assert loaded_key(stores.mongo_url, database.name) == toy.fingerprint()


def test_a_load_that_was_cut_short_goes_on(
    stores: EmbeddedStores, database: Database[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loading, "BATCH", 2)
    seen: list[tuple[str, int, int]] = []

    def stop_at_four(name: str, done: int, total: int) -> None:
        seen.append((name, done, total))
        if done == 4:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        load_dataset(dataset(), stores.mongo_url, database.name, stop_at_four)
    assert seen == [("items", 1, 1), ("users", 2, 2), ("events", 2, 5), ("events", 4, 5)]
    assert loaded_key(stores.mongo_url, database.name) is None
    assert not load_dataset(dataset(), stores.mongo_url, database.name).skipped
    assert sorted(database.events.distinct("_id")) == [f"e{n:04}" for n in range(5)]


def test_another_data_set_is_refused_unless_it_may_replace(
    stores: EmbeddedStores, database: Database[dict[str, Any]]
) -> None:
    load_dataset(dataset(), stores.mongo_url, database.name)
    with pytest.raises(LoadError, match="holds the data set toy already; load into another database"):
        load_dataset(dataset("other", events=3), stores.mongo_url, database.name)
    load_dataset(dataset("other", events=3), stores.mongo_url, database.name, replace=True)
    assert database.events.count_documents({}) == 3


def test_a_key_stands_in_for_the_content(stores: EmbeddedStores, database: Database[dict[str, Any]]) -> None:
    """The times of a demo move with the calendar; it is the same demo all the same."""
    load_dataset(dataset(events=5), stores.mongo_url, database.name, key="demo-1")
    assert load_dataset(dataset(events=3), stores.mongo_url, database.name, key="demo-1").skipped


def test_users_limit_the_events_with_them(stores: EmbeddedStores, database: Database[dict[str, Any]]) -> None:
    loaded = load_dataset(dataset(), stores.mongo_url, database.name, users=1)
    assert loaded.counts == {"items": 1, "users": 1, "events": 3}
    assert database.events.distinct("user_id") == ["u0"]


def test_an_unreachable_mongodb_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        loading, "_client", lambda url: pymongo.MongoClient[dict[str, Any]](url, serverSelectionTimeoutMS=100)
    )
    with pytest.raises(LoadError, match=r"MongoDB does not answer .*; check FORETELL_MONGO_URL\."):
        loaded_key("mongodb://127.0.0.1:1/", "foretell")
