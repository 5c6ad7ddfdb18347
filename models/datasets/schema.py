"""Columns of the frames in a data set, and the rules they keep."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from models.domain import Domain

AT = pl.Datetime("ms", "UTC")


class DatasetError(Exception):
    """Data that is missing, damaged or breaks a rule. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Schema:
    """The columns of one frame.

    Attributes:
        key: the column that is unique.
        required: columns without nulls, in order.
        optional: columns that may hold nulls; a frame that lacks one gets it filled with nulls.
        extra: prefixes of further columns and their dtype.
        order: what the frame is sorted by.
    """

    key: str
    required: Mapping[str, pl.DataType | type[pl.DataType]]
    optional: Mapping[str, pl.DataType | type[pl.DataType]]
    extra: Mapping[str, type[pl.DataType]]
    order: tuple[str, ...]

    def dtype(self, column: str) -> pl.DataType | type[pl.DataType] | None:
        """The dtype of a column; None where the frame may not have it."""
        if known := self.required.get(column) or self.optional.get(column):
            return known
        return next((dtype for prefix, dtype in self.extra.items() if column.startswith(prefix)), None)


EVENTS = Schema(
    key="event_id",
    required={"event_id": pl.String, "user_id": pl.String, "item_id": pl.String, "type": pl.String, "at": AT},
    optional={"value": pl.Float64, "request_id": pl.String},
    extra={"context_": pl.String},
    order=("user_id", "at", "event_id"),
)
EXPOSURES = Schema(
    key="event_id",
    required={
        "event_id": pl.String,
        "user_id": pl.String,
        "item_id": pl.String,
        "at": AT,
        "position": pl.Int32,
    },
    optional={"request_id": pl.String},
    extra={"context_": pl.String, "true_": pl.Float64},
    order=("user_id", "at", "event_id"),
)
ITEMS = Schema(
    key="item_id",
    required={"item_id": pl.String, "categories": pl.List(pl.String), "available": pl.Boolean},
    optional={"title": pl.String, "price": pl.Float64},
    extra={},
    order=("item_id",),
)
USERS = Schema(
    key="user_id",
    required={"user_id": pl.String},
    optional={},
    extra={"profile_": pl.String},
    order=("user_id",),
)


def arrange(frame: pl.DataFrame, schema: Schema, name: str) -> pl.DataFrame:
    """Bring a frame into column order, dtype and row order; optional columns it lacks become null.

    Raises:
        DatasetError: a required column is missing, a column is unknown, or a dtype cannot be converted.
    """
    if missing := [c for c in schema.required if c not in frame.columns]:
        raise DatasetError(f"The {name} lack a column {missing[0]!r}; found are {', '.join(frame.columns)}.")
    known = [*schema.required, *schema.optional]
    extra = [c for c in frame.columns if c not in known]
    if strange := [c for c in extra if schema.dtype(c) is None]:
        raise DatasetError(f"The {name} have a column {strange[0]!r} that a data set does not know.")
    absent = [pl.lit(None, schema.optional[c]).alias(c) for c in schema.optional if c not in frame.columns]
    wanted = [pl.col(c).cast(schema.dtype(c) or pl.String) for c in [*known, *extra]]
    try:
        return frame.with_columns(absent).select(wanted).sort(schema.order)
    except pl.exceptions.PolarsError as error:
        raise DatasetError(f"The {name} have a column of the wrong type ({error}).") from error


def complete(frame: pl.DataFrame | None, schema: Schema, name: str, events: Sequence[pl.DataFrame]) -> pl.DataFrame:
    """Arrange items or users, and add a bare row for each one that only the events know."""
    key = schema.key
    defaults = {"categories": pl.lit([], pl.List(pl.String)), "available": pl.lit(True)}
    frame = pl.DataFrame(schema={key: pl.String}) if frame is None else frame
    wanted = [c for c in schema.required if c in defaults]
    frame = frame.with_columns(defaults[c].alias(c) for c in wanted if c not in frame.columns)
    frame = frame.with_columns(pl.col(c).fill_null(defaults[c]) for c in wanted)
    frame = arrange(frame, schema, name)
    seen = pl.concat([part.select(pl.col(key).unique()) for part in events]).unique()
    bare = seen.join(frame, on=key, how="anti").with_columns(defaults[c].alias(c) for c in wanted)
    return pl.concat([frame, bare], how="diagonal").sort(key)


def check(frame: pl.DataFrame, schema: Schema, name: str) -> None:
    """Raise DatasetError where columns, dtypes, nulls, the key or the order are not as they should be."""
    for column in [*schema.required, *schema.optional]:
        if column not in frame.columns:
            raise DatasetError(f"The {name} lack the column {column!r}; import the data again.")
    for column, dtype in frame.schema.items():
        expected = schema.dtype(column)
        if expected is None or dtype != expected:
            raise DatasetError(f"The {name} have a column {column!r} of type {dtype}, not {expected}.")
    for column in schema.required:
        if nulls := frame[column].null_count():
            raise DatasetError(f"The {name} have {nulls} nulls in {column!r}, where none may be.")
    if frame[schema.key].n_unique() != len(frame):
        raise DatasetError(f"The {name} hold the same {schema.key} twice.")
    if not frame.select(pl.struct(schema.order).alias("order"))["order"].is_sorted():
        raise DatasetError(f"The {name} are not sorted by {', '.join(schema.order)}; import the data again.")


def check_references(frame: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, name: str) -> None:
    """Raise DatasetError where a row names an item or a user that has no row of its own."""
    for key, others in (("item_id", items), ("user_id", users)):
        lost = frame.select(key).unique().join(others.select(key), on=key, how="anti")
        if len(lost):
            raise DatasetError(f"The {name} name {len(lost)} {key}s that have no row, {lost[key].min()!r} for one.")


def check_types(events: pl.DataFrame, domain: Domain) -> None:
    """Raise DatasetError where an event is no behaviour of the domain, or its value is not finite."""
    known = domain.types
    if strange := sorted(set(events["type"].unique()) - set(known)):
        raise DatasetError(
            f"The events have a type {strange[0]!r}; the domain {domain.name!r} knows {', '.join(known)}."
        )
    if not events["value"].is_finite().all():
        raise DatasetError("The events have a value that is not a finite number.")
