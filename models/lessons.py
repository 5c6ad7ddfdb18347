"""What a network is taught and in which order: first the next event alone, then every head at once."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import keras
import numpy as np

from models.accelerate import Accelerator
from models.augment import hide_events
from models.behaviour import prior_l2
from models.contract import Contract
from models.datasets.dataset import Dataset
from models.decisions import Decisions, event_decisions, exposure_decisions, period_decisions
from models.encode import Arrays
from models.fit import Course, Fit, Report, ahead, mean_losses
from models.log import Log, Split
from models.network import Network
from models.run import TrainConfig, build_network, build_variables, schedule_of
from models.samples import Windows
from models.steps import Schedule

#: The two lessons; pretraining is for networks that retrieve by vector.
PRETRAIN, TRAIN = "pretrain", "train"

History = dict[str, dict[str, list[float]]]


@dataclass(frozen=True, slots=True)
class Lessons:
    """One untrained network and all that it learns from.

    Attributes:
        shown: decisions about what was shown, at all times; None where that is not known, or periods are learned.
        moves: decisions whose item is the next thing the user did, at all times.
        config: without settings that are left to the network (-1).
        report: progress.
    """

    dataset: Dataset
    log: Log
    shown: Decisions | None
    moves: Decisions
    network: Network
    config: TrainConfig
    accelerator: Accelerator
    report: Report

    @classmethod
    def of(cls, dataset: Dataset, log: Log, config: TrainConfig, report: Report) -> Lessons:
        """With a new network, by the seed of the settings. Raises ValueError: fewer devices than asked for."""
        keras.utils.set_random_seed(config.seed)
        accelerator = Accelerator(xla=config.xla, devices=config.devices)
        with accelerator.scope():
            network = build_network(log.contract, log.content, config)
            build_variables(network)
        if config.weight_decay < 0:
            config = replace(config, weight_decay=network.weight_decay)
        shown = exposure_decisions(dataset, log) if dataset.exposures is not None and not config.horizon_days else None
        return cls(dataset, log, shown, event_decisions(log), network, config, accelerator, report)

    def first(self, split: Split, logs: Path) -> tuple[History, dict[str, Course]]:
        """Learn from the time before the split, until the time after it says that it is enough.

        Returns the figures of each epoch and how far the best weights had come, by lesson; ``logs`` is for TensorBoard.
        Raises ValueError, in one sentence, where either time has nothing to teach.
        """
        config, history, courses = self.config, {}, {}
        learn = self._windows("training", 0.0, split.validation)
        check = self._windows("validation", split.validation, split.test)
        started = time.monotonic()
        for lesson in self._plan():
            schedule, windows, later = self._schedule(lesson, learn), learn, check
            if lesson == PRETRAIN:
                windows, later = self._next(0.0, split.validation), self._next(split.validation, split.test)
            else:
                left = config.minutes - (time.monotonic() - started) / 60
                schedule = replace(schedule, minutes=max(left, config.minutes / 4))
            fit = self._fit(lesson, schedule)
            validation = mean_losses(self.network, fit.losses, self._rounds(later, drawn=False), self.accelerator)
            steps = len(windows.plan(config.batch))
            history[lesson] = fit.run(self._rounds(windows), steps, validation, self.report, logs)
            courses[lesson] = fit.course
        return history, courses

    def refit(self, split: Split, courses: Mapping[str, Course]) -> None:
        """Learn from the time before ``split.learned``, as far as other lessons of the same settings had come."""
        learn = self._windows("training", 0.0, split.learned)
        for lesson in self._plan():
            windows = self._next(0.0, split.learned) if lesson == PRETRAIN else learn
            fit = self._fit(lesson, self._schedule(lesson, learn))
            fit.retrace(courses[lesson], self._rounds(windows), len(windows.plan(self.config.batch)), self.report)

    def _plan(self) -> list[str]:
        pretrained = self.network.retrieval_weight and self.config.pretrain_epochs
        return [PRETRAIN, TRAIN] if pretrained else [TRAIN]

    def _schedule(self, lesson: str, learn: Windows) -> Schedule:
        """Pretraining may take half of the time; tables are held by their prior while all heads learn."""
        config, schedule = self.config, schedule_of(self.config)
        if lesson == PRETRAIN:
            return replace(schedule, epochs=config.pretrain_epochs, minutes=config.minutes / 2, table_l2=0.0)
        if config.table_l2 < 0:
            return replace(schedule, table_l2=prior_l2(learn.decisions * (1 + self.log.contract.negatives)))
        return schedule

    def _fit(self, lesson: str, schedule: Schedule) -> Fit:
        losses = self.network.pretraining_losses if lesson == PRETRAIN else self.network.losses_of
        return Fit(self.network, losses, schedule, self.accelerator, lesson)

    def _rounds(self, windows: Windows, *, drawn: bool = True) -> Callable[[], Iterable[Arrays]]:
        """Gives the batches of one pass each time it is called: shuffled and with chance, or always the same."""
        rng, config = np.random.default_rng(self.config.seed), self.config
        if not drawn:
            return lambda: ahead(windows.batches(config.batch))
        return lambda: ahead(hide_events(batch, config.augment, rng) for batch in windows.batches(config.batch, rng))

    def _next(self, start: float, end: float) -> Windows:
        """Every event of a time, to learn which item comes next."""
        return Windows(self.log, None, self.moves.between(start, end))

    def _windows(self, name: str, start: float, end: float) -> Windows:
        """Decisions of a time. Raises ValueError where it has nothing to teach."""
        config, shown = self.config, self.shown is not None
        if config.horizon_days:
            inside = period_decisions(self.log, start, end, config.horizon_days)
        else:
            inside = (self.moves if self.shown is None else self.shown).between(start, end)
        if not len(inside):
            raise ValueError(f"The data set {self.dataset.name} has nothing to decide in its {name} time.")
        if name == "training":
            _refuse_never(self.dataset, self.log.contract, inside, shown)
        per_window = config.per_window if shown else config.history_length
        hard = config.hard_negatives if self.network.takes_hard else 0.0
        return Windows(self.log, inside, self.moves.between(start, end), per_window=per_window, hard=hard)


def _refuse_never(dataset: Dataset, contract: Contract, decisions: Decisions, shown: bool) -> None:
    """Raises ValueError where a target never happens, so that it cannot be learned."""
    for target, yes in zip(contract.targets, decisions.labels.sum(axis=0), strict=True):
        if not yes:
            raise ValueError(
                f"No exposure of {dataset.name} is followed by a {target}: exposures and events belong together by "
                "user, item and request id, so both need the request id."
                if shown
                else f"In the training time of {dataset.name} nobody with a history goes on to a {target}, so "
                "that it cannot be learned; leave those events out."
            )
