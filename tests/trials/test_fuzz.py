"""A short fuzz of the service over fakes, in a process of its own; `make fuzz` runs 12,000 cases on the real one."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import requests

from app.settings import Settings
from tests.app.conftest import model_root, settings  # noqa: F401 - fixtures
from trials.fuzz import Report, fuzz, table
from trials.world import ROOT


def test_no_request_gets_an_answer_that_nobody_meant(settings: Settings, tmp_path: Path) -> None:  # noqa: F811
    log = tmp_path / "log"
    with log.open("wb") as output:
        service = subprocess.Popen(
            [sys.executable, "-m", "tests.app.served", str(settings.model_root), "0"], cwd=ROOT, stderr=output
        )
    try:
        while not (found := re.search(r"running on (http://127\.0\.0\.1:\d+)", log.read_text())):
            assert service.poll() is None, log.read_text()
        report = fuzz(found[1], 500, derandomize=True)
    finally:
        service.kill()
        service.wait()
    assert report.failures == []
    assert report.cases >= 400
    assert "Traceback" not in log.read_text()
    answers = report.statuses["POST predict (questions)"]
    assert answers[200] > answers.total() / 3  # or nothing behind the checks of the payload was fuzzed


def test_a_server_error_is_a_failure_and_the_next_property_is_tried() -> None:
    report, response = Report(), requests.Response()
    response.status_code = 500
    report.attempt("first", lambda: report.note("POST /predict", response))
    response.status_code = 503
    report.attempt("second", lambda: report.note("POST /predict", response))
    assert [failure.partition(":")[0] for failure in report.failures] == ["first"]
    assert report.cases == 2
    assert table(report).row_count == 1
