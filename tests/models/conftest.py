"""A hand-made contract, small enough to compute by hand, and a trained model of a small synthetic shop."""

from __future__ import annotations

import pytest

from models.contract import Behaviour, Contract, Field
from models.datasets.dataset import Dataset
from models.datasets.storefront import simulate
from models.log import Log, build_contract, build_log, build_vocabulary, split_by_time
from models.vocabulary import Vocabulary


@pytest.fixture(scope="session")
def vocabulary() -> Vocabulary:
    return Vocabulary(
        ["a", "b", "c"], {"device": ["mobile", "web"], "country": ["DE", "FR"]}, [["food", "toys"], ["bread", "cars"]]
    )


@pytest.fixture(scope="session")
def contract() -> Contract:
    return Contract(
        behaviours=(
            Behaviour("click", target=True, weight=0.1),
            Behaviour("cart"),
            Behaviour("purchase", target=True, value="amount", weight=1.0),
        ),
        fields=(
            Field("hour", "clock", 26),
            Field("weekday", "clock", 9),
            Field("since_last", "clock", 32),
            Field("device", "request", 4),
            Field("country", "user", 4),
        ),
        category_sizes=(4, 4),
        history_length=4,
        state_shape=(4, 11),
        state_dtype="float16",
        items=5,
        retrieval_size=3,
        value_scales={"amount": 10.0},
        price_mean=1.0,
        price_std=0.5,
        exposed=3,
    )


@pytest.fixture(scope="session")
def shop() -> Dataset:
    """A small synthetic shop with exposures."""
    return simulate(seed=3, users=80, items=120, events=12_000)


@pytest.fixture(scope="session")
def log(shop: Dataset) -> Log:
    """The small shop as columns of ids."""
    split = split_by_time(shop)
    vocabulary = build_vocabulary(shop, split.validation)
    contract = build_contract(shop, vocabulary, shop.domain, split.validation, history_length=8, negatives=2)
    return build_log(shop, vocabulary, contract, split.validation)
