"""What start-up leaves behind: objects that stay, memory that is free again, and libraries that were read once."""

from __future__ import annotations

import ctypes
import gc
import re
from collections.abc import Iterator
from contextlib import suppress
from mmap import MADV_DONTNEED
from pathlib import Path
from typing import NamedTuple

#: New objects that outlive their makers before the young are looked through. Python's 700 would be met in every turn of
#: a busy loop; requests leave hardly any cycles.
YOUNG = 20_000

#: In /proc/<pid>/smaps, part of a file that nobody can write to: its addresses, and what the kernel says of it.
READ_ONLY = re.compile(r"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d* +/.*\n((?:[A-Z].*\n?)*)", re.MULTILINE)
#: Pages of it that were written to all the same, in memory and in swap: a linker did so before it closed the door.
WRITTEN = ("Anonymous", "Swap")
SMAPS = Path("/proc/self/smaps")


class Mapping(NamedTuple):
    """Part of a file in memory: where it begins, and its length in bytes."""

    address: int
    length: int


def settle() -> None:
    """Take what start-up has made out of every later search; called once, when it is all there.

    TensorFlow, the model's graphs and the catalogue are hundreds of thousands of objects that stay. A search through
    them holds the interpreter, and every request in it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
    give_back()
    put_aside()


def give_back() -> None:
    """Return to the system what is free; glibc would keep it, some 50 MiB after each function that XLA has compiled.
    Elsewhere: nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)


def put_aside() -> None:
    """Hold no page of a library until it is used again; it is then found where the system keeps files.

    Importing TensorFlow and compiling read some 400 MiB of code and constants that serving never looks at. They would
    count for this process as long as it lives (docs/performance.md). Where there is no /proc: nothing.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for mapping in unwritten(SMAPS.read_text(encoding="utf-8", errors="replace")):
            libc.madvise(ctypes.c_void_p(mapping.address), ctypes.c_size_t(mapping.length), MADV_DONTNEED)


def unwritten(smaps: str) -> Iterator[Mapping]:
    """Those mappings of files that nobody can write to, or has: what was written is nowhere else."""
    for first, last, facts in READ_ONLY.findall(smaps):
        if all(re.search(rf"^{fact}: +0 kB$", facts, re.MULTILINE) for fact in WRITTEN):
            yield Mapping(int(first, 16), int(last, 16) - int(first, 16))
