"""Recommendations by way of an index: the same answers as without it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app import jobs
from app.candidates import Candidates, Group, padded
from app.runtime.functions import Functions
from app.runtime.index import BLOCK, Index
from models.encode import Arrays
from models.vocabulary import Ids

Share = tuple[Ids, Arrays]


class Nearby:
    """What the index finds, what the history and newcomers add to it, scored exactly, and the best of that.

    Args:
        items: ids in all, those beyond the index included.
    """

    def __init__(self, index: Index, functions: Functions, items: int) -> None:
        self._index = index
        self._functions = functions
        self._candidates = Candidates(len(index), items, BLOCK)

    def recommend(self, batch: Sequence[jobs.Recommend]) -> list[Share | None]:
        """For each request its items and their outcomes; None where the index was not asked for enough of them."""
        scene = jobs.stacked(batch)
        scene |= self._functions("query", scene)
        shares: list[Share | None] = [None] * len(batch)
        for group in self._candidates.groups(batch):
            for row, share in zip(group.rows, self._shares(batch, group, scene), strict=True):
                shares[row] = share
        return shares

    def _shares(self, batch: Sequence[jobs.Recommend], group: Group, scene: Arrays) -> list[Share | None]:
        rows = group.rows
        near: list[Ids | None] = [None] * len(rows)
        floors = np.full(len(rows), -np.inf, np.float32)
        if group.depth:
            ids, floors = self._index.search(scene["query"][rows], group.depth)
            near = list(ids)
        chosen = [
            self._candidates.choose(batch[row], found, scene["bonus"][row])
            for row, found in zip(rows, near, strict=True)
        ]
        part = [batch[row] for row in rows]
        count = max(job.wanted for job in part)
        inputs = {name: array[rows] for name, array in scene.items()}
        inputs |= padded(chosen, self._functions.reach(count))
        found = self._functions.recommend_of(inputs, count)
        return [
            share if trusted(job, scores, floor) else None
            for job, share, scores, floor in zip(
                part, jobs.shares(found, part), found["scores"], floors.tolist(), strict=True
            )
        ]


def trusted(job: jobs.Recommend, scores: NDArray[np.float32], floor: float) -> bool:
    """Whether nothing that was not looked at can be among the best, whose scores [n] fall: the last of them that the
    request wants is no worse than ``floor``, the best of what was not. Half precision may err on either by 2**-8."""
    return bool(floor == -np.inf or scores[min(job.wanted, len(scores)) - 1] >= floor)
