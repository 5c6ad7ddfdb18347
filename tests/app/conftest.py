"""The service over fakes: a real application, requests through ASGI, no server and no TensorFlow."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import httpx
import numpy as np
import pytest
from fastapi import FastAPI

from app.access import Access
from app.direct import Service
from app.door import Door
from app.health import Health
from app.ingest import Ingest
from app.key_file import KeyFile
from app.lifespan import State
from app.main import create_app
from app.metrics import Metrics
from app.predictor import Predictor
from app.pseudonyms import alias_of
from app.settings import Settings
from app.users import Users
from app.visitor import Visitors
from models.artifact import Artifact, open_artifact
from models.encode import Event
from tests.app.fakes import (
    CONTRACT,
    FakeCatalogue,
    FakeEventStore,
    FakeHistory,
    FakeLimiter,
    FakeRuntime,
    FakeStates,
    FakeUsers,
    publish_artifact,
)

#: The time in every test: 2026-01-31 12:00:00 UTC.
NOW = 1_769_860_800.0


@dataclass
class House:
    """The service and everything behind it."""

    model: FakeRuntime
    settings: Settings
    history: FakeHistory = field(default_factory=FakeHistory)
    states: FakeStates = field(default_factory=FakeStates)
    catalogue: FakeCatalogue = field(default_factory=FakeCatalogue)
    limiter: FakeLimiter = field(default_factory=FakeLimiter)
    users: Users | FakeUsers = field(default_factory=FakeUsers)
    now: float = NOW
    app: Service = field(init=False)
    access: Access = field(init=False)
    keys: KeyFile | None = field(init=False)
    health: Health = field(init=False)
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.store = FakeEventStore(self.history)
        self.app = create_app(self.settings, open_state=self.open)

    @asynccontextmanager
    async def open(self, settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
        self.health = Health({"cache": self.states.ping, "history": self.history.ping}, lambda: self.now)
        alias = alias_of(settings)
        visitors = Visitors(self.history, self.states, self.model, metrics, alias)
        self.keys = None if settings.keys is None else KeyFile(settings.keys)
        self.access = Access(self.keys, self.limiter, settings, metrics, lambda: self.now)
        yield State(
            predictor=Predictor(
                visitors, self.catalogue, self.model, metrics, settings, np.random.default_rng(0), lambda: self.now
            ),
            ingest=Ingest(self.store, self.states, CONTRACT, metrics, settings.ingest_limit, lambda: self.now, alias),
            users=cast(Users, self.users),
            access=self.access,
            health=self.health,
            model=self.model,
            door=Door(self.model, settings, metrics),
        )

    def did(self, user_id: str, *events: tuple[str, str]) -> None:
        """Let a user have done (type, item) events, one a minute, the last one a minute ago."""
        self.history.events[user_id] = [
            (f"{user_id}-{n}", Event(item, kind, self.now - 60.0 * (len(events) - n)))
            for n, (kind, item) in enumerate(events)
        ]

    async def predict(self, **request: Any) -> dict[str, Any]:
        """The answer to a request that must be fine."""
        response = await self.client.post("/predict", json=request)
        assert response.status_code == 200, response.text
        return dict(response.json())

    def sample(self, name: str, **labels: str) -> float:
        """A metric's value, 0 where it was never touched."""
        return self.app.state.metrics.registry.get_sample_value(name, labels) or 0.0


@pytest.fixture
def executor() -> Iterator[ThreadPoolExecutor]:
    """One thread, like the model's."""
    with ThreadPoolExecutor(1) as pool:
        yield pool


@pytest.fixture(scope="session")
def model_root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with version 1 of ``storefront``."""
    root = tmp_path_factory.mktemp("models")
    publish_artifact(root)
    return root


@pytest.fixture
def artifact(model_root: Path) -> Artifact:
    """The fake model's artifact."""
    return open_artifact(model_root, "storefront")


@pytest.fixture
def settings(model_root: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """Defaults, whatever the developer's shell says."""
    for name in Settings.model_fields:
        monkeypatch.delenv(f"FORETELL_{name.upper()}", raising=False)
    return Settings(model_root=model_root, xla=False)


@pytest.fixture
async def house(artifact: Artifact, settings: Settings) -> AsyncIterator[House]:
    """The service over fakes, started."""
    house = House(FakeRuntime(artifact), settings)
    async with serving(house):
        yield house


@asynccontextmanager
async def serving(house: House) -> AsyncIterator[None]:
    """Start the application and give it a client."""
    async with house.app.router.lifespan_context(house.app) as state, client_of(house.app, state) as client:
        house.client = client
        yield


@asynccontextmanager
async def client_of(app: FastAPI, state: Any) -> AsyncIterator[httpx.AsyncClient]:
    """A client of a started application, which gets the lifespan's state as from a server."""

    async def wrapped(scope: Any, receive: Any, send: Any) -> None:
        await app({**scope, "state": dict(state)}, receive, send)

    transport = httpx.ASGITransport(wrapped)
    async with httpx.AsyncClient(transport=transport, base_url="http://foretell") as client:
        yield client
