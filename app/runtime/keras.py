"""Keeps Keras out of a process that only serves."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without_keras() -> Iterator[None]:
    """Import TensorFlow without Keras, unless the process has it already.

    TensorFlow takes Keras along, and with it pandas and scikit-learn where they are installed: a second of the start
    and 160 MiB of each worker. A SavedModel runs without. ``tf.keras`` and ``import keras`` work afterwards as ever.
    """
    if "keras" in sys.modules:
        yield
        return
    sys.modules["keras"] = None  # type: ignore[assignment]  # what makes an import of that name fail
    try:
        yield
    finally:
        del sys.modules["keras"]
