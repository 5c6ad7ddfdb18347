"""Rejected rows: why each was rejected, and the files they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from models.datasets.schema import DatasetError
from models.datasets.source import REJECTED, Source, stem_of
from models.datasets.textfile import TextRows

#: The reason of lines that are no row.
MALFORMED = "malformed"


@dataclass(frozen=True)
class Written:
    """A file of rejected rows, and why it lies elsewhere than asked (None: it does not)."""

    path: Path
    detour: str | None = None


def with_reasons(frame: pl.DataFrame, rows: pl.Series, reasons: pl.Series) -> pl.DataFrame:
    """These rows of a frame with their own columns, after ``row`` (from 0) and ``reason``."""
    names = [_free(name, frame.columns) for name in ("row", "reason")]
    return frame[rows].select(rows.alias(names[0]), reasons.alias(names[1]), pl.all())


def with_lines(rejected: pl.DataFrame, text: TextRows | None) -> pl.DataFrame:
    """Rejected rows of a text file together with its malformed lines, by ``line_number`` (from 1) instead of row.

    Malformed lines have no cells, but a ``problem`` and the raw ``line``. Other files have rows only: nothing changes.
    """
    if text is None:
        return rejected
    row, reason, *own = rejected.columns
    number = _free("line_number", own)
    judged = rejected.select(text.numbers.gather(rejected[row]).alias(number), pl.col(reason, *own))
    if text.malformed.is_empty():
        return judged
    lines = text.malformed.rename({name: _free(name, own) for name in text.malformed.columns})
    lines = lines.with_columns(pl.lit(MALFORMED).alias(reason))
    return pl.concat([judged, lines], how="diagonal").sort(number)


def write_rejected(rejected: Sequence[tuple[Source, pl.DataFrame]], beside: Path | None, spare: Path) -> list[Written]:
    """Write the rejected rows of each input to ``<stem>.rejected.parquet`` and return the files written.

    Args:
        beside: the folder to write to; None for the one the input lies in.
        spare: where to write instead if that folder cannot be written.

    Raises:
        DatasetError: neither can be written.
    """
    written: list[Written] = []
    for source, frame in rejected:
        if len(frame):
            stem = stem_of(source.path) + REJECTED
            taken = sum(file.path.name.startswith(stem) for file in written)
            name = f"{stem}{f'-{taken + 1}' if taken else ''}.parquet"
            written.append(_write_first(frame, [(beside or source.path.parent) / name, spare / name]))
    return written


def _free(name: str, taken: Sequence[str]) -> str:
    """A name for a column of ours that the rows' own columns leave free."""
    return f"rejected_{name}" if name in taken else name


def _write_first(frame: pl.DataFrame, targets: Sequence[Path]) -> Written:
    """Write to the first target that can be written."""
    problems: list[str] = []
    for target in targets:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(target)
        except OSError as error:
            # Polars' errors have no strerror, but its words.
            reason = error.strerror or str(error).split(" (os error")[0]
            problems.append(f"{target.parent} cannot be written ({reason})")
        else:
            return Written(target, problems[0] if problems else None)
    raise DatasetError(f"The rejected rows have no place: {' and '.join(problems)}; give a folder with --rejected.")
