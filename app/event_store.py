"""Writes events to MongoDB: each one once, however often it is sent."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from app.breakers import Guard, unguarded
from app.mongo import Database, Document, insert_new


@dataclass(frozen=True, slots=True)
class StoredEvent:
    """One event as it is stored; ``at`` is aware of its time zone and kept to the millisecond.

    ``exposed`` are the items that the user was shown since the event before, oldest first; None where nobody said.
    """

    event_id: str
    user_id: str
    item_id: str
    type: str
    at: datetime
    value: float | None = None
    request_id: str | None = None
    context: Mapping[str, Any] = field(default_factory=dict)
    exposed: Sequence[str] | None = None

    def to_document(self) -> Document:
        """The document in the collection ``events``; what an event does not have is left out."""
        document: Document = {
            "_id": self.event_id,
            "user_id": self.user_id,
            "item_id": self.item_id,
            "type": self.type,
            "at": self.at,
        }
        if self.value is not None:
            document["value"] = self.value
        if self.request_id is not None:
            document["request_id"] = self.request_id
        if self.context:
            document["context"] = dict(self.context)
        if self.exposed is not None:
            document["exposed"] = list(self.exposed)
        return document


@dataclass(frozen=True, slots=True)
class Inserted:
    """Places (indexes) in the batch: of the events that were new, and of those whose id was there already."""

    accepted: list[int]
    duplicates: list[int]


class EventStore:
    """Inserts events, through ``guard``; durable on a majority of the servers when the call returns
    (:func:`app.mongo.connect`)."""

    def __init__(self, database: Database, guard: Guard = unguarded) -> None:
        self._events = database.events
        self._guard = guard

    async def insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """Insert a batch; the order does not matter, and of equal ids within it one is accepted.

        The caller invalidates the users of accepted *and* of duplicate events before it acknowledges either: a
        duplicate may be the retry of an event that was stored by a call that failed before its invalidation.

        Raises:
            HistoryUnavailable: some events may be stored, others not; sending all of them again is harmless.
        """
        if not events:
            return Inserted([], [])
        documents = [event.to_document() for event in events]
        duplicates = await self._guard(lambda: insert_new(self._events, documents))
        accepted = [place for place in range(len(events)) if place not in duplicates]
        return Inserted(accepted, sorted(duplicates))
