"""What is scored for a request whose catalogue has an index: which items, put together in numpy."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.jobs import Recommend
from models.contract import PAD
from models.encode import Arrays, state_events
from models.vocabulary import Ids

#: A filter leaves a share of what the index finds, on average; how many of the best it leaves is as good as Poisson's.
#: So many deviations more than are wanted are asked for: filters go with taste, and what was seen may be left out.
SPARE = 5
#: Candidates of all requests that are scored at once; more take turns.
TOGETHER = 65_536


class Group(NamedTuple):
    """Places of requests in their batch, and how many items the index is asked for; 0 where all allowed are scored."""

    rows: list[int]
    depth: int


class Candidates:
    """Chooses what is scored; used by one thread, for it keeps a scratch pad.

    Args:
        indexed: ids that the index knows, 0 to this.
        items: ids in all; those beyond the index are always candidates.
        block: ids that it gives for each that it is asked for.
    """

    def __init__(self, indexed: int, items: int, block: int) -> None:
        self._indexed = indexed
        self._block = block
        self._out = np.zeros(items, np.bool_)

    def groups(self, jobs: Sequence[Recommend]) -> Iterator[Group]:
        """The requests of a batch that ask alike.

        The fewer items a filter leaves, the more the index has to find for enough of them to pass. Where it would give
        as many as are left, those are scored all.
        """
        alike: dict[tuple[int, int], list[int]] = defaultdict(list)
        for row, job in enumerate(jobs):
            count = max(job.allowed.selection.count, 1)
            depth = math.ceil((job.wanted + SPARE * math.sqrt(job.wanted)) * self._indexed / count)
            unit = 1 << max(depth.bit_length() - 4, 0)  # few depths, so that many ask alike
            depth = -(-depth // unit) * unit
            given = depth * self._block
            alike[(given, depth) if given < count else (1 << count.bit_length(), 0)].append(row)
        for (size, depth), rows in alike.items():
            step = max(1, TOGETHER // size)
            yield from (Group(rows[start : start + step], depth) for start in range(0, len(rows), step))

    def choose(self, job: Recommend, near: Ids | None, bonus: NDArray[np.float32]) -> tuple[Ids, NDArray[np.float32]]:
        """The items to score for a request, each once, and what their events add to the first n of them, [n].

        Args:
            near: what the index found, PAD where it found nothing; None for all that is allowed.
            bonus: what each event of the history adds to its own item, [L].
        """
        selection, without = job.allowed
        if near is None:
            near = selection.ids
        else:
            near = np.concatenate([near, self._indexed + np.flatnonzero(selection.mask[self._indexed :])])
        start = len(job.state) - job.length
        own, places = np.unique(state_events(job.state[start:])[0], return_inverse=True)
        extra = np.bincount(places, bonus[start:], len(own))
        self._out[without] = True
        fine = selection.mask[own] & ~self._out[own]
        own, extra = own[fine], extra[fine]
        self._out[own] = True
        rest = near[selection.mask[near] & ~self._out[near]]
        self._out[without] = self._out[own] = False
        return np.concatenate([own, rest]).astype(np.int32), extra.astype(np.float32)


def padded(chosen: Sequence[tuple[Ids, NDArray[np.float32]]], least: int) -> Arrays:
    """What :meth:`Candidates.choose` returned for several, as ``candidates`` [B, C], at least so many, and their
    ``bonus`` [B, C]."""
    width = max(least, *(len(items) for items, _ in chosen))
    candidates = np.full((len(chosen), width), PAD, np.int32)
    bonus = np.zeros((len(chosen), width), np.float32)
    for row, (items, extra) in enumerate(chosen):
        candidates[row, : len(items)] = items
        bonus[row, : len(extra)] = extra
    return {"candidates": candidates, "bonus": bonus}
