"""Where the model runs."""

from __future__ import annotations

import os
from contextlib import suppress

import tensorflow as tf

from app.errors import StartupError


def share_cores(workers: int) -> int:
    """Give TensorFlow its share of the cores where ``workers`` processes serve, and say how many that are.

    Left alone, each process has a thread for every core, twice. With as many workers as cores these take each other's
    time, and a prediction costs twice the processor (docs/decisions/0012). A process that has computed keeps its share.
    """
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    share = max(1, cores // workers)
    with suppress(RuntimeError):
        tf.config.threading.set_inter_op_parallelism_threads(1)
        tf.config.threading.set_intra_op_parallelism_threads(share)
    return share


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
