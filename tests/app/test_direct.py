"""The short way answers as the long one does."""

from __future__ import annotations

from typing import Any

import pytest

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
