"""Recommendations by way of an index: the same answers as without, but for the few items that it overlooks."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from app import jobs
from app.candidates import Candidates, Group, enough, padded
from app.runtime.functions import Functions
from app.runtime.index import Index
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
        self._candidates = Candidates(len(index), items)

    def recommend(self, batch: Sequence[jobs.Recommend]) -> list[Share | None]:
        """For each request its items and their outcomes; None where too few are left of what the index found."""
        scene = jobs.stacked(batch)
        scene |= self._functions("query", scene)
        shares: list[Share | None] = [None] * len(batch)
        for group in self._candidates.groups(batch):
            chosen = self._chosen(batch, group, scene)
            if chosen:
                for row, share in zip(chosen, self._best(batch, chosen, scene), strict=True):
                    shares[row] = share
        return shares

    def _chosen(
        self, batch: Sequence[jobs.Recommend], group: Group, scene: Arrays
    ) -> dict[int, tuple[Ids, NDArray[np.float32]]]:
        """The candidates of those requests of a group that have enough, by row, and what the history adds to them."""
        near: Sequence[Ids | None] = [None] * len(group.rows)
        if group.depth:
            near = list(self._index.search(scene["query"][group.rows], group.depth))
        chosen = {
            row: self._candidates.choose(batch[row], found, scene["bonus"][row])
            for row, found in zip(group.rows, near, strict=True)
        }
        return {row: one for row, one in chosen.items() if not group.depth or enough(batch[row], one[0])}

    def _best(
        self, batch: Sequence[jobs.Recommend], chosen: dict[int, tuple[Ids, NDArray[np.float32]]], scene: Arrays
    ) -> list[Share]:
        part = [batch[row] for row in chosen]
        count = max(job.wanted for job in part)
        inputs = {name: array[list(chosen)] for name, array in scene.items()}
        inputs |= padded(list(chosen.values()), self._functions.reach(count))
        return jobs.shares(self._functions.recommend_of(inputs, count), part)
