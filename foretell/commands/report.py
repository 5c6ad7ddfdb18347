"""``foretell report``: a published model as one page for the person who decides."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretell.commands.evaluate import open_all
from foretell.console import USAGE, console, fail, progress


def report(
    model: Annotated[str, typer.Argument(help="Name of a published model, or NAME:VERSION.")],
    data: Annotated[
        Path | None, typer.Option(help="Folder of the data set; default: data/ and the name it was trained on.")
    ] = None,
    against: Annotated[
        list[str] | None, typer.Option(help="Another published model to show beside it; may be repeated.")
    ] = None,
    part: Annotated[str, typer.Option(help="validation (used for choices) or test (look once).")] = "validation",
    root: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
    out: Annotated[Path, typer.Option(help="Folder of reports; each gets a folder NAME-VERSION in it.")] = Path(
        "reports"
    ),
    limit: Annotated[int, typer.Option(help="At most so many decisions.")] = 100_000,
) -> None:
    """Write one HTML page (and its pictures): how good the model is beside the yardsticks, where, and at what cost."""
    if part not in {"validation", "test"}:
        fail(f"--part is {part!r}; choose validation or test.", USAGE)
    from foretell.tensorflow import load

    load()
    from models.evaluate import gather_artifact
    from models.report.write import write

    artifacts, dataset = open_all([model, *(against or [])], root, data)
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
        bar.update(task, description="draw", total=None)
        page = write(artifacts[0], dataset, evidence, out, part)
    console.print(f"Wrote {page} ({page.stat().st_size / 1e6:.1f} MB); open it in a browser.")
