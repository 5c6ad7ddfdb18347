"""The short way answers as the long one does."""

from __future__ import annotations

from typing import Any

import pytest
from starlette.types import Message

from app.direct import WHOLE, Headers
from tests.app.conftest import House, serving

#: What differs from answer to answer.
PASSING = ("request_id", "took_ms")


@pytest.mark.parametrize(
    ("body", "status"),
    [({"user_id": "u", "items": ["shoe"], "k": 2}, 200), ({"k": 0}, 422), ({"user_id": {"$gt": ""}}, 422)],
)
async def test_both_ways_answer_alike(house: House, body: dict[str, Any], status: int) -> None:
    long = House(house.model, house.settings)
    assert house.app.direct is not None
    long.app.direct = None
    answers = []
    async with serving(long):
        for each in (house, long):
            response = await each.client.post("/predict", json=body)
            headers = {name: value for name, value in response.headers.items() if name != "x-request-id"}
            told = {name: value for name, value in response.json().items() if name not in PASSING}
            answers.append((response.status_code, headers | {"content-length": ""}, told))
            labels = {"route": "/predict", "method": "POST", "status": str(status)}
            assert each.sample("foretell_http_requests_total", **labels) == 1
    assert answers[0] == answers[1]
    assert answers[0][0] == status


async def test_other_methods_take_the_long_way(house: House) -> None:
    response = await house.client.get("/predict")
    assert (response.status_code, response.headers["allow"]) == (405, "POST")


@pytest.mark.parametrize(("size", "status"), [(10, 422), (11, 413)])
async def test_a_body_that_is_there_at_once_has_the_same_limit(house: House, size: int, status: int) -> None:
    """Chunked, so that no header says how long it is."""
    limited = House(house.model, house.settings.model_copy(update={"body_limit_bytes": 10}))
    told: list[tuple[int, bytes]] = []

    async def answer(status: int, headers: Headers, body: bytes) -> None:
        told.append((status, body))

    async def unasked() -> Message:
        pytest.fail("the body was there")

    async def unsaid(message: Message) -> None:
        pytest.fail("it was answered in two messages")

    async with limited.app.router.lifespan_context(limited.app) as state:
        assert state is not None
        scope = {
            "type": "http",
            "method": "POST",
            "path": "/predict",
            "headers": [(b"content-type", b"application/json")],
            "extensions": {WHOLE: {"body": lambda: b"x" * size, "answer": answer}},
            "state": dict(state),
        }
        await limited.app(scope, unasked, unsaid)
    assert told[0][0] == status
