"""User states in Redis: never older than an acknowledged event. docs/decisions/0003 tells why this holds.

A user is one hash: field ``g`` is the generation (random bytes), field ``s:<model>`` the state a model computed and the
generation that was read before the history it was computed from. A state counts while both are equal.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Literal, Protocol, Self

import structlog

from app.coalescing import Coalescer
from app.errors import CacheUnavailable
from app.invalidations import Invalidations, user_key
from app.redis import Cache, Command, ResponseError
from app.state_codec import GENERATION_BYTES, CachedState, CorruptState, StateCodec
from models.contract import Contract

__all__ = ["CachedState", "Lookup", "RedisStates", "States"]

log = structlog.get_logger(__name__)

Outcome = Literal["hit", "miss", "stale", "bypass"]

#: Commands that go together, at most; meanwhile others gather, but no longer than so many seconds.
TOGETHER, PATIENCE = 32, 0.01

# What is no hash of ours, or has no proper generation, is replaced as a whole: no state may survive its generation.
_BEGIN = """
if redis.call('TYPE', KEYS[1]).ok == 'hash' then
  local generation = redis.call('HGET', KEYS[1], 'g')
  if generation and #generation == tonumber(ARGV[3]) then return generation end
end
redis.call('DEL', KEYS[1])
redis.call('HSET', KEYS[1], 'g', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return ARGV[1]
"""
_PUT = """
if redis.call('TYPE', KEYS[1]).ok ~= 'hash' then return 0 end
if redis.call('HGET', KEYS[1], 'g') ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], ARGV[2], ARGV[3])
redis.call('PEXPIRE', KEYS[1], ARGV[4])
return 1
"""


@dataclass(frozen=True, slots=True)
class Lookup:
    """What the cache says of a user.

    Attributes:
        state: the state where the outcome is ``hit``, else None.
        generation: hand it to ``put`` with a state computed from a history that is read from now on.
        outcome: ``stale`` where an event came after the state was computed; ``bypass`` where this process knows that
            the cache may be behind.
    """

    state: CachedState | None
    generation: bytes
    outcome: Outcome


class States(Protocol):
    """The cache of user states. Every method raises CacheUnavailable where it cannot be reached."""

    async def get(self, user_id: str) -> Lookup:
        """The state of a user, and the generation to compute a new one under."""
        ...

    async def put(self, user_id: str, generation: bytes, cached: CachedState) -> bool:
        """Keep a state, if the user's generation is still the one that was read before their history."""
        ...

    async def invalidate(self, user_ids: Iterable[str]) -> None:
        """Make every state of these users worthless; after their events are stored, before they are acknowledged."""
        ...

    async def erase(self, user_id: str) -> None:
        """Remove every state of a user; after the history is erased."""
        ...


class RedisStates:
    """States of one model in Redis. Use it as an async context, which carries the retries of failed invalidations.

    Args:
        cache: an open Redis.
        model_key: tells the states of one model from those of another: name, version and content of its artifact.
        contract: of that model.
        ttl: seconds a state lives.
        on_waiting: called with the number of users whose invalidation waits for Redis, whenever it changes.
        on_corrupt: called for each value that is no state of its user (it counts as a miss).
    """

    def __init__(
        self,
        cache: Cache,
        model_key: str,
        contract: Contract,
        ttl: float,
        *,
        on_waiting: Callable[[int], None] = lambda count: None,
        on_corrupt: Callable[[], None] = lambda: None,
    ) -> None:
        self.invalidations = Invalidations(cache, ttl, on_waiting=on_waiting)
        self.corrupt = 0
        self._cache = cache
        self._together: Coalescer[Command, Any] = Coalescer(cache.together, most=TOGETHER, partial=1, patience=PATIENCE)
        self._field = f"s:{model_key}"
        self._codec = StateCodec(contract)
        self._ttl = ttl
        self._on_corrupt = on_corrupt

    async def __aenter__(self) -> Self:
        await self.invalidations.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.invalidations.__aexit__(kind, error, trace)

    async def get(self, user_id: str) -> Lookup:
        """One round trip, or two where the user has no generation yet. Raises CacheUnavailable."""
        if self.invalidations.bypasses(user_id):
            return Lookup(None, b"", "bypass")
        generation, blob = await self._read(user_id)
        if generation is None or len(generation) != GENERATION_BYTES:
            return Lookup(None, await self._begin(user_id), "miss")
        if blob is None:
            return Lookup(None, generation, "miss")
        try:
            computed_under, cached = self._codec.unpack(user_id, blob)
        except CorruptState as error:
            self._count_corrupt(str(error))
            return Lookup(None, generation, "miss")
        if computed_under != generation:
            return Lookup(None, generation, "stale")
        # The hash lives on while other models write to it, so each state has an age of its own: an invalidation that
        # was lost for good costs a ttl, not more.
        if time.time() - cached.computed_at > self._ttl:
            return Lookup(None, generation, "miss")
        return Lookup(cached, generation, "hit")

    async def put(self, user_id: str, generation: bytes, cached: CachedState) -> bool:
        """Compare-and-set in one round trip; False where the generation has been replaced or has expired, and after a
        ``bypass``. Raises CacheUnavailable."""
        if not generation or self.invalidations.bypasses(user_id):
            return False
        blob = self._codec.pack(user_id, generation, cached)
        arguments = user_key(user_id), generation, self._field, blob, self._milliseconds
        return bool(await self._together(lambda redis: redis.eval(_PUT, 1, *arguments)))

    async def invalidate(self, user_ids: Iterable[str]) -> None:
        """New random generations; see :meth:`app.invalidations.Invalidations.invalidate`."""
        await self.invalidations.invalidate(user_ids)

    async def erase(self, user_id: str) -> None:
        """Remove every state of a user, those of other models too. What a request in flight computed from the history
        before is not written any more: its generation has gone. Raises CacheUnavailable: states may be left."""
        await self._cache.ask(lambda redis: redis.delete(user_key(user_id)))

    async def _read(self, user_id: str) -> tuple[bytes | None, bytes | None]:
        try:
            generation, blob = await self._together(lambda redis: redis.hmget(user_key(user_id), ["g", self._field]))
        except CacheUnavailable as error:
            if isinstance(error.__cause__, ResponseError) and str(error.__cause__).startswith("WRONGTYPE"):
                self._count_corrupt("no hash")
                return None, None
            raise
        return generation, blob

    async def _begin(self, user_id: str) -> bytes:
        """The user's generation; made up here if there is none, in one step, so that two readers agree on one."""
        arguments = user_key(user_id), os.urandom(GENERATION_BYTES), self._milliseconds, GENERATION_BYTES
        generation: bytes = await self._together(lambda redis: redis.eval(_BEGIN, 1, *arguments))
        return generation

    @property
    def _milliseconds(self) -> int:
        return max(1, round(self._ttl * 1000))

    def _count_corrupt(self, reason: str) -> None:
        self.corrupt += 1
        self._on_corrupt()
        log.warning("corrupt_state", reason=reason)
