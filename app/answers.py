"""What a prediction returns: what orjson writes as :class:`app.replies.PredictResponse` documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import orjson
from numpy.typing import NDArray

from models.contract import Contract
from models.encode import Arrays
from models.vocabulary import Ids

Reason = Literal["history", "popular", "requested"]
Rows = NDArray[np.intp]


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the answer came from."""

    state: Literal["cached", "computed", "session", "anonymous"]
    state_age_ms: int
    history: int
    degraded: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to one request; its two long lists are written already (:mod:`app.written`)."""

    request_id: str
    user_id: str | None
    model: Mapping[str, str]
    predictions: orjson.Fragment
    recommendations: orjson.Fragment
    warnings: Sequence[Mapping[str, str]]
    provenance: Provenance
    took_ms: float


class Outcomes:
    """What the model expects of a set of candidates: a row for each.

    Args:
        ids: shape [C], each once.
        columns: for each target and value of the contract, shape [C].
    """

    def __init__(self, ids: Ids, columns: Mapping[str, NDArray[Any]], contract: Contract) -> None:
        self.ids = ids
        self.columns = columns
        self._targets = contract.targets
        self._values = contract.values

    @classmethod
    def merged(cls, one: tuple[Ids, Arrays], other: tuple[Ids, Arrays], contract: Contract) -> Outcomes:
        """The outcomes of two sets of candidates, in any order; an item of both has those of the first."""
        ids, first = np.unique(np.concatenate([one[0], other[0]]), return_index=True)
        columns = {name: np.concatenate([one[1][name], other[1][name]])[first] for name in one[1]}
        return cls(ids, columns, contract)

    def rows(self, ids: Ids) -> Rows:
        """The rows, shape [n], of n ids that are all among the candidates."""
        order = np.argsort(self.ids)
        return order[np.searchsorted(self.ids, ids, sorter=order)]

    def probabilities(self, rows: Rows) -> dict[str, NDArray[Any]]:
        """For each target its probabilities, shape [n]."""
        return {name: self.columns[name][rows] for name in self._targets}

    def numbers(self, rows: Rows) -> NDArray[np.float32]:
        """For each target and value those of n rows, shape [T + V, n]."""
        names = (*self._targets, *self._values)
        return np.array([self.columns[name][rows] for name in names], np.float32).reshape(len(names), len(rows))
