"""CSV and its relatives. Lines that are no row are told apart; the rest is read whatever they are.

Polars reads a whole file fast or not at all, and Python's csv module reads anything but takes a stray quote for the
start of a cell that swallows what follows. So one regular expression says which lines are a whole row on their own.
Those go to Polars in one piece; what is left goes to the csv module, which may join it into cells of several lines.
"""

from __future__ import annotations

import csv
import io
import itertools
import re
from collections.abc import Iterator, Sequence

import polars as pl

from models.datasets.schema import DatasetError
from models.datasets.textfile import BLANKS, NOT_UTF8, Lines, TextRows, split, text_rows

SEPARATORS = ",;\t|"
#: A cell of more lines than this is a quote that nobody closed.
LONGEST_CELL = 1_000


def read_delimited(data: bytes, usual: str) -> TextRows:
    """The rows of a CSV file, every cell as text, empty ones as null. Blank lines are no rows.

    The separator is the one of SEPARATORS that gives the header most columns, ``usual`` where several do. A line that
    is a whole row by itself is always one, so that a quote which nobody closed spoils no line but its own.

    Raises:
        DatasetError: the first line is no header.
    """
    lines = split(data)
    start = next((n for n, text in enumerate(lines.texts) if text.strip(BLANKS)), 0)
    separator = _separator(lines.texts[start], usual)
    names, body = _header(lines, start, separator)
    judged = _judge(lines, body, separator, len(names))
    whole = judged.filter("whole")
    spread, problems = _join(lines, judged, separator, len(names))
    schema = dict.fromkeys(names, pl.String)
    cells = ([cell or None for cell in row] for row in spread.values())
    frame = pl.concat([_parse(whole["text"], separator, schema), pl.DataFrame(list(cells), schema, orient="row")])
    begins = pl.Series([*whole["index"], *spread], dtype=pl.UInt32)
    order = begins.arg_sort()
    return text_rows(frame[order], begins[order].to_list(), lines, problems)


def _separator(header: str, usual: str) -> str:
    def columns(separator: str) -> int:
        try:
            return len(next(csv.reader([header], delimiter=separator)))
        except csv.Error:  # a carriage return inside; whoever reads the header says so
            return 0

    return str(max((usual, *SEPARATORS), key=columns))


def _header(lines: Lines, start: int, separator: str) -> tuple[list[str], int]:
    """The names of the columns and the index of the line after them. Columns without a name are numbered."""
    reader = csv.reader(_continued(lines, itertools.count(start)), delimiter=separator, strict=True)
    try:
        found = [name.strip() for name in next(reader)]
    except (csv.Error, StopIteration) as error:
        reason = NOT_UTF8 if start in lines.broken else error
        raise DatasetError(f"its first line is no header: {reason}") from error
    if found[0].startswith(("{", "[")):
        raise DatasetError("its first line is JSON, not a header; name it .jsonl")
    names = [name or f"column_{n}" for n, name in enumerate(found, 1)]
    if twice := [name for name in names if names.count(name) > 1]:
        raise DatasetError(f"its header names {twice[0]!r} twice; rename one of the columns")
    return names, start + reader.line_num


def _judge(lines: Lines, body: int, separator: str, width: int) -> pl.DataFrame:
    """For each line of the body: is it blank, are its quotes in order, and is it a ``whole`` row on its own?"""
    cell = rf'(?:"(?:[^"]|"")*"|[^"{re.escape(separator)}]*)'
    text = pl.col("text")
    separators = text.str.replace_all('"(?:[^"]|"")*"', "").str.count_matches(separator, literal=True)
    frame = pl.DataFrame({"text": lines.texts[body:]}, schema={"text": pl.String}).with_row_index("index", body)
    frame = frame.with_columns(
        (text.str.strip_chars(BLANKS) == "").alias("blank"),
        (text.str.contains(f"^{cell}(?:{re.escape(separator)}{cell})*$")).alias("quoted"),
        (separators + 1).alias("cells"),
    )
    utf8 = ~pl.col("index").is_in(sorted(lines.broken))
    return frame.with_columns((~pl.col("blank") & pl.col("quoted") & (pl.col("cells") == width) & utf8).alias("whole"))


def _parse(rows: pl.Series, separator: str, schema: dict[str, type[pl.String]]) -> pl.DataFrame:
    """Lines that are each a whole row, in one go."""
    if rows.is_empty():
        return pl.DataFrame(schema=schema)
    data = rows.str.join("\n")[0].encode()
    frame = pl.read_csv(io.BytesIO(data), has_header=False, separator=separator, schema=schema)
    if len(frame) != len(rows):
        raise AssertionError(f"Polars reads {len(frame)} rows from {len(rows)} lines that are a row each.")
    return frame


def _join(
    lines: Lines, judged: pl.DataFrame, separator: str, width: int
) -> tuple[dict[int, list[str]], dict[int, str]]:
    """Rows among the lines that are not whole, by the index of their first line, and the problems of the others."""
    rows: dict[int, list[str]] = {}
    problems: dict[int, str] = {}
    rest = judged.filter(~pl.col("whole"))
    indices = rest["index"].to_list()
    after = 0
    for n, (index, blank, quoted, cells) in enumerate(rest.select("index", "blank", "quoted", "cells").iter_rows()):
        if index < after or blank:
            continue
        if index in lines.broken:
            problems[index] = NOT_UTF8
        elif quoted:
            problems[index] = f"{cells} cells where the header has {width}"
        else:
            reader = csv.reader(_continued(lines, indices[n : n + LONGEST_CELL]), delimiter=separator, strict=True)
            try:
                row = next(reader)
            except csv.Error:
                problems[index] = "broken quoting"
                continue
            if len(row) == width:
                rows[index], after = row, index + reader.line_num
            else:
                problems[index] = f"{len(row)} cells where the header has {width}"
    return rows, problems


def _continued(lines: Lines, indices: Sequence[int] | Iterator[int]) -> Iterator[str]:
    """Lines with their ends, as long as one follows the other and is UTF-8."""
    before = None
    for index in indices:
        gap = before is not None and index != before + 1
        if gap or index in lines.broken or index >= len(lines.texts):
            return
        before = index
        yield lines.texts[index] + "\n"
