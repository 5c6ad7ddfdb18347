"""What holds for every route: errors in one shape, request ids, limits, probes, the OpenAPI page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from structlog.testing import capture_logs

from tests.app.conftest import House

JSON = {"content-type": "application/json"}


async def test_malformed_json_is_422_in_the_common_shape(house: House) -> None:
    response = await house.client.post("/predict", content=b'{"user_id":', headers=JSON)
    assert response.status_code == 422
    assert response.json()["error"] == "invalid_payload"
    assert response.json()["fields"][0]["field"] == "body"


@pytest.mark.parametrize("path", ["/predict", "/events"])
@pytest.mark.parametrize("media", [None, "text/plain", "application/x-www-form-urlencoded"])
async def test_another_content_type_is_415(house: House, path: str, media: str | None) -> None:
    response = await house.client.post(path, content=b"{}", headers={"content-type": media} if media else {})
    assert response.status_code == 415
    assert response.json()["error"] == "unsupported_media_type"


async def test_a_charset_beside_the_content_type_is_fine(house: House) -> None:
    headers = {"content-type": "application/json; charset=utf-8"}
    assert (await house.client.post("/predict", content=b'{"user_id":"u"}', headers=headers)).status_code == 200


async def test_a_body_declared_too_long_is_413_before_it_is_read(house: House) -> None:
    reads = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal reads
        reads += 1
        yield b"x"

    headers = JSON | {"content-length": str(50 * 1024 * 1024)}
    response = await house.client.post("/predict", content=chunks(), headers=headers)
    assert response.status_code == 413
    assert response.json()["error"] == "payload_too_large"
    assert reads == 0


async def test_a_body_that_does_not_say_its_length_is_cut_off_at_the_limit(house: House) -> None:
    sent = 0

    async def chunks() -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(50):
            sent += 1
            yield b"x" * 1024 * 1024

    response = await house.client.post("/events", content=chunks(), headers=JSON)
    assert response.status_code == 413
    assert sent == 5  # of MiB, at a limit of 4


async def test_an_unknown_path_and_a_wrong_method_have_the_common_shape(house: House) -> None:
    missing = await house.client.get("/nothing")
    assert (missing.status_code, missing.json()["error"]) == (404, "not_found")
    wrong = await house.client.get("/predict")
    assert (wrong.status_code, wrong.json()["error"]) == (405, "method_not_allowed")
    assert wrong.headers["allow"] == "POST"


async def test_an_unexpected_error_is_500_without_its_text_and_logged_once_with_its_traceback(house: House) -> None:
    house.model.failure = ZeroDivisionError("secret")
    with capture_logs() as logged:
        response = await house.client.post("/predict", json={"user_id": "u"})
    assert [line["event"] for line in logged if line.get("exc_info")] == ["internal_error"]
    assert response.status_code == 500
    assert response.json()["error"] == "internal"
    assert "secret" not in response.text
    assert house.sample("foretell_http_requests_total", route="/predict", method="POST", status="500") == 1


async def test_a_plain_request_id_comes_back_and_a_strange_one_is_replaced(house: House) -> None:
    response = await house.client.post("/predict", json={"user_id": "u"}, headers={"x-request-id": "abc-1"})
    assert response.headers["x-request-id"] == response.json()["request_id"] == "abc-1"
    response = await house.client.get("/health/live", headers={"x-request-id": "a b"})
    assert response.headers["x-request-id"] != "a b"


async def test_requests_are_counted_by_route_template(house: House) -> None:
    await house.client.get("/health/live")
    await house.client.get("/nothing/17")
    await house.client.request("BREW", "/nothing")
    count = "foretell_http_requests_total"
    assert house.sample(count, route="/health/live", method="GET", status="200") == 1
    assert house.sample(count, route="unmatched", method="GET", status="404") == 1
    assert house.sample(count, route="unmatched", method="OTHER", status="404") == 1
    assert house.sample("foretell_http_request_seconds_count", route="/health/live", method="GET") == 1


async def test_ready_stays_200_and_names_a_store_that_was_lost(house: House) -> None:
    response = await house.client.get("/health/ready")
    assert response.json() == {
        "status": "ready",
        "parts": {"model": "ok", "cache": "ok", "history": "ok"},
        "degraded": [],
    }
    house.states.lost = True
    assert (await house.client.get("/health/ready")).json()["degraded"] == []  # asked again after a second
    house.now += 1
    response = await house.client.get("/health/ready")
    assert response.status_code == 200
    assert response.json()["degraded"] == ["cache"]


async def test_models_says_what_serves_and_what_lies_beside_it(house: House) -> None:
    body = (await house.client.get("/models")).json()
    assert body["available"] == {"storefront": ["1"]}
    active = body["active"]
    assert (active["name"], active["version"], active["kind"], active["device"]) == ("storefront", "1", "fake", "fake")
    assert (active["targets"], active["values"]) == (["click", "purchase"], ["amount"])
    assert active["facts"] == {"data": {"name": "storefront", "synthetic": True}}
    assert active["metrics"] == {"validation": {"auc": {"click": 0.7}}}


async def test_metrics_are_prometheus_text(house: House) -> None:
    await house.predict(user_id="u")
    response = await house.client.get("/metrics")
    assert response.headers["content-type"].startswith("text/plain; version=")
    assert 'foretell_stage_seconds_count{stage="recommend"} 1.0' in response.text


async def _document(house: House) -> dict[str, Any]:
    return dict((await house.client.get("/openapi.json")).json())


async def test_every_reference_of_the_openapi_document_resolves(house: House) -> None:
    document = await _document(house)
    text = json.dumps(document)
    references = {part.split('"')[0] for part in text.split('"$ref": "')[1:]}
    assert references
    for reference in references:
        target: Any = document
        for step in reference.removeprefix("#/").split("/"):
            target = target[step]


@pytest.mark.parametrize("path", ["/predict", "/events"])
async def test_the_page_shows_the_request_schema_and_its_examples_fit_it(house: House, path: str) -> None:
    document = await _document(house)
    content = document["paths"][path]["post"]["requestBody"]["content"]["application/json"]
    schema = {**content["schema"], "components": document["components"]}
    assert content["examples"]
    for example in content["examples"].values():
        Draft202012Validator(schema).validate(example["value"])
    assert {"413", "415", "422", "503"} <= set(document["paths"][path]["post"]["responses"])


async def test_an_answer_fits_the_schema_the_page_shows(house: House) -> None:
    document = await _document(house)
    answer = await house.predict(user_id="u", items=["hat", "ghost"])
    schema = {"$ref": "#/components/schemas/PredictResponse", "components": document["components"]}
    Draft202012Validator(schema).validate(answer)
