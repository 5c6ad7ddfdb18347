"""Counts of what had happened before a moment."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.float64]


class Counter:
    """Counts sorted events of a group (a user, an item) before a moment, by binary search over (group, time) keys.

    Args:
        offsets: bounds of each group's events [G + 1].
        at: times of the events [E], rising within a group.
    """

    def __init__(self, offsets: NDArray[np.int64], at: Times) -> None:
        when = np.round(at * 1000).astype(np.int64)
        self._offsets = offsets
        self._start = int(when.min(initial=0 if not len(when) else when[0]))
        self._span = int(when.max(initial=self._start)) - self._start + 2
        self._keys = np.repeat(np.arange(len(offsets) - 1), np.diff(offsets)) * self._span + (when - self._start)

    def before(self, group: NDArray[np.int64], moment: Times) -> NDArray[np.int64]:
        """How many events each group has strictly before each moment, shape [n]."""
        when = np.round(moment * 1000).astype(np.int64) - self._start
        keys = group * self._span + np.clip(when, 0, self._span - 1)
        return np.searchsorted(self._keys, keys, side="left") - self._offsets[group]
