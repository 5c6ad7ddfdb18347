"""One contender's answers as metrics: for each target, each value and the ranking of the catalogue.

Every metric is an :class:`Estimate`, so that it has an interval, and so has its difference to another contender's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from models.contract import Contract
from models.intervals import Estimate, Resamples
from models.metrics import Floats, auc, expected_calibration_error, list_ndcg_and_hits, log_losses
from models.questions import Questions
from models.yardsticks import Answers

#: Metrics of which less is better; of the others (see RANKED) more is.
ERRORS = {"logloss", "ece", "mae", "rmse", "distance"}
#: What is no quality of a contender but says what it was measured on.
FACTS = ("rows", "rate", "lists")

Metrics = dict[str, Any]
Table = dict[str, Metrics]


@dataclass(frozen=True, slots=True)
class Ruler:
    """Measures answers to the same questions, under the same draws of users."""

    contract: Contract
    questions: Questions
    resamples: Resamples
    _best: dict[int, Mapping[str, Estimate]] = field(default_factory=dict, init=False)

    def select(self, masks: tuple[Any, Any, Any]) -> Ruler:
        """The ruler of a group: of some decisions, matched decisions and moves."""
        asked = self.questions
        return replace(
            self,
            questions=replace(
                asked,
                decisions=asked.decisions.take(masks[0]),
                matched=asked.matched.take(masks[1]) if asked.matched else None,
                moves=asked.moves.take(masks[2]),
                lists=asked.lists[masks[2]],
                sampled=asked.sampled[masks[2]],
            ),
        )

    def measure(self, answers: Answers) -> Table:
        """Subject (a target, a value, ``retrieval``) to metric to :class:`Estimate`, or whole number."""
        table: Table = {}
        for place, name in enumerate(self.contract.targets):
            table[name] = self._scores(answers, place) | self._target_lists(answers, place)
        for place, name in enumerate(self.contract.values):
            table[name] = self._values(answers, place)
        if answers.ranks is not None:
            table["retrieval"] = self._lists(answers.ranks[:, 0], self.questions.sampled)
        return {subject: metrics for subject, metrics in table.items() if metrics}

    def _scores(self, answers: Answers, place: int) -> Metrics:
        if answers.scores is None:
            return {}
        asked = self.questions.decisions
        known = asked.weights[:, place] > 0
        user, labels, scores = asked.user[known], asked.labels[known, place], answers.scores[known, place]
        found: Metrics = {"auc": self._auc(user, labels, scores)}
        if answers.matched is not None and (close := self.questions.matched) is not None:
            told = close.weights[:, place] > 0
            found["matched_auc"] = self._auc(close.user[told], close.labels[told, place], answers.matched[told, place])
        if answers.calibrated:
            error = expected_calibration_error(labels, scores)
            found["logloss"] = self.resamples.mean(user, log_losses(labels, scores))
            found["ece"] = self.resamples.calibration_error(user, labels, scores, error)
        if answers.places is not None:
            found |= self._pages(answers.places[:, place], place)
        if asked.truth is not None:
            truth = asked.truth[known, place]
            reached = {"auc_ratio": found["auc"], "expected_auc_ratio": self._auc(user, truth, scores)}
            found |= {name: above_half(e).ratio(self._possible(place)[name]) for name, e in reached.items()}
            if answers.calibrated:
                found["distance"] = self.resamples.mean(user, np.abs(scores - truth))
        return {**found, "rate": float(labels.mean()) if len(labels) else float("nan"), "rows": len(labels)}

    def _auc(self, user: Any, labels: Floats, scores: Floats) -> Estimate:
        return self.resamples.auc(user, labels, scores, auc(labels, scores))

    def _possible(self, place: int) -> Mapping[str, Estimate]:
        """How far above 1/2 the AUC of the true probabilities of a target lies, for all contenders alike: by what
        happened, and by what they expect to happen, which some purchases more or less by chance do not move."""
        if place not in self._best:
            asked = self.questions.decisions
            assert asked.truth is not None
            known = asked.weights[:, place] > 0
            user, labels, truth = asked.user[known], asked.labels[known, place], asked.truth[known, place]
            ways = {"auc_ratio": labels, "expected_auc_ratio": truth}
            self._best[place] = {name: above_half(self._auc(user, yes, truth)) for name, yes in ways.items()}
        return self._best[place]

    def _pages(self, places: Any, place: int) -> Metrics:
        """Pages on which something had the target, as ordered for it."""
        relevant = self.questions.decisions.labels[:, place] > 0
        acted = self.questions.decisions.take(relevant)
        ndcg, _, rows = list_ndcg_and_hits(places[relevant], acted.pages)
        return {"page ndcg@10": self.resamples.mean(acted.user[rows], ndcg)}

    def _target_lists(self, answers: Answers, place: int) -> Metrics:
        """Lists whose relevant items had the target: as ordered for it, and as retrieved."""
        if answers.ranks is None:
            return {}
        relevant = self.questions.moves.labels[:, place] > 0
        ordered = self._lists(answers.ranks[:, 1 + place], relevant)
        retrieved = self._lists(answers.ranks[:, 0], relevant)
        lists = ordered.pop("rows")
        return {**ordered, **{f"retrieved {k}": v for k, v in retrieved.items() if k != "rows"}, "lists": lists}

    def _lists(self, ranks: Any, chosen: Any) -> Metrics:
        ndcg, hits, rows = list_ndcg_and_hits(ranks[chosen], self.questions.lists[chosen])
        user = self.questions.moves.user[chosen][rows]
        return {
            "ndcg@10": self.resamples.mean(user, ndcg),
            "hr@10": self.resamples.mean(user, hits),
            "rows": len(rows),
        }

    def _values(self, answers: Answers, place: int) -> Metrics:
        if answers.values is None:
            return {}
        asked = self.questions.decisions
        known = np.isfinite(asked.values[:, place])
        error = answers.values[known, place].astype(np.float64) - asked.values[known, place]
        user = asked.user[known]
        squares = self.resamples.mean(user, error**2)
        return {"mae": self.resamples.mean(user, np.abs(error)), "rmse": squares.apply(np.sqrt), "rows": len(error)}


def above_half(auc: Estimate) -> Estimate:
    """An AUC less what guessing reaches."""
    return auc.apply(lambda x: x - 0.5)


def plain(tables: Mapping[str, Table]) -> dict[str, Any]:
    """Tables by contender as plain numbers, for JSON; who has nothing to say is left out.

    Beside each contender: ``intervals`` (contender to subject to metric to [low, high]) and ``differences`` (rival to
    subject to metric to [model - rival, low, high]).
    """
    tables = {who: table for who, table in tables.items() if table}
    report: dict[str, Any] = {who: _values_of(table) for who, table in tables.items()}
    report["intervals"] = {who: _intervals(table) for who, table in tables.items()}
    model = tables.get("model", {})
    rivals = {who: table for who, table in tables.items() if who != "model"}
    report["differences"] = {who: _differences(model, table) for who, table in rivals.items()}
    return report


def rounded(value: float) -> float:
    """Seven significant digits."""
    return float(f"{value:.7g}")


def _values_of(table: Table) -> Table:
    return {
        subject: {metric: rounded(e.value) if isinstance(e, Estimate) else e for metric, e in metrics.items()}
        for subject, metrics in table.items()
    }


def _intervals(table: Table) -> Table:
    return {
        subject: {m: [rounded(end) for end in e.interval()] for m, e in metrics.items() if isinstance(e, Estimate)}
        for subject, metrics in table.items()
    }


def _differences(model: Table, rival: Table) -> Table:
    found: Table = {}
    for subject, metrics in rival.items():
        shared = [m for m, e in metrics.items() if isinstance(e, Estimate) and m in model.get(subject, {})]
        pairs = {metric: model[subject][metric] - metrics[metric] for metric in shared}
        found[subject] = {m: [rounded(x) for x in (e.value, *e.interval())] for m, e in pairs.items()}
    return found
