"""What is on offer: the catalogue as the predictor needs it, the items a request names, what its filters leave."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Set
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.catalogue import ItemContent
from app.schemas import Filters


class Offer(Protocol):
    """What the predictor needs of :class:`app.catalogue.Catalogue`."""

    def title(self, item: int) -> str | None:
        """The title of an internal item id of the vocabulary."""
        ...

    def allowed(
        self,
        categories: Collection[str] = (),
        min_price: float | None = None,
        max_price: float | None = None,
        exclude: Iterable[str] = (),
    ) -> NDArray[np.bool_] | None:
        """Which items may be recommended, shape [V]; None for all."""
        ...

    async def find(self, item_ids: Iterable[str]) -> dict[str, ItemContent]:
        """Contents by external id; unknown ids are absent. Raises HistoryUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class Named:
    """The items a request names and the model has a vector for.

    Attributes:
        ids: internal ids by external id, in the order of the request.
        contents: of those beyond the vocabulary, as far as they were looked up.
    """

    ids: Mapping[str, int]
    contents: Mapping[str, ItemContent]


class Filtered:
    """The items that may be recommended.

    Args:
        seen: external ids to leave out.

    Attributes:
        mask: over the vocabulary, shape [V]; None where nothing is left out.
    """

    def __init__(self, filters: Filters, offer: Offer, seen: Set[str]) -> None:
        price = filters.price
        self._filters = filters
        self._seen = seen
        self.mask = offer.allowed(
            filters.categories or (),
            None if price is None else price.min,
            None if price is None else price.max,
            seen,
        )

    def passes(self, name: str, item: int, content: ItemContent | None = None) -> bool:
        """Whether one item may be recommended; one beyond the vocabulary is judged by its content."""
        if content is not None:
            return name not in self._seen and _fits(content, self._filters)
        return self.mask is None or (item < len(self.mask) and bool(self.mask[item]))


def _fits(content: ItemContent, filters: Filters) -> bool:
    if filters.categories is not None and not set(filters.categories) & set(content.categories):
        return False
    low, high = (None, None) if filters.price is None else (filters.price.min, filters.price.max)
    price = np.nan if content.price is None else content.price  # not a number is in no range
    return content.available and (low is None or price >= low) and (high is None or price <= high)
