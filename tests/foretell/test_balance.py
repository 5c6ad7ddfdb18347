"""Connections shared among workers: evenly, by all that live, whatever becomes of one of them."""

from __future__ import annotations

import asyncio
import os
import resource
import shutil
import socket
import ssl
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest
import trustme
from structlog.testing import capture_logs

from foretell import balance
from foretell.balance import FOLDER, Loop, Tally, forget

OTHER = 1  # a process that is certainly not this one
#: Takes connections from the socket with this number and says on each who it is.
WORKER = """
import asyncio, os, socket, sys
from foretell.balance import Loop

class Named(asyncio.Protocol):
    def connection_made(self, transport):
        transport.write(f"{os.getpid()}\\n".encode())
    def connection_lost(self, error):
        loop.tally.add(-1)

async def main():
    await loop.create_server(Named, sock=socket.socket(fileno=int(sys.argv[1])), ssl=None, backlog=100)
    print("listens", flush=True)
    await asyncio.sleep(60)

loop = Loop()
loop.run_until_complete(main())
"""


def _others_have(folder: Path, count: int) -> None:
    (folder / str(OTHER)).write_bytes(count.to_bytes(4, "little"))


@pytest.mark.parametrize(
    ("own", "other", "ahead"),
    [
        (1, 0, True),  # a few are shared exactly
        (1, 1, False),
        (0, 3, False),
        (32, 31, True),
        (42, 40, False),  # 2 or a tenth more may be
        (45, 40, True),
        (110, 100, False),  # a tenth more may be: 11 of 110
        (112, 100, True),
    ],
)
def test_who_has_more_than_another_is_ahead(tmp_path: Path, own: int, other: int, ahead: bool) -> None:
    tally = Tally(tmp_path)
    tally.join()
    _others_have(tmp_path, other)
    tally.add(own)
    assert tally.ahead is ahead


def test_alone_nobody_is_ahead(tmp_path: Path) -> None:
    tally = Tally(tmp_path)
    tally.join()
    tally.add(1000)
    assert not tally.ahead


def test_who_has_left_or_was_forgotten_counts_no_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(FOLDER, str(tmp_path))
    _others_have(tmp_path, 0)
    forget(OTHER)
    tally = Tally(tmp_path)
    tally.join()
    tally.join()
    assert [file.name for file in tmp_path.iterdir()] == [str(os.getpid())]
    tally.leave()
    tally.leave()
    assert not list(tmp_path.iterdir())
    tally.add(-1)  # a connection that had stayed


def test_a_folder_that_was_cleaned_away_leaves_every_worker_on_its_own(tmp_path: Path) -> None:
    folder = tmp_path / "counts"
    folder.mkdir()
    tally = Tally(folder)
    tally.join()
    _others_have(folder, 0)
    shutil.rmtree(folder)
    tally.add(10)
    assert not tally.ahead
    tally.leave()


class _Quiet(asyncio.Protocol):
    """Counts its end, as foretell.balance.BalancedProtocol does."""

    def connection_lost(self, error: Exception | None) -> None:
        loop: Any = asyncio.get_running_loop()
        loop.tally.add(-1)


@contextmanager
def _listening() -> Iterator[socket.socket]:
    with socket.socket() as bound:
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.bind(("127.0.0.1", 0))
        yield bound


def _run(main: Callable[[Loop, socket.socket], Coroutine[Any, Any, None]], folder: Path) -> None:
    """Let it run in a loop that counts in this folder."""
    with pytest.MonkeyPatch.context() as patch, _listening() as bound:
        patch.setenv(FOLDER, str(folder))
        loop = Loop()
        try:
            loop.run_until_complete(asyncio.wait_for(main(loop, bound), 20))
        finally:
            loop.close()


async def _until(loop: Loop, count: int) -> None:
    for _ in range(10_000):
        if loop.tally.count == count:
            return
        await asyncio.sleep(0.001)
    pytest.fail(f"{loop.tally.count} connections are counted, not {count}")


def test_connections_are_taken_though_another_worker_that_has_none_does_not_take_them(tmp_path: Path) -> None:
    _others_have(tmp_path, 0)

    async def main(loop: Loop, bound: socket.socket) -> None:
        server = await loop.create_server(_Quiet, sock=bound, ssl=None, backlog=100)
        clients = [await asyncio.open_connection(*bound.getsockname()) for _ in range(10)]
        await _until(loop, 10)
        for _, writer in clients:
            writer.close()
        await _until(loop, 0)
        server.close()
        await server.wait_closed()

    _run(main, tmp_path)


def test_a_handshake_that_fails_is_counted_out_again(tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("localhost").configure_cert(context)

    async def main(loop: Loop, bound: socket.socket) -> None:
        server = await loop.create_server(_Quiet, sock=bound, ssl=context, backlog=100)
        reader, writer = await asyncio.open_connection(*bound.getsockname())
        await _until(loop, 1)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()  # the server hangs up
        await _until(loop, 0)
        writer.close()
        server.close()
        await server.wait_closed()

    _run(main, tmp_path)


def test_a_port_on_which_another_program_listens_by_now_is_one_sentence(tmp_path: Path) -> None:
    async def main(loop: Loop, bound: socket.socket) -> None:
        with socket.socket() as rival:
            rival.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            rival.bind(bound.getsockname())
            rival.listen()
            with capture_logs() as lines, pytest.raises(SystemExit):
                await loop.create_server(_Quiet, sock=bound, ssl=None, backlog=100)
        (line,) = lines
        assert "(Address already in use): stop what listens there" in line["event"]

    _run(main, tmp_path)


def test_connections_wait_while_no_file_descriptor_is_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(balance, "EXHAUSTED", 0.01)
    before = resource.getrlimit(resource.RLIMIT_NOFILE)

    async def main(loop: Loop, bound: socket.socket) -> None:
        server = await loop.create_server(_Quiet, sock=bound, ssl=None, backlog=100)
        with socket.socket() as client, capture_logs() as lines:
            client.setblocking(False)
            client.connect_ex(bound.getsockname())
            resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
            try:
                for _ in range(10_000):
                    if lines:
                        break
                    await asyncio.sleep(0)
            finally:
                resource.setrlimit(resource.RLIMIT_NOFILE, before)
            assert lines[0]["reason"] == "Too many open files"
            await _until(loop, 1)
        server.close()
        await server.wait_closed()

    _run(main, tmp_path)


@contextmanager
def _worker(bound: socket.socket, folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A process that takes connections from the socket."""
    worker = subprocess.Popen(
        [sys.executable, "-c", WORKER, str(bound.fileno())],
        env=os.environ | {FOLDER: str(folder)},
        pass_fds=[bound.fileno()],
        stdout=subprocess.PIPE,
        text=True,
    )
    with worker:
        try:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "listens\n"
            yield worker
        finally:
            worker.kill()


def test_a_newcomer_catches_up_and_takes_all_when_it_is_left_alone(tmp_path: Path) -> None:
    with _listening() as bound, ExitStack() as clients:

        def who_takes() -> int:
            """The process that has the next connection, which stays open."""
            client = clients.enter_context(socket.create_connection(bound.getsockname(), timeout=20))
            with client.makefile() as lines:
                return int(lines.readline())

        with _worker(bound, tmp_path) as first:
            shares = Counter(who_takes() for _ in range(20))
            with _worker(bound, tmp_path) as second:
                # 18 make it 20 to 18. A few more, for a newcomer that a busy machine lets sleep; by chance alone the
                # distance would hardly ever be gone after 30.
                while shares[first.pid] - shares[second.pid] > 2 and sum(shares.values()) < 50:
                    shares[who_takes()] += 1
                assert shares[first.pid] - shares[second.pid] <= 2, shares
                first.kill()
                first.wait()  # nobody forgets it here: it still counts as having what it had
                assert {who_takes() for _ in range(20)} == {second.pid}
