"""What is asked of every contender alike: decisions to score, and lists to rank."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.datasets.dataset import Dataset
from models.decisions import Decisions, event_decisions, exposure_decisions, period_decisions, with_negatives
from models.log import Log, Split

Bools = NDArray[np.bool_]

#: Edges of the groups of history length, and of how often an item was acted on in training.
LENGTHS = (0, 1, 5, 20, 50)
COUNTS = (0, 1, 5, 20, 100)
#: Lists of a period are at most limit / DECISIONS_A_LIST, and so few that no contender ranks more than RANKED items in
#: all: a yardstick judges every item of the catalogue for each list.
DECISIONS_A_LIST, RANKED = 125, 50_000_000


@dataclass(frozen=True, slots=True)
class Questions:
    """The rows that all contenders answer.

    Attributes:
        decisions: what is scored; ``matched`` the same events against items that others acted on at the time, or None
            where exposures say what was shown.
        moves: relevant items of lists, one row each; the list of each row [M], and whether the list belongs to the
            random sample of all [M] (the other lists were added so that rare behaviours have enough).
        counts: how often each item was acted on in training [V].
        horizon_days: 0, or the length of the periods that the questions are about.
    """

    decisions: Decisions
    matched: Decisions | None
    moves: Decisions
    lists: NDArray[np.int64]
    sampled: Bools
    counts: NDArray[np.int64]
    horizon_days: float = 0.0

    def users(self) -> NDArray[np.int64]:
        """The user of every row of every kind."""
        parts = [self.decisions, self.moves, *([self.matched] if self.matched else [])]
        return np.concatenate([part.user for part in parts])


def part_of(split: Split, part: str) -> tuple[float, float]:
    """Start and end of ``validation`` or ``test`` (seconds). Raises ValueError: that time has been learned from."""
    if part == "validation" and split.refit:
        raise ValueError(
            "A model trained with --refit has learned from its validation time; ask for the test, or publish its first "
            "run by `foretell export RUN --name NAME` and ask that."
        )
    return (split.validation, split.test) if part == "validation" else (split.test, float("inf"))


def ask(
    dataset: Dataset, log: Log, split: Split, *, part: str = "validation", limit: int, horizon_days: float = 0.0
) -> Questions:
    """At most ``limit`` decisions and some hundreds of lists of one period.

    Raises:
        ValueError: nothing happened in that period, or the model has learned from it.
    """
    start, end = part_of(split, part)
    shown = dataset.exposures is not None and not horizon_days
    decisions = decisions_of(dataset, log, start, end, limit, horizon_days=horizon_days)
    moves = _moves(log, start, end, horizon_days)
    if not len(decisions) or not len(moves):
        raise ValueError(f"The data set {dataset.name} has nothing to measure in the model's {part} time.")
    lists = np.arange(len(moves))
    if horizon_days:  # what a user does within one period is one list
        keys = np.stack([moves.user, np.round(moves.at * 1000).astype(np.int64)], axis=1)
        lists = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
    most = max(min(limit // DECISIONS_A_LIST, RANKED // log.contract.items), 1)
    chosen, sampled = _draw_lists(lists, moves.labels > 0, most)
    return Questions(
        decisions=decisions,
        matched=None
        if shown
        else decisions_of(dataset, log, start, end, limit, matched=True, horizon_days=horizon_days),
        moves=moves.take(chosen),
        lists=lists[chosen],
        sampled=sampled[chosen],
        counts=np.bincount(log.items[log.at < split.learned], minlength=log.contract.items),
        horizon_days=horizon_days,
    )


def decisions_of(
    dataset: Dataset,
    log: Log,
    start: float,
    end: float,
    limit: int,
    seed: int = 0,
    *,
    matched: bool = False,
    horizon_days: float = 0.0,
) -> Decisions:
    """At most ``limit`` decisions of a period, drawn at random: whole pages, or where nothing was shown, events with
    negatives.

    Negatives are drawn as in training, or ``matched``: from the items that others acted on in the same period.
    """
    shown = dataset.exposures is not None and not horizon_days
    decisions = exposure_decisions(dataset, log).between(start, end) if shown else _moves(log, start, end, horizon_days)
    pool = decisions.items if matched else None
    rng = np.random.default_rng(seed)
    if shown:
        return _whole_pages(decisions, limit, rng)
    take = max(limit // (log.contract.negatives + 1), 1)
    if len(decisions) > take:
        decisions = decisions.take(np.sort(rng.choice(len(decisions), take, replace=False)))
    return with_negatives(decisions, log.contract, rng, pool)


def _whole_pages(decisions: Decisions, limit: int, rng: np.random.Generator) -> Decisions:
    """As many random pages as ``limit`` has room for, at least one: what was shown together is ranked together."""
    pages = decisions.pages
    order = rng.permutation(pages.max(initial=-1) + 1)
    sizes = np.bincount(pages, minlength=len(order))
    room = np.searchsorted(np.cumsum(sizes[order]), limit, side="right")
    return decisions.take(np.isin(pages, order[: max(room, 1)]))


def group_of(numbers: NDArray[Any], edges: tuple[int, ...]) -> NDArray[np.int64]:
    """The group of each number: how many edges it has reached, less one."""
    return np.searchsorted(edges, numbers, side="right") - 1


def group_names(edges: tuple[int, ...]) -> list[str]:
    """Readable names of the groups: ``0``, ``1-4``, ... ``50+``."""
    pairs = pairwise(edges)
    return [str(a) if b == a + 1 else f"{a}-{b - 1}" for a, b in pairs] + [f"{edges[-1]}+"]


def groups(questions: Questions) -> Mapping[str, Mapping[str, tuple[Bools, Bools, Bools]]]:
    """Masks of decisions, matched decisions and moves, for each group of history length and of item popularity.

    In simulated data there is also the group of all histories of 20 events or more.
    """
    parts = (questions.decisions, questions.matched, questions.moves)

    def masks(edges: tuple[int, ...], numbers: list[Any]) -> dict[str, tuple[Bools, Bools, Bools]]:
        places = [group_of(column, edges) for column in numbers]
        return {name: (places[0] == i, places[1] == i, places[2] == i) for i, name in enumerate(group_names(edges))}

    none = np.zeros(0, np.int64)
    before = [none if part is None else part.before for part in parts]
    counts = [none if part is None else questions.counts[part.items] for part in parts]
    history = masks(LENGTHS, before)
    if questions.decisions.truth is not None:
        history["20+"] = (before[0] >= 20, before[1] >= 20, before[2] >= 20)
    return {"history": history, "popularity": masks(COUNTS, counts)}


def _moves(log: Log, start: float, end: float, horizon_days: float) -> Decisions:
    if horizon_days:
        return period_decisions(log, start, end, horizon_days)
    return event_decisions(log).between(start, end)


def _draw_lists(lists: NDArray[np.int64], relevant: Bools, limit: int) -> tuple[NDArray[np.int64], Bools]:
    """Rows of ``limit`` random lists and of up to half as many for each target; which rows are of the former."""
    rng = np.random.default_rng(1)
    names = np.unique(lists)
    sampled = np.isin(lists, rng.permutation(names)[:limit])
    kept = sampled.copy()
    for target in relevant.T:
        kept |= np.isin(lists, rng.permutation(np.unique(lists[target]))[: limit // 2])
    return np.flatnonzero(kept), sampled
