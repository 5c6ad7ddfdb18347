"""What a model is worth on decisions it has not seen, beside yardsticks and other models on the same rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.golden import Functions
from models.intervals import Resamples
from models.log import Log, Split, build_log
from models.measure import Ruler, plain
from models.questions import Questions, ask, decisions_of, groups, part_of
from models.scoring import Advance, Contender, Scored, Scorer, functions_of, load_functions
from models.yardsticks import Answers, answers_of, item_mean, oracle, popularity, user_mean

__all__ = [
    "Contender",
    "Evidence",
    "Rival",
    "Scored",
    "Scorer",
    "decisions_of",
    "evaluate",
    "evaluate_artifact",
    "functions_of",
    "gather",
    "gather_artifact",
    "load_functions",
    "rival_artifact",
]

#: Keys of a report that are no contender.
BESIDE = ("intervals", "differences", "breakdown")
#: What no rival can be called.
RESERVED = {"model", "popularity", "user mean", "item mean", "oracle", *BESIDE}
#: Intervals of groups are made of so many times fewer draws.
COARSER = 4


@dataclass(frozen=True, slots=True)
class Rival:
    """Another contender and the places that its probabilities are multiplied with (None: it knows of none)."""

    contender: Contender
    examination: NDArray[np.float32] | None = None


@dataclass(frozen=True, slots=True)
class Evidence:
    """Questions and everyone's answers: what metrics and plots are made of.

    Attributes:
        answers: by contender: ``model``, then yardsticks and rivals by name, then ``oracle`` in simulated data.
    """

    log: Log
    questions: Questions
    answers: Mapping[str, Answers]

    def report(self, samples: int = 1000) -> dict[str, Any]:
        """Metrics by contender, subject and metric, with intervals from ``samples`` draws of users.

        ``breakdown`` has the same by group of history length and of item popularity (how often in training).
        """
        ruler = Ruler(self.log.contract, self.questions, Resamples(self.questions.users(), samples))
        report = plain({who: ruler.measure(answers) for who, answers in self.answers.items()})
        report["breakdown"] = {}
        ruler = replace(ruler, resamples=ruler.resamples.first(max(samples // COARSER, 1)))
        for kind, masks in groups(self.questions).items():
            parts = report["breakdown"][kind] = {}
            for name, mask in masks.items():
                part = ruler.select(mask)
                parts[name] = plain({who: part.measure(a.select(*mask)) for who, a in self.answers.items()})
        return report


def gather(
    dataset: Dataset,
    log: Log,
    split: Split,
    functions: Functions,
    examination: NDArray[np.float32],
    *,
    part: str = "validation",
    limit: int = 100_000,
    rivals: Mapping[str, Rival] | None = None,
    horizon_days: float = 0.0,
    advance: Advance | None = None,
) -> Evidence:
    """Ask the model, the yardsticks and the rivals the same questions of one period (``validation`` or ``test``).

    Probabilities are read at the position at which an item was shown (``examination`` [positions], see
    Network.examined); ranking metrics are over the whole catalogue. Where nothing says what was shown, ``matched_auc``
    sets each event against items that others acted on at the time: neither popularity nor having been new helps there.

    Raises:
        ValueError: nothing happened in that period, or a rival has a name that is taken.
    """
    if taken := sorted(RESERVED & set(rivals or {})):
        raise ValueError(
            f"Beside another, {taken[0]} cannot be the name of a model, for a report has something else of that name; "
            "publish it under another one with `foretell export RUN --name NAME`."
        )
    questions = ask(dataset, log, split, part=part, limit=limit, horizon_days=horizon_days)
    answers = {
        "model": answers_of(Scorer(log, functions), questions, examination, advance=advance),
        "popularity": popularity(log, questions, split.learned),
        "user mean": user_mean(log, questions, split.learned),
        "item mean": item_mean(log, questions, split.learned),
    }
    for name, rival in (rivals or {}).items():
        answers[name] = answers_of(rival.contender, questions, rival.examination)
    if questions.decisions.truth is not None:
        answers["oracle"] = oracle(questions)
    if questions.matched is None:  # what was shown is known
        pages = questions.decisions.pages
        answers = {who: given.placed(pages) for who, given in answers.items()}
    return Evidence(log, questions, answers)


def evaluate(
    dataset: Dataset,
    log: Log,
    split: Split,
    functions: Functions,
    examination: NDArray[np.float32],
    *,
    samples: int = 1000,
    **asked: Any,
) -> dict[str, Any]:
    """:func:`gather` and :meth:`Evidence.report` in one."""
    return gather(dataset, log, split, functions, examination, **asked).report(samples)


def gather_artifact(
    artifact: Artifact,
    dataset: Dataset,
    part: str,
    limit: int,
    advance: Advance | None = None,
    against: Sequence[Artifact] = (),
    others: Mapping[str, Rival] | None = None,
) -> Evidence:
    """:func:`gather` for a published artifact, on the time split it was trained with.

    Args:
        against: artifacts that were trained on the same data and split; their names become the rivals' names.
        others: further rivals.

    Raises:
        ValueError: a rival was trained on other data or another split, or nothing happened in that period.
    """
    split = Split.of(artifact)
    log = build_log(dataset, artifact.vocabulary, artifact.contract, split.learned)
    rivals = {label(other, against): rival_artifact(other, artifact, dataset, part) for other in against}
    return gather(
        dataset,
        log,
        split,
        load_functions(artifact),
        _examination(artifact),
        part=part,
        limit=limit,
        rivals={**rivals, **(others or {})},
        horizon_days=artifact.horizon_days,
        advance=advance,
    )


def evaluate_artifact(
    artifact: Artifact,
    dataset: Dataset,
    part: str,
    limit: int,
    advance: Advance | None = None,
    against: Sequence[Artifact] = (),
) -> dict[str, Any]:
    """:func:`gather_artifact` and :meth:`Evidence.report` in one."""
    return gather_artifact(artifact, dataset, part, limit, advance, against).report()


def rival_artifact(rival: Artifact, artifact: Artifact, dataset: Dataset, part: str) -> Rival:
    """A published artifact as a rival of another, of which one may be fitted again, or both.

    Raises ValueError where the same questions of that part cannot be asked of both.
    """
    part_of(Split.of(rival), part)
    if _subject(rival) != _subject(artifact):
        raise ValueError(
            f"{rival.name} {rival.version} and {artifact.name} {artifact.version} were trained on different data or "
            "another time split, so that the same rows cannot be asked of both; train one of them again."
        )
    log = build_log(dataset, rival.vocabulary, rival.contract, Split.of(rival).learned)
    return Rival(Scorer(log, load_functions(rival)), _examination(rival))


def label(rival: Artifact, among: Sequence[Artifact]) -> str:
    """The rival's name, with its version where two of the same name are compared."""
    return rival.name if sum(a.name == rival.name for a in among) == 1 else f"{rival.name}:{rival.version}"


def _subject(artifact: Artifact) -> tuple[Any, ...]:
    """What questions are made of: those of equal subjects can be asked of both."""
    split, contract = Split.of(artifact), artifact.contract
    return split.validation, split.test, artifact.vocabulary.items, contract.targets, contract.values, contract.fields


def _examination(artifact: Artifact) -> NDArray[np.float32]:
    return np.asarray(artifact.manifest["examination"], np.float32)
