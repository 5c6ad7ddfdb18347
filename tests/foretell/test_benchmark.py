"""``foretell benchmark``: the published protocols as commands, which print one JSON object and nothing else."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

from foretell.cli import app
from foretell.commands.benchmark import _settings
from models.artifact import read_artifact
from models.datasets.dataset import Dataset
from models.datasets.storefront import simulate
from models.protocols import behaviours as protocol
from models.protocols import next_item
from models.protocols.behaviours import split_of, without_strays
from models.run import NETWORKS

run = CliRunner().invoke
#: As quick as training gets: one length of windows, one pass.
SHORT = "history_length = 8\npretrain_epochs = 1\nepochs = 1\nbatch = 16\n"


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return simulate(seed=3, users=40, items=60, events=3_000)


def printed(arguments: list[str]) -> Mapping[str, Any]:
    """What is on stdout, as strict JSON."""
    done = run(app, ["benchmark", *arguments, "--json"])
    assert done.exit_code == 0, done.output

    def no_constant(name: str) -> None:
        raise AssertionError(f"{name} is no JSON")

    found: dict[str, Any] = json.loads(done.stdout, parse_constant=no_constant)
    return found


def of_days(shop: Dataset, days: float) -> Dataset:
    """The events of the shop, moved into so many days, without exposures."""
    events = shop.events.sort("at")
    begin = datetime(2026, 1, 1, tzinfo=UTC)
    moments = [begin + timedelta(days=days * place / (len(events) - 1)) for place in range(len(events))]
    return replace(shop, exposures=None, events=events.with_columns(at=pl.Series(moments).cast(events["at"].dtype)))


def test_behaviours_are_measured_beside_yardsticks(
    shop: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a yardstick in the Transformer's place, which takes a minute to be traced, twice, and one beside it."""
    assert protocol.OURS in NETWORKS
    monkeypatch.setattr(protocol, "NETWORKS", ["logistic", "svm"])
    monkeypatch.setattr(protocol, "OURS", "logistic")
    monkeypatch.setattr(protocol, "SECOND", "svm")
    shares, choices = np.array([[0.5, 0.5], [0.5, 0.5], [0.0, 0.0]]), {"click": {"stacked": True}}
    monkeypatch.setattr("models.train.weigh", lambda *_: (shares, choices))
    monkeypatch.setattr(protocol, "EXPLAINED", 20)
    shop.write(tmp_path / "shop")
    (tmp_path / "short.toml").write_text(SHORT)
    options = ["--config", str(tmp_path / "short.toml"), "--seed", "2", "--folder", str(tmp_path)]
    found = printed(["behaviours", str(tmp_path / "shop"), *options])
    names = {"popularity", "user mean", "item mean", "svm", "trees", "oracle"}
    assert set(found["yardsticks"]) == names
    for part in ("valid", "test"):
        rows = {who: figures[part].get("click", {}).get("rows") for who, figures in found["yardsticks"].items()}
        assert rows == {who: None if "mean" in who else found[part]["click"]["rows"] for who in names}
        assert found[part]["click"].keys() >= {"auc", "logloss", "ece", "ndcg@10", "page ndcg@10", "auc_ratio"}
        assert found[part].keys() >= {"click", "purchase", "amount", "retrieval"}
        assert set(found["differences"][part]) == names
        assert "20+" in found["breakdown"][part]["history"]
    assert "ratio" in found["explanations"]
    assert found["train_seconds"] < found["seconds"]
    assert found["parameters"] > 0
    assert found["horizon_days"] == 0
    assert found["synthetic"]
    # The validation is asked of the first model, as it was trained; the test of the refit.
    first = read_artifact(tmp_path / "models" / "logistic" / "1").metrics()["validation"]["model"]
    assert found["valid"]["click"]["auc"] == pytest.approx(first["click"]["auc"], abs=1e-6)
    assert found["refit"]
    assert found["stack"] == choices
    assert found["parameters"] == 2 * read_artifact(tmp_path / "models" / "svm" / "2").manifest["parameters"] - 1


def test_sequences_and_clicks_are_measured(tmp_path: Path) -> None:
    lines = [f"u{user} " + " ".join(f"i{(user + step) % 7}" for step in range(5)) for user in range(30)]
    (tmp_path / "sequences.txt").write_text("\n".join(lines))
    rng = np.random.default_rng(0)
    parts: dict[str, Any] = {}
    for part, rows in (("train", 300), ("valid", 60), ("test", 60)):
        parts |= {f"{part}_X": rng.integers(0, 5, (rows, 3)), f"{part}_y": rng.integers(0, 2, rows)}
    np.savez(tmp_path / "clicks.npz", fields=np.array(["user", "item", "hour"]), **parts)
    (tmp_path / "short.toml").write_text("epochs = 1\nxla = false\n")
    common = ["--config", str(tmp_path / "short.toml"), "--minutes", "0.2", "--size", "tiny"]
    found = printed(["next-item", str(tmp_path / "sequences.txt"), *common])
    assert found["test"].keys() == found["valid"].keys() == {"HR@5", "NDCG@5", "HR@10", "NDCG@10"}
    found = printed(["click", str(tmp_path / "clicks.npz"), *common])
    assert found["test"]["click"].keys() == {"auc", "logloss", "ece"}
    assert found["yardsticks"].keys() >= {"logistic", "svm", "dnn", "trees", "popularity"}


def test_settings_that_do_nothing_in_a_protocol_are_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "some.toml").write_text("epochs = 3\naugment = 0.1\n")
    assert _settings(next_item.DEFAULTS, next_item.IDLE, tmp_path / "some.toml", minutes=None).epochs == 3
    assert capsys.readouterr().err == "Of no use here, and left alone: augment.\n"


def test_a_log_of_less_than_three_weeks_is_asked_for_the_next_event_and_a_longer_one_for_a_week(shop: Dataset) -> None:
    """The last day, or week, is the test; the one before it the validation."""
    day = 86_400.0
    end = datetime(2026, 1, 15, tzinfo=UTC).timestamp() + 0.001
    split, horizon = split_of(of_days(shop, 14))
    assert (split.validation, split.test, horizon) == pytest.approx((end - 2 * day, end - day, 0.0))
    assert split_of(of_days(shop, 20.9))[1] == 0
    assert split_of(of_days(shop, 21.1))[1] == 7
    end = datetime(2026, 2, 1, tzinfo=UTC).timestamp() + 0.001
    split, horizon = split_of(of_days(shop, 31))
    assert (split.validation, split.test, horizon) == pytest.approx((end - 14 * day, end - 7 * day, 7.0))


def test_events_years_away_do_not_decide_how_a_log_is_split(shop: Dataset) -> None:
    """One clock that was wrong in a log of nine days; without it the last day is the test."""
    log = of_days(shop, 9)
    at = log.events["at"]
    wrong = replace(log, events=log.events.with_columns(at=pl.Series([at[0] - timedelta(days=900), *at[1:]])))
    found, strays = without_strays(wrong)
    assert strays == 1
    assert len(found.events) == len(log.events) - 1
    assert split_of(found)[1] == 0
    assert without_strays(log)[1] == without_strays(shop)[1] == 0


def test_too_short_a_log_is_refused_in_one_sentence(shop: Dataset) -> None:
    with pytest.raises(ValueError, match=r"span 2\.9 days; training, validation and test need 3"):
        split_of(of_days(shop, 2.9))


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["behaviours", "nowhere"], 1, "nowhere"),
        (["behaviours", "nowhere", "--size", "giant"], 2, "size"),
        (["next-item", "nowhere.txt"], 1, "nowhere.txt"),
        (["click", "nowhere.npz"], 1, "nowhere.npz"),
        (["behaviours", "storefront", "--folder", __file__], 2, "is a file"),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence(arguments: list[str], code: int, sentence: str) -> None:
    result = run(app, ["benchmark", *arguments])
    assert result.exit_code == code
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_a_log_that_needs_options_is_to_be_imported_first(tmp_path: Path) -> None:
    (tmp_path / "log.csv").write_text("user_id,item_id,when\nu,i,2026-01-01\n")
    result = run(app, ["benchmark", "behaviours", str(tmp_path / "log.csv")])
    assert result.exit_code == 2
    assert "Options are given to foretell import" in result.stderr.replace("\n", " ")
