"""The wire's types: what is refused, and which field is named for it."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from pydantic import ValidationError

from app.errors import problems
from app.schemas import EventIn, EventsRequest, PredictRequest


def _faults(body: str | bytes, schema: type[PredictRequest] | type[EventsRequest] = PredictRequest) -> list[str]:
    with pytest.raises(ValidationError) as caught:
        schema.model_validate_json(body)
    return [problem.field for problem in problems(caught.value)]


@pytest.mark.parametrize(
    ("body", "field"),
    [
        (b"", "body"),
        (b"nonsense", "body"),
        (b"[]", "body"),
        (b"[" * 100_000, "body"),
        (b'{"user_id":"\\ud800"}', "body"),
        (b'{"user_id":"\xff"}', "body"),
        (b'{"user_id":""}', "user_id"),
        (b'{"user_id":7}', "user_id"),
        (b'{"user_id":"a\\u0000b"}', "user_id"),
        (b'{"user_id":"' + b"u" * 257 + b'"}', "user_id"),
        (b'{"user":"u"}', "user"),
        (b'{"user_id":"u","k":0}', "k"),
        (b'{"user_id":"u","k":1000000}', "k"),
        (b'{"user_id":"u","k":"20"}', "k"),
        (b'{"user_id":"u","k":true}', "k"),
        (b'{"user_id":"u","k":2.0}', "k"),
        (b'{"user_id":"u","items":"i"}', "items"),
        (b'{"user_id":"u","items":[1]}', "items.0"),
        (b'{"user_id":"u","items":[' + b",".join([b'"i"'] * 10_001) + b"]}", "items"),
        (b'{"user_id":"u","diversity":NaN}', "diversity"),
        (b'{"user_id":"u","diversity":1.1}', "diversity"),
        (b'{"user_id":"u","exploration":-0.1}', "exploration"),
        (b'{"user_id":"u","objective":{}}', "objective"),
        (b'{"user_id":"u","objective":{"click":NaN}}', "objective.click"),
        (b'{"user_id":"u","objective":{"click":1e999}}', "objective.click"),
        (b'{"user_id":"u","context":{"device":["x"]}}', "context.device"),
        (b'{"user_id":"u","context":{"device":NaN}}', "context.device"),
        (b'{"user_id":"u","context":{"device":null}}', "context.device"),
        (b'{"user_id":"u","context":{"9lives":1}}', "context.9lives"),
        (b'{"user_id":"u","context":{"at":"yesterday"}}', "context.at"),
        (b'{"user_id":"u","context":{"at":1700000000}}', "context.at"),
        (b'{"user_id":"u","context":{"at":"1999-12-31T23:59:59Z"}}', "context.at"),
        (b'{"user_id":"u","context":{"at":"0001-01-01T00:00:00+14:00"}}', "context.at"),
        (b'{"user_id":"u","session":[{"type":"click"}]}', "session.0.item_id"),
        (b'{"user_id":"u","session":[{"type":"click","item_id":"i","value":Infinity}]}', "session.0.value"),
        (b'{"user_id":"u","filters":{"price":{"min":-1}}}', "filters.price.min"),
        (b'{"user_id":"u","filters":{"price":{"min":2,"max":1}}}', "filters.price"),
        (b'{"user_id":"u","rank":"everything"}', "rank"),
    ],
)
def test_a_bad_request_is_refused_and_its_field_named(body: bytes, field: str) -> None:
    assert _faults(body) == [field]


def test_a_context_has_at_most_32_fields() -> None:
    fields = ",".join(f'"f{n}":1' for n in range(33))
    assert _faults('{"user_id":"u","context":{' + fields + "}}") == ["context"]


def test_a_session_has_at_most_200_events() -> None:
    event = '{"type":"click","item_id":"i"}'
    assert _faults('{"user_id":"u","session":[' + ",".join([event] * 201) + "]}") == ["session"]


def test_every_field_at_fault_is_named_but_not_more_than_twenty() -> None:
    assert _faults('{"k":0,"diversity":2}') == ["k", "diversity"]
    objective = ",".join(f'"t{n}":"x"' for n in range(32))
    assert len(_faults('{"objective":{' + objective + "}}")) == 20


def test_a_time_with_an_offset_becomes_utc_and_one_without_is_utc() -> None:
    at = '{"user_id":"u","context":{"at":"2026-01-31T12:00:00+02:00"}}'
    assert PredictRequest.model_validate_json(at).context.at == datetime(2026, 1, 31, 10, tzinfo=UTC)
    at = '{"user_id":"u","context":{"at":"2026-01-31T12:00:00"}}'
    assert PredictRequest.model_validate_json(at).context.at == datetime(2026, 1, 31, 12, tzinfo=UTC)


def test_a_context_keeps_its_values_types() -> None:
    request = PredictRequest.model_validate_json('{"user_id":"u","context":{"a":"x","b":2,"c":true,"d":0.5}}')
    assert request.context.fields == {"a": "x", "b": 2, "c": True, "d": 0.5}
    assert request.context.fields["c"] is True


def test_two_requests_do_not_share_their_defaults() -> None:
    first, second = (PredictRequest.model_validate_json('{"user_id":"u"}') for _ in range(2))
    first.context.fields["device"] = "mobile"
    assert second.context.fields == {}


def test_an_invalid_event_does_not_spoil_its_neighbours() -> None:
    good = '{"event_id":"e","user_id":"u","item_id":"i","type":"click"}'
    batch = EventsRequest.model_validate_json('{"events":[' + good + ',{"event_id":"f"},3,' + good + "]}")
    assert [isinstance(event, EventIn) for event in batch.events] == [True, False, False, True]


@pytest.mark.parametrize("count", [0, 1001])
def test_a_batch_has_1_to_1000_events(count: int) -> None:
    assert _faults('{"events":[' + ",".join(["{}"] * count) + "]}", EventsRequest) == ["events"]


def test_the_examples_of_the_page_are_valid_requests() -> None:
    for schema in (PredictRequest, EventsRequest):
        extra = schema.model_config["json_schema_extra"]
        assert isinstance(extra, dict)
        examples = extra["examples"]
        assert isinstance(examples, list)
        for example in examples:
            validated = schema.model_validate(example)
            assert validated.model_dump(exclude_unset=True, mode="json") == example
