"""What a user did so far, and who they are: a protocol, and its implementation on MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Annotated, Any, Protocol

from pydantic import AwareDatetime, FiniteFloat, Strict

from app.breakers import Guard, unguarded
from app.documents import OnUnreadable, Reader, ignore
from app.mongo import Database, Document, driver_errors
from models.encode import Event

#: Events are counted up to here; a longer history is reported as this long.
COUNT_LIMIT = 10_000


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
        self._events = database.events
        self._users = database.users
        self._event_reader = Reader("events", _Event, on_unreadable)
        self._user_reader = Reader("users", _User, on_unreadable)

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """Three reads at once: events, their number, profile. Raises HistoryUnavailable."""
        rows, counted, user = await self._guard(partial(self._read, user_id, limit))
        # The reads do not see one moment; an event stored between them must not make the part larger than the whole.
        total = min(max(counted, len(rows)), COUNT_LIMIT)
        events = [
            Event(event.item_id, event.type, event.at.timestamp(), event.value)
            for event in self._event_reader.read(reversed(rows))
        ]
        users = self._user_reader.read([] if user is None else [user])
        return UserRecord(events, total, users[0].profile if users else {})

    async def _read(self, user_id: str, limit: int) -> tuple[list[Document], int, Document | None]:
        with driver_errors():
            return await asyncio.gather(
                self._newest(user_id, limit),
                self._events.count_documents({"user_id": user_id}, limit=COUNT_LIMIT),
                self._users.find_one({"_id": user_id}, {"profile": True}),
            )

    async def _newest(self, user_id: str, limit: int) -> list[Document]:
        """Newest first, in one reply (a server's first batch holds but 101 documents otherwise)."""
        if limit < 1:  # a limit of 0 would mean all of them
            return []
        cursor = self._events.find(
            {"user_id": user_id},
            {"item_id": True, "type": True, "at": True, "value": True},
            sort=[("at", -1), ("_id", -1)],
            limit=limit,
            batch_size=limit,
        )
        rows: list[Document] = await cursor.to_list(limit)
        return rows
