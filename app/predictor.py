"""THE PATH: what happens to one prediction request, from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from app import deadline as deadlines
from app import ranking
from app.answers import Answer, Outcomes, Prediction, Provenance, Reason, Recommendation
from app.catalogue import ItemContent
from app.checks import check
from app.errors import HistoryUnavailable
from app.metrics import Metrics
from app.model import Model
from app.offer import Filtered, Named, Offer
from app.schemas import PredictRequest
from app.settings import Settings
from app.visitor import Degraded, Visitor, Visitors
from models.contract import FIRST, UNKNOWN
from models.encode import encode_context
from models.vocabulary import Ids


class Predictor:
    """Answers one question: what will this user do next?

    Args:
        random: for exploration only.
        clock: the time, in seconds since 1970 UTC.
    """

    def __init__(
        self,
        visitors: Visitors,
        offer: Offer,
        model: Model,
        metrics: Metrics,
        settings: Settings,
        random: np.random.Generator,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._visitors = visitors
        self._offer = offer
        self._model = model
        self._metrics = metrics
        self._settings = settings
        self._random = random
        self._clock = clock
        self._contract = model.artifact.contract
        self._name = {"name": model.artifact.name, "version": model.artifact.version}

    async def predict(self, request: PredictRequest, request_id: str) -> Answer:
        """Answer one request.

        Raises:
            InvalidPayload: the request names what the model does not have.
            Overloaded: the model's queue is full.
            DeadlineExceeded: the answer was not ready in time.
        """
        start, now = time.perf_counter(), self._clock()
        check(request, self._contract, self._settings)
        deadline = deadlines.after(self._settings.deadline_ms)
        degraded = Degraded()

        visitor = await self._visitors.load(request, now, deadline, degraded)
        context = self._context(request, visitor, now)
        named = await self._find(request, deadline, degraded)
        filtered = self._filter(request, visitor)
        pool = await self._pool(request, visitor, context, named, filtered, deadline)
        outcomes = await self._score(visitor, context, _candidates(named.ids, pool), deadline)
        groups = await self._groups(request, pool, deadline, degraded)
        recommendations = self._rank(request, visitor, named, pool, groups, outcomes)

        for part in degraded:
            self._metrics.degraded.labels(part).inc()
        return Answer(
            request_id=request_id,
            user_id=request.user_id,
            model=self._name,
            predictions=_predictions(request.items, named.ids, outcomes),
            recommendations=recommendations,
            warnings=_warnings(request.items, named.ids),
            provenance=Provenance(
                state=visitor.source,
                state_age_ms=max(0, round((now - visitor.computed_at) * 1000)),
                history=visitor.total,
                degraded=degraded,
            ),
            took_ms=round((time.perf_counter() - start) * 1000, 3),
        )

    def _context(self, request: PredictRequest, visitor: Visitor, now: float) -> Ids:
        """The model's context row, shape [F]."""
        at = now if request.context.at is None else request.context.at.timestamp()
        return encode_context(
            request.context.fields,
            visitor.profile,
            at,
            visitor.last_at,
            self._model.artifact.vocabulary,
            self._contract,
        )

    async def _find(self, request: PredictRequest, deadline: float, degraded: Degraded) -> Named:
        """The named items; one that only the catalogue knows joins the model.

        To rank them, the contents of all beyond the vocabulary are looked up, for filters and titles.
        """
        ids = {name: self._model.item_id(name) for name in request.items}
        beyond = self._contract.items if request.rank == "items" else np.inf
        strangers = [name for name, item in ids.items() if item == UNKNOWN or item >= beyond]
        contents: dict[str, ItemContent] = {}
        if strangers:
            try:
                async with deadlines.within(deadline):
                    contents = await self._offer.find(strangers)
                    fresh = {name: content for name, content in contents.items() if ids[name] == UNKNOWN}
                    ids |= await self._model.add_items(fresh, deadline=deadline) if fresh else {}
            except HistoryUnavailable:
                degraded.add("history")
        return Named({name: item for name, item in ids.items() if item != UNKNOWN}, contents)

    def _filter(self, request: PredictRequest, visitor: Visitor) -> Filtered:
        """What the request's filters leave. Seen items are read off the state, so they cost nothing on a cache hit."""
        types = [self._contract.type_id(name) for name in request.filters.exclude_seen]
        seen = visitor.items(types).tolist() if types else []
        names = {self._model.item_name(item) for item in seen if FIRST <= item < self._contract.items}
        return Filtered(request.filters, self._offer, names)

    async def _pool(
        self,
        request: PredictRequest,
        visitor: Visitor,
        context: Ids,
        named: Named,
        filtered: Filtered,
        deadline: float,
    ) -> dict[str, int]:
        """What recommendations are chosen from, best guess first: retrieved candidates, or the named items."""
        if request.rank == "items":
            return {name: i for name, i in named.ids.items() if filtered.passes(name, i, named.contents.get(name))}
        with self._metrics.stage("retrieve"):
            async with deadlines.within(deadline):
                ids, scores = await self._model.retrieve(
                    visitor.state, visitor.length, context, filtered.mask, deadline=deadline
                )
        found = ids[np.isfinite(scores) & (ids >= FIRST)].tolist()  # fewer than K where few are allowed
        wanted = max(request.k, self._settings.candidates)
        return dict(islice(((name, i) for i in found if filtered.passes(name := self._model.item_name(i), i)), wanted))

    async def _score(self, visitor: Visitor, context: Ids, candidates: Ids, deadline: float) -> Outcomes:
        """Probabilities and expectations of C candidates in one run of the model."""
        if not len(candidates):
            names = (*self._contract.targets, *self._contract.values)
            return Outcomes(candidates, dict.fromkeys(names, np.zeros(0, np.float32)), self._contract)
        with self._metrics.stage("score"):
            async with deadlines.within(deadline):
                columns = await self._model.score(visitor.state, visitor.length, context, candidates, deadline=deadline)
        return Outcomes(candidates, columns, self._contract)

    async def _groups(
        self, request: PredictRequest, pool: Mapping[str, int], deadline: float, degraded: Degraded
    ) -> NDArray[np.int64] | None:
        """The finest category of each item of the pool, as a number; read from the catalogue, for diversity only."""
        if not request.diversity or not pool:
            return None
        try:
            async with deadlines.within(deadline):
                contents = await self._offer.find(pool)
        except HistoryUnavailable:
            degraded.add("history")
            return None
        paths = [contents[name].categories if name in contents else () for name in pool]
        numbers: dict[str, int] = {}
        return np.array(
            [numbers.setdefault(path[-1], len(numbers)) if path else ranking.NO_GROUP for path in paths], np.int64
        )

    def _rank(
        self,
        request: PredictRequest,
        visitor: Visitor,
        named: Named,
        pool: Mapping[str, int],
        groups: NDArray[np.int64] | None,
        outcomes: Outcomes,
    ) -> list[Recommendation]:
        """The best k of the pool, by the request's objective."""
        if not pool:
            return []
        with self._metrics.stage("rank"):
            names, ids = list(pool), np.fromiter(pool.values(), np.int32, len(pool))
            weights = self._contract.objective if request.objective is None else request.objective
            order, scores = ranking.rank(
                ranking.objective_scores(outcomes.of(ids), weights),
                request.k,
                groups=groups,
                diversity=request.diversity,
                exploration=request.exploration,
                random=self._random,
            )
            chosen = zip(order.tolist(), scores.tolist(), outcomes.described(ids[order]), strict=True)
            reason = _reason(request, visitor)
            return [
                Recommendation(place, names[i], self._title(names[i], pool, named), score, *described, reason)
                for place, (i, score, described) in enumerate(chosen, 1)
            ]

    def _title(self, name: str, pool: Mapping[str, int], named: Named) -> str | None:
        if pool[name] < self._contract.items:
            return self._offer.title(pool[name])
        return named.contents[name].title if name in named.contents else None


def _candidates(named: Mapping[str, int], pool: Mapping[str, int]) -> Ids:
    """Named items and pool together, shape [C], ascending and unique."""
    return np.unique(np.fromiter((*named.values(), *pool.values()), np.int32, len(named) + len(pool)))


def _reason(request: PredictRequest, visitor: Visitor) -> Reason:
    if request.rank == "items":
        return "requested"
    return "history" if visitor.length else "popular"


def _predictions(items: Sequence[str], named: Mapping[str, int], outcomes: Outcomes) -> list[Prediction]:
    """One prediction for each named item the model knows, in the order of the request."""
    names = [name for name in items if name in named]
    ids = np.fromiter((named[name] for name in names), np.int32, len(names))
    return [
        Prediction(name, probabilities, expected)
        for name, (probabilities, expected) in zip(names, outcomes.described(ids), strict=True)
    ]


def _warnings(items: Sequence[str], named: Mapping[str, int]) -> list[dict[str, str]]:
    """The named items the answer leaves out, each once."""
    unknown = dict.fromkeys(name for name in items if name not in named)
    return [{"code": "unknown_item", "item_id": name} for name in unknown]
