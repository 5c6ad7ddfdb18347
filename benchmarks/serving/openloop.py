"""Open-loop load: requests leave when they are due, answered or not, as those of strangers do.

One connection carries one request at a time; those that are free are used again, and new ones are opened up to a bound.
A latency counts from the moment a request was due until its answer is seen, so a generator that falls behind hides
nothing. It shares the processor with what it measures: sockets and one epoll take half of what an event loop takes, and
so does looking at all of them once in a millisecond and not at each when it stirs.
"""

from __future__ import annotations

import re
import select
import socket
import time
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

from benchmarks.serving.wrk import BODY

#: Most connections; a request for which none is free is counted as unsent.
CONNECTIONS = 4_000
TICK = 0.001
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


class _Connection:
    """One request at a time; knows as much HTTP as the answers here need: a status and a Content-Length."""

    __slots__ = ("_head", "_missing", "due", "request", "socket")

    def __init__(self, request: bytes, due: float) -> None:
        self.socket = socket.socket()
        self.socket.setblocking(False)
        self.request = request
        self.due: float | None = due
        self._head = b""
        self._missing = 0

    def ask(self, request: bytes, due: float) -> None:
        """Send a request. Raises OSError."""
        self.due, self._head = due, b""
        self.socket.send(request)

    def receive(self) -> int | None:
        """Read what has arrived; the status of an answer that is whole with it. Raises OSError, also where the other
        side has closed."""
        if not (data := self.socket.recv(1 << 14)):
            raise ConnectionResetError
        if self._missing:
            self._missing -= len(data)
        else:
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                return None
            length = LENGTH.search(self._head, 0, end)
            assert length is not None, "An answer without a Content-Length."
            self._missing = end + 4 + int(length[1]) - len(self._head)
        return None if self._missing > 0 else int(self._head[9:12])


class _Load:
    def __init__(self, host: str, port: int, seconds: float) -> None:
        self.answers = Answers(seconds)
        self.running = 0
        self._address = host, port
        self._poll = select.epoll()
        self._open: dict[int, _Connection] = {}
        self._free: list[_Connection] = []
        self._start = time.perf_counter()

    @property
    def now(self) -> float:
        """Seconds since the start."""
        return time.perf_counter() - self._start

    def send(self, request: bytes, due: float) -> None:
        """Send a request on a free connection, or on a new one."""
        self.answers.offered += 1
        if not self._free and len(self._open) >= CONNECTIONS:
            self.answers.unsent += 1
            return
        self.running += 1
        if self._free:
            connection = self._free.pop()
            try:
                connection.ask(request, due)
            except OSError:
                self._lose(connection)
        else:
            connection = _Connection(request, due)
            connection.socket.connect_ex(self._address)
            self._open[connection.socket.fileno()] = connection
            self._poll.register(connection.socket, select.EPOLLOUT)

    def receive(self) -> None:
        """Read what has arrived on all connections."""
        for place, events in self._poll.poll(0):
            connection = self._open[place]
            try:
                if events & select.EPOLLOUT:  # it is open now, or never will be
                    self._poll.modify(place, select.EPOLLIN)
                    connection.socket.send(connection.request)
                elif (status := connection.receive()) is not None and connection.due is not None:
                    self._note(connection, status)
                    self._free.append(connection)
            except OSError:
                self._lose(connection)

    def close(self) -> None:
        """Close every connection."""
        for connection in self._open.values():
            connection.socket.close()
        self._poll.close()

    def _lose(self, connection: _Connection) -> None:
        if connection.due is None:
            self._free.remove(connection)
        else:
            self._note(connection, LOST)
        del self._open[connection.socket.fileno()]
        connection.socket.close()

    def _note(self, connection: _Connection, status: int) -> None:
        assert connection.due is not None
        self.running -= 1
        self.answers.rows.append((connection.due, 1000 * (self.now - connection.due), status))
        connection.due = None


def offer(url: str, rate: float, seconds: float, users: int, body: str = BODY) -> Answers:
    """Offer ``rate`` requests a second for so long, whatever becomes of them: each that was due has left."""
    where = urlsplit(url)
    requests = [_request(where.netloc, where.path, body % user) for user in range(users)]
    load = _Load(where.hostname or "", where.port or 80, seconds)
    while (offered := load.answers.offered) < int(seconds * rate):
        for due in range(offered, min(int(load.now * rate) + 1, int(seconds * rate))):
            load.send(requests[due % users], due / rate)
        time.sleep(TICK)
        load.receive()
    until = load.now + PATIENCE
    while load.running and load.now < until:
        time.sleep(TICK)
        load.receive()
    load.close()
    return load.answers


def _request(host: str, path: str, body: str) -> bytes:
    fields = {"Host": host, "Content-Type": "application/json", "Content-Length": len(body)}
    head = [f"POST {path} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items())]
    return "\r\n".join([*head, "", body]).encode()
