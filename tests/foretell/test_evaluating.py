"""``foretell evaluate`` and ``foretell report``: rivals, folds, and what they refuse."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from foretell.cli import app
from foretell.reports import print_folds, print_metrics
from models.datasets.storefront import simulate
from models.log import Split
from tests.models.untrained import publish_untrained

run = CliRunner().invoke


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small shop below data/, and two models of it."""
    folder = tmp_path_factory.mktemp("work")
    shop = simulate(seed=3, users=80, items=120, events=12_000)
    shop.write(folder / "data" / "storefront")
    for name in ("one", "two"):
        publish_untrained(shop, folder / "saved", name)
    return folder


def test_rivals_are_measured_on_the_same_rows_and_differences_are_told(folder: Path) -> None:
    options = ["--root", str(folder / "saved"), "--limit", "2000", "--against", "two", "--json"]
    measured = run(app, ["evaluate", "one", str(folder / "data" / "storefront"), *options])
    assert measured.exit_code == 0, measured.output
    report = json.loads(measured.output[measured.output.index("{") :])
    assert report["two"]["click"]["rows"] == report["model"]["click"]["rows"]
    assert set(report["differences"]) >= {"two", "popularity"}


def test_the_report_finds_its_data_by_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(folder)
    written = run(app, ["report", "one", "--root", "saved", "--against", "two", "--limit", "2000"])
    assert written.exit_code == 0, written.output
    assert (folder / "reports" / "one-1" / "report.html").exists()
    assert "two" in (folder / "reports" / "one-1" / "report.html").read_text(encoding="utf-8")


def test_folds_train_every_model_anew_on_what_lies_before(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, str, float]] = []

    def train(dataset: Any, at: Path, config: Any, report: Any, split: Split) -> dict[str, Any]:
        asked.append((at.name, config.model, split.validation))
        model = {"click": {"auc": 0.5 + len(asked) / 10}}
        return {"validation": {"model": model}, "calibration": {"targets": {}}}

    monkeypatch.setattr("models.train.train", train)
    options = ["--root", str(folder / "saved"), "--against", "two", "--folds", "2", "--json"]
    measured = run(app, ["evaluate", "one", str(folder / "data" / "storefront"), *options])
    assert measured.exit_code == 0, measured.output
    assert [name for name, _, _ in asked] == ["one-1-fold1", "one-1-fold2", "two-1-fold1", "two-1-fold2"]
    assert {model for _, model, _ in asked} == {"logistic"}
    assert asked[0][2] == asked[2][2] < asked[1][2] == asked[3][2]  # the same periods for both
    report = json.loads(measured.output[measured.output.index("{") :])
    assert report["models"]["one"]["mean"]["click"]["auc"] == pytest.approx(0.65)
    assert report["models"]["two"]["mean"]["click"]["auc"] == pytest.approx(0.85)


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["evaluate", "one", "DATA", "--folds", "1"], 2, "two folds are the least"),
        (["evaluate", "one", "DATA", "--against", "nobody"], 1, "No model named 'nobody'"),
        (["report", "nobody"], 1, "No model named 'nobody'"),
        (["report", "one", "--data", "nowhere"], 1, "nowhere is no data set"),
        (["report", "one", "--part", "future"], 2, "choose validation or test"),
    ],
)
def test_what_cannot_work_is_told_in_one_sentence(
    folder: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], code: int, sentence: str
) -> None:
    monkeypatch.chdir(folder)
    words = [str(folder / "data" / "storefront") if word == "DATA" else word for word in arguments]
    result = run(app, [*words, "--root", "saved"])
    assert result.exit_code == code
    assert sentence in result.stderr.replace("\n", " ")
    assert "Traceback" not in result.output


def test_tables_mark_what_is_surely_better_or_worse(capsys: pytest.CaptureFixture[str]) -> None:
    report = {
        "model": {"click": {"auc": 0.8, "logloss": 0.3, "rows": 12}},
        "dnn": {"click": {"auc": 0.7, "logloss": 0.2, "rows": 12}},
        "intervals": {"model": {"click": {"auc": [0.75, 0.85], "logloss": [0.2, 0.4]}}},
        "differences": {"dnn": {"click": {"auc": [0.1, 0.05, 0.15], "logloss": [0.1, 0.05, 0.15]}}},
    }
    print_metrics(report, "title")
    lines = capsys.readouterr().out.splitlines()
    assert any("click auc" in line and "0.7500 – 0.8500" in line and "0.7000 +" in line for line in lines)
    assert any("click logloss" in line and "0.2000 -" in line for line in lines)
    print_folds(
        {
            "folds": ["2025-01-01"],
            "models": {
                "m": {
                    "mean": {"click": {"auc": 0.8}},
                    "spread": {"click": {"auc": 0.1}},
                    "each": [{"click": {"auc": 0.8}}],
                }
            },
        },
        "folds",
    )
    assert "0.1000" in capsys.readouterr().out
