"""The service of an image, started, questioned and stopped from outside."""

from __future__ import annotations

import http.client
import json
import os
import signal
import socket
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any, Self

from buildah import Buildah, CheckError
from pymongo import MongoClient

READY_SECONDS = 180.0
STOP_SECONDS = 30.0


def seed(buildah: Buildah, image: str, urls: Mapping[str, str]) -> str:
    """Run the image that loads the demo data; returns a user who has events."""
    with buildah.container(image) as container:
        command = buildah.run(container, buildah.configuration(image)["Cmd"], urls)
        if subprocess.run(command, check=False).returncode != 0:
            raise CheckError("The demo image could not load its data; see above.")
    with MongoClient[dict[str, Any]](urls["FORETELL_MONGO_URL"]) as client:
        event = client["foretell"]["events"].find_one({})
    if event is None:
        raise CheckError("The demo image ended well but MongoDB holds no events.")
    return str(event["user_id"])


class Service(AbstractContextManager["Service"]):
    """One run of an image's own command on a free port of the loopback address; leaving the context ends it."""

    def __init__(self, buildah: Buildah, image: str, container: str, urls: Mapping[str, str]) -> None:
        self._buildah, self._container = buildah, container
        self._configuration = buildah.configuration(image)
        with socket.create_server(("127.0.0.1", 0)) as probe:
            self._port: int = probe.getsockname()[1]
        self._environment = {**urls, "FORETELL_HOST": "127.0.0.1", "FORETELL_PORT": str(self._port)}
        self._run: subprocess.Popen[bytes]

    def __enter__(self) -> Self:
        words = self._configuration["Cmd"]
        self._run = subprocess.Popen(self._buildah.run(self._container, words, self._environment))
        return self

    def __exit__(self, *_: object) -> None:
        for process in reversed([self._run.pid, *_descendants(self._run.pid)]):
            with suppress(ProcessLookupError):
                os.kill(process, signal.SIGKILL)
        self._run.wait()

    def wait_until_ready(self) -> None:
        """Wait until the service says that it is ready."""
        deadline = time.monotonic() + READY_SECONDS
        while not self._ready():
            if self._run.poll() is not None:
                raise CheckError(f"The service ended with exit code {self._run.returncode} before it was ready.")
            if time.monotonic() > deadline:
                raise CheckError(f"The service was not ready within {READY_SECONDS:.0f} s.")
            time.sleep(0.25)

    def user(self) -> int:
        """The number of the user that the service runs as, by the kernel's word."""
        status = Path(f"/proc/{self._server()}/status").read_text()
        uid = int(next(line for line in status.splitlines() if line.startswith("Uid:")).split()[1])
        if uid == 0:
            raise CheckError("The service runs as root.")
        return uid

    def predict(self, user: str, state: str) -> str:
        """Ask for five recommendations; says in a few words what came, once it is all right."""
        status, answer = self._ask("POST", "/predict", {"user_id": user, "k": 5})
        if status != 200:
            raise CheckError(f"POST /predict answered {status}: {answer}")
        ranked, provenance = answer["recommendations"], answer["provenance"]
        scores = [item["score"] for item in ranked]
        chances = [item["probabilities"][name] for item in ranked for name in ("click", "purchase")]
        if len(ranked) != 5 or scores != sorted(scores, reverse=True) or not all(0 < p < 1 for p in chances):
            raise CheckError(f"POST /predict answered something else than five ranked items: {answer}")
        if provenance["state"] != state or provenance["history"] < 1 or provenance["degraded"]:
            raise CheckError(f"The answer should be {state}, from a history and whole, but says {provenance}.")
        return f"{len(ranked)} items, {provenance['state']}, history {provenance['history']}, {answer['took_ms']} ms"

    def check_health(self) -> str:
        """Run the image's own health check in the container."""
        kind, *words = self._configuration["Healthcheck"]["Test"]
        command = self._buildah.run(self._container, words, self._environment)
        if kind != "CMD" or subprocess.run(command, check=False).returncode != 0:
            raise CheckError("The image's health check finds a ready service unhealthy.")
        return "healthy"

    def stop(self) -> str:
        """Send SIGTERM to the service; says how long it took to end."""
        start = time.monotonic()
        os.kill(self._server(), signal.SIGTERM)
        try:
            code = self._run.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired as error:
            raise CheckError(f"The service did not end within {STOP_SECONDS:.0f} s of SIGTERM.") from error
        if code != 0:
            raise CheckError(f"The service ended with exit code {code} on SIGTERM, not 0.")
        return f"{time.monotonic() - start:.1f} s"

    def check_nothing_written(self) -> str:
        """A read-only root file system suffices: the service's user owns nothing outside /tmp but the empty folder
        that a volume of keys is mounted on."""
        user = self._configuration["User"].split(":")[0]
        with self._buildah.root(self._container) as root:
            spared = f"( -path {root}/tmp -o -path {root}/srv/foretell/keys -empty ) -prune".split()
            find = ["find", str(root), "-xdev", *spared, "-o", "-uid", user, "-print"]
            written = subprocess.run(find, capture_output=True, text=True, check=True).stdout.split()
        if written:
            raise CheckError(f"The service wrote outside /tmp, for instance {written[0]}.")
        return "none"

    def _server(self) -> int:
        """The process of the service itself: the last in line after buildah and its helpers for the isolation."""
        return list(_descendants(self._run.pid))[-1]

    def _ready(self) -> bool:
        try:
            return self._ask("GET", "/health/ready")[0] == 200
        except OSError:
            return False

    def _ask(self, method: str, path: str, body: object = None) -> tuple[int, Any]:
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            content = None if body is None else json.dumps(body)
            connection.request(method, path, content, {"Content-Type": "application/json"})
            answer = connection.getresponse()
            return answer.status, json.loads(answer.read())
        finally:
            connection.close()


def _descendants(pid: int) -> Iterator[int]:
    """The children of a process, whichever of its threads had them, and theirs; none once it has ended."""
    for task in Path("/proc").glob(f"{pid}/task/*/children"):
        with suppress(FileNotFoundError, ProcessLookupError):
            for child in map(int, task.read_text().split()):
                yield child
                yield from _descendants(child)
