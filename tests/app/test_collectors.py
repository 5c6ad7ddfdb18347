"""Collectors that reckon later say what the library's own would have said."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import prometheus_client
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from app import collectors
from app.collectors import MANY, Counter, Histogram

BUCKETS = (0.5, 1.0, 2.0)
#: Sums of these are exact in any order.
amounts = st.lists(st.integers(0, 256).map(lambda n: n / 64), max_size=30)


def _told(kinds: ModuleType, a: Sequence[float], b: Sequence[float]) -> dict[tuple[str, str], float]:
    """Every sample after all amounts were noted, those of two labels in turn."""
    registry = CollectorRegistry()
    counter = kinds.Counter("c", "C.", ["who"], registry=registry)
    gauge = kinds.Gauge("g", "G.", registry=registry)
    histogram = kinds.Histogram("h", "H.", ["who"], buckets=BUCKETS, registry=registry)
    for who, numbers in (("a", a), ("b", b)):
        for number in numbers:
            counter.labels(who).inc(number)
            histogram.labels(who).observe(number)
            gauge.inc(number)
        gauge.dec(0.25)
    samples = [sample for metric in registry.collect() for sample in metric.samples]
    return {(s.name, str(s.labels)): s.value for s in samples if not s.name.endswith("_created")}


@given(a=amounts, b=amounts)
def test_every_sample_is_the_librarys_own(a: list[float], b: list[float]) -> None:
    assert _told(collectors, a, b) == _told(prometheus_client, a, b)


def test_a_bound_belongs_to_its_bucket() -> None:
    registry = CollectorRegistry()
    histogram = Histogram("h", "H.", buckets=BUCKETS, registry=registry)
    for amount in (0.5, 0.75, 1.0, 7.0):
        histogram.observe(amount)
    counts = {le: registry.get_sample_value("h_bucket", {"le": le}) for le in ("0.5", "1.0", "2.0", "+Inf")}
    assert counts == {"0.5": 1, "1.0": 3, "2.0": 3, "+Inf": 4}


def test_a_gauge_that_is_set_forgets_what_was_noted_before() -> None:
    registry = CollectorRegistry()
    gauge = collectors.Gauge("g", "G.", registry=registry)
    gauge.inc(5)
    gauge.set(2)
    gauge.inc()
    assert registry.get_sample_value("g") == 3


def test_what_waits_is_bounded() -> None:
    counter = Counter("c", "C.", registry=None)
    for _ in range(3 * MANY):
        counter.inc()
        assert len(counter._waiting) < MANY


def test_another_process_sees_what_a_living_one_has_settled(tmp_path: Path) -> None:
    """The library writes the file; nothing of it is lost when the process is killed after that."""
    code = (
        "import os, sys; from app.metrics import Metrics; m = Metrics()\n"
        "m.looked_up('hit'); m.looked_up('hit'); m.settle(); os._exit(0)"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)
    read = "import sys; from app.metrics import Metrics; sys.stdout.write(Metrics().render().decode())"
    page = subprocess.run([sys.executable, "-c", read], env=environment, capture_output=True, text=True, check=True)
    assert 'foretell_state_lookups_total{outcome="hit"} 2.0' in page.stdout
