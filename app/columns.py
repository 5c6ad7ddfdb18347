"""The items of the vocabulary as columns: what titles and filters are read from."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
from pydantic import FiniteFloat

from app.selection import Mask, Selection
from app.written import label_members
from models.contract import FIRST

#: Filters whose selections are kept until the catalogue changes; a selection has a byte for each item.
KEPT = 64
#: Items whose labels are kept as they are written; some hundred bytes each.
KEPT_LABELS = 1 << 16


@dataclass(frozen=True, slots=True)
class ItemContent:
    """What the catalogue says of one item; ``categories`` go from coarse to fine, ``price`` is None where unknown."""

    title: str | None = None
    categories: tuple[str, ...] = ()
    price: FiniteFloat | None = None
    available: bool = True


class Columns:
    """One place for each internal item id: of the vocabulary, and beyond it one for each newcomer's seat.

    An item that nobody described is not on offer. Only where none is described, all are: a model can be tried before
    there is a catalogue.

    Attributes:
        described: whether any item is.
        labels: what :meth:`write` has written, by internal id, as long as it holds.
    """

    def __init__(self, known: int, seats: int = 0) -> None:
        size = known + seats
        self.described = False
        self._titles: list[str | None] = [None] * size
        self._price = np.full(size, np.nan, np.float32)
        self._available = np.arange(size) >= FIRST  # PAD and UNKNOWN are never on offer
        self._available[known:] = False
        self._codes: dict[str, int] = {}  # of category names, from 1; 0 is none
        self._categories = np.zeros((1, size), np.int32)  # [levels, V]
        self._selections: dict[tuple[frozenset[str], float | None, float | None], Selection] = {}
        self.labels: dict[int, bytes] = {}

    def put(self, item: int, content: ItemContent) -> None:
        """Describe an item, by internal id."""
        self._selections.clear()
        if not self.described:
            self.described = True
            self._available[:] = False
        self._titles[item] = content.title
        self.labels.pop(item, None)
        self._price[item] = np.nan if content.price is None else content.price
        self._available[item] = content.available
        missing = len(content.categories) - len(self._categories)
        if missing > 0:
            self._categories = np.pad(self._categories, ((0, missing), (0, 0)))
        self._categories[:, item] = 0
        for level, name in enumerate(content.categories):
            self._categories[level, item] = self._codes.setdefault(name, len(self._codes) + 1)

    def clear(self, item: int) -> None:
        """Nobody sits there any more."""
        self._selections.clear()
        self._available[item] = False

    def title(self, item: int) -> str | None:
        """The title of an internal id; None where there is none."""
        return self._titles[item]

    def write(self, item: int, name: str) -> bytes:
        """An internal id whose external one is ``name``, as :func:`app.written.label_members` has it."""
        if len(self.labels) >= KEPT_LABELS:
            self.labels.clear()
        written = self.labels[item] = label_members(name, self._titles[item])
        return written

    def allowed(
        self, categories: Collection[str] = (), min_price: float | None = None, max_price: float | None = None
    ) -> Selection:
        """See :meth:`app.catalogue.Catalogue.allowed`."""
        key = (frozenset(categories), min_price, max_price)
        if (kept := self._selections.get(key)) is not None:
            return kept
        if len(self._selections) >= KEPT:
            del self._selections[next(iter(self._selections))]  # the one that has been kept longest
        selection = self._selections[key] = Selection(self._mask(*key))
        return selection

    def _mask(self, categories: Collection[str], min_price: float | None, max_price: float | None) -> Mask:
        mask = self._available.copy()
        if categories:
            codes = [self._codes[name] for name in categories if name in self._codes]
            mask &= np.isin(self._categories, codes).any(axis=0)
        if min_price is not None:
            mask &= self._price >= min_price
        if max_price is not None:
            mask &= self._price <= max_price
        return mask
