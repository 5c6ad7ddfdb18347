"""What a user did so far, and who they are: a protocol, and its implementation on MongoDB."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from math import isfinite
from typing import Annotated, Any, Protocol

from pydantic import AwareDatetime, FiniteFloat, Strict

from app.breakers import Guard, unguarded
from app.documents import OnUnreadable, Reader, ignore
from app.mongo import Database, Document, blocking, in_thread
from models.encode import Event

#: Events are counted up to here; a longer history is reported as this long.
COUNT_LIMIT = 10_000
#: Where times begin; naive, as the dates of events are read.
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class UserRecord:
    """What is stored of a user.

    Attributes:
        events: the newest ones, oldest first; events of the same time in the order of their ids.
        total: how many are stored in all, at most COUNT_LIMIT.
        profile: fields of the user, by name; empty for a user nobody described.
    """

    events: list[Event]
    total: int
    profile: Mapping[str, Any]


class History(Protocol):
    """Reads histories."""

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """The newest ``limit`` events; for an unknown user an empty record. Raises HistoryUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Event:
    """A document of the collection ``events``, as far as a history needs it; ``at`` must be a date, or its place in the
    history would be a guess."""

    item_id: str
    type: str
    at: Annotated[AwareDatetime, Strict()]
    value: FiniteFloat | None = None


@dataclass(frozen=True, slots=True)
class _User:
    """A document of the collection ``users``."""

    profile: dict[str, Any] = field(default_factory=dict)


class MongoHistory:
    """Histories in MongoDB, read from the primary, so that an acknowledged event is in every later read.

    Documents that cannot be read are left out and told to ``on_unreadable``. Reads go through ``guard``.
    """

    def __init__(self, database: Database, on_unreadable: OnUnreadable = ignore, guard: Guard = unguarded) -> None:
        self._guard = guard
        self._events = blocking(database.events, aware=False)
        self._users = blocking(database.users, aware=False)
        self._event_reader = Reader("events", _Event, on_unreadable)
        self._user_reader = Reader("users", _User, on_unreadable)

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """Events, their number, profile; one command where the history is not long. Raises HistoryUnavailable."""
        read = partial(self._read, user_id, limit)
        rows, total, user = await self._guard(lambda: in_thread(self._events, read))
        users = self._user_reader.read([] if user is None else [user])
        return UserRecord(self._oldest_first(rows), total, _aware(users[0].profile) if users else {})

    def _read(self, user_id: str, limit: int) -> tuple[list[Document], int, Document | None]:
        """The newest events, newest first, the number of all, and the user. Runs in a thread."""
        seen = max(2 * limit, 1)
        found = next(self._events.aggregate(everything(user_id, limit, seen)), None)
        if found is None:  # no event, to which the user could be joined
            return [], 0, self._users.find_one({"_id": user_id}, {"profile": True})
        total = found["total"]
        if total == seen:
            # Not of the same moment: an event erased meanwhile must not make the part larger than the whole.
            total = max(total, self._events.count_documents({"user_id": user_id}, limit=COUNT_LIMIT))
        return found["rows"][:limit], min(total, COUNT_LIMIT), next(iter(found["users"]), None)

    def _oldest_first(self, rows: list[Document]) -> list[Event]:
        """The events of rows. Where all are as we write them, nothing else is checked; else each is, by the reader."""
        rows.reverse()
        events = [event for row in rows if (event := _ordinary(row)) is not None]
        if len(events) == len(rows):
            return events
        return [
            Event(event.item_id, event.type, event.at.timestamp(), event.value)
            for event in self._event_reader.read(map(_aware, rows))
        ]


def _ordinary(row: Document) -> Event | None:
    """The event of a document as :class:`app.event_store.EventStore` writes it; None where it may be another."""
    item, kind, at, value = row.get("item_id"), row.get("type"), row.get("at"), row.get("value")
    if not (type(item) is type(kind) is str and type(at) is datetime):
        return None
    if value is not None:
        if type(value) not in (float, int) or not isfinite(value):
            return None
        value = float(value)
    return Event(item, kind, (at - EPOCH).total_seconds(), value)


def _aware(document: Mapping[str, Any]) -> Document:
    """A document whose dates say that they are UTC."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for name, value in document.items()
    }


def everything(user_id: str, limit: int, seen: int) -> list[Document]:
    """A pipeline that gives one document: of the user's newest ``seen`` events the number and the newest ``limit``, and
    the user; none for a user without events.

    A command costs us more than what it asks for, so there is one. It looks at more events than it gives, so that most
    histories need no other to be counted, but not at all of them: to count thousands takes the index alone.
    """
    fields = {name: f"${name}" for name in ("_id", "item_id", "type", "at", "value")}
    return [
        {"$match": {"user_id": user_id}},
        {"$sort": {"at": -1, "_id": -1}},
        {"$limit": seen},
        {"$group": {"_id": "$user_id", "total": {"$sum": 1}, "rows": {"$push": fields}}},
        {"$lookup": {"from": "users", "localField": "_id", "foreignField": "_id", "as": "users"}},
        {
            "$project": {
                "total": True,
                "rows": {"$slice": ["$rows", max(limit, 1)]},
                "users._id": True,
                "users.profile": True,
            }
        },
    ]
