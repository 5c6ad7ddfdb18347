"""POST /events over fakes."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from app.errors import HistoryUnavailable, Overloaded
from app.event_store import Inserted, StoredEvent
from app.ingest import Ingest
from app.metrics import Metrics
from app.replies import EventsResponse
from app.schemas import EventIn, EventsRequest
from models.contract import EXPOSURES
from tests.app.conftest import NOW, House
from tests.app.fakes import CONTRACT, FakeStates


def _event(event_id: str, **changes: Any) -> dict[str, Any]:
    return {"event_id": event_id, "user_id": "u", "item_id": "shoe", "type": "click"} | changes


async def _post(house: House, *events: Any) -> dict[str, Any]:
    response = await house.client.post("/events", json={"events": list(events)})
    assert response.status_code == 200, response.text
    EventsResponse.model_validate(response.json(), extra="forbid")
    return dict(response.json())


async def test_an_accepted_event_is_stored_as_it_was_sent(house: House) -> None:
    sent = _event(
        "e1", type="purchase", value=80, at="2026-01-31T12:00:00+01:00", request_id="r1", context={"device": "mobile"}
    )
    assert await _post(house, sent) == {"accepted": 1, "duplicates": 0, "rejected": [], "degraded": []}
    assert house.store.events["e1"] == StoredEvent(
        event_id="e1",
        user_id="u",
        item_id="shoe",
        type="purchase",
        at=datetime(2026, 1, 31, 11, tzinfo=UTC),
        value=80.0,
        request_id="r1",
        context={"device": "mobile"},
    )


async def test_of_what_was_shown_before_an_event_as_much_is_kept_as_a_model_can_take(house: House) -> None:
    many = [f"i{n}" for n in range(200)]
    answer = await _post(house, _event("e1", exposed=many), _event("e2"), _event("e3", exposed=[*many, "one more"]))
    assert house.store.events["e1"].exposed == many[-EXPOSURES:]
    assert house.store.events["e2"].exposed is None
    assert [(r["index"], r["error"]) for r in answer["rejected"]] == [(2, "invalid")]
    assert answer["rejected"][0]["detail"].startswith("exposed: ")
    await _post(house, _event("e2"), _event("e4", exposed=[]))
    assert house.sample("foretell_untold_events_total") == 1  # e2, once


async def test_a_model_that_does_not_use_what_was_shown_misses_it_in_no_event() -> None:
    store, metrics = SlowStore(), Metrics()
    store.answer.set()
    ingest = Ingest(store, FakeStates(), replace(CONTRACT, exposed=0), metrics, limit=3)
    assert (await ingest.accept(EventsRequest(events=[EventIn(**_event("e1"))])))["accepted"] == 1
    assert metrics.registry.get_sample_value("foretell_untold_events_total") == 0


async def test_an_event_without_a_time_happened_now(house: House) -> None:
    await _post(house, _event("e1"))
    assert house.store.events["e1"].at.timestamp() == NOW


async def test_a_repeated_event_is_stored_once_and_reported_as_duplicate(house: House) -> None:
    await _post(house, _event("e1"))
    answer = await _post(house, _event("e1"), _event("e2"), _event("e2"))
    assert (answer["accepted"], answer["duplicates"]) == (1, 2)


async def test_users_of_duplicates_are_invalidated_too(house: House) -> None:
    """The first attempt may have stored the event and died before it invalidated."""
    await _post(house, _event("e1"))
    house.states.invalidated.clear()
    await _post(house, _event("e1"))
    assert house.states.invalidated == ["u"]


@pytest.mark.parametrize(
    ("event", "error", "says"),
    [
        (_event("e", type="nap"), "unknown_type", "click, cart, purchase"),
        (_event("e", type="exposure"), "unknown_type", "click, cart, purchase"),
        (_event("e", at="2026-01-31T12:05:01Z"), "clock_skew", "300 seconds"),
        (_event("e", at="1999-12-31T23:59:59Z"), "too_old", "2000"),
        (_event("e", at="0001-01-01T00:00:00+14:00"), "invalid", "at: "),
        (_event(""), "invalid", "event_id: "),
        (_event("e" * 129), "invalid", "event_id: "),
        (_event("e", user_id=7), "invalid", "user_id: "),
        (_event("e", value="much"), "invalid", "value: "),
        (_event("e", context={"a.b": 1}), "invalid", "context.a.b"),
        (_event("e", colour="red"), "invalid", "colour: "),
        (7, "invalid", "body: "),
    ],
)
async def test_a_bad_event_is_rejected_alone(house: House, event: Any, error: str, says: str) -> None:
    answer = await _post(house, _event("good"), event)
    assert answer["accepted"] == 1
    [rejected] = answer["rejected"]
    assert (rejected["index"], rejected["error"]) == (1, error)
    assert says in rejected["detail"]


async def test_five_minutes_of_clock_difference_are_fine(house: House) -> None:
    assert (await _post(house, _event("e", at="2026-01-31T12:05:00Z")))["accepted"] == 1


async def test_without_mongo_nothing_is_acknowledged(house: House) -> None:
    house.store.lost = True
    response = await house.client.post("/events", json={"events": [_event("e1")]})
    assert response.status_code == 503
    assert response.json()["error"] == "history_unavailable"
    assert response.headers["retry-after"] == "1"
    assert house.states.invalidated == []


async def test_without_redis_the_event_is_accepted_and_the_answer_says_so(house: House) -> None:
    house.states.lost = True
    answer = await _post(house, _event("e1"))
    assert (answer["accepted"], answer["degraded"]) == (1, ["cache"])


class SlowStore:
    """Takes its time until ``answer`` is set."""

    def __init__(self) -> None:
        self.asked, self.answer = asyncio.Event(), asyncio.Event()

    async def insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """See :class:`app.ingest.Store`."""
        self.asked.set()
        await self.answer.wait()
        return Inserted(list(range(len(events))), [])


async def test_more_events_than_may_be_under_way_are_refused_and_later_ones_are_not() -> None:
    store, metrics = SlowStore(), Metrics()
    ingest = Ingest(store, FakeStates(), CONTRACT, metrics, limit=3)

    def batch(size: int) -> EventsRequest:
        return EventsRequest(events=[EventIn(**_event(f"e{n}")) for n in range(size)])

    first = asyncio.create_task(ingest.accept(batch(2)))
    await store.asked.wait()
    with pytest.raises(Overloaded) as refused:
        await ingest.accept(batch(2))
    assert (refused.value.status, refused.value.headers) == (503, {"Retry-After": "1"})
    third = asyncio.create_task(ingest.accept(batch(1)))
    store.answer.set()
    assert [(await task)["accepted"] for task in (first, third)] == [2, 1]
    assert (await ingest.accept(batch(5)))["accepted"] == 5  # alone, a batch of any size is let in
    assert metrics.registry.get_sample_value("foretell_events_total", {"outcome": "refused"}) == 2


async def test_events_that_are_stored_count_where_the_answer_is_an_error_and_erased_ones_do_not() -> None:
    store, metrics = SlowStore(), Metrics()
    store.answer.set()
    told: list[Exception | set[str]] = [HistoryUnavailable("MongoDB did not answer."), {"u"}]

    async def keep_out(user_ids: Collection[str]) -> set[str]:
        if isinstance(answer := told.pop(0), Exception):
            raise answer
        return answer

    def counted(outcome: str) -> float | None:
        return metrics.registry.get_sample_value("foretell_events_total", {"outcome": outcome})

    ingest = Ingest(store, FakeStates(), CONTRACT, metrics, limit=3, keep_out=keep_out)
    with pytest.raises(HistoryUnavailable):
        await ingest.accept(EventsRequest(events=[EventIn(**_event("e1"))]))
    assert (counted("accepted"), counted("rejected")) == (1, 0)
    assert (await ingest.accept(EventsRequest(events=[EventIn(**_event("e2"))])))["accepted"] == 0
    assert (counted("accepted"), counted("rejected")) == (1, 1)
    assert metrics.registry.get_sample_value("foretell_untold_events_total") == 0


async def test_events_are_counted_by_outcome(house: House) -> None:
    await _post(house, _event("e1"), _event("e1"), _event("e2", type="nap"))
    counts = {o: house.sample("foretell_events_total", outcome=o) for o in ("accepted", "duplicate", "rejected")}
    assert counts == {"accepted": 1, "duplicate": 1, "rejected": 1}
