"""The supervisor of workers that share one model process."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

import structlog
import uvicorn

from app.apart import ADDRESS
from foretell.model_process import ModelProcess
from foretell.server import Supervisor

log = structlog.stdlib.get_logger(__name__)


class ApartSupervisor(Supervisor):
    """Workers that answer HTTP, and the process that has their model.

    Both are started at once. SIGHUP starts another model process, with the newest version of the model, and when that
    is warm replaces the workers one by one by such that ask it. The model process is the last to end.

    Raises:
        ModelProcessError: there can be no model process.
    """

    def __init__(self, config: uvicorn.Config, sockets: Sequence[socket.socket]) -> None:
        super().__init__(config, list(sockets))
        self._model = ModelProcess()
        self._coming: ModelProcess | None = None
        self._going: list[ModelProcess] = []

    @property
    def failed(self) -> bool:
        """Whether the start of a worker or of the model failed."""
        return super().failed or self._model.failed

    def init_processes(self) -> None:
        """Start the workers; the model process has been started."""
        os.environ[ADDRESS] = str(self._model.address)
        super().init_processes()

    def keep_subprocess_alive(self) -> None:
        """Start again what has died, and move the workers to another model when it is warm."""
        super().keep_subprocess_alive()
        if self._model.failed:
            self.should_exit.set()
        if self.should_exit.is_set():
            return
        for model in (self._model, *self._going):
            model.look_after()
        for model in [gone for gone in self._going if gone.retired and not gone.alive]:
            model.close()
            self._going.remove(model)
        self._see_who_comes()

    def handle_hup(self) -> None:
        """Replace the model process, then the workers."""
        if self._coming is None:
            log.info("model_process_replaced")
            self._coming = ModelProcess()

    def terminate_all(self) -> None:
        """Have the workers end; where none has served yet, at once, for they wait for the model."""
        if not self._model.ready:
            for worker in self.processes:
                worker.process.kill()
        super().terminate_all()

    def join_all(self) -> None:
        """Wait for the workers, then end the model processes."""
        super().join_all()
        os.environ.pop(ADDRESS, None)
        for model in filter(None, (self._model, self._coming, *self._going)):
            if model.ready:
                model.retire()
            else:
                model.kill()
            model.close()

    def _see_who_comes(self) -> None:
        if self._coming is None:
            return
        if self._coming.ready:
            coming, self._coming = self._coming, None
            self._move(coming)
        elif not self._coming.alive:
            log.error("model_process_kept", reason="the one to replace it has not become ready")
            self._coming.close()
            self._coming = None

    def _move(self, coming: ModelProcess) -> None:
        """Replace the workers by such that ask another model; where one does not become ready, the rest stay."""
        before, leaving = list(self.processes), self._model
        os.environ[ADDRESS] = str(coming.address)
        self.restart_all()
        stayed = [worker for worker in before if worker in self.processes]
        if stayed == before:
            os.environ[ADDRESS] = str(leaving.address)
            self._going.append(coming)
            coming.retire()
            return
        self._model = coming
        self._going.append(leaving)
        if not stayed:
            for model in self._going:
                model.retire()
