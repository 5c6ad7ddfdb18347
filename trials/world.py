"""The world that trials break: the real service with its workers, and real stores behind proxies."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from contextlib import AsyncExitStack
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Self
from urllib.parse import urlsplit

import aiohttp
import pymongo
import redis

from app.keys import new_key
from foretell.embedded import EmbeddedStores
from tests.integration.proxy import Proxy

ROOT = Path(__file__).parents[1]
DATABASE = "foretell"
#: Seconds the service gets to load its model, on a machine that others use as well.
START_SECONDS = 180.0
LOOK_SECONDS = 0.1
#: Of the key of a keyed world: more than any trial asks for, few enough that a lease lasts for seconds only.
KEY_LIMIT = "20000/minute"


def known_items() -> list[str]:
    """Items that the shipped model knows."""
    vocabulary = json.loads((ROOT / "models/saved/storefront/1/vocabulary.json").read_text())
    return [str(item) for item in vocabulary["items"][:500]]


class Store:
    """Valkey or SecantusDB in a process of its own, and the proxy that the service sees in its place.

    Attributes:
        options: of the service's driver, behind the address.
    """

    options = ""

    def __init__(self, folder: Path, kind: Literal["redis", "mongo"]) -> None:
        self.kind = kind
        self._folder = folder / kind
        self._proxy = Proxy(0)

    async def __aenter__(self) -> Self:
        await self.start()
        self.proxy = await self._proxy.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._proxy.__aexit__(kind, error, trace)
        await asyncio.to_thread(self._running.__exit__, None, None, None)

    async def start(self) -> None:
        """Start it on its data; returns when it answers."""
        other = {"redis": {"mongo_url": "none"}, "mongo": {"redis_url": "none"}}[self.kind]
        self._running = EmbeddedStores(self._folder, **other)
        await asyncio.to_thread(self._running.__enter__)
        self.direct_url = self._running.redis_url if self.kind == "redis" else self._running.mongo_url
        self._proxy.target = urlsplit(self.direct_url).port or 0

    async def restart(self) -> None:
        """SIGTERM, and a start on its data."""
        await asyncio.to_thread(self._running.__exit__, None, None, None)
        await self.start()

    async def kill(self) -> None:
        """kill -9."""
        (pid,) = [int(path.read_text()) for path in self._folder.glob("*.pid")]
        os.kill(pid, signal.SIGKILL)
        await asyncio.to_thread(self._running.__exit__, None, None, None)

    @property
    def url(self) -> str:
        """What the service is told: the proxy, which the driver must not go past."""
        if self.kind == "redis":
            return f"redis://127.0.0.1:{self.proxy.port}/0"
        return f"mongodb://127.0.0.1:{self.proxy.port}/?directConnection=true{self.options}"


class World:
    """Stores and ``foretell serve``. Use it as an async context; the working directory must be the repository's.

    Args:
        folder: for data and logs.
        keyed: let only those in who send ``headers``, so that the door and its limits in Redis are tried, too.
        retry_writes: let the driver send a write again; for long trials not, see foretell.embedded.SECANTUS_URL.
        settings: of the service, by name, beside the addresses.
    """

    def __init__(self, folder: Path, *, keyed: bool = False, retry_writes: bool = True, **settings: object) -> None:
        self.folder = folder
        self.headers: dict[str, str] = {}
        self.settings: dict[str, object] = {"workers": 2, "log_level": "info"} | settings
        self.log = folder / "service.log"
        self.port = _free_port()
        self.base = f"http://127.0.0.1:{self.port}"
        self.redis, self.mongo = Store(folder, "redis"), Store(folder, "mongo")
        if not retry_writes:
            self.mongo.options = "&retryWrites=false"
        self.ready = True  # what a balancer believes
        self._stack = AsyncExitStack()
        if keyed:
            key, line = new_key(("predict", "ingest", "admin"), limit=KEY_LIMIT)
            self.settings["keys"] = folder / "keys"
            (folder / "keys").write_text(line.model_dump_json() + "\n")
            self.headers["Authorization"] = f"Bearer {key}"

    async def __aenter__(self) -> Self:
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self.redis)
            await stack.enter_async_context(self.mongo)
            stack.push_async_callback(self.stop)
            await self.start()
            self._stack = stack.pop_all()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._stack.aclose()

    async def start(self) -> None:
        """Start the service; returns when every worker answers."""
        told = {
            "port": self.port,
            "redis_url": self.redis.url,
            "mongo_url": self.mongo.url,
            "mongo_database": DATABASE,
        } | self.settings
        bare = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
        ready = self.ready_workers()
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(  # noqa: ASYNC220 - a fork is quick; uvicorn's signals need no asyncio here
                [sys.executable, "-c", "from foretell.cli import main; main()", "serve"],
                cwd=ROOT,
                env=bare | {f"FORETELL_{name.upper()}": str(value) for name, value in told.items()},
                stdout=log,
                stderr=log,
            )
        await self.wait_for_workers(ready + int(str(self.settings["workers"])))

    async def wait_for_workers(self, count: int) -> None:
        """Until so many workers have become ready since the beginning of the log."""
        async with asyncio.timeout(START_SECONDS):
            while self.ready_workers() < count:
                if self.process.poll() is not None:
                    raise RuntimeError(f"The service ended; see {self.log}.")
                await asyncio.sleep(LOOK_SECONDS)
        async with aiohttp.ClientSession() as session, asyncio.timeout(START_SECONDS):
            while True:
                try:
                    async with session.get(f"{self.base}/health/ready") as answer:
                        if answer.status == 200:
                            return
                except aiohttp.ClientError:
                    await asyncio.sleep(LOOK_SECONDS)

    async def pending_invalidations(self, seconds: float) -> int:
        """Users whose states some worker still has to invalidate, waiting so long for there to be none."""
        end = time.monotonic() + seconds
        async with aiohttp.ClientSession(self.base, headers=self.headers) as session:
            while True:
                async with session.get("/metrics") as answer:
                    found = re.search(r"^foretell_pending_invalidations (\S+)", await answer.text(), re.MULTILINE)
                if found is None:
                    raise RuntimeError("The service does not say how many invalidations wait.")
                pending = int(float(found[1]))
                if not pending or time.monotonic() > end:
                    return pending
                await asyncio.sleep(LOOK_SECONDS)

    def ready_workers(self) -> int:
        """How many workers have ever become ready."""
        return self.log.read_text().count("model_ready") if self.log.exists() else 0

    def tracebacks(self) -> int:
        """How many tracebacks the service's log has."""
        return self.log.read_text().count("Traceback (most recent call last)")

    def workers(self) -> list[int]:
        """Process ids of the workers, oldest first; the process itself where there is only one."""
        if self.settings["workers"] == 1:
            return [self.process.pid]
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        command = {int(pid): Path(f"/proc/{pid}/cmdline").read_bytes() for pid in children}
        return [pid for pid, line in command.items() if b"spawn_main" in line]

    async def stop(self) -> int:
        """SIGTERM, and the exit code."""
        if self.process.poll() is None:
            self.process.terminate()
        return await asyncio.to_thread(self.process.wait, 60)

    def mongo_client(self) -> pymongo.MongoClient[dict[str, Any]]:
        """Straight to the store, past the proxy."""
        return pymongo.MongoClient(self.mongo.direct_url)

    def redis_client(self) -> redis.Redis:
        """Straight to the store, past the proxy."""
        return redis.Redis.from_url(self.redis.direct_url)


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port
