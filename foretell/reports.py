"""Metrics as a table for people."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rich.table import Table

from foretell.console import console

#: Column titles of the rows of ``models.evaluate.evaluate``.
WHO = {
    "model": "this model",
    "popularity": "popularity",
    "mean": "item's mean",
    "oracle": "true probabilities",
}


def print_metrics(report: Mapping[str, Mapping[str, Any]], title: str) -> None:
    """One line a metric, one column a contender."""
    columns = {who: values for who, values in report.items() if values}
    table = Table(title=title, title_justify="left")
    table.add_column("")
    for who in columns:
        table.add_column(WHO.get(who, who), justify="right")
    for subject, metrics in report["model"].items():
        for metric in metrics:
            cells = [_cell(values.get(subject, {}).get(metric)) for values in columns.values()]
            table.add_row(f"{subject} {metric}", *cells)
    console.print(table)


def _cell(value: float | None) -> str:
    if value is None or math.isnan(value):
        return ""
    return f"{value:,}" if isinstance(value, int) else f"{value:.4f}"
