"""Writes a report: one HTML page that needs no other file, and the pictures beside it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from models.artifact import Artifact
from models.datasets.dataset import Dataset
from models.evaluate import BESIDE, Evidence
from models.log import Split
from models.metrics import Floats
from models.report import page, plots
from models.report.card import card, meaning, summary
from models.report.charts import Chart, colours, title_of
from models.report.cost import CANDIDATES, bytes_of, cost
from models.report.verdict import headlines, verdict

#: Group charts: the key in ``breakdown``, and what the reader calls it.
KINDS = {"history": "events of the user so far", "popularity": "times the item was acted on in training"}
#: Columns of the table of calibration choices.
EXPLAINED = ("behaviour", "without the first-named event", "without a random event", "ratio")
CHOICES = ("calibrated", "history", "method", "rows", "error before", "error after, on other users")


@dataclass(frozen=True)
class Story:
    """All that a report tells of: the model, its data, everyone's answers and the metrics made of them."""

    artifact: Artifact
    dataset: Dataset
    evidence: Evidence
    report: Mapping[str, Any]
    part: str
    explanations: Mapping[str, Any] | None = None

    @property
    def name(self) -> str:
        """What the model is called in charts."""
        return self.artifact.name

    @property
    def contenders(self) -> list[str]:
        """Everyone with metrics, the model first."""
        return [who for who in self.report if who not in BESIDE]

    def title(self, who: str) -> str:
        """A contender's name for people."""
        return title_of(who, self.name)

    def palette(self) -> dict[str, str]:
        """The colour of each contender's title."""
        return {self.title(who): colour for who, colour in colours(self.contenders).items()}


def write(
    artifact: Artifact,
    dataset: Dataset,
    evidence: Evidence,
    out: Path,
    part: str,
    report: Mapping[str, Any] | None = None,
    explanations: Mapping[str, Any] | None = None,
) -> Path:
    """Write ``report.html``, ``report.json`` (the metrics) and pictures into ``out/<name>-<version>``; return the page.

    ``explanations`` is what :func:`models.explain.faithfulness` found, where that was measured.

    Beside the artifact and not in it, since its manifest lists what belongs to it.
    """
    story = Story(artifact, dataset, evidence, report or evidence.report(), part, explanations)
    lines = headlines(story.report, artifact.contract)
    opening = [_forest(story, line.subject, line.metric, line.name) for line in lines]
    parts = [compared(story), separated(story), trusted(story), grouped(story), learned(story)]
    charts = [*opening, *(chart for _, found in parts for chart in found)]
    sections = [html for html, _ in parts if html] + [spent(story), explained(story), described(story)]
    text = page.page(
        title=f"{artifact.name} {artifact.version}",
        subtitle=_subtitle(story),
        badge='<span class="synthetic">synthetic data</span>' if dataset.synthetic else "",
        verdict=verdict(lines, artifact.name),
        tiles="".join(page.tile(line) for line in lines),
        opening="".join(chart.tag() for chart in opening),
        sections="".join(sections),
        footer=f"Written by foretell report on {datetime.now(UTC):%Y-%m-%d}.",
    )
    folder = out / f"{artifact.name}-{artifact.version}"
    folder.mkdir(parents=True, exist_ok=True)
    for chart in charts:
        (folder / f"{chart.name}.png").write_bytes(chart.png)
    (folder / "report.json").write_bytes(orjson.dumps(story.report, option=orjson.OPT_INDENT_2))  # null for NaN
    (folder / "report.html").write_text(text, encoding="utf-8")
    return folder / "report.html"


def compared(story: Story) -> tuple[str, list[Chart]]:
    """Every metric beside every yardstick."""
    contract = story.artifact.contract
    words = (
        "Small print: 95% intervals (1,000 draws of users). ▼ beside a yardstick: the model is surely better; ▲: "
        "surely worse; nothing: these data cannot tell. The model and everyone else answered the same questions."
    )
    subjects = [*contract.targets, "retrieval", *contract.values]
    return page.section("All numbers", words, page.comparison(story.report, story.contenders, subjects, story.name)), []


def separated(story: Story) -> tuple[str, list[Chart]]:
    """ROC, precision and recall, and gain of each target."""
    charts = []
    for place, target in enumerate(story.artifact.contract.targets):
        labels, scores = _scores(story, place)
        if 0 < labels.sum() < len(labels):
            drawn = (plots.roc, plots.precision_recall, plots.gain)
            charts += [plot(target, labels, scores, story.palette()) for plot in drawn]
    words = (
        "Does a yes get a higher score than a no? Gain: how much of all yes you reach by serving the best-scored share."
    )
    if story.evidence.questions.matched:
        words += (
            " Each event is set against items that others acted on at the same time, so popularity alone is no help."
        )
    return page.section("Telling yes from no", words, page.gallery(charts)), charts


def trusted(story: Story) -> tuple[str, list[Chart]]:
    """Reliability of each target's probabilities, and the choices of calibration."""
    asked, answers = story.evidence.questions.decisions, story.evidence.answers["model"]
    charts = []
    for place, target in enumerate(story.artifact.contract.targets):
        known = asked.weights[:, place] > 0
        if answers.scores is not None and known.any():
            charts.append(plots.reliability(target, asked.labels[known, place], answers.scores[known, place]))
    words = f"Dots on the line are right on average. Here a probability is {meaning(story.artifact.contract)}."
    if story.part == "validation":
        words += " The calibration was fitted on these very decisions; read cross-fitted below, or the test."
    if Split.of(story.artifact).refit:
        words += " The table is of the model before it learned its validation time too, which chose its calibration."
    rows = list(_calibration(story.artifact))
    choices = page.table(CHOICES, rows) if rows else ""
    return page.section("Are the probabilities true?", words, page.gallery(charts), choices), charts


def grouped(story: Story) -> tuple[str, list[Chart]]:
    """Ranking and discrimination by history length and by item popularity; in simulations also against the truth."""
    charts = []
    targets, palette = story.artifact.contract.targets, story.palette()
    everyone = {who: story.title(who) for who in story.contenders if who != "oracle"}
    for kind, x in KINDS.items():
        parts = {k: v for k, v in story.report["breakdown"][kind].items() if k != "20+"}
        score = "matched_auc" if story.evidence.questions.matched else "auc"
        wanted = [("retrieval", "ndcg@10"), *((target, score) for target in targets)]
        if kind == "history" and story.evidence.questions.decisions.truth is not None:
            wanted += [(target, "auc_ratio") for target in targets]
        for subject, metric in wanted:
            who = {w: t for w, t in everyone.items() if metric in story.report[w].get(subject, {})}
            charts.append(plots.by_group(x, metric, parts, (subject, who, palette)))
    words = "Where it works: from new visitors to regulars, and from items nobody has touched to the favourites."
    return page.section("Cold and warm", words, page.gallery(charts)), charts


def learned(story: Story) -> tuple[str, list[Chart]]:
    """Learning curves of every phase of training, where the artifact has them."""
    history = story.artifact.metrics().get("learning") or {}
    phases = {"train": history} if "loss" in history else history
    charts = [plots.learning(phase, found) for phase, found in phases.items() if found.get("loss")]
    words = "Of the model before it learned its validation time too." if Split.of(story.artifact).refit else ""
    return (page.section("Learning", words, page.gallery(charts)) if charts else ""), charts


def spent(story: Story) -> str:
    """Parameters, arithmetic, time and bytes."""
    artifact = story.artifact
    costs = cost(artifact)
    rows = [(name, found["flops"], found["milliseconds"]) for name, found in costs.items()]
    flops = [found["flops"] for found in costs.values()]
    totals = {
        "Parameters": artifact.manifest.get("parameters"),
        "Artifact": f"{bytes_of(artifact) / 1e6:.1f} MB",
        "Training": f"{artifact.metrics().get('train_seconds', float('nan')):,.0f} s",
        "Arithmetic of a request": "not countable" if None in flops else f"{sum(filter(None, flops)) / 1e6:,.1f} MFLOP",
    }
    words = (
        f"One request: encode the history, search the whole catalogue, score {CANDIDATES} candidates; one at a time."
    )
    return page.section("Cost", words, page.facts(totals), page.table(("function", "FLOP", "ms here"), rows))


def explained(story: Story) -> str:
    """Whether explanations are faithful: what a prediction loses with the event that moved it most, and with any."""
    found = story.explanations
    if not found:
        return ""
    words = (
        f"Over {found['predictions']:,} predictions, the event that an explanation (Shapley values) names first was "
        "taken out of the history and the prediction made anew, and so with an event drawn at random. "
        f"Mean change of the log-odds: the former moves a prediction {found['ratio']['value']:.1f} times as much."
    )
    rows = [
        (name, *(f"{part[key]['value']:.3f}" for key in ("top", "random")), f"{part['ratio']['value']:.1f}")
        for name, part in (("all", found), *found["targets"].items())
    ]
    return page.section("Are explanations faithful?", words, page.table(EXPLAINED, rows))


def described(story: Story) -> str:
    """The data and the model card."""
    data = page.section("Data", "", page.facts(summary(story.dataset)))
    return data + page.section("Model card", "", page.facts(card(story.artifact, story.dataset)))


def _subtitle(story: Story) -> str:
    asked = story.evidence.questions
    return (
        f"{story.dataset.name}, {story.part} time: {len(asked.decisions):,} decisions and "
        f"{len(np.unique(asked.lists)):,} ranked lists of {len(np.unique(asked.users())):,} users"
    )


def _forest(story: Story, subject: str, metric: str, name: str) -> Chart:
    rows = []
    for who in story.contenders:
        value = story.report[who].get(subject, {}).get(metric)
        if value is not None and not np.isnan(value):
            interval = story.report["intervals"][who][subject][metric]
            rows.append((story.title(who), value, interval, story.palette()[story.title(who)]))
    return plots.forest(subject, name, rows)


def _scores(story: Story, place: int) -> tuple[Floats, dict[str, Floats]]:
    """Labels and everyone's scores for a target, against what others acted on at the time where that was asked."""
    asked = story.evidence.questions
    rows = asked.matched or asked.decisions
    known = rows.weights[:, place] > 0
    found = {}
    for who, answers in story.evidence.answers.items():
        column = answers.matched if asked.matched else answers.scores
        if column is not None:
            found[story.title(who)] = column[known, place]
    return rows.labels[known, place], found


def _calibration(artifact: Artifact) -> Iterator[tuple[Any, ...]]:
    """What calibration chose for each target and history length, where the manifest says; see calibrate.py."""
    for target, segments in artifact.manifest.get("calibration", {}).get("targets", {}).items():
        for name, choice in segments.items():
            errors = (choice.get(when, {}).get("ece") for when in ("before", "cross-fitted"))
            yield target, name, choice["method"], choice["rows"], *errors
