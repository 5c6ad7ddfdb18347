"""Loads a data set into MongoDB: once, and so that a load that was cut short can simply be run again."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

import numpy as np
import polars as pl
import pymongo
from pymongo import WriteConcern
from pymongo.collection import Collection
from pymongo.database import Database
from pymongo.errors import BulkWriteError, PyMongoError

from app.event_store import StoredEvent
from app.mongo import EVENT_INDEX, Document, taken
from app.pseudonyms import Alias, same
from models.contract import EXPOSURES
from models.datasets.dataset import Dataset
from models.exposures import exposures_before

Progress = Callable[[str, int, int], None]

#: Documents in one insert. On SecantusDB the size makes no difference from 500 to 10,000; MongoDB likes large ones.
BATCH = 2000


class LoadError(Exception):
    """The data set cannot be loaded. The message is one sentence: what is wrong, and what to do."""


@dataclass(frozen=True, slots=True)
class Loaded:
    """What a load did: documents sent, by collection (none where everything was there already), and seconds."""

    counts: dict[str, int]
    seconds: float

    @property
    def skipped(self) -> bool:
        """Whether the database held this very data set already."""
        return not self.counts


def load_dataset(
    dataset: Dataset | Path,
    mongo_url: str,
    database: str,
    progress: Progress | None = None,
    *,
    users: int | None = None,
    replace: bool = False,
    key: str | None = None,
    alias: Alias = same,
) -> Loaded:
    """Insert events, with what was shown before them, items and users, and create the index that histories are read by.

    Args:
        dataset: a data set, or its folder.
        progress: called with a collection's name, documents done, documents in all.
        users: load only the first so many users (in the order of the data set) and their events; items all the same.
        replace: drop events, items and users of another data set first.
        key: what tells this load from another, where the fingerprint of the content does not (a demo's times move).
        alias: makes of a user id the one that is stored.

    Raises:
        LoadError: MongoDB does not answer, or the database holds another data set.
        DatasetError: the folder holds no data set.
    """
    began = time.monotonic()
    dataset = Dataset.read(dataset) if isinstance(dataset, Path) else dataset
    mark = {"name": dataset.name, "key": key or dataset.fingerprint(), "users": users}
    try:
        with _client(mongo_url) as client:
            store = client.get_database(database, write_concern=WriteConcern("majority"))
            if _holds(store, mark, replace):
                return Loaded({}, time.monotonic() - began)
            _mark(store, mark, complete=False)
            counts = _insert_all(store, dataset, users, alias, progress or (lambda name, done, total: None))
            store["events"].create_index(EVENT_INDEX)  # after the events: that takes half the time
            _mark(store, mark, complete=True)
    except PyMongoError as error:
        raise LoadError(f"MongoDB failed while loading ({_reason(error)}); load again to go on.") from error
    return Loaded(counts, time.monotonic() - began)


def loaded_key(mongo_url: str, database: str) -> str | None:
    """The key of the data set a database holds whole; None where there is none. Raises LoadError."""
    try:
        with _client(mongo_url) as client:
            held = client[database]["meta"].find_one({"_id": "dataset"})
    except PyMongoError as error:
        raise LoadError(f"MongoDB does not answer ({_reason(error)}); check FORETELL_MONGO_URL.") from error
    return held["key"] if held and held["complete"] else None


def _client(url: str) -> pymongo.MongoClient[Document]:
    return pymongo.MongoClient(url, appname="foretell-load", serverSelectionTimeoutMS=5000)


def _reason(error: PyMongoError) -> str:
    return str(error).split(",")[0]


def _holds(store: Database[Document], mark: Document, replace: bool) -> bool:
    """Whether the whole data set is there. Makes room for it where another is and may be replaced."""
    held = store["meta"].find_one({"_id": "dataset"})
    if held is None:
        return False
    if {name: held.get(name) for name in mark} == mark:
        return bool(held["complete"])
    if not replace:
        raise LoadError(
            f"The database {store.name} holds the data set {held['name']} already; load into another database "
            "(FORETELL_MONGO_DATABASE), or replace it."
        )
    for name in ("events", "items", "users"):
        store[name].drop()
    return False


def _mark(store: Database[Document], mark: Document, *, complete: bool) -> None:
    meta = store.get_collection("meta", write_concern=WriteConcern("majority", j=True))
    document = {**mark, "complete": complete, "loaded_at": datetime.now(UTC)}
    meta.replace_one({"_id": "dataset"}, document, upsert=True)


def _insert_all(
    store: Database[Document], dataset: Dataset, limit: int | None, alias: Alias, progress: Progress
) -> dict[str, int]:
    users = dataset.users if limit is None else dataset.users.head(limit)
    events = _with_exposed(dataset)
    events = events if limit is None else events.join(users, on="user_id", how="semi", maintain_order="left")
    sources: list[tuple[str, pl.DataFrame, Callable[[Document], Document]]] = [
        ("items", dataset.items, _item),
        ("users", users, partial(_user, alias)),
        ("events", events, partial(_event, alias)),
    ]
    for name, frame, convert in sources:
        done = 0
        for batch in _batches(frame, convert):
            _insert(store[name], batch)
            done += len(batch)
            progress(name, done, len(frame))
    return {name: len(frame) for name, frame, _ in sources}


def _with_exposed(dataset: Dataset) -> pl.DataFrame:
    """The events with ``exposed``: the newest items that their user was shown since the event before.

    It is null where the data set has no exposures.
    """
    if dataset.exposures is None:
        return dataset.events.with_columns(exposed=pl.lit(None, pl.List(pl.String)))
    start, end = exposures_before(dataset.events, dataset.exposures).T
    counts = np.minimum(end - start, EXPOSURES)
    owner = np.repeat(np.arange(len(counts)), counts)
    place = end[owner] - np.cumsum(counts)[owner] + np.arange(len(owner))
    shown = {"row": owner, "exposed": dataset.exposures["item_id"].gather(place)}
    lists = pl.DataFrame(shown, schema_overrides={"row": pl.UInt32}).group_by("row", maintain_order=True).agg("exposed")
    events = dataset.events.with_row_index("row").join(lists, on="row", how="left", maintain_order="left")
    return events.with_columns(pl.col("exposed").fill_null([]))


def _batches(frame: pl.DataFrame, convert: Callable[[Document], Document]) -> Iterator[list[Document]]:
    for part in frame.iter_slices(BATCH):
        yield [convert(row) for row in part.iter_rows(named=True)]


def _insert(collection: Collection[Document], documents: list[Document]) -> None:
    """Insert; documents that an earlier load, cut short, has stored already are left as they are."""
    try:
        collection.insert_many(documents, ordered=False)
    except BulkWriteError as error:
        taken(error)


def _event(alias: Alias, row: Document) -> Document:
    names = ("event_id", "item_id", "type", "at", "value", "request_id", "exposed")
    known = {name: row[name] for name in names}
    event = StoredEvent(**known, user_id=alias(row["user_id"]), context=_prefixed(row, "context_"))
    return event.to_document()


def _item(row: Document) -> Document:
    """Stamped when it is sent, not when the load began: a running service asks for what changed since its last look."""
    names = ("title", "categories", "price", "available")
    return {"_id": row["item_id"], **{name: row[name] for name in names}, "updated_at": datetime.now(UTC)}


def _user(alias: Alias, row: Document) -> Document:
    return {"_id": alias(row["user_id"]), "profile": _prefixed(row, "profile_")}


def _prefixed(row: Document, prefix: str) -> Document:
    """The columns with a prefix, without it and without nulls."""
    return {
        name.removeprefix(prefix): value for name, value in row.items() if name.startswith(prefix) and value is not None
    }
