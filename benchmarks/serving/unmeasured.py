"""The service with metrics that can be switched off while it runs: what they cost is what it is faster by then.

One process does both, for two starts of one program differ by more than that. ``uvicorn --factory
benchmarks.serving.unmeasured:create_app``; the first byte of the file ``BENCH_SWITCH`` says whether metrics are on.
"""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, nullcontext
from mmap import ACCESS_READ, mmap
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics import MetricWrapperBase

import app.main
from app.metrics import Metrics


class Switch:
    """A file's first byte, for all who have it open."""

    def __init__(self, path: Path) -> None:
        with path.open("rb") as file:
            self._bytes = mmap(file.fileno(), 1, access=ACCESS_READ)

    @staticmethod
    def turn(path: Path, on: bool) -> None:
        """Switch on or off; the file is made where it is missing."""
        path.touch()
        with path.open("r+b") as file:
            file.write(bytes([on]))

    def on(self) -> bool:
        """Whether it is on."""
        return bool(self._bytes[0])


class Switched:
    """A collector that counts while the switch is on."""

    def __init__(self, collector: Any, switch: Switch) -> None:
        self._collector = collector
        self._switch = switch

    def labels(self, *values: Any, **named: Any) -> Switched:
        """The collector of these labels."""
        return Switched(self._collector.labels(*values, **named), self._switch)

    def inc(self, amount: float = 1) -> None:
        """So much more."""
        if self._switch.on():
            self._collector.inc(amount)

    def dec(self, amount: float = 1) -> None:
        """So much less."""
        if self._switch.on():
            self._collector.dec(amount)

    def set(self, value: float) -> None:
        """Exactly so much."""
        if self._switch.on():
            self._collector.set(value)

    def observe(self, value: float) -> None:
        """One more observation."""
        if self._switch.on():
            self._collector.observe(value)


class SwitchedMetrics(Metrics):
    """Metrics that do nothing while the switch is off, and time no stages."""

    def __init__(self) -> None:
        super().__init__()
        self._switch = Switch(Path(os.environ["BENCH_SWITCH"]))
        for name, collector in list(vars(self).items()):
            if isinstance(collector, MetricWrapperBase):
                setattr(self, name, Switched(collector, self._switch))

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """See :class:`app.metrics.Metrics`."""
        if self._switch.on():
            super().answered(route, method, status, seconds)

    def looked_up(self, outcome: str) -> None:
        """See :class:`app.metrics.Metrics`."""
        if self._switch.on():
            super().looked_up(outcome)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """See :class:`app.metrics.Metrics`."""
        return super().stage(name) if self._switch.on() else nullcontext()


def create_app() -> FastAPI:
    """The service, as :func:`app.main.create_app` makes it, with metrics that can be switched."""
    app.main.Metrics = SwitchedMetrics  # type: ignore[attr-defined]
    return app.main.create_app()
