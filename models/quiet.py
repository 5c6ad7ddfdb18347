"""Keeps off the screen what native libraries write to stderr while they load."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def quiet_start() -> Iterator[None]:
    """Hold back the process's stderr; if the block fails, everything that was held back is shown after all.

    For ``import tensorflow`` and the first look at its devices. TF_CPP_MIN_LOG_LEVEL=0 shows all of it as it comes.
    """
    if os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3") == "0":
        yield
        return
    sys.stderr.flush()
    screen = os.dup(2)
    with tempfile.TemporaryFile() as held:
        os.dup2(held.fileno(), 2)
        try:
            yield
        except BaseException:
            os.dup2(screen, 2)
            held.seek(0)
            os.write(2, held.read())
            raise
        finally:
            os.dup2(screen, 2)
            os.close(screen)
