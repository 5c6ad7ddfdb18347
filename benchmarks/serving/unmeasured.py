"""The service with every metric replaced by nothing: what instrumentation costs is what this is faster by.

``uvicorn --factory benchmarks.serving.unmeasured:create_app``
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from fastapi import FastAPI
from prometheus_client.metrics import MetricWrapperBase

import app.main
from app.metrics import Metrics


class Nothing:
    """Takes the calls of a collector."""

    def labels(self, *values: Any, **named: Any) -> Nothing:
        """Itself: there is nothing to tell apart."""
        return self

    def inc(self, amount: float = 1) -> None:
        """Counts nothing."""

    dec = set = observe = inc


class NoMetrics(Metrics):
    """Metrics whose collectors do nothing, and whose stages are not timed."""

    def __init__(self) -> None:
        super().__init__()
        for name, collector in vars(self).items():
            if isinstance(collector, MetricWrapperBase):
                setattr(self, name, Nothing())

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Counts nothing."""

    def looked_up(self, outcome: str) -> None:
        """Counts nothing."""

    def stage(self, name: str) -> AbstractContextManager[None]:
        """Times nothing."""
        return nullcontext()


def create_app() -> FastAPI:
    """The service, as :func:`app.main.create_app` makes it, without metrics."""
    app.main.Metrics = NoMetrics  # type: ignore[attr-defined]
    return app.main.create_app()
