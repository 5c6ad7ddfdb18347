"""Filters judge an item the same way, whether the model's vocabulary has it or only the catalogue."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from app.offer import Filtered, Named
from app.schemas import Filters, Price
from models.contract import FIRST, PAD, UNKNOWN
from tests.app.fakes import CONTRACT, ITEMS, VOCABULARY, FakeCatalogue

prices = st.none() | st.sampled_from([0.0, 8.0, 15.0, 40.0, 79.0, 80.0, 200.0])
categories = st.none() | st.lists(st.sampled_from(["feet", "head", "shoes", "hats", "cars"]), min_size=1)


def names(filtered: Filtered, named: Named) -> list[str]:
    """External ids of the named items that pass."""
    by_id = {item: name for name, item in named.ids.items()}
    return [by_id[item] for item in filtered.of(named).tolist()]


@given(categories, prices, prices, st.sets(st.sampled_from(ITEMS)))
def test_mask_and_content_agree_and_hold_what_the_filters_say(
    wanted: list[str] | None, low: float | None, high: float | None, seen: set[str]
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    catalogue = FakeCatalogue()
    ids = VOCABULARY.item_ids(seen)
    filtered = Filtered(Filters(categories=wanted, price=Price(min=low, max=high)), catalogue, ids)
    known = Named.of(ITEMS, VOCABULARY, {}, CONTRACT.items)
    as_newcomers = Named.of(ITEMS, VOCABULARY, {name: catalogue.contents[name] for name in ITEMS}, CONTRACT.items)
    passing = names(filtered, known)
    assert passing == [name for name in names(filtered, as_newcomers) if name not in seen]
    for content in (catalogue.contents[name] for name in passing):
        assert wanted is None or set(wanted) & set(content.categories)
        assert low is None or (content.price is not None and content.price >= low)
        assert high is None or (content.price is not None and content.price <= high)
    mask = filtered.allowed.mask()
    assert passing == [name for name in ITEMS if mask[VOCABULARY.item_id(name)]]


def test_an_empty_price_range_asks_for_nothing() -> None:
    filtered = Filtered(Filters(price=Price()), FakeCatalogue(), np.zeros(0, np.int32))
    assert filtered.allowed.selection.count == len(ITEMS)
    contents = {"glove": FakeCatalogue().contents["glove"]}
    assert names(filtered, Named.of(["scarf", "glove"], VOCABULARY, contents, CONTRACT.items)) == ["scarf", "glove"]


def test_seen_items_are_left_out_by_internal_id_and_unknown_ones_are_harmless() -> None:
    seen = np.array([UNKNOWN, FIRST + 1, FIRST + 1], np.int32)
    mask = Filtered(Filters(), FakeCatalogue(), seen).allowed.mask()
    assert [item for item in range(CONTRACT.items) if not mask[item]] == [PAD, UNKNOWN, FIRST + 1]


def test_newcomers_get_ids_of_this_request_and_nobody_else_one() -> None:
    glove = FakeCatalogue().contents["glove"]
    named = Named.of(["ghost", "glove", "hat", "glove"], VOCABULARY, {"glove": glove}, CONTRACT.items)
    assert named.ids == {"glove": CONTRACT.items, "hat": VOCABULARY.item_id("hat")}
