"""Run every published protocol on the data at hand: ``make bench-models``, or ``python -m benchmarks.models beauty``.

Each data set's result is kept in ``runs/bench-models/<name>.json``, so that what is done is not done again after an
interruption; ``results.json`` and ``results.md`` are made of all that are there. Remove a file to measure again.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INPUTS = Path(os.environ.get("FORETELL_BENCHMARK_DATA", ROOT.parent / "shared" / "data"))
DONE = ROOT / "runs" / "bench-models"

#: The protocol and the input of each data set.
SETS: dict[str, tuple[str, Path | str]] = {
    "beauty": ("next-item", INPUTS / "amazon_beauty_s3rec_sequences.txt"),
    "ml1m": ("next-item", INPUTS / "ml1m_sasrec_sequences.txt"),
    "frappe": ("click", INPUTS / "frappe_x1.npz"),
    "taobao": ("behaviours", INPUTS / "taobao_userbehavior_815users.parquet"),
    "storefront": ("behaviours", "storefront"),
    "online_retail": ("behaviours", INPUTS / "online_retail_cc0.parquet"),
    "completejourney": ("behaviours", "completejourney"),
}
#: What others have published for the same protocol and split, see docs/evaluation.md.
PUBLISHED = {
    "beauty": {"SASRec + sampled softmax": {"NDCG@10": 0.0531}, "BSARec (best found)": {"NDCG@10": 0.0611}},
    "ml1m": {"SASRec + CE": {"NDCG@10": 0.1821}, "SASRec + 3000 negatives": {"NDCG@10": 0.1857}},
    "frappe": {
        "DeepFM": {"auc": 0.9842, "logloss": 0.1482},
        "FinalMLP": {"auc": 0.9861, "logloss": 0.1484},
        "FinalNet": {"auc": 0.9857, "logloss": 0.1311},
    },
}
#: What is shown of each kind of subject, and whether more is better.
SHOWN = {
    "next item": {"NDCG@10": 1, "HR@10": 1},
    "click in context": {"auc": 1, "logloss": -1},
    "target": {
        "matched_auc": 1,
        "auc": 1,
        "page ndcg@10": 1,
        "ndcg@10": 1,
        "auc_ratio": 1,
        "expected_auc_ratio": 1,
        "ece": -1,
        "distance": -1,
    },
    "value": {"mae": -1},
}
NAMES = {
    "matched_auc": "AUC",
    "auc": "AUC",
    "logloss": "log loss",
    "page ndcg@10": "NDCG@10 of a page",
    "ndcg@10": "NDCG@10 of all items",
    "auc_ratio": "share of AUC",
    "expected_auc_ratio": "share of AUC, expected",
    "ece": "calibration error",
    "mae": "mean abs. error",
    "distance": "distance to the truth",
}
TITLES = {
    "beauty": "Amazon Beauty",
    "ml1m": "MovieLens-1M",
    "frappe": "Frappe",
    "taobao": "Taobao, 815 users",
    "storefront": "storefront (simulated)",
    "online_retail": "Online Retail, next week",
    "completejourney": "completejourney (simulated), next week",
}


def main(names: list[str]) -> None:
    """Measure what is named (default: everything) and not measured yet, then write the tables."""
    if unknown := set(names) - set(SETS):
        sys.exit(f"There is no data set {sorted(unknown)[0]!r}; choose among {', '.join(SETS)}.")
    DONE.mkdir(parents=True, exist_ok=True)
    for name in names or SETS:
        protocol, source = SETS[name]
        if isinstance(source, Path) and not source.exists():
            print(f"{name}: no {source.name} in {INPUTS.name}/; skipped. FORETELL_BENCHMARK_DATA names another folder.")
        elif not (DONE / f"{name}.json").exists():
            (DONE / f"{name}.json").write_text(json.dumps(measure(protocol, source)) + "\n", encoding="utf-8")
    results = {name: brief(json.loads(file.read_text())) for name in SETS if (file := DONE / f"{name}.json").exists()}
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(table(results), encoding="utf-8")
    print(table(results))


def measure(protocol: str, source: Path | str) -> dict[str, Any]:
    """What ``foretell benchmark`` prints, and where and when. Raises CalledProcessError where it fails."""
    command = [str(Path(sys.executable).with_name("foretell")), "benchmark", protocol, str(source), "--json"]
    done = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, text=True)
    result: dict[str, Any] = json.loads(done.stdout)
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    return {"machine": machine, "protocol": protocol, **result}


def brief(result: dict[str, Any]) -> dict[str, Any]:
    """A result without the groups of those beside the model: too many numbers for git."""
    groups = result.get("breakdown", {}).get("test", {})
    own = {kind: {g: part["model"] for g, part in parts.items()} for kind, parts in groups.items()}
    return result | ({"breakdown": {"test": own}} if own else {})


def table(results: dict[str, dict[str, Any]]) -> str:
    """One line a data set, subject and metric, of the test time."""
    lines = ["| test time | | Foretell | best yardstick | published | trained in |", "|---|---|---|---|---|---|"]
    for name, found in results.items():
        title, took = TITLES[name], f"{found['train_seconds'] / 60:.0f} min"
        for subject, metric, sign in measured(found):
            ours = subjects(found["test"])[subject][metric]
            label = NAMES.get(metric, metric) if subject == "next item" else f"{subject} {NAMES.get(metric, metric)}"
            who, theirs = best(found, subject, metric, sign)
            rival = "" if who is None else f"{theirs:.3f} ({who}) {verdict(found, subject, metric, sign)}".strip()
            claims = [f"{p[metric]:.4f} ({who})" for who, p in PUBLISHED.get(name, {}).items() if metric in p]
            shown = f"{ours:.4f}" if name in PUBLISHED else f"{ours:.3f}"
            lines.append(f"| {title} | {label} | **{shown}** | {rival} | {', '.join(claims)} | {took} |")
            title = took = ""
    again = [TITLES[name] for name, found in results.items() if found.get("refit")]
    notes = [f"Fitted again up to the test, which is counted in the time: {'; '.join(again)}."] if again else []
    stacked = {
        TITLES[name]: " and ".join(target for target, choice in found["stack"].items() if choice["stacked"])
        for name, found in results.items()
        if found.get("stack")
    }
    if stacked:
        which = "; ".join(f"{title} ({targets})" for title, targets in stacked.items())
        notes.append(f"The logistic regression has a say beside the Transformer, see docs/decisions/0027: {which}.")
    notes += [f"{TITLES[name]}: {found['note']}." for name, found in results.items() if "note" in found]
    machines = " and ".join(sorted({found["machine"] for found in results.values()}))
    return "\n".join([*lines, "", NOTE.format(machines=machines), *notes, ""])


NOTE = """\
+: better than every yardstick, with 95% intervals over users that leave out 0; ~: the data cannot tell from the best
of them; -: worse than one. Yardsticks: popularity, logistic regression, SVM, DNN, boosted trees, means of users and
items, Markov chain. AUC without exposures: each event against items that others acted on at the time. Share of AUC: of
the (AUC - 1/2) of the true probabilities. Frappe's negative training rows were drawn anew.
`make bench-models`; {machines}."""


def measured(found: dict[str, Any]) -> list[tuple[str, str, int]]:
    """Subjects and metrics that a result has, with 1 where more is better and -1 where less is."""
    rows = []
    for subject, metrics in subjects(found["test"]).items():
        kind = {"next-item": "next item", "click": "click in context"}.get(found["protocol"])
        kind = kind or ("value" if "mae" in metrics else "target")
        if subject != "retrieval":
            rows += [(subject, metric, sign) for metric, sign in SHOWN[kind].items() if metrics.get(metric) is not None]
    if any(metric == "matched_auc" for _, metric, _ in rows):
        rows = [row for row in rows if row[1] != "auc"]
    return rows


def best(found: dict[str, Any], subject: str, metric: str, sign: int) -> tuple[str | None, float]:
    """The best yardstick and its figure; the oracle is none."""
    figures = {
        who: subjects(parts["test"]).get(subject, {}).get(metric)
        for who, parts in found.get("yardsticks", {}).items()
        if who != "oracle"
    }
    known = {who: figure for who, figure in figures.items() if figure is not None}
    who = max(known, key=lambda who: sign * known[who], default=None)
    return who, known.get(who, float("nan"))


def verdict(found: dict[str, Any], subject: str, metric: str, sign: int) -> str:
    """+, ~ or -, by the intervals of the differences from every yardstick; nothing where there are none."""
    differences = [
        sorted(sign * bound for bound in bounds) if None not in bounds else [-math.inf, math.inf]  # null: unknown
        for who, rival in found.get("differences", {}).get("test", {}).items()
        if who != "oracle" and (bounds := rival.get(subject, {}).get(metric, [])[1:])
    ]
    if not differences:
        return ""
    if any(high < 0 for _, high in differences):
        return "-"
    return "+" if all(low > 0 for low, _ in differences) else "~"


def subjects(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by behaviour; those of next-item protocols have no behaviour."""
    return part if any(isinstance(value, dict) for value in part.values()) else {"next item": part}


if __name__ == "__main__":
    main(sys.argv[1:])
