"""Run every published protocol on the data at hand: ``make bench-models``, or ``python -m benchmarks.models beauty``.

Each data set's result is kept in ``runs/bench-models/<name>.json``, so that what is done is not done again after an
interruption; ``results.json`` and ``results.md`` are made of all that are there. Remove a file to measure again.
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
METRICS = ("NDCG@10", "HR@10", "auc", "matched_auc", "logloss", "ece", "ndcg@10", "mae")


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
    results = {name: json.loads(file.read_text()) for name in SETS if (file := DONE / f"{name}.json").exists()}
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


def table(results: dict[str, dict[str, Any]]) -> str:
    """One block a data set: Foretell, then its yardsticks, then what is published."""
    lines = ["| test | behaviour | who | figures |", "|---|---|---|---|"]
    for name, found in results.items():
        for subject, ours in subjects(found["test"]).items():
            lines.append(f"| {name} | {subject} | **Foretell** | {figures(ours)} |")
            for who, parts in found.get("yardsticks", {}).items():
                theirs = subjects(parts["test"]).get(subject, {})
                lines.append(f"| | | {who} | {figures(theirs)} |")
            lines += [f"| | | {who} (published) | {figures(f)} |" for who, f in PUBLISHED.get(name, {}).items()]
        minutes, size = found["train_seconds"] / 60, found["parameters"]
        lines.append(f"| | | | trained in {minutes:.0f} min, {size:,} parameters; {found['machine']} |")
    return "\n".join([*lines, "", "`make bench-models`. storefront and completejourney are simulated.", ""])


def subjects(part: dict[str, Any]) -> dict[str, dict[str, Any]]:
    """Metrics by behaviour; those of next-item protocols have no behaviour."""
    return part if any(isinstance(value, dict) for value in part.values()) else {"next item": part}


def figures(metrics: dict[str, Any]) -> str:
    """The metrics that count, in one cell."""
    return ", ".join(f"{name} {metrics[name]:.4f}" for name in METRICS if metrics.get(name) is not None)


if __name__ == "__main__":
    main(sys.argv[1:])
