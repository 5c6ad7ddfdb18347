"""``foretell serve`` with two workers and a model process, on the CPU: the whole life of the three."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any
from uuid import uuid4

import pytest

from benchmarks.serving.processes import tree
from foretell.embedded import EmbeddedStores
from models.artifact import open_artifact
from tests.e2e.conftest import ROOT, SAVED

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks at processes in /proc")


@dataclass
class Service:
    """The running service, its address, and its log as far as it has been read."""

    process: subprocess.Popen[str]
    base: str
    log: IO[str]
    temporary: Path

    def read_until(self, words: str, times: int) -> None:
        """Wait for so many lines of the log with these words."""
        for line in self.log:
            times -= words in line
            if not times:
                return
        raise AssertionError(f"the service ended before it said {words!r}")

    def call(self, path: str, body: object = None) -> tuple[int, dict[str, Any], str | None]:
        """Status, JSON and Retry-After of an answer."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.base + path, data, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=30) as reply:
                return reply.status, json.loads(reply.read()), None
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read()), error.headers["Retry-After"]

    def predict(self, user: str, **request: object) -> dict[str, Any]:
        """An answer that must be fine."""
        status, answer, _ = self.call("/predict", {"user_id": user, "k": 3, **request})
        assert status == 200, answer
        return answer

    def processes(self) -> tuple[set[int], set[int]]:
        """Those that have loaded TensorFlow, and the others."""
        found = {pid: "tensorflow" in Path(f"/proc/{pid}/maps").read_text() for pid in tree(self.process.pid)}
        return {pid for pid, has in found.items() if has}, {pid for pid, has in found.items() if not has}


@pytest.fixture(scope="module")
def service(stores: EmbeddedStores, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    temporary = tmp_path_factory.mktemp("t")
    clean = {name: value for name, value in os.environ.items() if not name.startswith("FORETELL_")}
    env = {
        "MONGO_URL": stores.mongo_url,
        "MONGO_DATABASE": f"test_{uuid4().hex[:16]}",
        "REDIS_URL": stores.redis_url,
        "MODEL_ROOT": str(SAVED),
        "MODEL_PROCESS": "apart",
        "XLA": "false",
        "PORT": "0",
        "WORKERS": "2",
        "DRAIN_SECONDS": "0",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", "from foretell.cli import main; main()", "serve"],
        cwd=ROOT,
        env=clean | {f"FORETELL_{name}": value for name, value in env.items()} | {"TMPDIR": str(temporary)},
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        service = Service(process, "", process.stderr, temporary)
        line = next(line for line in process.stderr if "workers start on" in line)
        service.base = line.split("workers start on ")[1].split()[0]
        service.read_until("Application startup complete", 2)
        yield service
    finally:
        process.kill()
        process.wait()
        process.stderr.close()


def test_one_process_has_the_model_and_those_that_answer_have_no_tensorflow(service: Service) -> None:
    with_model, others = service.processes()
    assert len(with_model) == 1
    assert len(others) >= 3  # the supervisor and two workers
    [folder] = service.temporary.glob("foretell-model-*")
    assert folder.stat().st_mode & 0o777 == 0o700


def test_it_predicts_caches_heeds_events_and_explains(service: Service) -> None:
    user, item = f"u-{uuid4().hex}", open_artifact(SAVED, "storefront").vocabulary.item_name(7)
    assert service.predict(user)["provenance"]["state"] == "anonymous"
    event = {"event_id": uuid4().hex, "user_id": user, "item_id": item, "type": "click"}
    assert service.call("/events", {"events": [event]})[0] in {200, 202}
    assert service.predict(user)["provenance"]["state"] == "computed"
    assert [service.predict(user)["provenance"]["state"] for _ in range(4)] == ["cached"] * 4
    answer = service.predict(user, items=[item], explain=True)
    assert answer["provenance"]["degraded"] == []
    assert answer["predictions"][0]["explanation"]
    assert all(place["explanation"] for place in answer["recommendations"])
    until = time.monotonic() + 30
    while not _batches(service, "encode") and time.monotonic() < until:
        pass  # another process counts those, and says so within a second
    assert _batches(service, "encode") >= 1


def _batches(service: Service, op: str) -> float:
    """Batches computed so far, as a scrape says."""
    with urllib.request.urlopen(service.base + "/metrics", timeout=30) as reply:
        lines = reply.read().decode().splitlines()
    [line] = [line for line in lines if f'batch_size_count{{op="{op}"}}' in line]
    return float(line.split()[1])


def test_a_model_process_that_is_killed_is_503_at_once_and_200_again_with_the_same_workers(service: Service) -> None:
    [model], others = service.processes()
    os.kill(model, signal.SIGKILL)
    service.read_until("model_lost", 2)
    for path, body in (("/predict", {"user_id": "u"}), ("/health/ready", None)):
        status, answer, again = service.call(path, body)
        assert (status, answer["error"], again) == (503, "model_unavailable", "5")
    assert service.call("/health/live")[0] == 200
    service.read_until("model_back", 2)
    assert service.predict("u")["recommendations"]
    assert service.call("/health/ready")[0] == 200
    [another], same = service.processes()
    assert another != model
    assert same >= others


def test_sighup_replaces_model_and_workers_and_no_request_fails(service: Service) -> None:
    [model], before = service.processes()
    service.process.send_signal(signal.SIGHUP)
    service.read_until("model_process_replaced", 1)
    for _ in range(2):
        service.read_until("Application startup complete", 1)
        assert service.predict("u")["recommendations"]
    service.read_until("Finished server process", 1)
    assert service.predict("u")["recommendations"]
    service.read_until("model_process_ended", 1)
    [another], after = service.processes()
    assert another != model
    assert len(before & after) == 2  # the supervisor and its resource tracker


def test_sigterm_ends_the_workers_and_then_the_model(service: Service) -> None:
    service.process.terminate()
    log = service.log.read()
    assert service.process.wait(30) == 0
    assert log.count("Finished server process") == 2
    assert log.rindex("Finished server process") < log.rindex("model_process_ended")
    assert "Traceback" not in log
    assert "model_lost" not in log
    assert not list(service.temporary.glob("foretell-*"))
