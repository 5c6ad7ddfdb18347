"""What a process that serves does without. Each case is a process of its own: an import cannot be taken back."""

from __future__ import annotations

import subprocess
import sys

import pytest

SERVES = """
import sys
import app.runtime
import tensorflow as tf

mapped = open("/proc/self/maps").read() if sys.platform == "linux" else ""
print([name for name in ("keras", "h5py", "scipy", "pandas") if name in sys.modules])
print([name for name in ("_pywrap_profiler_plugin", "tflite_common") if name in mapped])
print(float(tf.function(lambda x: x + 1)(1.0)))
import keras
print(keras.layers.Dense(1)(tf.ones((1, 2))).shape)
"""


@pytest.mark.timeout(120)
def test_serving_loads_neither_keras_nor_converters_nor_profilers_and_keras_can_still_come() -> None:
    done = subprocess.run([sys.executable, "-c", SERVES], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["[]", "[]", "2.0", "(1, 1)"]
