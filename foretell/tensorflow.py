"""Imports TensorFlow for the offline commands without its start-up chatter; call before importing networks."""

from __future__ import annotations

from models.cuda import load_libraries
from models.quiet import quiet_start


def load() -> None:
    """Import TensorFlow and let it look at its devices."""
    with quiet_start():
        load_libraries()
        import tensorflow as tf

        tf.config.list_physical_devices()
