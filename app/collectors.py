"""Prometheus collectors that take note now and reckon later.

A request is counted and timed a dozen times. To find each bucket, and to write it into the file that the workers share,
costs more than to remember a number. So numbers are remembered and reckoned up together: when this
process is scraped, when there are many, and whenever :meth:`Later.settle` is called, for the scrapes of others.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter as Tally
from collections.abc import Iterable, Sequence
from threading import Lock
from typing import TYPE_CHECKING, Any

import prometheus_client
from prometheus_client.metrics import MetricWrapperBase

if TYPE_CHECKING:
    from prometheus_client.samples import Sample

#: More numbers than these are not kept waiting.
MANY = 4096


class Later(MetricWrapperBase):
    """A collector whose numbers wait until :meth:`_reckon` tells them to the library's own class behind it.

    Numbers are noted in any thread: one step of Python appends them.
    """

    def __init__(self, *arguments: Any, **options: Any) -> None:
        self._waiting: list[float] = []
        self._settling = Lock()
        super().__init__(*arguments, **options)

    def settle(self) -> None:
        """Reckon up what waits, here and for all labels."""
        if self._waiting:
            with self._settling:
                count = len(self._waiting)
                noted = self._waiting[:count]
                del self._waiting[:count]
                if noted:
                    self._reckon(noted)
        for child in list(getattr(self, "_metrics", {}).values()):
            child.settle()

    def _note(self, number: float) -> None:
        self._waiting.append(number)
        if len(self._waiting) >= MANY:
            self.settle()

    def _reckon(self, noted: Sequence[float]) -> None:
        raise NotImplementedError

    def _child_samples(self) -> Iterable[Sample]:
        self.settle()
        return super()._child_samples()


class Counter(Later, prometheus_client.Counter):
    """A counter."""

    def inc(self, amount: float = 1) -> None:  # type: ignore[override]
        """Count so many more."""
        self._note(amount)

    def _reckon(self, noted: Sequence[float]) -> None:
        super().inc(sum(noted))


class Gauge(Later, prometheus_client.Gauge):
    """A gauge."""

    def inc(self, amount: float = 1) -> None:
        """So much more."""
        self._note(amount)

    def dec(self, amount: float = 1) -> None:
        """So much less."""
        self._note(-amount)

    def set(self, value: float) -> None:
        """Exactly so much, whatever was noted before."""
        with self._settling:
            self._waiting.clear()
            super().set(value)

    def _reckon(self, noted: Sequence[float]) -> None:
        super().inc(sum(noted))


class Histogram(Later, prometheus_client.Histogram):
    """A histogram."""

    def observe(self, amount: float) -> None:  # type: ignore[override]
        """One more observation."""
        self._note(amount)

    def _reckon(self, noted: Sequence[float]) -> None:
        """What the library's ``observe`` does for each of them, once for all."""
        self._sum.inc(sum(noted))
        for bucket, count in Tally(bisect_left(self._upper_bounds, number) for number in noted).items():
            self._buckets[bucket].inc(count)
