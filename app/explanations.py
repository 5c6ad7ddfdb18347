"""Why: what moved each prediction of an answer. Only for requests that ask, since it costs some forty predictions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from app.deadline import within
from app.errors import Overloaded
from app.metrics import Metrics
from app.model import Model
from app.offer import Named, Offer
from app.visitor import Degraded, Visitor
from models.contract import FIRST
from models.encode import Moment, encode_history, to_history
from models.explanation import Explanation, read_explanations

#: Of the predictions, and of the recommendations, so many are explained, from the first on.
EXPLAINED = 10
#: Events that an explanation lists.
EVENTS = 5


class Explainer:
    """Explains predictions from the history as events, which a cached state no longer holds."""

    def __init__(self, offer: Offer, model: Model, metrics: Metrics) -> None:
        self._offer = offer
        self._model = model
        self._metrics = metrics
        self._contract = model.artifact.contract
        self._vocabulary = model.artifact.vocabulary

    async def explain(
        self,
        visitor: Visitor,
        moment: Moment,
        named: Named,
        items: Sequence[str],
        deadline: float,
        degraded: Degraded,
    ) -> Mapping[str, Mapping[str, Explanation]]:
        """For each item, for each target, what moved its prediction; ``items`` may repeat.

        Where the history is unknown or too many want explanations there are none, and ``degraded`` says so.

        Raises:
            DeadlineExceeded: the model was not ready in time.
        """
        try:
            return await self._ask(visitor, moment, named, list(dict.fromkeys(items)), deadline, degraded)
        except Overloaded:  # the predictions are there: they are not refused for want of reasons
            degraded.add("explanation")
            return {}

    async def _ask(
        self, visitor: Visitor, moment: Moment, named: Named, items: list[str], deadline: float, degraded: Degraded
    ) -> Mapping[str, Mapping[str, Explanation]]:
        """Explanations by item and target."""
        if visitor.events is None:
            degraded.add("explanation")
            return {}
        if not items:
            return {}
        history = to_history(visitor.events, self._vocabulary, self._contract)
        ids = [named.ids.get(item, self._offer.item_id(item)) for item in items]
        with self._metrics.stage("explain"):
            async with within(deadline):
                parts = await self._model.explain(
                    encode_history(history, self._contract),
                    visitor.length,
                    moment,
                    np.array(ids, np.int32),
                    list(named.newcomers.values()),
                    deadline=deadline,
                )
        told = read_explanations(
            parts,
            visitor.events,
            moment.fields,
            self._contract,
            self._vocabulary,
            titles=self._title,
            most_events=EVENTS,
        )
        return dict(zip(items, told, strict=True))

    def _title(self, item_id: str) -> str | None:
        """The title of an item, where the catalogue has one."""
        item = self._offer.item_id(item_id)
        return self._offer.label(item)[1] if item >= FIRST else None
