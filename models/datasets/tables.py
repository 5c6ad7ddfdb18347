"""Files of items and of users, which say more about them than events do."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from models.datasets import cells
from models.datasets.erased import REASON, erased_ids
from models.datasets.mapping import MappingError
from models.datasets.rejected import with_reasons
from models.erasure import Erased
from models.preprocess import LONGEST_ID

_ITEM: Mapping[str, tuple[str, ...]] = {
    "item_id": ("itemid", "item", "id", "productid", "product", "movieid", "articleid", "sku", "stockcode"),
    "title": ("title", "name", "description"),
    "categories": ("categories", "category", "categoryid", "genres"),
    "price": ("price", "unitprice"),
    "available": ("available",),
}
_USER = {"user_id": ("userid", "user", "id", "customerid", "customer", "visitorid", "householdid", "memberid")}
_NO = ("false", "no", "0", "n", "f")


@dataclass(frozen=True)
class Table:
    """Kept rows as a data set wants them, and rejected ones with ``row``, ``reason`` and their own columns."""

    kept: pl.DataFrame
    rejected: pl.DataFrame
    reasons: Mapping[str, int]


def read_items(raw: pl.DataFrame) -> Table:
    """Items from ``item_id`` and, where they are there, title, categories, price and available.

    Categories are a list, or text with ``>`` or ``|`` between the levels, coarse to fine. Of two rows of one item the
    last counts; an item with an unreadable or negative price is rejected.

    Raises:
        MappingError: no column, or more than one, is known as the item's id.
        DatasetError: a column is of a type that cannot be read.
    """
    names = _find(raw.columns, _ITEM, "item_id")
    parts = [cells.text(raw, names["item_id"]).alias("item_id")]
    if "title" in names:
        parts.append(cells.text(raw, names["title"]).alias("title"))
    if "categories" in names:
        parts.append(_path(raw, names["categories"]).alias("categories"))
    wrong: dict[str, pl.Expr] = {}
    if "price" in names:
        price, given = cells.number(raw, names["price"]), cells.text(raw, names["price"]).is_not_null()
        parts.append(price.alias("price"))
        wrong["price unreadable"] = given & (price.is_null() | ~price.is_finite() | (price < 0))
    if "available" in names:
        word = cells.text(raw, names["available"]).str.to_lowercase()
        parts.append((~word.is_in(_NO)).fill_null(True).alias("available"))
    return _separate(raw, "item_id", parts, wrong)


def read_users(raw: pl.DataFrame, erased: Erased | None = None) -> Table:
    """Users from ``user_id``; every other column becomes a field of the profile. The last row of a user counts. Erased
    users are counted as rejected, but told nowhere.

    Raises:
        MappingError: no column, or more than one, is known as the user's id.
        DatasetError: a column is of a type that cannot be read.
    """
    key = _find(raw.columns, _USER, "user_id")["user_id"]
    parts = [cells.text(raw, key).alias("user_id")]
    fields = [column for column in raw.columns if column != key]
    parts += [cells.text(raw, column).alias(f"profile_{column.removeprefix('profile_')}") for column in fields]
    gone = erased_ids(raw.select(parts[0])["user_id"], erased)
    return _separate(raw, "user_id", parts, {}, {REASON: pl.col("_key").is_in(gone)})


def overlay(known: pl.DataFrame, better: pl.DataFrame, key: str) -> pl.DataFrame:
    """``known`` with what ``better`` says on top; rows that only one of them has are kept."""
    both = known.join(better, on=key, how="full", coalesce=True, suffix="_better")
    shared = [c for c in better.columns if c != key and c in known.columns]
    both = both.with_columns(pl.coalesce(f"{c}_better", c).alias(c) for c in shared)
    return both.drop(f"{c}_better" for c in shared)


def _find(found: Sequence[str], words: Mapping[str, tuple[str, ...]], key: str) -> dict[str, str]:
    """Column by meaning. An exact name wins over a synonym."""
    names = {}
    for meaning, synonyms in words.items():
        fitting = [c for c in found if re.sub(r"[_\s]", "", c).lower() in synonyms]
        fitting = [meaning] if meaning in fitting else fitting
        if len(fitting) == 1:
            names[meaning] = fitting[0]
        elif fitting:
            raise MappingError(f"Both {' and '.join(fitting)} could be the {meaning}; rename one of them {meaning}.")
    if key not in names:
        raise MappingError(f"No column is known as the {key}; rename one. Columns found: {', '.join(found) or 'none'}.")
    return names


def _path(raw: pl.DataFrame, column: str) -> pl.Expr:
    if isinstance(raw.schema[column], pl.List):
        return pl.col(column).cast(pl.List(pl.String)).list.drop_nulls()
    levels = cells.text(raw, column).str.replace_all("|", ">", literal=True).str.split(">")
    return levels.list.eval(pl.element().str.strip_chars()).list.eval(pl.element().filter(pl.element() != ""))


def _separate(
    raw: pl.DataFrame,
    key: str,
    parts: Sequence[pl.Expr],
    wrong: Mapping[str, pl.Expr],
    first: Mapping[str, pl.Expr] | None = None,
) -> Table:
    tests = {
        **(first or {}),
        f"{key} missing": pl.col("_key").is_null(),
        "id too long": pl.col("_key").str.len_chars() > LONGEST_ID,
    }
    marks = [test.alias(f"_wrong_{n}") for n, test in enumerate(wrong.values())]
    rows = pl.concat([raw.select(parts), raw.select(parts[0].alias("_key"), *marks)], how="horizontal")
    tests |= {reason: pl.col(f"_wrong_{n}") for n, reason in enumerate(wrong)}
    reasons = [pl.when(test.fill_null(False)).then(pl.lit(reason)) for reason, test in tests.items()]
    rows = rows.with_columns(pl.coalesce(reasons).alias("_reason")).with_row_index("_row")
    good = rows.filter(pl.col("_reason").is_null())
    last = good.unique(subset=[key], keep="last").select("_row", _last=pl.lit(True))
    rows = rows.join(last, on="_row", how="left", maintain_order="left")
    repeated = pl.when(pl.col("_reason").is_null() & pl.col("_last").is_null()).then(pl.lit("duplicate"))
    rows = rows.with_columns(pl.coalesce("_reason", repeated).alias("_reason"))
    bad = rows.filter(pl.col("_reason").is_not_null())
    told = bad.filter(pl.col("_reason") != REASON)
    kept = rows.filter(pl.col("_reason").is_null()).select(c for c in rows.columns if not c.startswith("_"))
    return Table(
        kept, with_reasons(raw, told["_row"], told["_reason"]), dict(bad["_reason"].value_counts(sort=True).iter_rows())
    )
