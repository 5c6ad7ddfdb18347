"""A second opinion: weighed only where the user has not met the item, and only where that helps."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from models.calibrate import logits_of
from models.calibration import SEGMENTS, Calibration, Line
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.evaluate import Scorer, evaluate_artifact, load_functions
from models.export import Served
from models.golden import replay
from models.log import Log, split_by_time
from models.network import Network
from models.questions import decisions_of
from models.report.card import kind_of
from models.run import PARTS, RunError, TrainConfig, build_network, build_variables, publish_run, read_run
from models.stack import ALONE, Stack, met, weigh
from models.train import functions, refit, stack, train

TARGETS = ("click", "purchase")
#: Of the click nothing is asked of the second; of purchases both have a say.
SHARES = np.array([[1.0, 0.5], [0.0, 2.0], [0.0, -0.25]])


class Bunch:
    """Columns by name."""

    items: NDArray[Any]

    def __init__(self, **fields: Any) -> None:
        self.__dict__.update(fields)

    def __len__(self) -> int:
        return len(self.items)


def untrained(log: Log, model: str, seed: int) -> Network:
    """A network whose weights are all drawn at random."""
    network = build_network(log.contract, log.content, TrainConfig(model=model))
    build_variables(network)
    rng = np.random.default_rng(seed)
    network.set_weights([rng.normal(0, 0.02, w.shape) for w in network.get_weights()])
    return network


@pytest.fixture(scope="module")
def asked(shop: Dataset, log: Log) -> Decisions:
    split = split_by_time(shop)
    return decisions_of(shop, log, split.validation, split.test, 600)


def test_it_weighs_calibrated_logits_of_what_is_not_met_and_nothing_else(log: Log, asked: Decisions) -> None:
    first, second = untrained(log, "svm", 1), untrained(log, "logistic", 2)
    steep = Calibration({name: [Line((0.0, 1.0), (0.5, 2.5))] * len(SEGMENTS) for name in TARGETS})
    lines = steep, Calibration.none(TARGETS)
    both = Stack(log.contract, log.content, first, second, lines)
    both.shares.assign(SHARES)
    scored = [
        Scorer(log, functions(served)).score(asked) for served in (Served(first, steep), Served(second), Served(both))
    ]
    own, other, found = (logits_of(one.probabilities) for one in scored)
    known = met(log, asked)
    assert 20 < known.sum() < len(asked) - 20
    np.testing.assert_allclose(found[known], own[known], atol=1e-4)
    np.testing.assert_allclose(found[~known, 0], own[~known, 0], atol=1e-4)
    by_hand = 0.5 * own[~known, 1] + 2 * other[~known, 1] - 0.25
    np.testing.assert_allclose(found[~known, 1], by_hand, atol=1e-3)
    np.testing.assert_array_equal(scored[2].values, scored[0].values)


def test_met_is_what_the_state_holds() -> None:
    """By hand: six events of one user, of which a state holds the newest four."""
    log: Any = Bunch(items=np.array([9, 2, 3, 4, 5, 3]), offsets=np.array([1, 6]), contract=Bunch(history_length=4))
    before, items = np.array([0, 1, 5, 5, 5, 5]), np.array([2, 2, 2, 3, 5, 9])  # the first 9 is another user's
    asked: Any = Bunch(user=np.zeros(6, np.int64), before=before, items=items)
    assert met(log, asked).tolist() == [False, True, False, True, True, False]


def rows(labels: NDArray[np.float64]) -> Any:
    """Decisions of a hundred users, of which nothing but labels is asked."""
    count = len(labels)
    weights = np.ones((count, 1))
    return Bunch(labels=labels[:, None], weights=weights, user=np.arange(count) % 100, items=np.zeros(count))


def chosen(own: Any, other: Any, yes: Any, known: Any = None) -> tuple[NDArray[np.float64], Mapping[str, Any]]:
    known = np.zeros(len(yes), bool) if known is None else known
    weights, report = weigh(["click"], own[:, None], other[:, None], rows(yes), np.ones(len(yes)), known)
    return weights[:, 0], report["click"]


def test_an_opinion_that_knows_more_is_weighed_by_what_it_knows() -> None:
    rng = np.random.default_rng(5)
    own, other = rng.normal(-2, 1, 20_000), rng.normal(0, 1, 20_000)
    yes = (rng.random(20_000) < 1 / (1 + np.exp(-(0.8 * own + 0.6 * other + 0.3)))).astype(float)
    weights, report = chosen(own, other, yes)
    np.testing.assert_allclose(weights, (0.8, 0.6, 0.3), atol=0.12)
    assert report["stacked"]
    assert report["logloss"]["stacked"] < report["logloss"]["alone"]


def test_one_that_knows_nothing_or_is_of_too_few_has_no_say() -> None:
    rng = np.random.default_rng(6)
    own, other = rng.normal(-2, 1, 20_000), rng.normal(0, 1, 20_000)
    yes = (rng.random(20_000) < 1 / (1 + np.exp(-own))).astype(float)
    weights, report = chosen(own, other, yes)
    assert (tuple(weights), report["stacked"]) == (ALONE, False)
    helpful = (rng.random(20_000) < 1 / (1 + np.exp(-own - other))).astype(float)
    scarce = np.where(np.cumsum(helpful) > 36, 0.0, helpful)  # of 36 yes, some fold has a fifth, and leaves 29 at most
    weights, report = chosen(own, other, scarce)
    assert (tuple(weights), report) == (ALONE, {"stacked": False, "rows": 20_000, "positives": 36})


def test_what_is_met_is_left_out_of_the_fit() -> None:
    """Where the user has met the item the second opinion would be all that counts; nobody asks it there."""
    rng = np.random.default_rng(7)
    own, other, known = rng.normal(-1, 1, 20_000), rng.normal(0, 1, 20_000), np.arange(20_000) % 2 > 0
    yes = (rng.random(20_000) < 1 / (1 + np.exp(-np.where(known, 3 * other, own)))).astype(float)
    weights, report = chosen(own, other, yes, known)
    assert (tuple(weights), report["rows"]) == (ALONE, 10_000)


@pytest.fixture(scope="module")
def runs(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("runs")
    for model in ("svm", "logistic"):
        train(shop, folder / model, TrainConfig(model=model, epochs=3, history_length=8))
    return folder


@pytest.fixture(scope="module")
def stacked(runs: Path, shop: Dataset) -> Path:
    """A stack of both that says so of purchases, whatever the data would say."""

    def decided(*_: Any) -> tuple[Any, Any]:
        return SHARES, {"click": {"stacked": False}, "purchase": {"stacked": True}}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("models.train.weigh", decided)
        assert stack(shop, runs / "svm", runs / "logistic", runs / "stacked") is not None
    return runs / "stacked"


def test_a_stack_is_published_and_answers_as_it_was_recorded(stacked: Path, shop: Dataset, tmp_path: Path) -> None:
    found = read_run(stacked)
    assert isinstance(found.network, Stack)
    np.testing.assert_allclose(found.network.shares.numpy(), SHARES)
    artifact = publish_run(stacked, tmp_path, "both")
    replay(artifact.golden(), artifact.contract, artifact.vocabulary, load_functions(artifact))
    parts = [read_run(stacked / part) for part in PARTS]
    assert found.metrics["train_seconds"] == pytest.approx(sum(p.metrics["train_seconds"] for p in parts), abs=0.1)
    assert artifact.manifest["parameters"] == sum(p.facts["parameters"] for p in parts)
    assert kind_of(artifact.manifest) == (
        "a linear support vector machine on aggregated features, with logistic regression on aggregated features "
        "beside it for purchase of items that a user has not met"
    )
    report = evaluate_artifact(artifact, shop, "validation", 2000)
    assert report["model"]["purchase"]["auc"] != pytest.approx(
        parts[0].metrics["validation"]["model"]["purchase"]["auc"]
    )


def test_a_stack_is_fitted_again_part_by_part(stacked: Path, shop: Dataset, tmp_path: Path) -> None:
    refit(shop, stacked, tmp_path / "again")
    again, before = read_run(tmp_path / "again"), read_run(stacked)
    assert isinstance(again.network, Stack)
    np.testing.assert_allclose(again.network.shares.numpy(), SHARES)
    assert again.calibration.to_json() == before.calibration.to_json()
    assert again.facts["split"]["refit"]
    for part in PARTS:
        old, new = (read_run(folder / part) for folder in (stacked, tmp_path / "again"))
        assert new.facts["split"]["refit"]
        assert not np.allclose(old.network.get_weights()[0], new.network.get_weights()[0])
    with pytest.raises(RunError, match="is a refit itself"):
        stack(shop, tmp_path / "again", stacked / "second", tmp_path / "twice")


def test_what_does_not_help_leaves_nothing_behind(
    runs: Path, shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refused = {name: {"stacked": False} for name in TARGETS}
    monkeypatch.setattr("models.train.weigh", lambda *_: (np.tile(np.array(ALONE)[:, None], 2), refused))
    assert stack(shop, runs / "svm", runs / "logistic", tmp_path / "stacked") is None
    assert not (tmp_path / "stacked").exists()


def test_runs_of_another_split_are_not_stacked(runs: Path, shop: Dataset, tmp_path: Path) -> None:
    split = split_by_time(shop)
    other = replace(split, validation=split.validation - 3600)
    train(shop, tmp_path / "other", TrainConfig(model="popularity", epochs=1, history_length=8), split=other)
    with pytest.raises(ValueError, match="another time split"):
        stack(shop, runs / "svm", tmp_path / "other", tmp_path / "stacked")
