"""What XLA has compiled, kept on disk: worker processes share the work, and the next start has none."""

from __future__ import annotations

import fcntl
import hashlib
import os
import platform
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

from app.garbage import give_back

log = structlog.stdlib.get_logger(__name__)

#: Files that are kept, the newest; each is the code of one function for one size, about a megabyte.
KEPT = 64
#: The digest of a file beside it.
SEAL = ".sha256"
#: TensorFlow's own name for what this is about.
FLAGS = "TF_XLA_FLAGS"


def remember() -> None:
    """Make TensorFlow look for compiled code on disk; only before it is imported. Without a folder it does not."""
    if "persistent_cache" in os.environ.get(FLAGS, "") or (folder := _folder()) is None:
        return
    ours = f"--tf_xla_persistent_cache_directory={folder} --tf_xla_persistent_cache_device_types=CPU,GPU"
    os.environ[FLAGS] = f"{os.environ.get(FLAGS, '')} {ours}".strip()


def in_turns(sizes: Sequence[int], compile: Callable[[int], None]) -> None:
    """Call ``compile`` for each size; first for those that no other process is at, for it leaves them on disk."""
    if folder := _folder():
        with (folder / "all.lock").open("wb") as lock:
            with suppress(BlockingIOError):  # somebody compiles, and what is not sealed yet may be theirs
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                _throw_away_damaged(folder)
            fcntl.flock(lock, fcntl.LOCK_SH)
            _share(folder, sizes, compile)
        _prune(folder)
    else:
        for size in sizes:
            compile(size)
            give_back()


def _share(folder: Path, sizes: Sequence[int], compile: Callable[[int], None]) -> None:
    """A lock for each size; where all that are left are taken, the first of them is waited for."""
    waiting, passed = deque(sizes), 0
    while waiting:
        size = waiting.popleft()
        with (folder / f"{size}.lock").open("wb") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | (fcntl.LOCK_NB if passed < len(waiting) else 0))
            except BlockingIOError:
                waiting.append(size)
                passed += 1
                continue
            passed = 0
            compile(size)
            give_back()  # at once: later, what is kept lies between what is free
            for path in folder.glob("*.pb"):
                if not (seal := path.with_suffix(SEAL)).exists():
                    seal.write_text(_digest(path), encoding="ascii")


def _throw_away_damaged(folder: Path) -> None:
    """A process in which TensorFlow could not read a file cannot compile that function any more."""
    for path in folder.glob("*.pb"):
        seal = path.with_suffix(SEAL)
        if _content(seal) != _digest(path).encode():
            log.warning("compiled_code_thrown_away", file=str(path))
            _remove(path)


def _digest(path: Path) -> str:
    return hashlib.sha256(_content(path)).hexdigest()


def _content(path: Path) -> bytes:
    """Of a file, which another process may have removed."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return b""


def _remove(path: Path) -> None:
    for one in (path, path.with_suffix(SEAL)):
        one.unlink(missing_ok=True)


def _folder() -> Path | None:
    """A folder of our own, for this TensorFlow on this kind of processor; None where there can be none.

    What lies in it is run, so nobody else may write to it.
    """
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    folder = cache / "foretell" / f"xla-{_processor()}"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        owner = folder.stat()
    except (OSError, RuntimeError):
        return None
    ours = owner.st_uid == os.getuid() and not owner.st_mode & 0o022
    return folder if ours and os.access(folder, os.W_OK) else None


def _processor() -> str:
    """A digest of what compiled code depends on."""
    from importlib.metadata import version

    facts = [platform.machine(), platform.processor(), version("tensorflow")]
    with suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        facts += sorted({line for line in lines if line.startswith(("flags", "Features", "model name"))})
    return hashlib.sha256("\n".join(facts).encode()).hexdigest()[:16]


def _prune(folder: Path) -> None:
    """Remove all files of TensorFlow but the newest; another process may do so too."""
    files = {}
    for path in folder.glob("*.pb"):
        with suppress(FileNotFoundError):
            files[path] = path.stat().st_mtime
    for path in sorted(files, key=lambda path: -files[path])[KEPT:]:
        _remove(path)
