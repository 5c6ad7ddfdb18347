"""The headline of a report: which numbers count, and one sentence that says how they compare."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from models.contract import Contract
from models.measure import ERRORS
from models.report.charts import words

#: Metrics that the first screen shows: of a target, of a value, of the ranking.
SHORT = {"auc": "AUC", "matched_auc": "AUC", "mae": "mean abs. error", "ndcg@10": "NDCG@10"}


@dataclass(frozen=True, slots=True)
class Headline:
    """One number of the first screen, beside the best of the others.

    Attributes:
        interval, difference: 95%, NaN where unknown; the difference is model - best other, as [value, low, high].
        standing: ``better``, ``level`` or ``worse`` than the best other; empty where there is none.
        share: of what can be known (auc_ratio), in simulated data.
    """

    subject: str
    metric: str
    value: float
    interval: Sequence[float]
    rival: str = ""
    rival_value: float = float("nan")
    difference: Sequence[float] = ()
    standing: str = ""
    share: float = float("nan")

    @property
    def name(self) -> str:
        """The metric's name for people."""
        return SHORT[self.metric]


def headlines(report: Mapping[str, Any], contract: Contract) -> list[Headline]:
    """The numbers that decide: discrimination of each target, error of each value, the ranking of the catalogue."""
    wanted = [(t, "matched_auc" if "matched_auc" in report["model"].get(t, {}) else "auc") for t in contract.targets]
    wanted += [("retrieval", "ndcg@10"), *((value, "mae") for value in contract.values)]
    found = []
    for subject, metric in wanted:
        value = report["model"].get(subject, {}).get(metric)
        if value is not None and not math.isnan(value):
            found.append(_headline(report, subject, metric, value))
    return found


def _headline(report: Mapping[str, Any], subject: str, metric: str, value: float) -> Headline:
    interval = report["intervals"]["model"][subject][metric]
    share = report["model"][subject].get("auc_ratio", float("nan"))
    others = {
        who: differences[subject][metric]
        for who, differences in report["differences"].items()
        if who != "oracle" and metric in differences.get(subject, {})
    }
    known = {who: d for who, d in others.items() if not math.isnan(d[0])}
    if not known:
        return Headline(subject, metric, value, interval, share=share)
    sign = -1 if metric in ERRORS else 1
    rival = min(known, key=lambda who: sign * known[who][0])  # over whom the lead is least
    difference = known[rival]
    low, high = sorted(sign * end for end in difference[1:])
    standing = "better" if low > 0 else "worse" if high < 0 else "level"
    return Headline(
        subject, metric, value, interval, rival, report[rival][subject][metric], difference, standing, share
    )


def verdict(lines: Sequence[Headline], model: str) -> str:
    """One sentence: at what the model is better than all others, level with the best of them, or worse."""
    parts = []
    better = [words(line.subject) for line in lines if line.standing == "better"]
    if better:
        parts.append(f"better than everything it is set against at {_list(better)}")
    for standing, word in (("level", "no different from"), ("worse", "worse than")):
        named = [f"{line.rival} at {words(line.subject)}" for line in lines if line.standing == standing]
        if named:
            parts.append(f"{word} {_list(named)}")
    if not parts:
        return f"There is nothing to compare {model} with on these data."
    return f"{model} is {'; '.join(parts)} (at 95% confidence)."


def _list(words: Sequence[str]) -> str:
    return words[0] if len(words) == 1 else f"{', '.join(words[:-1])} and {words[-1]}"
