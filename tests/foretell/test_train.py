"""Train, evaluate, export and list, as commands, on small data of both kinds: with exposures and without."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from foretell.cli import app
from models.artifact import open_artifact
from models.datasets.dataset import Dataset
from models.datasets.storefront import simulate
from models.evaluate import load_functions
from models.golden import GoldenError, replay
from models.run import NETWORKS, TrainConfig, read_config

run = CliRunner().invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two data sets on disk: a synthetic shop, and the same shop as if nobody had recorded what was shown."""
    folder = tmp_path_factory.mktemp("data")
    shop = simulate(seed=3, users=80, items=120, events=12_000)
    shop.write(folder / "shop")
    Dataset.build("log", shop.domain, events=shop.events, items=shop.items, users=shop.users, synthetic=True).write(
        folder / "log"
    )
    assert shop.exposures is not None
    nameless = shop.exposures.with_columns(request_id=pl.lit("?"))
    replace(shop, exposures=nameless).write(folder / "unjoined")
    return folder


@pytest.mark.parametrize("data", ["shop", "log"])
@pytest.mark.parametrize("model", ["behaviour", "logistic"])
def test_a_trained_model_is_published_listed_measured_and_published_again(
    folder: Path, tmp_path: Path, data: str, model: str
) -> None:
    saved, runs, short = str(tmp_path / "saved"), str(tmp_path / "runs"), tmp_path / "short.toml"
    # Each length of window is traced by itself, for seconds; here there is one.
    short.write_text("history_length = 8\npretrain_epochs = 1\n")
    common = ["--model", model, "--config", str(short), "--epochs", "2", "--out", saved, "--runs", runs]
    trained = run(app, ["train", str(folder / data), *common])
    assert trained.exit_code == 0, trained.output
    assert "Published" in trained.output

    name = "storefront" if data == "shop" else "log"
    artifact = open_artifact(Path(saved), name)
    functions = load_functions(artifact)
    golden = artifact.golden()
    assert golden[0]["events"] == []
    replay(golden, artifact.contract, artifact.vocabulary, functions)
    golden[1]["expected"]["purchase"][0] += 0.01
    with pytest.raises(GoldenError, match="Golden example 1 gives another purchase"):
        replay(golden, artifact.contract, artifact.vocabulary, functions)

    assert artifact.manifest["training"]["weight_decay"] == (0.3 if model == "behaviour" else 0.0)
    assert artifact.contract.targets == ("click", "purchase")
    assert artifact.contract.probability_of == ("exposure" if data == "shop" else "sampled candidates")
    assert artifact.contract.negatives == (0 if data == "shop" else 4)
    report = artifact.metrics()["validation"]
    assert set(report["model"]) >= {"click", "purchase", "amount", "retrieval"}
    assert ("oracle" in report) == (data == "shop")
    assert ("matched_auc" in report["model"]["click"]) == (data == "log")

    listed = run(app, ["models", "--root", saved])
    assert listed.exit_code == 0
    assert f"{name}" in listed.output

    measured = run(app, ["evaluate", name, str(folder / data), "--root", saved, "--json", "--limit", "2000"])
    assert measured.exit_code == 0, measured.output
    assert 0.3 < json.loads(measured.output[measured.output.index("{") :])["model"]["click"]["auc"] <= 1

    (kept,) = (tmp_path / "runs").iterdir()
    again = run(app, ["export", str(kept), "--name", name, "--out", saved])
    assert again.exit_code == 0, again.output
    second = open_artifact(Path(saved), name)
    assert second.version == "2"
    replay(second.golden(), second.contract, second.vocabulary, load_functions(second))


def test_a_stack_is_refitted_published_alone_and_measured_on_the_test(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that says that it helps, whatever the data would say."""
    shares = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]])
    choices = {"click": {"stacked": True}, "purchase": {"stacked": True}}
    monkeypatch.setattr("models.train.weigh", lambda *_: (shares, choices))
    saved, runs, short = str(tmp_path / "saved"), tmp_path / "runs", tmp_path / "short.toml"
    short.write_text("history_length = 8\npretrain_epochs = 1\nepochs = 1\n")
    options = ["--config", str(short), "--stack", "--refit", "--out", saved, "--runs", str(runs)]
    trained = run(app, ["train", str(folder / "shop"), *options])
    assert trained.exit_code == 0, trained.output
    assert "of the model before" in trained.output
    first = min(runs.iterdir(), key=lambda path: len(path.name)).name
    parts = ("", "-second", "-stacked", "-stacked-refit")
    assert {path.name for path in runs.iterdir()} == {first + part for part in parts}
    artifact = open_artifact(Path(saved), "storefront")
    assert artifact.version == "1"
    assert artifact.manifest["split"]["refit"]
    assert artifact.manifest["training"]["stack"]
    assert artifact.manifest["courses"].keys() == {"pretrain", "train"}  # either lesson was taught again
    replay(artifact.golden(), artifact.contract, artifact.vocabulary, load_functions(artifact))

    common = ["evaluate", "storefront", str(folder / "shop"), "--root", saved, "--limit", "2000"]
    measured = run(app, common)
    assert measured.exit_code == 0, measured.output
    assert "storefront 1 on storefront, test" in measured.output
    refused = run(app, [*common, "--part", "validation"])
    assert refused.exit_code == 1
    assert "has learned from its validation time" in " ".join(refused.output.split())


def test_a_model_that_is_not_helped_is_published_alone(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a logistic regression in the Transformer's place: it would only be helped by another kind of opinion."""
    monkeypatch.setitem(NETWORKS, "behaviour", NETWORKS["logistic"])
    monkeypatch.setattr("models.train.stack", lambda *_: None)
    options = ["--epochs", "1", "--stack", "--out", str(tmp_path / "saved"), "--runs", str(tmp_path / "runs")]
    trained = run(app, ["train", str(folder / "log"), *options])
    assert trained.exit_code == 0, trained.output
    assert "the model is published alone" in " ".join(trained.output.split())
    assert not open_artifact(tmp_path / "saved", "log").manifest["training"]["stack"]


def test_the_same_seed_trains_the_same_model(tmp_path: Path) -> None:
    outputs, short = [], tmp_path / "short.toml"
    short.write_text("pretrain_epochs = 1\nhistory_length = 8\n")
    simulate(seed=3, users=40, items=60, events=3_000).write(tmp_path / "shop")
    for attempt in ("a", "b"):
        common = [
            "--config",
            str(short),
            "--epochs",
            "1",
            "--out",
            str(tmp_path / attempt),
            "--runs",
            str(tmp_path / "runs"),
        ]
        assert run(app, ["train", str(tmp_path / "shop"), "--seed", "4", *common]).exit_code == 0
        outputs.append([e["expected"]["click"] for e in open_artifact(tmp_path / attempt, "storefront").golden()])
    np.testing.assert_allclose(outputs[0], outputs[1], atol=1e-4)  # threads may add in another order


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["train", "nowhere"], 1, "nowhere"),
        (["train", "DATA", "--model", "magic"], 2, "There is no model 'magic'"),
        (["train", "DATA", "--size", "giant"], 2, "size"),
        (["train", "DATA", "--epochs", "0"], 2, "The training setting epochs cannot be 0"),
        (["train", "DATA", "--minutes", "-3"], 2, "The training setting minutes cannot be -3.0"),
        (["train", "DATA", "--minutes", "nan"], 2, "The training setting minutes cannot be nan"),
        (["train", "DATA", "--name", "my shop"], 2, "'my shop' cannot name a model"),
        (["train", "DATA", "--model", "svm", "--stack"], 2, "Only the behaviour model is stacked, not svm"),
        (["train", "DATA", "--config", "none.toml"], 2, "cannot be read as TOML"),
        (["train", "UNJOINED"], 1, "No exposure of storefront is followed by a click"),
        (["evaluate", "nobody", "DATA"], 1, "No model named 'nobody'"),
        (["evaluate", "nobody", "DATA", "--part", "future"], 2, "choose validation or test"),
        (["export", "nowhere", "--name", "x"], 1, "is no complete training run"),
        (["models", "--root", "nowhere"], 1, "No models in nowhere"),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(tmp_path)
    folders = {"DATA": str(folder / "shop"), "UNJOINED": str(folder / "unjoined")}
    result = run(app, [folders.get(word, word) for word in arguments])
    assert result.exit_code == code
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_configuration_file_is_read_and_options_win(tmp_path: Path) -> None:
    path = tmp_path / "config.toml"
    path.write_text('size = "small"\nminutes = 3\nseed = 9\n')
    found = read_config(path, {}, TrainConfig(batch=7, seed=5))
    assert (found.batch, found.seed, found.size) == (7, 9, "small")  # a protocol's own below the file's
    config = read_config(path, {"seed": 2})
    assert (config.size, config.minutes, config.seed) == ("small", 3, 2)
    path.write_text("colour = 1\n")
    with pytest.raises(ValueError, match="There is no training setting 'colour'"):
        read_config(path, {})
    with pytest.raises(ValueError, match="must be even"):
        read_config(None, {"history_length": 7})
