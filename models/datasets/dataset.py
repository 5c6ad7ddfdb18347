"""A data set: events, what was shown, items and users as Polars frames, and the folder they live in.

A folder holds ``dataset.json``, ``events.parquet``, ``items.parquet``, ``users.parquet`` and, where it is
known what users were shown, ``exposures.parquet``. docs/data.md lists the columns.
"""

from __future__ import annotations

import json
import os
import shutil
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import polars as pl

from models.datasets import schema
from models.datasets.schema import DatasetError
from models.domain import Domain, DomainError

__all__ = ["Dataset", "DatasetError", "rebase", "shift"]

INFO = "dataset.json"
FORMAT = 1


@dataclass(frozen=True)
class Dataset:
    """Frames that have passed :mod:`models.datasets.schema`, and the facts about them.

    Attributes:
        events: what users did, sorted by (user_id, at, event_id); (at, event_id) is the order of a history.
        items, users: every item and user that occurs, and more where they are known.
        exposures: what users were shown, in the order of events; None where nobody recorded it.
        info: the content of ``dataset.json``.
    """

    events: pl.DataFrame
    items: pl.DataFrame
    users: pl.DataFrame
    exposures: pl.DataFrame | None
    info: Mapping[str, Any]

    @classmethod
    def build(
        cls,
        name: str,
        domain: Domain,
        *,
        events: pl.DataFrame,
        items: pl.DataFrame | None = None,
        users: pl.DataFrame | None = None,
        exposures: pl.DataFrame | None = None,
        synthetic: bool = False,
        licence: str | None = None,
        source: Sequence[Mapping[str, Any]] = (),
        report: Mapping[str, Any] | None = None,
    ) -> Dataset:
        """Put frames into shape: add optional columns, items and users only events know; sort; check.

        Args:
            events, exposures: need event_id, user_id, item_id and at; events need type as well.
            items, users: need item_id and user_id.
            licence: under which terms the data may be used, where that is known.
            source: the files it was made of: ``{"file", "sha256", "rows"}`` each.
            report: what cleaning counted.

        Raises:
            DatasetError: a column is missing or of another type, an id is null or twice, a type unknown.
        """
        events = schema.arrange(events, schema.EVENTS, "events")
        shown = None if exposures is None else schema.arrange(exposures, schema.EXPOSURES, "exposures")
        both = [events] if shown is None else [events, shown]
        items = schema.complete(items, schema.ITEMS, "items", both)
        users = schema.complete(users, schema.USERS, "users", both)
        info = {
            "format": FORMAT,
            "name": name,
            "domain": domain.to_json(),
            "synthetic": synthetic,
            "licence": licence,
            "source": [dict(part) for part in source],
            "report": dict(report or {}),
            **_facts(events, items, users, shown),
        }
        dataset = cls(events, items, users, shown, info)
        dataset.check()
        return dataset

    @property
    def name(self) -> str:
        """The name of the data set, e.g. ``"storefront"``."""
        return str(self.info["name"])

    @property
    def domain(self) -> Domain:
        """The domain it was imported with."""
        try:
            return Domain.from_json(self.info["domain"], f"The domain in the {INFO} of {self.name}")
        except DomainError as error:
            raise DatasetError(str(error)) from error

    @property
    def synthetic(self) -> bool:
        """Whether a simulator made it."""
        return bool(self.info["synthetic"])

    def fingerprint(self) -> str:
        """Sixteen hex digits that change with the content; stable within one version of Polars."""
        total = 0
        for frame in (self.events, self.items, self.users, self.exposures):
            if frame is not None:
                total = (total * 1_000_003 + int(frame.hash_rows(seed=0).sum()) + len(frame)) % 2**64
        return f"{total:016x}"

    def check(self) -> None:
        """Raise DatasetError where a frame breaks the rules of :mod:`models.datasets.schema`."""
        schema.check(self.events, schema.EVENTS, "events")
        schema.check(self.items, schema.ITEMS, "items")
        schema.check(self.users, schema.USERS, "users")
        schema.check_references(self.events, self.items, self.users, "events")
        schema.check_types(self.events, self.domain)
        if self.exposures is not None:
            schema.check(self.exposures, schema.EXPOSURES, "exposures")
            schema.check_references(self.exposures, self.items, self.users, "exposures")

    def write(self, folder: Path) -> None:
        """Write the folder whole or not at all; an older data set there is replaced.

        Raises:
            DatasetError: the folder exists and holds something else, or cannot be written.
        """
        if folder.exists() and not (folder / INFO).is_file() and (not folder.is_dir() or any(folder.iterdir())):
            raise DatasetError(f"{folder} exists and holds no data set; choose another folder or remove it.")
        draft = folder.parent / f".{folder.name}-{uuid.uuid4().hex}"
        try:
            draft.mkdir(parents=True)
            for name, frame in self._frames().items():
                frame.write_parquet(draft / f"{name}.parquet", compression="zstd", compression_level=6)
            text = json.dumps(self.info, indent=1, ensure_ascii=False) + "\n"
            (draft / INFO).write_text(text, encoding="utf-8")
            _replace(folder, draft)
        except OSError as error:
            raise DatasetError(f"{folder} cannot be written ({error}).") from error
        finally:
            shutil.rmtree(draft, ignore_errors=True)

    @classmethod
    def read(cls, folder: Path) -> Dataset:
        """Read and check what :meth:`write` wrote.

        Raises:
            DatasetError: no data set there, another format, a damaged file, or frames that break the rules.
        """
        info = _read_info(folder)
        frames = {name: _read_frame(folder / f"{name}.parquet") for name in ("events", "items", "users")}
        shown = folder / "exposures.parquet"
        exposures = _read_frame(shown) if shown.exists() else None
        dataset = cls(frames["events"], frames["items"], frames["users"], exposures, info)
        dataset.check()
        return dataset

    def _frames(self) -> dict[str, pl.DataFrame]:
        frames = {"events": self.events, "items": self.items, "users": self.users}
        return frames if self.exposures is None else {**frames, "exposures": self.exposures}


def shift(dataset: Dataset, whole_weeks: int) -> Dataset:
    """The same data with all times moved by whole weeks (negative: back), so weekdays and hours stay."""
    moved = pl.col("at") + timedelta(weeks=whole_weeks)
    events = dataset.events.with_columns(moved)
    shown = None if dataset.exposures is None else dataset.exposures.with_columns(moved)
    info = {**dataset.info, **_facts(events, dataset.items, dataset.users, shown)}
    return Dataset(events, dataset.items, dataset.users, shown, info)


def rebase(dataset: Dataset, now: datetime) -> Dataset:
    """Shift by whole weeks so that the newest time is before ``now`` (aware) and at most a week before it."""
    frames = [dataset.events] if dataset.exposures is None else [dataset.events, dataset.exposures]
    newest = [at for at in (frame["at"].max() for frame in frames) if isinstance(at, datetime)]
    return shift(dataset, (now - max(newest)) // timedelta(weeks=1)) if newest else dataset


def _replace(folder: Path, draft: Path) -> None:
    """Put the draft in the folder's place; where that fails, the folder is what it was."""
    old = draft.with_name(draft.name + "-old")
    try:
        if folder.exists():
            os.rename(folder, old)
        os.rename(draft, folder)
    finally:
        if old.exists() and not folder.exists():
            os.rename(old, folder)
    shutil.rmtree(old, ignore_errors=True)


def _facts(
    events: pl.DataFrame, items: pl.DataFrame, users: pl.DataFrame, exposures: pl.DataFrame | None
) -> dict[str, Any]:
    """Counts, and the times of the first and the last event, as ``dataset.json`` states them."""
    counts = {"events": len(events), "users": len(users), "items": len(items)}
    first, last = events["at"].min(), events["at"].max()
    return {
        "counts": {**counts, "exposures": 0 if exposures is None else len(exposures)},
        "from": first.astimezone(UTC).isoformat() if isinstance(first, datetime) else None,
        "to": last.astimezone(UTC).isoformat() if isinstance(last, datetime) else None,
    }


def _read_info(folder: Path) -> dict[str, Any]:
    path = folder / INFO
    if not path.is_file():
        raise DatasetError(f"{folder} is no data set: it has no {INFO}; make one with `foretell import`.")
    try:
        info = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); import the data again.") from error
    if not isinstance(info, dict) or info.get("format") != FORMAT:
        raise DatasetError(f"{path} has another format than {FORMAT}; import the data again.")
    if missing := sorted({"name", "domain", "synthetic", "counts"} - set(info)):
        raise DatasetError(f"{path} lacks {missing[0]!r}; import the data again.")
    return info


def _read_frame(path: Path) -> pl.DataFrame:
    try:
        return pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise DatasetError(f"{path} cannot be read ({error}); import the data again.") from error
