"""One bench: embedded stores, a shop's model and data, and servers started against them."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymongo
import redis

from app.invalidations import user_key
from benchmarks.serving.environments import ROOT
from benchmarks.serving.servers import Running, serving
from benchmarks.serving.shop import Shop, load_shop, publish_model, user_name, write_titles
from benchmarks.serving.systems import System
from benchmarks.serving.wrk import BenchmarkError, wrk
from foretell.embedded import EmbeddedStores

#: Seconds of a round in which states are cached; a slow machine must come round all users in one.
WARMING = 10
FOLDER = ROOT / ".foretell" / "bench"


@dataclass
class Bench:
    """Where servers find stores and model, and the cached states of the shop's users once they are warm."""

    shop: Shop
    mongo_url: str
    redis_url: str
    folder: Path
    states: list[bytes] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.redis = redis.Redis.from_url(self.redis_url)
        self.models = self.folder / "models"
        if not (self.models / self.shop.model).is_dir():  # in a process of its own, which takes TensorFlow with it
            code = f"from benchmarks.serving.shop import *; publish_model({self.shop!r}, Path({str(self.models)!r}))"
            subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
        self.artifact = publish_model(self.shop, self.models)
        load_shop(self.shop, self.mongo_url)
        self.titles = self.folder / f"titles-{self.shop.model}.json"
        write_titles(self.shop, self.titles)
        self.answer = self.folder / "answer.json"

    @contextmanager
    def running(self, system: System) -> Iterator[Running]:
        """A server while the context lasts."""
        known = self._known() | dict(system.environment)
        with serving(system.name, system.command, known, self.folder, system.path, system.body) as server:
            yield server

    def forget(self) -> None:
        """Empty Redis, but for the copies that peers read."""
        self.redis.flushdb()
        self._copy()

    def warm(self, server: Running) -> None:
        """Ask for every user until all states are cached, and copy them for those who do not know Foretell's keys.

        Raises:
            BenchmarkError: a whole round cached nothing.
        """
        known = -1
        while len(found := self._cached()) < self.shop.users:
            if len(found) <= known:
                raise BenchmarkError(
                    "Foretell does not cache the states of its users; see .foretell/bench/foretell.log."
                )
            known = len(found)
            print(f"  {known} of {self.shop.users} users are warm", flush=True)
            wrk(server.url, 16, WARMING, self.shop.users)
        self.states = found
        self._copy()

    def _copy(self) -> None:
        with self.redis.pipeline() as pipe:
            for number, state in enumerate(self.states):
                pipe.set(f"bench:{user_name(number)}", state)
            pipe.execute()

    def bytes_per_user(self) -> float:
        """What Redis needs for a cached user, its own overhead included."""
        return float(self.redis.memory_usage(user_key(user_name(0)), samples=0) or 0)

    def mongo_pid(self) -> int:
        """The process of MongoDB."""
        with pymongo.MongoClient[dict[str, Any]](self.mongo_url) as client:
            return int(client.admin.command("serverStatus")["pid"])

    def _cached(self) -> list[bytes]:
        """The states of the users that have one."""
        with self.redis.pipeline() as pipe:
            for number in range(self.shop.users):
                pipe.hgetall(user_key(user_name(number)))
            users: list[dict[bytes, bytes]] = pipe.execute()
        return [value for fields in users for name, value in fields.items() if name.startswith(b"s:")]

    def _known(self) -> dict[str, str]:
        return {
            "FORETELL_MONGO_URL": self.mongo_url,
            "FORETELL_MONGO_DATABASE": self.shop.database,
            "FORETELL_REDIS_URL": self.redis_url,
            "FORETELL_MODEL_ROOT": str(self.models),
            "FORETELL_MODEL_NAME": self.shop.model,
            "FORETELL_LOG_LEVEL": "warning",
            "BENCH_REDIS": self.redis_url,
            "BENCH_ARTIFACT": str(self.artifact.path),
            "BENCH_TITLES": str(self.titles),
            "BENCH_ANSWER": str(self.answer),
        }


@contextmanager
def stores() -> Iterator[EmbeddedStores]:
    """Valkey and SecantusDB while the context lasts; their data stays for the next time. Raises EmbeddedError."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    with EmbeddedStores(FOLDER) as opened:
        yield opened


def bench(shop: Shop, opened: EmbeddedStores) -> Bench:
    """The bench of a shop, its model and data made where they are missing."""
    return Bench(shop, opened.mongo_url, opened.redis_url, FOLDER)
