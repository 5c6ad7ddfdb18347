"""``foretell models``: what is published, and whether it is whole."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from foretell.console import console, fail


def models(
    root: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
) -> None:
    """List the published models and verify every file of theirs."""
    from models.artifact import Artifact, ArtifactError, names, read_artifact, versions
    from models.contract import ContractError
    from models.log import Split

    if not names(root):
        fail(f"No models in {root}; train one with `foretell train`.")
    table = Table("model", "version", "kind", "trained on", "items", "AUC (validation)", "whole")
    broken = []
    for name in names(root):
        for version in versions(root, name):
            try:
                artifact: Artifact = read_artifact(root / name / version)
            except (ArtifactError, ContractError) as error:
                broken.append(str(error))
                table.add_row(name, version, "", "", "", "", "[red]no[/red]")
                continue
            data = artifact.manifest["dataset"]
            label = f"{data['name']}{' (synthetic)' if data['synthetic'] else ''}"
            report = artifact.metrics()["validation"]["model"]
            before = " (before --refit)" if Split.of(artifact).refit else ""
            aucs = ", ".join(f"{target} {report[target]['auc']:.3f}" for target in artifact.contract.targets) + before
            items = f"{len(artifact.vocabulary.items):,}"
            table.add_row(name, version, artifact.manifest["kind"], label, items, aucs, "yes")
    console.print(table)
    if broken:
        fail(broken[0])
