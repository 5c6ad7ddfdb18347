"""Every Prometheus collector of the service, on one screen.

A :class:`Metrics` owns its registry, so two applications in one process never share a counter. With several
worker processes (PROMETHEUS_MULTIPROC_DIR, set by ``foretell serve``) one scrape sums over all of them.
"""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import AsyncIterator
from contextlib import AbstractContextManager, asynccontextmanager, suppress
from functools import cache

from prometheus_client import CollectorRegistry, generate_latest, values
from prometheus_client.multiprocess import MultiProcessCollector, mark_process_dead

from app.collectors import Counter, Gauge, Histogram, Later

if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
    # The client library asks the kernel for the process id at each increment, lest the program has forked meanwhile.
    # Workers are spawned, and each imports this file.
    PID = os.getpid()
    values.ValueClass = values.MultiProcessValue(process_identifier=lambda: PID)  # type: ignore[no-untyped-call]

#: Seconds after which the scrapes of all workers know what one has counted.
LATER = 1.0
#: Seconds, from a cache hit to the deadline.
SECONDS = (0.0005, 0.001, 0.002, 0.004, 0.008, 0.016, 0.032, 0.064, 0.128, 0.256, 0.512, 1.024, 2.048)
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)


class _Stopwatch:
    """Tells a histogram how long its block took. A class, for it is entered five times a request."""

    __slots__ = ("_histogram", "_start")

    def __init__(self, histogram: Histogram) -> None:
        self._histogram = histogram

    def __enter__(self) -> None:
        self._start = time.perf_counter()

    def __exit__(self, *error: object) -> None:
        self._histogram.observe(time.perf_counter() - self._start)


class Metrics:
    """The collectors. Labels are bounded: route templates, never paths; no user or item ids."""

    def __init__(self) -> None:
        r = self.registry = CollectorRegistry()
        self.requests = Counter(
            "foretell_http_requests", "Requests answered.", ["route", "method", "status"], registry=r
        )
        self.latency = Histogram(
            "foretell_http_request_seconds",
            "Time to answer.",
            ["route", "method"],
            buckets=SECONDS,
            registry=r,
        )
        self.in_flight = Gauge(
            "foretell_http_requests_in_flight",
            "Requests being answered.",
            registry=r,
            multiprocess_mode="livesum",
        )
        self.stages = Histogram(
            "foretell_stage_seconds",
            "Time of one stage of a prediction: cache, history, encode, recommend, score, rank or explain.",
            ["stage"],
            buckets=SECONDS,
            registry=r,
        )
        self.lookups = Counter(
            "foretell_state_lookups",
            "Lookups of a cached state: hit, miss, stale or bypass.",
            ["outcome"],
            registry=r,
        )
        self.degraded = Counter(
            "foretell_degraded",
            "Answers given without a part: cache, history, explanation, or limits (counted by one process alone).",
            ["part"],
            registry=r,
        )
        self.refused = Counter(
            "foretell_refused",
            "Requests refused for their key: missing, wrong, expired, scope or limit.",
            ["reason"],
            registry=r,
        )
        self.keys_failures = Counter(
            "foretell_keys_reload_failures", "Changed files of keys that could not be used.", registry=r
        )
        self.erasures = Counter("foretell_erasures", "Users erased.", registry=r)
        self.events = Counter(
            "foretell_events",
            "Events received: accepted, duplicate, rejected, or refused because too many were on their way.",
            ["outcome"],
            registry=r,
        )
        self.untold = Counter(
            "foretell_untold_events",
            "Accepted events that do not say what was shown before (`exposed`), though the model has learned from it.",
            registry=r,
        )
        self.parked = Counter(
            "foretell_parked_connections",
            "Connections of refused clients that were read again later, because too many asked again at once.",
            registry=r,
        )
        self.breakers = Gauge(
            "foretell_breakers_open",
            "Processes that leave a store alone because it does not answer: cache or history.",
            ["part"],
            registry=r,
            multiprocess_mode="livesum",
        )
        self.pending_invalidations = Gauge(
            "foretell_pending_invalidations",
            "Users whose cached state could not be invalidated yet.",
            registry=r,
            multiprocess_mode="livesum",
        )
        self.batch_size = Histogram(
            "foretell_batch_size", "Requests computed together.", ["op"], buckets=SIZES, registry=r
        )
        self.queue_wait = Histogram(
            "foretell_queue_wait_seconds", "Wait for the model's batch.", ["op"], buckets=SECONDS, registry=r
        )
        self.corrupt = Counter("foretell_corrupt_states", "Cached values that were no state of their user.", registry=r)
        self.catalogue_failures = Counter(
            "foretell_catalogue_refresh_failures", "Looks for changes of the catalogue that failed.", registry=r
        )
        self.waiting = Gauge(
            "foretell_newcomers_waiting",
            "New items of the catalogue that are not recommended: more than FORETELL_NEWCOMERS.",
            registry=r,
            multiprocess_mode="livemax",
        )
        self.unreadable = Counter(
            "foretell_unreadable_documents",
            "Documents of MongoDB left out because they cannot be read: of events, items or users.",
            ["collection"],
            registry=r,
        )
        self.model = Gauge(
            "foretell_model_info",
            "The model that serves (always 1).",
            ["name", "version", "kind", "device", "fingerprint"],
            registry=r,
            multiprocess_mode="livemax",
        )

        # To look a collector up by its labels takes a lock; these few are asked for all the time.
        self._answered = cache(self.requests.labels)
        self._took = cache(self.latency.labels)
        self._stage = cache(self.stages.labels)
        self._found = cache(self.lookups.labels)
        self._later = [collector for collector in vars(self).values() if isinstance(collector, Later)]

    def answered(self, route: str, method: str, status: int, seconds: float) -> None:
        """Count one request that was answered, and its time."""
        self._answered(route, method, status).inc()
        self._took(route, method).observe(seconds)

    def stage(self, name: str) -> AbstractContextManager[object]:
        """Time one stage, whether it succeeds or not."""
        return _Stopwatch(self._stage(name))

    def looked_up(self, outcome: str) -> None:
        """Count one lookup of a cached state."""
        self._found(outcome).inc()

    def turned(self, part: str, opened: bool) -> None:
        """The breaker of a part has opened or closed."""
        self.breakers.labels(part).set(opened)

    def left_out(self, collection: str, count: int) -> None:
        """Count documents that cannot be read."""
        self.unreadable.labels(collection).inc(count)

    def render(self) -> bytes:
        """The text Prometheus scrapes."""
        if "PROMETHEUS_MULTIPROC_DIR" not in os.environ:
            return generate_latest(self.registry)
        self.settle()
        merged = CollectorRegistry()
        MultiProcessCollector(merged)  # type: ignore[no-untyped-call]
        return generate_latest(merged)

    def settle(self) -> None:
        """Reckon up all that was noted; a scrape of this process does so itself."""
        for collector in self._later:
            collector.settle()

    @asynccontextmanager
    async def settling(self) -> AsyncIterator[None]:
        """While it is open, scrapes of the other workers know within LATER seconds what this one has counted."""

        async def again_and_again() -> None:
            while True:
                await asyncio.sleep(LATER)
                self.settle()

        task = asyncio.create_task(again_and_again())
        try:
            yield
        finally:
            task.cancel()
            with suppress(asyncio.CancelledError):
                await task

    def close(self) -> None:
        """Take this process's gauges out of the sum over all workers."""
        self.settle()
        forget(os.getpid())


def forget(pid: int) -> None:
    """Take the gauges of a worker that has ended out of the sum; its counters stay."""
    if "PROMETHEUS_MULTIPROC_DIR" in os.environ:
        mark_process_dead(pid)  # type: ignore[no-untyped-call]
