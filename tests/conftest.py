"""What tests share: the real stores, started once, and a clean corner of them for each test."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import hypothesis
import pytest

from app import mongo as mongo_module
from app import redis as redis_module
from app.mongo import Mongo
from app.redis import Cache, Redis
from foretell.embedded import EmbeddedStores

# Several processes of tests share the cores: trees would grow in threads that wait for each other most of the time.
os.environ.setdefault("OMP_NUM_THREADS", "1")

#: Generous, because a busy machine must not fail a test.
TIMEOUT_MS = 20_000

# CI judges a change, so it draws the same examples every time; at a desk every run tries new ones.
hypothesis.settings.register_profile("ci", derandomize=True)
# What `make fuzz` asks for: properties that name no number themselves are tried on many more examples.
hypothesis.settings.register_profile("fuzz", max_examples=1000, deadline=None)
if os.environ.get("CI"):
    hypothesis.settings.load_profile("ci")


@pytest.fixture(scope="session")
def stores(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedStores]:
    """Valkey and SecantusDB, running for the whole session."""
    with EmbeddedStores(tmp_path_factory.mktemp("stores")) as running:
        yield running


@pytest.fixture
async def mongo(stores: EmbeddedStores) -> AsyncIterator[Mongo]:
    """A database of this test alone, with indexes; dropped afterwards."""
    name = f"test_{uuid4().hex[:16]}"
    opened = await mongo_module.connect(stores.mongo_url, name, TIMEOUT_MS)
    await opened.ensure_indexes()
    yield opened
    await opened.client.drop_database(name)
    await opened.close()


@pytest.fixture
async def cache(stores: EmbeddedStores) -> AsyncIterator[Cache]:
    """The session's Valkey as the service opens it, emptied before each test."""
    opened = await redis_module.connect(stores.redis_url, TIMEOUT_MS)
    await opened.client.flushdb()
    yield opened
    await opened.close()


@pytest.fixture
def redis(cache: Cache) -> Redis:
    """The client behind ``cache``, to look at the Valkey and to change it."""
    return cache.client
