"""The items on offer: columns in memory for those the model knows, MongoDB for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Self

import numpy as np
import structlog
from numpy.typing import NDArray

from app.errors import HistoryUnavailable
from app.mongo import Database, Document, driver_errors, patience
from models.contract import FIRST, UNKNOWN
from models.vocabulary import Vocabulary

log = structlog.get_logger(__name__)

Mask = NDArray[np.bool_]

#: An item counts as changed since the last look when its updated_at is no older than that look less this: room for
#: clocks that differ and for writes that take their time.
OVERLAP = timedelta(minutes=1)
#: Documents read at once.
BATCH = 1000


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What the catalogue says of one item; ``categories`` go from coarse to fine, ``price`` is None where unknown."""

    title: str | None
    categories: tuple[str, ...]
    price: float | None
    available: bool


class Catalogue:
    """Columns aligned with the model's internal item ids (V of them). Use it as an async context: entering it loads
    the items, then it looks for changes every ``refresh_seconds``.

    An item of the vocabulary that the catalogue does not describe counts as available, without categories or price.

    Args:
        database: holds the collection ``items``.
        vocabulary: of the model that serves.
        refresh_seconds: pause between two looks.
        on_failure: called when a look fails; the columns stay as they are.

    Raises:
        HistoryUnavailable: on entering, where MongoDB does not answer.
    """

    def __init__(
        self,
        database: Database,
        vocabulary: Vocabulary,
        refresh_seconds: float,
        *,
        on_failure: Callable[[], None] = lambda: None,
    ) -> None:
        self.failures = 0
        self._database = database
        self._items = database.items
        self._vocabulary = vocabulary
        self._refresh_seconds = refresh_seconds
        self._on_failure = on_failure
        self._looked_at: datetime | None = None
        self._task: asyncio.Task[None] | None = None
        size = len(vocabulary)
        self._titles: list[str | None] = [None] * size
        self._price = np.full(size, np.nan, np.float32)
        self._available = np.ones(size, np.bool_)
        self._available[:FIRST] = False  # PAD and UNKNOWN are never on offer
        self._codes: dict[str, int] = {}  # of category names, from 1; 0 is none
        self._categories = np.zeros((1, size), np.int32)  # [levels, V]

    async def __aenter__(self) -> Self:
        await self.refresh()
        self._task = asyncio.create_task(self._keep_fresh())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    def title(self, item: int) -> str | None:
        """The title of an internal item id; None where the catalogue has none."""
        return self._titles[item]

    def allowed(
        self,
        categories: Collection[str] = (),
        min_price: float | None = None,
        max_price: float | None = None,
        exclude: Iterable[str] = (),
    ) -> Mask | None:
        """Which items may be recommended, shape [V]; None where nothing but PAD and UNKNOWN is excluded.

        Args:
            categories: an item needs one of them on its path; empty means any.
            min_price, max_price: bounds, inclusive; an item without a price is in no range.
            exclude: external ids of unwanted items.
        """
        mask = self._available.copy()
        if categories:
            codes = [self._codes[name] for name in categories if name in self._codes]
            mask &= np.isin(self._categories, codes).any(axis=0)
        if min_price is not None:
            mask &= self._price >= min_price
        if max_price is not None:
            mask &= self._price <= max_price
        mask[self._vocabulary.item_ids(exclude)] = False  # unknown ids land on UNKNOWN, which is excluded anyway
        return None if mask[FIRST:].all() else mask

    async def find(self, item_ids: Iterable[str]) -> dict[str, ItemContent]:
        """The contents of items, by external id, as they are stored now; ids the catalogue does not know are absent.
        Raises HistoryUnavailable."""
        wanted = list(dict.fromkeys(item_ids))
        if not wanted:
            return {}
        with driver_errors():
            cursor = self._items.find({"_id": {"$in": wanted}}, batch_size=BATCH)
            return dict(_readable([row async for row in cursor]))

    async def refresh(self) -> int:
        """Read what changed since the last look, at first everything; says how many items that were.
        Raises HistoryUnavailable, and then changes nothing."""
        began = datetime.now(UTC)
        since = self._looked_at and self._looked_at - OVERLAP
        with driver_errors():
            await self._database.command("ping")  # an outage is told at once; only reading may take its time
        with driver_errors(), patience():
            cursor = self._items.find({"updated_at": {"$gte": since}} if since else {}, batch_size=BATCH)
            rows = [row async for row in cursor]
        for name, content in _readable(rows):
            item = self._vocabulary.item_id(name)
            if item != UNKNOWN:
                self._set(item, content)
        self._looked_at = began
        return len(rows)

    async def _keep_fresh(self) -> None:
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self.refresh()
            except HistoryUnavailable:
                self.failures += 1
                self._on_failure()
                log.warning("catalogue_refresh_failed", failures=self.failures)

    def _set(self, item: int, content: ItemContent) -> None:
        self._titles[item] = content.title
        self._price[item] = np.nan if content.price is None else content.price
        self._available[item] = content.available
        missing = len(content.categories) - len(self._categories)
        if missing > 0:
            self._categories = np.pad(self._categories, ((0, missing), (0, 0)))
        self._categories[:, item] = 0
        for level, name in enumerate(content.categories):
            self._categories[level, item] = self._codes.setdefault(name, len(self._codes) + 1)


def _readable(rows: Iterable[Document]) -> Iterator[tuple[str, ItemContent]]:
    """External id and content of each document; one that some other program wrote wrongly is left out and logged."""
    for row in rows:
        try:
            content = _content(row)
        except (TypeError, ValueError) as error:
            log.warning("item_unreadable", item_id=row["_id"], problem=str(error))
        else:
            yield row["_id"], content


def _content(row: Document) -> ItemContent:
    """A document of the collection ``items``; every field but the id may be missing."""
    price = row.get("price")
    return ItemContent(
        title=row.get("title"),
        categories=tuple(row.get("categories") or ()),
        price=None if price is None else float(price),
        available=bool(row.get("available", True)),
    )
