"""The ``foretell`` command: one plain function a command, each in its own file below ``commands``."""

from __future__ import annotations

import typer

from foretell.commands import benchmark, keys
from foretell.commands.demo import demo
from foretell.commands.erased import erased
from foretell.commands.evaluate import evaluate
from foretell.commands.export import export
from foretell.commands.importing import import_
from foretell.commands.models import models
from foretell.commands.report import report
from foretell.commands.serve import serve
from foretell.commands.train import train

app = typer.Typer(
    name="foretell",
    help="Foretell predicts what a user does next: import behaviour logs, train, evaluate, export and serve a model.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    add_completion=False,
)

app.command("demo")(demo)
app.command("serve")(serve)
app.command("import")(import_)
app.command("train")(train)
app.command("evaluate")(evaluate)
app.command("report")(report)
app.command("export")(export)
app.command("models")(models)
app.command("erased")(erased)
app.add_typer(keys.app, name="keys")
app.add_typer(benchmark.app, name="benchmark")


def main() -> None:
    """The console script's entry point."""
    app()
