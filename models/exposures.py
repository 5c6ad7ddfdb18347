"""What users were shown before each thing they did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.contract import EXPOSURES, PAD
from models.counter import Counter
from models.vocabulary import Ids

Rows = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Exposed:
    """What was shown before each of E events.

    Attributes:
        items: ids of the items of all exposures, by user and time, [X], and PAD behind them.
        bounds: the first and last + 1 exposure of each event, [E, 2]; ``known`` is whether there is a record of them.
    """

    items: Ids
    bounds: Rows
    known: bool = True

    @classmethod
    def nothing(cls, events: int) -> Exposed:
        """Nobody recorded what was shown."""
        return cls(np.array([PAD], np.int32), np.zeros((events, 2), np.int64), known=False)

    def newest(self, index: Any, most: int) -> Ids:
        """Ids of the newest items shown before the events at ``index`` [...], padded on the left, [..., most]."""
        start, end = self.bounds[index, 0], self.bounds[index, 1]
        rows = end[..., None] + np.arange(-most, 0)
        return self.items[np.where(rows >= start[..., None], rows, -1)]

    def counts(self, index: Any) -> Ids:
        """1 + how many items were shown before the events at ``index`` [...], at most EXPOSURES; 0 if nobody knows."""
        return np.asarray(self.known + np.minimum(self.bounds[index, 1] - self.bounds[index, 0], EXPOSURES), np.int32)


def exposures_before(events: pl.DataFrame, exposures: pl.DataFrame) -> Rows:
    """The exposures of its user since the event before, for each event: first row and last row + 1, [E, 2].

    An exposure of the very time of an event counts as before it; of events of one time the first has all. Both frames
    are in the order of :mod:`models.datasets.schema`.
    """
    names = pl.concat([events["user_id"], exposures["user_id"]]).unique().sort()
    user, owner = (_codes(frame["user_id"], names) for frame in (events, exposures))
    at, shown_at = (frame["at"].dt.epoch("ms").to_numpy() / 1000.0 for frame in (events, exposures))
    offsets = np.searchsorted(owner, np.arange(len(names) + 1))
    end = offsets[user] + Counter(offsets, shown_at).before(user, at + 0.001)
    start = np.where(np.diff(user, prepend=-1) > 0, offsets[user], np.append(0, end[:-1])[: len(end)])
    return np.stack([start, end], axis=1)


def _codes(column: pl.Series, names: pl.Series) -> Rows:
    return column.cast(pl.Enum(names)).to_physical().to_numpy().astype(np.int64)
