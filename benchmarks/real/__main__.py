"""Imports, trains and measures the three public data sets with defaults: ``make bench-real``.

What is there already (data sets below ``data/``, models below ``runs/real``) is not made again. Writes results.json and
results.md beside this file.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from models.artifact import Artifact, open_artifact, versions
from models.datasets.dataset import Dataset
from models.evaluate import evaluate_artifact

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
INPUTS = Path(os.environ.get("FORETELL_BENCHMARK_DATA", ROOT.parent / "shared" / "data"))
SAVED = ROOT / "runs" / "real"
REJECTED = ROOT / "data" / "rejected"

SOURCES = {
    "taobao": str(INPUTS / "taobao_userbehavior_815users.parquet"),
    "online_retail": str(INPUTS / "online_retail_cc0.parquet"),
    "completejourney": "completejourney",
}
#: completejourney's authors call it simulated.
TITLES = {
    "taobao": "Taobao, 815 users",
    "online_retail": "Online Retail",
    "completejourney": "completejourney (simulated)",
}


NAMES = {"matched_auc": "AUC", "mae": "mean abs. error", "ndcg@10": "NDCG@10"}
#: Decisions that are measured at most.
LIMIT = 100_000


def main() -> None:
    """Make what is missing, then write the tables."""
    for name, source in SOURCES.items():
        if not (ROOT / "data" / name / "dataset.json").exists():
            foretell("import", source, "--out", f"data/{name}", "--rejected", str(REJECTED))
        for label, model in ((name, "behaviour"), (f"{name}_lr", "logistic")):
            if not versions(SAVED, label):
                foretell("train", f"data/{name}", "--model", model, "--name", label, "--out", str(SAVED))
    results = {name: result(name) for name in SOURCES}
    machine = f"{os.cpu_count()} cores, {platform.machine()}, {datetime.now(UTC):%Y-%m-%d}"
    (HERE / "results.json").write_text(json.dumps({"machine": machine, **results}, indent=1) + "\n", encoding="utf-8")
    (HERE / "results.md").write_text(table(results, machine), encoding="utf-8")
    print((HERE / "results.md").read_text(encoding="utf-8"))


def foretell(*arguments: str) -> None:
    """Run the command as a person would. Raises CalledProcessError where it fails."""
    command = [str(Path(sys.executable).with_name("foretell")), *arguments]
    subprocess.run(command, cwd=ROOT, check=True)


def result(name: str) -> dict[str, Any]:
    """Validation metrics of the Transformer and its yardsticks on one data set."""
    ours, linear = (open_artifact(SAVED, label) for label in (name, f"{name}_lr"))
    data = Dataset.read(ROOT / "data" / name)
    report = evaluate_artifact(ours, data, "validation", LIMIT)
    return {
        "behaviour": report["model"],
        "logistic": evaluate_artifact(linear, data, "validation", LIMIT)["model"],
        "popularity": report["popularity"],
        "item mean": report.get("item mean", {}),
        "train_seconds": {"behaviour": seconds(ours), "logistic": seconds(linear)},
        "parameters": ours.manifest["parameters"],
    }


def seconds(artifact: Artifact) -> float:
    """How long training took, evaluation included."""
    return float(artifact.metrics()["train_seconds"])


def table(results: dict[str, dict[str, Any]], machine: str) -> str:
    """One line a data set and target."""
    head = "| validation | | Transformer (tiny) | logistic regression | popularity, item mean | trained in |"
    lines = [head, "|---|---|---|---|---|---|"]
    for name, found in results.items():
        title, took = TITLES[name], f"{found['train_seconds']['behaviour'] / 60:.1f} min"
        for subject, metric, rival in (
            ("click", "matched_auc", "popularity"),
            ("purchase", "matched_auc", "popularity"),
            ("amount", "mae", "item mean"),
            ("retrieval", "ndcg@10", "popularity"),
        ):
            if subject in found["behaviour"]:
                cells = [found[who][subject][metric] for who in ("behaviour", "logistic", rival)]
                numbers = " | ".join(f"{cell:.3f}" for cell in cells)
                lines.append(f"| {title} | {subject} {NAMES[metric]} | {numbers} | {took} |")
                title = took = ""
    lines += [
        "",
        "AUC: each event against four items that others acted on at the time, so that popularity is of no help.",
        "NDCG@10: the next item among the whole catalogue.",
        f"`make bench-real`; {machine}; data and licences: see docs/data.md.",
    ]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
