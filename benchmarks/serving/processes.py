"""What processes cost, read from /proc: memory and processor time, children included; and how they stand still."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")


def tree(pid: int) -> list[int]:
    """A process and all below it."""
    parents: dict[int, list[int]] = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit() and (fields := _stat(int(folder.name))):
            parents.setdefault(int(fields[1]), []).append(int(folder.name))
    found = [pid]
    for parent in found:
        found += parents.get(parent, [])
    return found


def halt(pid: int) -> None:
    """Let a process and all below it stand still."""
    _send(pid, signal.SIGSTOP)


def resume(pid: int) -> None:
    """Let a process that was halted, and all below it, run on."""
    _send(pid, signal.SIGCONT)


@contextmanager
def awake(pid: int) -> Iterator[None]:
    """Let a process that was halted, and all below it, run meanwhile."""
    resume(pid)
    try:
        yield
    finally:
        halt(pid)


def _send(pid: int, what: signal.Signals) -> None:
    for one in tree(pid):
        with suppress(ProcessLookupError):
            os.kill(one, what)


def cpu_seconds(pid: int) -> float:
    """Processor time of a process and all that run below it now."""
    return sum((int(f[11]) + int(f[12])) / TICKS for one in tree(pid) if (f := _stat(one)))


def resident_mib(pid: int) -> float:
    """Resident memory of one process, shared pages included."""
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    return 0.0


def largest_mib(pid: int) -> float:
    """Resident memory of the largest process below: a worker, for it holds the model."""
    return max(resident_mib(one) for one in tree(pid) if _stat(one))


def _stat(pid: int) -> list[str]:
    """The fields of /proc/PID/stat behind the name; none where the process has ended."""
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def thread_seconds(pid: int) -> dict[str, float]:
    """Processor time of each thread of a process, by name and number."""
    found = {}
    for folder in Path(f"/proc/{pid}/task").iterdir():
        head, _, rest = (folder / "stat").read_text(encoding="utf-8", errors="replace").rpartition(")")
        fields = rest.split()
        found[f"{head.partition('(')[2]} {folder.name}"] = (int(fields[11]) + int(fields[12])) / TICKS
    return found
