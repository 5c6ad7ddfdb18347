"""Histories and events in a real store: order, ties, duplicates, outage."""

from __future__ import annotations

import asyncio
import math
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from math import ceil
from typing import Any
from urllib.parse import urlsplit

import pytest
from bson.errors import InvalidBSON
from bson.int64 import Int64
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.errors import BulkWriteError, InvalidName
from pymongo.monitoring import CommandFailedEvent, CommandListener, CommandStartedEvent, CommandSucceededEvent

from app import mongo as mongo_module
from app.errors import HistoryUnavailable, StartupError
from app.event_store import EventStore, StoredEvent
from app.history import TOGETHER, MongoHistory, UserRecord, everything
from app.mongo import DUPLICATE_KEY, Document, Mongo, Refused, driver_errors, taken
from foretell.embedded import EmbeddedStores
from models.encode import Event
from tests.integration.proxy import Proxy

NOON = datetime(2026, 1, 1, 12, tzinfo=UTC)


def event(
    event_id: str, *, seconds: float = 0, user: str = "u1", item: str = "i1", value: float | None = None
) -> StoredEvent:
    return StoredEvent(event_id, user, item, "click", NOON + timedelta(seconds=seconds), value)


async def test_events_come_back_oldest_first_with_total_and_profile(mongo: Mongo) -> None:
    store = EventStore(mongo.database)
    await store.insert(
        [
            event("e3", seconds=3, item="c", value=2.5),
            event("e1", seconds=1, item="a"),
            event("e2", seconds=2.25, item="b"),
        ]
    )
    await store.insert([event("x", user="u2")])
    await mongo.database.users.insert_one({"_id": "u1", "profile": {"segment": "new"}})
    record = await MongoHistory(mongo.database).recent("u1", 2)
    at = NOON.timestamp()
    assert record.events == [Event("b", "click", at + 2.25, None), Event("c", "click", at + 3, 2.5)]
    assert (record.total, record.profile) == (3, {"segment": "new"})


async def test_events_of_the_same_time_are_in_the_order_of_their_ids(mongo: Mongo) -> None:
    await EventStore(mongo.database).insert([event(f"e{n}", item=f"i{n}") for n in (3, 1, 4, 2)])
    record = await MongoHistory(mongo.database).recent("u1", 3)
    assert [e.item_id for e in record.events] == ["i2", "i3", "i4"]


async def test_an_unknown_user_has_an_empty_record(mongo: Mongo) -> None:
    record = await MongoHistory(mongo.database).recent("nobody", 10)
    assert (record.events, record.total, record.profile) == ([], 0, {})


async def test_a_limit_of_zero_reads_no_events(mongo: Mongo) -> None:
    await EventStore(mongo.database).insert([event("e1")])
    record = await MongoHistory(mongo.database).recent("u1", 0)
    assert (record.events, record.total) == ([], 1)


async def test_a_history_longer_than_a_first_batch_comes_whole(mongo: Mongo) -> None:
    """MongoDB's first batch holds 101 documents unless asked for more."""
    await EventStore(mongo.database).insert([event(f"e{n:03}", seconds=n) for n in range(250)])
    record = await MongoHistory(mongo.database).recent("u1", 200)
    assert [e.at - NOON.timestamp() for e in record.events] == list(range(50, 250))
    assert record.total == 250


@pytest.mark.parametrize(("events", "limit"), [(3, 4), (4, 4), (5, 4), (7, 4), (8, 4), (9, 4), (25, 4), (3, 0), (1, 1)])
async def test_all_events_are_counted_however_few_are_read(mongo: Mongo, events: int, limit: int) -> None:
    """Up to twice the limit are looked at in the command that reads; from there on another one counts."""
    await EventStore(mongo.database).insert([event(f"e{n:02}", seconds=n, item=f"i{n}") for n in range(events)])
    await EventStore(mongo.database).insert([event("x", user="u2")])
    record = await MongoHistory(mongo.database).recent("u1", limit)
    assert [e.item_id for e in record.events] == [f"i{n}" for n in range(max(events - limit, 0), events)]
    assert record.total == events


async def test_a_short_history_and_its_user_cost_one_command(mongo: Mongo) -> None:
    await EventStore(mongo.database).insert([event("e1")])
    await mongo.database.users.insert_one({"_id": "u1", "profile": {"segment": "new"}, "more": 1})
    before = (await mongo.database.command("serverStatus"))["opcounters"]
    record = await MongoHistory(mongo.database).recent("u1", 10)
    after = (await mongo.database.command("serverStatus"))["opcounters"]
    assert (len(record.events), record.total, record.profile) == (1, 1, {"segment": "new"})
    assert after["query"] == before["query"]
    assert after["command"] - before["command"] == 2  # the aggregation, and the first look at the counters


async def test_a_user_without_events_has_a_profile(mongo: Mongo) -> None:
    await mongo.database.users.insert_one({"_id": "u1", "profile": {"segment": "new", "since": NOON}})
    record = await MongoHistory(mongo.database).recent("u1", 10)
    assert (record.events, record.total, record.profile) == ([], 0, {"segment": "new", "since": NOON})


@pytest.mark.parametrize("beside", [None, "a value that only the strict reader takes"])
@pytest.mark.parametrize(("stored", "read"), [(2, 2.0), (2.5, 2.5), (Int64(7), 7.0), (None, None)], ids=str)
async def test_events_are_read_alike_by_the_short_way_and_the_strict_one(
    mongo: Mongo, stored: object, read: float | None, beside: str | None
) -> None:
    """One document that only the strict reader can judge sends the others to it, too."""
    documents = [{"_id": "e1", "user_id": "u1", "item_id": "a", "type": "click", "at": NOON, "value": stored}]
    if beside:
        documents.append({**documents[0], "_id": "e2", "item_id": "b", "value": "1.5"})
    await mongo.database.events.insert_many(documents)
    record = await MongoHistory(mongo.database).recent("u1", 10)
    assert record.events[0] == Event("a", "click", NOON.timestamp(), read)
    assert record.events[1:] == ([Event("b", "click", NOON.timestamp(), 1.5)] if beside else [])
    assert isinstance(record.events[0].value, float | None)


@pytest.mark.parametrize("beside", [None, "a value that only the strict reader takes"])
async def test_what_was_shown_is_read_where_the_model_knows_of_it(mongo: Mongo, beside: str | None) -> None:
    await EventStore(mongo.database).insert(
        [replace(event("e1"), exposed=["a", "b"]), replace(event("e2", seconds=1), exposed=[])]
    )
    extra = {"_id": "e3", "user_id": "u1", "item_id": "i1", "type": "click", "at": NOON + timedelta(seconds=2)}
    await mongo.database.events.insert_many([{**extra, "value": beside and "1.5"}, {**extra, "_id": "e4"}])
    read = [(await MongoHistory(mongo.database, exposed=known).recent("u1", 10)).events for known in (True, False)]
    assert [found.exposed for found in read[0]] == [["a", "b"], [], None, None]
    assert [found._replace(exposed=None) for found in read[0]] == read[1]


@pytest.mark.parametrize("exposed", ["a text", [1], 7, [["a"]], [None]], ids=str)
async def test_an_event_with_something_else_in_the_place_of_what_was_shown_is_left_out(
    mongo: Mongo, exposed: object
) -> None:
    document = {"_id": "e1", "user_id": "u1", "item_id": "a", "type": "click", "at": NOON, "exposed": exposed}
    await mongo.database.events.insert_many([document, {**document, "_id": "e2", "item_id": "b", "exposed": ["c"]}])
    left_out: list[Any] = []
    record = await MongoHistory(mongo.database, lambda *what: left_out.append(what), exposed=True).recent("u1", 10)
    assert [(found.item_id, found.exposed) for found in record.events] == [("b", ["c"])]
    assert len(left_out) == 1


async def test_times_are_kept_to_the_millisecond(mongo: Mongo) -> None:
    await EventStore(mongo.database).insert([event("e1", seconds=0.1239)])
    record = await MongoHistory(mongo.database).recent("u1", 1)
    assert record.events[0].at == NOON.timestamp() + 0.123


async def test_an_event_is_stored_once_however_often_it_is_sent(mongo: Mongo) -> None:
    store = EventStore(mongo.database)
    first = await store.insert([event("e1"), event("e2")])
    assert (first.accepted, first.duplicates) == ([0, 1], [])
    again = await store.insert([event("e0"), event("e1", item="changed"), event("e3"), event("e2")])
    assert (again.accepted, again.duplicates) == ([0, 2], [1, 3])
    stored = {row["_id"]: row["item_id"] async for row in mongo.database.events.find()}
    assert stored == {"e0": "i1", "e1": "i1", "e2": "i1", "e3": "i1"}


async def test_of_equal_ids_in_one_batch_one_is_accepted(mongo: Mongo) -> None:
    inserted = await EventStore(mongo.database).insert([event("e1"), event("e1"), event("e2"), event("e1")])
    assert (inserted.accepted, inserted.duplicates) == ([0, 2], [1, 3])


async def test_an_empty_batch_is_fine(mongo: Mongo) -> None:
    inserted = await EventStore(mongo.database).insert([])
    assert (inserted.accepted, inserted.duplicates) == ([], [])


async def test_a_document_holds_what_the_event_has_and_no_more(mongo: Mongo) -> None:
    full = StoredEvent("e1", "u1", "i1", "purchase", NOON, 19.5, "r1", {"device": "mobile"})
    await EventStore(mongo.database).insert([full, event("e2")])
    one = await mongo.database.events.find_one({"_id": "e1"})
    two = await mongo.database.events.find_one({"_id": "e2"})
    base = {"user_id": "u1", "item_id": "i1", "at": NOON}
    extra = {"value": 19.5, "request_id": "r1", "context": {"device": "mobile"}}
    assert one == {"_id": "e1", "type": "purchase", **base, **extra}
    assert two == {"_id": "e2", "type": "click", **base}


async def test_histories_are_read_by_their_index(mongo: Mongo) -> None:
    """The command joins users to their events; here is what it then runs for each of them."""
    await EventStore(mongo.database).insert([event(f"e{n:03}", user=f"u{n % 50}") for n in range(200)])
    join = everything(["u7"], 2, 4)[1]["$lookup"]
    one = [{"$match": {join["foreignField"]: "u7"}}, *join["pipeline"]]
    read = {"aggregate": join["from"], "pipeline": one, "cursor": {}}
    plan = (await mongo.database.command("explain", read, verbosity="executionStats"))["stages"][0]["$cursor"]
    assert "IXSCAN" in str(plan["queryPlanner"]["winningPlan"])
    assert plan["executionStats"]["totalDocsExamined"] == 4


class Commands(CommandListener):
    """Counts what a client asks its server for."""

    def __init__(self) -> None:
        self.names: list[str] = []

    def started(self, event: CommandStartedEvent) -> None:
        """One more."""
        self.names.append(event.command_name)

    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Nothing to count."""

    def failed(self, event: CommandFailedEvent) -> None:
        """Nothing to count."""


@pytest.fixture
async def counted(stores: EmbeddedStores, mongo: Mongo) -> AsyncIterator[tuple[MongoHistory, Commands]]:
    """A history, and what it asked for."""
    commands = Commands()
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(stores.mongo_url, event_listeners=[commands])
    yield MongoHistory(client[mongo.database.name]), commands
    client.close()


async def test_users_who_come_together_are_read_together_and_each_gets_their_own(
    mongo: Mongo, counted: tuple[MongoHistory, Commands]
) -> None:
    history, commands = counted
    names = ["plain", "plain", "$user_id", "$$ROOT", "nobody", "described"]
    events = [event(f"{name}{n}", user=name, item=f"{name}-{n}", seconds=n) for name in names[1:4] for n in range(3)]
    await EventStore(mongo.database).insert(events)
    await mongo.database.users.insert_one({"_id": "described", "profile": {"segment": "new"}})
    records = await asyncio.gather(*(history.recent(name, 2) for name in names))
    assert commands.names == ["aggregate"]
    assert [[e.item_id for e in record.events] for record in records] == [
        ["plain-1", "plain-2"],
        ["plain-1", "plain-2"],
        ["$user_id-1", "$user_id-2"],
        ["$$ROOT-1", "$$ROOT-2"],
        [],
        [],
    ]
    assert [record.total for record in records] == [3, 3, 3, 3, 0, 0]
    assert records[-1].profile == {"segment": "new"}


async def test_many_are_read_in_commands_of_a_few(mongo: Mongo, counted: tuple[MongoHistory, Commands]) -> None:
    history, commands = counted
    await EventStore(mongo.database).insert([event(f"e{n}", user=f"u{n}", item=f"i{n}") for n in range(20)])
    records = await asyncio.gather(*(history.recent(f"u{n}", 2) for n in range(20)))
    assert [record.events[0].item_id for record in records] == [f"i{n}" for n in range(20)]
    assert commands.names == ["aggregate"] * ceil(20 / TOGETHER)


async def test_whom_the_server_refuses_to_read_fails_alone(
    mongo: Mongo, counted: tuple[MongoHistory, Commands], monkeypatch: pytest.MonkeyPatch
) -> None:
    """As it does where what somebody else's program wrote of a user is more than an answer may hold."""
    history, commands = counted
    refuse = {"$project": {"events": {"$cond": [{"$eq": ["$_id", "u2"]}, {"$divide": [1, 0]}, "$events"]}, "users": 1}}
    monkeypatch.setattr("app.history.everything", lambda *asked: [*everything(*asked), refuse])
    await EventStore(mongo.database).insert([event("a", user="u1"), event("b", user="u2")])
    good, bad = await asyncio.gather(history.recent("u1", 2), history.recent("u2", 2), return_exceptions=True)
    assert isinstance(good, UserRecord)
    assert good.total == 1
    assert isinstance(bad, Refused)
    assert commands.names == ["aggregate"] * 3


@pytest.mark.parametrize(
    "fields",
    [
        {"at": "2026-01-01T12:00:00Z"},
        {"at": 1_767_268_800},
        {"at": None},
        {"item_id": 7},
        {"type": None},
        {"value": "much"},
        {"value": {"amount": 1}},
        {"value": math.nan},
    ],
    ids=str,
)
async def test_an_event_written_wrongly_is_left_out_and_counted(mongo: Mongo, fields: dict[str, Any]) -> None:
    await EventStore(mongo.database).insert([event("e1", item="a"), event("e3", item="b")])
    wrong = {"_id": "e2", "user_id": "u1", "item_id": "i1", "type": "click", "at": NOON, **fields}
    await mongo.database.events.insert_one({name: value for name, value in wrong.items() if value is not None})
    left_out: list[tuple[str, int]] = []
    history = MongoHistory(mongo.database, lambda *what: left_out.append(what))
    record = await history.recent("u1", 10)
    assert [e.item_id for e in record.events] == ["a", "b"]
    assert (record.total, left_out) == (3, [("events", 1)])


async def test_a_profile_that_is_none_is_left_out_and_counted(mongo: Mongo) -> None:
    await mongo.database.users.insert_one({"_id": "u1", "profile": "new"})
    left_out: list[tuple[str, int]] = []
    record = await MongoHistory(mongo.database, lambda *what: left_out.append(what)).recent("u1", 10)
    assert (record.profile, left_out) == ({}, [("users", 1)])


async def test_what_the_server_refuses_is_told_from_an_outage(stores: EmbeddedStores, mongo: Mongo) -> None:
    """A wrong password or a missing right: trying again does not help, and the log has to say so."""
    url = stores.mongo_url.replace("://", "://bob:secret@")
    locked_out: AsyncIOMotorClient[Document] = AsyncIOMotorClient(url, serverSelectionTimeoutMS=20_000)
    with pytest.raises(Refused) as caught:
        await MongoHistory(locked_out[mongo.database.name]).recent("u1", 10)
    assert caught.value.reason == "authentication failed"
    locked_out.close()


async def test_a_server_that_is_too_old_is_told_at_once(
    stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mongo_module, "OLDEST", (99, 1))
    with pytest.raises(StartupError, match=r"is version 8\.\d+; Foretell needs 99\.1 or newer\.$"):
        await mongo_module.connect(stores.mongo_url, "any", 20_000)


def test_a_mistake_of_our_own_is_no_outage() -> None:
    with pytest.raises(InvalidName), driver_errors():
        raise InvalidName("collection names cannot be empty")


def test_bytes_that_are_no_document_are_not_the_callers_problem() -> None:
    with pytest.raises(HistoryUnavailable), driver_errors():
        raise InvalidBSON("year 20260 is out of range")


def test_other_failures_of_an_insert_are_not_taken_for_duplicates() -> None:
    error = BulkWriteError({"writeErrors": [{"index": 0, "code": DUPLICATE_KEY}, {"index": 1, "code": 2}]})
    with pytest.raises(BulkWriteError):
        taken(error)
    assert taken(BulkWriteError({"writeErrors": [{"index": 3, "code": DUPLICATE_KEY}]})) == {3}
    with pytest.raises(BulkWriteError):
        taken(BulkWriteError({"writeErrors": [], "writeConcernErrors": [{"code": 64}]}))


async def test_an_outage_raises_and_the_same_event_can_be_sent_again_after_it(
    stores: EmbeddedStores, mongo: Mongo
) -> None:
    port = urlsplit(stores.mongo_url).port or 0
    async with Proxy(port) as proxy:
        # directConnection: or the driver would go to the address the server gives, past the proxy.
        url = f"mongodb://127.0.0.1:{proxy.port}/?directConnection=true"
        behind = await mongo_module.connect(url, mongo.database.name, 1000)
        store, history = EventStore(behind.database), MongoHistory(behind.database)
        await store.insert([event("e1")])
        proxy.cut()
        with pytest.raises(HistoryUnavailable):
            await history.recent("u1", 10)
        with pytest.raises(HistoryUnavailable):
            await store.insert([event("e2", seconds=1)])
        with pytest.raises(HistoryUnavailable):
            await behind.ping()
        proxy.mend()
        patient = await mongo_module.connect(url, mongo.database.name, 20_000)
        inserted = await EventStore(patient.database).insert([event("e1"), event("e2", seconds=1)])
        assert (inserted.accepted, inserted.duplicates) == ([1], [0])
        await patient.close()
        await behind.close()
