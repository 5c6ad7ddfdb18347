"""Who goes first where processors are short: the event loop, which everybody waits for, before the model."""

from __future__ import annotations

import os
import sys
import threading
from concurrent.futures import ThreadPoolExecutor


def behind(name: str, niceness: int) -> ThreadPoolExecutor:
    """One thread for the model's work, which stands back."""
    return ThreadPoolExecutor(1, name, initializer=stand_back, initargs=(niceness,))


def stand_back(niceness: int) -> None:
    """Lower the priority of this thread, and of those that it starts, by ``niceness`` below the process's own.

    A loop that waits for a processor lets nobody in, sends nobody away and hands the model nothing to do; the model
    catches up in larger batches. Linux alone has priorities of threads; elsewhere nothing is done.
    """
    if sys.platform == "linux":
        wanted = min(os.getpriority(os.PRIO_PROCESS, os.getpid()) + niceness, 19)
        thread = threading.get_native_id()
        if wanted > os.getpriority(os.PRIO_PROCESS, thread):  # to go back up takes a privilege
            os.setpriority(os.PRIO_PROCESS, thread, wanted)
