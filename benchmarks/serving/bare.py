"""The floor under every HTTP service here: a bare ASGI function, one Redis read, the same JSON, no model."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import orjson
import redis.asyncio

ANSWER = orjson.loads(Path(os.environ["BENCH_ANSWER"]).read_bytes())
CACHE = redis.asyncio.Redis.from_url(os.environ["BENCH_REDIS"], protocol=2)
HEADERS = [(b"content-type", b"application/json")]

Message = dict[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]


async def app(scope: Message, receive: Receive, send: Send) -> None:
    """Answer ``POST /predict`` with what Foretell once answered."""
    if scope["type"] != "http":
        return
    body = b""
    more = True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    user = orjson.loads(body)["user_id"]
    state = await CACHE.get(f"bench:{user}")
    answer = orjson.dumps({**ANSWER, "user_id": user, "took_ms": float(len(state or b""))})
    await send({"type": "http.response.start", "status": 200, "headers": HEADERS})
    await send({"type": "http.response.body", "body": answer})
