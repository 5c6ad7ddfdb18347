"""The file of keys as it is now: a task looks once a second whether it has changed."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Self

import structlog

from app.keys import Key, KeysError, read_keys

log = structlog.get_logger(__name__)

#: Between two looks at the file.
SECONDS = 1.0

_Mark = tuple[int, int, int, int] | None


class KeyFile:
    """Keys by their ids. Use it as an async context; a changed file counts within a second, without a restart.

    A file that has gone or is wrong changes nothing: the last good keys stay, the log says why, ``on_failure`` is
    called. To withdraw every key, leave the file empty.

    Raises:
        KeysError: on creation, where the file cannot be used.
    """

    def __init__(self, path: Path, on_failure: Callable[[], None] = lambda: None, seconds: float = SECONDS) -> None:
        self._path = path
        self._on_failure = on_failure
        self._seconds = seconds
        self._mark = _mark(path)
        self.keys: Mapping[str, Key] = read_keys(path)
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._watch())
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        assert self._task is not None
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def look(self) -> None:
        """Read the file again, if it has changed."""
        mark = await asyncio.to_thread(_mark, self._path)
        if mark == self._mark:
            return
        before, self._mark = self._mark, mark
        try:
            self.keys = await asyncio.to_thread(read_keys, self._path)
        except KeysError as error:
            if mark is not None and isinstance(error.__cause__, OSError):
                self._mark = before  # there, but not to be read: that may pass without a change
            log.error("keys_unchanged", reason=str(error))
            self._on_failure()
        else:
            log.info("keys_read", keys=len(self.keys))

    async def _watch(self) -> None:
        """Until cancelled. No error ends it: that keys are not withdrawn any more would go unnoticed."""
        while True:
            await asyncio.sleep(self._seconds)
            try:
                await self.look()
            except Exception:
                log.exception("keys_not_looked_at")
                self._on_failure()


def _mark(path: Path) -> _Mark:
    """What changes when the file does, also where a link is moved to another one; None where there is none."""
    try:
        stat = os.stat(path)
    except OSError:
        return None
    return stat.st_mtime_ns, stat.st_ctime_ns, stat.st_size, stat.st_ino
