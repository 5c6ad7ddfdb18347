"""The short way to the route that is asked all the time: nothing between the server and the endpoint."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any

import structlog
from fastapi import FastAPI
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from app.errors import ForetellError, Internal, RequestTooSlow, respond
from app.metrics import Metrics
from app.middleware import ARRIVED, CLIENT_CLOSED, DEGRADED, REQUEST_ID, observe, request_id_of, too_large
from app.responses import BODY
from app.settings import Settings

Endpoint = Callable[[Request], Awaitable[Response]]
Headers = Sequence[tuple[bytes, bytes]]

#: An ASGI extension of our server (:mod:`foretell.protocol`): its ``body`` gives the body of a request, where all of it
#: has arrived, and its ``answer`` takes status, headers and body, and writes all three at once. Under any other server
#: the messages of ASGI say the same.
WHOLE = "foretell.whole"
#: In the scope of a request: what ends its work when nobody waits for the answer any more, and that this has come true.
ABANDON, ABANDONED = "foretell.abandon", "foretell.abandoned"
#: Says that the connection ends with this answer.
CLOSE = (b"connection", b"close")

log = structlog.stdlib.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Route:
    """What metrics and log read off the scope of a request that was routed."""

    path: str


class Service(FastAPI):
    """The application; ``POST path`` goes to ``direct`` where that takes it, and all else FastAPI's own way."""

    direct: Direct | None = None

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request, or the lifespan."""
        if self.direct is not None and self.direct.takes(scope):
            scope["app"] = self
            await self.direct(scope, receive, send)
        else:
            await super().__call__(scope, receive, send)


class Direct:
    """Calls an endpoint and does in one function what the middleware does in eight (docs/decisions/0012).

    The request id, metrics, the limits of body and time, the last resort for errors, and the closing of connections
    while the service drains are here as they are there; pages of other origins and the port of operations take the long
    way. The endpoint stands as a route of FastAPI too, which documents it and answers other methods.

    Args:
        path: of the route; ``endpoint`` does all that it does, its key included.
    """

    def __init__(self, path: str, endpoint: Endpoint, settings: Settings, metrics: Metrics) -> None:
        self._path = path
        self._route = Route(path)
        self._endpoint = endpoint
        self._metrics = metrics
        self._limit = settings.body_limit_bytes
        self._ops_port = settings.ops_port
        self._origins = bool(settings.origins)
        # A request is late before it is slow where the deadline comes first; then nobody needs another clock.
        self._seconds = settings.receive_seconds
        self._slow = settings.receive_seconds * 1000 < settings.deadline_ms

    def takes(self, scope: Scope) -> bool:
        """Whether a request is for here."""
        if scope["type"] != "http" or scope["path"] != self._path or scope["method"] != "POST":
            return False
        if self._ops_port is not None and (scope.get("server") or ("", None))[1] == self._ops_port:
            return False
        return not self._origins or all(name != b"origin" for name, _ in scope["headers"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request."""
        scope[ARRIVED] = time.perf_counter()
        scope["route"] = self._route
        scope[REQUEST_ID] = request_id = request_id_of(scope["headers"])
        if (task := asyncio.current_task()) is not None:
            scope[ABANDON] = task.cancel
        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        self._metrics.in_flight.inc()
        status = CLIENT_CLOSED  # until there is an answer
        try:
            response = await self._answer(scope, receive)
            status = response.status_code
            await self._send(scope, response, send)
        except ClientDisconnect:
            log.debug("client_disconnected")
        except asyncio.CancelledError:
            if ABANDONED not in scope:
                raise
            log.debug("client_disconnected")
        finally:
            self._metrics.in_flight.dec()
            observe(self._metrics, scope, status)
            structlog.contextvars.reset_contextvars(**bound)

    async def _answer(self, scope: Scope, receive: Receive) -> Response:
        """The endpoint's answer, or that of its error. Raises ClientDisconnect."""
        try:
            length = next((value for name, value in scope["headers"] if name == b"content-length"), b"0")
            if not length.isdigit() or int(length[:20]) > self._limit:
                raise too_large(self._limit)
            return await self._endpoint(self._request(scope, receive))
        except ForetellError as error:
            return respond(error)
        except ClientDisconnect:
            raise
        except Exception:
            log.exception("internal_error")
            return respond(Internal())

    async def _send(self, scope: Scope, response: Response, send: Send) -> None:
        headers = [*response.raw_headers, (b"x-request-id", scope[REQUEST_ID].encode())]
        if DEGRADED in scope:
            headers.append((b"x-degraded", scope[DEGRADED].encode()))
        health = scope["state"].get("health")
        if health is not None and health.leaving:  # a client that kept the connection would send into a closing one
            headers.append(CLOSE)
        if (whole := scope.get("extensions", {}).get(WHOLE)) is not None:
            await whole["answer"](response.status_code, headers, response.body)
            return
        await send({"type": "http.response.start", "status": response.status_code, "headers": headers})
        await send({"type": "http.response.body", "body": response.body})

    def _request(self, scope: Scope, receive: Receive) -> Request:
        """With its body, where that is here already."""
        whole = scope.get("extensions", {}).get(WHOLE)
        body = None if whole is None else whole["body"]()
        if body is None:
            return Request(scope, self._limited(scope, receive))
        if len(body) > self._limit:
            return Request(scope, self._refused)
        scope[BODY] = body
        return Request(scope, receive)

    async def _refused(self) -> Message:
        """Of a body that is too long: told when it is read, as it is told of one that is still coming."""
        raise too_large(self._limit)

    def _limited(self, scope: Scope, receive: Receive) -> Receive:
        """Receives a body of at most so many bytes, in at most so many seconds."""
        received = 0

        async def receive_limited() -> Message:
            nonlocal received
            message = await (self._in_time(scope, receive) if self._slow else receive())
            received += len(message.get("body", b""))
            if received > self._limit:
                raise too_large(self._limit)
            return message

        return receive_limited

    async def _in_time(self, scope: Scope, receive: Receive) -> Any:
        try:
            async with asyncio.timeout(scope[ARRIVED] + self._seconds - time.perf_counter()):
                return await receive()
        except TimeoutError:
            raise RequestTooSlow.after(self._seconds) from None
