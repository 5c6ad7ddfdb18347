"""``foretell export``: publish a training run again, perhaps under another name."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from foretell.console import console, fail


def export(
    run: Annotated[Path, typer.Argument(help="Run folder that `foretell train` left below runs/.")],
    name: Annotated[str, typer.Option(help="Name to publish under.")],
    out: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
) -> None:
    """Publish the model of a training run as the next version of a name."""
    from foretell.tensorflow import load

    load()
    from models.artifact import ArtifactError
    from models.run import RunError, publish_run

    try:
        artifact = publish_run(run, out, name)
    except (ArtifactError, RunError) as error:
        fail(str(error))
    console.print(f"Published {artifact.path}.")
