"""LitServe: its batching, one MGET for the users of a batch. BENCH_WORKERS, BENCH_SERVERS, BENCH_WAIT (seconds)."""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
import orjson
import redis
from fastapi import Response

from benchmarks.serving.peers.work import Question, Work, key


class Api(litserve.LitAPI):  # type: ignore[misc]
    """decode, batch, predict, unbatch, encode."""

    def setup(self, device: str) -> None:
        """Called in each worker."""
        self.work = Work()
        self.cache = redis.Redis.from_url(os.environ["BENCH_REDIS"], protocol=2)

    def decode_request(self, request) -> str:  # type: ignore[no-untyped-def]
        """The user; without an annotation LitServe reads the body itself."""
        return str(request["user_id"])

    def predict(self, users: list[str]) -> list[dict[str, Any]]:
        """A batch of users."""
        blobs: Any = self.cache.mget([key(user) for user in users])
        questions: list[Question] = [self.work.question(*pair) for pair in zip(users, blobs, strict=True)]
        return self.work.answers(questions)

    def batch(self, inputs: list[str]) -> list[str]:
        """Users stay a list."""
        return inputs

    def unbatch(self, output: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """So do answers."""
        return output

    def encode_response(self, output: dict[str, Any]) -> Response:
        """Bytes, which the server passes on as they are."""
        return Response(orjson.dumps(output), media_type="application/json")


if __name__ == "__main__":
    size, wait = int(os.environ.get("BENCH_BATCH", "32")), float(os.environ.get("BENCH_WAIT", "0.005"))
    server = litserve.LitServer(
        Api(max_batch_size=size, batch_timeout=wait),
        accelerator="cpu",
        workers_per_device=int(os.environ.get("BENCH_WORKERS", "1")),
        timeout=30,
        fast_queue=os.environ.get("BENCH_QUEUE") == "zmq",
    )
    servers = int(os.environ.get("BENCH_SERVERS", "1"))
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=servers, log_level="error", generate_client_file=False
    )
