"""Learning again up to the test: what stays of the first model, what is new, and what may no longer be asked."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.decisions import Decisions
from models.evaluate import evaluate_artifact
from models.fit import Course
from models.golden import replay
from models.log import Log, Split
from models.report.card import trained_on
from models.run import RunError, TrainConfig, publish_run, read_run
from models.samples import Windows
from models.scoring import load_functions
from models.train import refit, train


@pytest.fixture(scope="module")
def runs(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """``first`` and ``again``: a logistic regression, and the same fitted up to the test."""
    folder = tmp_path_factory.mktemp("runs")
    train(shop, folder / "first", TrainConfig(model="logistic", epochs=6, history_length=8))
    refit(shop, folder / "first", folder / "again")
    return folder


@pytest.fixture(scope="module")
def artifact(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return publish_run(runs / "again", tmp_path_factory.mktemp("saved"), "again")


@pytest.fixture(scope="module")
def before(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    return publish_run(runs / "first", tmp_path_factory.mktemp("saved"), "before")


def test_choices_stay_and_weights_and_counts_are_new(runs: Path, shop: Dataset) -> None:
    first, again = read_run(runs / "first"), read_run(runs / "again")
    assert (first.contract, first.config) == (again.contract, again.config)
    assert first.calibration.to_json() == again.calibration.to_json()
    assert first.vocabulary.items == again.vocabulary.items
    assert first.metrics["validation"] == again.metrics["validation"]
    assert again.metrics["train_seconds"] > first.metrics["train_seconds"]
    split = first.facts["split"]
    assert again.facts["split"] == {**split, "refit": True}
    # Popularity is log(1 + n) of all events before the test, by hand for the item that has most of them.
    at = shop.events["at"].dt.epoch("ms").to_numpy() / 1000
    names, counts = np.unique(shop.events["item_id"].to_numpy()[at < split["test"]], return_counts=True)
    most = again.vocabulary.item_id(names[counts.argmax()])
    shares = [run.content["numbers"][most, -1] for run in (first, again)]
    earlier = (shop.events["item_id"].to_numpy()[at < split["validation"]] == names[counts.argmax()]).sum()
    assert shares[1] / shares[0] == pytest.approx(np.log1p(counts.max()) / np.log1p(earlier), rel=1e-3)


def test_it_learns_from_all_that_was_before_the_test_and_from_nothing_else(
    runs: Path, shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taught = []

    class Noted(Windows):
        def __init__(self, log: Log, decisions: Decisions | None, moves: Decisions, **options: Any) -> None:
            assert decisions is not None
            taught.extend([decisions.at, moves.at])
            super().__init__(log, decisions, moves, **options)

    monkeypatch.setattr("models.lessons.Windows", Noted)
    refit(shop, runs / "first", tmp_path)
    split = Split(**read_run(runs / "first").facts["split"])
    for column, times in (("exposures", taught[0]), ("events", taught[1])):
        at = np.sort(getattr(shop, column)["at"].dt.epoch("ms").to_numpy() / 1000)
        assert times.max() == at[at < split.test].max() > split.validation
    assert len(taught) == 2


def test_what_it_answers_is_recorded_anew(artifact: Artifact) -> None:
    replay(artifact.golden(), artifact.contract, artifact.vocabulary, load_functions(artifact))


def test_the_time_that_it_has_learned_from_is_not_asked(artifact: Artifact, shop: Dataset) -> None:
    assert evaluate_artifact(artifact, shop, "test", 2000)["model"]["click"]["auc"] > 0.5
    with pytest.raises(ValueError, match="has learned from its validation time"):
        evaluate_artifact(artifact, shop, "validation", 2000)


def test_beside_the_model_before_it_is_asked_of_the_test_alone(
    before: Artifact, artifact: Artifact, shop: Dataset
) -> None:
    """A manifest of before there were refits says nothing of them, and is of the same split."""
    split = {name: before.manifest["split"][name] for name in ("validation", "test")}
    old = replace(before, manifest={**before.manifest, "split": split})
    assert Split.of(old) == Split.of(before)
    found = evaluate_artifact(old, shop, "test", 2000, against=[artifact])
    assert found["again"]["click"]["rows"] == found["model"]["click"]["rows"]
    assert found["again"]["click"]["auc"] != found["model"]["click"]["auc"]
    with pytest.raises(ValueError, match="has learned from its validation time"):
        evaluate_artifact(old, shop, "validation", 2000, against=[artifact])


def test_a_card_says_what_taught_a_model() -> None:
    split = Split(1_700_000_000.0, 1_700_100_000.0)
    assert trained_on(split) == (
        "events before 2023-11-14 22:13 UTC; chosen on those before 2023-11-16 02:00 UTC; what came later is the test"
    )
    assert trained_on(replace(split, refit=True)) == (
        "events before 2023-11-16 02:00 UTC, after a model of those before 2023-11-14 22:13 UTC was chosen and "
        "calibrated on the later of them; what came after is the test"
    )


def test_only_a_first_run_of_the_same_data_is_fitted_again(runs: Path, shop: Dataset, tmp_path: Path) -> None:
    with pytest.raises(RunError, match="is a refit itself"):
        refit(shop, runs / "again", tmp_path)
    shutil.copytree(runs / "first", tmp_path / "old")
    facts = json.loads((tmp_path / "old" / "facts.json").read_text())
    del facts["courses"]
    (tmp_path / "old" / "facts.json").write_text(json.dumps(facts))
    with pytest.raises(RunError, match="did not note its course"):
        refit(shop, tmp_path / "old", tmp_path / "new")
    other = replace(shop, info={**shop.info, "name": "other"})
    with pytest.raises(ValueError, match="another data set than this other"):
        refit(other, runs / "first", tmp_path)


def test_a_course_cools_down_as_far_as_it_had_come() -> None:
    """Six steady passes, then three of a cool-down that would have taken four: it ends at three quarters."""
    course = Course(6.0, 3.0, 4.0)
    assert course.passes == 9
    assert [course.cooled(passes) for passes in (0.0, 6.0, 7.0, 9.0)] == [0.0, 0.0, 0.25, 0.75]
    assert course.cooled(10.0) == 0.98
