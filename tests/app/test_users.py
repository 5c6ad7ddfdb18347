"""PUT, GET and DELETE /users/{id} on real stores; ids and texts as hostile as they come."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import quote

import pytest
from pydantic import SecretStr

from app.errors import CacheUnavailable
from app.mongo import Mongo
from app.pseudonyms import alias_of
from app.redis import Cache
from app.replies import DescribedResponse, ErasedResponse
from app.settings import Settings
from models.artifact import Artifact
from tests.integration.stored import Stored, stored


@pytest.fixture
async def house(mongo: Mongo, cache: Cache, settings: Settings, artifact: Artifact) -> AsyncIterator[Stored]:
    async with stored(mongo, cache, settings.model_copy(update={"deadline_ms": 60_000}), artifact) as house:
        yield house


async def _lines(house: Stored, user: str) -> list[dict[str, Any]]:
    response = await house.client.get(f"/users/{quote(user, safe='')}")
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/jsonl"
    return [json.loads(line) for line in response.text.splitlines()]


async def test_a_profile_counts_in_the_next_prediction(house: Stored) -> None:
    """The third field of the contract is the user's country; DE is id 2 and FR 3, 0 is none."""
    await house.did("u", "e1")
    await house.predict("u")
    await house.client.put("/users/u", json={"profile": {"country": "DE"}})
    assert (await house.predict("u"))["provenance"]["state"] == "computed"
    await house.predict("u")
    response = await house.client.put("/users/u", json={"profile": {"country": "FR"}})
    assert response.status_code == 200
    assert DescribedResponse.model_validate(response.json(), extra="forbid").degraded == []
    assert (await house.predict("u"))["provenance"]["state"] == "computed"
    countries = [fields[1] for fields in house.model.contexts]
    assert countries[0] != countries[1] == countries[2] != countries[-1]


async def test_without_redis_the_profile_is_stored_and_the_answer_says_so(
    house: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def lost(user_ids: object) -> None:
        raise CacheUnavailable("Redis did not answer.")

    monkeypatch.setattr(house.states, "invalidate", lost)
    response = await house.client.put("/users/u", json={"profile": {}})
    assert response.json() == {"user_id": "u", "degraded": ["cache"]}
    counted = house.app.state.metrics.registry.get_sample_value
    assert counted("foretell_degraded_total", {"part": "cache"}) == 1


async def test_an_export_has_every_document_of_the_user_and_of_nobody_else(house: Stored) -> None:
    await house.client.put("/users/u", json={"profile": {"country": "DE", "visits": 3}})
    await house.did("u", *(f"e{n:04d}" for n in range(1000)))
    await house.did("u", "e1000")
    await house.did("v", "other")
    await house.mongo.database.exposures.insert_one({"user_id": "u", "item_id": "hat"})
    user, *rest = await _lines(house, "u")
    assert (user["collection"], user["_id"], user["profile"]) == ("users", "u", {"country": "DE", "visits": 3})
    events, exposures = rest[:-1], rest[-1:]
    assert sorted(event["_id"] for event in events) == [f"e{n:04d}" for n in range(1001)]
    assert {(event["collection"], event["user_id"], event["item_id"]) for event in events} == {("events", "u", "shoe")}
    assert [(e["collection"], e["item_id"]) for e in exposures] == [("exposures", "hat")]


async def test_nothing_is_held_of_a_user_nobody_knows(house: Stored) -> None:
    response = await house.client.get("/users/nobody")
    assert (response.status_code, response.json()["error"]) == (404, "not_found")


async def test_an_erased_user_is_counted_and_gone(house: Stored) -> None:
    await house.did("u", "e1", "e2")
    response = await house.client.delete("/users/u")
    ErasedResponse.model_validate(response.json(), extra="forbid")
    assert response.json() == {"deleted": {"users": 0, "events": 2, "exposures": 0, "meta": 0}}
    assert (await house.client.get("/users/u")).status_code == 404
    assert house.app.state.metrics.registry.get_sample_value("foretell_erasures_total") == 1


HOSTILE = ["$where", "$gt", "a.b", "a/b", "../x", "a b", "%00", "{}", '{"$gt": ""}', "é", "💧", "x" * 256, "__proto__"]


@pytest.mark.parametrize("user", HOSTILE)
async def test_any_id_is_just_a_text(house: Stored, user: str) -> None:
    """Described, seen, predicted, exported and erased as any other; nobody else is touched."""
    await house.did("bystander", "b1")
    address = f"/users/{quote(user, safe='')}"
    assert (await house.client.put(address, json={"profile": {"country": "$ne"}})).status_code == 200
    assert (await house.did(user, "e1"))["accepted"] == 1
    assert (await house.predict(user))["provenance"]["history"] == 1
    assert [line["collection"] for line in await _lines(house, user)] == ["users", "events"]
    assert (await house.client.delete(address)).json()["deleted"] == {
        "users": 1,
        "events": 1,
        "exposures": 0,
        "meta": 0,
    }
    assert (await house.predict("bystander"))["provenance"]["history"] == 1


@pytest.mark.parametrize("user", ["%00", "a%09b", "", "x" * 257, "%7F"])
async def test_an_id_that_is_none_is_refused_in_the_common_shape(house: Stored, user: str) -> None:
    for method in ("GET", "DELETE"):
        response = await house.client.request(method, f"/users/{user}")
        assert (response.status_code, response.json()["error"]) == (422, "invalid_payload"), method
        assert response.json()["fields"][0]["field"] == "user_id"


OPERATOR = {"$gt": ""}
PREDICT: dict[str, Any] = {"user_id": "u", "session": [{"type": "click", "item_id": "i"}]}
EVENT: dict[str, Any] = {"event_id": "e", "user_id": "u", "item_id": "shoe", "type": "click"}


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/predict", PREDICT | {"user_id": OPERATOR}),
        ("/predict", PREDICT | {"items": [OPERATOR]}),
        ("/predict", PREDICT | {"session": [{"type": OPERATOR, "item_id": "i"}]}),
        ("/predict", PREDICT | {"session": [{"type": "click", "item_id": OPERATOR}]}),
        ("/predict", PREDICT | {"context": {"device": OPERATOR}}),
        ("/predict", PREDICT | {"context": {"$where": "x"}}),
        ("/predict", PREDICT | {"filters": {"categories": [OPERATOR]}}),
        ("/predict", PREDICT | {"filters": {"exclude_seen": [OPERATOR]}}),
        ("/predict", PREDICT | {"objective": OPERATOR}),
        ("/predict", PREDICT | {"rank": OPERATOR}),
        ("/events", {"events": OPERATOR}),
    ],
)
async def test_an_operator_in_the_place_of_a_text_is_422(house: Stored, path: str, body: dict[str, Any]) -> None:
    response = await house.client.post(path, json=body)
    assert (response.status_code, response.json()["error"]) == (422, "invalid_payload"), response.text


@pytest.mark.parametrize("field", ["event_id", "user_id", "item_id", "type", "at", "value", "request_id", "context"])
async def test_an_operator_in_the_place_of_any_field_rejects_the_event(house: Stored, field: str) -> None:
    response = await house.client.post("/events", json={"events": [EVENT | {field: OPERATOR}]})
    assert [rejected["error"] for rejected in response.json()["rejected"]] == ["invalid"]
    assert await house.mongo.database.events.count_documents({}) == 0


@pytest.mark.parametrize(
    "profile", [OPERATOR, {"a.b": 1}, {"country": OPERATOR}, {"country": ["DE"]}, {"": 1}, [], "x"]
)
async def test_a_profile_with_an_operator_or_a_path_in_it_is_422(house: Stored, profile: Any) -> None:
    response = await house.client.put("/users/u", json={"profile": profile})
    assert (response.status_code, response.json()["error"]) == (422, "invalid_payload")
    assert await house.mongo.database.users.count_documents({}) == 0


async def test_with_a_key_for_pseudonyms_no_store_sees_the_id_and_answers_echo_it(
    mongo: Mongo, cache: Cache, settings: Settings, artifact: Artifact
) -> None:
    """Stored under HMAC-SHA256 of the id; what was stored under the id before is exported and erased all the same."""
    user = "user-named-plainly"
    await mongo.database.events.insert_one({"_id": "before", "user_id": user, "item_id": "hat"})
    changes = {"pseudonym_key": SecretStr("0123456789abcdef"), "deadline_ms": 60_000}
    changed = settings.model_copy(update=changes)
    async with stored(mongo, cache, changed, artifact) as house:
        assert (await house.did(user, "after"))["accepted"] == 1
        await house.client.put(f"/users/{user}", json={"profile": {"country": "DE"}})
        answer = await house.predict(user)
        assert (answer["user_id"], answer["provenance"]["history"]) == (user, 1)
        assert (await house.predict(user))["provenance"]["state"] == "cached"
        documents = await mongo.database.events.find().to_list(None)
        name = alias_of(changed)(user)
        assert {d["_id"]: d["user_id"] for d in documents} == {"before": user, "after": name}
        lines = await _lines(house, user)
        assert [line.get("user_id") or line["_id"] for line in lines] == [user] * 3
        assert name not in json.dumps(lines)
        await house.client.delete(f"/users/{user}")
        assert await house.found(user) | await house.found(name) == set()


def test_a_pseudonym_is_what_anybody_with_the_key_computes(settings: Settings) -> None:
    """By hand: printf 'user\\0u42' | openssl dgst -sha256 -hmac 0123456789abcdef -binary | head -c 24 | base64."""
    alias = alias_of(settings.model_copy(update={"pseudonym_key": SecretStr("0123456789abcdef")}))
    assert alias("u42") == "0nPbxE9PRypXawEwiGaokmtdJaLs8Mc5"
    assert alias_of(settings)("u42") == "u42"


async def test_an_id_with_a_line_break_is_told_what_is_wrong_with_it(house: Stored) -> None:
    response = await house.client.put("/users/a%0Ab", json={"profile": {}})
    assert (response.status_code, response.json()["fields"][0]["field"]) == (422, "user_id")
