"""Keeps out of a process that only serves what TensorFlow takes along for training."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager

#: Modules that TensorFlow imports where it finds them, and does without where it does not.
SPARED = ("keras", "h5py", "scipy")


@contextmanager
def spared() -> Iterator[None]:
    """Import TensorFlow without :data:`SPARED`, unless the process has them already.

    They, and what they import (pandas, scikit-learn), are a second of the start and 180 MiB of each worker. A saved
    model runs without; they can be imported afterwards as ever.
    """
    absent = [name for name in SPARED if name not in sys.modules]
    sys.modules.update(dict.fromkeys(absent))  # type: ignore[arg-type]  # None makes the import of a name fail
    try:
        yield
    finally:
        for name in absent:
            del sys.modules[name]
