"""The items on offer: columns in memory for those the model knows or has seated, MongoDB for the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from types import TracebackType
from typing import Annotated, Self

import structlog
from pydantic import Field

from app.breakers import Guard, unguarded
from app.columns import Columns, ItemContent
from app.documents import OnUnreadable, Reader, ignore
from app.errors import HistoryUnavailable
from app.mongo import Database, Document, driver_errors, patience
from app.newcomers import Newcomers
from app.selection import Selection
from app.written import label_members
from models.contract import UNKNOWN
from models.vocabulary import Vocabulary

__all__ = ["Catalogue", "ItemContent"]

log = structlog.stdlib.get_logger(__name__)

#: An item counts as changed since the last look when its updated_at is no older than that look less this: room for
#: clocks that differ and for writes that take their time.
OVERLAP = timedelta(minutes=1)
#: Every so many looks the whole catalogue is read: items may have been deleted, or written without a new updated_at.
WHOLE_EVERY = 20
#: Documents read at once; between two batches other requests get their turn.
BATCH = 1000


@dataclass(frozen=True, slots=True, kw_only=True)
class _Item(ItemContent):
    """A document of the collection ``items``."""

    id: Annotated[str, Field(alias="_id")]


class Catalogue:
    """What may be recommended. Use it as an async context: entering it loads the items, then it looks for changes every
    ``refresh_seconds``. :class:`app.columns.Columns` says what counts as on offer.

    Args:
        database: holds the collection ``items``.
        vocabulary: of the model that serves.
        newcomers: the seats beyond it.
        refresh_seconds: pause between two looks.
        on_failure: called when a look fails; the columns stay as they are.
        on_unreadable: told of documents that are left out.
        guard: what single reads go through; the background's own look every ``refresh_seconds`` does not.

    Raises:
        HistoryUnavailable: on entering, where MongoDB does not answer.
    """

    def __init__(
        self,
        database: Database,
        vocabulary: Vocabulary,
        newcomers: Newcomers,
        refresh_seconds: float,
        *,
        on_failure: Callable[[], None] = lambda: None,
        on_unreadable: OnUnreadable = ignore,
        guard: Guard = unguarded,
    ) -> None:
        self.failures = 0
        self._database = database
        self._items = database.items
        self._vocabulary = vocabulary
        self._newcomers = newcomers
        self._refresh_seconds = refresh_seconds
        self._on_failure = on_failure
        self._reader = Reader("items", _Item, on_unreadable)
        self._guard = guard
        self._columns = self._empty()
        self._looks = 0
        self._looked_at = datetime.now(UTC)
        self._task: asyncio.Task[None] | None = None

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

    def item_id(self, name: str) -> int:
        """The internal id of an item of the vocabulary or of a seated newcomer; UNKNOWN for another."""
        item = self._vocabulary.item_id(name)
        return self._newcomers.item_id(name) if item == UNKNOWN else item

    def label(self, item: int) -> tuple[str, str | None]:
        """External id and title of an internal id; None where the catalogue has no title."""
        if item < len(self._vocabulary):
            return self._vocabulary.item_name(item), self._columns.title(item)
        name, content = self._newcomers.at(item)
        return name, content.title

    def written(self, items: Iterable[int]) -> list[bytes]:
        """The same of several, as members of JSON objects, see :func:`app.written.label_members`."""
        kept = self._columns.labels
        return [kept[item] if item in kept else self._write(item) for item in items]

    def _write(self, item: int) -> bytes:
        if item < len(self._vocabulary):
            return self._columns.write(item, self._vocabulary.item_name(item))
        return label_members(*self.label(item))

    def allowed(
        self, categories: Collection[str] = (), min_price: float | None = None, max_price: float | None = None
    ) -> Selection:
        """Which items may be recommended; one and the same object for the same filters until the catalogue changes.

        Args:
            categories: an item needs one of them on its path; empty means any.
            min_price, max_price: bounds, inclusive; an item without a price is in no range.
        """
        return self._columns.allowed(categories, min_price, max_price)

    async def find(self, item_ids: Iterable[str]) -> dict[str, ItemContent]:
        """The contents of items, by external id, as they are stored now; ids the catalogue does not know are absent.
        Raises HistoryUnavailable."""
        wanted = list(dict.fromkeys(item_ids))
        if not wanted:
            return {}
        rows = await self._guard(lambda: self._rows(wanted))
        items = self._reader.read(rows)
        return {item.id: ItemContent(item.title, item.categories, item.price, item.available) for item in items}

    async def _rows(self, item_ids: list[str]) -> list[Document]:
        with driver_errors():
            return await self._items.find({"_id": {"$in": item_ids}}, batch_size=BATCH).to_list(None)

    async def refresh(self) -> int:
        """Read what changed since the last look, at first and now and then everything; says how many items that were.
        Raises HistoryUnavailable; what was read in part then counts as not read."""
        began = datetime.now(UTC)
        whole = self._looks % WHOLE_EVERY == 0 or not self._columns.described
        columns = self._empty() if whole else self._columns
        strangers: dict[str, ItemContent] = {}
        count = 0
        with driver_errors():
            await self._database.command("ping")  # an outage is told at once; only reading may take its time
        with driver_errors(), patience():
            changed = {} if whole else {"updated_at": {"$gte": self._looked_at - OVERLAP}}
            cursor = self._items.find(changed, batch_size=BATCH)
            while rows := await cursor.to_list(BATCH):
                for item in self._reader.read(rows):
                    if (known := self._vocabulary.item_id(item.id)) == UNKNOWN:
                        strangers[item.id] = item
                    else:
                        columns.put(known, item)
                count += len(rows)
        for seat, content in (await self._newcomers.look(strangers, whole=whole)).items():
            if content is None:
                columns.clear(seat)
            else:
                columns.put(seat, content)
        self._columns = columns
        self._looks += 1
        self._looked_at = began
        return count

    def _empty(self) -> Columns:
        return Columns(len(self._vocabulary), len(self._newcomers))

    async def _keep_fresh(self) -> None:
        """Until cancelled. No error ends it: that nobody looks any more would go unnoticed."""
        while True:
            await asyncio.sleep(self._refresh_seconds)
            try:
                await self.refresh()
            except HistoryUnavailable as error:
                self._count_failure()
                log.warning("catalogue_refresh_failed", failures=self.failures, problem=error.detail)
            except Exception:
                self._count_failure()
                log.exception("catalogue_refresh_failed", failures=self.failures)

    def _count_failure(self) -> None:
        self.failures += 1
        self._on_failure()
