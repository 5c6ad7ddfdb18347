"""How deep JSON may be nested."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.nesting import deeper_than
from tests.app.conftest import House


def depth(value: Any) -> int:
    """Levels of arrays and objects, by the definition."""
    if isinstance(value, dict):
        return 1 + max(map(depth, value.values()), default=0)
    if isinstance(value, list):
        return 1 + max(map(depth, value), default=0)
    return 0


VALUES = st.recursive(
    st.text() | st.integers() | st.none(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=40,
)


@given(VALUES, st.booleans())
def test_it_is_what_the_parsed_value_says(value: Any, ascii_only: bool) -> None:
    body = json.dumps(value, ensure_ascii=ascii_only).encode()
    for limit in range(7):
        assert deeper_than(body, limit) == (depth(value) > limit)


@pytest.mark.parametrize(
    ("body", "deep"),
    [
        (b"[" * 3, True),
        (b"[[]" * 3, True),
        (b"[][][]", False),
        (b'"[[["', False),
        (b'"[[[', False),
        (rb'"\"[[["', False),
        (rb'"\\"[[[', True),
        (b"]]][[[", False),
        (b"", False),
    ],
)
def test_brackets_count_outside_of_strings_only_also_in_what_is_no_json(body: bytes, deep: bool) -> None:
    assert deeper_than(body, 2) == deep


async def test_a_body_nested_too_deep_is_422_before_it_is_parsed(house: House) -> None:
    limit = house.settings.json_depth
    body = b'{"user_id": "u", "context": ' + b"[" * limit + b"]" * limit + b"}"
    response = await house.client.post("/predict", content=body, headers={"content-type": "application/json"})
    assert (response.status_code, response.json()["error"]) == (422, "invalid_payload")
    assert response.json()["fields"] == [{"field": "body", "problem": f"must not be nested deeper than {limit} levels"}]


async def test_a_million_brackets_are_refused_like_one_too_many(house: House) -> None:
    response = await house.client.post("/events", content=b"[" * 10**6, headers={"content-type": "application/json"})
    assert response.json()["detail"].startswith("body: must not be nested deeper")
