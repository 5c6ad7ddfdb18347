"""What decisions are set against where nothing says what was shown: drawn items, some hard to tell from the real ones.

Items drawn uniformly from a large catalogue have nothing to do with their user, so whatever was met before is told from
them at a glance: the loss vanishes there, and in which order such items come next is never learned. So a share of the
items is drawn from what the user did last, and from what everybody acts on. How much more often that draws an item than
a uniform draw would is known, and the loss is told (noise-contrastive estimation, Gutmann & Hyvarinen 2012): what is
learned stays the probability beside uniformly drawn items (docs/decisions/0004, 0018).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.contract import FIRST
from models.decisions import Decisions
from models.log import Log
from models.vocabulary import Ids

Floats = NDArray[np.float32]


class Noise:
    """Draws items to set decisions against.

    Args:
        log: the events that a user's own are drawn from: the last half of a history, which every window shows.
        acted: items that were acted on, one for each time: the draw from what is popular.
        hard: the share of items that are not drawn uniformly: half of them of the user's own, half popular.
    """

    def __init__(self, log: Log, acted: Ids, hard: float) -> None:
        self.log, self.acted, self.hard = log, acted, hard
        size = log.contract.items
        self._relative = np.bincount(acted, minlength=size) * ((size - FIRST) / max(len(acted), 1))  # to uniform, [V]

    def draw(self, decisions: Decisions, rng: np.random.Generator) -> Ids:
        """Items [R, contract.negatives] for R decisions."""
        shape = (len(decisions), self.log.contract.negatives)
        kind = rng.random(shape)
        items = rng.integers(FIRST, self.log.contract.items, shape, dtype=np.int32)
        items = np.where(kind < self.hard, rng.choice(self.acted, shape), items)
        depth = self._depth(decisions)[:, None]
        back = 1 + (rng.random(shape) * depth).astype(np.int64)
        newest = (self.log.offsets[decisions.user] + decisions.before)[:, None]
        own = self.log.items[np.maximum(newest - back, 0)]
        return np.where((kind < self.hard / 2) & (depth > 0), own, items).astype(np.int32)

    def odds(self, decisions: Decisions, items: Ids) -> Floats:
        """log(chance to be drawn / chance of a uniform draw) of items [R, n] beside R decisions, [R, n]."""
        if not self.hard:
            return np.zeros(items.shape, np.float32)
        depth = self._depth(decisions)[:, None]
        place = np.arange(1, self.log.contract.history_length // 2 + 1)
        newest = (self.log.offsets[decisions.user] + decisions.before)[:, None]
        last = np.where(place <= depth, self.log.items[np.maximum(newest - place, 0)], -1)  # [R, L / 2]
        count = (last[:, None, :] == items[:, :, None]).sum(axis=2)
        popular = self._relative[items]
        own = count * ((self.log.contract.items - FIRST) / np.maximum(depth, 1))
        half = self.hard / 2
        mixed = (1 - self.hard) + half * popular + half * np.where(depth > 0, own, popular)
        return np.log(mixed).astype(np.float32)

    def _depth(self, decisions: Decisions) -> NDArray[np.int64]:
        """How many events of its user each decision may draw [R]."""
        return np.minimum(decisions.before, self.log.contract.history_length // 2)


def alias_table(chance: NDArray[np.float64]) -> tuple[NDArray[np.float32], NDArray[np.int32]]:
    """The table by which one of V is drawn by its ``chance`` [V] in one step, however many there are (Walker 1977).

    Returns ``share`` and ``other``, [V]: one is drawn uniformly, and stays with a chance of its share; else its other
    takes its place. Each fills up what one rarer than the mean lacks (Vose 1991).
    """
    share, other = chance * len(chance), np.arange(len(chance), dtype=np.int32)
    rare, common = np.flatnonzero(share < 1).tolist(), np.flatnonzero(share >= 1).tolist()
    while rare and common:
        low, high = rare.pop(), common[-1]
        other[low] = high
        share[high] -= 1 - share[low]
        if share[high] < 1:
            rare.append(common.pop())
    share[rare + common] = 1.0  # but for rounding they are
    return share.astype(np.float32), other
