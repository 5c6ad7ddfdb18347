"""Open-loop load: requests leave when they are due, answered or not, as those of strangers do.

One connection carries one request at a time; those that are free are used again, and new ones are opened up to a bound.
A latency counts from the moment a request was due, so a generator that falls behind hides nothing. On uvloop it
takes less of the processor than wrk with a script that says when the next is due.
"""

from __future__ import annotations

import asyncio
import re
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from benchmarks.serving.wrk import BODY

#: Most connections; a request for which none is free is counted as unsent.
CONNECTIONS = 4_000
TICK = 0.002
#: How long to wait for the last answers.
PATIENCE = 10.0
LOST = 0
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


@dataclass
class Answers:
    """``rows``: when a request was due (seconds since the start), its milliseconds, its status (LOST: no answer)."""

    seconds: float
    offered: int = 0
    unsent: int = 0
    rows: list[tuple[float, float, int]] = field(default_factory=list)

    def counts(self) -> dict[str, int]:
        """Answers by status."""
        return {str(status): count for status, count in sorted(Counter(row[2] for row in self.rows).items())}

    def rate(self, status: int) -> float:
        """Answers of a status in each second of the load."""
        return sum(row[2] == status for row in self.rows) / self.seconds

    def percentile(self, percent: float, status: int) -> float | None:
        """Milliseconds within which so many percent of a status came; None without any."""
        times = sorted(row[1] for row in self.rows if row[2] == status)
        return round(times[min(int(len(times) * percent / 100), len(times) - 1)], 2) if times else None


class _Connection(asyncio.Protocol):
    """One request at a time; knows as much HTTP as the answers here need: a status and a Content-Length."""

    def __init__(self, load: _Load, request: bytes, due: float) -> None:
        self._load = load
        self._first = request, due
        self._head = b""
        self._missing = 0
        self._due = due
        self._busy = True

    def connection_made(self, transport: Any) -> None:
        """Open, for a request that is due."""
        self._transport = transport
        self.ask(*self._first)

    def ask(self, request: bytes, due: float) -> None:
        """Send a request."""
        self._due, self._busy, self._head = due, True, b""
        self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        """Part of an answer."""
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return
            length = LENGTH.search(self._head, 0, end)
            assert length is not None, "An answer without a Content-Length."
            self._missing = end + 4 + int(length[1]) - len(self._head)
        if self._missing <= 0:
            self._done(int(self._head[9:12]))

    def connection_lost(self, error: Exception | None) -> None:
        """Closed by the server."""
        self._load.open -= 1
        if self._busy:
            self._load.note(self._due, LOST)
        elif self in self._load.free:
            self._load.free.remove(self)

    def close(self) -> None:
        """Close."""
        self._transport.close()

    def _done(self, status: int) -> None:
        self._busy = False
        self._load.note(self._due, status)
        self._load.free.append(self)


class _Load:
    def __init__(self, seconds: float) -> None:
        self.answers = Answers(seconds)
        self.free: deque[_Connection] = deque()
        self.open = 0
        self.running = 0
        self.start = time.perf_counter()

    def note(self, due: float, status: int) -> None:
        self.running -= 1
        self.answers.rows.append((due, 1000 * (time.perf_counter() - self.start - due), status))


async def offer(url: str, rate: float, seconds: float, users: int, body: str = BODY) -> Answers:
    """Offer ``rate`` requests a second for so long, whatever becomes of them."""
    where, loop, load = urlsplit(url), asyncio.get_running_loop(), _Load(seconds)
    host, port = where.hostname or "", where.port or 80
    requests = [_request(where.netloc, where.path, body % user) for user in range(users)]
    opening: set[asyncio.Task[None]] = set()

    async def send_anew(request: bytes, due: float) -> None:
        try:
            await loop.create_connection(lambda: _Connection(load, request, due), host, port)
        except OSError:
            load.open -= 1
            load.note(due, LOST)

    while (now := time.perf_counter() - load.start) < seconds:
        while load.answers.offered < now * rate:
            due, request = load.answers.offered / rate, requests[load.answers.offered % users]
            load.answers.offered += 1
            if load.free:
                load.running += 1
                load.free.pop().ask(request, due)
            elif load.open < CONNECTIONS:
                load.open += 1
                load.running += 1
                task = loop.create_task(send_anew(request, due))
                opening.add(task)
                task.add_done_callback(opening.discard)
            else:
                load.answers.unsent += 1
        await asyncio.sleep(TICK)
    until = time.perf_counter() + PATIENCE
    while load.running and time.perf_counter() < until:  # noqa: ASYNC110 - the loop above does not wait for answers
        await asyncio.sleep(TICK)
    for connection in list(load.free):
        connection.close()
    await asyncio.sleep(0)
    return load.answers


def _request(host: str, path: str, body: str) -> bytes:
    fields = {"Host": host, "Content-Type": "application/json", "Content-Length": len(body)}
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", body]).encode()
