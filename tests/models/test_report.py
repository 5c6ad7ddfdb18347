"""The report: one page that stands alone, whose sentence follows from the numbers."""

from __future__ import annotations

import json
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.evaluate import gather_artifact
from models.log import Log
from models.report.charts import Chart
from models.report.cost import cost
from models.report.page import facts
from models.report.page import table as table_of
from models.report.plots import wilson
from models.report.verdict import headlines, verdict
from models.report.write import write
from tests.models.untrained import publish_untrained


@pytest.fixture(scope="module")
def artifact(shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    """An untrained model of the small shop."""
    return publish_untrained(shop, tmp_path_factory.mktemp("saved"), "small")


@pytest.fixture(scope="module")
def folder(shop: Dataset, artifact: Artifact, tmp_path_factory: pytest.TempPathFactory) -> Path:
    evidence = gather_artifact(artifact, shop, "validation", 2000)
    out = tmp_path_factory.mktemp("reports")
    moved = {name: {"value": value} for name, value in (("top", 0.5), ("random", 0.125), ("ratio", 4.0))}
    explanations = {**moved, "predictions": 1000, "targets": {"click": moved}}
    report = evidence.report(samples=20)
    return write(artifact, shop, evidence, out, "validation", report, explanations).parent


class Reader(HTMLParser):
    """Collects pictures, headings, and tags that were never closed."""

    def __init__(self) -> None:
        super().__init__()
        self.images: list[dict[str, Any]] = []
        self.open: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag: str, attrs: Any) -> None:
        given = dict(attrs)
        self.links += [given[key] for key in ("src", "href") if key in given]
        if tag == "img":
            self.images.append(given)
        elif tag != "meta":
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_needs_no_other_file_and_every_picture_says_what_it_shows(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    assert len(reader.images) >= 15
    assert all(len(image["alt"]) > 30 for image in reader.images)
    assert all(link.startswith("data:image/png;base64,") for link in reader.links)
    assert "<script" not in text
    assert "http" not in re.sub(r"base64,[^\"]*", "", text)
    pictures = {path.name for path in folder.glob("*.png")}
    assert len(pictures) == len(reader.images)
    assert {
        "roc-click.png",
        "reliability-purchase.png",
        "learning-train.png",
        "compare-retrieval-ndcg-at-10.png",
    } <= pictures
    assert folder.name == "small-1"


def test_the_page_says_that_data_are_synthetic_what_it_costs_and_what_it_is_not_for(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    for words in (
        "synthetic data</span>",
        "not countable",
        "<td>beta</td>",
        "<dt>Parameters</dt><dd>77</dd>",
        "Not for",
        "simulated by Foretell",
        "4.0 times as much",
        "<td>click</td><td>0.500</td><td>0.125</td><td>4.0</td>",
    ):
        assert words in text


def test_what_comes_from_data_cannot_become_markup() -> None:
    assert "<td>&lt;b&gt;</td>" in table_of(("x",), [("<b>",)])
    assert "<dd>a &amp; b</dd>" in facts({"x": "a & b"})
    assert 'alt="&quot;&lt;i>"' in Chart("x", '"<i>', b"").tag()


def test_arithmetic_is_counted_where_there_is_no_loop(artifact: Artifact) -> None:
    """The logistic regression scores the catalogue row by row, in a loop; its other two functions are counted."""
    found = cost(artifact)
    assert found["retrieve"]["flops"] is None
    assert found["score"]["flops"] > 1000
    assert all(part["milliseconds"] > 0 for part in found.values())


def test_the_metrics_beside_the_page_are_those_of_the_evaluation(folder: Path) -> None:
    report = json.loads((folder / "report.json").read_text(encoding="utf-8"))
    assert report["oracle"]["click"]["auc_ratio"] == 1
    assert set(report["breakdown"]) == {"history", "popularity"}


def table(model: float, rival: float, low: float, high: float) -> dict[str, Any]:
    """A report of one target, with the difference's interval."""
    return {
        "model": {"click": {"auc": model}},
        "dnn": {"click": {"auc": rival}},
        "intervals": {"model": {"click": {"auc": [model - 0.1, model + 0.1]}}},
        "differences": {"dnn": {"click": {"auc": [model - rival, low, high]}}},
    }


@pytest.mark.parametrize(
    ("low", "high", "sentence"),
    [
        (0.01, 0.03, "m is better than everything it is set against at click (at 95% confidence)."),
        (-0.01, 0.03, "m is no different from dnn at click (at 95% confidence)."),
        (-0.05, -0.01, "m is worse than dnn at click (at 95% confidence)."),
    ],
)
def test_the_verdict_follows_from_the_interval_of_the_difference(
    log: Log, low: float, high: float, sentence: str
) -> None:
    assert verdict(headlines(table(0.8, 0.78, low, high), log.contract), "m") == sentence


def test_less_error_is_better(log: Log) -> None:
    found = {
        "model": {"amount": {"mae": 1.0}},
        "item mean": {"amount": {"mae": 2.0}},
        "user mean": {"amount": {"mae": 1.5}},
        "intervals": {"model": {"amount": {"mae": [0.9, 1.1]}}},
        "differences": {
            "item mean": {"amount": {"mae": [-1.0, -1.2, -0.8]}},
            "user mean": {"amount": {"mae": [-0.5, -0.7, -0.3]}},
        },
    }
    (line,) = headlines(found, log.contract)
    assert (line.standing, line.rival, line.rival_value) == ("better", "user mean", 1.5)


def test_the_interval_of_a_rate_is_wilsons() -> None:
    """1 of 10: (0.1 + z²/20 ± z sqrt(0.009 + z²/400)) / (1 + z²/10) with z = 1.96."""
    low, high = wilson(np.array([1.0]), np.array([10.0]))
    assert low[0] == pytest.approx(0.0179, abs=1e-4)
    assert high[0] == pytest.approx(0.4042, abs=1e-4)
