"""THE PATH of events: judge each, store, invalidate, acknowledge - in this order, which is what freshness rests on."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from datetime import UTC, datetime
from operator import itemgetter
from typing import Any, Protocol

from pydantic import ValidationError

from app.errors import CacheUnavailable, HistoryUnavailable, Overloaded, problems
from app.event_store import Inserted, StoredEvent
from app.metrics import Metrics
from app.pseudonyms import Alias, same
from app.schemas import EventIn, EventsRequest
from app.states import States
from models.contract import EXPOSURES, Contract

#: Seconds an event may lie ahead of our clock: clocks differ, but not by more.
MAX_AHEAD = 300.0

OLDEST = datetime(2000, 1, 1, tzinfo=UTC)


class Store(Protocol):
    """What ingest needs of :class:`app.event_store.EventStore`."""

    async def insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """Store each event once. Raises HistoryUnavailable."""
        ...


async def _nobody(user_ids: Collection[str]) -> set[str]:
    return set()


class Ingest:
    """Accepts events.

    Args:
        limit: most events on their way to the store at once; who brings more is told to come again. So a store that is
            slow, not away, costs a bounded amount of memory. A single batch is always let in.
        clock: the time, in seconds since 1970 UTC.
        alias: makes of a caller's user id the one that is stored.
        keep_out: of stored user ids those that were erased a moment ago; see :meth:`app.users.Users.keep_out`.
    """

    def __init__(
        self,
        store: Store,
        states: States,
        contract: Contract,
        metrics: Metrics,
        limit: int,
        clock: Callable[[], float] = time.time,
        alias: Alias = same,
        keep_out: Callable[[Collection[str]], Awaitable[set[str]]] = _nobody,
    ) -> None:
        self._alias = alias
        self._keep_out = keep_out
        self._store = store
        self._states = states
        self._types = [behaviour.name for behaviour in contract.behaviours]
        self._exposing = contract.exposed > 0
        self._metrics = metrics
        self._limit = limit
        self._under_way = 0
        self._clock = clock

    async def accept(self, request: EventsRequest) -> dict[str, Any]:
        """Store what can be stored and answer as :class:`app.replies.EventsResponse` documents.

        Raises:
            Overloaded: too many events are on their way already; nothing was stored.
            HistoryUnavailable: nothing is promised; the client sends the same events again. States are not
                invalidated then, which is right: no event was acknowledged.
        """
        events, rejected = self._judge(request.events)
        accepted = duplicates = 0
        degraded: list[str] = []
        if events:
            inserted = await self._insert(events)
            accepted, duplicates = len(inserted.accepted), len(inserted.duplicates)
            # Duplicates too: the first attempt may have stored the event and failed before it invalidated.
            users = sorted({event.user_id for event in events})
            try:
                gone, degraded = await asyncio.gather(self._keep_out(users), self._invalidate(users))
            except HistoryUnavailable:  # they are stored, and will be duplicates when they come again
                self._count(accepted, duplicates, len(rejected))
                raise
            if gone:
                accepted -= sum(events[place].user_id in gone for place in inserted.accepted)
                duplicates -= sum(events[place].user_id in gone for place in inserted.duplicates)
                rejected = sorted(rejected + self._stragglers(request.events, gone, rejected), key=itemgetter("index"))
            if self._exposing:
                kept = (events[place] for place in inserted.accepted)
                self._metrics.untold.inc(sum(event.exposed is None and event.user_id not in gone for event in kept))
        self._count(accepted, duplicates, len(rejected))
        return {"accepted": accepted, "duplicates": duplicates, "rejected": rejected, "degraded": degraded}

    async def _invalidate(self, user_ids: Sequence[str]) -> list[str]:
        """New generations; what the answer is degraded by, where Redis is away."""
        try:
            await self._states.invalidate(user_ids)
        except CacheUnavailable:  # states retries in the background
            self._metrics.degraded.labels("cache").inc()
            return ["cache"]
        return []

    def _stragglers(
        self, events: list[EventIn], gone: Collection[str], rejected: list[dict[str, Any]]
    ) -> list[dict[str, Any]]:
        """Rejections of events of users that were erased a moment ago; those were deleted again."""
        known = {rejection["index"] for rejection in rejected}
        detail = "user_id: was erased less than a minute ago"
        return [
            {"index": index, "error": "erased", "detail": detail}
            for index, event in enumerate(events)
            if index not in known and self._alias(event.user_id) in gone
        ]

    async def _insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """Store a batch while it is counted as under way."""
        if self._under_way and self._under_way + len(events) > self._limit:
            self._metrics.events.labels("refused").inc(len(events))
            raise Overloaded("More events arrive than MongoDB stores; send the same events again in a second.")
        self._under_way += len(events)
        try:
            return await self._store.insert(events)
        finally:
            self._under_way -= len(events)

    def _judge(self, events: list[EventIn]) -> tuple[list[StoredEvent], list[dict[str, Any]]]:
        """The events to store, and the rejections."""
        now = datetime.fromtimestamp(self._clock(), UTC)
        good: list[StoredEvent] = []
        rejected: list[dict[str, Any]] = []
        for index, event in enumerate(events):
            reason = self._reason(event, now)
            if reason is None:
                good.append(_stored(event, now, self._alias(event.user_id)))
            else:
                rejected.append({"index": index, "error": reason[0], "detail": reason[1]})
        return good, rejected

    def _reason(self, event: EventIn | ValidationError, now: datetime) -> tuple[str, str] | None:
        """Why an event is rejected: code and sentence."""
        if isinstance(event, ValidationError):
            field, problem = problems(event)[0]
            return "invalid", f"{field}: {problem}"
        if event.type not in self._types:
            return "unknown_type", f"type: must be one of {', '.join(self._types)}"
        if event.at is None:
            return None
        if (event.at - now).total_seconds() > MAX_AHEAD:
            return "clock_skew", f"at: lies more than {MAX_AHEAD:.0f} seconds in the future"
        if event.at < OLDEST:
            return "too_old", "at: lies before the year 2000"
        return None

    def _count(self, accepted: int, duplicates: int, rejected: int) -> None:
        for outcome, count in (("accepted", accepted), ("duplicate", duplicates), ("rejected", rejected)):
            self._metrics.events.labels(outcome).inc(count)


def _stored(event: EventIn, now: datetime, user_id: str) -> StoredEvent:
    """The event as it is stored, under the user's stored id. MongoDB keeps milliseconds; of what was shown we keep what
    a model can take."""
    return StoredEvent(
        event_id=event.event_id,
        user_id=user_id,
        item_id=event.item_id,
        type=event.type,
        at=now if event.at is None else event.at,
        value=event.value,
        request_id=event.request_id,
        context=event.context or {},
        exposed=None if event.exposed is None else event.exposed[-EXPOSURES:],
    )
