"""What is measured against what: command and settings of every server, and the variants a peer is tuned among."""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.environments import ROOT, environment
from benchmarks.serving.wrk import BODY

BIN = Path(sys.executable).parent
UVICORN = ["--host", "127.0.0.1", "--port", "{port}", "--loop", "uvloop", "--http", "httptools"]
UVICORN += ["--no-access-log", "--log-level", "warning"]
#: Server processes: one for each of two cores.
WORKERS = 2


@dataclass(frozen=True, slots=True)
class System:
    """A server: how it is started, and how it is asked."""

    name: str
    command: Sequence[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    path: str = "/predict"
    body: str = BODY
    settings: str = ""


def foretell(**settings: object) -> System:
    """The service as it is shipped, through ``foretell serve``."""
    command = [str(BIN / "foretell"), "serve", "--port", "{port}", "--workers", str(WORKERS)]
    given = {f"FORETELL_{name.upper()}": str(value) for name, value in settings.items()}
    return System("foretell", command, {"FORETELL_CATALOGUE_REFRESH_SECONDS": "3600", **given})


def switched(switch: Path, shared: Path) -> System:
    """The service under plain uvicorn, with metrics that ``switch`` turns off; its workers share them in ``shared``."""
    factory = "benchmarks.serving.unmeasured:create_app"
    command = [str(BIN / "uvicorn"), "--factory", factory, "--workers", str(WORKERS), *UVICORN]
    environment = {"BENCH_SWITCH": str(switch), "PROMETHEUS_MULTIPROC_DIR": str(shared), "PYTHONPATH": str(ROOT)}
    return System("switched", command, environment)


def bare() -> System:
    """HTTP, one Redis read and JSON: no model."""
    command = [str(BIN / "uvicorn"), "benchmarks.serving.bare:app", "--workers", str(WORKERS), *UVICORN]
    return System("http", command, {"PYTHONPATH": str(ROOT)})


def peers(names: Sequence[str]) -> dict[str, list[System]]:
    """By name the variants of each peer, of which the best is compared with. Raises BenchmarkError."""
    return {name: PEERS[name](environment(name)) for name in names}


def _variant(name: str, command: Sequence[str], settings: Mapping[str, object]) -> System:
    given = {f"BENCH_{key.upper()}": str(value) for key, value in settings.items()}
    said = ", ".join(f"{key}={value}" for key, value in settings.items())
    common = {"PYTHONPATH": str(ROOT), "TF_CPP_MIN_LOG_LEVEL": "3", "CUDA_VISIBLE_DEVICES": "-1"}
    return System(name, command, common | given, settings=said)


def _fastapi(where: Path) -> list[System]:
    return [
        _variant(
            "fastapi",
            [str(where / "uvicorn"), "benchmarks.serving.peers.plain:app", "--workers", str(workers), *UVICORN],
            {"style": style, "workers": workers, "threads": threads},
        )
        for style, workers, threads in (("inline", 2, 1), ("threads", 2, 1), ("threads", 1, 2))
    ]


def _litserve(where: Path) -> list[System]:
    command = [str(where / "python"), "-m", "benchmarks.serving.peers.lit", "{port}"]
    return [
        _variant(
            "litserve", command, {"workers": workers, "servers": servers, "wait": wait, "threads": 1, "queue": queue}
        )
        for workers, servers, wait, queue in (
            (1, 1, 0.002, "mp"),
            (1, 2, 0.002, "mp"),
            (1, 1, 0.002, "zmq"),
            (1, 2, 0.002, "zmq"),
            (2, 1, 0.005, "zmq"),
            (1, 2, 0.01, "zmq"),
        )
    ]


def _bentoml(where: Path) -> list[System]:
    command = [str(where / "bentoml"), "serve", "benchmarks.serving.peers.bento:Peer", "--port", "{port}"]
    home = {"BENTOML_HOME": str(where.parent / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    path = {"PATH": f"{where}:/usr/bin:/bin"}
    body = '{"users":[{"user_id":"u%d","k":20}]}'
    variants = [
        _variant("bentoml", command, {"workers": workers, "wait": wait, "threads": threads})
        for workers, wait, threads in ((1, 1000, 1), (2, 1000, 1), (1, 100, 2))
    ]
    return [
        System(v.name, v.command, {**v.environment, **home, **path}, body=body, settings=v.settings) for v in variants
    ]


PEERS = {"fastapi": _fastapi, "litserve": _litserve, "bentoml": _bentoml}
