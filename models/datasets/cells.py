"""Cells of whatever type to ids, times and numbers, as Polars expressions. What cannot be read becomes null."""

from __future__ import annotations

import polars as pl

from models.datasets.schema import AT, DatasetError

#: From here on an epoch counts in the next smaller unit: seconds below 10^11 (the year 5138), then ms, us, ns.
_UNITS = ((1e11, 1_000.0), (1e14, 1.0), (1e17, 1e-3), (float("inf"), 1e-6))
_ISO = (
    r"^(?P<day>\d{4}[-/]\d{1,2}[-/]\d{1,2})(?:[T ]+(?P<time>\d{1,2}:\d{2})(?P<second>:\d{2}(?:[.,]\d{1,9})?)?)?"
    r"\s*(?P<zone>[Zz]|UTC|[+-]\d{2}(?::?\d{2})?)?$"
)


def text(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A cell as text without blanks around it; whole floats lose their ``.0``; empty and NaN are null."""
    dtype = frame.schema[column]
    cell = pl.col(column)
    if dtype.is_nested() or dtype in (pl.Binary, pl.Object):
        raise DatasetError(f"The column {column!r} holds {dtype}, which is no text or number.")
    if dtype.is_float():
        whole = cell.cast(pl.Int64, strict=False)
        spelt = (
            pl.when((cell == whole) & (cell.abs() < 2**53)).then(whole.cast(pl.String)).otherwise(cell.cast(pl.String))
        )
        return pl.when(cell.is_nan()).then(None).otherwise(spelt)
    spelt = cell.cast(pl.String).str.strip_chars()
    return pl.when(spelt == "").then(None).otherwise(spelt)


def number(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A cell as a float; words are null, NaN and infinity stay what they are."""
    if frame.schema[column].is_numeric():
        return pl.col(column).cast(pl.Float64)
    return text(frame, column).cast(pl.Float64, strict=False)


def moment(frame: pl.DataFrame, column: str) -> pl.Expr:
    """A cell as a time in UTC, to the millisecond.

    Datetimes and ISO 8601 text without a zone are taken as UTC; numbers, and text that is one, are an epoch in
    seconds, milliseconds, microseconds or nanoseconds, whichever its size says.
    """
    dtype = frame.schema[column]
    if isinstance(dtype, pl.Datetime):
        cell = pl.col(column)
        zoned = cell.dt.replace_time_zone("UTC") if dtype.time_zone is None else cell.dt.convert_time_zone("UTC")
        return zoned.cast(AT)
    if dtype == pl.Date:
        return pl.col(column).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")
    if dtype.is_numeric():
        return _epoch(pl.col(column).cast(pl.Float64))
    spelt = text(frame, column)
    return pl.coalesce(_epoch(spelt.cast(pl.Float64, strict=False)), _iso(spelt))


def _epoch(count: pl.Expr) -> pl.Expr:
    """Numbers as times; float64 keeps milliseconds exact for 285,000 years."""
    milliseconds: pl.Expr = pl.lit(None, pl.Float64)
    for limit, factor in reversed(_UNITS):
        milliseconds = pl.when(count.abs() < limit).then(count * factor).otherwise(milliseconds)
    # Beyond the year 9999 no calendar reads the number.
    sane = pl.when(milliseconds.abs() < 2.5e14).then(milliseconds)
    return sane.round().cast(pl.Int64, strict=False).cast(pl.Datetime("ms")).dt.replace_time_zone("UTC")


def _iso(spelt: pl.Expr) -> pl.Expr:
    part = spelt.str.extract_groups(_ISO).struct
    day = part.field("day").str.replace_all("/", "-")
    second = part.field("second").fill_null(":00").str.replace(",", ".", literal=True)
    clock = part.field("time").fill_null("00:00") + second
    naive = (day + " " + clock).str.to_datetime("%Y-%m-%d %H:%M:%S%.f", time_unit="ms", strict=False)
    zone = part.field("zone").str.replace(":", "", literal=True)
    hours = zone.str.slice(1, 2).cast(pl.Int64, strict=False).fill_null(0)
    minutes = hours * 60 + zone.str.slice(3, 2).cast(pl.Int64, strict=False).fill_null(0)
    east = pl.when(zone.str.starts_with("-")).then(-minutes).otherwise(minutes).fill_null(0)
    return (naive - pl.duration(minutes=east)).dt.replace_time_zone("UTC")
