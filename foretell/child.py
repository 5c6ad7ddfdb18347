"""One program run as a child of this process: watched while it starts, stopped in order, never left behind."""

from __future__ import annotations

import ctypes
import fcntl
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import IO

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

    Beside the log lies its pid file, locked for as long as the program lives: it inherits the lock. So a program that
    a parent killed hard has left behind is found by the next one, and stopped before another is started.

    Args:
        name: what people call it.
        command: program and arguments.
        folder: its working directory.
        log: file that gets its output; appended to.

    Raises:
        ChildError: one of an earlier parent does not stop.
    """

    def __init__(self, name: str, command: Sequence[str], folder: Path, log: Path) -> None:
        self.name = name
        self._log = log
        self._log_start = log.stat().st_size if log.exists() else 0
        with _claim(name, log.with_suffix(".pid")) as pid_file, log.open("ab") as output:
            self._process = subprocess.Popen(
                command,
                cwd=folder,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # Ctrl-C is for the parent, which stops its children when it is done with them
                pass_fds=[pid_file.fileno()],
                preexec_fn=_tie_to_parent(),
            )
            pid_file.write(str(self._process.pid))

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
        """Ask it to stop and wait; kill it after STOP_SECONDS, or at once where a signal cuts the wait short."""
        self._process.terminate()
        try:
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(STOP_SECONDS)
        finally:
            self._process.kill()  # does nothing where it has ended
            self._process.wait()


def _claim(name: str, path: Path) -> IO[str]:
    """The pid file, empty and locked for the child that is to inherit it; a leftover that holds it is stopped."""
    file = path.open("a+", encoding="ascii")
    try:
        if not _lock(file):
            _stop_leftover(name, file)
        file.truncate(0)
    except BaseException:  # a signal while the leftover stops
        file.close()
        raise
    return file


def _stop_leftover(name: str, file: IO[str]) -> None:
    file.seek(0)
    pid = file.read()
    for number in (signal.SIGTERM, signal.SIGKILL) if pid else ():
        with suppress(ProcessLookupError):  # it has ended; what it has started itself ends soon
            os.kill(int(pid), number)
        deadline = time.monotonic() + STOP_SECONDS
        while time.monotonic() < deadline:
            if _lock(file):
                return
            time.sleep(POLL_SECONDS)
    raise ChildError(f"{name} still runs from an earlier time (process {pid or 'unknown'}, {file.name}); stop it.")


def _lock(file: IO[str]) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _tie_to_parent() -> Callable[[], None] | None:
    """What the child runs before its program: on Linux, ask for SIGTERM when the parent dies, however it dies.

    Elsewhere there is no such request; there a child outlives a parent that is killed hard, until the next one comes.
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
