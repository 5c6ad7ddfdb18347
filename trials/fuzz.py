"""``python -m trials.fuzz``: requests that the OpenAPI document allows or forbids, and bytes that nobody would send."""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any

import requests
import schemathesis
import typer
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.errors import FlakyFailure
from rich.console import Console
from rich.table import Table
from schemathesis import GenerationMode
from schemathesis.checks import CheckFunction
from schemathesis.core.result import Ok
from schemathesis.specs.openapi import checks

from trials.world import World

#: Seconds after which an answer is called a hang.
PATIENCE = 20.0
#: Least share of the cases asked for that must have been sent: a strategy that runs dry would prove little.
SENT = 0.83
#: What the service may say on purpose although the client did nothing wrong.
DELIBERATE = frozenset({503, 504})
#: Held by every answer: its status is documented, and so are its type and its shape.
DOCUMENTED: list[CheckFunction] = [
    checks.status_code_conformance,
    checks.content_type_conformance,
    checks.response_schema_conformance,
    checks.response_headers_conformance,
]

JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
    max_leaves=20,
)
#: Keys that the service knows, with values that it may not.
KNOWN = st.sampled_from(["user_id", "items", "session", "k", "context", "filters", "events", "requests", "explain"])
ODDITIES = [b'{"user_id":"\\ud800"}', b'{"user_id":"\xff"}', b"\xef\xbb\xbf{}", b'{"k":1,"k":2}', b'{"k":1e400}']
BODIES = (
    st.binary(max_size=300)
    | st.dictionaries(KNOWN, JSON, max_size=5).map(lambda body: json.dumps(body).encode())
    | st.sampled_from(ODDITIES)
    | st.integers(1, 2000).map(lambda depth: b'{"context":' + b"[" * depth)
    | st.integers(1, 2000).map(lambda depth: b'{"a":' * depth + b"1" + b"}" * depth)
)

#: Questions as clients ask them, about users and items of every name.
NAMES = st.text(st.characters(exclude_categories=["Cs", "Cc"]), min_size=1, max_size=40)
SHARES = st.floats(0.0, 1.0)
PRICES = st.none() | st.dictionaries(st.sampled_from(["min", "max"]), st.floats(0.0, 1e12))
TIMES = st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(str)
QUESTIONS = st.fixed_dictionaries(
    {"user_id": NAMES},
    optional={
        "items": st.lists(NAMES, max_size=20),
        "k": st.integers(1, 200),
        "rank": st.sampled_from(["catalogue", "items"]),
        "context": st.dictionaries(st.from_regex(r"\A[A-Za-z][A-Za-z0-9_]{0,20}\Z"), NAMES | st.booleans(), max_size=3),
        "session": st.lists(
            st.fixed_dictionaries(
                {"type": st.just("click"), "item_id": NAMES},
                optional={
                    "at": st.datetimes(datetime(2000, 1, 1), datetime(2100, 1, 1)).map(str),
                    "value": st.floats(-1e12, 1e12),
                },
            ),
            max_size=5,
        ),
        "filters": st.fixed_dictionaries(
            {}, optional={"categories": st.lists(NAMES, min_size=1, max_size=3), "price": PRICES}
        ),
        "objective": st.dictionaries(st.sampled_from(["click", "purchase"]), st.floats(-1e6, 1e6), min_size=1),
        "diversity": SHARES,
        "exploration": SHARES,
        "explain": st.booleans(),
    },
)

console = Console(width=160)


@dataclass(slots=True)
class Report:
    """What came back: how often each status, by operation, and what should not have."""

    statuses: dict[str, Counter[int]] = field(default_factory=dict)
    failures: list[str] = field(default_factory=list)

    @property
    def cases(self) -> int:
        """Requests sent."""
        return sum(counter.total() for counter in self.statuses.values())

    def note(self, operation: str, response: requests.Response | schemathesis.Response) -> None:
        """Count an answer; one that nobody decided to give is an error."""
        self.statuses.setdefault(operation, Counter())[response.status_code] += 1
        assert response.status_code < 500 or response.status_code in DELIBERATE, f"{response.status_code}"

    def attempt(self, name: str, test: Callable[[], None]) -> None:
        """Run a property; what breaks it goes into the report."""
        try:
            test()
        except (Exception, FlakyFailure) as error:  # noqa: BLE001 - whatever breaks it is what we are looking for
            self.failures.append(f"{name}: {error!r:.1500}")


def fuzz(base: str, cases: int, *, derandomize: bool = False) -> Report:
    """Send about so many requests to a running service."""
    report = Report()
    document = schemathesis.openapi.from_url(f"{base}/openapi.json")
    operations = [found.ok() for found in document.get_all_operations() if isinstance(found, Ok)]
    writes = [operation for operation in operations if operation.method == "post"]
    share = cases // (3 * len(writes) + 1) + 1
    rules = settings(
        max_examples=share,
        database=None,
        deadline=None,
        derandomize=derandomize,
        suppress_health_check=list(HealthCheck),
    )
    for operation in operations:
        if operation.path == "/predict":
            report.attempt("questions", _questions(base, rules, report))
        if operation in writes:
            for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE):
                report.attempt(f"{mode.value} {operation.label}", _documented(operation, mode, rules, report))
            report.attempt(f"bytes {operation.label}", _bytes(base + operation.path, rules, report))
        else:
            few = settings(rules, max_examples=max(share // len(operations), 1))
            report.attempt(operation.label, _documented(operation, GenerationMode.POSITIVE, few, report))
    return report


def _documented(operation: Any, mode: GenerationMode, rules: settings, report: Report) -> Callable[[], None]:
    """Requests made from the document; each answer is one that the document knows."""

    @rules
    @given(case=operation.as_strategy(generation_mode=mode))
    def test(case: Any) -> None:
        response = case.call(timeout=PATIENCE)
        report.note(operation.label, response)
        case.validate_response(response, checks=DOCUMENTED)

    return test


def _questions(base: str, rules: settings, report: Report) -> Callable[[], None]:
    """Questions that are fine, or nearly: an answer ranks as many as it was asked for, at most."""

    @rules
    @given(question=QUESTIONS)
    def test(question: dict[str, Any]) -> None:
        response = requests.post(f"{base}/predict", json=question, timeout=PATIENCE)
        report.note("POST predict (questions)", response)
        if response.status_code == 200:
            answer = response.json()
            assert answer["user_id"] == question["user_id"]
            assert len(answer["recommendations"]) <= question.get("k", 20)

    return test


def _bytes(url: str, rules: settings, report: Report) -> Callable[[], None]:
    """Bodies that nobody would send; each refusal has the one shape that refusals have."""

    @rules
    @given(body=BODIES, media=st.sampled_from(["application/json", "text/plain", "application/json; charset=utf-16"]))
    def test(body: bytes, media: str) -> None:
        response = requests.post(url, data=body, headers={"Content-Type": media}, timeout=PATIENCE)
        report.note(f"POST {url.rpartition('/')[2]} (bytes)", response)
        if response.status_code != 200:
            answer = response.json()
            assert set(answer) <= {"error", "detail", "fields"}, answer
            assert isinstance(answer["error"], str), answer
            assert isinstance(answer["detail"], str), answer

    return test


def table(report: Report) -> Table:
    """The report for people."""
    drawn = Table("operation", "requests", "answers")
    for operation, counter in report.statuses.items():
        answers = ", ".join(f"{count} {status}" for status, count in sorted(counter.items()))
        drawn.add_row(operation, str(counter.total()), answers)
    return drawn


async def _against_the_service(cases: int, folder: Path) -> tuple[Report, int]:
    async with World(folder, workers=1) as world:
        report = await asyncio.to_thread(fuzz, world.base, cases)
        return report, world.tracebacks()


def main(cases: Annotated[int, typer.Option(help="About how many requests.")] = 12_000) -> None:
    """Fuzz the real service on real stores."""
    folder = Path(tempfile.mkdtemp(prefix="foretell-fuzz-"))
    report, tracebacks = asyncio.run(_against_the_service(cases, folder))
    if report.cases < SENT * cases:
        report.failures.append(f"only {report.cases} of {cases} requests were sent")
    console.print(table(report))
    for failure in report.failures:
        console.print(failure, markup=False)
    console.print(f"{report.cases} requests, {len(report.failures)} failures, {tracebacks} tracebacks in the log")
    if report.failures or tracebacks:
        console.print(f"The logs are in {folder}.")
        raise typer.Exit(1)
    shutil.rmtree(folder)


if __name__ == "__main__":
    typer.run(main)
