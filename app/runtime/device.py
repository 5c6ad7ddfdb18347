"""Where the model runs."""

from __future__ import annotations

import tensorflow as tf

from app.errors import StartupError


def choose_device(wanted: str) -> str:
    """Make the GPU or the CPU the device of this process and say which it is, e.g. ``gpu:0 NVIDIA H100`` or ``cpu``.

    GPU memory is allocated as needed. Raises StartupError where a GPU is asked for and TensorFlow finds none.
    """
    gpus = tf.config.list_physical_devices("GPU")
    if wanted == "gpu" and not gpus:
        raise StartupError(
            "FORETELL_DEVICE is gpu, but TensorFlow finds no GPU: install the `gpu` extra and the driver, "
            "or set FORETELL_DEVICE=auto."
        )
    if wanted == "cpu" or not gpus:
        tf.config.set_visible_devices([], "GPU")
        return "cpu"
    for gpu in gpus:
        tf.config.experimental.set_memory_growth(gpu, True)
    # TF32, TensorFlow's default from Ampere on, keeps 10 of a float32's 23 bits in matrix products. But golden examples
    # are recorded on a CPU and must come out within 1e-4, and what is served must be what was evaluated.
    tf.config.experimental.enable_tensor_float_32_execution(False)
    name = tf.config.experimental.get_device_details(gpus[0]).get("device_name", "GPU")
    return f"gpu:0 {name}"
