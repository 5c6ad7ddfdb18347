"""Metrics: one registry an application."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.metrics import Metrics


def test_two_applications_in_one_process_do_not_share_counters() -> None:
    first, second = Metrics(), Metrics()
    first.events.labels("accepted").inc(3)
    assert first.registry.get_sample_value("foretell_events_total", {"outcome": "accepted"}) == 3
    assert second.registry.get_sample_value("foretell_events_total", {"outcome": "accepted"}) is None


def test_a_stage_is_timed_even_when_it_fails() -> None:
    metrics = Metrics()
    with pytest.raises(ZeroDivisionError), metrics.stage("score"):
        _ = 1 / 0
    assert metrics.registry.get_sample_value("foretell_stage_seconds_count", {"stage": "score"}) == 1


async def test_what_is_noted_is_reckoned_up_before_long(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("app.metrics.LATER", 0.001)
    metrics = Metrics()
    async with metrics.settling():
        metrics.looked_up("hit")
        async with asyncio.timeout(10):
            while metrics.lookups.labels("hit")._waiting:  # noqa: ASYNC110 - nothing tells of it
                await asyncio.sleep(0)


def test_the_page_is_prometheus_text() -> None:
    metrics = Metrics()
    metrics.model.labels("storefront", "1", "behaviour", "cpu", "abcd").set(1)
    assert 'foretell_model_info{device="cpu",fingerprint="abcd"' in metrics.render().decode()


def test_one_scrape_sums_over_all_worker_processes(tmp_path: Path) -> None:
    """Two processes count 1 and 2 events, one after the other; a scrape of either shows 3, and live gauges of none."""
    code = (
        "import sys; from app.metrics import Metrics; m = Metrics()\n"
        "m.events.labels('accepted').inc(int(sys.argv[1])); m.in_flight.set(1); m.stages.labels('score').observe(0.1)\n"
        "sys.stdout.write(m.render().decode()); m.close()"
    )
    environment = os.environ | {"PROMETHEUS_MULTIPROC_DIR": str(tmp_path)}
    pages = [
        subprocess.run(
            [sys.executable, "-c", code, count], env=environment, capture_output=True, text=True, check=True
        ).stdout
        for count in ("1", "2")
    ]
    assert 'foretell_events_total{outcome="accepted"} 3.0' in pages[1]
    assert 'foretell_stage_seconds_count{stage="score"} 2.0' in pages[1]
    assert not list(tmp_path.glob("gauge_live*"))
