"""Cleaning: every row is kept or rejected with its reason, and the counts are those made by hand."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.datasets.mapping import Columns, MappingError
from models.domain import load_domain
from models.preprocess import Clean, clean

NOW = datetime(2025, 3, 10, tzinfo=UTC)
COLUMNS = Columns(user="u", item="i", type="t", time="at", value="v", request="r", types={"pv": "click"})
SHOP = load_domain("ecommerce")
GOOD = {"u": "a", "i": "x", "t": "purchase", "at": "2025-03-01", "v": "2", "r": None}


def run(*rows: Mapping[str, str | None], columns: Columns = COLUMNS) -> Clean:
    frame = pl.DataFrame([{**GOOD, **row} for row in rows], schema=dict.fromkeys(GOOD, pl.String))
    return clean([frame], columns, SHOP, "toy", NOW)


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ({"u": None}, "user missing"),
        ({"u": "  "}, "user missing"),
        ({"i": ""}, "item missing"),
        ({"t": None}, "type missing"),
        ({"at": None}, "time missing"),
        ({"i": "x" * 257}, "id too long"),
        ({"r": "x" * 257}, "id too long"),
        ({"t": "wave"}, "unknown type"),
        ({"at": "soon"}, "time unreadable"),
        ({"at": "1989-12-31 23:59:59"}, "time before 1990"),
        ({"at": "0"}, "time before 1990"),
        ({"at": "2025-03-11 00:00:01"}, "time in the future"),
        ({"v": "two"}, "value unreadable"),
        ({"v": "inf"}, "value not finite"),
        ({"v": "nan"}, "value not finite"),
    ],
)
def test_a_bad_row_is_rejected_with_its_reason_and_its_own_columns(row: dict[str, str | None], reason: str) -> None:
    result = run({}, row)
    assert result.reasons == {reason: 1}
    assert (result.read, result.kept) == (2, 1)
    (rejected,) = result.rejected
    assert rejected.to_dicts() == [{"row": 1, "reason": reason, **GOOD, **row}]


@pytest.mark.parametrize(
    "row",
    [
        {"i": "x" * 256},
        {"t": "pv"},
        {"t": "pv", "v": "NA"},
        {"t": "pv", "v": "nan"},
        {"at": "2000-01-01"},
        {"at": "2025-03-11"},
        {"v": None},
        {"v": "-3"},
    ],
)
def test_rows_on_the_edge_are_kept(row: dict[str, str | None]) -> None:
    assert run(row).reasons == {}


def test_only_the_first_of_rows_that_say_the_same_is_kept() -> None:
    result = run({}, {}, {"v": "3"}, {"at": "2025-03-01T00:00:00Z"}, {"r": "r1"})
    assert result.reasons == {"duplicate": 2}
    assert result.events["event_id"].to_list() == ["toy-0", "toy-2", "toy-4"]
    assert result.rejected[0]["row"].to_list() == [1, 3]


def test_event_ids_are_padded_so_that_they_sort_as_the_rows_do() -> None:
    result = run(*({"at": f"2025-03-01 00:{minute:02}"} for minute in range(11)))
    assert result.events["event_id"].to_list() == [f"toy-{n:02}" for n in range(11)]


def test_rows_of_several_files_are_numbered_on_and_rejected_file_by_file() -> None:
    first, second = pl.DataFrame([GOOD, {**GOOD, "u": None}]), pl.DataFrame([GOOD, {**GOOD, "u": "b"}])
    result = clean([first, second], COLUMNS, SHOP, "toy", NOW)
    assert result.events["event_id"].to_list() == ["toy-0", "toy-3"]
    assert [part["reason"].to_list() for part in result.rejected] == [["user missing"], ["duplicate"]]
    assert [part["row"].to_list() for part in result.rejected] == [[1], [0]]


def test_a_value_that_its_type_does_not_carry_is_dropped_and_counted() -> None:
    result = run({"t": "click", "v": "7"}, {"v": "8"}, {"t": "review", "v": "5"})
    assert result.events["value"].to_list() == [None, 8.0, 5.0]
    assert result.ignored_values == 1


def test_rows_of_the_exposure_type_become_exposures() -> None:
    columns = Columns(user="u", item="i", type="t", time="at", request="r", position="v")
    result = run({"t": "exposure", "r": "r1", "v": "3"}, {"t": "click", "r": "r1"}, columns=columns)
    assert result.exposures is not None
    assert result.exposures.select("item_id", "request_id", "position").row(0) == ("x", "r1", 3)
    assert result.events["type"].to_list() == ["click"]


def test_items_and_users_come_from_the_kept_rows() -> None:
    frame = pl.DataFrame(
        {
            "u": ["a", "a", "a", None],
            "i": ["x", "x", "x", "y"],
            "at": ["2025-03-03", "2025-03-01", "2025-03-02", "2025-03-01"],
            "price": [3.0, 1.0, 9.0, 5.0],
            "name": ["new", "old", None, "never"],
            "c1": ["Food", "Food", "Food", "Food"],
            "c2": ["Bread", None, "Cake", "Pie"],
            "land": [None, "DE", "FR", "PL"],
        }
    )
    columns = Columns(
        user="u",
        item="i",
        time="at",
        constant_type="purchase",
        title="name",
        price="price",
        categories=("c1", "c2"),
        profile={"country": "land"},
    )
    result = clean([frame], columns, SHOP, "toy", NOW)
    assert result.items.to_dicts() == [{"item_id": "x", "title": "new", "price": 3.0, "categories": ["Food", "Bread"]}]
    assert result.users.to_dicts() == [{"user_id": "a", "profile_country": "FR"}]


def test_a_mapping_to_a_type_the_domain_lacks_is_refused() -> None:
    with pytest.raises(MappingError, match="'wave' of a type; the domain 'ecommerce' has click"):
        run({}, columns=Columns(user="u", item="i", time="at", constant_type="wave"))


def test_rejected_rows_keep_columns_that_are_called_row_and_reason() -> None:
    frame = pl.DataFrame({"u": [None], "i": ["x"], "at": ["2025-03-01"], "row": ["mine"], "reason": ["why"]})
    columns = Columns(user="u", item="i", time="at", constant_type="click")
    (rejected,) = clean([frame.cast(pl.String)], columns, SHOP, "toy", NOW).rejected
    assert rejected.columns == ["rejected_row", "rejected_reason", "u", "i", "at", "row", "reason"]


def words(*good: str) -> st.SearchStrategy[str | None]:
    return st.one_of(st.none(), st.sampled_from(good), st.text(max_size=4))


ROWS = st.lists(
    st.fixed_dictionaries(
        {
            "u": words("a", "b"),
            "i": words("x", "y"),
            "t": words("click", "pv", "purchase", "exposure"),
            "at": st.one_of(
                words("2025-03-01", "1740787200"),
                st.datetimes(min_value=NOW.replace(tzinfo=None) - timedelta(days=9000)).map(str),
                st.integers().map(str),
                st.floats().map(str),
            ),
            "v": st.one_of(words("1", "2.5"), st.floats().map(str)),
            "r": words("r1"),
        }
    ),
    max_size=30,
)


@settings(max_examples=60, deadline=None)
@given(rows=ROWS, cut=st.integers(0, 30))
def test_kept_and_rejected_add_up_to_read_whatever_comes_in(rows: list[dict[str, str | None]], cut: int) -> None:
    frames = [pl.DataFrame(part, schema=dict.fromkeys(GOOD, pl.String)) for part in (rows[:cut], rows[cut:])]
    result = clean(frames, COLUMNS, SHOP, "toy", NOW)
    assert result.read == len(rows)
    assert result.kept + sum(len(part) for part in result.rejected) == len(rows)
    assert sum(result.reasons.values()) == sum(len(part) for part in result.rejected)
    for part, frame in zip(result.rejected, frames, strict=True):
        assert part.select(*GOOD).equals(frame[part["row"]])


@settings(max_examples=40, deadline=None)
@given(
    times=st.lists(st.one_of(st.none(), st.floats(), st.integers(-(2**62), 2**62).map(float)), max_size=20),
    users=st.lists(st.one_of(st.none(), st.floats()), max_size=20),
)
def test_numbers_of_any_size_are_kept_or_rejected(times: list[float | None], users: list[float | None]) -> None:
    size = min(len(times), len(users))
    frame = pl.DataFrame(
        {"u": users[:size], "at": times[:size], "i": ["x"] * size},
        schema={"u": pl.Float64, "at": pl.Float64, "i": pl.String},
    )
    result = clean([frame], Columns(user="u", item="i", time="at", constant_type="click"), SHOP, "toy", NOW)
    assert result.kept + len(result.rejected[0]) == size
    assert (result.events["at"] >= datetime(2000, 1, 1, tzinfo=UTC)).all()
