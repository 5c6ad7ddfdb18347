"""SIGTERM: first the service says that it is leaving, then the server gets the signal."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from types import FrameType

import pytest

from app.draining import draining
from app.health import Health
from tests.app.conftest import House


@pytest.fixture
def server() -> Iterator[asyncio.Event]:
    """Set when the signal reaches whoever handled it before: in life, uvicorn."""
    came = asyncio.Event()

    def handle(number: int, frame: FrameType | None) -> None:
        came.set()

    earlier = signal.signal(signal.SIGTERM, handle)
    yield came
    signal.signal(signal.SIGTERM, earlier)


async def test_the_server_hears_of_it_after_the_drain(server: asyncio.Event) -> None:
    health = Health({})
    start = asyncio.get_running_loop().time()
    with draining(health, 0.2):
        signal.raise_signal(signal.SIGTERM)
        assert health.leaving
        assert not server.is_set()
        await asyncio.wait_for(server.wait(), 30)
    assert asyncio.get_running_loop().time() - start >= 0.2


async def test_a_second_signal_ends_the_wait(server: asyncio.Event) -> None:
    with draining(Health({}), 3600.0):
        signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.wait_for(server.wait(), 30)


async def test_afterwards_the_signal_is_the_servers_again(server: asyncio.Event) -> None:
    with draining(Health({}), 3600.0):
        pass
    signal.raise_signal(signal.SIGTERM)
    await asyncio.wait_for(server.wait(), 30)


async def test_while_leaving_readiness_is_503_and_answers_close_their_connections(house: House) -> None:
    assert (await house.client.get("/health/ready")).status_code == 200
    assert "connection" not in (await house.client.post("/predict", json={"user_id": "u"})).headers
    house.health.leaving = True
    ready = await house.client.get("/health/ready")
    assert (ready.status_code, ready.json()["error"]) == (503, "shutting_down")
    answer = await house.client.post("/predict", json={"user_id": "u"})
    assert (answer.status_code, answer.headers["connection"]) == (200, "close")
    assert (await house.client.get("/health/live")).status_code == 200
