"""BentoML: its adaptive batching. The body is a list of one user, and so is the answer, as its batched endpoints want.

BENCH_WORKERS, BENCH_WAIT (milliseconds a request may wait). Run: ``bentoml serve benchmarks.serving.peers.bento:Peer``.
"""

from __future__ import annotations

import os
from typing import Any

import bentoml
import redis

from benchmarks.serving.peers.work import Work, key


@bentoml.service(
    workers=int(os.environ.get("BENCH_WORKERS", "1")),
    traffic={"timeout": 30, "max_concurrency": 1024},
    metrics={"enabled": False},
    logging={"access": {"enabled": False}},
)
class Peer:
    """One service with one batched endpoint."""

    def __init__(self) -> None:
        self.work = Work()
        self.cache = redis.Redis.from_url(os.environ["BENCH_REDIS"], protocol=2)

    @bentoml.api(  # type: ignore[untyped-decorator]
        batchable=True, max_batch_size=32, max_latency_ms=int(os.environ.get("BENCH_WAIT", "1000"))
    )
    def predict(self, users: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """A batch of questions."""
        names = [str(user["user_id"]) for user in users]
        blobs: Any = self.cache.mget([key(name) for name in names])
        return self.work.answers([self.work.question(*pair) for pair in zip(names, blobs, strict=True)])
