"""Cells of every type become ids, numbers and times, or null."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from typing import Any

import polars as pl
import pytest

from models.datasets import cells
from models.datasets.schema import DatasetError


def one(kind: Any, value: object, dtype: Any = None) -> object:
    frame = pl.DataFrame({"c": pl.Series([value], dtype=dtype)})
    return frame.select(kind(frame, "c").alias("c"))["c"].to_list()[0]


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (17850.0, "17850"),
        (17850.5, "17850.5"),
        (float("nan"), None),
        (None, None),
        (42, "42"),
        ("  007 ", "007"),
        ("   ", None),
        (True, "true"),
    ],
)
def test_text(cell: object, expected: str | None) -> None:
    assert one(cells.text, cell) == expected


NOON = datetime(2017, 11, 24, 12, 30, 5, tzinfo=UTC)


@pytest.mark.parametrize(
    "cell",
    [
        1511526605,
        1511526605.0,
        "1511526605",
        1511526605000,
        "1511526605000",
        1511526605000.0,
        1511526605000000,
        1511526605000000.0,
        "1511526605000000",
        "1511526605000000.0",
        1511526605000000000,
        "1511526605000000000",
        "1.511526605e9",
        "2017-11-24 12:30:05",
        "2017-11-24T12:30:05Z",
        "2017-11-24T12:30:05.000+00:00",
        "2017-11-24T14:30:05+02:00",
        "2017-11-24T07:00:05-0530",
        "2017-11-24T13:30:05+01",
        "2017/11/24 12:30:05 UTC",
        datetime(2017, 11, 24, 12, 30, 5),  # without a zone: UTC
        datetime(2017, 11, 24, 13, 30, 5, tzinfo=timezone(timedelta(hours=1))),
    ],
)
def test_the_same_moment_in_every_spelling(cell: object) -> None:
    assert one(cells.moment, cell) == NOON


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        (date(2017, 11, 24), datetime(2017, 11, 24, tzinfo=UTC)),
        ("2017-11-24", datetime(2017, 11, 24, tzinfo=UTC)),
        ("2017-11-24 08:26", datetime(2017, 11, 24, 8, 26, tzinfo=UTC)),
        ("2017-11-24T12:30:05.123456", NOON + timedelta(milliseconds=123)),
        (1511526605.123, NOON + timedelta(milliseconds=123)),
        ("1511526605.123", NOON + timedelta(milliseconds=123)),
        ("1511526605123456", NOON + timedelta(milliseconds=123)),
        (0, datetime(1970, 1, 1, tzinfo=UTC)),
        ("20171124", datetime(1970, 8, 22, 11, 5, 24, tzinfo=UTC)),  # seconds, and so before 1990: not guessed
        ("24/11/2017", None),
        ("11/24/2017", None),
        ("24.11.2017", None),
        ("2017-11-24 10:00 AM", None),
        ("Fri, 24 Nov 2017 12:30:05 GMT", None),
        ("1,511,526,605", None),
        ("2017-13-24", None),
        ("2017-11-24 25:00", None),
        ("yesterday", None),
        ("nan", None),
        ("inf", None),
        (float("inf"), None),
        (1e300, None),
        (-1e300, None),
        (None, None),
    ],
)
def test_other_times(cell: object, expected: datetime | None) -> None:
    assert one(cells.moment, cell) == expected


@pytest.mark.parametrize(
    ("cell", "expected"),
    [
        ("1.5", 1.5),
        (" 2 ", 2.0),
        ("-1e3", -1000.0),
        (3, 3.0),
        (None, None),
        *(
            (word, None)
            for word in ("two", "9,50", "1,234.50", "1.234,50", "1 000", "1_000", "1'000", "€5", "0x10", "5%")
        ),
    ],
)
def test_numbers_with_thousands_separators_and_decimal_commas_are_not_guessed(
    cell: object, expected: float | None
) -> None:
    assert one(cells.number, cell) == expected


def test_lists_are_no_cells() -> None:
    with pytest.raises(DatasetError, match=r"'c' holds List\(Int64\)"):
        one(cells.text, [1, 2])
