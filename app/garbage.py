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

#: In /proc/<pid>/smaps, the part of a library that nobody can write to: its addresses, and what the kernel says of it.
LIBRARY = re.compile(
    r"^([0-9a-f]+)-([0-9a-f]+) r-[-x]p \S+ \S+ [1-9]\d* +/.*\.so[.\d]*(?: \(deleted\))?\n((?:[A-Z].*\n?)*)",
    re.MULTILINE,
)
#: Less than this many KiB in memory are no gain, and a library that is being loaded has less.
LEAST = 1024
#: Pages that were written to all the same, in memory and in swap, in KiB: a linker did so before it closed the door.
WRITTEN = ("Anonymous", "Swap")
#: The kernel's marks of a mapping that could once be written to, and of those that are no files in the usual sense.
PECULIAR = {"ac", "ht", "io", "pf", "mm", "nr"}
SMAPS = Path("/proc/self/smaps")


class Mapping(NamedTuple):
    """Part of a file in memory: where it begins, and its length in bytes."""

    address: int
    length: int


def settle() -> None:
    """Take what start-up has made out of every later search, and hold nothing that only it needed; called once, when
    it is all there.

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

    Importing TensorFlow and compiling read code and constants that serving never looks at. They would count for this
    process as long as it lives (docs/performance.md). Where there is no /proc: nothing.
    """
    with suppress(AttributeError, OSError):
        libc = ctypes.CDLL(None)
        for mapping in unwritten(SMAPS.read_bytes().decode(errors="replace")):
            libc.madvise(ctypes.c_void_p(mapping.address), ctypes.c_size_t(mapping.length), MADV_DONTNEED)


def unwritten(smaps: str) -> Iterator[Mapping]:
    """Those parts of libraries that nobody has ever written to, for what was written is nowhere else."""
    for first, last, told in LIBRARY.findall(smaps):
        kib = {name: int(number) for name, number in re.findall(r"^(\w+): +(\d+) kB$", told, re.MULTILINE)}
        flags = re.search(r"^VmFlags: (.*)$", told, re.MULTILINE)
        read = kib.get("Rss", 0) >= LEAST and all(kib.get(name) == 0 for name in WRITTEN)
        if read and flags is not None and PECULIAR.isdisjoint(flags[1].split()):
            yield Mapping(int(first, 16), int(last, 16) - int(first, 16))
