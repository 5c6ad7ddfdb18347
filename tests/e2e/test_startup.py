"""A service that must not start says why in one sentence, and its exit code says that it failed."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from foretell.embedded import EmbeddedStores
from tests.app.test_runtime import republish
from tests.e2e.conftest import ROOT, SAVED


def tamper(root: Path) -> None:
    """Edit the manifest of a copy of the shipped model."""
    shutil.copytree(SAVED / "storefront", root / "storefront")
    for manifest in root.glob("storefront/*/manifest.json"):
        manifest.write_text(manifest.read_text().replace('"history_length": ', '"history_length": 1'))


def misremember(root: Path) -> None:
    """Publish the shipped model with a golden example that expects something else."""
    golden = json.loads(next((SAVED / "storefront").glob("*/golden.json")).read_text())["examples"]
    golden[0]["expected"]["click"][0] += 0.01
    republish(root, golden)


@pytest.mark.parametrize(
    ("spoil", "settings", "sentence"),
    [
        (tamper, {}, "manifest.json was changed after it was written"),
        (misremember, {}, "Golden example 0 gives another click than was recorded"),
        (None, {"REDIS_URL": "redis://127.0.0.1:1/0"}, "Redis does not answer at 127.0.0.1:1"),
        (None, {"MODEL_NAME": "nobody"}, "No model named 'nobody'"),
        (None, {"DEVICE": "gpu"}, "FORETELL_DEVICE is gpu, but TensorFlow finds no GPU"),
        (None, {"DEVICE": "gpu", "WORKERS": "2"}, "FORETELL_DEVICE is gpu, but TensorFlow finds no GPU"),
        (misremember, {"MODEL_PROCESS": "apart", "WORKERS": "2"}, "Golden example 0 gives another click than was"),
        (
            None,
            {"MODEL_PROCESS": "apart", "WORKERS": "2", "REDIS_URL": "redis://127.0.0.1:1/0"},
            "Redis does not answer",
        ),
    ],
)
def test_one_clear_sentence_and_exit_code_1(
    stores: EmbeddedStores,
    clean_env: dict[str, str],
    tmp_path: Path,
    spoil: Callable[[Path], None] | None,
    settings: dict[str, str],
    sentence: str,
) -> None:
    root = SAVED
    if spoil:
        root = tmp_path
        spoil(root)
    env = {
        "MONGO_URL": stores.mongo_url,
        "REDIS_URL": stores.redis_url,
        "MODEL_ROOT": str(root),
        "STARTUP_SECONDS": "0.5",
        "PORT": "0",
        **settings,
    }
    done = subprocess.run(
        [str(Path(sys.executable).with_name("foretell")), "serve"],
        cwd=ROOT,
        env=clean_env | {f"FORETELL_{name}": value for name, value in env.items()},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 1
    errors = [line for line in done.stderr.splitlines() if "[error" in line]
    assert sentence in errors[0]
    assert "Traceback" not in done.stderr
