"""CSV as it is found in the wild: what can be read is, and every other line is told."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.datasets.delimited import read_delimited

PLAIN = b"user,item,paid\n1,a,5\n2,b,\n"


@pytest.mark.parametrize(
    "data",
    [
        PLAIN,
        PLAIN.replace(b"\n", b"\r\n"),
        PLAIN.replace(b"\n", b"\r"),
        PLAIN.removesuffix(b"\n"),
        b"\xef\xbb\xbf" + PLAIN,
        PLAIN.replace(b",", b";"),
        PLAIN.replace(b",", b"\t"),
        PLAIN.replace(b",", b"|"),
        b"\n\n" + PLAIN.replace(b"\n", b"\n \r\n\n"),
        b'"user","item","paid"\r\n"1","a","5"\r\n"2","b",""\r\n',
    ],
)
@pytest.mark.parametrize("usual", [",", "\t"])
def test_every_dialect_gives_the_same_rows(data: bytes, usual: str) -> None:
    rows = read_delimited(data, usual)
    assert rows.frame.columns == ["user", "item", "paid"]
    assert [tuple(cell or None for cell in row) for row in rows.frame.rows()] == [("1", "a", "5"), ("2", "b", None)]
    assert rows.malformed.is_empty()


def test_a_line_that_is_no_row_is_told_and_spoils_no_other() -> None:
    data = b'a,b,c\n1,2\n3,4,5\n3,4,5,6\n"x"y,1,2\n"open,1,2\n6,7,8\n\xff,1,2\n"last,1,2'
    rows = read_delimited(data, ",")
    assert rows.frame.rows() == [("3", "4", "5"), ("6", "7", "8")]
    assert rows.numbers.to_list() == [3, 7]
    assert rows.malformed.rows() == [
        (2, "2 cells where the header has 3", "1,2"),
        (4, "4 cells where the header has 3", "3,4,5,6"),
        (5, "broken quoting", '"x"y,1,2'),
        (6, "broken quoting", '"open,1,2'),
        (8, "not UTF-8", "\\xff,1,2"),
        (9, "broken quoting", '"last,1,2'),
    ]


def test_quotes_hold_separators_quotes_and_line_ends_and_inches_are_no_quotes() -> None:
    data = b'a,b\n1,"x, ""y"""\n"one\r\n\r\ntwo",2\n3,5" pipe\n4,z\n'
    rows = read_delimited(data, ",")
    assert rows.frame.rows() == [("1", 'x, "y"'), ("one\n\ntwo", "2"), ("3", '5" pipe'), ("4", "z")]
    assert rows.numbers.to_list() == [2, 3, 6, 7]
    assert rows.malformed.is_empty()


def test_columns_without_a_name_are_numbered() -> None:
    assert read_delimited(b"a, b ,,\n1,2,3,4\n", ",").frame.columns == ["a", "b", "column_3", "column_4"]


def test_a_single_column_is_a_table_too() -> None:
    rows = read_delimited(b"user\n1\n\n2\n3,4\n", ",")
    assert (rows.frame["user"].to_list(), rows.malformed["line_number"].to_list()) == (["1", "2"], [5])


GOOD = ['{n},"a, ""b""",2025-03-01', "{n},5,2025-03-01", '"{n}","",\u00fc']
garbage = st.binary(max_size=40).map(lambda line: line.replace(b"\n", b"").replace(b"\r", b""))
lines = st.lists(st.one_of(garbage, st.sampled_from(GOOD)), max_size=30)


@settings(deadline=None)
@given(lines, st.sampled_from([b"\n", b"\r\n"]))
@example([b'x,y,"', GOOD[0], b'"'], b"\n")
@example([b'"', b"", b'"', b'"",,'], b"\n")
def test_whatever_stands_between_good_lines_all_of_those_are_kept(mixed: list[bytes | str], end: bytes) -> None:
    """Good lines are numbered; each comes out once, and no line that is not blank is lost."""
    written = [line.format(n=f"good{n}").encode() if isinstance(line, str) else line for n, line in enumerate(mixed)]
    rows = read_delimited(end.join([b"user,item,time", *written]), ",")
    kept = [user for user in rows.frame["user"].to_list() if user and user.startswith("good")]
    assert kept == [f"good{n}" for n, line in enumerate(mixed) if isinstance(line, str)]
    spoken = {*rows.numbers.to_list(), *rows.malformed["line_number"].to_list()}
    assert len(spoken) == len(rows.frame) + len(rows.malformed)
    within = sum(cell.count("\n") for row in rows.frame.rows() for cell in row if cell)
    filled = sum(bool(line.strip()) for line in written)
    assert filled <= len(spoken) + within
    if not within:
        assert filled == len(spoken)
