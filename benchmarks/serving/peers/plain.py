"""Plain FastAPI: the endpoint reads Redis and calls the model. BENCH_STYLE says how: ``threads`` or ``inline``."""

from __future__ import annotations

import os
from typing import Annotated, Any

import orjson
import redis
import redis.asyncio
from fastapi import Body, FastAPI, Response

from benchmarks.serving.peers.work import Work, key

URL = os.environ["BENCH_REDIS"]
app = FastAPI()
work = Work()
blocking = redis.Redis.from_url(URL, protocol=2)
cache = redis.asyncio.Redis.from_url(URL, protocol=2)

User = Annotated[str, Body()]
Count = Annotated[int, Body()]


def answered(user: str, blob: Any) -> Response:
    """The answer as bytes."""
    answer = work.answers([work.question(user, blob)])[0]
    return Response(orjson.dumps(answer), media_type="application/json")


if os.environ.get("BENCH_STYLE") == "inline":

    @app.post("/predict")
    async def predict(user_id: User, k: Count = 20) -> Response:
        """On the event loop: no thread is switched to, and nobody else is served meanwhile."""
        return answered(user_id, await cache.get(key(user_id)))

else:

    @app.post("/predict")
    def predict_in_a_thread(user_id: User, k: Count = 20) -> Response:
        """In FastAPI's pool of threads."""
        return answered(user_id, blocking.get(key(user_id)))
