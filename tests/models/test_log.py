"""A data set as columns: where it is cut in time, what becomes the contract, whose field is whose."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import polars as pl
import pytest

from models.datasets.dataset import Dataset
from models.decisions import event_decisions
from models.domain import load_domain
from models.log import build_contract, build_log, build_vocabulary, split_by_time

DAY = datetime(2026, 1, 1, tzinfo=UTC)


def events(times: list[datetime], **columns: list[Any]) -> pl.DataFrame:
    """Clicks of one user on one item, each with an id."""
    n = len(times)
    frame = pl.DataFrame({"event_id": [f"e{i:03d}" for i in range(n)], "user_id": ["u"] * n, "item_id": ["i"] * n})
    at = pl.Series("at", times, pl.Datetime("ms", "UTC"))
    rest = [pl.Series(name, values) for name, values in columns.items()]
    return frame.with_columns(at, *([] if "type" in columns else [pl.lit("click").alias("type")]), *rest)


def dataset(frame: pl.DataFrame, users: pl.DataFrame | None = None) -> Dataset:
    return Dataset.build("small", load_domain("ecommerce"), events=frame, users=users)


def test_the_last_tenths_of_the_events_are_validation_and_test() -> None:
    split = split_by_time(dataset(events([DAY + timedelta(hours=i) for i in range(20)])))
    assert split.validation == (DAY + timedelta(hours=16)).timestamp()
    assert split.test == (DAY + timedelta(hours=18)).timestamp()


def test_events_of_one_time_stay_together_and_no_part_is_empty() -> None:
    days = [DAY + timedelta(days=d) for d in [0] * 50 + [1] * 45 + [2] * 5]
    split = split_by_time(dataset(events(days)))
    assert split.validation == (DAY + timedelta(days=1)).timestamp()
    assert split.test == (DAY + timedelta(days=2)).timestamp()


@pytest.mark.parametrize("days", [[0] * 20, [0] * 10 + [1] * 10, [0, *range(1, 3), *[9] * 40]])
def test_data_that_cannot_be_split_says_so_before_anything_is_trained(days: list[int]) -> None:
    with pytest.raises(ValueError, match="cannot be split by time"):
        split_by_time(dataset(events([DAY + timedelta(days=d) for d in days])))


def test_a_field_of_the_moment_and_one_of_the_user_may_share_their_name() -> None:
    times = [DAY + timedelta(hours=i) for i in range(20)]
    users = pl.DataFrame({"user_id": ["u"], "profile_country": ["FR"]})
    data = dataset(events(times, context_country=["DE"] * 19 + ["FR"]), users)
    vocabulary = build_vocabulary(data, times[-1].timestamp())
    contract = build_contract(data, vocabulary, data.domain, times[-1].timestamp(), history_length=4, negatives=1)
    assert [(f.name, f.source, f.size) for f in contract.fields[3:]] == [
        ("country", "request", 4),
        ("country", "user", 4),
    ]
    context = event_decisions(build_log(data, vocabulary, contract, times[-1].timestamp())).context
    assert context[0, 3:].tolist() == [2, 3]  # DE now, FR at home
    assert context[19, 3:].tolist() == [3, 3]


def test_only_behaviours_that_happen_are_targets() -> None:
    times = [DAY + timedelta(hours=i) for i in range(20)]
    data = dataset(events(times, type=["purchase"] * 20, value=[3.0] * 20))
    vocabulary = build_vocabulary(data, times[-1].timestamp())
    contract = build_contract(data, vocabulary, data.domain, times[-1].timestamp(), history_length=4, negatives=1)
    assert (contract.targets, contract.values, dict(contract.value_scales)) == (
        ("purchase",),
        ("amount",),
        {"amount": 3.0},
    )
    free = dataset(events(times, type=["purchase"] * 20, value=[0.0, -1.0] * 10))  # amounts that are never positive
    contract = build_contract(free, vocabulary, free.domain, times[-1].timestamp(), history_length=4, negatives=1)
    assert contract.values == ()
    carts = dataset(events(times, type=["cart"] * 20))
    with pytest.raises(ValueError, match=r"has no event of a type to predict \(click, purchase\)"):
        build_contract(carts, vocabulary, carts.domain, times[-1].timestamp(), history_length=4, negatives=1)
