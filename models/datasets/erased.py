"""A data set without the users that were erased (``foretell import --erased``)."""

from __future__ import annotations

import polars as pl

from models.erasure import Erased

#: What such rows are counted as. Unlike other rejected rows they are written nowhere.
REASON = "user erased"


def is_erased(frame: pl.DataFrame, erased: Erased | None) -> pl.Expr:
    """Whether a row of ``user_id`` and ``at`` is of a user who was erased then or later, or who knows when.

    What a user did after the erasure is theirs to give, and stays.
    """
    times = {} if erased is None else erased.erased_at(frame["user_id"].drop_nulls().unique())
    if not times:
        return pl.lit(False)
    until = pl.col("user_id").replace_strict(times, default=None, return_dtype=pl.Datetime("us", "UTC"))
    return until.is_not_null() & (pl.col("at").is_null() | (pl.col("at") <= until))


def erased_ids(user_ids: pl.Series, erased: Erased | None) -> list[str]:
    """Of these ids those that were erased at any time: a table of users does not say when its rows are from."""
    return [] if erased is None else list(erased.erased_at(user_ids.drop_nulls().unique()))
