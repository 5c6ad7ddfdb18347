"""Bodies of requests, over a socket: however they are sent, and whatever comes after an answer."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.direct import WHOLE
from foretell import protocol
from tests.foretell.talk import connected, read, request

BIG = "0123456789" * 20_000  # three times what uvicorn lets pile up before it stops to read
CHUNKED = b"POST /predict HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n"


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
