"""Servers under test: started as children, waited for until they answer, stopped with all that they started."""

from __future__ import annotations

import os
import signal
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from benchmarks.serving.wrk import BODY, BenchmarkError
from foretell.child import Child, ChildError

START_SECONDS = 180.0


@dataclass(frozen=True, slots=True)
class Running:
    """A server that answers: the address of its question, its process, and how long its start took."""

    url: str
    pid: int
    ready_seconds: float

    @property
    def base(self) -> str:
        """Its address without a path."""
        return self.url.rsplit("/", 1)[0]


@contextmanager
def serving(
    name: str,
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    path: str = "/predict",
    body: str = BODY,
) -> Iterator[Running]:
    """Run a server while the context lasts; ``{port}`` in the command is a free port.

    Raises:
        BenchmarkError: it ended, or answered nothing with 200 in START_SECONDS.
    """
    port = str(free_port())
    url, began = f"http://127.0.0.1:{port}{path}", time.monotonic()
    settings = [f"{key}={value}" for key, value in environment.items()]
    argv = ["/usr/bin/env", *settings, *(part.replace("{port}", port) for part in command)]
    try:
        child = Child(name, argv, folder, folder / f"{name}.log")
        try:
            child.wait_until(lambda: answers(url, body % 0), START_SECONDS)
            yield Running(url, child.pid, time.monotonic() - began)
        finally:
            try:
                child.stop()
            finally:  # the child led a group of its own; what it left behind goes too
                with suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
    except ChildError as error:
        raise BenchmarkError(str(error)) from error


def answers(url: str, body: str) -> bool:
    """Whether a question is answered with 200."""
    return post(url, body) is not None


def post(url: str, body: str) -> bytes | None:
    """The answer to a question; None where there is none, or not with 200."""
    question = urllib.request.Request(url, body.encode(), {"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(question, timeout=10) as reply:
            return bytes(reply.read())
    except (urllib.error.URLError, OSError):
        return None


def get(url: str) -> bytes:
    """What a page holds."""
    with urllib.request.urlopen(url, timeout=30) as reply:
        return bytes(reply.read())


def free_port() -> int:
    """A port nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
