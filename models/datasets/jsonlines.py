"""JSON Lines: one object a line. Lines that are none are told apart, whatever they are.

Polars reads a file fast or not at all. Where it does not, the lines that are no object are looked for and left out;
where it still does not, because the values of a key have types that do not go together, everything is read as text.
"""

from __future__ import annotations

import io
import json
from collections.abc import Iterator, Sequence
from typing import Any, NoReturn

import polars as pl

from models.datasets.schema import DatasetError
from models.datasets.textfile import BLANKS, NOT_UTF8, Lines, TextRows, split, text_rows

#: Lines that are looked at one by one when Polars cannot read them in one piece.
CHUNK = 10_000


class _NoObject(ValueError):
    """A line is no object; the message says why."""


def read_json_lines(data: bytes) -> TextRows:
    """The rows of a JSON Lines file. Blank lines are no rows; keys that a line lacks are null.

    Nested objects become columns of their own, see :func:`flatten`.

    Raises:
        DatasetError: not one line is a JSON object.
    """
    lines = split(data)
    begins = [n for n, text in enumerate(lines.texts) if n not in lines.broken and text.strip(BLANKS)]
    problems = dict.fromkeys(lines.broken, NOT_UTF8)

    def good() -> list[str]:
        return [lines.texts[n] for n in begins if n not in problems]

    frame = _fast(good())
    if frame is None:
        problems |= _problems(lines, begins, CHUNK)
        frame = _fast(good())
    if frame is None:
        problems |= _problems(lines, begins, 1)
        frame = _slow(good())
    begins = [n for n in begins if n not in problems]
    if not begins:
        raise DatasetError("not one of its lines is a JSON object; JSON Lines has one a line")
    return text_rows(frame, begins, lines, problems)


def flatten(frame: pl.DataFrame) -> pl.DataFrame:
    """Objects within rows as columns: ``{"context": {"device": "tv"}}`` gives ``context_device``, however deep.

    Raises:
        polars.exceptions.DuplicateError: there is a column of that name already.
    """
    # By columns, not by expressions: in those a key such as "*" or "^a$" would be a pattern.
    while any(isinstance(dtype, pl.Struct) for dtype in frame.dtypes):
        plain = [column for column in frame.get_columns() if not isinstance(column.dtype, pl.Struct)]
        nested = [column for column in frame.get_columns() if isinstance(column.dtype, pl.Struct)]
        inner = [part.alias(f"{c.name}_{part.name}") for c in nested for part in c.struct.unnest().get_columns()]
        frame = pl.DataFrame([*plain, *inner])
    return frame


def _fast(texts: Sequence[str]) -> pl.DataFrame | None:
    """The rows of these lines, or None where Polars cannot read them."""
    if not texts:
        return pl.DataFrame()
    try:
        frame = flatten(pl.read_ndjson(io.BytesIO("\n".join(texts).encode()), infer_schema_length=None))
    except pl.exceptions.PolarsError:
        return None
    # Rows without a key have no columns, and a frame without columns no height.
    return frame if len(frame) == len(texts) else None


def _problems(lines: Lines, indices: Sequence[int], chunk: int) -> dict[int, str]:
    """What is wrong with each line that is no object. Chunks of several lines that Polars reads are left alone."""
    problems: dict[int, str] = {}
    for start in range(0, len(indices), chunk):
        part = indices[start : start + chunk]
        if chunk == 1 or _fast([lines.texts[n] for n in part]) is None:
            found = ((n, _problem(lines.texts[n])) for n in part)
            problems.update((n, problem) for n, problem in found if problem is not None)
    return problems


def _problem(text: str) -> str | None:
    try:
        _object(text)
    except _NoObject as error:
        return str(error)
    except json.JSONDecodeError as error:
        return f"no JSON: {error.msg.lower()} at character {error.colno}"
    except RecursionError:
        return "nested too deeply"
    except ValueError:  # Python reads no whole number of more than 4,300 digits
        return "a number of too many digits"
    return None


def _object(text: str) -> dict[str, Any]:
    """A line as a flat object of texts and lists of texts; raises whatever :func:`_problem` has a word for."""
    row = json.loads(text, parse_constant=_no_constant)
    if not isinstance(row, dict):
        raise _NoObject("no JSON object")
    leaves = [(k, [_text(v) for v in value] if isinstance(value, list) else _text(value)) for k, value in _leaves(row)]
    flat = dict(leaves)
    if len(flat) < len(leaves):
        raise _NoObject("two keys of the same name, with objects within written as name_key")
    return flat


def _no_constant(word: str) -> NoReturn:
    raise _NoObject(f"no JSON: {word}")


def _leaves(row: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in row.items():
        if isinstance(value, dict):
            yield from _leaves(value, f"{prefix}{_text(key)}_")
        else:
            yield prefix + (_text(key) or ""), value


def _text(value: Any) -> str | None:
    """A value as :func:`models.datasets.cells.text` would spell it; what is nested as JSON."""
    if value is None:
        return None
    if isinstance(value, str):
        # Half an emoji, cut off by somebody's program, is no text that can be stored.
        return value.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    if isinstance(value, float) and value.is_integer() and abs(value) < 2**53:
        return str(int(value))
    return json.dumps(value, ensure_ascii=False)


def _slow(texts: Sequence[str]) -> pl.DataFrame:
    """The rows of lines that are objects, with every value as text; a key that only holds lists stays a list."""
    columns: dict[str, list[Any]] = {}
    for row, text in enumerate(texts):
        for key, value in _object(text).items():
            columns.setdefault(key, [None] * len(texts))[row] = value
    return pl.DataFrame([_series(name, values) for name, values in columns.items()])


def _series(name: str, values: Sequence[str | list[str | None] | None]) -> pl.Series:
    lists = sum(isinstance(value, list) for value in values)
    if lists and lists + values.count(None) == len(values):
        return pl.Series(name, values, dtype=pl.List(pl.String))
    texts = [json.dumps(value, ensure_ascii=False) if isinstance(value, list) else value for value in values]
    return pl.Series(name, texts, dtype=pl.String)
