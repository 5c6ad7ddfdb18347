"""Refusals by a token bucket: who waits, and in which order they are heard again."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator

import pytest

from app import parking
from app.metrics import Metrics
from app.parking import Parking


class Connection:
    def __init__(self, name: str, said: list[str]) -> None:
        self.name = name
        self.said = said

    def leave_unread(self) -> None:
        self.said.append(f"-{self.name}")

    def read_on(self) -> None:
        self.said.append(f"+{self.name}")


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[float]]:
    """The loop's time, which stands still until it is set; what is due later is due when the test says so."""
    time = [100.0]
    loop = asyncio.new_event_loop()
    monkeypatch.setattr(loop, "time", lambda: time[0])
    monkeypatch.setattr(asyncio, "get_running_loop", lambda: loop)
    monkeypatch.setattr(parking, "BURST", 3.0)
    monkeypatch.setattr(parking, "RATE", 10.0)
    yield time
    loop.close()


def test_a_burst_is_free_and_the_rest_is_heard_in_its_order_as_fast_as_the_rate_allows(clock: list[float]) -> None:
    said: list[str] = []
    lot = Parking(Metrics())
    a, b, c = (Connection(name, said) for name in "abc")
    for connection in (a, b, c):
        lot.refused(connection)
    assert said == []  # three tokens
    for connection in (b, a, c):
        lot.refused(connection)
    assert said == ["-b", "-a", "-c"]  # three below nothing
    clock[0] += 0.35  # three and a half tokens later
    lot._release()
    assert said[3:] == []
    clock[0] += 0.1
    lot._release()
    assert said[3:] == ["+b"]
    clock[0] += 0.1
    lot._release()
    assert said[4:] == ["+a", "+c"]  # two tokens, which the refusals that follow will take
    for connection in (a, b):
        lot.refused(connection)
    assert said[6:] == []
    lot.refused(c)
    assert said[6:] == ["-c"]


def test_a_storm_leaves_no_debt_beyond_a_burst_and_who_is_refused_twice_waits_once(clock: list[float]) -> None:
    said: list[str] = []
    lot = Parking(Metrics())
    a = Connection("a", said)
    for _ in range(50):
        lot.refused(a)
    assert set(said) == {"-a"}
    clock[0] += 0.45  # four and a half tokens, three of them owed
    lot._release()
    assert [word for word in said if word == "+a"] == ["+a"]


def test_a_token_that_nobody_takes_does_not_become_more_than_a_burst(clock: list[float]) -> None:
    said: list[str] = []
    lot = Parking(Metrics())
    clock[0] += 1000
    for name in "abcd":
        lot.refused(Connection(name, said))
    assert said == ["-d"]
