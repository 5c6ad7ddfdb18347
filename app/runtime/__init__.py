"""The model at run time: load, verify, warm up, run. The only package that imports TensorFlow."""

from __future__ import annotations

from app.runtime.compiled import remember
from app.runtime.spared import spared
from models.cuda import load_libraries
from models.quiet import quiet_start

with quiet_start(), spared():
    remember()  # before TensorFlow reads its flags
    load_libraries()
    import tensorflow as tf

    tf.config.list_physical_devices()  # says which devices it looked for

from app.runtime.device import choose_device
from app.runtime.runtime import Runtime

__all__ = ["Runtime", "choose_device"]
