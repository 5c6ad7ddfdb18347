"""THE PATH: what happens to one prediction request, from top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from orjson import Fragment

from app import deadline as deadlines
from app import ranking
from app.answers import Answer, Outcomes, Provenance, Reason, Rows
from app.catalogue import ItemContent
from app.checks import check
from app.errors import HistoryUnavailable
from app.explanations import EXPLAINED, Explainer
from app.metrics import Metrics
from app.model import Model
from app.offer import Filtered, Named, Offer
from app.schemas import PredictRequest
from app.settings import Settings
from app.visitor import Degraded, Visitor, Visitors
from app.written import NONE, Explained, Lists, item_members, label_members
from models.contract import UNKNOWN
from models.encode import Arrays, Moment, encode_context
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
        self._explainer = Explainer(offer, model, metrics)
        self._contract = model.artifact.contract
        self._vocabulary = model.artifact.vocabulary
        self._lists = Lists(self._contract.targets, self._contract.values)
        self._name = {"name": model.artifact.name, "version": model.artifact.version}

    async def predict(self, request: PredictRequest, request_id: str, deadline: float) -> Answer:
        """Answer one request.

        Args:
            deadline: in the event loop's time.

        Raises:
            InvalidPayload: the request names what the model does not have.
            Overloaded: there are too many requests.
            DeadlineExceeded: the answer was not ready in time.
        """
        with self._model.admitted(deadline):
            return await self._predict(request, request_id, deadline)

    async def _predict(self, request: PredictRequest, request_id: str, deadline: float) -> Answer:
        start, now = time.perf_counter(), self._clock()
        check(request, self._contract, self._settings, self._model.explains)
        degraded = Degraded()

        visitor = await self._visitors.load(request, now, deadline, degraded)
        moment = self._moment(request, visitor, now)
        named = await self._find(request, deadline, degraded)
        filtered = self._filter(request, visitor)
        pool, outcomes = await self._judge(request, visitor, moment, named, filtered, deadline)
        groups = await self._groups(request, named, outcomes.ids[pool], deadline, degraded)
        chosen, scores = self._rank(request, pool, groups, outcomes)
        known, best = [name for name in request.items if name in named.ids], outcomes.ids[chosen]
        why_known, why_best = await self._why(request, visitor, moment, named, known, best, deadline, degraded)

        for part in degraded:
            self._metrics.degraded.labels(part).inc()
        return Answer(
            request_id=request_id,
            user_id=request.user_id,
            model=self._name,
            predictions=self._predictions(known, named, outcomes, why_known),
            recommendations=self._lists.recommendations(
                self._members(best, named), scores, outcomes.numbers(chosen), _reason(request, visitor), why_best
            ),
            warnings=_warnings(request.items, named.ids),
            provenance=Provenance(
                state=visitor.source,
                state_age_ms=max(0, round((now - visitor.computed_at) * 1000)),
                history=visitor.total,
                degraded=degraded,
            ),
            took_ms=round((time.perf_counter() - start) * 1000, 3),
        )

    def _moment(self, request: PredictRequest, visitor: Visitor, now: float) -> Moment:
        """Where and when the question is asked, as the model takes it."""
        at = now if request.context.at is None else request.context.at.timestamp()
        return encode_context(
            request.context.fields,
            visitor.profile,
            at,
            visitor.last_at,
            self._vocabulary,
            self._contract,
        )

    async def _find(self, request: PredictRequest, deadline: float, degraded: Degraded) -> Named:
        """The named items; those the vocabulary lacks are looked up, to be judged by what the catalogue says now."""
        strangers = [name for name in request.items if self._vocabulary.item_id(name) == UNKNOWN]
        newcomers: dict[str, ItemContent] = {}
        if strangers:
            try:
                async with deadlines.within(deadline):
                    newcomers = await self._offer.find(strangers)
            except HistoryUnavailable:
                degraded.add("history")
        return Named.of(request.items, self._vocabulary, newcomers, self._model.places)

    def _filter(self, request: PredictRequest, visitor: Visitor) -> Filtered:
        """What the request's filters leave. Seen items are read off the state, so they cost nothing on a cache hit."""
        types = [self._contract.type_id(name) for name in request.filters.exclude_seen]
        return Filtered(request.filters, self._offer, visitor.items(types))

    async def _judge(
        self,
        request: PredictRequest,
        visitor: Visitor,
        moment: Moment,
        named: Named,
        filtered: Filtered,
        deadline: float,
    ) -> tuple[Rows, Outcomes]:
        """What the model expects of the candidates and the named items; which rows of it to choose from, shape [n]."""
        if request.rank == "items":
            outcomes = Outcomes(*await self._score(visitor, moment, named, deadline), self._contract)
            return outcomes.rows(filtered.of(named)), outcomes
        count = max(request.k, self._settings.candidates)
        found = await self._recommend(visitor, moment, filtered, count, deadline)
        if not named.ids:
            return np.arange(len(found[0])), Outcomes(*found, self._contract)
        own = await self._score(visitor, moment, named, deadline)  # after it: the model has one thread for both
        outcomes = Outcomes.merged(found, own, self._contract)
        return outcomes.rows(found[0]), outcomes

    async def _recommend(
        self, visitor: Visitor, moment: Moment, filtered: Filtered, count: int, deadline: float
    ) -> tuple[Ids, Arrays]:
        """The best of the catalogue, best guess first, and their outcomes."""
        with self._metrics.stage("recommend"):
            async with deadlines.within(deadline):
                return await self._model.recommend(
                    visitor.state, visitor.length, moment, filtered.allowed, count, deadline=deadline
                )

    async def _score(self, visitor: Visitor, moment: Moment, named: Named, deadline: float) -> tuple[Ids, Arrays]:
        """The named items, each once, and their outcomes."""
        items = np.unique(np.fromiter(named.ids.values(), np.int32))
        if not len(items):
            names = (*self._contract.targets, *self._contract.values)
            return items, dict.fromkeys(names, np.zeros(0, np.float32))
        newcomers = list(named.newcomers.values())
        with self._metrics.stage("score"):
            async with deadlines.within(deadline):
                return items, await self._model.score(
                    visitor.state, visitor.length, moment, items, newcomers, deadline=deadline
                )

    async def _groups(
        self, request: PredictRequest, named: Named, pool: Ids, deadline: float, degraded: Degraded
    ) -> NDArray[np.int64] | None:
        """The finest category of each item of the pool, as a number; read from the catalogue, for diversity only."""
        if not request.diversity or not len(pool):
            return None
        names = [name for name, _ in self._labels(pool, named)]
        try:
            async with deadlines.within(deadline):
                contents = await self._offer.find(names)
        except HistoryUnavailable:
            degraded.add("history")
            return None
        paths = [contents[name].categories if name in contents else () for name in names]
        numbers: dict[str, int] = {}
        return np.array(
            [numbers.setdefault(path[-1], len(numbers)) if path else ranking.NO_GROUP for path in paths], np.int64
        )

    def _rank(
        self, request: PredictRequest, pool: Rows, groups: NDArray[np.int64] | None, outcomes: Outcomes
    ) -> tuple[Rows, ranking.Floats]:
        """The best k of the pool's rows, by the request's objective, and their scores."""
        with self._metrics.stage("rank"):
            weights = self._contract.objective if request.objective is None else request.objective
            order, scores = ranking.rank(
                ranking.objective_scores(outcomes.probabilities(pool), weights),
                request.k,
                groups=groups,
                diversity=request.diversity,
                exploration=request.exploration,
                random=self._random,
            )
            return pool[order], scores

    async def _why(
        self,
        request: PredictRequest,
        visitor: Visitor,
        moment: Moment,
        named: Named,
        known: Sequence[str],
        best: Ids,
        deadline: float,
        degraded: Degraded,
    ) -> tuple[Sequence[Explained], Sequence[Explained]]:
        """What moved the first predictions (of the ``known`` items) and the first recommendations, where a request
        asks."""
        if not request.explain:
            return (), ()
        first = known[:EXPLAINED], [name for name, _ in self._labels(best[:EXPLAINED], named)]
        found = await self._explainer.explain(visitor, moment, named, [*first[0], *first[1]], deadline, degraded)
        return [found.get(name) for name in first[0]], [found.get(name) for name in first[1]]

    def _predictions(
        self, known: Sequence[str], named: Named, outcomes: Outcomes, explained: Sequence[Explained]
    ) -> Fragment:
        """One prediction for each named item the model knows, in the order of the request."""
        if not known:
            return NONE
        rows = outcomes.rows(np.fromiter((named.ids[name] for name in known), np.int32, len(known)))
        return self._lists.predictions([item_members(name) for name in known], outcomes.numbers(rows), explained)

    def _members(self, items: Ids, named: Named) -> list[bytes]:
        """n internal ids, those of the request's newcomers included, as members of JSON objects."""
        if not named.newcomers:
            return self._offer.written(items.tolist())
        return [label_members(*label) for label in self._labels(items, named)]

    def _labels(self, items: Ids, named: Named) -> list[tuple[str, str | None]]:
        """External id and title of n internal ids, those of the request's newcomers included."""
        guests, places = list(named.newcomers.items()), self._model.places
        return [
            self._offer.label(item) if item < places else (guests[item - places][0], guests[item - places][1].title)
            for item in items.tolist()
        ]


def _reason(request: PredictRequest, visitor: Visitor) -> Reason:
    if request.rank == "items":
        return "requested"
    return "history" if visitor.length else "popular"


def _warnings(items: Sequence[str], named: Mapping[str, int]) -> list[dict[str, str]]:
    """The named items the answer leaves out, each once."""
    unknown = dict.fromkeys(name for name in items if name not in named)
    return [{"code": "unknown_item", "item_id": name} for name in unknown]
