"""The charts of a report, each from the numbers that it shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.ticker import MaxNLocator, PercentFormatter
from sklearn.metrics import precision_recall_curve, roc_curve

from models.metrics import BINS, Floats, quantile_bins
from models.report.charts import FAINT, MODEL, Canvas, Chart, words

#: Points along an axis that can be told apart.
POINTS = 400

Scores = Mapping[str, Floats]  # by contender's title


def forest(subject: str, metric: str, rows: Sequence[tuple[str, float, Sequence[float], str]]) -> Chart:
    """Contenders under each other, each with its 95% interval: (title, value, interval, colour)."""
    canvas = Canvas(f"{words(subject)}: {words(metric)}", height=0.95 + 0.34 * len(rows))
    for place, (_, value, (low, high), colour) in enumerate(rows):
        if not np.isnan(low):
            canvas.axes.plot([low, high], [place, place], color=colour, linewidth=3, alpha=0.45, solid_capstyle="round")
        canvas.axes.plot(value, place, "o", color=colour, markersize=7)
        canvas.axes.annotate(f"{value:.3f}", (value, place), (0, 6), textcoords="offset points", ha="center", size=8)
    canvas.axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    canvas.axes.set_ylim(len(rows) - 0.5, -0.75)
    canvas.axes.margins(x=0.15)
    canvas.axes.grid(axis="y", visible=False)
    told = "; ".join(f"{title} {value:.3f} ({low:.3f} to {high:.3f})" for title, value, (low, high), _ in rows)
    return canvas.finish(
        _file("compare", subject, metric), f"{words(metric)} of {words(subject)} with 95% intervals: {told}."
    )


def roc(target: str, labels: Floats, scores: Scores, palette: Mapping[str, str]) -> Chart:
    """Receiver operating characteristic: how many of the yes are found at the price of how many no."""
    canvas = Canvas(f"{target}: ROC", "share of no that is called yes", "share of yes that is found")
    canvas.axes.plot([0, 1], [0, 1], color=FAINT)
    for title, column in scores.items():
        false, true, _ = roc_curve(labels, column)
        canvas.axes.plot(*_thin(false, true), color=palette[title], label=title)
    alt = f"ROC curves of {target} for {', '.join(scores)}; further up and left is better."
    return canvas.finish(_file("roc", target), alt, legend=True)


def precision_recall(target: str, labels: Floats, scores: Scores, palette: Mapping[str, str]) -> Chart:
    """Precision over recall; chance is the rate of yes."""
    canvas = Canvas(
        f"{target}: precision and recall", "share of yes that is found", "share of hits among what is called"
    )
    canvas.axes.axhline(float(labels.mean()), color=FAINT)
    for title, column in scores.items():
        precision, recall, _ = precision_recall_curve(labels, column)
        canvas.axes.plot(*_thin(recall[::-1][1:], precision[::-1][1:]), color=palette[title], label=title)
    canvas.axes.set_ylim(0, None)
    alt = f"Precision over recall of {target} for {', '.join(scores)}; chance is {labels.mean():.4f}."
    return canvas.finish(_file("precision-recall", target), alt, legend=True)


def gain(target: str, labels: Floats, scores: Scores, palette: Mapping[str, str]) -> Chart:
    """Cumulative gain: the share of all yes among the best-scored share of rows."""
    canvas = Canvas(f"{target}: gain", "best-scored share of all rows", "share of all yes among them")
    canvas.axes.plot([0, 1], [0, 1], color=FAINT)
    told = []
    for title, column in scores.items():
        found = np.cumsum(labels[np.argsort(-column, kind="stable")]) / labels.sum()
        share = np.arange(1, len(found) + 1) / len(found)
        canvas.axes.plot(*_thin(share, found), color=palette[title], label=title)
        told.append(f"{title} {np.interp(0.1, share, found):.0%}")
    for axis in (canvas.axes.xaxis, canvas.axes.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    alt = f"Gain of {target}: the best-scored tenth of rows holds this share of all yes: {', '.join(told)}."
    return canvas.finish(_file("gain", target), alt, legend=True)


def reliability(target: str, labels: Floats, probabilities: Floats) -> Chart:
    """Observed rate over predicted probability in bins of equally many rows, with 95% intervals, on log scales.

    The bar of a bin is Wilson's interval of its rate (1927); the dots' number of rows is the same in all bins.
    """
    bins = quantile_bins(probabilities, BINS)
    rows = np.bincount(bins)
    predicted = np.bincount(bins, probabilities) / rows
    yes = np.bincount(bins, labels)
    low, high = wilson(yes, rows)
    canvas = Canvas(f"{target}: is 10% really 10%?", "predicted probability", "observed rate")
    seen = yes > 0
    ends = [max(min(predicted[seen].min(initial=1.0), (yes / rows)[seen].min(initial=1.0)) * 0.6, 1e-5), 1.0]
    canvas.axes.plot(ends, ends, color=FAINT)
    canvas.axes.vlines(predicted, np.maximum(low, ends[0]), high, color=MODEL, alpha=0.45, linewidth=3)
    canvas.axes.plot(predicted[seen], (yes / rows)[seen], "o", color=MODEL, markersize=5)
    canvas.axes.set(xscale="log", yscale="log", xlim=ends, ylim=ends)
    canvas.axes.text(
        0.03,
        0.95,
        f"{len(labels):,} rows, {int(yes.sum()):,} yes\n{rows.min():,} rows a dot",
        transform=canvas.axes.transAxes,
        va="top",
        size=8.5,
    )
    worst = int(np.argmax(np.abs(yes / rows - predicted)))
    alt = (
        f"Reliability of {target} in {len(rows)} bins of about {rows.min():,} rows. The bin furthest off was predicted "
        f"{predicted[worst]:.3f} and observed {yes[worst] / rows[worst]:.3f}."
    )
    return canvas.finish(_file("reliability", target), alt)


def wilson(yes: Floats, rows: Floats) -> tuple[Floats, Floats]:
    """95% interval of a rate, for counts [n] of yes among rows (Wilson 1927)."""
    z = 1.96
    rate, spread = yes / rows, z**2 / rows
    middle = (rate + spread / 2) / (1 + spread)
    half = z / (1 + spread) * np.sqrt(rate * (1 - rate) / rows + spread / rows / 4)
    return middle - half, middle + half


def by_group(
    x: str,
    metric: str,
    parts: Mapping[str, Mapping[str, Any]],
    drawn: tuple[str, Mapping[str, str], Mapping[str, str]],
) -> Chart:
    """A metric over groups, with 95% intervals; groups that the model has nothing of are left out.

    Args:
        parts: the report of each group.
        drawn: the subject, contenders' keys and titles, and titles' colours.
    """
    subject, who, palette = drawn
    names = [name for name, part in parts.items() if _metric(part, "model", subject, metric) is not None]
    canvas = Canvas(words(subject), x, words(metric))
    told = []
    for number, (key, label) in enumerate(who.items()):
        values = [_metric(parts[name], key, subject, metric) for name in names]
        shift = (number - (len(who) - 1) / 2) * 0.09
        points = [(i + shift, value) for i, value in enumerate(values) if value is not None]
        if not points:
            continue
        canvas.axes.plot(*zip(*points, strict=True), "o-", color=palette[label], label=label, markersize=5)
        for place, name in enumerate(names):
            ends = parts[name].get("intervals", {}).get(key, {}).get(subject, {}).get(metric)
            if ends and not np.isnan(ends[0]):
                canvas.axes.vlines(place + shift, *ends, color=palette[label], alpha=0.4, linewidth=2.5)
        pairs = zip(names, values, strict=True)
        told.append(f"{label}: " + ", ".join(f"{name} {value:.3f}" for name, value in pairs if value is not None))
    canvas.axes.set_xticks(range(len(names)), names)
    return canvas.finish(
        _file("by", x, subject, metric), f"{words(metric)} of {words(subject)} by {x}. {'; '.join(told)}.", legend=True
    )


def learning(phase: str, history: Mapping[str, Sequence[float]]) -> Chart:
    """Loss over passes, in training and on validation."""
    canvas = Canvas(f"{words(phase)}: loss", "pass over the data", "loss")
    losses = {"loss": ("training", "#8794a3"), "val_loss": ("validation", MODEL)}
    for key, (label, colour) in losses.items():
        values = history.get(key, [])
        canvas.axes.plot(range(1, len(values) + 1), values, "o-", color=colour, label=label, markersize=3)
    best = int(np.argmin(history["val_loss"])) if history.get("val_loss") else 0
    canvas.axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
    alt = (
        f"Loss of {words(phase)} over {len(history.get('loss', []))} passes; validation was best after pass {best + 1}."
    )
    return canvas.finish(_file("learning", phase), alt, legend=True)


def _metric(part: Mapping[str, Any], who: str, subject: str, metric: str) -> float | None:
    value = part.get(who, {}).get(subject, {}).get(metric)
    return None if value is None or np.isnan(value) else float(value)


def _thin(x: Floats, y: Floats) -> tuple[Floats, Floats]:
    """One point of a curve in the unit square for each pixel that it goes through."""
    pixels = np.round(np.stack([x, y]) * POINTS)
    rows = np.flatnonzero(np.append(True, (np.diff(pixels) != 0).any(axis=0)))
    return x[rows], y[rows]


def _file(*parts: str) -> str:
    words = "-".join(parts).lower().replace("@", "-at-")
    return "".join(c if c.isalnum() or c in "-_" else "-" for c in words)
