"""``foretell import``: event logs to a data set on disk, and into MongoDB."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from foretell.console import USAGE, console, errors, fail, progress, progress_on

if TYPE_CHECKING:
    from rich.console import Console
    from rich.progress import TaskID

    from models.datasets.dataset import Dataset
    from models.datasets.files import Extras
    from models.datasets.mapping import Columns
    from models.datasets.rejected import Written
    from models.datasets.source import Source
    from models.erasure import Erased

#: Names that stand for data sets which need no file.
BUILT_IN = ("completejourney", "storefront")

_Name = Annotated[str | None, typer.Option(help="Name of the data set; by default the mapping's or the file's.")]
_Column = "Column with the "


def import_(
    files: Annotated[
        list[str],
        typer.Argument(
            metavar="FILE...",
            help="CSV, Parquet or JSON Lines (.gz too) of events; or completejourney, or storefront (synthetic).",
        ),
    ],
    user: Annotated[str | None, typer.Option(help=_Column + "user id.")] = None,
    item: Annotated[str | None, typer.Option(help=_Column + "item id.")] = None,
    type_: Annotated[str | None, typer.Option("--type", help=_Column + "event type.")] = None,
    constant_type: Annotated[str | None, typer.Option(help="Type of every event, where no column has it.")] = None,
    time: Annotated[str | None, typer.Option(help=_Column + "time: epoch or ISO 8601; UTC without a zone.")] = None,
    value: Annotated[str | None, typer.Option(help=_Column + "amount or rating.")] = None,
    times: Annotated[str | None, typer.Option(help=_Column + "quantity, which the value is multiplied with.")] = None,
    request: Annotated[str | None, typer.Option(help=_Column + "request that showed the item.")] = None,
    position: Annotated[str | None, typer.Option(help=_Column + "position of an exposure, 1 = first.")] = None,
    context: Annotated[list[str] | None, typer.Option(help="field=column of the context; repeat it.")] = None,
    profile: Annotated[list[str] | None, typer.Option(help="field=column of the user's profile; repeat it.")] = None,
    category: Annotated[list[str] | None, typer.Option(help="Column of a category level, coarse first.")] = None,
    title: Annotated[str | None, typer.Option(help=_Column + "item's title.")] = None,
    price: Annotated[str | None, typer.Option(help=_Column + "item's price.")] = None,
    rename: Annotated[list[str] | None, typer.Option(help="word=type, e.g. pv=click; repeat it.")] = None,
    mapping: Annotated[str | None, typer.Option(help="A shipped mapping, or a TOML file of your own.")] = None,
    items: Annotated[Path | None, typer.Option(help="A file that describes the items.")] = None,
    users: Annotated[Path | None, typer.Option(help="A file that describes the users.")] = None,
    erased: Annotated[Path | None, typer.Option(help="List of erased users (`foretell erased`) to leave out.")] = None,
    licence: Annotated[str | None, typer.Option(help="Terms of use of the data, for the model card.")] = None,
    domain: Annotated[str | None, typer.Option(help="ecommerce, ratings, or a TOML file of your own.")] = None,
    name: _Name = None,
    out: Annotated[Path | None, typer.Option(help="Folder of the data set; by default data/<name>.")] = None,
    rejected: Annotated[Path | None, typer.Option(help="Folder for rejected rows; default: beside the input.")] = None,
    mongo: Annotated[str | None, typer.Option(help="URL of a MongoDB to load the data set into as well.")] = None,
    database: Annotated[str, typer.Option(help="Database for --mongo.")] = "foretell",
    pseudonym_key: Annotated[
        str | None,
        typer.Option(envvar="FORETELL_PSEUDONYM_KEY", help="Load user ids into MongoDB as the service stores them."),
    ] = None,
    replace: Annotated[bool, typer.Option(help="Replace another data set in that database.")] = False,
) -> None:
    """Turn event logs into a clean data set, and say of every rejected row why."""
    from models.datasets.mapping import Columns, MappingError, pairs
    from models.datasets.schema import DatasetError
    from models.domain import DomainError
    from models.erasure import Erased, ErasureError

    try:
        given = Columns(
            user=user or "",
            item=item or "",
            time=time or "",
            type=type_,
            value=value,
            constant_type=constant_type,
            times=times,
            request=request,
            position=position,
            title=title,
            price=price,
            categories=tuple(category or ()),
            context=pairs(context or (), "--context"),
            profile=pairs(profile or (), "--profile"),
            types=pairs(rename or (), "--rename"),
            name=name,
            domain=domain,
            licence=licence,
        )
        gone = None if erased is None else Erased.read(erased)
        dataset, folder = _make(files, given, mapping, (items, users), out, rejected, console, gone)
        if mongo is not None:
            _load(dataset, mongo, database, replace, pseudonym_key)
    except (MappingError, DomainError, ErasureError) as error:
        fail(str(error), USAGE)
    except DatasetError as error:
        fail(str(error))
    console.print(f"Next: [bold]foretell train {folder}[/bold]")


def import_files(files: list[str], folder: Path, rejected: Path) -> Dataset:
    """Import by what the files say of themselves, for commands that only need the data set; talks on stderr.

    Raises MappingError, DomainError or DatasetError, each in one sentence.
    """
    from models.datasets.mapping import Columns

    return _make(files, Columns(), None, (None, None), folder, rejected, errors)[0]


def _make(
    files: list[str],
    given: Columns,
    mapping: str | None,
    extra: tuple[Path | None, Path | None],
    out: Path | None,
    rejected: Path | None,
    output: Console,
    erased: Erased | None = None,
) -> tuple[Dataset, Path]:
    """Read, clean and write; returns the data set and its folder. ``extra`` are the files of items and users."""
    from models.datasets.files import NothingLeft, build, choose
    from models.datasets.mapping import MappingError
    from models.datasets.rejected import write_rejected
    from models.datasets.source import stem_of
    from models.domain import load_domain

    packaged = bool(set(files) & set(BUILT_IN)) and not Path(files[0]).exists()
    if packaged and len(files) > 1:
        raise MappingError("completejourney and storefront are imported on their own, without other files.")
    if packaged and files == ["storefront"]:
        return _simulate(given.name, out, output)
    mapping = mapping or (files[0] if packaged else None)
    with progress_on(output) as bar:
        task = bar.add_task("Reading", total=len(files) + 2)
        read, extras = _read_package() if packaged else _read_files(files, extra, lambda: bar.advance(task))
        columns, how = choose(read[0].frame.columns, given, mapping)
        bar.console.print(how)
        name = _slug(columns.name or stem_of(read[0].path))
        folder = out or Path("data") / name
        # Nobody wants to look for rejected rows among the installed packages.
        beside = rejected or (folder if packaged else None)
        bar.update(task, description="Cleaning", completed=len(files))
        try:
            domain = load_domain(columns.domain or "ecommerce")
            made = build(read, columns, domain, name, datetime.now(UTC), extras, erased)
        except NothingLeft as error:
            _report(error.report, write_rejected(error.rejected, rejected, folder.parent), output)
            raise
        bar.update(task, description="Writing", advance=1)
        made.dataset.write(folder)
        written = write_rejected(made.rejected, beside, folder)
        bar.advance(task)
    _report(made.dataset.info["report"], written, output)
    _summary(made.dataset, folder, output)
    return made.dataset, folder


def _read_files(
    files: list[str], extra: tuple[Path | None, Path | None], advance: Callable[[], None]
) -> tuple[list[Source], Extras]:
    from models.datasets.files import Extras
    from models.datasets.source import aligned, read

    sources = []
    for file in files:
        sources.append(read(Path(file)))
        advance()
    items, users = (None if path is None else read(path) for path in extra)
    return aligned(sources), Extras(items, users)


def _read_package() -> tuple[list[Source], Extras]:
    from models.datasets import completejourney

    events, extras = completejourney.sources()
    return [events], extras


def _simulate(name: str | None, out: Path | None, output: Console) -> tuple[Dataset, Path]:
    from models.datasets.mapping import MappingError
    from models.datasets.storefront import simulate

    if name not in (None, "storefront"):
        raise MappingError("The synthetic storefront keeps its name, so that nobody takes it for real data.")
    folder = out or Path("data/storefront")
    with output.status("Simulating a shop (synthetic data)"):
        dataset = simulate()
        dataset.write(folder)
    _summary(dataset, folder, output)
    return dataset, folder


def _load(dataset: Dataset, url: str, database: str, replace: bool, pseudonym_key: str | None) -> None:
    from app.pseudonyms import aliased
    from foretell.loading import LoadError, load_dataset

    with progress() as bar:
        tasks: dict[str, TaskID] = {}

        def advance(collection: str, done: int, total: int) -> None:
            if collection not in tasks:
                tasks[collection] = bar.add_task(f"Loading {collection}", total=total)
            bar.update(tasks[collection], completed=done)

        try:
            loaded = load_dataset(dataset, url, database, advance, replace=replace, alias=aliased(pseudonym_key))
        except LoadError as error:
            fail(str(error))
    what = "holds it already" if loaded.skipped else f"loaded in {loaded.seconds:.1f} s"
    console.print(f"MongoDB, database {database}: {what}")


def _report(report: Mapping[str, Any], written: list[Written], output: Console) -> None:
    """What was read, kept and rejected, and where the rejected rows are."""
    table = Table(title="Rows", title_justify="left")
    table.add_column("what")
    table.add_column("rows", justify="right")
    for kind, part in (("events", report), ("items", report.get("items")), ("users", report.get("users"))):
        if not part:
            continue
        table.add_row(f"{kind} read", f"{part['read']:,}")
        for reason, count in part["rejected"].items():
            table.add_row(f"  rejected: {reason}", f"{count:,}", style="yellow")
        table.add_row(f"{kind} kept", f"{part['kept']:,}", style="bold", end_section=True)
    if report.get("ignored_values"):
        table.add_row("values ignored (their type carries none)", f"{report['ignored_values']:,}")
    output.print(table)
    for file in written:
        if file.detour:
            output.print(f"{file.detour}, so the rejected rows lie elsewhere.", soft_wrap=True, style="yellow")
        output.print(f"Rejected rows: {file.path}", soft_wrap=True)


def _summary(dataset: Dataset, folder: Path, output: Console) -> None:
    counts, kind = dataset.info["counts"], "Synthetic data set" if dataset.synthetic else "Data set"
    numbers = ", ".join(f"{count:,} {what}" for what, count in counts.items() if count)
    output.print(f"{kind} {dataset.name}: {numbers}; {dataset.info['from']} to {dataset.info['to']}")
    output.print(f"Written to {folder}", soft_wrap=True)


def _slug(text: str) -> str:
    """A name that can be a folder: letters, digits, ``-`` and ``_``."""
    return re.sub(r"[^A-Za-z0-9_-]+", "_", text).strip("_") or "dataset"
