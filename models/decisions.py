"""Decisions: what training learns from and evaluation asks.

A *decision* is one moment of one user with one candidate item and what came of it: for every target behaviour a label
and a weight, for every value the number or NaN. Its history is what the user did strictly before that moment.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.contract import FIRST, Contract
from models.datasets.dataset import Dataset
from models.log import Log, field_ids, user_index
from models.vocabulary import Ids

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Decisions:
    """R decisions as columns.

    Attributes:
        user: index of the user [R]; ``at`` the moment [R]; ``before`` the number of the user's earlier events [R].
        items: the candidate's id [R].
        labels, weights: for each target [R, T]; a weight of 0 says that the label is not known.
        values: for each value [R, N], NaN where the behaviour did not happen.
        context: ids of the context fields [R, F].
        shown: 1-based position at which the candidate was shown [R], 0 where nothing is known.
        truth: true probability of each target [R, T] in simulated data, else None.
    """

    user: Rows
    at: NDArray[np.float64]
    before: Rows
    items: Ids
    labels: Floats
    weights: Floats
    values: Floats
    context: Ids
    shown: Ids
    truth: Floats | None = None

    def __len__(self) -> int:
        return len(self.user)

    @property
    def pages(self) -> Rows:
        """The page of each decision [R], numbered from 0: what one user was asked about at one moment."""
        return np.unique(np.stack([self.user, self.at], axis=1), axis=0, return_inverse=True)[1].ravel()

    def take(self, index: NDArray[Any]) -> Decisions:
        """The decisions at ``index`` (positions or a mask)."""
        return Decisions(
            *(None if (c := getattr(self, name)) is None else c[index] for name in self.__dataclass_fields__)  # type: ignore[arg-type]
        )

    def between(self, start: float, end: float) -> Decisions:
        """The decisions with start <= at < end."""
        return self.take((self.at >= start) & (self.at < end))


def exposure_decisions(dataset: Dataset, log: Log) -> Decisions:
    """One decision for each exposure: shown, and clicked, bought ... or not (joined on user, item and request)."""
    contract = log.contract
    assert dataset.exposures is not None
    shown = dataset.exposures.sort("user_id", "at", "event_id")
    key = ["user_id", "item_id", "request_id"]
    labels, values = [], {}
    for behaviour in contract.behaviours:
        done = dataset.events.filter(pl.col("type") == behaviour.name).group_by(key).agg(pl.col("value").first())
        joined = shown.select(key).join(done.with_columns(done=True), on=key, how="left", maintain_order="left")
        if behaviour.target:
            labels.append(joined["done"].fill_null(False).to_numpy())
        if behaviour.value in contract.values:
            values[behaviour.value] = joined["value"].fill_null(np.nan).to_numpy()
    user = user_index(shown["user_id"], log.users)
    at = shown["at"].dt.epoch("ms").to_numpy() / 1000.0
    before = log.events_before(user, at)
    truth = [f"true_{name}" for name in contract.targets]
    return Decisions(
        user=user,
        at=at,
        before=before,
        items=log.vocabulary.item_ids(shown["item_id"].to_list()),
        labels=np.stack(labels, axis=1).astype(np.float32),
        weights=np.ones((len(shown), len(labels)), np.float32),
        values=_columns([values[name] for name in contract.values], len(shown)),
        context=log.context(user, at, log.last_at(user, before), field_ids(shown, "request", log.vocabulary, contract)),
        shown=shown["position"].to_numpy().astype(np.int32),
        truth=shown.select(truth).to_numpy().astype(np.float32) if set(truth) <= set(shown.columns) else None,
    )


def event_decisions(log: Log) -> Decisions:
    """One decision for each event: the item that was acted on, at that moment.

    An event says "no" to stronger targets and nothing about weaker ones: who bought may have clicked.
    """
    contract = log.contract
    targets = np.array([contract.type_id(name) for name in contract.targets])
    user = np.repeat(np.arange(len(log.users)), np.diff(log.offsets))
    before = log.events_before(user, log.at)
    carriers = [next(b for b in contract.behaviours if b.value == name) for name in contract.values]
    values = [np.where(log.types == contract.type_id(b.name), log.values, np.nan) for b in carriers]
    types = log.types[:, None]  # [E, 1]
    return Decisions(
        user=user,
        at=log.at,
        before=before,
        items=log.items,
        labels=(types == targets).astype(np.float32),
        weights=(types <= targets).astype(np.float32),
        values=_columns(values, len(user)),
        context=log.context(user, log.at, log.last_at(user, before), log.request),
        shown=np.zeros(len(user), np.int32),
    )


def period_decisions(log: Log, start: float, end: float, days: float) -> Decisions:
    """One decision for each user, period of ``days`` and item that the user acted on in it, taken at its start.

    Periods follow each other from ``start``, or end at ``end`` where there is no start (0); only whole ones count, but
    if ``end`` is infinite the last event closes the last one. A label says that the target happened on the item within
    the period; a value is the mean of the period's. Users without any earlier event are left out, and the context is
    that of the user and the clock, since nothing of the period is known yet.
    """
    span, contract = days * 86_400.0, log.contract
    anchor = start or end
    period = np.floor((log.at - anchor) / span).astype(np.int64)
    last = np.inf if np.isinf(end) else (end - anchor) / span + 1e-9
    user = np.repeat(np.arange(len(log.users)), np.diff(log.offsets))
    inside = (log.at >= start) & (log.at < end) & (period + 1 <= last)
    types, values = log.types[inside], log.values[inside]
    key = np.stack([user[inside], period[inside], log.items[inside].astype(np.int64)], axis=1)
    keys, group = np.unique(key, axis=0, return_inverse=True)
    group, user, at = group.ravel(), keys[:, 0], anchor + keys[:, 1] * span
    targets = np.array([contract.type_id(name) for name in contract.targets])
    labels = np.zeros((len(keys), len(targets)), np.float32)
    np.maximum.at(labels, group, (types[:, None] == targets).astype(np.float32))
    columns = []
    for name in contract.values:
        carrier = next(b for b in contract.behaviours if b.value == name)
        known = (types == contract.type_id(carrier.name)) & np.isfinite(values)
        count = np.bincount(group[known], minlength=len(keys))
        total = np.bincount(group[known], values[known], len(keys))
        columns.append(np.where(count > 0, total / np.maximum(count, 1), np.nan))
    before = log.events_before(user, at)
    nothing = np.zeros((len(keys), len(contract.fields)), np.int32)
    return Decisions(
        user=user,
        at=at,
        before=before,
        items=keys[:, 2].astype(np.int32),
        labels=labels,
        weights=np.ones_like(labels),
        values=_columns(columns, len(keys)),
        context=log.context(user, at, log.last_at(user, before), nothing),
        shown=np.zeros(len(keys), np.int32),
    ).take(before > 0)


def with_negatives(
    decisions: Decisions, contract: Contract, rng: np.random.Generator, pool: Ids | None = None
) -> Decisions:
    """Each decision followed by ``contract.negatives`` copies on other items, to which every answer is no.

    The items are drawn from ``pool``, or uniformly from the vocabulary.
    """
    shape = (len(decisions), contract.negatives)
    everything = rng.integers(FIRST, contract.items, shape, dtype=np.int32)
    return against(decisions, everything if pool is None else rng.choice(pool, shape))


def against(decisions: Decisions, drawn: Ids) -> Decisions:
    """Each of R decisions followed by copies of it on the items drawn for it [R, n]; every answer to those is no."""
    copies = drawn.shape[1] + 1
    rows = decisions.take(np.repeat(np.arange(len(decisions)), copies))
    no = np.arange(len(rows)) % copies > 0
    rows.items[no] = drawn.ravel()
    rows.labels[no], rows.weights[no], rows.values[no] = 0.0, 1.0, np.nan
    return rows


def _columns(columns: list[NDArray[Any]], rows: int) -> Floats:
    return np.stack(columns, axis=1).astype(np.float32) if columns else np.zeros((rows, 0), np.float32)
