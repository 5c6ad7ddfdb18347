"""Where the real data for evaluation lies; it is no part of the project."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def real_file(name: str) -> Path:
    """The file ``name`` in FORETELL_BENCHMARK_DATA or ../shared/data; skips the test, saying so, where it is absent."""
    default = Path(__file__).parents[2].parent / "shared" / "data"
    path = Path(os.environ.get("FORETELL_BENCHMARK_DATA", str(default))) / name
    if not path.is_file():
        pytest.skip(f"{name} is not in the folder of FORETELL_BENCHMARK_DATA")
    return path
