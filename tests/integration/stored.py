"""The service over real stores and a model that can be worked out by hand, and a look at every byte they hold."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any

import bson
import httpx
import numpy as np
from numpy.typing import NDArray

from app.access import Access
from app.door import Door
from app.erasures import Erasures
from app.event_store import EventStore, Inserted, StoredEvent
from app.health import Health
from app.history import MongoHistory
from app.ingest import Ingest
from app.lifespan import State
from app.limits import Limiter
from app.main import create_app
from app.metrics import Metrics
from app.mongo import Mongo
from app.predictor import Predictor
from app.pseudonyms import alias_of
from app.redis import Cache
from app.settings import Settings
from app.states import RedisStates
from app.users import Users
from app.visitor import Visitors
from models.artifact import Artifact
from models.encode import Arrays
from tests.app.conftest import client_of
from tests.app.fakes import CONTRACT, FakeCatalogue, FakeRuntime


class Gate:
    """Lets everybody through, or nobody while it is shut; ``waiting`` counts those at it."""

    def __init__(self) -> None:
        self._open = asyncio.Event()
        self._open.set()
        self._arrived = asyncio.Condition()
        self.waiting = 0

    def shut(self) -> None:
        """From now on everybody waits."""
        self._open.clear()

    def open(self) -> None:
        """Let them go."""
        self._open.set()

    async def wait(self) -> None:
        """Wait where it is shut."""
        self.waiting += 1
        async with self._arrived:
            self._arrived.notify_all()
        await self._open.wait()
        self.waiting -= 1

    async def crowd(self, size: int) -> None:
        """Return when so many wait."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: self.waiting >= size)


class GatedRuntime(FakeRuntime):
    """A model that can be made to take its time with histories."""

    def __init__(self, artifact: Artifact) -> None:
        super().__init__(artifact)
        self.gate = Gate()

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """See :class:`app.model.Model`."""
        await self.gate.wait()
        return await super().encode(arrays, deadline=deadline)


class GatedStore(EventStore):
    """An event store that can be made to take its time."""

    def __init__(self, mongo: Mongo) -> None:
        super().__init__(mongo.database)
        self.gate = Gate()

    async def insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """See :class:`app.event_store.EventStore`."""
        await self.gate.wait()
        return await super().insert(events)


@dataclass
class Stored:
    """The service and its stores."""

    mongo: Mongo
    cache: Cache
    settings: Settings
    model: GatedRuntime
    client: httpx.AsyncClient = field(init=False)

    def __post_init__(self) -> None:
        self.store = GatedStore(self.mongo)
        self.app = create_app(self.settings, open_state=self.open)

    @asynccontextmanager
    async def open(self, settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
        """As app.lifespan does it."""
        database, alias = self.mongo.database, alias_of(settings)
        async with RedisStates(self.cache, "m/1", CONTRACT, 60) as states:
            self.states = states
            users = Users(database, await Erasures.open(database), states, alias)
            visitors = Visitors(MongoHistory(database), states, self.model, metrics, alias)
            yield State(
                predictor=Predictor(visitors, FakeCatalogue(), self.model, metrics, settings, np.random.default_rng(0)),
                ingest=Ingest(
                    self.store, states, CONTRACT, metrics, settings.ingest_limit, alias=alias, keep_out=users.keep_out
                ),
                users=users,
                access=Access(None, Limiter(self.cache), settings, metrics),
                health=Health({}),
                model=self.model,
                door=Door(self.model, settings, metrics),
            )

    async def did(self, user_id: str, *events: str) -> dict[str, Any]:
        """Send clicks with these ids."""
        sent = [{"event_id": e, "user_id": user_id, "item_id": "shoe", "type": "click"} for e in events]
        response = await self.client.post("/events", json={"events": sent})
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def predict(self, user_id: str) -> dict[str, Any]:
        """A prediction that must succeed."""
        response = await self.client.post("/predict", json={"user_id": user_id})
        assert response.status_code == 200, response.text
        return dict(response.json())

    async def found(self, text: str) -> set[str]:
        """Where the bytes of a text are: collections of MongoDB, and ``redis``, keys and values."""
        needle, places = text.encode(), set()
        for name in await self.mongo.database.list_collection_names():
            async for document in self.mongo.database[name].find():
                if needle in bson.encode(document):
                    places.add(name)
        redis = self.cache.client
        async for key in redis.scan_iter():
            fields = await redis.hgetall(key) if await redis.type(key) == b"hash" else {}
            if any(needle in part for part in (key, await redis.dump(key), *fields, *fields.values())):
                places.add("redis")
        return places


@asynccontextmanager
async def stored(mongo: Mongo, cache: Cache, settings: Settings, artifact: Artifact) -> AsyncIterator[Stored]:
    """The service, started."""
    house = Stored(mongo, cache, settings, GatedRuntime(artifact))
    async with house.app.router.lifespan_context(house.app) as state, client_of(house.app, state) as client:
        house.client = client
        yield house
