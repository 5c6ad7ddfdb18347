"""Environments of their own for what the benchmark compares with, made from the pins beside this file."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

from benchmarks.serving.wrk import BenchmarkError

HERE = Path(__file__).parent
ROOT = HERE.parents[1]
FOLDER = ROOT / ".foretell" / "peers"


def ready(name: str) -> bool:
    """Whether the environment is there, as its pins say now."""
    stamp = FOLDER / name / "pins"
    return stamp.exists() and stamp.read_text(encoding="ascii") == _pins(name)


def environment(name: str) -> Path:
    """The ``bin`` of an environment with ``requirements-NAME.txt``; made where it is missing (a minute, or several).

    Raises:
        BenchmarkError: pip failed.
    """
    folder = FOLDER / name
    if not ready(name):
        print(f"Making an environment for {name} ...", flush=True)
        try:
            subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
            pins = str(HERE / f"requirements-{name}.txt")
            pip = [str(folder / "bin" / "pip"), "install", "--quiet", "--disable-pip-version-check"]
            subprocess.run([*pip, "--require-hashes", "-r", pins], check=True, env={**os.environ, "PYTHONPATH": ""})
        except subprocess.CalledProcessError as error:
            raise BenchmarkError(f"The environment of {name} could not be made; see above, then run again.") from error
        (folder / "pins").write_text(_pins(name), encoding="ascii")
    return folder / "bin"


def _pins(name: str) -> str:
    return hashlib.sha256((HERE / f"requirements-{name}.txt").read_bytes()).hexdigest()
