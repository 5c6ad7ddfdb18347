"""Stores that cannot be reached at start: one sentence that names the setting, never a password."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from app import mongo, redis
from app.errors import StartupError, Unreachable
from foretell.embedded import EmbeddedStores


@pytest.fixture
def closed_port() -> Iterator[int]:
    """A port that is bound, so nobody else gets it, but does not listen."""
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", 0))
        yield holder.getsockname()[1]


async def test_an_unreachable_mongodb_is_one_sentence(closed_port: int) -> None:
    with pytest.raises(StartupError) as caught:
        await mongo.connect(f"mongodb://bob:secret@127.0.0.1:{closed_port}/?tls=false", "foretell", 200)
    assert str(caught.value) == (
        f"MongoDB does not answer at 127.0.0.1:{closed_port} within 200 ms; start it, or set FORETELL_MONGO_URL."
    )


async def test_an_unreachable_redis_is_one_sentence(closed_port: int) -> None:
    with pytest.raises(StartupError) as caught:
        await redis.connect(f"redis://bob:secret@127.0.0.1:{closed_port}/0", 200)
    assert str(caught.value) == (
        f"Redis does not answer at 127.0.0.1:{closed_port} within 200 ms; start it, or set FORETELL_REDIS_URL."
    )


async def test_a_wrong_redis_password_says_so(stores: EmbeddedStores) -> None:
    with pytest.raises(StartupError, match=r"refuses us.*FORETELL_REDIS_URL") as caught:
        await redis.connect(stores.redis_url.replace("://", "://bob:secret@"), 2000)
    assert "secret" not in str(caught.value)


async def test_a_wrong_mongodb_password_says_so(stores: EmbeddedStores) -> None:
    with pytest.raises(StartupError, match=r"refuses us \(authentication failed\).*FORETELL_MONGO_URL") as caught:
        await mongo.connect(stores.mongo_url.replace("://", "://bob:secret@"), "foretell", 20_000)
    assert not isinstance(caught.value, Unreachable)  # nobody waits for it to change
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("url", ["http://x", "mongodb://", "mongodb://a:b:c"])
async def test_a_url_that_is_none_of_mongodb_is_one_sentence(url: str) -> None:
    with pytest.raises(StartupError, match="FORETELL_MONGO_URL is not a URL of MongoDB"):
        await mongo.connect(url, "foretell", 200)


@pytest.mark.parametrize("url", ["http://x", "redis://host:port/0"])
async def test_a_url_that_is_none_of_redis_is_one_sentence(url: str) -> None:
    with pytest.raises(StartupError, match="FORETELL_REDIS_URL is not a URL of Redis"):
        await redis.connect(url, 200)
