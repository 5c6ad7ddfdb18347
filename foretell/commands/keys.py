"""``foretell keys``: API keys made, listed and withdrawn. A running service notices within a second."""

from __future__ import annotations

import os
import re
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from foretell.console import USAGE, console, errors, fail

if TYPE_CHECKING:
    from app.keys import Key

app = typer.Typer(help="API keys: made, listed and withdrawn.", no_args_is_help=True)

_File = Annotated[Path, typer.Option("--file", envvar="FORETELL_KEYS", help="The file of keys.")]


class ScopeName(StrEnum):
    """What a key may do."""

    predict = "predict"
    ingest = "ingest"
    admin = "admin"


@app.command()
def new(
    file: _File,
    scope: Annotated[list[ScopeName], typer.Option(help="What it may do: predict, ingest, admin; repeat it.")],
    expires: Annotated[str | None, typer.Option(help="When it ends: 90d, 12h or a date; never, if left out.")] = None,
    limit: Annotated[str | None, typer.Option(help="Its rate, in place of FORETELL_KEY_LIMIT: 600/minute.")] = None,
    if_none: Annotated[bool, typer.Option("--if-none", help="Only where the file has no key yet.")] = False,
) -> None:
    """Make a key, add its hash to the file and print the key. It is shown this once."""
    from app.keys import new_key

    known = _read(file) if file.exists() else {}
    if if_none and known:
        errors.print(f"{file} has keys already; no new one was made.", soft_wrap=True)
        return
    try:
        end = None if expires is None else _expiry(expires, datetime.now(UTC))
        key, line = new_key([name.value for name in scope], end, limit)
    except ValueError:
        fail("A limit is a rate such as 600/minute, an expiry 90d, 12h or a date such as 2027-01-31.", USAGE)
    _append(file, line.model_dump_json(exclude_none=True))
    errors.print(f"Key {line.id} is in {file}; it is shown this once:", soft_wrap=True)
    typer.echo(key)


@app.command("list")
def list_(file: _File) -> None:
    """Show the keys of the file: ids, scopes, ends, limits. Nobody can show the keys themselves."""
    table = Table("id", "scopes", "expires", "limit")
    now = datetime.now(UTC).timestamp()
    for key in _read(file).values():
        table.add_row(key.id, ", ".join(sorted(key.scopes)), _end(key, now), str(key.limit or ""))
    console.print(table)


@app.command()
def revoke(file: _File, key_id: Annotated[str, typer.Argument(metavar="ID", help="As `list` shows it.")]) -> None:
    """Take a key out of the file; it is refused within a second."""
    from app.keys import KeyLine

    if key_id not in _read(file):
        fail(f"There is no key {key_id} in {file}; `foretell keys list` shows those there are.", USAGE)
    lines = [line for line in file.read_text(encoding="utf-8").splitlines() if line.strip()]
    kept = [line for line in lines if KeyLine.model_validate_json(line).id != key_id]
    beside = file.with_name(f".{file.name}.new")
    beside.touch(mode=0o600)
    beside.write_text("".join(f"{line}\n" for line in kept), encoding="utf-8")
    beside.replace(file)  # whole or not at all
    errors.print(f"Key {key_id} is withdrawn.")


def _read(file: Path) -> dict[str, Key]:
    from app.keys import KeysError, read_keys

    try:
        return read_keys(file)
    except KeysError as error:
        fail(str(error))


def _append(file: Path, line: str) -> None:
    """Add a line in one write, so that nobody reads half of it. The owner alone may read a file that is new."""
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        with open(file, "a+b", opener=lambda path, flags: os.open(path, flags, 0o600)) as target:
            size = target.seek(0, os.SEEK_END)
            if size:
                target.seek(size - 1)
            torn = size > 0 and target.read(1) != b"\n"
            target.write(("\n" if torn else "").encode() + line.encode() + b"\n")
    except OSError as error:
        fail(f"{file} cannot be written ({error.strerror}); no key was made.")


def _expiry(text: str, now: datetime) -> datetime:
    """Raises ValueError for what is neither a span nor a date, and for a time that has passed."""
    if found := re.fullmatch(r"(\d{1,5})([dh])", text):
        end = now + (timedelta(days=int(found[1])) if found[2] == "d" else timedelta(hours=int(found[1])))
    else:
        end = datetime.fromisoformat(text)
        end = end.replace(tzinfo=UTC) if end.tzinfo is None else end
    if end <= now:
        raise ValueError("it has passed")
    return end.replace(microsecond=0)


def _end(key: Key, now: float) -> str:
    if key.expires == float("inf"):
        return "never"
    day = datetime.fromtimestamp(key.expires, UTC).strftime("%Y-%m-%d %H:%M UTC")
    return f"{day} (expired)" if key.expires <= now else day
