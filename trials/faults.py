"""What can go wrong: each fault is an async context, entered when it begins; leaving it ends it and waits until the
part that was broken answers again."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from dataclasses import dataclass
from typing import Any

import aiohttp
from redis.exceptions import RedisError

from trials.world import Store, World

#: Seconds that a slow store takes longer.
SLOW = 0.5
#: Seconds between two looks of a balancer; less than FORETELL_DRAIN_SECONDS.
PROBE_SECONDS = 0.5
Break = Callable[[World], AbstractAsyncContextManager[None]]


@dataclass(frozen=True, slots=True)
class Fault:
    """One row of the matrix.

    Attributes:
        name: for the command line.
        title: for people.
        begin: breaks the world.
        lost: the parts that answers do without meanwhile, and must name.
        breaks: connections may end without an answer in the second in which it begins (their worker is dead).
    """

    name: str
    title: str
    begin: Break
    lost: frozenset[str] = frozenset()
    breaks: bool = False


def killed(*kinds: str) -> Break:
    """kill -9 of stores, and their restart on the same data."""

    @asynccontextmanager
    async def begin(world: World) -> AsyncIterator[None]:
        stores = [_store(world, kind) for kind in kinds]
        for store in stores:
            await store.kill()
        try:
            yield
        finally:
            await asyncio.gather(*(store.start() for store in stores))

    return begin


def restarted(kind: str) -> Break:
    """SIGTERM and a start on the same data, as an upgrade does it; once when the fault begins, once when it ends."""

    @asynccontextmanager
    async def begin(world: World) -> AsyncIterator[None]:
        await _store(world, kind).restart()
        try:
            yield
        finally:
            await _store(world, kind).restart()

    return begin


def slow(kind: str) -> Break:
    """Every reply comes half a second later."""

    @asynccontextmanager
    async def begin(world: World) -> AsyncIterator[None]:
        proxy = _store(world, kind).proxy
        proxy.delay = SLOW
        try:
            yield
        finally:
            proxy.mend()

    return begin


def resets(kind: str) -> Break:
    """Every connection is reset, again and again."""

    @asynccontextmanager
    async def begin(world: World) -> AsyncIterator[None]:
        async def reset() -> None:
            _store(world, kind).proxy.reset()

        async with _repeated(reset, 0.2):
            yield

    return begin


@asynccontextmanager
async def full(world: World) -> AsyncIterator[None]:
    """Redis has no room, and may not make any."""
    with world.redis_client() as client:
        kept = client.config_get("maxmemory*")
        client.config_set("maxmemory", 1, "maxmemory-policy", "noeviction")
        try:
            yield
        finally:
            client.config_set("maxmemory", kept["maxmemory"], "maxmemory-policy", kept["maxmemory-policy"])


@asynccontextmanager
async def garbage(world: World) -> AsyncIterator[None]:
    """Somebody else writes to our keys: other types, random bytes, states of other users."""
    rng = random.Random(0)
    client = world.redis_client()

    async def spoil() -> None:
        with suppress(RedisError):
            _spoil(client, rng)

    with client:
        async with _repeated(spoil, 0.05):
            yield


def _spoil(client: Any, rng: random.Random) -> None:
    keys = client.scan(rng.randrange(1 << 16), "foretell:*", 50)[1]
    hashes = [(key, fields) for key in keys if client.type(key) == b"hash" and (fields := client.hgetall(key))]
    for place, (key, fields) in enumerate(hashes):
        state = next((name for name in fields if name != b"g"), None)
        match place % 4:
            case 0:
                client.set(key, rng.randbytes(64))
            case 1:
                client.hset(key, "g", rng.randbytes(rng.choice((0, 3, 16, 400))))
            case 2 if state:
                client.hset(key, state, rng.randbytes(rng.choice((0, 1, 40, 5000))))
            case 3 if state:  # a foreign state, with the generation that it was computed under
                other = rng.choice(hashes)[1]
                client.hset(key, mapping={name: other[name] for name in (b"g", state) if name in other})


@asynccontextmanager
async def dead_worker(world: World) -> AsyncIterator[None]:
    """kill -9 of one worker; the supervisor starts another one."""
    ready = world.ready_workers()
    os.kill(world.workers()[0], signal.SIGKILL)
    try:
        yield
    finally:
        await world.wait_for_workers(ready + 1)


@asynccontextmanager
async def terminated(world: World) -> AsyncIterator[None]:
    """SIGTERM, seen by a balancer that probes readiness: not ready first, then the end, with exit code 0; then a new
    start. Who connects at the very moment in which the port closes may be cut off: that is what readiness is for."""
    world.process.terminate()
    async with aiohttp.ClientSession() as session, asyncio.timeout(10):
        while world.ready:
            await asyncio.sleep(PROBE_SECONDS)
            async with session.get(f"{world.base}/health/ready") as answer:
                world.ready = answer.status == 200
    code = await asyncio.to_thread(world.process.wait, 60)
    try:
        yield
    finally:
        await world.start()
        world.ready = True
    if code != 0:
        raise RuntimeError(f"The service ended with {code} after SIGTERM.")


@asynccontextmanager
async def trickle(world: World) -> AsyncIterator[None]:
    """Many clients that send one byte a second, of their headers or of their body."""
    starts = (b"POST /pre", _head(world, "/events", 1000))

    async def one(start: bytes) -> None:
        with suppress(OSError):
            async with _connection(world) as writer:
                writer.write(start)
                while not writer.transport.is_closing():
                    await asyncio.sleep(1)
                    writer.write(b"x")

    clients = [asyncio.create_task(one(starts[n % 2])) for n in range(100)]
    try:
        yield
    finally:
        for client in clients:
            client.cancel()
        await asyncio.gather(*clients, return_exceptions=True)


@asynccontextmanager
async def hang_ups(world: World) -> AsyncIterator[None]:
    """Clients that go away in the middle of their request, or before its answer."""
    body = b'{"user_id": "user-1-0001", "k": 10}'
    whole = _head(world, "/predict", len(body)) + body
    rng = random.Random(0)

    async def one() -> None:
        with suppress(OSError):
            async with _connection(world) as writer:
                writer.write(whole[: rng.randrange(1, len(whole) + 1)])
                await asyncio.sleep(rng.random() / 100)

    async with _repeated(one, 0.02):
        yield


def _head(world: World, path: str, length: int) -> bytes:
    """Of a request that is let in."""
    headers = {"Host": "x", "Content-Type": "application/json", "Content-Length": str(length)} | world.headers
    lines = (f"{name}: {value}\r\n" for name, value in headers.items())
    return f"POST {path} HTTP/1.1\r\n{''.join(lines)}\r\n".encode()


@asynccontextmanager
async def _connection(world: World) -> AsyncIterator[asyncio.StreamWriter]:
    """To the service; ended without a goodbye."""
    _, writer = await asyncio.open_connection("127.0.0.1", world.port)
    try:
        yield writer
    finally:
        writer.transport.abort()
        await asyncio.sleep(0)  # the turn in which it is closed


@asynccontextmanager
async def _repeated(action: Callable[[], Any], pause: float) -> AsyncIterator[None]:
    """Do something every ``pause`` seconds meanwhile."""

    async def repeat() -> None:
        while True:
            await action()
            await asyncio.sleep(pause)

    task = asyncio.create_task(repeat())
    try:
        yield
    finally:
        task.cancel()
        (result,) = await asyncio.gather(task, return_exceptions=True)
    if not isinstance(result, asyncio.CancelledError):
        raise RuntimeError("The fault itself failed.") from result


def _store(world: World, kind: str) -> Store:
    return world.redis if kind == "redis" else world.mongo


CACHE, HISTORY = frozenset({"cache"}), frozenset({"history"})

#: The matrix, in the order in which it is run.
FAULTS = (
    Fault("kill-redis", "kill -9 Redis, restarted", killed("redis"), CACHE),
    Fault("kill-mongo", "kill -9 MongoDB, restarted", killed("mongo"), HISTORY),
    Fault("kill-both", "kill -9 both, restarted", killed("redis", "mongo"), CACHE | HISTORY),
    Fault("restart-redis", "Redis restarted in order, twice", restarted("redis")),
    Fault("restart-mongo", "MongoDB restarted in order, twice", restarted("mongo")),
    Fault("slow-redis", "Redis answers 500 ms later", slow("redis"), CACHE),
    Fault("slow-mongo", "MongoDB answers 500 ms later", slow("mongo"), HISTORY),
    Fault("reset-redis", "connections to Redis reset", resets("redis")),
    Fault("reset-mongo", "connections to MongoDB reset", resets("mongo")),
    Fault("full-redis", "Redis full, noeviction", full),
    Fault("garbage", "garbage and foreign bytes in Redis", garbage),
    Fault("trickle", "100 clients send one byte a second", trickle),
    Fault("hang-up", "50 clients a second hang up mid-request", hang_ups),
    Fault("kill-worker", "kill -9 a worker", dead_worker, breaks=True),
    Fault("sigterm", "SIGTERM under load, started again", terminated),
)
