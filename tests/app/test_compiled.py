"""Compiled code on disk: who compiles what first, and what becomes of a damaged file."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.runtime import compiled
from app.runtime.sizes import Sizes, for_answers, for_histories


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Where compiled code is kept."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    compiled.remember()
    (folder,) = (tmp_path / "foretell").iterdir()
    assert f"--tf_xla_persistent_cache_directory={folder} " in os.environ["TF_XLA_FLAGS"]
    return folder


def test_sizes_that_another_process_compiles_come_last(folder: Path) -> None:
    done = []
    with ExitStack() as elsewhere:
        fcntl.flock(elsewhere.enter_context((folder / "1.lock").open("wb")), fcntl.LOCK_EX)

        def run(size: int) -> None:
            done.append(size)
            if size == 4:
                elsewhere.close()  # the other process is done

        compiled.in_turns([1, 2, 4], run)
    assert done == [2, 4, 1]


def test_a_damaged_file_is_thrown_away_and_compiled_anew(folder: Path) -> None:
    code = folder / "code.pb"

    def run(size: int) -> None:
        code.write_bytes(b"whole")

    compiled.in_turns([1], run)
    compiled.in_turns([1], lambda size: None)
    assert code.read_bytes() == b"whole"
    code.write_bytes(b"half")
    seen: list[bool] = []
    compiled.in_turns([1, 2], lambda size: seen.append(code.exists()))
    assert seen == [False, False]


def test_what_another_process_compiles_is_not_damaged(folder: Path) -> None:
    """It has written a file, and seals it when the whole size is done."""
    (folder / "theirs.pb").write_bytes(b"new")
    with (folder / "all.lock").open("wb") as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        compiled.in_turns([1], lambda size: None)
        assert (folder / "theirs.pb").exists()
    (folder / "theirs.pb").write_bytes(b"half")
    compiled.in_turns([1], lambda size: None)
    assert not (folder / "theirs.pb").exists()


def test_what_cannot_be_compiled_is_told(folder: Path) -> None:
    def run(size: int) -> None:
        raise ValueError("no such operation")

    with pytest.raises(ValueError, match="no such operation"):
        compiled.in_turns([1], run)


def test_only_the_newest_files_stay(folder: Path) -> None:
    def run(size: int) -> None:
        for age in range(compiled.KEPT + 2):
            path = folder / f"{age}.pb"
            path.touch()
            os.utime(path, (1e9 - age, 1e9 - age))

    compiled.in_turns([1], run)
    for kind in (".pb", compiled.SEAL):
        assert {int(path.stem) for path in folder.glob(f"*{kind}")} == set(range(compiled.KEPT))


def test_a_folder_that_others_may_write_to_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder.chmod(0o777)
    monkeypatch.setenv("TF_XLA_FLAGS", "")
    compiled.remember()
    assert not os.environ["TF_XLA_FLAGS"]
    done: list[int] = []
    compiled.in_turns([1, 2], done.append)
    assert done == [1, 2]
    assert not list(folder.iterdir())


LOAD = """
import json, sys
from app.loading import load
from app.metrics import Metrics
from app.settings import Settings
from app.runtime import functions

in_turns = functions.in_turns
functions.in_turns = lambda sizes, compile: in_turns(json.loads(sys.argv[1]), compile)
load(Settings(model_root="models/saved", max_batch=2, xla=True), Metrics()).close()
"""


def test_what_is_compiled_is_found_by_who_compiles_in_another_order_and_a_start_survives_damage(tmp_path: Path) -> None:
    def start(order: str) -> dict[str, int]:
        environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "TF_XLA_FLAGS": ""}
        subprocess.run([sys.executable, "-c", LOAD, order], check=True, env=environment)
        return {path.name: path.stat().st_size for path in tmp_path.glob("foretell/*/*.pb")}

    first = start("[1, 2]")
    assert len(first) == 3  # encode for one row, recommend for one and for two
    assert start("[2, 1]") == first
    for path in tmp_path.glob("foretell/*/*.pb"):
        os.truncate(path, 1000)
    assert start("[1, 2]") == first


@pytest.mark.parametrize(
    ("most", "answers", "histories"),
    [(1, [1], [1]), (2, [1, 2], [1]), (6, [1, 4, 6], [1, 3]), (32, [1, 4, 8, 16, 32], [1, 8, 16])],
)
def test_the_sizes_are_powers_of_two_where_they_pay(most: int, answers: list[int], histories: list[int]) -> None:
    assert list(for_answers(most)) == answers
    assert list(for_histories(most)) == histories


@pytest.mark.parametrize(
    ("waiting", "together"),
    [(0, 0), (1, 1), (2, 1), (3, 3), (4, 4), (5, 5), (8, 8), (9, 8), (13, 8), (14, 14), (27, 16), (28, 28), (99, 32)],
)
def test_a_batch_fills_a_compiled_size_or_nearly(waiting: int, together: int) -> None:
    assert for_answers(32).fill(waiting) == together


@given(st.integers(1, 300), st.sampled_from([for_answers, for_histories]), st.integers(1, 100))
def test_little_of_a_batch_is_padding(waiting: int, sizes: Callable[[int], Sizes], most: int) -> None:
    compiled = sizes(most)
    together = compiled.fill(waiting)
    assert 1 <= together <= min(waiting, compiled.most)
    size = compiled.above(together)
    assert size in compiled
    assert 0 <= size - together <= (size / 8 if size > 8 else (size - 1) / 2)
