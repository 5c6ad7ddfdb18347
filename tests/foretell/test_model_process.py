"""When one process has the model for all workers, and where its socket may lie."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest

from app.settings import Settings
from foretell.model_process import ModelProcess, ModelProcessError, apart, gpu_here


@pytest.mark.parametrize(
    ("workers", "model_process", "device", "gpu", "expected"),
    [
        (2, "auto", "auto", True, True),
        (2, "auto", "auto", False, False),
        (2, "auto", "gpu", False, True),  # it fails to start, in one process
        (2, "auto", "cpu", True, False),
        (2, "inside", "gpu", True, False),
        (2, "apart", "cpu", False, True),
        (1, "apart", "gpu", True, False),  # there is nobody to share with
    ],
)
def test_the_model_is_apart_where_workers_would_share_a_gpu(
    monkeypatch: pytest.MonkeyPatch, workers: int, model_process: str, device: str, gpu: bool, expected: bool
) -> None:
    monkeypatch.setattr("foretell.model_process.gpu_here", lambda: gpu)
    settings = Settings().model_copy(update={"workers": workers, "model_process": model_process, "device": device})
    assert apart(settings) is expected


def test_a_gpu_is_a_device_of_the_driver_that_is_not_hidden(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    (tmp_path / "nvidiactl").touch()  # the driver without a device
    assert not gpu_here(tmp_path)
    (tmp_path / "nvidia0").touch()
    assert gpu_here(tmp_path)
    for hidden in ("", "-1"):
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
        assert not gpu_here(tmp_path)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "1")
    assert gpu_here(tmp_path)


def test_a_socket_whose_path_is_too_long_is_one_sentence(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    deep = tmp_path / ("d" * 120)
    deep.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(deep))
    with pytest.raises(ModelProcessError, match="set TMPDIR to a shorter path"):
        ModelProcess()
    assert list(deep.iterdir()) == []
