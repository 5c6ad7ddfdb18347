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

#: A mapping's first line in /proc/<pid>/smaps, where a file is mapped: addresses, permissions, the file.
MAPPING = re.compile(r"([0-9a-f]+)-([0-9a-f]+) (\S{4}) \S+ \S+ [1-9]\d* +(/.*)")
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

    Importing TensorFlow and compiling read some 250 MiB of code and constants that serving never looks at. They would
    count for this process as long as it lives. Where there is no /proc: nothing.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for mapping in unwritten(SMAPS.read_text(encoding="utf-8", errors="replace")):
            libc.madvise(ctypes.c_void_p(mapping.address), ctypes.c_size_t(mapping.length), MADV_DONTNEED)


def unwritten(smaps: str) -> Iterator[Mapping]:
    """Those mappings of files that nobody can write to, or has: what a linker has changed, say, is nowhere else."""
    found: Mapping | None = None
    for line in smaps.splitlines():
        if line.startswith("Anonymous:"):
            if found is not None and line.split()[1] == "0":
                yield found
            found = None
        elif match := MAPPING.fullmatch(line):
            first, last = int(match[1], 16), int(match[2], 16)
            found = Mapping(first, last - first) if match[3] in ("r--p", "r-xp") else None
        elif not line[:1].isupper():  # a mapping of no file
            found = None
