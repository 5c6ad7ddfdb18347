"""The load of strangers, against a server that answers some, refuses some and hangs up on some."""

from __future__ import annotations

import json
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from benchmarks.serving.openloop import offer


class Moody(BaseHTTPRequestHandler):
    """Hangs up on user 0, refuses user 1, and answers the others with more than arrives at once."""

    protocol_version = "HTTP/1.1"
    connections = 0

    def setup(self) -> None:
        super().setup()
        type(self).connections += 1

    def do_POST(self) -> None:
        user = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["user_id"]
        if user == "u0":
            self.close_connection = True
            return
        body = b"no" if user == "u1" else b"x" * 300_000
        self.send_response(503 if user == "u1" else 200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


@pytest.fixture
def url() -> Iterator[str]:
    Moody.connections = 0
    with ThreadingHTTPServer(("127.0.0.1", 0), Moody) as server:
        thread = Thread(target=server.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{server.server_port}/predict"
        server.shutdown()
        thread.join()


def test_each_request_leaves_once_and_its_fate_is_known(url: str) -> None:
    answers = offer(url, rate=200, seconds=0.5, users=4)
    assert (answers.offered, answers.unsent) == (100, 0)
    assert answers.counts() == {"0": 25, "200": 50, "503": 25}
    assert (answers.rate(200), answers.rate(503)) == (100.0, 50.0)
    assert sorted(row[0] for row in answers.rows) == [n / 200 for n in range(100)]  # by when they were due
    assert all(row[1] > 0 for row in answers.rows)
    assert 25 <= Moody.connections < 100  # kept where they were not closed


def test_where_nobody_listens_all_is_lost(unused_tcp_port: int) -> None:
    answers = offer(f"http://127.0.0.1:{unused_tcp_port}/predict", rate=100, seconds=0.2, users=1)
    assert answers.counts() == {"0": 20}
    assert answers.percentile(99, 200) is None
