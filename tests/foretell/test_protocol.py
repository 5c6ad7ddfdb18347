"""Answers written at once, over a socket: the same bytes as uvicorn's, and the same connection after them."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import uvicorn
from starlette.requests import Request
from starlette.responses import Response

from app.direct import CLOSE, WHOLE, Direct
from app.metrics import Metrics
from app.settings import Settings
from foretell import protocol
from foretell.protocol import Protocol

TYPE = (b"content-type", b"text/plain")


async def echo(scope: Any, receive: Any, send: Any) -> None:
    """Sends a body back: at once where the server offers that and nobody asks for two messages; ``bye`` is the last."""
    body = (await receive())["body"]
    headers = [(b"content-length", str(len(body)).encode()), TYPE, *([CLOSE] if body == b"bye" else [])]
    if (b"x-plain", b"1") not in scope["headers"]:
        await scope["extensions"][WHOLE]["answer"](201, headers, body)
        return
    await send({"type": "http.response.start", "status": 201, "headers": headers})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(
    application: Any = echo, speaks: type[Protocol] = Protocol, keep_alive: float = 5
) -> AsyncIterator[tuple[StreamReader, StreamWriter, uvicorn.Server]]:
    config = uvicorn.Config(application, http=speaks, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.timeout_keep_alive = keep_alive  # type: ignore[assignment]
    config.load()
    server.server_state.default_headers = [(b"server", b"foretell")]
    listener = await asyncio.get_running_loop().create_server(
        lambda: speaks(config=config, server_state=server.server_state, app_state={}), "127.0.0.1", 0
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    yield reader, writer, server
    writer.close()
    listener.close()


def request(body: str, *headers: str, version: str = "1.1", path: str = "/predict") -> bytes:
    lines = [f"POST {path} HTTP/{version}", "Host: x", f"Content-Length: {len(body)}", *headers]
    return "\r\n".join([*lines, "", body]).encode()


async def read(reader: StreamReader) -> tuple[bytes, bytes]:
    """Head and body of the next answer; its body is five bytes."""
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)
    return head, await asyncio.wait_for(reader.readexactly(5), 30)


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


async def test_a_body_that_came_with_its_headers_is_there_at_once_and_another_is_waited_for() -> None:
    waits = asyncio.Event()

    async def said(scope: Any, receive: Any, send: Any) -> None:
        """A body of four bytes, and whether all of it was there (``+``) or was waited for (``-``)."""
        whole = scope["extensions"][WHOLE]
        body, sign = whole["body"](), b"+"
        assert body is None or whole["body"]() == b""
        if body is None:
            waits.set()
            body, sign = b"", b"-"
            while len(body) < 4:
                body += (await receive())["body"]
        await whole["answer"](200, [(b"content-length", b"5")], sign + body)

    async with connected(said) as (reader, writer, _):
        writer.write(b"".join(request(f"{n:04}") for n in range(5)))
        assert [(await read(reader))[1] for _ in range(5)] == [f"+{n:04}".encode() for n in range(5)]
        asked = request("late")
        writer.write(asked[:-3])
        await asyncio.wait_for(waits.wait(), 30)
        writer.write(asked[-3:])
        assert (await read(reader))[1] == b"-late"


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


BIG = "0123456789" * 20_000  # three times what uvicorn lets pile up before it stops to read
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest.mark.parametrize(
    ("pieces", "body"),
    [
        ([CHUNKED + b"3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n"], b"abcde"),
        ([CHUNKED, b"3\r\nabc\r\n", b"2\r\nde\r\n0\r\n", b"\r\n"], b"abcde"),
        ([request(BIG)], BIG.encode()),
        ([request("hello", "Expect: 100-continue")], b"hello"),  # does not wait to be told
        ([request("")], b""),
    ],
)
async def test_a_body_arrives_however_it_is_sent_and_the_connection_is_kept(pieces: list[bytes], body: bytes) -> None:
    seen: list[bytes] = []
    waits = asyncio.Event()

    async def gather(scope: Any, receive: Any, send: Any) -> None:
        whole = scope["extensions"][WHOLE]
        found = whole["body"]()
        more = found is None
        found = found or b""
        while more:
            waits.set()
            message = await receive()
            found, more = found + message["body"], message["more_body"]
        seen.append(found)
        await whole["answer"](200, [(b"content-length", b"5")], b"found")

    async with connected(gather) as (reader, writer, _):
        for _ in range(2):
            waits.clear()
            writer.write(pieces[0])
            for piece in pieces[1:]:  # not before the first is known not to be all
                await asyncio.wait_for(waits.wait(), 30)
                writer.write(piece)
            head, _ = await read(reader)
            assert head.startswith(b"HTTP/1.1 200")  # nobody is told to go on who has sent all
        assert seen == [body, body]


async def test_who_waits_to_be_told_to_send_a_body_is_told() -> None:
    async with connected() as (reader, writer, _):
        asked = request("hello", "Expect: 100-continue")
        writer.write(asked[:-5])
        assert await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30) == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(asked[-5:])
        assert (await read(reader))[1] == b"hello"


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


@pytest.mark.parametrize("rest", [b"", b"ell", b"ello"], ids=["nothing more", "some more", "the rest"])
async def test_a_connection_is_closed_whatever_of_a_body_comes_after_its_answer(
    monkeypatch: pytest.MonkeyPatch, rest: bytes
) -> None:
    """A route that refuses answers before the body has ended; then nobody else keeps the time."""

    async def refuse(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 401, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": b"never"})

    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.05)
    async with connected(refuse, keep_alive=0.05) as (reader, writer, _):
        writer.write(request("hello", path="/events")[:-4])
        assert (await read(reader))[1] == b"never"
        writer.write(rest)
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_after_the_rest_of_an_answered_body_the_next_request_is_served() -> None:
    """However long it takes: the clock that the end of the rest has started does not run on."""

    async def early(scope: Any, receive: Any, send: Any) -> None:
        if scope["path"] == "/slow":
            body = (await receive())["body"]
            await asyncio.wait_for(late.wait(), 30)
        else:
            body = b"never"
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"5")]})
        await send({"type": "http.response.body", "body": body})

    late = asyncio.Event()
    async with connected(early, keep_alive=0.05) as (reader, writer, _):
        writer.write(request("hello", path="/events")[:-4])
        assert (await read(reader))[1] == b"never"
        writer.write(b"ello" + request("world", path="/slow"))
        asyncio.get_running_loop().call_later(0.2, late.set)
        assert (await read(reader))[1] == b"world"
