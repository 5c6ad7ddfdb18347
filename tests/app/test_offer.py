"""Filters judge an item the same way, whether the model's vocabulary has it or only the catalogue."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from app.offer import Filtered
from app.schemas import Filters, Price
from tests.app.fakes import CONTRACT, ITEMS, VOCABULARY, FakeCatalogue

prices = st.none() | st.sampled_from([0.0, 8.0, 15.0, 40.0, 79.0, 80.0, 200.0])
categories = st.none() | st.lists(st.sampled_from(["feet", "head", "shoes", "hats", "cars"]), min_size=1)


@given(categories, prices, prices, st.sets(st.sampled_from(ITEMS)))
def test_mask_and_content_agree_and_hold_what_the_filters_say(
    wanted: list[str] | None, low: float | None, high: float | None, seen: set[str]
) -> None:
    if low is not None and high is not None and low > high:
        low, high = high, low
    catalogue = FakeCatalogue()
    filtered = Filtered(Filters(categories=wanted, price=Price(min=low, max=high)), catalogue, seen)
    for name in ITEMS:
        content = catalogue.contents[name]
        passes = filtered.passes(name, VOCABULARY.item_id(name))
        assert passes == filtered.passes(name, CONTRACT.items, content)
        if passes:
            assert name not in seen
            assert wanted is None or set(wanted) & set(content.categories)
            assert low is None or (content.price is not None and content.price >= low)
            assert high is None or (content.price is not None and content.price <= high)


def test_an_empty_price_range_asks_for_nothing() -> None:
    filtered = Filtered(Filters(price=Price()), FakeCatalogue(), set())
    assert filtered.mask is None
    assert filtered.passes("scarf", CONTRACT.items, FakeCatalogue().contents["scarf"])
