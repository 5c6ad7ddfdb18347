"""HTTP/1.1 as uvicorn speaks it, with limits for headers that never end, and a short way for predictions: read at a
glance, refused at the door, answered at once."""

from __future__ import annotations

import asyncio
from functools import partial
from http import HTTPStatus
from types import SimpleNamespace
from typing import Any, cast

import orjson
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from app.direct import ABANDON, ABANDONED, CLOSE, WHOLE, Headers
from app.door import PATH, Door
from app.health import Health
from foretell.glance import glance

#: Seconds from the first byte of a request, or from the connection where none comes, to the end of the headers.
HEADER_SECONDS = 10.0
#: Bytes that may arrive without an end of the headers; uvicorn alone would keep whatever comes in memory.
HEADER_BYTES = 64 * 1024

#: Stands for a request that was answered here: uvicorn passes its body over.
ANSWERED: Any = SimpleNamespace(response_complete=True, message_event=asyncio.Event(), disconnected=False)


class Protocol(HttpToolsProtocol):
    """Refuses headers that are too long, and closes a connection whose headers do not arrive in time; uvicorn alone
    would keep both for ever. Reads an ordinary prediction that comes in one piece without the parser, answers those
    that :class:`app.door.Door` refuses before there is a task for them, and offers :mod:`app.direct` to read a body and
    to write an answer whole.
    """

    _header_timer: asyncio.TimerHandle | None = None
    _rest_timer: asyncio.TimerHandle | None = None
    _header_bytes = 0
    _header_open = False  #: whether headers have begun and not ended
    _message_open = False  #: whether a request has begun and not ended

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Start to wait for the first request."""
        super().connection_made(transport)
        self._wait_for_headers()

    def connection_lost(self, exc: Exception | None) -> None:
        """Wait no longer, and let nobody wait for what would be computed for a client who has gone."""
        self._headers_came()
        self._rest_came()
        super().connection_lost(exc)
        scope = {} if self.cycle is None or self.cycle.response_complete else cast(dict[str, Any], self.cycle.scope)
        if (abandon := scope.get(ABANDON)) is not None:
            scope[ABANDONED] = True
            abandon()

    def data_received(self, data: bytes) -> None:
        """Some bytes: a whole prediction, or whatever the parser makes of them."""
        between = not self._message_open and (self.cycle is None or self.cycle.response_complete)
        if between and (seen := glance(data, HEADER_BYTES)) is not None:
            self._unset_keepalive_if_required()
            self._headers_came()
            self._take(*seen)
        else:
            self._parse(data)

    def _take(self, headers: list[tuple[bytes, bytes]], body: bytes) -> None:
        """What uvicorn does with a request, in one step."""
        if self._refused(headers):
            self._end_refusal()
            return
        arrived = asyncio.Event()
        arrived.set()
        self.scope = {
            "type": "http",
            "asgi": {"version": self.asgi_version, "spec_version": "2.3"},
            "http_version": "1.1",
            "server": self.server,
            "client": self.client,
            "scheme": self.scheme or "http",
            "method": "POST",
            "root_path": self.root_path,
            "path": self.root_path + PATH,
            "raw_path": (self.root_path + PATH).encode(),
            "query_string": b"",
            "headers": headers,
            "state": self.app_state.copy(),
        }
        self.cycle = RequestResponseCycle(
            scope=self.scope,
            transport=self.transport,
            flow=self.flow,
            logger=self.logger,
            access_logger=self.access_logger,
            access_log=self.access_log,
            default_headers=self.server_state.default_headers,
            message_event=arrived,
            expect_100_continue=False,
            keep_alive=True,
            on_response=self.on_response_complete,
        )
        self.cycle.body, self.cycle.more_body = bytearray(body), False
        self._offer_whole()
        self._start_asgi_task(self.cycle, self.app)

    def _offer_whole(self) -> None:
        whole: dict[object, object] = {"body": partial(_body, self.cycle), "answer": partial(_answer, self.cycle)}
        self.scope["extensions"] = {WHOLE: whole}

    def _parse(self, data: bytes) -> None:
        """Bytes for the parser. Those before the end of the headers are counted, but for the piece in which a request
        on a kept connection begins: a part of it may belong to the body before."""
        waited = self._header_timer
        super().data_received(data)
        # Most requests come in one piece. Only for what this one leaves open is there a clock.
        if self._header_open and self._header_timer is None:
            self._wait_for_headers()
        if self._rest_timer is None and self._rest_is_open():
            self._rest_timer = self.loop.call_later(HEADER_SECONDS, self._close)
        if waited is not None and waited is self._header_timer:
            self._header_bytes += len(data)
            if self._header_bytes > HEADER_BYTES:
                self._headers_came()
                self._refuse(
                    HTTPStatus.REQUEST_HEADER_FIELDS_TOO_LARGE,
                    "headers_too_large",
                    f"The headers are longer than {HEADER_BYTES} bytes; send less.",
                )

    def send_400_response(self, msg: str) -> None:
        """Answer bytes that are no HTTP; ``msg`` is uvicorn's sentence."""
        self._refuse(HTTPStatus.BAD_REQUEST, "bad_request", msg)

    def on_message_begin(self) -> None:
        """A request on a connection that was kept."""
        super().on_message_begin()
        self._unset_keepalive_if_required()  # it may have come in one piece with the end of the one before
        self._header_open = self._message_open = True

    def on_headers_complete(self) -> None:
        """From here on the application keeps the time."""
        self._headers_came()
        if self.url != PATH.encode():
            super().on_headers_complete()
        elif not (self._refusable() and self._refused(self.headers)):
            before = self.cycle
            super().on_headers_complete()
            if self.cycle is not before:  # no upgrade to another protocol
                self._offer_whole()

    def _refusable(self) -> bool:
        """Whether a parsed request can be answered here. What is pipelined behind another one waits for its turn."""
        busy = self.cycle is not None and not self.cycle.response_complete
        if busy or self.expect_100_continue or self.parser.get_method() != b"POST":
            return False
        return bool(self.parser.should_keep_alive())

    def _refused(self, headers: list[tuple[bytes, bytes]]) -> bool:
        """Whether the request was answered here."""
        door: Door | None = self.app_state.get("door")
        health: Health | None = self.app_state.get("health")
        if door is None or (health is not None and health.leaving):  # the application closes the connection
            return False
        if (answer := door.refusal(headers)) is None:
            return False
        self.cycle = ANSWERED
        self.transport.write(answer)
        return True

    def _end_refusal(self) -> None:
        """The request that was refused has ended."""
        self.on_response_complete()  # keeps the connection for the next one
        self.app_state["door"].parking.refused(self)

    def on_message_complete(self) -> None:
        """The whole request is here."""
        self._message_open = False
        self._rest_came()
        if self.cycle is ANSWERED:
            self._end_refusal()
            return
        super().on_message_complete()
        if self.cycle is not None and self.cycle.response_complete:
            # Answered before its end, whose arrival stopped the clock of a connection that is kept.
            self.timeout_keep_alive_task = self.loop.call_later(
                self.timeout_keep_alive, self.timeout_keep_alive_handler
            )

    def leave_unread(self) -> None:
        """See :class:`app.parking.Parked`."""
        self.flow.pause_reading()

    def read_on(self) -> None:
        """See :class:`app.parking.Parked`."""
        if not self.transport.is_closing():
            self.flow.resume_reading()

    def _wait_for_headers(self) -> None:
        self._header_bytes = 0
        self._header_timer = self.loop.call_later(HEADER_SECONDS, self._close)

    def _headers_came(self) -> None:
        self._header_open = False
        if self._header_timer is not None:
            self._header_timer.cancel()
            self._header_timer = None

    def _rest_is_open(self) -> bool:
        """Whether a request was answered whose body has not ended."""
        begun = self._message_open and not self._header_open
        return begun and self.cycle is not None and self.cycle.response_complete

    def _rest_came(self) -> None:
        """The end of a request that may have been answered before."""
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None

    def _refuse(self, status: HTTPStatus, code: str, detail: str) -> None:
        """An answer without a request, and the end of the connection."""
        transport: Any = self.transport
        if transport.is_closing():
            return
        body = orjson.dumps({"error": code, "detail": detail})
        head = (
            f"HTTP/1.1 {status.value} {status.phrase}\r\ncontent-type: application/json\r\n"
            f"content-length: {len(body)}\r\nconnection: close\r\n\r\n"
        )
        transport.write(head.encode() + body)
        transport.close()

    def _close(self) -> None:
        self._header_timer = None
        transport: Any = self.transport
        if not transport.is_closing():
            transport.close()


def _body(cycle: RequestResponseCycle) -> bytes | None:
    """The body, where all of it has arrived, else None; who asks again, or receives, gets an empty one."""
    if cycle.more_body or cycle.disconnected:
        return None
    body, cycle.body = bytes(cycle.body), bytearray()
    cycle.flow.resume_reading()
    return body


async def _answer(cycle: RequestResponseCycle, status: int, headers: Headers, body: bytes) -> None:
    """Write a whole answer; what uvicorn does in two messages, and two calls of the kernel that a client waits for.

    The application vouches for the headers: nothing of them is looked at, but for ``connection: close``.
    """
    if cycle.flow.write_paused and not cycle.disconnected:
        await cycle.flow.drain()
    if cycle.disconnected:
        return
    if CLOSE in headers:
        cycle.keep_alive = False
    elif not cycle.keep_alive:
        headers = [*headers, CLOSE]
    lines = b"".join(b"%s: %s\r\n" % header for header in (*cycle.default_headers, *headers))
    cycle.waiting_for_100_continue = False
    cycle.response_started = cycle.response_complete = True
    cycle.transport.write(STATUS_LINE[status] + lines + b"\r\n" + body)
    cycle.message_event.set()
    if not cycle.keep_alive:
        cycle.transport.close()
    cycle.on_response()
