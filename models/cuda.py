"""CUDA's libraries where packages have brought them: what TensorFlow would not find by itself."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

#: The package of cuSOLVER. TensorFlow 2.21 looks into the folders of all its CUDA packages but this one (the RUNPATH of
#: libtensorflow_framework lacks it), and registers no GPU where one library is missing.
PACKAGE = "nvidia.cusolver"


def load_libraries() -> list[Path]:
    """Load what TensorFlow will ask for by name, before it looks for GPUs; the libraries that were loaded.

    One that cannot be loaded is left to TensorFlow, which then finds no GPU, and says so where one is asked for.
    """
    loaded = []
    for library in _libraries():
        with suppress(OSError):
            ctypes.CDLL(str(library))
            loaded.append(library)
    return loaded


def _libraries() -> list[Path]:
    try:
        spec = find_spec(PACKAGE)
    except ModuleNotFoundError:  # not even the package around it
        return []
    folders = spec.submodule_search_locations if spec is not None else None
    return [path for folder in folders or () for path in sorted(Path(folder).glob("lib/libcusolver.so.*"))]
