"""``foretell report``: a published model as one page for the person who decides."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretell.commands.evaluate import PART, PARTS, open_all, unseen
from foretell.console import USAGE, console, fail, progress

if TYPE_CHECKING:
    from models.artifact import Artifact
    from models.datasets.dataset import Dataset


def report(
    model: Annotated[str, typer.Argument(help="Name of a published model, or NAME:VERSION.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set; default: data/ and the name it was trained on.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Another published model to show beside it; may be repeated.")
    ] = None,
    part: Annotated[str | None, typer.Option(help=PART)] = None,
    root: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
    out: Annotated[Path, typer.Option(help="Folder of reports; each gets a folder NAME-VERSION in it.")] = Path(
        "reports"
    ),
    limit: Annotated[int, typer.Option(help="At most so many decisions.")] = 100_000,
    explanations: Annotated[
        int,
        typer.Option(min=0, help="Check so many explanations against the model without the event they name; 0: none."),
    ] = 1000,
) -> None:
    """Write one HTML page (and its pictures): how good the model is beside the yardsticks, where, and at what cost."""
    if part and part not in PARTS:
        fail(f"--part is {part!r}; choose validation or test.", USAGE)
    from foretell.tensorflow import load

    load()
    from models.evaluate import gather_artifact
    from models.report.write import write

    artifacts, dataset = open_all([model, *(against or [])], root, data)
    part = part or unseen(artifacts)
    with progress() as bar:
        task = bar.add_task("score", total=None)
        try:
            evidence = gather_artifact(
                artifacts[0],
                dataset,
                part,
                limit,
                lambda done, total: bar.update(task, completed=done, total=total),
                artifacts[1:],
            )
        except ValueError as error:
            fail(str(error))
        bar.update(task, description="explain", completed=0, total=None)
        checked = _explained(artifacts[0], dataset, part, explanations)
        bar.update(task, description="draw", total=None)
        page = write(artifacts[0], dataset, evidence, out, part, explanations=checked)
    console.print(f"Wrote {page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser.")


def _explained(artifact: Artifact, dataset: Dataset, part: str, predictions: int) -> dict[str, Any] | None:
    """How faithful explanations are; None where none are asked for, or there are none."""
    from models.explain import Unexplained, faithfulness

    if not predictions:
        return None
    try:
        return faithfulness(artifact, dataset, predictions, part=part)
    except Unexplained as error:
        console.print(f"No explanations in the report: {error}", soft_wrap=True, style="yellow")
        return None
