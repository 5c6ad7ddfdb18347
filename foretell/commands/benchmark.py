"""``foretell benchmark``: published protocols on any file of their format; each prints one JSON object."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from foretell.console import USAGE, errors, fail, print_json

if TYPE_CHECKING:
    from models.datasets.dataset import Dataset
    from models.run import TrainConfig

app = typer.Typer(
    help="Run a published protocol on a file: train, choose on validation, report the test once, print JSON.",
    no_args_is_help=True,
)

_Config = Annotated[Path | None, typer.Option(help="TOML file with training settings that replace the protocol's.")]
_Minutes = Annotated[float | None, typer.Option(help="Learn for at most so many minutes.")]
_Seed = Annotated[int | None, typer.Option(help="Seed of every random choice.")]
_Size = Annotated[str | None, typer.Option(help="Size of the model: tiny, small, base or large.")]
_Json = Annotated[bool, typer.Option("--json", help="Print the JSON object alone: no progress.")]


@app.command("next-item")
def next_item(
    sequences: Annotated[Path, typer.Argument(help="A user and the user's items in time order on each line.")],
    config: _Config = None,
    minutes: _Minutes = None,
    size: _Size = None,
    seed: _Seed = None,
    json: _Json = False,
) -> None:
    """Leave one out: rank all items for the last one of each user."""
    from foretell.tensorflow import load

    load()
    from models.protocols.next_item import DEFAULTS, IDLE, run_next_item

    settings = _settings(DEFAULTS, IDLE, config, minutes=minutes, size=size, seed=seed)
    _print(lambda report: run_next_item(sequences, settings, report), json)


@app.command("click")
def click(
    table: Annotated[Path, typer.Argument(help="An .npz with train, valid and test rows of categorical fields.")],
    config: _Config = None,
    minutes: _Minutes = None,
    size: _Size = None,
    seed: _Seed = None,
    json: _Json = False,
) -> None:
    """Clicks in context, without history."""
    from foretell.tensorflow import load

    load()
    from models.protocols.click import DEFAULTS, IDLE, run_click

    settings = _settings(DEFAULTS, IDLE, config, minutes=minutes, size=size, seed=seed)
    _print(lambda report: run_click(table, settings, report), json)


@app.command("behaviours")
def behaviours(
    events: Annotated[str, typer.Argument(help="A log of events, an imported folder, completejourney or storefront.")],
    config: _Config = None,
    minutes: _Minutes = None,
    size: _Size = None,
    seed: _Seed = None,
    folder: Annotated[
        Path | None, typer.Option(file_okay=False, help="Keep runs and models here; default: a temporary folder.")
    ] = None,
    json: _Json = False,
) -> None:
    """Every behaviour from history, the Transformer beside every yardstick."""
    from foretell.tensorflow import load

    load()
    from models.protocols.behaviours import DEFAULTS, IDLE, run_behaviours

    settings = _settings(DEFAULTS, IDLE, config, minutes=minutes, size=size, seed=seed)
    with tempfile.TemporaryDirectory() as spare:
        dataset = _dataset(events, Path(spare))
        _print(lambda report: run_behaviours(dataset, settings, folder or Path(spare), report), json)


def _settings(defaults: TrainConfig, idle: frozenset[str], config: Path | None, **overrides: Any) -> TrainConfig:
    """The protocol's settings with what is given on top; says which of these are ``idle``: the protocol has no use."""
    from models.run import read_config

    try:
        found = read_config(config, {name: value for name, value in overrides.items() if value is not None}, defaults)
    except ValueError as error:
        fail(str(error), USAGE)
    if named := sorted(name for name in idle if getattr(found, name) != getattr(defaults, name)):
        errors.print(f"Of no use here, and left alone: {', '.join(named)}.", style="yellow", soft_wrap=True)
    return found


def _dataset(events: str, spare: Path) -> Dataset:
    """The data set of an imported folder, or imported on the spot."""
    from foretell.commands.importing import import_files
    from models.datasets.dataset import Dataset
    from models.datasets.mapping import MappingError
    from models.datasets.schema import DatasetError
    from models.domain import DomainError

    try:
        if (Path(events) / "dataset.json").exists():
            return Dataset.read(Path(events))
        return import_files([events], spare / "dataset", spare / "rejected")
    except MappingError as error:
        fail(f"{error} Options are given to foretell import {events} --out FOLDER; then benchmark that folder.", USAGE)
    except DomainError as error:
        fail(str(error), USAGE)
    except DatasetError as error:
        fail(str(error))


def _print(run: Callable[[Any], dict[str, Any]], json: bool) -> None:
    """Run a protocol with progress on stderr, then print its result on stdout."""
    from foretell.console import progress_on

    try:
        if json:
            result = run(lambda *_: None)
        else:
            with progress_on(errors) as bar:
                task = bar.add_task("prepare", total=None)
                result = run(
                    lambda phase, done, total: bar.update(task, description=phase, completed=done, total=total)
                )
    except ValueError as error:
        fail(str(error))
    print_json(result, pretty=not json)
