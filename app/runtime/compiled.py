"""What XLA has compiled, kept on disk: worker processes share the work, and the next start has none."""

from __future__ import annotations

import ctypes
import fcntl
import hashlib
import os
import platform
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import structlog

log = structlog.stdlib.get_logger(__name__)

#: Files that are kept, the newest; each is the code of one function for one size, about a megabyte.
KEPT = 64
#: TensorFlow's own name for what this is about.
FLAGS = "TF_XLA_FLAGS"


def remember() -> None:
    """Make TensorFlow look for compiled code on disk; only before it is imported. Without a folder it does not."""
    if "persistent_cache" in os.environ.get(FLAGS, "") or (folder := _folder()) is None:
        return
    ours = f"--tf_xla_persistent_cache_directory={folder} --tf_xla_persistent_cache_device_types=CPU,GPU"
    os.environ[FLAGS] = f"{os.environ.get(FLAGS, '')} {ours}".strip()


def in_turns(sizes: Sequence[int], compile: Callable[[int], None]) -> None:
    """Call ``compile`` for each size; first for those that no other process is at, for it leaves them on disk.

    Where a file on disk is damaged, all are thrown away and compiled anew.
    """
    folder = _folder()
    if folder is None:
        for size in sizes:
            compile(size)
        return
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
            try:
                compile(size)
            except Exception as error:  # noqa: BLE001 - TensorFlow says in many ways that it cannot read a file
                log.warning("compiled_code_thrown_away", folder=str(folder), problem=str(error).partition("\n")[0])
                _keep(folder, 0)
                compile(size)
    _keep(folder, KEPT)
    _give_back()


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


def _give_back() -> None:
    """Return to the system what the compiler has freed, some 100 MiB; glibc keeps it otherwise. Elsewhere: nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def _keep(folder: Path, count: int) -> None:
    """Remove all files of TensorFlow but the newest; another process may do so too."""
    files = {path: path.stat().st_mtime for path in folder.glob("*.pb") if path.exists()}
    for path in sorted(files, key=lambda path: -files[path])[count:]:
        path.unlink(missing_ok=True)
