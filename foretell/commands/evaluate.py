"""``foretell evaluate``: what a published model is worth on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretell.console import USAGE, console, fail, progress


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a published model, or NAME:VERSION.")],
    dataset: Annotated[Path, typer.Argument(help="Folder that `foretell import` wrote.")],
    part: Annotated[str, typer.Option(help="validation (used for choices) or test (look once).")] = "validation",
    root: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
    limit: Annotated[int, typer.Option(help="At most so many decisions.")] = 100_000,
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a published model on the time after its training data, beside the yardsticks."""
    if part not in {"validation", "test"}:
        fail(f"--part is {part!r}; choose validation or test.", USAGE)
    from foretell.reports import print_metrics
    from foretell.tensorflow import load

    load()
    from models.artifact import ArtifactError, open_artifact
    from models.contract import ContractError
    from models.datasets.dataset import Dataset, DatasetError
    from models.evaluate import evaluate_artifact

    name, _, version = model.partition(":")
    try:
        artifact = open_artifact(root, name, version or "latest")
        data = Dataset.read(dataset)
    except (ArtifactError, ContractError, DatasetError) as error:
        fail(str(error))
    with progress() as bar:
        task = bar.add_task("score", total=None)
        try:
            report = evaluate_artifact(
                artifact, data, part, limit, lambda done, total: bar.update(task, completed=done, total=total)
            )
        except ValueError as error:
            fail(str(error))
    if json:
        console.print_json(data=report)
    else:
        print_metrics(report, f"{name} {artifact.version} on {data.name}, {part}")
