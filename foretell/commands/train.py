"""``foretell train``: a data set in, a served model out."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from foretell.console import USAGE, console, fail, progress


def train(
    dataset: Annotated[Path, typer.Argument(help="Folder that `foretell import` wrote, e.g. data/taobao.")],
    model: Annotated[str, typer.Option(help="behaviour or a yardstick: dnn, logistic, popularity, svm.")] = "behaviour",
    size: Annotated[str, typer.Option(help="Size of the behaviour model: tiny or small.")] = "tiny",
    name: Annotated[str | None, typer.Option(help="Name to publish under; default: the data set's.")] = None,
    out: Annotated[Path, typer.Option(help="Folder of published models.")] = Path("models/saved"),
    runs: Annotated[Path, typer.Option(help="Folder of training runs: weights, TensorBoard logs.")] = Path("runs"),
    config: Annotated[Path | None, typer.Option(help="TOML file with training settings, see models/configs.")] = None,
    minutes: Annotated[
        float | None, typer.Option(help="Stop learning after so many minutes; --refit takes about as long again.")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="At most so many passes over the data.")] = None,
    seed: Annotated[int | None, typer.Option(help="Seed of every random choice.")] = None,
    beside: Annotated[
        bool, typer.Option("--stack", help="Ask a logistic regression beside the behaviour model, where that helps.")
    ] = False,
    again: Annotated[
        bool, typer.Option("--refit", help="Then learn again, the validation time too, and publish that model.")
    ] = False,
) -> None:
    """Train a model on an imported data set, measure it on later events, and publish it."""
    from foretell.reports import print_metrics
    from foretell.tensorflow import load

    load()
    from models.artifact import ArtifactError, check_name
    from models.datasets.dataset import Dataset, DatasetError
    from models.run import RunError, publish_run, read_config
    from models.train import refit, train_stack

    try:
        overrides = {"model": model, "size": size, "minutes": minutes, "epochs": epochs, "seed": seed}
        overrides["stack"] = beside or None
        settings = read_config(config, {key: value for key, value in overrides.items() if value is not None})
    except ValueError as error:
        fail(str(error), USAGE)
    try:
        data = Dataset.read(dataset)
    except DatasetError as error:
        fail(str(error))
    label = name or data.name
    try:
        check_name(label)
    except ArtifactError as error:
        fail(f"{error} Choose one with --name.", USAGE)
    run = runs / f"{label}-{settings.model}-{datetime.now(UTC):%Y%m%d-%H%M%S}"
    kind = " (synthetic)" if data.synthetic else ""
    console.print(f"Training [bold]{settings.model}[/bold] on {data.name}{kind}; logs: tensorboard --logdir {runs}")
    with progress() as bar:
        task = bar.add_task("prepare", total=None)

        def report(phase: str, done: int, total: int) -> None:
            bar.update(task, description=phase, completed=done, total=total)

        first, whose = run, ""
        try:
            run, metrics = train_stack(data, first, settings, report)
            if settings.stack and run == first:
                console.print("A logistic regression beside it does not help here; the model is published alone.")
            if again:
                source, run = run, run.with_name(f"{run.name}-refit")
                metrics, whose = refit(data, source, run, report), ", of the model before it learned that time too"
        except (RunError, ValueError) as error:
            whole = f" The first model is whole: publish it by `foretell export {first} --name {label}`."
            fail(f"{error}{whole if (first / 'facts.json').exists() else ''}")
    artifact = publish_run(run, out, label)
    print_metrics(metrics["validation"], f"{label} {artifact.version}, validation{whose}")
    console.print(f"Published {artifact.path} after {metrics['train_seconds']:.0f} s of training.")
    console.print(f"Serve it: FORETELL_MODEL_NAME={label} foretell serve")
