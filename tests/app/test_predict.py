"""POST /predict over fakes. The fake model's arithmetic (see fakes.py) is done by hand here."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest
from fastapi import Request
from starlette.types import Message

from app.catalogue import ItemContent
from app.errors import DeadlineExceeded, Overloaded
from app.main import create_app
from app.metrics import Metrics
from app.middleware import ARRIVED, REQUEST_ID
from app.replies import BatchResponse, PredictResponse
from app.routes.predict import predict
from models.artifact import Artifact
from tests.app.conftest import House, serving
from tests.app.fakes import FakeRuntime

#: Internal ids of the fakes' items: shoe 2, boot 3, sock 4, hat 5, cap 6, scarf 7.


def _items(answer: dict[str, Any]) -> list[str]:
    return [entry["item_id"] for entry in answer["recommendations"]]


async def test_an_answer_has_the_documented_shape(house: House) -> None:
    house.did("u", ("click", "shoe"))
    answer = await house.predict(user_id="u", items=["hat"], k=3)
    PredictResponse.model_validate(answer, strict=False, extra="forbid")
    assert answer["model"] == {"name": "storefront", "version": "1"}
    assert answer["took_ms"] >= 0


async def test_a_batch_is_answered_in_order_and_what_fails_spoils_no_other(house: House) -> None:
    house.did("u", ("click", "sock"))
    questions = [{"user_id": "u", "k": 1}, {"user_id": "u", "k": 0}, {"k": 1}, {"user_id": "v", "items": ["hat"]}]
    response = await house.client.post("/predict/batch", json={"requests": questions}, headers={"X-Request-ID": "b"})
    first, invalid, nobody, last = response.json()["answers"]
    BatchResponse.model_validate(response.json(), strict=False, extra="forbid")
    assert (first["user_id"], first["request_id"], first["provenance"]["history"]) == ("u", "b.0", 1)
    assert (invalid["error"], invalid["fields"][0]["field"]) == ("invalid_payload", "k")
    assert (nobody["error"], nobody["fields"][0]["field"]) == ("invalid_payload", "user_id")
    assert (last["user_id"], last["request_id"], last["predictions"][0]["item_id"]) == ("v", "b.3", "hat")


async def test_a_bug_that_one_request_of_a_batch_meets_is_told_to_it_alone(
    house: House, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def broken(item_ids: Any) -> Any:
        raise RuntimeError("a bug")

    monkeypatch.setattr(house.catalogue, "find", broken)  # asked for items that the vocabulary lacks
    questions = [{"user_id": "u", "items": ["glove"]}, {"user_id": "v", "items": ["hat"]}]
    response = await house.client.post("/predict/batch", json={"requests": questions})
    bug, fine = response.json()["answers"]
    assert (response.status_code, bug["error"]) == (200, "internal")
    assert fine["predictions"][0]["item_id"] == "hat"


async def test_a_batch_without_or_with_too_many_requests_is_refused_whole(house: House) -> None:
    for questions in ([], [{"user_id": "u"}] * 201):
        response = await house.client.post("/predict/batch", json={"requests": questions})
        assert (response.status_code, response.json()["error"]) == (422, "invalid_payload")


async def test_predictions_keep_the_order_of_items_and_repeat_duplicates(house: House) -> None:
    answer = await house.predict(user_id="u", items=["hat", "shoe", "hat"])
    assert [entry["item_id"] for entry in answer["predictions"]] == ["hat", "shoe", "hat"]
    assert answer["predictions"][0] == answer["predictions"][2]


async def test_probabilities_and_expectations_are_the_models(house: House) -> None:
    """shoe is id 2 and the user has one event: click 1/3, purchase 1/3 * 2/10, amount 20."""
    house.did("u", ("click", "sock"))
    [prediction] = (await house.predict(user_id="u", items=["shoe"]))["predictions"]
    assert prediction["probabilities"] == pytest.approx({"click": 1 / 3, "purchase": 2 / 30})
    assert prediction["expected"] == {"amount": 20.0}


async def test_the_score_is_the_objective_and_falls_with_the_rank(house: House) -> None:
    """Default weights: 0.1 * click + 1.0 * purchase, with purchase = click / 10 for a user without events."""
    answer = await house.predict(user_id="u", k=3)
    assert _items(answer) == ["shoe", "boot", "sock"]
    assert [entry["rank"] for entry in answer["recommendations"]] == [1, 2, 3]
    scores = [entry["score"] for entry in answer["recommendations"]]
    assert scores == pytest.approx([0.2 / 3, 0.2 / 4, 0.2 / 5])


async def test_a_negative_weight_turns_the_order_round(house: House) -> None:
    answer = await house.predict(user_id="u", k=2, objective={"click": -1.0})
    assert _items(answer) == ["scarf", "cap"]


async def test_titles_come_from_the_catalogue(house: House) -> None:
    answer = await house.predict(user_id="u", k=6)
    titles = {entry["item_id"]: entry["title"] for entry in answer["recommendations"]}
    assert titles["shoe"] == "Red shoe"
    assert titles["cap"] is None


async def test_an_unknown_user_is_answered_as_anonymous_by_popularity(house: House) -> None:
    answer = await house.predict(user_id="nobody", k=1)
    assert answer["provenance"]["state"] == "anonymous"
    assert answer["provenance"]["history"] == 0
    assert answer["recommendations"][0]["reason"] == "popular"


async def test_the_second_call_is_cached_and_says_how_old_its_state_is(house: House) -> None:
    house.did("u", ("click", "shoe"), ("purchase", "sock"))
    first = await house.predict(user_id="u", items=["hat"])
    house.now += 1.5
    second = await house.predict(user_id="u", items=["hat"])
    assert first["provenance"] == {"state": "computed", "state_age_ms": 0, "history": 2, "degraded": []}
    assert second["provenance"] == {"state": "cached", "state_age_ms": 1500, "history": 2, "degraded": []}
    assert first["predictions"] == second["predictions"]
    assert first["recommendations"] == second["recommendations"]
    assert house.history.reads == 1
    assert len(house.model.encoded) == 1
    assert house.sample("foretell_state_lookups_total", outcome="miss") == 1
    assert house.sample("foretell_state_lookups_total", outcome="hit") == 1


async def test_an_event_makes_the_next_answer_computed_and_its_history_one_longer(house: House) -> None:
    house.did("u", ("click", "shoe"))
    await house.predict(user_id="u")
    event = {"event_id": "e1", "user_id": "u", "item_id": "hat", "type": "purchase", "value": 40.0}
    assert (await house.client.post("/events", json={"events": [event]})).json()["accepted"] == 1
    answer = await house.predict(user_id="u")
    assert answer["provenance"]["state"] == "computed"
    assert answer["provenance"]["history"] == 2
    assert house.sample("foretell_state_lookups_total", outcome="stale") == 1


async def test_an_event_between_history_and_write_back_leaves_no_state_behind(house: House) -> None:
    """The state was computed under a generation that is gone: the compare-and-set refuses it."""
    house.did("u", ("click", "shoe"))
    read = house.history.recent

    async def read_then_event(user_id: str, limit: int) -> Any:
        record = await read(user_id, limit)
        await house.states.invalidate([user_id])
        return record

    house.history.recent = read_then_event  # type: ignore[method-assign]
    await house.predict(user_id="u")
    assert (await house.predict(user_id="u"))["provenance"]["state"] == "computed"


async def test_a_session_is_added_to_the_history_and_never_cached(house: House) -> None:
    house.did("u", ("click", "shoe"))
    session = [{"type": "click", "item_id": "sock"}, {"type": "cart", "item_id": "hat", "at": "2026-01-31T11:59:30Z"}]
    answer = await house.predict(user_id="u", session=session)
    assert answer["provenance"]["state"] == "session"
    assert answer["provenance"]["history"] == 3
    assert house.model.encoded[0]["items"].tolist() == [0, 2, 5, 4]  # in time order, newest last
    assert (await house.predict(user_id="u"))["provenance"]["state"] == "computed"


async def test_what_was_shown_in_the_session_counts(house: House) -> None:
    seen = {"type": "click", "item_id": "sock", "exposed": ["cap", "nobody's", "sock"]}
    await house.predict(session=[seen, {"type": "cart", "item_id": "sock"}])
    assert house.model.encoded[0]["exposed"].tolist() == [[0, 0], [0, 0], [1, 4], [0, 0]]  # the newest two
    assert house.model.encoded[0]["exposures"].tolist() == [0, 0, 4, 0]  # one more than there were, or nobody said


async def test_a_session_without_a_user_is_enough(house: House) -> None:
    answer = await house.predict(session=[{"type": "click", "item_id": "sock"}])
    assert answer["user_id"] is None
    assert answer["provenance"]["state"] == "session"
    assert answer["recommendations"][0]["reason"] == "history"
    assert house.history.reads == 0


async def test_an_empty_session_is_an_anonymous_visitor(house: House) -> None:
    assert (await house.predict(session=[]))["provenance"]["state"] == "anonymous"


async def test_the_context_reaches_the_model_with_profile_and_clock(house: House) -> None:
    """device desktop is 3, country FR is 3, and 07:xx UTC is hour 2 + 7."""
    house.did("u", ("click", "shoe"))
    house.history.profiles["u"] = {"country": "FR"}
    context = {"device": "desktop", "at": "2026-01-31T08:30:00+01:00", "weather": "rain"}
    await house.predict(user_id="u", context=context)
    await house.predict(user_id="u", context={"device": "watch"})
    assert house.model.contexts == [[3, 3, 9], [1, 3, 14]]  # the second from the cache, at noon


async def test_an_item_only_the_catalogue_knows_is_predicted_from_its_content(house: House) -> None:
    answer = await house.predict(user_id="u", items=["glove"])
    assert [entry["item_id"] for entry in answer["predictions"]] == ["glove"]
    assert answer["warnings"] == []
    assert answer["predictions"][0]["expected"] == {"amount": 20.0}


async def test_a_changed_content_counts_at_once(house: House) -> None:
    await house.predict(user_id="u", items=["glove"])
    house.catalogue.contents["glove"] = ItemContent("Fine glove", ("hands",), 35.0, available=True)
    answer = await house.predict(user_id="u", items=["glove"], rank="items")
    assert answer["predictions"][0]["expected"] == {"amount": 35.0}
    assert answer["recommendations"][0]["title"] == "Fine glove"


async def test_newcomers_of_one_request_keep_their_own_content(house: House) -> None:
    house.catalogue.contents["mitten"] = ItemContent("Mitten", ("hands",), 12.0, available=True)
    answer = await house.predict(user_id="u", items=["mitten", "ghost", "shoe", "glove"], rank="items")
    amounts = {entry["item_id"]: entry["expected"]["amount"] for entry in answer["predictions"]}
    assert amounts == {"mitten": 12.0, "shoe": 20.0, "glove": 20.0}
    assert {entry["item_id"]: entry["title"] for entry in answer["recommendations"]} == {
        "mitten": "Mitten",
        "shoe": "Red shoe",
        "glove": "Glove",
    }


async def test_an_item_nobody_knows_is_left_out_and_named_once(house: House) -> None:
    answer = await house.predict(user_id="u", items=["ghost", "shoe", "ghost"])
    assert [entry["item_id"] for entry in answer["predictions"]] == ["shoe"]
    assert answer["warnings"] == [{"code": "unknown_item", "item_id": "ghost"}]


async def test_only_unknown_items_are_no_error(house: House) -> None:
    answer = await house.predict(user_id="u", items=["ghost"], rank="items")
    assert (answer["predictions"], answer["recommendations"]) == ([], [])


async def test_rank_items_ranks_the_named_items_and_nothing_else(house: House) -> None:
    answer = await house.predict(user_id="u", items=["scarf", "glove", "boot", "scarf"], rank="items")
    assert _items(answer) == ["boot", "scarf", "glove"]
    assert {entry["reason"] for entry in answer["recommendations"]} == {"requested"}
    assert house.sample("foretell_stage_seconds_count", stage="recommend") == 0


async def test_category_and_price_filters_hold(house: House) -> None:
    assert _items(await house.predict(user_id="u", filters={"categories": ["head"]})) == ["hat", "cap", "scarf"]
    assert _items(await house.predict(user_id="u", filters={"categories": ["socks", "scarves"]})) == ["sock", "scarf"]
    assert _items(await house.predict(user_id="u", filters={"price": {"min": 15, "max": 80}})) == ["shoe", "hat", "cap"]


async def test_filters_hold_for_named_items_too(house: House) -> None:
    answer = await house.predict(
        user_id="u", items=["glove", "boot", "hat"], rank="items", filters={"categories": ["head", "hands"]}
    )
    assert _items(answer) == ["hat", "glove"]
    assert len(answer["predictions"]) == 3


async def test_filters_that_nothing_passes_give_no_recommendations(house: House) -> None:
    assert _items(await house.predict(user_id="u", filters={"categories": ["cars"]})) == []


@pytest.mark.parametrize("cached", [False, True])
async def test_seen_items_are_excluded_whether_or_not_the_state_is_cached(house: House, cached: bool) -> None:
    house.did("u", ("purchase", "shoe"), ("click", "boot"))
    if cached:
        await house.predict(user_id="u")
    answer = await house.predict(user_id="u", k=2, filters={"exclude_seen": ["purchase"]})
    assert _items(answer) == ["boot", "sock"]
    assert answer["provenance"]["state"] == ("cached" if cached else "computed")
    assert house.history.reads == 1


async def test_diversity_spreads_the_categories(house: House) -> None:
    """boot shares shoe's category and is worth 0 at diversity 1; so is cap after hat."""
    answer = await house.predict(user_id="u", k=6, diversity=1.0)
    assert _items(answer)[:4] == ["shoe", "sock", "hat", "scarf"]
    scores = [entry["score"] for entry in answer["recommendations"]]
    assert scores == sorted(scores, reverse=True)


async def test_exploration_still_recommends_k_different_items(house: House) -> None:
    assert len(set(_items(await house.predict(user_id="u", k=4, exploration=1.0)))) == 4


async def test_without_redis_the_answer_is_computed_and_says_so(house: House) -> None:
    house.did("u", ("click", "shoe"))
    house.states.lost = True
    provenance = (await house.predict(user_id="u"))["provenance"]
    assert provenance == {"state": "computed", "state_age_ms": 0, "history": 1, "degraded": ["cache"]}
    assert house.sample("foretell_state_lookups_total", outcome="bypass") == 1
    assert house.sample("foretell_degraded_total", part="cache") == 1


async def test_without_mongo_a_cached_state_still_answers(house: House) -> None:
    house.did("u", ("click", "shoe"))
    await house.predict(user_id="u")
    house.history.lost = True
    assert (await house.predict(user_id="u"))["provenance"]["degraded"] == []


async def test_without_mongo_and_state_the_answer_is_popularity_and_is_not_cached(house: House) -> None:
    house.did("u", ("click", "shoe"))
    house.history.lost = True
    answer = await house.predict(user_id="u")
    assert answer["provenance"]["state"] == "anonymous"
    assert answer["provenance"]["degraded"] == ["history"]
    assert len(answer["recommendations"]) == 6
    house.history.lost = False
    assert (await house.predict(user_id="u"))["provenance"]["state"] == "computed"


async def test_without_mongo_the_session_still_counts(house: House) -> None:
    house.history.lost = True
    answer = await house.predict(user_id="u", session=[{"type": "click", "item_id": "sock"}])
    assert answer["provenance"]["state"] == "session"
    assert answer["provenance"]["degraded"] == ["history"]


async def test_without_mongo_a_cached_state_goes_before_the_session(house: House) -> None:
    house.did("u", ("click", "shoe"), ("cart", "hat"))
    await house.predict(user_id="u")
    house.history.lost = True
    answer = await house.predict(user_id="u", session=[{"type": "click", "item_id": "sock"}])
    assert (answer["provenance"]["state"], answer["provenance"]["history"]) == ("cached", 2)
    assert answer["provenance"]["degraded"] == ["history"]


async def test_without_both_stores_the_session_counts_and_both_are_named(house: House) -> None:
    house.did("u", ("click", "shoe"))
    house.history.lost = house.states.lost = True
    answer = await house.predict(user_id="u", session=[{"type": "click", "item_id": "sock"}])
    assert (answer["provenance"]["state"], answer["provenance"]["history"]) == ("session", 1)
    assert answer["provenance"]["degraded"] == ["cache", "history"]
    for part in ("cache", "history"):
        assert house.sample("foretell_degraded_total", part=part) == 1


async def test_without_both_stores_a_session_of_nobody_lacks_nothing(house: House) -> None:
    house.history.lost = house.states.lost = True
    answer = await house.predict(session=[{"type": "click", "item_id": "sock"}])
    assert (answer["provenance"]["state"], answer["provenance"]["degraded"]) == ("session", [])


async def test_without_both_stores_there_is_still_an_answer(house: House) -> None:
    house.history.lost = house.states.lost = house.catalogue.lost = True
    answer = await house.predict(user_id="u", items=["glove", "hat"], filters={"exclude_seen": ["click"]})
    assert answer["provenance"]["degraded"] == ["cache", "history"]
    assert [entry["item_id"] for entry in answer["predictions"]] == ["hat"]
    assert answer["warnings"] == [{"code": "unknown_item", "item_id": "glove"}]


async def test_every_stage_is_timed(house: House) -> None:
    house.did("u", ("click", "shoe"))
    await house.predict(user_id="u")
    stages = ("cache", "history", "encode", "recommend", "rank")
    assert all(house.sample("foretell_stage_seconds_count", stage=stage) for stage in stages)


@pytest.mark.parametrize(
    ("request_", "field", "says"),
    [
        ({"k": 5}, "user_id", "send user_id, session or both"),
        ({"user_id": "u", "k": 201}, "k", "at most 200"),
        ({"user_id": "u", "rank": "items"}, "items", "name the items"),
        ({"user_id": "u", "objective": {"cart": 1}}, "objective.cart", "click, purchase"),
        ({"user_id": "u", "objective": {"click": 0}}, "objective", "not 0"),
        ({"user_id": "u", "session": [{"type": "nap", "item_id": "i"}]}, "session.0.type", "click, cart, purchase"),
        ({"user_id": "u", "filters": {"exclude_seen": ["nap"]}}, "filters.exclude_seen.0", "click, cart, purchase"),
    ],
)
async def test_what_the_model_cannot_do_is_refused_with_the_field_named(
    house: House, request_: dict[str, Any], field: str, says: str
) -> None:
    response = await house.client.post("/predict", json=request_)
    assert response.status_code == 422
    body = response.json()
    assert body["error"] == "invalid_payload"
    assert [problem["field"] for problem in body["fields"]] == [field]
    assert says in body["detail"]


async def test_under_overload_a_request_is_refused_before_anything_is_spent_on_it(house: House) -> None:
    house.model.overloaded = True
    response = await house.client.post("/predict", content=b"not even JSON")
    assert (response.status_code, response.headers["retry-after"]) == (503, "3")
    assert response.json()["error"] == "overloaded"


async def test_a_full_queue_is_503_with_retry_after(house: House) -> None:
    house.model.failure = Overloaded("The model's queue is full.")
    response = await house.client.post("/predict", json={"user_id": "u"})
    assert response.status_code == 503
    assert response.headers["retry-after"] == "1"
    assert response.json() == {"error": "overloaded", "detail": "The model's queue is full."}


async def test_a_passed_deadline_is_504(artifact: Artifact, house: House) -> None:
    settings = house.settings.model_copy(update={"deadline_ms": 20})
    hanging = House(FakeRuntime(artifact), settings)
    hanging.model.hangs = True
    async with serving(hanging):
        response = await hanging.client.post("/predict", json={"user_id": "u"})
    assert response.status_code == 504
    assert response.json()["error"] == "deadline_exceeded"


async def test_a_body_that_trickles_in_is_504_at_the_deadline(artifact: Artifact, house: House) -> None:
    """The deadline counts from the request's arrival; without it this request would never end."""
    slow = House(FakeRuntime(artifact), house.settings.model_copy(update={"deadline_ms": 20}))

    async def body() -> AsyncIterator[bytes]:
        yield b'{"user_id":'
        await asyncio.Event().wait()

    async with serving(slow):
        request = slow.client.post("/predict", content=body(), headers={"content-type": "application/json"})
        response = await asyncio.wait_for(request, 60)
    assert response.status_code == 504


async def test_the_deadline_counts_from_the_arrival(house: House) -> None:
    """A request that arrived an hour ago, by the middleware's clock, is too late before its body is read."""

    async def receive() -> Message:
        await asyncio.sleep(0)  # one turn of the loop, as a socket would need
        return {"type": "http.request", "body": b'{"user_id": "u"}'}

    headers = [(b"content-type", b"application/json")]
    scope = {"type": "http", "headers": headers, ARRIVED: time.perf_counter() - 3600, REQUEST_ID: "r1"}
    app = create_app(house.settings, open_state=house.open)
    async with house.open(house.settings, Metrics()) as state:
        with pytest.raises(DeadlineExceeded):
            await predict(Request(scope | {"app": app, "state": state}, receive))
