"""Refusals at the door, over a socket: before a body is read, and without harm to what comes next."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import uvicorn

from app import door as doors
from app import parking
from app.door import Door
from app.errors import Overloaded
from app.health import Health
from app.metrics import Metrics
from app.settings import Settings
from foretell import protocol
from foretell.protocol import Protocol
from models.artifact import Artifact
from tests.app.fakes import FakeRuntime

HEAD = "POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Request-ID: mine\r\n{more}\r\n"


@pytest.fixture(autouse=True)
def not_kept_shut(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each question is put to the model; a millisecond is nothing that a test can count on."""
    monkeypatch.setattr(doors, "SHUT", 0.0)


async def echo(scope: Any, receive: Any, send: Any) -> None:
    body = (await receive())["body"]
    await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
    await send({"type": "http.response.body", "body": body})


@asynccontextmanager
async def connected(door: Door, **state: Any) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    """A connection to a server that echoes what the door lets in."""
    config = uvicorn.Config(echo, http=Protocol, ws="none", lifespan="off", log_config=None)
    server = uvicorn.Server(config)
    config.load()
    listener = await asyncio.get_running_loop().create_server(
        lambda: Protocol(config=config, server_state=server.server_state, app_state={"door": door, **state}),
        "127.0.0.1",
        0,
    )
    reader, writer = await asyncio.open_connection(*listener.sockets[0].getsockname())
    yield reader, writer
    writer.close()
    listener.close()


async def answer(reader: asyncio.StreamReader) -> tuple[int, dict[str, str], bytes]:
    head = (await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), 30)).decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in head[1:] if line)
    return int(head[0].split()[1]), headers, await reader.readexactly(int(headers["content-length"]))


async def test_an_overloaded_service_refuses_at_the_door_and_lets_the_next_one_in(
    artifact: Artifact, settings: Settings
) -> None:
    metrics, model = Metrics(), FakeRuntime(artifact)
    door = Door(model, settings, metrics)
    async with connected(door) as (reader, writer):
        model.overloaded = True
        writer.write(HEAD.format(path="/predict", more="").encode() + b"{")
        status, headers, body = await answer(reader)  # before the body is there
        assert (status, headers["retry-after"], headers["x-request-id"]) == (503, "3", "mine")
        assert json.loads(body) == {"error": Overloaded.code, "detail": "Too many."}
        model.overloaded = False
        writer.write(b"}" + HEAD.format(path="/predict", more="").encode() + b"ok")
        assert (await answer(reader))[::2] == (200, b"ok")
    labels = {"route": "/predict", "method": "POST", "status": "503"}
    assert metrics.registry.get_sample_value("foretell_http_requests_total", labels) == 1


async def test_the_door_stays_shut_for_a_moment_and_then_asks_again(
    artifact: Artifact, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(doors, "SHUT", 1e9)
    metrics, model = Metrics(), FakeRuntime(artifact)
    door, mine = Door(model, settings, metrics), [(b"x-request-id", b"mine")]
    assert door.refusal(mine) is None
    model.overloaded = True
    first = door.refusal(mine)
    model.overloaded = False
    assert first is not None
    assert first == door.refusal(mine)
    assert door.refusal([(b"x-request-id", b"other")]) == first.replace(b"mine", b"other")
    labels = {"route": "/predict", "method": "POST", "status": "503"}
    assert metrics.registry.get_sample_value("foretell_http_requests_total", labels) == 3
    monkeypatch.setattr(door, "_shut_until", 0.0)  # SHUT seconds later
    assert door.refusal(mine) is None


async def test_in_a_lasting_overload_half_the_wait_is_too_long(
    artifact: Artifact, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Asked(FakeRuntime):
        def admit(self, deadline: float) -> None:
            self.deadline = deadline
            super().admit(deadline)

    model, loop = Asked(artifact), asyncio.get_running_loop()
    door = Door(model, settings.model_copy(update={"queue_ms": 1000, "deadline_ms": 5000}), Metrics())

    def wait() -> tuple[float, float]:
        """The least and the most that the model was asked for."""
        before = loop.time()
        with suppress(Overloaded):
            door.admit()
        return model.deadline - loop.time(), model.deadline - before

    def expects(seconds: float) -> None:
        least, most = wait()
        assert least <= seconds <= most

    expects(1.0)
    model.overloaded = True
    with pytest.raises(Overloaded):
        door.admit(loop.time() + 0.25)  # one that comes late by itself says nothing about the others
    expects(1.0)
    model.overloaded = False
    expects(0.5)
    monkeypatch.setattr(door, "_calm_at", loop.time())  # CALM seconds later
    expects(1.0)
    soon = loop.time() + 0.25
    door.admit(soon)
    assert model.deadline == soon


async def test_who_asks_again_too_often_is_heard_later(
    artifact: Artifact, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parking, "BURST", 1.0)
    monkeypatch.setattr(parking, "RATE", 0.0)
    metrics, model = Metrics(), FakeRuntime(artifact)
    door, mine = Door(model, settings, metrics), HEAD.format(path="/predict", more="").encode() + b"ok"
    model.overloaded = True
    async with connected(door) as (reader, writer), connected(door) as (others, other):
        for _ in range(2):  # refused at once, and the second time one too often
            writer.write(mine)
            assert (await answer(reader))[0] == 503
        model.overloaded = False
        writer.write(mine)
        other.write(mine)
        assert (await answer(others))[::2] == (200, b"ok")  # nobody else waits for them
        assert not reader._buffer  # type: ignore[attr-defined]
        monkeypatch.setattr(parking, "RATE", 1e6)
        assert (await answer(reader))[::2] == (200, b"ok")
    assert metrics.registry.get_sample_value("foretell_parked_connections_total") == 1


async def test_a_refused_request_that_never_ends_closes_its_connection(
    artifact: Artifact, settings: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(protocol, "HEADER_SECONDS", 0.05)
    model = FakeRuntime(artifact)
    model.overloaded = True
    async with connected(Door(model, settings, Metrics())) as (reader, writer):
        writer.write(HEAD.format(path="/predict", more="").encode() + b"{")
        assert (await answer(reader))[0] == 503
        assert await asyncio.wait_for(reader.read(), 30) == b""


async def test_what_a_refusal_cannot_say_is_left_to_the_application(artifact: Artifact, settings: Settings) -> None:
    """That the model is away; and, to a page of another origin, anything."""
    model = FakeRuntime(artifact)
    shared = settings.model_copy(update={"cors_origins": "https://shop.example"})
    mine, theirs = (HEAD.format(path="/predict", more=more).encode() + b"ok" for more in ("", "Origin: null\r\n"))
    async with connected(Door(model, shared, Metrics())) as (reader, writer):
        model.overloaded = True
        writer.write(mine)
        assert (await answer(reader))[0] == 503
        writer.write(theirs)
        assert (await answer(reader))[::2] == (200, b"ok")
        model.overloaded = False
        model.away = True
        writer.write(mine)
        assert (await answer(reader))[::2] == (200, b"ok")


async def test_while_the_service_leaves_the_application_refuses_and_closes(
    artifact: Artifact, settings: Settings
) -> None:
    model, health = FakeRuntime(artifact), Health({})
    model.overloaded = health.leaving = True
    async with connected(Door(model, settings, Metrics()), health=health) as (reader, writer):
        writer.write(HEAD.format(path="/predict", more="").encode() + b"ok")
        assert (await answer(reader))[::2] == (200, b"ok")


async def test_other_routes_and_pipelined_requests_are_not_refused_here(artifact: Artifact, settings: Settings) -> None:
    model = FakeRuntime(artifact)
    model.overloaded = True
    door = Door(model, settings, Metrics())
    async with connected(door) as (reader, writer):
        other, mine = (HEAD.format(path=path, more="").encode() for path in ("/events", "/predict"))
        writer.write(other + b"no" + mine + b"ok")
        assert (await answer(reader))[::2] == (200, b"no")
        assert (await answer(reader))[0] in (200, 503)
        writer.write(HEAD.format(path="/predict", more="Connection: close\r\n").encode() + b"ok")
        assert (await answer(reader))[::2] == (200, b"ok")  # the application refuses it, and closes
