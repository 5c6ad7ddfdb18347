"""Pure ASGI middleware: request id, metrics and last resort for errors; the body limit; start-up errors."""

from __future__ import annotations

import logging
import random
import re
import sys
import time
from collections.abc import Sequence

import structlog
from starlette.datastructures import Headers
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import FieldProblem, Internal, PayloadTooLarge, StartupError, respond
from app.metrics import Metrics
from models.artifact import ArtifactError
from models.contract import ContractError

LOGGER = logging.getLogger(__name__)
log = structlog.stdlib.get_logger(__name__)

REQUEST_ID = "foretell.request_id"
ARRIVED = "foretell.arrived"
#: What the answer lacks although its body has no place to say so; told in the header X-Degraded.
DEGRADED = "foretell.degraded"

#: Exceptions of start-up whose message is a sentence for the operator.
SENTENCES = (StartupError, ArtifactError, ContractError)

#: Counted for a client that left before its answer; nginx's number.
CLIENT_CLOSED = 499

#: Request ids that are taken as they come.
PLAIN = re.compile(rb"[A-Za-z0-9._:-]{1,128}")

#: What an overloaded service answers.
DELIBERATE = (503, 504)

#: Methods that get a label of their own; anything else a client makes up counts as OTHER.
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


class RequestMiddleware:
    """Gives each request an id (the client's X-Request-ID, where it is plain), counts, times and logs it.

    An exception nobody expected is logged with its traceback and answered ``{"error": "internal"}``.
    """

    def __init__(self, app: ASGIApp, metrics: Metrics) -> None:
        self.app = app
        self.metrics = metrics

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        scope[ARRIVED] = time.perf_counter()
        scope[REQUEST_ID] = request_id = request_id_of(scope["headers"])
        status = CLIENT_CLOSED  # until an answer begins

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [*message.get("headers", ()), (b"x-request-id", request_id.encode())]
                if DEGRADED in scope:
                    headers.append((b"x-degraded", scope[DEGRADED].encode()))
                message["headers"] = headers
            await send(message)

        bound = structlog.contextvars.bind_contextvars(request_id=request_id)
        self.metrics.in_flight.inc()
        try:
            await self.app(scope, receive, send_with_id)
        except ClientDisconnect:
            log.debug("client_disconnected")
        except Exception:
            if status != CLIENT_CLOSED:
                raise
            log.exception("internal_error")
            await respond(Internal())(scope, receive, send_with_id)
        finally:
            self.metrics.in_flight.dec()
            observe(self.metrics, scope, status)
            structlog.contextvars.reset_contextvars(**bound)


def observe(metrics: Metrics, scope: Scope, status: int) -> None:
    """Count, time and log a request that was answered."""
    seconds = time.perf_counter() - scope[ARRIVED]
    route = getattr(scope.get("route"), "path", "unmatched")
    method = scope["method"] if scope["method"] in METHODS else "OTHER"
    metrics.answered(route, method, status, seconds)
    # What is refused on purpose is counted: a line for each would cost more than the refusal itself.
    level = logging.WARNING if status >= 500 and status not in DELIBERATE else logging.DEBUG
    if LOGGER.isEnabledFor(level):  # asked here, because structlog only finds out after it has gathered everything
        log.log(level, "request", route=route, method=method, status=status, ms=round(seconds * 1000, 2))


class BodyLimitMiddleware:
    """Refuses a body longer than ``limit`` bytes, by its Content-Length or as soon as more has arrived."""

    def __init__(self, app: ASGIApp, limit: int) -> None:
        self.app = app
        self.limit = limit

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle one request; other scopes pass through."""
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        declared = Headers(scope=scope).get("content-length", "0")
        if not declared.isdecimal() or int(declared[:20]) > self.limit:
            await respond(too_large(self.limit))(scope, receive, send)
            return
        received = 0

        async def receive_counted() -> Message:
            nonlocal received
            message = await receive()
            received += len(message.get("body", b""))
            if received > self.limit:
                raise too_large(self.limit)
            return message

        await self.app(scope, receive_counted, send)


def too_large(limit: int) -> PayloadTooLarge:
    """The error for a body of more than ``limit`` bytes."""
    return PayloadTooLarge(
        f"The body is longer than {limit} bytes; send less, or raise FORETELL_BODY_LIMIT_BYTES.",
        fields=[FieldProblem("body", f"must have at most {limit} bytes")],
    )


class StartupMiddleware:
    """Makes a failed start one sentence in the log: Starlette would send the server a traceback."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Handle the lifespan; requests pass through."""
        if scope["type"] != "lifespan":
            await self.app(scope, receive, send)
            return

        async def send_sentence(message: Message) -> None:
            error = sys.exception()  # Starlette reports from within its except block
            if message["type"] == "lifespan.startup.failed" and isinstance(error, SENTENCES):
                message = {**message, "message": str(error)}
            await send(message)

        await self.app(scope, receive, send_sentence)


def request_id_of(headers: Sequence[tuple[bytes, bytes]]) -> str:
    """The client's X-Request-ID, where it is plain, or a new one."""
    for name, value in headers:
        if name == b"x-request-id":
            if PLAIN.fullmatch(value):
                return value.decode()
            break
    return f"{random.getrandbits(128):032x}"  # unique, not secret; uuid4 asks the kernel each time
