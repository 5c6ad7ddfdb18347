"""CUDA's libraries are loaded from the package that TensorFlow forgets; there are none here, so the test brings one."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

from models import cuda


def real_library() -> Path:
    """The one of mathematics, which this process has mapped."""
    mapped = (Path(line.split()[-1]) for line in Path("/proc/self/maps").read_text().splitlines())
    return next(path for path in mapped if path.name.startswith(("libm.so", "libm-")))


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="CUDA's packages are for Linux")
def test_a_library_of_the_package_is_loaded_and_a_broken_one_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "nvidia_of_a_test" / "cusolver" / "lib"
    folder.mkdir(parents=True)
    shutil.copy(real_library(), folder / "libcusolver.so.11")
    (folder / "libcusolver.so.12").write_bytes(b"no library")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(cuda, "PACKAGE", "nvidia_of_a_test.cusolver")
    assert cuda.load_libraries() == [folder / "libcusolver.so.11"]
    assert str(folder / "libcusolver.so.11") in Path("/proc/self/maps").read_text()


@pytest.mark.parametrize("package", ["no_such_package.cusolver", "no_such_package"])
def test_without_the_package_nothing_is_loaded(monkeypatch: pytest.MonkeyPatch, package: str) -> None:
    monkeypatch.setattr(cuda, "PACKAGE", package)
    assert cuda.load_libraries() == []
