"""What a user did so far, and who they are: a protocol, and its implementation on MongoDB."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

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


class MongoHistory:
    """Histories in MongoDB, read from the primary, so that an acknowledged event is in every later read."""

    def __init__(self, database: Database) -> None:
        self._events = database.events
        self._users = database.users

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """Three reads at once: events, their number, profile. Raises HistoryUnavailable."""
        with driver_errors():
            events, counted, user = await asyncio.gather(
                self._newest(user_id, limit),
                self._events.count_documents({"user_id": user_id}, limit=COUNT_LIMIT),
                self._users.find_one({"_id": user_id}, {"profile": True}),
            )
        events.reverse()
        # The reads do not see one moment; an event stored between them must not make the part larger than the whole.
        total = min(max(counted, len(events)), COUNT_LIMIT)
        return UserRecord([_event(row) for row in events], total, (user or {}).get("profile") or {})

    async def _newest(self, user_id: str, limit: int) -> list[Document]:
        """Newest first, in one reply (a server's first batch holds but 101 documents otherwise)."""
        if limit < 1:  # a limit of 0 would mean all of them
            return []
        cursor = self._events.find(
            {"user_id": user_id},
            {"_id": False, "item_id": True, "type": True, "at": True, "value": True},
            sort=[("at", -1), ("_id", -1)],
            limit=limit,
            batch_size=limit,
        )
        rows: list[Document] = await cursor.to_list(limit)
        return rows


def _event(row: Document) -> Event:
    at: datetime = row["at"]
    value = row.get("value")
    return Event(row["item_id"], row["type"], at.timestamp(), None if value is None else float(value))
