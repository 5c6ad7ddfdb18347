"""The real lifespan on real stores; only TensorFlow is replaced, by a module with the fake model."""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from types import ModuleType
from uuid import uuid4

import httpx
import pytest

from app.errors import StartupError, Unreachable
from app.lifespan import patiently
from app.loading import ONEDNN
from app.main import create_app
from app.metrics import Metrics
from app.mongo import Mongo, Refused
from app.redis import Redis
from app.settings import Settings
from foretell.embedded import EmbeddedStores
from models.artifact import Artifact
from tests.app.conftest import client_of
from tests.app.fakes import FakeRuntime


class _Runtime(FakeRuntime):
    """What the lifespan knows of :class:`app.runtime.Runtime`."""

    @classmethod
    def load(cls, artifact: Artifact, settings: Settings, metrics: Metrics) -> _Runtime:
        return cls(artifact)

    def close(self) -> None:
        self.hangs = True


@pytest.fixture
def real(
    settings: Settings, stores: EmbeddedStores, mongo: Mongo, redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> Settings:
    """Settings that point at the session's stores, in a database of this test."""
    module = ModuleType("app.runtime")
    module.Runtime = _Runtime  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "app.runtime", module)
    monkeypatch.setenv(ONEDNN, "0")  # what loading says of it stays here
    return settings.model_copy(
        update={
            "mongo_url": stores.mongo_url,
            "mongo_database": mongo.database.name,
            "redis_url": stores.redis_url,
            "mongo_timeout_ms": 20_000,
            "redis_timeout_ms": 20_000,
            "deadline_ms": 60_000,
        }
    )


@asynccontextmanager
async def _served(settings: Settings) -> AsyncIterator[httpx.AsyncClient]:
    app = create_app(settings)
    async with app.router.lifespan_context(app) as state, client_of(app, state) as client:
        yield client


async def _provenance(client: httpx.AsyncClient, **request: object) -> tuple[str, int, list[str]]:
    response = await client.post("/predict", json={"user_id": "u"} | request)
    assert response.status_code == 200, response.text
    provenance = response.json()["provenance"]
    return provenance["state"], provenance["history"], provenance["degraded"]


async def test_computed_then_cached_then_an_event_then_computed_and_one_longer(real: Settings) -> None:
    async with _served(real) as client:
        event = {"event_id": f"e-{uuid4()}", "user_id": "u", "item_id": "shoe", "type": "click"}
        assert (await client.post("/events", json={"events": [event]})).json()["accepted"] == 1
        assert await _provenance(client) == ("computed", 1, [])
        assert await _provenance(client) == ("cached", 1, [])
        answer = (await client.post("/events", json={"events": [event, event | {"event_id": "e2"}]})).json()
        assert (answer["accepted"], answer["duplicates"]) == (1, 1)
        assert await _provenance(client) == ("computed", 2, [])
        metrics = (await client.get("/metrics")).text
        assert 'foretell_state_lookups_total{outcome="hit"} 1.0' in metrics
        assert 'foretell_events_total{outcome="accepted"} 2.0' in metrics
        assert 'foretell_model_info{device="fake"' in metrics


async def test_a_history_loaded_beside_the_running_service_is_in_the_next_answer(real: Settings, mongo: Mongo) -> None:
    """As ``foretell import --mongo`` does it: past POST /events, so nobody invalidates anything."""
    async with _served(real) as client:
        assert await _provenance(client) == ("anonymous", 0, [])
        event = {"_id": "e1", "user_id": "u", "item_id": "shoe", "type": "click", "at": datetime.now(UTC)}
        await mongo.database.events.insert_one(event)
        assert await _provenance(client) == ("computed", 1, [])


async def test_documents_written_wrongly_fail_neither_the_start_nor_an_answer(real: Settings, mongo: Mongo) -> None:
    await mongo.database.items.insert_one({"_id": "shoe", "categories": [["Dairy"]]})
    await mongo.database.users.insert_one({"_id": "u", "profile": "DE"})
    await mongo.database.events.insert_one({"_id": "e1", "user_id": "u", "item_id": "shoe", "type": "click", "at": "1"})
    async with _served(real) as client:
        assert await _provenance(client) == ("anonymous", 1, [])
        metrics = (await client.get("/metrics")).text
    for collection in ("events", "items", "users"):
        assert f'foretell_unreadable_documents_total{{collection="{collection}"}} 1.0' in metrics


async def test_a_mongodb_that_forbids_what_the_start_needs_says_so(
    real: Settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without a password MongoDB still answers a ping; the first real command is refused."""

    async def refuse(self: Mongo) -> None:
        raise Refused("not authorized on foretell")

    monkeypatch.setattr(Mongo, "ensure_indexes", refuse)
    with pytest.raises(StartupError, match=r"MongoDB at .* refuses us \(not authorized on foretell\)"):
        async with _served(real):
            pass


async def test_the_catalogue_gives_titles_filters_and_categories(real: Settings, mongo: Mongo) -> None:
    now = datetime.now(UTC)
    rows = [("shoe", ["feet", "shoes"], 80.0), ("boot", ["feet", "shoes"], 120.0), ("sock", ["feet", "socks"], 8.0)]
    await mongo.database.items.insert_many(
        [
            {
                "_id": name,
                "title": name.title(),
                "categories": path,
                "price": price,
                "available": True,
                "updated_at": now,
            }
            for name, path, price in [*rows, ("glove", ["hands"], 20.0)]
        ]
    )
    async with _served(real) as client:
        request = {"user_id": "u", "items": ["glove", "ghost"], "filters": {"categories": ["feet"]}, "diversity": 1.0}
        answer = (await client.post("/predict", json=request)).json()
        assert [(entry["item_id"], entry["title"]) for entry in answer["recommendations"]] == [
            ("shoe", "Shoe"),
            ("sock", "Sock"),
            ("boot", "Boot"),
        ]
        assert [entry["item_id"] for entry in answer["predictions"]] == ["glove"]
        assert answer["warnings"] == [{"code": "unknown_item", "item_id": "ghost"}]


async def test_ready_names_both_stores_and_the_model(real: Settings) -> None:
    async with _served(real) as client:
        parts = (await client.get("/health/ready")).json()["parts"]
    assert parts == {"model": "ok", "cache": "ok", "history": "ok"}


async def test_the_start_waits_for_a_store_that_is_late() -> None:
    answers = iter([Unreachable("not yet"), Unreachable("not yet"), None])

    async def connect() -> str:
        if (error := next(answers)) is not None:
            raise error
        return "connected"

    assert await patiently(connect, 60.0) == "connected"


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("redis_url", "redis://127.0.0.1:1/0", "Redis does not answer at 127.0.0.1:1"),
        ("mongo_url", "mongodb://127.0.0.1:1", "MongoDB does not answer at 127.0.0.1:1"),
    ],
)
async def test_an_unreachable_store_stops_the_start(real: Settings, name: str, value: str, says: str) -> None:
    broken = real.model_copy(
        update={name: value, "mongo_timeout_ms": 200, "redis_timeout_ms": 200, "startup_seconds": 0.5}
    )
    with pytest.raises(StartupError, match=says):
        async with _served(broken):
            pass
