"""What files say of events, items and users becomes one data set."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any

import polars as pl

from models.datasets import mapping, tables
from models.datasets.dataset import Dataset
from models.datasets.mapping import Columns
from models.datasets.rejected import MALFORMED, with_lines
from models.datasets.schema import DatasetError
from models.datasets.source import Source
from models.domain import Domain
from models.erasure import Erased
from models.preprocess import clean


@dataclass(frozen=True)
class Imported:
    """A finished import: the data set, and of each input the rows that were rejected."""

    dataset: Dataset
    rejected: Sequence[tuple[Source, pl.DataFrame]]


class NothingLeft(DatasetError):
    """Every row was rejected; ``rejected`` and ``report`` say why."""

    def __init__(self, rejected: Sequence[tuple[Source, pl.DataFrame]], report: Mapping[str, Any]) -> None:
        super().__init__("No event is left after cleaning; the table above says why the rows were rejected.")
        self.rejected, self.report = rejected, report


@dataclass(frozen=True)
class Extras:
    """Files (or frames) that say more about items and users than the events do."""

    items: Source | None = None
    users: Source | None = None


def choose(found: Sequence[str], given: Columns, named: str | None = None) -> tuple[Columns, str]:
    """The mapping for a file with these columns, and one sentence on how it was found.

    Args:
        given: what flags say; it counts more than anything else.
        named: a shipped mapping or a path, see :func:`models.datasets.mapping.load_mapping`.

    Raises:
        MappingError: no such mapping, or needed columns that are missing or ambiguous.
    """
    if named is not None:
        chosen, how = mapping.merge(mapping.load_mapping(named), given), f"Columns are read by the mapping {named}."
    elif (known := mapping.recognise(found)) is not None:
        chosen = mapping.merge(known, given)
        how = f"The columns are those of {known.name}, so its mapping is used."
    else:
        chosen = mapping.guess(found, given)
        roles = {role: getattr(chosen, role) for role in mapping.SYNONYMS}
        how = "Columns: " + ", ".join(f"{role} = {column}" for role, column in roles.items() if column) + "."
    chosen.check(found)
    return chosen, how


def build(
    sources: Sequence[Source],
    columns: Columns,
    domain: Domain,
    name: str,
    now: datetime,
    extras: Extras | None = None,
    erased: Erased | None = None,
) -> Imported:
    """Clean the rows of all sources and make one data set of them, without the users that were erased.

    Raises:
        MappingError: a column or type of the mapping does not exist.
        NothingLeft: every row was rejected.
        DatasetError: a column cannot be read, or there is no row.
    """
    extras = extras or Extras()
    if not sum(source.read for source in sources):
        raise DatasetError(f"{sources[0].path.name} has a header and no row under it; there is nothing to import.")
    cleaned = clean([source.frame for source in sources], columns, domain, name, now, erased)
    rejected = [(source, with_lines(rows, source.text)) for source, rows in zip(sources, cleaned.rejected, strict=True)]
    report = _count(sources, cleaned.kept, cleaned.reasons) | {"ignored_values": cleaned.ignored_values}
    items, users = cleaned.items, cleaned.users
    if extras.items is not None:
        items = _overlay(items, extras.items, tables.read_items, "item_id", report, rejected)
    if extras.users is not None:
        read_users = partial(tables.read_users, erased=erased)
        users = _overlay(users, extras.users, read_users, "user_id", report, rejected)
    if cleaned.events.is_empty():
        raise NothingLeft(rejected, report)
    every = [*sources, *(s for s in (extras.items, extras.users) if s is not None)]
    dataset = Dataset.build(
        name,
        domain,
        events=cleaned.events,
        items=items,
        users=users,
        exposures=cleaned.exposures,
        licence=columns.licence,
        source=[source.facts for source in every],
        report=report,
    )
    return Imported(dataset, rejected)


def _overlay(
    known: pl.DataFrame,
    source: Source,
    read_table: Callable[[pl.DataFrame], tables.Table],
    key: str,
    report: dict[str, Any],
    rejected: list[tuple[Source, pl.DataFrame]],
) -> pl.DataFrame:
    """What events say about items or users, with a file's rows on top; its report and rejected rows are added."""
    table = read_table(source.frame)
    rejected.append((source, with_lines(table.rejected, source.text)))
    report[key.replace("_id", "s")] = _count([source], len(table.kept), table.reasons)
    return tables.overlay(known, table.kept, key)


def _count(sources: Sequence[Source], kept: int, reasons: Mapping[str, int]) -> dict[str, Any]:
    """Rows read, kept and rejected by reason, most frequent first; malformed lines are rows that were read."""
    malformed = sum(source.malformed for source in sources)
    counts = {**reasons, **({MALFORMED: malformed} if malformed else {})}
    ordered = dict(sorted(counts.items(), key=lambda count: -count[1]))
    return {"read": sum(source.read for source in sources), "kept": kept, "rejected": ordered}
