"""Rate limits: counted in a real Valkey, by leases; floods are refused without asking it; its loss is named."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from limits import parse

from app import redis as redis_module
from app.errors import RateLimited, Unauthorized
from app.limits import Limiter
from app.redis import Cache, Redis
from app.settings import Settings
from foretell.embedded import EmbeddedStores
from models.artifact import Artifact
from tests.app.conftest import House, serving
from tests.app.fakes import FakeRuntime
from tests.app.test_keys import KEYS, ROOT, SHOP, _line
from tests.integration.examples import Clock
from tests.integration.proxy import Proxy


@pytest.fixture
def clock() -> Clock:
    """Time stands still: no window ends in the middle of a test."""
    stopped = Clock()
    stopped.now = time.time()
    return stopped


async def _taken(limiter: Limiter, name: str, rate: str, tries: int) -> int:
    """How many of so many requests are let in."""
    count = 0
    for _ in range(tries):
        try:
            await limiter.take(name, parse(rate))
            count += 1
        except RateLimited:
            pass
    return count


async def _commands(redis: Redis) -> int:
    return int((await redis.info("stats"))["total_commands_processed"])


async def test_exactly_the_limit_is_let_in_by_however_many_processes(cache: Cache, clock: Clock) -> None:
    """100 an hour are leased 2 at a time; two processes share them."""
    one, other = Limiter(cache, clock), Limiter(cache, clock)
    assert await _taken(one, "a", "100/hour", 61) == 61
    assert await _taken(other, "a", "100/hour", 61) == 38  # 1 of the lease of the first is left with it
    assert await _taken(one, "a", "100/hour", 61) == 1
    assert await _taken(one, "b", "100/hour", 1) == 1  # another name has its own


async def test_a_refusal_says_when_and_ends_then(cache: Cache, clock: Clock) -> None:
    limiter = Limiter(cache, clock)
    assert await _taken(limiter, "a", "2/hour", 3) == 2
    with pytest.raises(RateLimited) as caught:
        await limiter.take("a", parse("2/hour"))
    wait = int(caught.value.headers["Retry-After"])
    assert 1 <= wait <= 3600
    clock.now += wait
    await cache.client.flushdb()  # Valkey's own clock has not moved
    assert await _taken(limiter, "a", "2/hour", 3) == 2


async def test_what_is_not_spent_in_time_is_lost(cache: Cache, clock: Clock) -> None:
    """A lease does not outlive the period it was counted in."""
    limiter = Limiter(cache, clock)
    await limiter.take("a", parse("100/hour"))  # one more is in hand
    clock.now += 3600
    before = await _commands(cache.client)
    await limiter.take("a", parse("100/hour"))
    assert await _commands(cache.client) > before + 1  # it asked again; the 1 is the INFO before


async def test_one_request_in_120_asks_redis(cache: Cache, clock: Clock) -> None:
    """The default limit, 6,000 a minute: 1,200 requests cost 10 leases, and loading the script once."""
    limiter = Limiter(cache, clock)
    before = await _commands(cache.client)
    assert await _taken(limiter, "a", "6000/minute", 1200) == 1200
    spent = await _commands(cache.client) - before - 1
    # A lease is one EVALSHA, and what its script calls is counted as commands too: at most 8.
    assert 10 <= spent <= 100


async def test_a_flood_of_refused_requests_costs_redis_nothing(cache: Cache, clock: Clock) -> None:
    limiter = Limiter(cache, clock)
    assert await _taken(limiter, "a", "20/hour", 21) == 20
    before = await _commands(cache.client)
    assert await _taken(limiter, "a", "20/hour", 10_000) == 0
    assert await _commands(cache.client) - before == 1  # the INFO before


@pytest.fixture
async def proxy(stores: EmbeddedStores, redis: Redis) -> AsyncIterator[Proxy]:
    async with Proxy(urlsplit(stores.redis_url).port or 0) as opened:
        yield opened


async def test_without_redis_the_limit_is_counted_here_and_the_caller_is_told(proxy: Proxy, clock: Clock) -> None:
    cache = await redis_module.connect(f"redis://127.0.0.1:{proxy.port}/0", 5000)
    limiter = Limiter(cache, clock)
    try:
        assert await limiter.take("a", parse("3/hour"))
        proxy.cut()
        assert [await limiter.take("a", parse("3/hour")) for _ in range(3)] == [False] * 3
        with pytest.raises(RateLimited):
            await limiter.take("a", parse("3/hour"))
    finally:
        await cache.close()


async def test_names_are_forgotten_before_they_fill_the_memory(
    cache: Cache, clock: Clock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.limits.NAMES", 3)
    limiter = Limiter(cache, clock)
    for name in "abcde":
        await limiter.take(name, parse("1/hour"))
    assert set(limiter._accounts) == {"c", "d", "e"}
    with pytest.raises(RateLimited):  # what was forgotten here is known to Redis
        await limiter.take("a", parse("1/hour"))


@pytest.fixture
async def house(
    artifact: Artifact, settings: Settings, cache: Cache, clock: Clock, tmp_path: Path
) -> AsyncIterator[House]:
    """The service over fakes, with keys, and with limits that are real."""
    file = tmp_path / "keys"
    _write(file)
    changes = {"keys": file, "key_limit": "5/hour", "refusal_limit": "20/hour"}
    house = House(FakeRuntime(artifact), settings.model_copy(update=changes))
    house.limiter = Limiter(cache, clock)  # type: ignore[assignment]
    async with serving(house):
        yield house


def _write(file: Path) -> None:
    file.write_text(_line(*KEYS["shop"]) + _line(*KEYS["root"]).replace("}", ', "limit": "2/hour"}'))


async def _status(house: House, key: str, path: str = "/models") -> int:
    return (await house.client.get(path, headers={"Authorization": f"Bearer {key}"})).status_code


async def _told(house: House, authorization: str | None, address: str) -> str:
    """Status and headers of a refusal, from the door itself."""
    with pytest.raises((Unauthorized, RateLimited)) as caught:
        await house.access.admit(authorization, "predict", address)
    return ", ".join([str(caught.value.status), *(name for name in caught.value.headers if name == "Retry-After")])


async def test_a_key_has_its_own_limit_or_that_of_the_settings(house: House) -> None:
    assert [await _status(house, SHOP) for _ in range(6)] == [200] * 5 + [429]
    assert [await _status(house, ROOT, "/metrics") for _ in range(3)] == [200, 200, 429]
    response = await house.client.get("/models", headers={"Authorization": f"Bearer {SHOP}"})
    assert response.json()["error"] == "rate_limited"
    assert 1 <= int(response.headers["retry-after"]) <= 3600
    assert house.sample("foretell_refused_total", reason="limit") == 3


async def test_a_hundred_thousand_guesses_are_refused_and_a_good_key_beside_them_is_not(house: House) -> None:
    """Through the door itself; the last ones over HTTP. Twenty are told 401, all others 429 and when to come again."""
    answers: Counter[str] = Counter()
    for guess in range(100_000):
        answers[await _told(house, f"Bearer ftl_aaaa_{guess}", "203.0.113.7")] += 1
    assert answers == {"401": 20, "429, Retry-After": 99_980}
    # The test client comes from 127.0.0.1, which has a count of its own.
    assert [await _status(house, f"ftl_aaaa_{n}") for n in range(30)] == [401] * 20 + [429] * 10
    assert await _status(house, SHOP) == 200


async def test_all_refusals_of_one_address_are_counted_together(house: House) -> None:
    """Missing, wrong and under-scoped alike, so that none takes another time than the others."""
    assert [await _status(house, "", "/metrics") for _ in range(10)] == [401] * 10
    assert [await _status(house, SHOP, "/metrics") for _ in range(11)] == [403] * 10 + [429]


async def test_an_ipv6_client_is_counted_by_the_64_bits_it_was_given(house: House) -> None:
    told = [await _told(house, None, f"2001:db8::{n:x}") for n in range(21)]
    assert told == ["401"] * 20 + ["429, Retry-After"]


async def test_an_ipv4_client_of_an_ipv6_port_is_counted_by_itself(house: House) -> None:
    told = [await _told(house, None, f"::ffff:192.0.2.{n}") for n in range(21)]
    assert told == ["401"] * 21
    assert [await _told(house, None, "::ffff:192.0.2.0") for _ in range(20)] == ["401"] * 19 + ["429, Retry-After"]


async def test_limits_counted_by_this_process_alone_are_named_in_the_answer(house: House) -> None:
    class Lost:
        async def take(self, name: str, rate: object) -> bool:
            return False

    house.access._limiter = Lost()
    response = await house.client.get("/models", headers={"Authorization": f"Bearer {SHOP}"})
    assert response.headers["x-degraded"] == "limits"
    assert house.sample("foretell_degraded_total", part="limits") == 1
