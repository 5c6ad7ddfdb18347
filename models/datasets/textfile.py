"""Text files as numbered lines: the ground that :mod:`delimited` and :mod:`jsonlines` stand on."""

from __future__ import annotations

import codecs
from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

#: A line that is no row: its number (from 1), what is wrong with it, and the line itself.
MALFORMED = {"line_number": pl.UInt32, "problem": pl.String, "line": pl.String}
NOT_UTF8 = "not UTF-8"
#: Lines of nothing else are no rows.
BLANKS = " \t\r\v\f"


@dataclass(frozen=True)
class Lines:
    """The lines of a file, without line ends. ``broken`` are the indices of those that are not UTF-8.

    Bytes that are no UTF-8 are spelt ``\\xff`` in the text, so that nothing is lost.
    """

    texts: list[str]
    broken: frozenset[int]


@dataclass(frozen=True)
class TextRows:
    """What became of a text file's lines: every one that is not blank is in a row or malformed.

    Attributes:
        frame: the rows that can be read.
        numbers: the line (from 1) on which each of them begins.
        malformed: the lines that are no row, with the columns of MALFORMED.
    """

    frame: pl.DataFrame
    numbers: pl.Series
    malformed: pl.DataFrame


def split(data: bytes) -> Lines:
    """The lines of a file, which may begin with a byte order mark and end its lines in LF, CR LF or CR."""
    data = data.removeprefix(codecs.BOM_UTF8)
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n")
        data = data if b"\n" in data else data.replace(b"\r", b"\n")
    try:
        return Lines(data.decode().split("\n"), frozenset())
    except UnicodeDecodeError:
        texts, broken = [], []
        for index, line in enumerate(data.split(b"\n")):
            texts.append(line.decode(errors="backslashreplace"))
            # Decoding twice is cheaper than an exception for each line, and only such files pay for it.
            if line.decode(errors="ignore").encode() != line:
                broken.append(index)
        return Lines(texts, frozenset(broken))


def text_rows(frame: pl.DataFrame, begins: list[int], lines: Lines, problems: Mapping[int, str]) -> TextRows:
    """Rows that begin at these indices of lines, and the lines with a problem."""
    found = sorted(problems)
    columns = ([index + 1 for index in found], [problems[i] for i in found], [lines.texts[i] for i in found])
    malformed = pl.DataFrame(dict(zip(MALFORMED, columns, strict=True)), schema=MALFORMED)
    return TextRows(frame, pl.Series(begins, dtype=pl.UInt32) + 1, malformed)
