"""Keeps out of a process that only serves what TensorFlow takes along for training, converting and profiling."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

#: Modules that TensorFlow imports where it finds them, and does without where it does not.
SPARED = ("keras", "h5py", "scipy")
#: Parts of TensorFlow itself whose names it passes on and never uses: the converter to TFLite, a profiler's client.
LITE = "tensorflow.lite.python."
EMPTY = (
    *(LITE + name for name in ("lite", "convert", "interpreter", "analyzer", "authoring.authoring")),
    "tensorflow.python.profiler.internal._pywrap_profiler_plugin",
)


class Empty(ModuleType):
    """A module that has every name, and None for each."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)


@contextmanager
def spared() -> Iterator[None]:
    """Import TensorFlow without :data:`SPARED` and :data:`EMPTY`, unless the process has them already.

    They, and what they import (pandas, scikit-learn), are a second of the start and 210 MiB of each worker. A saved
    model runs without. SPARED can be imported afterwards as ever; of EMPTY TensorFlow has the names alone.
    """
    stand_ins = {**dict.fromkeys(SPARED), **{name: Empty(name) for name in EMPTY}}
    absent = [name for name in stand_ins if name not in sys.modules]
    sys.modules.update({name: stand_ins[name] for name in absent})  # type: ignore[misc]  # None: the import fails
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
