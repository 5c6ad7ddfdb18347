"""The whole product as processes, and the service in this process over real stores and the shipped model."""

from __future__ import annotations

import os
import socket
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SAVED = ROOT / "models" / "saved"


@pytest.fixture
def port() -> int:
    """A port nobody listens on right now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number: int = probe.getsockname()[1]
        return number


@pytest.fixture
def clean_env() -> dict[str, str]:
    """The environment without any setting of the developer's shell; nothing is compiled, for nothing is asked often."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    return {**clean, "FORETELL_XLA": "false"}
