"""Who may do what: the key of a request, its scope, its limit. Routes say ``Depends(Needs("predict"))``."""

from __future__ import annotations

import time
from collections.abc import Callable
from ipaddress import IPv6Address, ip_address
from typing import Protocol, cast

from fastapi import Request
from fastapi.openapi.models import HTTPBearer
from fastapi.security.base import SecurityBase
from limits import RateLimitItem, parse

from app.errors import Forbidden, ForetellError, RateLimited, Unauthorized
from app.key_file import KeyFile
from app.keys import Refusal, Scope, judge
from app.metrics import Metrics
from app.middleware import DEGRADED
from app.ports import OPS
from app.settings import Settings

_TOLD: dict[Refusal, str] = {
    "missing": "Send your key in the header Authorization: Bearer <key>.",
    "wrong": "This key is not known; ask the operator for one.",
    "expired": "This key has expired; ask the operator for a new one.",
}


class Counter(Protocol):
    """What access needs of :class:`app.limits.Limiter`."""

    async def take(self, name: str, rate: RateLimitItem) -> bool:
        """Count one request; False where it was counted by this process alone. Raises RateLimited."""
        ...


class Access:
    """Lets requests in, or raises why not.

    Args:
        keys: None lets everybody in, as a service that listens on this machine only may.
        clock: the time, in seconds since 1970 UTC.
    """

    def __init__(
        self,
        keys: KeyFile | None,
        limiter: Counter,
        settings: Settings,
        metrics: Metrics,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._keys = keys
        self._limiter = limiter
        self._key_limit = parse(settings.key_limit)
        self._refusal_limit = parse(settings.refusal_limit)
        self._metrics = metrics
        self._clock = clock

    async def admit(self, authorization: str | None, scope: Scope, address: str) -> bool:
        """Judge a request; True where its limit was counted as it should, False where by this process alone.

        A refused key counts against the address it came from, whatever is wrong with it, so that all refusals take
        the same time; past FORETELL_REFUSAL_LIMIT the address is told 429. A good key is let in from there all the
        same: keys cannot be guessed, and a stranger behind the same proxy must not lock anybody out.

        Raises:
            Unauthorized, Forbidden: by what is wrong with the key.
            RateLimited: the key, or refused keys from this address, came too often.
        """
        if self._keys is None:
            return True
        verdict = judge(self._keys.keys, _bearer(authorization), scope, self._clock())
        if verdict.key is not None and verdict.refusal is None:
            return await self._take(f"key:{verdict.key.id}", verdict.key.limit or self._key_limit)
        refusal = verdict.refusal or "wrong"
        await self._take(f"address:{_network(address)}", self._refusal_limit)
        self._metrics.refused.labels(refusal).inc()
        raise _error(refusal, scope)

    async def _take(self, name: str, rate: RateLimitItem) -> bool:
        try:
            counted = await self._limiter.take(name, rate)
        except RateLimited:
            self._metrics.refused.labels("limit").inc()
            raise
        if not counted:
            self._metrics.degraded.labels("limits").inc()
        return counted


class Needs(SecurityBase):
    """A dependency: the request carries a key with this scope. The OpenAPI page offers a place for it.

    Raises:
        Unauthorized, Forbidden, RateLimited: see :meth:`Access.admit`.
    """

    def __init__(self, scope: Scope) -> None:
        self.scope = scope
        self.scheme_name = "key"
        self.model = HTTPBearer(description="An API key; `foretell keys new` makes one. Not needed where none are set.")

    async def __call__(self, request: Request) -> None:
        """Let the request in. What arrived on the port of operations is not asked."""
        if request.scope.get(OPS):
            return
        access = cast(Access, request.scope["state"]["access"])  # request.state would be made anew
        address = request.client.host if request.client else ""
        if not await access.admit(request.headers.get("authorization"), self.scope, address):
            request.scope[DEGRADED] = "limits"


def _bearer(authorization: str | None) -> str | None:
    scheme, _, key = (authorization or "").partition(" ")
    return key.strip() if scheme.lower() == "bearer" else None


def _network(address: str) -> str:
    """What one client can choose from: an IPv4 address, or the 64 bits that an IPv6 client is given."""
    try:
        parsed = ip_address(address)
    except ValueError:
        return address[:64]
    if not isinstance(parsed, IPv6Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or IPv6Address(int(parsed) >> 64 << 64))


def _error(refusal: Refusal, scope: Scope) -> ForetellError:
    if refusal == "scope":
        return Forbidden(f"This key may not do that: it needs the scope {scope}; ask the operator for one that has it.")
    return Unauthorized(_TOLD[refusal])
