"""Which items may be recommended: what a filter leaves, shared by requests, and the few that one of them leaves out."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.vocabulary import Ids

Mask = NDArray[np.bool_]

#: Nothing is left out.
NOTHING: Ids = np.zeros(0, np.int32)


class Selection:
    """The items that a filter leaves; all requests with that filter share it, so nobody writes to it.

    Attributes:
        mask: which of the internal ids they are, shape [I].
        count: how many they are.
    """

    def __init__(self, mask: Mask) -> None:
        mask.flags.writeable = False
        self.mask = mask
        self.count = int(np.count_nonzero(mask))

    @cached_property
    def row(self) -> Mask:
        """The mask as the only row of a batch's, shape [1, I]: always the same object."""
        return self.mask[None]

    @cached_property
    def ids(self) -> Ids:
        """The items themselves, shape [count]; only asked for where they are few."""
        return np.flatnonzero(self.mask).astype(np.int32)


class Allowed(NamedTuple):
    """The items of a selection, less those of ``without`` (internal ids, shape [n]; repeats are welcome)."""

    selection: Selection
    without: Ids = NOTHING

    def has(self, item: int) -> bool:
        """Whether an internal id is one of them."""
        return bool(self.selection.mask[item]) and item not in self.without

    def mask(self) -> Mask:
        """Which internal ids they are, shape [I]: the caller's own."""
        mask = self.selection.mask.copy()
        mask[self.without] = False
        return mask


def masks(allowed: Sequence[Allowed]) -> Mask:
    """The masks of several requests [B, I], or the ``row`` of the selection that all share."""
    first = allowed[0].selection
    if all(one.selection is first and not len(one.without) for one in allowed):
        return first.row
    return np.stack([one.mask() for one in allowed])
