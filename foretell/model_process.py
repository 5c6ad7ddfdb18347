"""The model process as its supervisor has it: started, started again when it dies, ended when nobody needs it."""

from __future__ import annotations

import multiprocessing
import os
import socket
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

import structlog

from app.apart import process as model

if TYPE_CHECKING:
    from app.settings import Settings

log = structlog.stdlib.get_logger(__name__)

#: Connections that wait to be taken: those of all workers, while no model process is there.
BACKLOG = 256
#: A process that dies is started again at once, but not more often than this.
AGAIN_SECONDS = 2.0
#: Seconds the process gets to end by itself when no worker is left.
STOP_SECONDS = 15.0


class ModelProcessError(Exception):
    """There can be no model process. The message is one sentence: what is wrong, and what to do."""


def apart(settings: Settings) -> bool:
    """Whether one process is to have the model for all workers."""
    if settings.workers == 1 or settings.model_process == "inside":
        return False
    if settings.model_process == "apart" or settings.device == "gpu":
        return True
    return settings.device == "auto" and gpu_here()


def gpu_here(devices: Path = Path("/dev")) -> bool:
    """Whether there seems to be a GPU: a device of NVIDIA's driver that is not hidden from us.

    TensorFlow would know, but takes seconds to ask, at every start and in a process more. Should the driver be there
    and TensorFlow not use it, one process computes for all on the CPU: slower, and right.
    """
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in {"", "-1"}:
        return False
    return any(devices.glob("nvidia[0-9]*")) or (devices / "dxg").exists()  # dxg: under Windows


class ModelProcess:
    """One model, and one process after the other that has it.

    The socket is the supervisor's, in a folder that nobody else can enter: a worker that connects while no process is
    there just waits, and those that wait are taken in their order.

    Attributes:
        retired: whether it is to end, and not to be started again.

    Raises:
        ModelProcessError: the socket cannot be made.
    """

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="foretell-model-")  # mode 0700
        self.address = Path(self._folder.name) / "socket"
        self._listener = socket.socket(socket.AF_UNIX)
        try:
            self._listener.bind(str(self.address))
        except OSError as error:
            self._put_away()
            raise ModelProcessError(
                f"The model's socket cannot be made at {self.address} ({error}): set TMPDIR to a shorter path."
            ) from error
        self._listener.listen(BACKLOG)
        self._version: str | None = None
        self.retired = False
        self._start()

    @property
    def ready(self) -> bool:
        """Whether a process of this model has been warm, ever."""
        if self._version is None:
            try:
                if self._said.poll():
                    self._version = str(self._said.recv())
            except (EOFError, OSError):
                return False
        return self._version is not None

    @property
    def failed(self) -> bool:
        """Whether the model cannot be started at all; the log has the sentence."""
        return not self.ready and self._process.exitcode == model.FAILED

    @property
    def alive(self) -> bool:
        """Whether its process runs."""
        return self._process.is_alive()

    def look_after(self) -> None:
        """Start it again where it has died; with the very version that it had, as its workers have no other."""
        if self.alive or self.retired or self.failed or time.monotonic() - self._started < AGAIN_SECONDS:
            return
        log.error("model_process_died", pid=self._process.pid, exit_code=self._process.exitcode)
        self._start()

    def retire(self) -> None:
        """Have it end as soon as no worker is connected."""
        self.retired = True
        if self.alive:
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        self.retired = True
        self._process.kill()

    def close(self) -> None:
        """Wait for its end, and take the socket away."""
        self._process.join(STOP_SECONDS)
        self._process.kill()
        self._process.join()
        self._put_away()
        log.info("model_process_ended", pid=self._process.pid)

    def _put_away(self) -> None:
        self._listener.close()
        self._folder.cleanup()

    def _start(self) -> None:
        spawn = multiprocessing.get_context("spawn")
        self._said, theirs = spawn.Pipe(duplex=False)
        self._process = spawn.Process(target=model.run, args=(self._listener, theirs, self._version), name="model")
        self._started = time.monotonic()
        self._process.start()
        theirs.close()
