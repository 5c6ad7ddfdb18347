"""What requests ask of the model, and how those of one batch become its arrays, and the arrays answers. Pure numpy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.catalogue import ItemContent
from app.selection import Allowed
from models.contract import PAD
from models.encode import Arrays, Moment
from models.vocabulary import Ids


class Recommend(NamedTuple):
    """Items for one state, shape [L, width], of ``length`` events: the best ``wanted`` that are ``allowed``."""

    state: NDArray[Any]
    length: int
    moment: Moment
    allowed: Allowed
    wanted: int


class Score(NamedTuple):
    """Outcomes of candidates [C]; those from V on stand for ``newcomers``, in their order."""

    state: NDArray[Any]
    length: int
    moment: Moment
    candidates: Ids
    newcomers: Sequence[ItemContent]


class Explain(NamedTuple):
    """What moved the outcomes of candidates [C], from the inputs of ``encode`` [L]."""

    arrays: Arrays
    length: int
    moment: Moment
    candidates: Ids
    newcomers: Sequence[ItemContent]


def asked(jobs: Sequence[Recommend] | Sequence[Score] | Sequence[Explain]) -> Arrays:
    """What every signature is asked with: ``lengths`` [B], ``context`` [B, F] and ``since`` [B]."""
    return {
        "lengths": np.array([job.length for job in jobs], np.int32),
        "context": np.stack([job.moment.fields for job in jobs]),
        "since": np.array([job.moment.since for job in jobs], np.float32),
    }


def stacked(jobs: Sequence[Recommend] | Sequence[Score]) -> Arrays:
    """:func:`asked` and ``state`` [B, L, width]."""
    return {"state": np.stack([job.state for job in jobs]), **asked(jobs)}


def seated(jobs: Sequence[Score] | Sequence[Explain], first: int, seat: int) -> tuple[Ids, list[ItemContent]]:
    """Candidates [B, C], padded on the right to the longest list, and the newcomers of all jobs, one after the other.

    Ids from ``first`` on are a job's newcomers; in the batch they are numbered through from ``seat`` on, so that no
    job's newcomer is taken for another's.
    """
    candidates = np.full((len(jobs), max(len(job.candidates) for job in jobs)), PAD, np.int32)
    guests: list[ItemContent] = []
    for place in range(len(jobs)):
        row, job = candidates[place], jobs[place]
        row[: len(job.candidates)] = job.candidates
        new = np.flatnonzero(job.candidates >= first)
        row[new] = seat + len(guests) + np.arange(len(new))
        guests += [job.newcomers[i] for i in job.candidates[new] - first]
    return candidates, guests


def runs(seats: Sequence[int]) -> list[tuple[int, list[int]]]:
    """Seats that follow each other: the first of each run, and the places of its seats in the list."""
    order = sorted(range(len(seats)), key=seats.__getitem__)
    found: list[tuple[int, list[int]]] = []
    for place in order:
        if found and seats[place] == found[-1][0] + len(found[-1][1]):
            found[-1][1].append(place)
        else:
            found.append((seats[place], [place]))
    return found


def shares(found: Arrays, jobs: Sequence[Recommend]) -> list[tuple[Ids, Arrays]]:
    """For each job the allowed ones among the items found [B, C], at most as many as it wanted, and their outcomes."""
    allowed = np.isfinite(found["scores"]).sum(axis=1).tolist()  # what is not, comes last
    counts = [min(job.wanted, count) for job, count in zip(jobs, allowed, strict=True)]
    outcomes = [(name, column) for name, column in found.items() if name not in {"items", "scores"}]
    return [
        (found["items"][row, :count], {name: column[row, :count] for name, column in outcomes})
        for row, count in enumerate(counts)
    ]


def unpadded(columns: Arrays, jobs: Sequence[Score]) -> list[Arrays]:
    """What each job asked for of columns [B, C]: [its own candidates] each."""
    return [{name: rows[i, : len(job.candidates)] for name, rows in columns.items()} for i, job in enumerate(jobs)]
