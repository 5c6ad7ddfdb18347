"""The event loop goes before the model: what that does to threads."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from app import loading as loading_module
from app.metrics import Metrics
from app.priority import behind, stand_back
from app.settings import Settings
from models.artifact import Artifact, open_artifact

SAVED = Path(__file__).parents[2] / "models" / "saved"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="Elsewhere threads have no priority of their own.")


def niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, threading.get_native_id())


def test_a_thread_stands_back_with_those_it_starts_and_never_twice() -> None:
    def inside() -> list[int]:
        stand_back(3)
        with ThreadPoolExecutor(1) as child:
            return [niceness(), child.submit(niceness).result()]

    before = niceness()
    with behind("any", 3) as executor:
        assert executor.submit(inside).result() == [before + 3, before + 3]
    assert niceness() == before


def test_the_model_is_loaded_and_computes_behind_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    before, loading = niceness(), list[int]()

    def opened(root: Path, name: str, version: str) -> Artifact:
        loading.append(niceness())
        return open_artifact(root, name, version)

    monkeypatch.setattr(loading_module, "open_artifact", opened)
    settings = Settings(model_root=SAVED, xla=False, max_batch=2, model_niceness=4)
    runtime = loading_module.load(settings, Metrics())
    assert loading == [before + 4]
    assert [executor.submit(niceness).result() for executor in (runtime._executor, runtime._explaining)] == [
        before + 4,
        before + 4,
    ]
    runtime.close()
    assert niceness() == before
