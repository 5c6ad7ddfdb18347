"""The Makefile's environment: refused where there are no wheels, made good where its making was interrupted."""

from __future__ import annotations

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


@pytest.fixture
def venv(tmp_path: Path) -> Path:
    """A whole environment without packages, whose pip does nothing."""
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "activate").touch()
    program(tmp_path / "bin" / "pip", "true")
    return tmp_path


def program(path: Path, script: str) -> Path:
    path.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
    path.chmod(0o755)
    return path


def make(venv: Path, python: Path | str = sys.executable) -> subprocess.CompletedProcess[str]:
    """Bring the environment up to date."""
    command = ["make", "-C", str(ROOT), f"VENV={venv}", f"PYTHON={python}", f"{venv}/demo.stamp"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_an_intel_mac_is_told_before_anything_is_installed(tmp_path: Path) -> None:
    """Nor may Apple silicon pass with a Python that runs translated: it says x86_64 too."""
    pretend = "import platform as p, sys; p.uname = lambda: p.uname_result('Darwin', '', '', '', 'x86_64'); "
    code = pretend + "p.libc_ver = lambda: ('', ''); exec(sys.argv[1])"
    python = program(tmp_path / "python", f'exec {shlex.quote(sys.executable)} -c {shlex.quote(code)} "$2"')
    done = make(tmp_path / "venv", python)
    assert done.returncode == 2
    assert done.stderr.startswith("Foretell runs on Linux with glibc (x86_64, aarch64) and on macOS on Apple silicon")
    assert "this is Darwin x86_64.\n" in done.stderr
    assert not (tmp_path / "venv").exists()


def test_an_environment_whose_making_was_interrupted_is_made_anew(venv: Path, tmp_path: Path) -> None:
    (venv / "bin" / "activate").unlink()  # written last
    (venv / "bin" / "python").touch()
    python = program(tmp_path / "python", f'echo "$@" >> {tmp_path}/said')
    assert make(venv, python).returncode == 0
    assert (tmp_path / "said").read_text(encoding="utf-8").splitlines()[-1] == f"-m venv --clear {venv}"


def test_a_package_whose_install_was_interrupted_is_installed_again(venv: Path) -> None:
    packages = venv / "lib" / "python3.11" / "site-packages"
    for name in ("half", "whole"):
        (packages / f"{name}-1.0.dist-info").mkdir(parents=True)
        (packages / f"{name}-1.0.dist-info" / "METADATA").touch()
    (packages / "whole-1.0.dist-info" / "RECORD").touch()
    program(venv / "bin" / "pip", f"ls {packages} >> {venv}/seen-by-pip")
    assert make(venv).returncode == 0
    assert set((venv / "seen-by-pip").read_text(encoding="utf-8").split()) == {"whole-1.0.dist-info"}
    assert (venv / "demo.stamp").exists()


def test_an_install_that_failed_is_tried_again(venv: Path) -> None:
    program(venv / "bin" / "pip", "exit 1")
    assert make(venv).returncode == 2
    assert not (venv / "demo.stamp").exists()
