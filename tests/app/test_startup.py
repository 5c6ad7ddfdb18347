"""A start that fails says why in one sentence; a stop leaves in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, MutableMapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from app.errors import CacheUnavailable, StartupError
from app.health import Health
from app.lifespan import State
from app.main import create_app
from app.metrics import Metrics
from app.settings import Settings
from models.artifact import ArtifactError
from models.contract import ContractError


async def _start(settings: Settings, error: Exception) -> str:
    """What the server is told when opening the state fails with ``error``."""

    @asynccontextmanager
    async def fail(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
        if error:
            raise error
        yield State()  # type: ignore[typeddict-item]  # never reached

    sent: list[MutableMapping[str, Any]] = []

    async def receive() -> MutableMapping[str, Any]:
        return {"type": "lifespan.startup"}

    async def send(message: MutableMapping[str, Any]) -> None:
        sent.append(message)

    app = create_app(settings, open_state=fail)
    with pytest.raises(type(error)):
        await app({"type": "lifespan", "state": {}}, receive, send)
    [message] = sent
    assert message["type"] == "lifespan.startup.failed"
    return str(message["message"])


@pytest.mark.parametrize("kind", [StartupError, ArtifactError, ContractError])
async def test_a_failed_start_is_one_sentence(settings: Settings, kind: type[Exception]) -> None:
    assert await _start(settings, kind("The manifest was changed; export the model again.")) == (
        "The manifest was changed; export the model again."
    )


async def test_a_bug_at_start_keeps_its_traceback(settings: Settings) -> None:
    assert "Traceback" in await _start(settings, ZeroDivisionError("oops"))


async def test_probes_are_asked_once_a_second_however_often_readiness_is() -> None:
    asked = 0
    now = 0.0

    async def probe() -> None:
        nonlocal asked
        asked += 1
        raise CacheUnavailable("away")

    health = Health({"cache": probe}, lambda: now)
    assert [await health.parts() for _ in range(3)] == [{"cache": "lost"}] * 3
    assert asked == 1
    now = 1.0
    await health.parts()
    assert asked == 2


async def test_a_store_that_hangs_is_lost_before_the_orchestrator_loses_patience(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("app.health.PATIENCE", 0.01)
    health = Health({"history": asyncio.Event().wait})  # a coroutine that never ends
    assert await health.parts() == {"history": "lost"}
