"""``foretell evaluate``: what a published model is worth on a data set."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from foretell.console import USAGE, fail, print_json, progress

if TYPE_CHECKING:
    from models.artifact import Artifact
    from models.datasets.dataset import Dataset


PARTS = ("validation", "test")
PART = "validation (used for choices) or test (look once); default: what no model of these has learned from."


def evaluate(
    model: Annotated[str, typer.Argument(help="Name of a published model, or NAME:VERSION.")],
    dataset: Annotated[Path, typer.Argument(help="Folder that `foretell import` wrote.")],
    part: Annotated[str | None, typer.Option(help=PART)] = None,
    root: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
    limit: Annotated[int, typer.Option(min=1, help="At most so many decisions.")] = 100_000,
    against: Annotated[
        list[str] | None, typer.Option(help="Another published model to measure on the same rows; may be repeated.")
    ] = None,
    folds: Annotated[
        int, typer.Option(help="Train anew for each of so many successive periods, with the model's settings.")
    ] = 0,
    runs: Annotated[Path, typer.Option(help="Folder for the training runs of --folds.")] = Path("runs/folds"),
    json: Annotated[bool, typer.Option("--json", help="Print JSON instead of a table.")] = False,
) -> None:
    """Measure a published model on the time after its training data, beside the yardsticks."""
    if part and part not in PARTS:
        fail(f"--part is {part!r}; choose validation or test.", USAGE)
    if folds == 1 or folds < 0:
        fail(f"--folds is {folds}; two folds are the least that say anything.", USAGE)
    from foretell.reports import print_folds, print_metrics
    from foretell.tensorflow import load

    load()
    artifacts, data = open_all([model, *(against or [])], root, dataset)
    part = part or unseen(artifacts)
    title = f"{artifacts[0].name} {artifacts[0].version} on {data.name}"
    try:
        report = _folds(artifacts, data, runs, folds) if folds else _once(artifacts, data, part, limit)
    except ValueError as error:
        fail(str(error))
    if json:
        print_json(report)
    elif folds:
        print_folds(report, f"{title}, {folds} folds, each trained on all that was before it")
    else:
        print_metrics(report, f"{title}, {part}")


def unseen(artifacts: list[Artifact]) -> str:
    """The earliest part of the time that none of the artifacts has learned from."""
    from models.log import Split

    return "test" if any(Split.of(artifact).refit for artifact in artifacts) else "validation"


def open_all(models: list[str], root: Path, dataset: Path | None) -> tuple[list[Artifact], Dataset]:
    """Published models (NAME or NAME:VERSION) and a data set; leaves with a sentence where one cannot be read.

    Without a folder, the data set is looked for where `foretell import` puts the one that the first was trained on.
    """
    from models.artifact import ArtifactError, open_artifact
    from models.contract import ContractError
    from models.datasets.dataset import Dataset, DatasetError

    try:
        pairs = [model.partition(":") for model in models]
        artifacts = [open_artifact(root, name, version or "latest") for name, _, version in pairs]
        return artifacts, Dataset.read(dataset or Path("data") / artifacts[0].manifest["dataset"]["name"])
    except (ArtifactError, ContractError, DatasetError) as error:
        fail(str(error))


def _once(artifacts: list[Artifact], data: Dataset, part: str, limit: int) -> dict[str, object]:
    from models.evaluate import evaluate_artifact

    with progress() as bar:
        task = bar.add_task("score", total=None)

        def advance(done: int, total: int) -> None:
            bar.update(task, completed=done, total=total)

        return evaluate_artifact(artifacts[0], data, part, limit, advance, artifacts[1:])


def _folds(artifacts: list[Artifact], data: Dataset, runs: Path, folds: int) -> dict[str, object]:
    from models.folds import cross_validate

    with progress() as bar:
        task = bar.add_task("train", total=None)

        def advance(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total)

        return cross_validate(artifacts, data, runs, folds, advance)
