"""Answers written at once, over a socket: the same bytes as uvicorn's, and the same connection after them."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from starlette.requests import Request
from starlette.responses import Response

from app.direct import WHOLE, Direct
from app.metrics import Metrics
from app.settings import Settings
from foretell.glance import glance
from foretell.protocol import Protocol
from tests.foretell.talk import connected, read, request


async def test_a_whole_answer_is_the_one_that_two_messages_make_and_the_connection_is_kept() -> None:
    async with connected() as (reader, writer, server):
        writer.write(request("hello"))
        whole = await read(reader)
        writer.write(request("hello", "X-Plain: 1"))
        assert whole == await read(reader)
        assert whole == (
            b"HTTP/1.1 201 Created\r\nserver: foretell\r\ncontent-length: 5\r\ncontent-type: text/plain\r\n\r\n",
            b"hello",
        )
        assert server.server_state.total_requests == 2


async def test_pipelined_requests_are_answered_in_their_order() -> None:
    async with connected() as (reader, writer, _):
        writer.write(b"".join(request(f"{n:05}", *(["X-Plain: 1"] if n % 3 == 0 else [])) for n in range(20)))
        assert [int((await read(reader))[1]) for _ in range(20)] == list(range(20))


async def test_a_prediction_read_at_a_glance_has_the_scope_that_the_parser_gives_it() -> None:
    scopes: list[dict[str, Any]] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        scopes.append({**scope, "extensions": {name: sorted(parts) for name, parts in scope["extensions"].items()}})
        await scope["extensions"][WHOLE]["answer"](200, [(b"content-length", b"5")], b"hello")

    asked = request("hello", "X-Request-ID: a", "Accept:")
    async with connected(look, root_path="/api") as (reader, writer, _):
        writer.write(asked)  # in one piece
        await read(reader)
        writer.write(asked * 2)  # behind each other: the parser's
        await read(reader)
        await read(reader)
    glanced, *parsed = scopes
    assert glance(asked, len(asked)) is not None
    assert glance(asked * 2, 2 * len(asked)) is None
    assert parsed == [glanced, glanced]
    assert glanced["path"] == "/api/predict"


async def test_what_a_client_does_not_wait_for_any_more_is_not_computed(caplog: pytest.LogCaptureFixture) -> None:
    asked, left = asyncio.Event(), asyncio.Event()

    async def endless(_: Request) -> Response:
        asked.set()
        try:
            await asyncio.get_running_loop().create_future()
        finally:
            left.set()
        return Response()

    metrics = Metrics()
    async with connected(Direct("/predict", endless, Settings(), metrics)) as (_, writer, server):
        writer.write(request("hello"))
        await asyncio.wait_for(asked.wait(), 30)
        (task,) = server.server_state.tasks
        writer.close()
        await asyncio.wait_for(left.wait(), 30)
        await asyncio.wait_for(task, 30)  # it ends as if nothing had happened
    labels = {"route": "/predict", "method": "POST", "status": "499"}
    assert metrics.registry.get_sample_value("foretell_http_requests_total", labels) == 1
    assert not [record for record in caplog.records if record.levelname == "ERROR"]


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (request("hello", "Connection: close"), 1),
        (request("hello", version="1.0"), 1),
        (request("bye"), 1),  # the application's own wish
        (request("hello"), 0),
    ],
)
async def test_a_connection_that_ends_says_so_once(asked: bytes, said: int) -> None:
    async with connected() as (reader, writer, _):
        writer.write(asked)
        head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
        assert head.count(b"connection: close\r\n") == said
        body = b"bye" if b"bye" in asked else b"hello"
        assert await reader.readexactly(len(body)) == body
        if said:
            assert await asyncio.wait_for(reader.read(), 30) == b""
        else:
            writer.write(request("again"))
            assert (await read(reader))[1] == b"again"


async def test_nothing_is_written_to_a_client_that_has_left() -> None:
    arrived, gone, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    async def late(scope: Any, receive: Any, send: Any) -> None:
        await receive()
        arrived.set()
        assert (await receive())["type"] == "http.disconnect"
        await gone.wait()
        await scope["extensions"][WHOLE]["answer"](200, [(b"content-length", b"5")], b"hello")
        ended.set()

    async with connected(late) as (_, writer, server):
        writer.write(request("hello"))
        await asyncio.wait_for(arrived.wait(), 30)
        writer.transport.abort()
        gone.set()
        await asyncio.wait_for(ended.wait(), 30)
        assert server.server_state.total_requests == 0


async def test_a_client_that_does_not_read_is_waited_for() -> None:
    """Answers that nobody takes pile up in the kernel, and then the application waits instead of filling the memory."""
    answered, full = 0, asyncio.Event()
    large = bytes(1 << 20)

    class Watched(Protocol):
        def pause_writing(self) -> None:
            super().pause_writing()
            full.set()

    async def generous(scope: Any, receive: Any, send: Any) -> None:
        nonlocal answered
        await receive()
        await scope["extensions"][WHOLE]["answer"](200, [(b"content-length", str(len(large)).encode())], large)
        answered += 1

    async with connected(generous, Watched) as (reader, writer, _):
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        writer.write(request("hello") * 64)
        await asyncio.wait_for(full.wait(), 30)
        assert answered < 64
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        for _ in range(64):
            await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
            assert await asyncio.wait_for(reader.readexactly(len(large)), 30) == large
        assert answered == 64


async def test_other_paths_are_answered_in_two_messages() -> None:
    offered: list[bool] = []

    async def look(scope: Any, receive: Any, send: Any) -> None:
        offered.append(WHOLE in scope.get("extensions", {}))
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"hello"})

    async with connected(look) as (reader, writer, _):
        for path in ("/predict", "/events", "/predict/batch"):
            writer.write(request("hello", path=path))
            assert (await read(reader))[1] == b"hello"
    assert offered == [True, False, False]
