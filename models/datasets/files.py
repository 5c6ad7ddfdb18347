"""CSV, Parquet and JSON Lines files to a data set."""

from __future__ import annotations

import gzip
import hashlib
import io
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any

import polars as pl

from models.datasets import mapping, tables
from models.datasets.dataset import Dataset
from models.datasets.mapping import Columns
from models.datasets.schema import DatasetError
from models.domain import Domain
from models.preprocess import clean

_CSV, _LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")
ENDINGS = (*(f"{e}{z}" for e in (*_CSV, *_LINES) for z in ("", ".gz")), ".parquet")


@dataclass(frozen=True)
class Source:
    """One input: where it came from, its rows as they are, and what ``dataset.json`` says of it."""

    path: Path
    frame: pl.DataFrame
    sha256: str

    @property
    def facts(self) -> dict[str, Any]:
        """Name, digest and size, without the folder, which is nobody's business."""
        return {"file": self.path.name, "sha256": self.sha256, "rows": len(self.frame)}


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


def read(path: Path) -> Source:
    """Read a file by its ending (see ENDINGS). Text files keep every cell as text, so that ``007`` stays ``007``.

    Raises:
        DatasetError: no such file, an ending that is not known, or content that is not what the ending says.
    """
    if not path.is_file():
        raise DatasetError(f"There is no file {path}.")
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        raise DatasetError(f"{path.name} ends in none of {', '.join(ENDINGS)}; convert it first.")
    try:
        frame = _frame(path, name.removesuffix(".gz"))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except (OSError, EOFError, UnicodeDecodeError, pl.exceptions.PolarsError) as error:
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise DatasetError(f"{path.name} cannot be read ({reason[0].rstrip('.')}).") from error
    return Source(path, frame, digest)


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
    sources: Sequence[Source], columns: Columns, domain: Domain, name: str, now: datetime, extras: Extras | None = None
) -> Imported:
    """Clean the rows of all sources and make one data set of them.

    Raises:
        MappingError: a column or type of the mapping does not exist.
        NothingLeft: every row was rejected.
        DatasetError: a column cannot be read.
    """
    extras = extras or Extras()
    cleaned = clean([source.frame for source in sources], columns, domain, name, now)
    rejected = list(zip(sources, cleaned.rejected, strict=True))
    report: dict[str, Any] = {
        "read": cleaned.read,
        "kept": cleaned.kept,
        "rejected": dict(cleaned.reasons),
        "ignored_values": cleaned.ignored_values,
    }
    items, users = cleaned.items, cleaned.users
    if extras.items is not None:
        items = _overlay(items, extras.items, tables.read_items, "item_id", report, rejected)
    if extras.users is not None:
        users = _overlay(users, extras.users, tables.read_users, "user_id", report, rejected)
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
    rejected.append((source, table.rejected))
    kind = key.replace("_id", "s")
    report[kind] = {"read": len(source.frame), "kept": len(table.kept), "rejected": dict(table.reasons)}
    return tables.overlay(known, table.kept, key)


def write_rejected(rejected: Sequence[tuple[Source, pl.DataFrame]], beside: Path | None, spare: Path) -> list[Path]:
    """Write the rejected rows of each input to ``<stem>.rejected.parquet`` and return the files written.

    Args:
        beside: the folder to write to; None for the one the input lies in.
        spare: where to write instead if that folder cannot be written.

    Raises:
        DatasetError: neither can be written.
    """
    written: list[Path] = []
    for source, frame in rejected:
        if len(frame):
            stem = stem_of(source.path)
            taken = sum(path.name.startswith(f"{stem}.rejected") for path in written)
            name = f"{stem}.rejected{f'-{taken + 1}' if taken else ''}.parquet"
            written.append(_write_first(frame, [(beside or source.path.parent) / name, spare / name]))
    return written


def _write_first(frame: pl.DataFrame, targets: Sequence[Path]) -> Path:
    """Write to the first target that can be written."""
    problems = []
    for target in targets:
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            frame.write_parquet(target)
        except OSError as error:
            problems.append(str(error))
        else:
            return target
    raise DatasetError(f"The rejected rows can be written to none of {', '.join(map(str, targets))} ({problems[0]}).")


def stem_of(path: Path) -> str:
    """The file's name without its ending."""
    ending = max((e for e in ENDINGS if path.name.lower().endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def _frame(path: Path, name: str) -> pl.DataFrame:
    if name.endswith(".parquet"):
        return pl.read_parquet(path)
    data = gzip.decompress(path.read_bytes()) if path.name.lower().endswith(".gz") else path.read_bytes()
    if not data.strip():
        return pl.DataFrame()
    if name.endswith(_CSV):
        separator = "\t" if name.endswith(".tsv") else ","
        return pl.read_csv(io.BytesIO(data), separator=separator, infer_schema=False)
    return pl.read_ndjson(io.BytesIO(data), infer_schema_length=None)
