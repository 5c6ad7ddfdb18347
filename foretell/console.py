"""How the command line talks to people: one console, one progress style, one way to fail."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn

import orjson
import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn

#: Exit codes: the work itself failed, or it was asked for wrongly (bad option, bad setting, bad configuration).
FAILED = 1
USAGE = 2

console = Console(highlight=False)
errors = Console(stderr=True, highlight=False)


def progress() -> Progress:
    """A progress bar for long work; it stays readable when the output is not a terminal."""
    return progress_on(console)


def progress_on(output: Console) -> Progress:
    """:func:`progress` on another console: a command whose result is JSON on stdout shows its progress on stderr."""
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        console=output,
        transient=not output.is_terminal,
    )


def print_json(data: Mapping[str, Any], *, pretty: bool = True) -> None:
    """One JSON object on stdout, plain, for other programs; null where a metric could not be measured (NaN)."""
    typer.echo(orjson.dumps(data, option=orjson.OPT_INDENT_2 if pretty else 0).decode())


def fail(sentence: str, code: int = FAILED) -> NoReturn:
    """Say in one sentence what is wrong, on stderr, and leave with ``code``."""
    errors.print(f"[red]foretell:[/red] {escape(sentence)}", soft_wrap=True)
    raise typer.Exit(code)
