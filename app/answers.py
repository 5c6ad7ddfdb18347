"""What a prediction returns: plain dataclasses that orjson writes as :class:`app.replies.PredictResponse` documents."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from models.contract import Contract
from models.encode import Arrays
from models.explanation import Explanation
from models.vocabulary import Ids

Reason = Literal["history", "popular", "requested"]
Rows = NDArray[np.intp]


@dataclass(slots=True)  # not frozen: twenty of them are made for each answer, and freezing is a call a field
class Prediction:
    """What the model expects of one item; the numbers are float32, which orjson writes in their shortest form."""

    item_id: str
    probabilities: Mapping[str, np.float32]
    expected: Mapping[str, np.float32]
    explanation: Mapping[str, Explanation] | None = None


@dataclass(slots=True)
class Recommendation:
    """One place of the ranking."""

    rank: int
    item_id: str
    title: str | None
    score: float
    probabilities: Mapping[str, np.float32]
    expected: Mapping[str, np.float32]
    reason: Reason
    explanation: Mapping[str, Explanation] | None = None


@dataclass(frozen=True, slots=True)
class Provenance:
    """Where the answer came from."""

    state: Literal["cached", "computed", "session", "anonymous"]
    state_age_ms: int
    history: int
    degraded: Sequence[str]


@dataclass(frozen=True, slots=True)
class Answer:
    """The whole answer to one request."""

    request_id: str
    user_id: str | None
    model: Mapping[str, str]
    predictions: Sequence[Prediction]
    recommendations: Sequence[Recommendation]
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

    def described(self, rows: Rows) -> list[tuple[dict[str, np.float32], dict[str, np.float32]]]:
        """For each of n rows its probabilities and its expected values, by name."""
        return list(zip(self._by_name(self._targets, rows), self._by_name(self._values, rows), strict=True))

    def _by_name(self, names: Sequence[str], rows: Rows) -> list[dict[str, np.float32]]:
        if not names:
            return [{} for _ in rows]
        return [dict(zip(names, row, strict=True)) for row in zip(*(self.columns[n][rows] for n in names), strict=True)]
