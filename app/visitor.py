"""Who is asking: the encoded history of a user, from the cache or computed afresh, and where it came from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from app.deadline import within
from app.errors import CacheUnavailable, HistoryUnavailable
from app.history import History, UserRecord
from app.metrics import Metrics
from app.model import Model
from app.pseudonyms import Alias, same
from app.redis import Unbroken
from app.schemas import PredictRequest
from app.states import CachedState, Lookup, States
from models.encode import Event, encode_history, encode_profile, state_events, to_history
from models.vocabulary import Ids

#: A user of whom nothing is known.
NOBODY = UserRecord(events=[], total=0, profile={})


class Degraded(list[str]):
    """The parts an answer had to do without, each named once."""

    def add(self, part: Literal["cache", "history", "explanation"]) -> None:
        """Note that the answer lacks ``part``."""
        if part not in self:
            self.append(part)


@dataclass(frozen=True, slots=True)
class Visitor:
    """A user as the model sees them.

    Attributes:
        state: the encoded history, shape [L, width], padded on the left.
        length: how many of its rows are events.
        total: events the user has in all, those of the session included.
        last_at: time of the newest event, or None.
        profile: ids of the profile fields, shape [P].
        source: where the state came from.
        computed_at: when it was encoded.
        events: what was encoded, oldest first; None where that is not known, only its state.
    """

    state: NDArray[Any]
    length: int
    total: int
    last_at: float | None
    profile: Ids
    source: Literal["cached", "computed", "session", "anonymous"]
    computed_at: float
    events: Sequence[Event] | None = None

    def items(self, types: Sequence[int]) -> Ids:
        """Internal ids of the items that the visible events of these types were about; repeats possible."""
        if not types:
            return np.zeros(0, np.int32)
        items, kinds = state_events(self.state[len(self.state) - self.length :])
        return items[np.isin(kinds, types)]


class Visitors:
    """Loads visitors. ``load`` never fails for want of a store: it says so in ``degraded``.

    ``alias`` makes of a caller's user id the one that is stored.
    """

    def __init__(self, history: History, states: States, model: Model, metrics: Metrics, alias: Alias = same) -> None:
        self._alias = alias
        self._history = history
        self._states = states
        self._model = model
        self._metrics = metrics
        self._contract = model.artifact.contract
        self._vocabulary = model.artifact.vocabulary
        self._unbroken = Unbroken()

    async def load(self, request: PredictRequest, now: float, deadline: float, degraded: Degraded) -> Visitor:
        """The visitor of a request at the time ``now``.

        A request with session events is encoded for itself and never cached: the cache holds stored events only. One
        that wants explanations is encoded afresh as well, for it takes the events to explain.

        Raises:
            Overloaded: the model's queue is full.
            DeadlineExceeded: the history or the model took too long.
        """
        if request.user_id is None or request.session:
            return await self._with_session(request, now, deadline, degraded)
        user_id = self._alias(request.user_id)
        lookup = await self._look_up(user_id, degraded)
        cached = None if lookup is None or lookup.state is None else self._cached(lookup.state)
        if cached is not None and not request.explain:
            return cached
        try:
            return await self._unbroken(self._compute(user_id, lookup, now, deadline, degraded))
        except HistoryUnavailable:
            if cached is not None:  # enough to predict, not to explain
                return cached
            degraded.add("history")
            return replace(await self._encode(NOBODY, "computed", now, deadline), events=None)

    async def _compute(
        self, user_id: str, lookup: Lookup | None, now: float, deadline: float, degraded: Degraded
    ) -> Visitor:
        """The visitor as of their history, remembered. It runs to its end when the client has gone: one who has less
        patience than this takes would else find nothing cached, however often they come back."""
        visitor = await self._encode(await self._read(user_id, deadline), "computed", now, deadline)
        # A user without events costs no encoding; and were they remembered, a history loaded past POST /events would go
        # unnoticed until the state expires.
        if lookup is not None and visitor.length:
            await self._remember(user_id, lookup.generation, visitor, degraded)
        return visitor

    async def _read(self, user_id: str, deadline: float) -> UserRecord:
        """The newest L events, the profile and the count. Raises HistoryUnavailable, DeadlineExceeded."""
        with self._metrics.stage("history"):
            async with within(deadline):
                return await self._history.recent(user_id, self._contract.history_length)

    async def _with_session(self, request: PredictRequest, now: float, deadline: float, degraded: Degraded) -> Visitor:
        """The stored history and the session together. Without MongoDB a cached state says more than the session alone,
        to which it cannot be added: a state is no list of events."""
        record = NOBODY
        if request.user_id is not None:
            user_id = self._alias(request.user_id)
            try:
                record = await self._read(user_id, deadline)
            except HistoryUnavailable:
                lookup = await self._look_up(user_id, degraded)
                degraded.add("history")
                if lookup is not None and lookup.state is not None:
                    return self._cached(lookup.state)
        session = [
            Event(
                event.item_id, event.type, now if event.at is None else event.at.timestamp(), event.value, event.exposed
            )
            for event in request.session or ()
        ]
        events = sorted([*record.events, *session], key=lambda event: event.at)
        both = UserRecord(events=events, total=record.total + len(session), profile=record.profile)
        return await self._encode(both, "session", now, deadline)

    async def _look_up(self, user_id: str, degraded: Degraded) -> Lookup | None:
        """What the cache has; None where it cannot be asked."""
        with self._metrics.stage("cache"):
            try:
                lookup = await self._states.get(user_id)
            except CacheUnavailable:
                degraded.add("cache")
                self._metrics.looked_up("bypass")
                return None
        self._metrics.looked_up(lookup.outcome)
        if lookup.outcome == "bypass":  # an invalidation waits for Redis
            degraded.add("cache")
        return lookup

    def _cached(self, found: CachedState) -> Visitor:
        return Visitor(
            state=found.padded(self._contract.history_length),
            length=found.length,
            total=found.total,
            last_at=found.last_at,
            profile=found.profile,
            source="cached",
            computed_at=found.computed_at,
        )

    async def _encode(
        self, record: UserRecord, source: Literal["computed", "session"], now: float, deadline: float
    ) -> Visitor:
        with self._metrics.stage("encode"):
            history = to_history(record.events, self._vocabulary, self._contract)
            profile = encode_profile(record.profile, self._vocabulary, self._contract)
            if len(history):
                async with within(deadline):
                    state = await self._model.encode(encode_history(history, self._contract), deadline=deadline)
            else:  # nothing to encode; a length of 0 tells the model so
                state = np.zeros(self._contract.state_shape, self._contract.state_dtype)
        return Visitor(
            state=state,
            length=min(len(history), self._contract.history_length),
            total=record.total,
            last_at=history.last_at,
            profile=profile,
            source=source if len(history) else "anonymous",
            computed_at=now,
            events=record.events,
        )

    async def _remember(self, user_id: str, generation: bytes, visitor: Visitor, degraded: Degraded) -> None:
        """Write the state back, unless the user has done something since the lookup. A lost cache fails nothing."""
        state = CachedState(
            state=visitor.state[len(visitor.state) - visitor.length :],  # [length, width]: no padding
            length=visitor.length,
            total=visitor.total,
            last_at=visitor.last_at,
            profile=visitor.profile,
            computed_at=visitor.computed_at,
        )
        with self._metrics.stage("cache"):
            try:
                await self._states.put(user_id, generation, state)
            except CacheUnavailable:
                degraded.add("cache")
