"""How all charts of a report look: one size that is readable at phone width, one colour for each contender."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

SIZE = (4.6, 3.4)
DPI = 160
INK, FAINT = "#1c2733", "#d8dee6"
#: The model stands out; the others are told apart also by those who see few colours (Okabe & Ito 2008).
MODEL, ORACLE = "#0b5fb0", "#1c2733"
OTHERS = ("#e69f00", "#009e73", "#cc79a7", "#d55e00", "#56b4e9", "#8c7b00", "#7b6fd0")

STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 9.5,
    "text.color": INK,
    "axes.edgecolor": "#8794a3",
    "axes.labelcolor": INK,
    "axes.titlesize": 10.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.color": FAINT,
    "grid.linewidth": 0.7,
    "axes.axisbelow": True,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "legend.fontsize": 8.5,
    "lines.linewidth": 1.8,
}


@dataclass(frozen=True, slots=True)
class Chart:
    """A picture with a file name (without ending) and what it shows in words, for those who do not see it."""

    name: str
    alt: str
    png: bytes

    def tag(self) -> str:
        """The picture inside a page: an ``img`` that needs no other file."""
        data = base64.b64encode(self.png).decode()
        words = self.alt.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
        return f'<img loading="lazy" alt="{words}" src="data:image/png;base64,{data}">'


class Canvas:
    """One chart being drawn: ``axes`` to draw on, :meth:`finish` to get the picture."""

    def __init__(self, title: str, x: str = "", y: str = "", *, height: float = SIZE[1]) -> None:
        with mpl.rc_context(STYLE):
            self.figure = Figure(figsize=(SIZE[0], height), layout="constrained")
            self.axes: Axes = self.figure.add_subplot()
            self.axes.set(title=title, xlabel=x, ylabel=y)

    def finish(self, name: str, alt: str, *, legend: bool = False) -> Chart:
        """The picture as PNG."""
        with mpl.rc_context(STYLE):
            if legend:
                self.axes.legend()
            out = io.BytesIO()
            self.figure.savefig(out, format="png", dpi=DPI, metadata={"Software": None})
        return Chart(name, alt, out.getvalue())


def colours(contenders: Iterable[str]) -> dict[str, str]:
    """The colour of each contender, the same in all charts."""
    fixed = {"model": MODEL, "oracle": ORACLE}
    rest = [who for who in contenders if who not in fixed]
    return fixed | {who: OTHERS[place % len(OTHERS)] for place, who in enumerate(rest)}


#: What metrics and subjects are called in front of people; others go by their own name.
WORDS = {
    "auc": "AUC",
    "matched_auc": "AUC among items of the time",
    "logloss": "log loss",
    "ece": "calibration error",
    "auc_ratio": "share of the possible AUC",
    "expected_auc_ratio": "share of the possible AUC, expected",
    "distance": "distance to the true probability",
    "page ndcg@10": "NDCG@10 of a page",
    "ndcg@10": "NDCG@10",
    "hr@10": "hit rate@10",
    "retrieved ndcg@10": "NDCG@10 as retrieved",
    "retrieved hr@10": "hit rate@10 as retrieved",
    "mae": "mean absolute error",
    "rmse": "root mean squared error",
    "retrieval": "ranking the catalogue",
    "train": "training",
    "pretrain": "pretraining on next items",
}


def words(name: str) -> str:
    """A metric, subject or phase in front of people."""
    return WORDS.get(name, name)


def title_of(who: str, model: str) -> str:
    """A contender's name for people."""
    return {"model": model, "oracle": "true probabilities"}.get(who, who)
