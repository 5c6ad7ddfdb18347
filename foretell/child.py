"""One program run as a child of this process: watched while it starts, stopped in order, never left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

#: Seconds a child gets to stop by itself after SIGTERM.
STOP_SECONDS = 15.0
#: Seconds between two looks at a child that is starting.
POLL_SECONDS = 0.02
#: From <linux/prctl.h>: the signal a process gets when its parent thread ends.
PR_SET_PDEATHSIG = 1


class ChildError(Exception):
    """A child did not start. The message is one sentence with the end of its log."""


class Child:
    """A running program.

    Args:
        name: what people call it.
        command: program and arguments.
        folder: its working directory.
        log: file that gets its output; appended to.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, log: Path) -> None:
        self.name = name
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children when it is done with them
                preexec_fn=_tie_to_parent(),
            )

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    def wait_until(self, answers: Callable[[], bool], seconds: float) -> None:
        """Return once ``answers`` says so. Raises ChildError where the child ends or the time passes before."""
        deadline = time.monotonic() + seconds
        while not (answers() and self._process.poll() is None):
            if self._process.poll() is not None:
                raise ChildError(f"{self.name} ended while starting (see {self._log}): {self.last_words()}")
            if time.monotonic() > deadline:
                raise ChildError(f"{self.name} did not answer within {seconds:.0f} s; see {self._log}.")
            time.sleep(POLL_SECONDS)

    def last_words(self) -> str:
        """The last line it wrote since it was started."""
        with self._log.open("rb") as file:
            file.seek(self._log_start)
            lines = file.read().decode(errors="replace").strip().splitlines()
        return lines[-1].strip() if lines else "it said nothing."

    def stop(self) -> None:
        """Ask it to stop and wait; kill it where it takes longer than STOP_SECONDS."""
        self._process.terminate()
        try:
            self._process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()


def _tie_to_parent() -> Callable[[], None] | None:
    """What the child runs before its program: on Linux, ask for SIGTERM when the parent dies, however it dies.

    Elsewhere there is no such request; there a child outlives a parent that is killed hard.
    """
    if not sys.platform.startswith("linux"):
        return None
    libc = ctypes.CDLL(None, use_errno=True)  # looked up here: between fork and exec nothing may be imported
    parent = os.getpid()

    def tie() -> None:
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:  # it died before the request
            os.kill(os.getpid(), signal.SIGKILL)

    return tie
