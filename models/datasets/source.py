"""One input of an import: a CSV, Parquet or JSON Lines file, its rows, and the lines of it that are no row."""

from __future__ import annotations

import gzip
import hashlib
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from models.datasets.delimited import read_delimited
from models.datasets.jsonlines import flatten, read_json_lines
from models.datasets.schema import DatasetError
from models.datasets.textfile import TextRows

_CSV, _LINES = (".csv", ".tsv"), (".jsonl", ".ndjson")
ENDINGS = (*(f"{e}{z}" for e in (*_CSV, *_LINES) for z in ("", ".gz")), ".parquet")
#: What rows rejected by an earlier import are called; ``foretell import *.parquet`` must not take them for a log.
REJECTED = ".rejected"
#: How files begin that are no text, and what to do with them.
_SIGNATURES: Mapping[bytes, str] = {
    b"PAR1": "it is a Parquet file; name it .parquet",
    b"\x1f\x8b": "it is compressed with gzip; add .gz to its name",
    b"PK\x03\x04": "it is a ZIP archive or a spreadsheet; export it as CSV first",
    b"\xff\xfe": "it is UTF-16 text; save it as UTF-8",
    b"\xfe\xff": "it is UTF-16 text; save it as UTF-8",
}


@dataclass(frozen=True)
class Source:
    """One input: where it came from, its rows as they are, and what ``dataset.json`` says of it.

    ``text`` says on which lines the rows of a text file stand and which lines are none; None for Parquet.
    """

    path: Path
    frame: pl.DataFrame
    sha256: str
    text: TextRows | None = None

    @property
    def malformed(self) -> int:
        """Lines that are no row."""
        return 0 if self.text is None else len(self.text.malformed)

    @property
    def read(self) -> int:
        """Rows that were read, the malformed ones among them."""
        return len(self.frame) + self.malformed

    @property
    def facts(self) -> dict[str, Any]:
        """Name, digest and size, without the folder, which is nobody's business."""
        return {"file": self.path.name, "sha256": self.sha256, "rows": self.read}


def read(path: Path) -> Source:
    """Read a file by its ending (see ENDINGS). Text files keep every cell as text, so that ``007`` stays ``007``.

    Raises:
        DatasetError: no such file, an ending that is not known, content that is not what the ending says, or none.
    """
    name = path.name.lower()
    try:
        if path.is_dir():
            raise IsADirectoryError
        if not path.is_file():
            raise FileNotFoundError
        _check_name(path)
        frame, text = _rows(path, name.removesuffix(".gz"))
        with path.open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except IsADirectoryError as error:
        raise DatasetError(f"{path} is a folder; name the files in it.") from error
    except FileNotFoundError as error:
        raise DatasetError(f"There is no file {path}.") from error
    except (OSError, EOFError, zlib.error, DatasetError, pl.exceptions.PolarsError) as error:
        said = (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
        raise DatasetError(f"{path.name} cannot be read: {said.strip().splitlines()[0].rstrip('.')}.") from error
    return Source(path, frame, digest, text)


def aligned(sources: Sequence[Source]) -> list[Source]:
    """The sources, where those of JSON Lines have null columns for keys that only others have: objects may lack keys.

    Tables may not, there a missing column is a mistake worth telling.
    """
    every = dict.fromkeys(column for source in sources for column in source.frame.columns)

    def align(source: Source) -> Source:
        lacking = [column for column in every if column not in source.frame.columns]
        if not source.path.name.lower().removesuffix(".gz").endswith(_LINES):
            return source
        return replace(source, frame=source.frame.with_columns(pl.lit(None, pl.String).alias(c) for c in lacking))

    return [align(source) for source in sources]


def stem_of(path: Path) -> str:
    """The file's name without its ending."""
    ending = max((e for e in ENDINGS if path.name.lower().endswith(e)), key=len, default="")
    return path.name[: len(path.name) - len(ending)]


def _check_name(path: Path) -> None:
    name = path.name.lower()
    if not name.endswith(ENDINGS):
        raise DatasetError(f"its name ends in none of {', '.join(ENDINGS)}; convert it first")
    if name.endswith(f"{REJECTED}.parquet"):
        raise DatasetError("it holds rows that an earlier import rejected; leave it out, or rename it")


def _rows(path: Path, name: str) -> tuple[pl.DataFrame, TextRows | None]:
    if name.endswith(".parquet"):
        return flatten(pl.read_parquet(path)), None
    data = path.read_bytes()
    if path.name.lower().endswith(".gz") and data:
        data = gzip.decompress(data)
    for signature, advice in _SIGNATURES.items():
        if data.startswith(signature):
            raise DatasetError(advice)
    if not data.strip():
        raise DatasetError("it is empty")
    usual = "\t" if name.endswith(".tsv") else ","
    text = read_delimited(data, usual) if name.endswith(_CSV) else read_json_lines(data)
    return text.frame, text
