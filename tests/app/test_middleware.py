"""Middleware where a client library cannot reach: clients that leave, and limits counted byte by byte."""

from __future__ import annotations

from collections.abc import MutableMapping
from types import SimpleNamespace
from typing import Any

from structlog.testing import capture_logs

from tests.app.conftest import House

Message = MutableMapping[str, Any]


def _post(path: str, **headers: str) -> dict[str, Any]:
    return {
        "type": "http",
        "http_version": "1.1",
        "method": "POST",
        "scheme": "http",
        "path": path,
        "raw_path": path.encode(),
        "query_string": b"",
        "root_path": "",
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        "client": ("127.0.0.1", 1),
        "server": ("127.0.0.1", 2),
        "state": {},
    }


async def test_a_client_that_leaves_in_the_middle_of_its_body_is_no_error(house: House) -> None:
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]
    sent: list[Message] = []

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    scope = _post("/predict", content_type="application/json")
    door = SimpleNamespace(admit=lambda deadline: None)
    scope["state"] = {"predictor": SimpleNamespace(), "door": door, "access": house.access}
    with capture_logs() as logged:
        await house.app(scope, receive, send)
    assert sent == []
    assert not [line for line in logged if line["log_level"] in ("error", "warning")]
    assert house.sample("foretell_http_requests_total", route="/predict", method="POST", status="499") == 1


async def test_reading_stops_with_the_chunk_that_passes_the_limit(house: House) -> None:
    limit = house.settings.body_limit_bytes
    chunks = [b"x" * limit, b"x", b"never read"]
    sent: list[Message] = []

    async def receive() -> Message:
        return {"type": "http.request", "body": chunks.pop(0), "more_body": True}

    async def send(message: Message) -> None:
        sent.append(message)

    scope = _post("/events", content_type="application/json")
    scope["state"] = {"ingest": None, "access": house.access}
    await house.app(scope, receive, send)
    assert sent[0]["status"] == 413
    assert chunks == [b"never read"]
