"""JSON Lines as they are found in the wild: what is an object is read, and every other line is told."""

from __future__ import annotations

import json
from typing import Any

import polars as pl
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.datasets import cells
from models.datasets.jsonlines import read_json_lines
from models.datasets.schema import DatasetError


def texts(data: bytes, column: str) -> list[str | None]:
    """A column as the import reads it."""
    frame = read_json_lines(data).frame
    return frame.select(cells.text(frame, column).alias(column))[column].to_list()


def test_a_line_that_is_no_object_is_told_and_spoils_no_other() -> None:
    data = b'{"u": 7}\n[1]\nnull\n\n{"u": NaN}\n\xff\n{"u": 8}\n{"u": 9} x\n{"u":'
    rows = read_json_lines(data)
    assert rows.frame.rows() == [(7,), (8,)]
    assert rows.numbers.to_list() == [1, 7]
    assert rows.malformed.rows() == [
        (2, "no JSON object", "[1]"),
        (3, "no JSON object", "null"),
        (5, "no JSON: NaN", '{"u": NaN}'),
        (6, "not UTF-8", "\\xff"),
        (8, "no JSON: extra data at character 10", '{"u": 9} x'),
        (9, "no JSON: expecting value at character 6", '{"u":'),
    ]


@pytest.mark.parametrize("line", ['{"u":' + "[" * 100_000, '{"u":' * 5_000, '{"u":' + "9" * 5_000 + "}"])
def test_lines_made_to_hurt_are_malformed(line: str) -> None:
    rows = read_json_lines(f'{{"u": [1]}}\n{line}\n{{"u": {{"v": 1}}}}'.encode())
    assert rows.malformed["line_number"].to_list() == [2]
    assert len(rows.frame) == 2


@pytest.mark.parametrize("end", ["", '\n{"u": true}', '\n{"u": [1]}'])
def test_types_may_vary_from_line_to_line(end: str) -> None:
    """With the second and third ending Polars gives up, so that both ways of reading are seen."""
    data = '{"u": 7}\n{"u": "7", "t": 1.5}\n{"u": null}\n{}\n{"u": " 007 "}' + end
    assert texts(data.encode(), "u")[:5] == ["7", "7", None, None, "007"]
    assert texts(data.encode(), "t")[:4] == [None, "1.5", None, None]


@pytest.mark.parametrize("end", ["", '\n{"x": {"y": 1}}\n{"x": [1]}'])
def test_objects_within_are_columns_and_lists_stay_lists(end: str) -> None:
    data = '{"context": {"device": "tv", "at": {"floor": 2}}, "path": ["a", "b"]}\n{"context": null}' + end
    frame = read_json_lines(data.encode()).frame
    assert frame["context_device"].to_list()[:2] == ["tv", None]
    assert frame["context_at_floor"].cast(pl.String).to_list()[:2] == ["2", None]
    assert frame["path"].to_list()[:2] == [["a", "b"], None]


def test_a_key_that_is_there_twice_once_flattened_is_a_malformed_line() -> None:
    rows = read_json_lines(b'{"c": {"d": 1}, "c_d": 2}\n{"c_d": 3}\n')
    assert (rows.frame["c_d"].to_list(), rows.malformed["line_number"].to_list()) == ([3], [1])


def test_keys_that_polars_takes_for_patterns_are_plain_names() -> None:
    rows = read_json_lines(b'{"*": {"*": 1, "^a$": 2}, "b": 3}\n{"*": null, "b": 4}\n')
    assert rows.frame.sort("b").to_dict(as_series=False) == {"b": [3, 4], "*_*": [1, None], "*_^a$": [2, None]}


def test_half_an_emoji_costs_no_row() -> None:
    assert len(read_json_lines(b'{"u": "\\ud83d"}\n{"u": [1]}\n{"u": {"v": 1}}').frame) == 3


def test_a_file_without_one_object_is_no_json_lines() -> None:
    with pytest.raises(DatasetError, match="not one of its lines is a JSON object"):
        read_json_lines(b"[\n{\n}\n]")


scalars = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()
)
values = st.recursive(scalars, lambda v: st.one_of(st.lists(v, max_size=3), st.dictionaries(st.text(), v, max_size=3)))
garbage = st.one_of(st.binary(max_size=40), values.map(lambda v: json.dumps(v).encode()))


@settings(deadline=None)  # the first import of a process takes longer
@given(st.lists(st.one_of(garbage.map(lambda b: b.replace(b"\n", b"").replace(b"\r", b"")), values), max_size=25))
@example([b'{"user": ', b"\xff", [1], {"a": 1}, True])
@example([{"*": 0, "^.*$": 1}, {"*": {"*": 1}}, b'{"*": 1}', b'{"^.*$": {"*": 2}}'])
def test_whatever_stands_between_good_lines_all_of_those_are_kept(mixed: list[Any]) -> None:
    """Good lines are numbered and carry any value; each comes out once, and no line that is not blank is lost."""
    written = [b'{"user": "good"}']
    for n, line in enumerate(mixed):
        written.append(line if isinstance(line, bytes) else json.dumps({"user": f"good{n}", "more": line}).encode())
    rows = read_json_lines(b"\n".join(written))
    frame = rows.frame
    users = frame["user"].to_list() if frame["user"].dtype == pl.String else []
    good = [f"good{n}" for n, line in enumerate(mixed) if not isinstance(line, bytes)]
    assert [user for user in users if user and user.startswith("good")] == ["good", *good]
    assert len(frame) == len(rows.numbers)
    assert len(frame) + len(rows.malformed) == sum(bool(line.strip()) for line in written)
