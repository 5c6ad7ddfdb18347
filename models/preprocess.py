"""Raw rows to clean events: every row is either kept, or rejected with a reason.

:func:`clean` reads the columns, finds what is wrong with each row and splits them; kept and rejected add up to what
was read. Reasons are found in this order, the first one counts: an erased user, something missing, a rule of the
source, an id too long, an unknown type, an impossible time, an unreadable value, a duplicate.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import polars as pl

from models.datasets import cells
from models.datasets.erased import REASON, is_erased
from models.datasets.mapping import Columns, MappingError
from models.datasets.rejected import with_reasons
from models.domain import Domain
from models.erasure import Erased

#: Longer ids are mistakes (a whole line in one cell), and would be paid for in every index.
LONGEST_ID = 256
#: Before that nobody kept logs such as these; MovieLens begins in 1995.
EARLIEST = datetime(1990, 1, 1, tzinfo=UTC)
#: Clocks differ; a day covers every zone.
LATEST = timedelta(days=1)

_SAME = ("user_id", "item_id", "type", "at", "value", "request_id")


@dataclass(frozen=True)
class Clean:
    """What became of the rows that were read.

    Attributes:
        events, exposures: kept rows as a data set wants them; exposures is None where no row is one.
        items, users: what the rows say about them.
        rejected: for each input frame its rejected rows, with ``row`` (from 0) and ``reason``; without those of
            erased users, which are counted and forgotten.
        reasons: rejected rows by reason, most frequent first.
        read: rows that came in. ``ignored_values`` of them carried a number that their behaviour does not have.
    """

    events: pl.DataFrame
    exposures: pl.DataFrame | None
    items: pl.DataFrame
    users: pl.DataFrame
    rejected: tuple[pl.DataFrame, ...]
    reasons: Mapping[str, int]
    read: int
    ignored_values: int

    @property
    def kept(self) -> int:
        """Rows that became events or exposures."""
        return len(self.events) + (0 if self.exposures is None else len(self.exposures))


def clean(
    frames: Sequence[pl.DataFrame],
    columns: Columns,
    domain: Domain,
    name: str,
    now: datetime,
    erased: Erased | None = None,
) -> Clean:
    """Clean the rows of one or more frames (files) that share a mapping.

    Args:
        name: prefix of the generated event ids, ``<name>-<row>``, zero-padded so that they sort as the input does.
        now: events later than a day after it are impossible.
        erased: users whose rows are left out.

    Raises:
        MappingError: a column is missing, or a type in the mapping is none of the domain's.
        DatasetError: a column holds lists or binary data.
    """
    known = [*domain.types, *([domain.exposure] if domain.exposure else [])]
    for word in [*columns.types.values(), *([columns.constant_type] if columns.constant_type else [])]:
        if word not in known:
            raise MappingError(
                f"The mapping makes {word!r} of a type; the domain {domain.name!r} has {', '.join(known)}."
            )
    carriers = [b.name for b in domain.behaviours if b.value]
    read = [_judge(frame, columns, known, carriers, now, erased) for frame in frames]
    rows = pl.concat([part.with_columns(pl.lit(n).alias("file")) for n, part in enumerate(read)]).with_row_index(
        "order"
    )
    rows = _mark_duplicates(rows)
    rejected = rows.filter(pl.col("reason").is_not_null())
    kept = rows.filter(pl.col("reason").is_null())
    width = len(str(max(len(rows) - 1, 0)))
    number = pl.col("order").cast(pl.String).str.zfill(width)
    kept = kept.with_columns(pl.concat_str(pl.lit(f"{name}-"), number).alias("event_id"))
    valued = pl.col("type").is_in(carriers)
    ignored = kept.filter(pl.col("value").is_not_null() & ~valued)
    kept = kept.with_columns(pl.when(valued).then("value"))
    events, exposures = _events(kept, columns, domain)
    counts = rejected["reason"].value_counts(sort=True)
    told = rejected.filter(pl.col("reason") != REASON)
    parts = [told.filter(pl.col("file") == n) for n in range(len(frames))]
    cleaned = Clean(
        events=events,
        exposures=exposures,
        items=_items(kept),
        users=_users(kept, columns),
        rejected=tuple(
            with_reasons(frame, mine["row"], mine["reason"]) for frame, mine in zip(frames, parts, strict=True)
        ),
        reasons=dict(counts.iter_rows()),
        read=len(rows),
        ignored_values=len(ignored),
    )
    if cleaned.kept + len(rejected) != sum(len(frame) for frame in frames):
        raise AssertionError("Rows kept and rejected do not add up to the rows read.")
    return cleaned


def _judge(
    frame: pl.DataFrame,
    columns: Columns,
    known: Sequence[str],
    carriers: Sequence[str],
    now: datetime,
    erased: Erased | None,
) -> pl.DataFrame:
    """One row for each row of the frame, read by the mapping, with the reason to reject it or null. A value matters to
    the types that are ``carriers``."""
    columns.check(frame.columns)
    read = frame.select(_read(frame, columns))
    rules = _rules(frame, columns)
    wrong: dict[str, pl.Expr] = {REASON: is_erased(read, erased)}
    for what, column in (("user", "user_id"), ("item", "item_id"), ("type", "type")):
        wrong[f"{what} missing"] = pl.col(column).is_null()
    wrong["time missing"] = ~pl.col("time_given")
    wrong |= {reason: pl.col(f"rule_{n}") for n, reason in enumerate(rules)}
    ids = [pl.col(column).str.len_chars() > LONGEST_ID for column in ("user_id", "item_id", "request_id")]
    wrong["id too long"] = pl.any_horizontal(ids)
    wrong["unknown type"] = ~pl.col("type").is_in(list(known))
    wrong["time unreadable"] = pl.col("at").is_null()
    wrong["time before 1990"] = pl.col("at") < pl.lit(EARLIEST)
    wrong["time in the future"] = pl.col("at") > pl.lit(now + LATEST)
    carries = pl.col("type").is_in(list(carriers))
    wrong["value unreadable"] = carries & pl.col("value_given") & pl.col("value").is_null()
    wrong["value not finite"] = carries & ~pl.col("value").is_finite()
    reasons = [pl.when(test.fill_null(False)).then(pl.lit(reason)) for reason, test in wrong.items()]
    marks = frame.select(test.alias(f"rule_{n}") for n, test in enumerate(rules.values()))
    judged = pl.concat([read, marks], how="horizontal") if rules else read
    helpers = ["time_given", "value_given", *marks.columns]
    return judged.with_columns(pl.coalesce(reasons).alias("reason")).drop(helpers).with_row_index("row")


def _read(frame: pl.DataFrame, columns: Columns) -> list[pl.Expr]:
    """The columns of a data set, and of its items and users, as expressions over the raw frame."""

    def optional(column: str | None, read: type[pl.DataType] = pl.String) -> pl.Expr:
        if column is None:
            return pl.lit(None, read)
        return cells.text(frame, column) if read is pl.String else cells.number(frame, column)

    kind = pl.lit(columns.constant_type)
    if columns.type:
        kind = cells.text(frame, columns.type).replace(dict(columns.types))
    value = optional(columns.value, pl.Float64)
    given = pl.lit(False) if columns.value is None else cells.text(frame, columns.value).is_not_null()
    if columns.value and frame.schema[columns.value].is_float():
        given = pl.col(columns.value).is_not_null()  # NaN is a value, though a bad one
    if columns.times:
        value = value * cells.number(frame, columns.times)
    levels = [cells.text(frame, column) for column in columns.categories]
    path = pl.concat_list(levels).list.drop_nulls() if levels else pl.lit([], pl.List(pl.String))
    position = optional(columns.position, pl.Float64).cast(pl.Int32, strict=False).fill_null(0)
    return [
        cells.text(frame, columns.user).alias("user_id"),
        cells.text(frame, columns.item).alias("item_id"),
        kind.alias("type"),
        cells.moment(frame, columns.time).alias("at"),
        cells.text(frame, columns.time).is_not_null().alias("time_given"),
        value.alias("value"),
        given.alias("value_given"),
        optional(columns.request).alias("request_id"),
        position.clip(0).alias("position"),
        optional(columns.title).alias("title"),
        optional(columns.price, pl.Float64).alias("price"),
        path.alias("categories"),
        *(cells.text(frame, column).alias(f"context_{f}") for f, column in columns.context.items()),
        *(cells.text(frame, column).alias(f"profile_{f}") for f, column in columns.profile.items()),
    ]


def _rules(frame: pl.DataFrame, columns: Columns) -> dict[str, pl.Expr]:
    """For each reason of the source's own the test that a row fails; null where the row does not say."""
    tests = {}
    for rule in columns.reject:
        if rule.at_most is not None:
            tests[rule.reason] = cells.number(frame, rule.column) <= rule.at_most
        else:
            matches = cells.text(frame, rule.column).str.contains(rule.pattern or rule.unless or "")
            tests[rule.reason] = matches if rule.pattern is not None else ~matches
    return tests


def _mark_duplicates(rows: pl.DataFrame) -> pl.DataFrame:
    """Give every row but the first of those that say the same the reason ``duplicate``."""
    good = rows.filter(pl.col("reason").is_null())
    first = good.unique(subset=list(_SAME), keep="first", maintain_order=True)
    twice = good.join(first.select("order"), on="order", how="anti").select("order", pl.lit("duplicate").alias("twice"))
    marked = rows.join(twice, on="order", how="left", maintain_order="left")
    return marked.with_columns(pl.coalesce("reason", "twice").alias("reason")).drop("twice")


def _events(kept: pl.DataFrame, columns: Columns, domain: Domain) -> tuple[pl.DataFrame, pl.DataFrame | None]:
    """Kept rows as events and exposures."""
    context = [f"context_{name}" for name in columns.context]
    shown = pl.col("type") == (domain.exposure or "")
    exposures = kept.filter(shown).select("event_id", "request_id", "user_id", "item_id", "at", "position", *context)
    events = kept.filter(~shown).select("event_id", "user_id", "item_id", "type", "at", "value", "request_id", *context)
    return events, exposures if len(exposures) else None


def _items(kept: pl.DataFrame) -> pl.DataFrame:
    """What kept rows say about their items: the newest title and categories, the median price."""
    price = pl.col("price").filter(pl.col("price").is_finite() & (pl.col("price") >= 0))
    path = pl.col("categories").filter(pl.col("categories").list.len() > 0)
    ordered = kept.sort("at", "order")
    return ordered.group_by("item_id").agg(pl.col("title").drop_nulls().last(), price.median(), path.last())


def _users(kept: pl.DataFrame, columns: Columns) -> pl.DataFrame:
    """What kept rows say about their users: the newest value of each field."""
    profile = [f"profile_{name}" for name in columns.profile]
    return kept.sort("at", "order").group_by("user_id").agg(pl.col(c).drop_nulls().last() for c in profile)
