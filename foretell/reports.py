"""Metrics as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from foretell.console import console

#: Column titles of the contenders of ``models.evaluate.evaluate``; rivals go by their own names.
WHO = {"model": "this model", "oracle": "true probabilities"}
#: Keys of a report that are no contender (models.evaluate.BESIDE, which this module must not import to stay light).
BESIDE = {"intervals", "differences", "breakdown"}
#: A difference is better where less of the metric is.
ERRORS = {"logloss", "ece", "mae", "rmse", "distance"}


def print_metrics(report: Mapping[str, Any], title: str) -> None:
    """One line a metric, one column a contender; the model's 95% interval, and who it beats, where they are known."""
    columns = {who: values for who, values in report.items() if values and who not in BESIDE}
    table = Table(title=title, title_justify="left")
    table.add_column("", no_wrap=True)
    for who in columns:
        table.add_column(WHO.get(who, who), justify="right")
        if who == "model" and "intervals" in report:
            table.add_column("95%", justify="right", style="dim")
    for subject, metrics in report["model"].items():
        for metric in metrics:
            cells = []
            for who, values in columns.items():
                mark = _mark(report.get("differences", {}).get(who, {}).get(subject, {}).get(metric), metric)
                cells.append(_cell(values.get(subject, {}).get(metric)) + mark)
                if who == "model" and "intervals" in report:
                    cells.append(_range(report["intervals"]["model"].get(subject, {}).get(metric)))
            table.add_row(f"{subject} {metric}", *cells)
    console.print(table)
    if report.get("differences"):
        console.print("+ this model is better, - it is worse (95%, paired bootstrap over users)", style="dim")


def print_folds(report: Mapping[str, Any], title: str) -> None:
    """One line a metric: mean and spread over the folds, then each fold, for every model."""
    table = Table(title=title, title_justify="left")
    for heading in ("", "model", "mean", "spread", *report["folds"]):
        table.add_column(heading, justify="left" if heading in {"", "model"} else "right")
    models = report["models"]
    for subject, metrics in next(iter(models.values()))["mean"].items():
        for metric in metrics:
            for who, found in models.items():
                if metric not in found["mean"].get(subject, {}):
                    continue
                each = [_cell(fold.get(subject, {}).get(metric)) for fold in found["each"]]
                mean, spread = found["mean"][subject][metric], found["spread"][subject][metric]
                table.add_row(f"{subject} {metric}", who, _cell(mean), _cell(spread), *each)
    console.print(table)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"


def _range(ends: list[float] | None) -> str:
    return f"{ends[0]:.4f} – {ends[1]:.4f}" if ends and not math.isnan(ends[0]) else ""


def _mark(difference: list[float] | None, metric: str) -> str:
    if not difference or math.isnan(difference[1]):
        return ""
    low, high = (-difference[2], -difference[1]) if metric in ERRORS else (difference[1], difference[2])
    return " +" if low > 0 else " -" if high < 0 else ""
