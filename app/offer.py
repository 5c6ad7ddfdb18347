"""What is on offer: the catalogue as the predictor needs it, the items a request names, what its filters leave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from app.catalogue import ItemContent
from app.schemas import Filters
from app.selection import Allowed, Selection
from models.contract import UNKNOWN
from models.vocabulary import Ids, Vocabulary


class Offer(Protocol):
    """What the predictor needs of :class:`app.catalogue.Catalogue`."""

    def item_id(self, name: str) -> int:
        """The internal id of an item of the vocabulary or of a seated newcomer; UNKNOWN for another."""
        ...

    def label(self, item: int) -> tuple[str, str | None]:
        """External id and title of such an internal id."""
        ...

    def written(self, items: Iterable[int]) -> list[bytes]:
        """The same of several, as members of JSON objects, see :func:`app.written.label_members`."""
        ...

    def allowed(
        self, categories: Collection[str] = (), min_price: float | None = None, max_price: float | None = None
    ) -> Selection:
        """Which items may be recommended."""
        ...

    async def find(self, item_ids: Iterable[str]) -> dict[str, ItemContent]:
        """Contents by external id; unknown ids are absent. Raises HistoryUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """The items a request names, as far as model or catalogue know them.

    Attributes:
        ids: internal ids by external id, in the order of the request. Those beyond all that the model has rows for are
            of this request only, its guests.
        newcomers: what the catalogue says, right now, of items that the vocabulary lacks.
    """

    ids: Mapping[str, int]
    newcomers: Mapping[str, ItemContent]

    @classmethod
    def of(
        cls, items: Iterable[str], vocabulary: Vocabulary, newcomers: Mapping[str, ItemContent], first: int
    ) -> Named:
        """The items of a request; one that is neither in the vocabulary nor a newcomer is left out.

        Newcomers are judged by what the catalogue says right now, also those that are seated; ``first`` is the id of
        the first.
        """
        places = {name: first + place for place, name in enumerate(newcomers)}
        ids = {name: places.get(name, vocabulary.item_id(name)) for name in items}
        return cls({name: item for name, item in ids.items() if item != UNKNOWN}, newcomers)


class Filtered:
    """The items that may be recommended.

    Args:
        seen: internal ids of items to leave out; repeats, and UNKNOWN, are welcome.

    Attributes:
        allowed: those of the vocabulary.
    """

    def __init__(self, filters: Filters, offer: Offer, seen: Ids) -> None:
        price = filters.price
        self._filters = filters
        selection = offer.allowed(
            filters.categories or (), None if price is None else price.min, None if price is None else price.max
        )
        self.allowed = Allowed(selection, seen)

    def of(self, named: Named) -> Ids:
        """Those of the named items that may be recommended, shape [n], in the order of the request."""
        passing = [item for name, item in named.ids.items() if self._passes(item, named.newcomers.get(name))]
        return np.array(passing, np.int32)

    def _passes(self, item: int, newcomer: ItemContent | None) -> bool:
        if newcomer is not None:  # judged by its content
            return _fits(newcomer, self._filters)
        return self.allowed.has(item)


def _fits(content: ItemContent, filters: Filters) -> bool:
    if filters.categories is not None and not set(filters.categories) & set(content.categories):
        return False
    low, high = (None, None) if filters.price is None else (filters.price.min, filters.price.max)
    price = np.nan if content.price is None else content.price  # not a number is in no range
    return content.available and (low is None or price >= low) and (high is None or price <= high)
