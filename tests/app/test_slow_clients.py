"""Clients that take their time, over ASGI and over a socket."""

from __future__ import annotations

import asyncio
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


@pytest.mark.parametrize("start", [b"", b"POST /predict HTTP/1.1\r\nHost: x\r\nX-Slow: "])
async def test_headers_that_do_not_end_close_the_connection(monkeypatch: pytest.MonkeyPatch, start: bytes) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.05)
    config = uvicorn.Config(lambda *_: None, http=Protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    listener = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    writer.write(start)
    assert await asyncio.wait_for(reader.read(), 30) == b""
    writer.close()
    listener.close()
