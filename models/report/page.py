"""Pieces of the report's page as HTML; everything that comes from data is escaped here."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from pathlib import Path
from string import Template
from typing import Any

from models.measure import ERRORS, FACTS
from models.report.charts import Chart, title_of, words
from models.report.verdict import Headline

TEMPLATE = Path(__file__).with_name("page.html")


def page(**parts: str) -> str:
    """The whole page; ``title``, ``subtitle``, ``verdict`` and ``footer`` are text, the other parts HTML."""
    text = {name: escape(parts.pop(name)) for name in ("title", "subtitle", "verdict", "footer")}
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(**text, **parts)


def section(title: str, text: str, *bodies: str) -> str:
    """A heading, what the reader should know of what follows, and that."""
    said = f"<p>{escape(text)}</p>" if text else ""
    return f"<section><h2>{escape(title)}</h2>{said}{''.join(bodies)}</section>"


def gallery(charts: Iterable[Chart]) -> str:
    """Charts beside each other, as many as the width allows."""
    return f'<div class="charts">{"".join(chart.tag() for chart in charts)}</div>'


def tile(line: Headline) -> str:
    """One headline number, its interval and the best of the others."""
    low, high = line.interval
    sure = "" if math.isnan(low) else f"<span>95%: {low:.3f} – {high:.3f}</span>"
    word = {"better": "better than", "worse": "worse than", "level": "no different from", "": ""}[line.standing]
    rival = f'<span class="{line.standing}">{word} {escape(line.rival)} ({line.rival_value:.3f})</span>' if word else ""
    name = f"<span>{escape(words(line.subject))}, {line.name}</span>"
    share = "" if math.isnan(line.share) else f"<span>{line.share:.0%} of what can be known</span>"
    return f'<div class="tile">{name}<b>{line.value:.3f}</b>{sure}{rival}{share}</div>'


def comparison(report: Mapping[str, Any], contenders: Sequence[str], subjects: Iterable[str], model: str) -> str:
    """A table: a line for each metric, a column for each contender; what is surely better or worse is marked."""
    subjects = [s for s in subjects if any(s in report.get(who, {}) for who in contenders)]
    columns = [who for who in contenders if any(s in report.get(who, {}) for s in subjects)]
    head = "".join(
        f"<th{' class=mine' if who == 'model' else ''}>{escape(title_of(who, model))}</th>" for who in columns
    )
    lines = []
    for subject in subjects:
        metrics = report["model"].get(subject, {})
        about = ", ".join(_fact(name, metrics[name]) for name in FACTS if name in metrics)
        lines.append(
            f'<tr class="subject"><td>{escape(words(subject))}<small>{about}</small></td>'
            f'<td colspan="{len(columns)}"></td></tr>'
        )
        for metric in (m for m in metrics if m not in FACTS):
            cells = "".join(_cell(report, who, subject, metric) for who in columns)
            lines.append(f"<tr><td>{escape(words(metric))}{_less(metric)}</td>{cells}</tr>")
    return f'<div class="scroll"><table><tr><th></th>{head}</tr>{"".join(lines)}</table></div>'


def table(head: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A plain table of text and numbers."""
    top = "".join(f"<th>{escape(word)}</th>" for word in head)
    body = "".join("<tr>" + "".join(f"<td>{escape(number(cell))}</td>" for cell in row) + "</tr>" for row in rows)
    return f'<div class="scroll"><table><tr>{top}</tr>{body}</table></div>'


def facts(pairs: Mapping[str, Any]) -> str:
    """Names and what they are."""
    return "<dl>" + "".join(f"<dt>{escape(k)}</dt><dd>{escape(number(v))}</dd>" for k, v in pairs.items()) + "</dl>"


def number(value: Any) -> str:
    """A number or text for people; empty for what is not known."""
    if isinstance(value, bool):
        return "yes" if value else "no"
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return ""
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def _fact(name: str, value: float) -> str:
    return f"{value:.2%} yes" if name == "rate" else f"{value:,} {name}"


def _less(metric: str) -> str:
    return " <small>(less is better)</small>" if metric in ERRORS else ""


def _cell(report: Mapping[str, Any], who: str, subject: str, metric: str) -> str:
    value = report.get(who, {}).get(subject, {}).get(metric)
    if value is None or math.isnan(value):
        return "<td></td>"
    low, high = report["intervals"].get(who, {}).get(subject, {}).get(metric, (float("nan"),) * 2)
    sure = "" if math.isnan(low) else f"<small>{low:.4f} – {high:.4f}</small>"
    return f"<td>{value:.4f}{_sign(report, who, subject, metric)}{sure}</td>"


def _sign(report: Mapping[str, Any], who: str, subject: str, metric: str) -> str:
    difference = report["differences"].get(who, {}).get(subject, {}).get(metric)
    if not difference or math.isnan(difference[1]):
        return ""
    low, high = sorted((-1 if metric in ERRORS else 1) * end for end in difference[1:])
    if low > 0:
        return ' <span class="better" title="the model is better, at 95% confidence">▼</span>'
    return ' <span class="worse" title="the model is worse, at 95% confidence">▲</span>' if high < 0 else ""
