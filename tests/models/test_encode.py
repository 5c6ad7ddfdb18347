"""The one encoder: expected arrays computed by hand."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.contract import EXPOSURES, GAP_BUCKETS, OLDEST, PAD, UNKNOWN, Contract
from models.encode import (
    Event,
    encode_clock,
    encode_context,
    encode_history,
    encode_items,
    encode_profile,
    gap_bucket,
    hours,
    state_events,
    to_history,
)
from models.vocabulary import Vocabulary

EVENTS = [
    Event("a", "click", 1000.0),
    Event("b", "cart", 1000.0),
    Event("zzz", "dance", 1007.0),
    Event("b", "purchase", 1107.0, 30.0),
]


def test_histories_are_padded_on_the_left_with_zero(contract: Contract, vocabulary: Vocabulary) -> None:
    arrays = encode_history(to_history(EVENTS[:2], vocabulary, contract), contract)
    assert arrays["items"].tolist() == [PAD, PAD, 2, 3]
    assert arrays["types"].tolist() == [PAD, PAD, 2, 3]
    assert arrays["gaps"].tolist() == [0, 0, 0, 1]
    assert arrays["values"].tolist() == [0, 0, 0, 0]


def test_unknown_items_and_types_gaps_and_values(contract: Contract, vocabulary: Vocabulary) -> None:
    arrays = encode_history(to_history(EVENTS, vocabulary, contract), contract)
    assert arrays["items"].tolist() == [2, 3, UNKNOWN, 3]
    assert arrays["types"].tolist() == [2, 3, UNKNOWN, 4]
    # gaps of 0 s, 7 s and 100 s: 1 + floor(log2(1 + gap))
    assert arrays["gaps"].tolist() == [0, 1, 4, 7]
    # 30 is three times the scale of an amount
    np.testing.assert_allclose(arrays["values"], [0, 0, 0, math.log(4)], rtol=1e-6)
    np.testing.assert_allclose(arrays["ages"], [107 / 3600, 107 / 3600, 100 / 3600, 0], rtol=1e-6)


def test_what_is_older_than_a_state_can_say_is_as_old_as_it_can_say(contract: Contract, vocabulary: Vocabulary) -> None:
    events = [Event("a", "click", 0.0), Event("a", "click", 1e9)]
    ages = encode_history(to_history(events, vocabulary, contract), contract)["ages"]
    assert ages.tolist() == [0, 0, OLDEST, 0]
    assert np.isfinite(ages.astype(contract.state_dtype)).all()


def test_only_the_newest_events_count_and_the_first_gap_is_unknown(contract: Contract, vocabulary: Vocabulary) -> None:
    longer = [Event("c", "click", 1.0), *EVENTS]
    want = encode_history(to_history(EVENTS, vocabulary, contract), contract)
    got = encode_history(to_history(longer, vocabulary, contract), contract)
    for name, array in want.items():
        np.testing.assert_array_equal(got[name], array)


def test_of_what_was_shown_before_each_event_the_newest_count(contract: Contract, vocabulary: Vocabulary) -> None:
    events = [Event("a", "click", 1.0, exposed=["c"]), Event("a", "click", 2.0, exposed=["b", "b", "zzz", "a"])]
    arrays = encode_history(to_history([*events, Event("b", "cart", 3.0)], vocabulary, contract), contract)
    assert arrays["exposed"].tolist() == [[PAD] * 3, [PAD, PAD, 4], [3, UNKNOWN, 2], [PAD] * 3]
    assert arrays["exposures"].tolist() == [
        0,
        2,
        5,
        0,
    ]  # one more than there were; nobody said what was before the cart
    ends = [Event("a", "click", 1.0, exposed=[]), Event("a", "click", 2.0, exposed=["b"] * 200)]
    arrays = encode_history(to_history(ends, vocabulary, contract), contract)
    assert arrays["exposed"].tolist() == [[PAD] * 3] * 3 + [[3] * 3]
    assert arrays["exposures"].tolist() == [0, 0, 1, 1 + EXPOSURES]
    plain = replace(contract, exposed=0)
    assert not {"exposed", "exposures"} & encode_history(to_history(events, vocabulary, plain), plain).keys()


def test_no_history_is_all_padding(contract: Contract, vocabulary: Vocabulary) -> None:
    arrays = encode_history(to_history([], vocabulary, contract), contract)
    assert all(not array.any() for array in arrays.values())


def test_values_of_behaviours_without_a_value_and_impossible_values_are_zero(
    contract: Contract, vocabulary: Vocabulary
) -> None:
    events = [Event("a", "click", 1.0, 9.0), Event("a", "purchase", 2.0, -5.0), Event("a", "purchase", 3.0, math.nan)]
    assert not encode_history(to_history(events, vocabulary, contract), contract)["values"].any()


def test_context_has_clock_request_and_user_fields_in_contract_order(
    contract: Contract, vocabulary: Vocabulary
) -> None:
    profile = encode_profile({"country": "FR"}, vocabulary, contract)
    assert profile.tolist() == [3]
    # 1970-01-02 03:00 UTC, a Friday; one hour after the newest event: floor(log2(3601)) = 11
    at = 86400 + 3 * 3600.0
    row = encode_context({"device": "mobile", "odd": 1}, profile, at, at - 3600, vocabulary, contract)
    assert row.fields.tolist() == [2 + 3, 2 + 4, 1 + 11, 2, 3]
    assert row.since == 1.0


def test_without_history_since_last_is_pad_and_a_future_event_is_now(
    contract: Contract, vocabulary: Vocabulary
) -> None:
    profile = encode_profile({}, vocabulary, contract)
    nobody = encode_context({}, profile, 0.0, None, vocabulary, contract)
    assert (nobody.fields.tolist(), nobody.since) == ([2, 2 + 3, PAD, PAD, PAD], 0.0)
    ahead = encode_context({}, profile, 0.0, 60.0, vocabulary, contract)
    assert (ahead.fields[2], ahead.since) == (1, 0.0)


def test_item_content_is_category_ids_and_three_numbers(contract: Contract, vocabulary: Vocabulary) -> None:
    content = encode_items([["food", "bread"], []], [math.e - 1, None], [math.e**2 - 1, 0], vocabulary, contract)
    assert content["categories"].tolist() == [[2, 2], [PAD, PAD]]
    # log1p(price) = 1 is the mean; log1p(popularity) / 10 = 0.2
    np.testing.assert_allclose(content["numbers"], [[0.0, 1.0, 0.2], [0.0, 0.0, 0.0]], atol=1e-6)


@given(at=st.floats(-1e10, 1e12), last_at=st.none() | st.floats(-1e10, 1e12))
def test_the_clock_of_one_moment_is_that_of_many(
    contract: Contract, vocabulary: Vocabulary, at: float, last_at: float | None
) -> None:
    moment = encode_context({}, [PAD], at, last_at, vocabulary, contract)
    last = np.array([math.nan if last_at is None else last_at])
    clock = encode_clock(np.array([at]), last, contract)[0]
    assert moment.fields[clock >= 0].tolist() == clock[clock >= 0].tolist()
    assert moment.since == max(hours(at - last)[0], 0.0)


@given(st.floats(0, 1e12))
def test_gap_buckets_rise_and_stay_in_range(seconds: float) -> None:
    here, later = gap_bucket(np.array([seconds, 2 * seconds + 1]))
    assert 1 <= here <= later <= GAP_BUCKETS - 1


@given(
    st.lists(st.tuples(st.integers(0, 2048 * 2048 - 1), st.integers(0, 31), st.integers(0, 1 + EXPOSURES)), min_size=1)
)
def test_a_float16_state_remembers_every_item_and_type_exactly(events: list[tuple[int, int, int]]) -> None:
    rows = [[0.5, exposures * 32 + kind, item // 2048, item % 2048] for item, kind, exposures in events]
    items, types = state_events(np.array(rows, np.float16))
    assert list(zip(items.tolist(), types.tolist(), strict=True)) == [event[:2] for event in events]
