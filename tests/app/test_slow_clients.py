"""Clients that take their time, over ASGI and over a socket."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn

from app.main import create_app
from app.settings import Settings
from foretell import protocol
from foretell.protocol import Protocol
from tests.app.conftest import House


@pytest.mark.parametrize("path", ["/events", "/predict"])
async def test_a_body_that_does_not_end_is_answered_408_and_the_connection_closed(
    house: House, settings: Settings, path: str
) -> None:
    app = create_app(settings.model_copy(update={"receive_seconds": 0.05}), open_state=house.open)
    sent: list[Any] = []

    async def receive() -> Any:
        if not sent_part:
            sent_part.append(True)
            return {"type": "http.request", "body": b"{", "more_body": True}
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def send(message: Any) -> None:
        sent.append(message)

    sent_part: list[bool] = []
    headers = [(b"content-type", b"application/json"), (b"content-length", b"100")]
    scope = {"type": "http", "method": "POST", "path": path, "headers": headers, "query_string": b""}
    async with app.router.lifespan_context(app) as state:
        await app(scope | {"state": dict(state or {})}, receive, send)
    assert sent[0]["status"] == 408
    assert (b"connection", b"close") in sent[0]["headers"]
    assert b'"error":"request_too_slow"' in sent[1]["body"]


@asynccontextmanager
async def _connected() -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to the protocol alone; whoever gets to the application behind it is told "in"."""

    async def application(scope: Any, receive: Any, send: Any) -> None:
        while (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"in"})

    config = uvicorn.Config(application, http=Protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    listener = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    listener.close()


@pytest.mark.parametrize("start", [b"", b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_headers_that_do_not_end_close_the_connection(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.05)
    async with _connected() as (reader, writer):
        writer.write(start)
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def _refusal(reader: asyncio.StreamReader) -> tuple[int, dict[str, str]]:
    """Status and body of an answer after which the connection ends."""
    head, _, body = (await asyncio.wait_for(reader.read(), 30)).partition(b"\r\n\r\n")
    assert b"connection: close" in head
    assert b"content-length: %d\r\n" % len(body) in head + b"\r\n"
    return int(head.split()[1]), json.loads(body)


@pytest.mark.parametrize("line", [b"X-Many: %s\r\n" % (b"x" * 988), b"x" * 1000], ids=["many", "one"])
async def test_headers_without_end_are_refused_before_they_fill_the_memory(line: bytes) -> None:
    """A thousand bytes a line: 65 are let in, 66 are more than 65,536."""
    async with _connected() as (reader, writer):
        writer.write(b"GET / HTTP/1.1\r\nX-One: ")
        for _ in range(66):
            writer.write(line)
        status, told = await _refusal(reader)
    assert (status, told["error"]) == (431, "headers_too_large")


async def test_long_headers_and_longer_bodies_are_let_in_on_a_connection_that_is_kept() -> None:
    async with _connected() as (reader, writer):
        for _ in range(3):
            writer.write(b"POST / HTTP/1.1\r\nX-Long: %s\r\nContent-Length: 200000\r\n\r\n" % (b"x" * 60_000))
            writer.write(b"x" * 200_000)
            assert (await asyncio.wait_for(reader.readuntil(b"\r\n\r\nin"), 30)).startswith(b"HTTP/1.1 200")


async def test_bytes_that_are_no_http_are_refused_in_the_shape_of_all_refusals() -> None:
    async with _connected() as (reader, writer):
        writer.write(b"\x16\x03\x01 hello\r\n\r\n")
        assert await _refusal(reader) == (400, {"error": "bad_request", "detail": "Invalid HTTP request received."})
