"""What a start leaves behind: libraries' pages are put aside, and nothing that was written is lost."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from pathlib import Path

import pytest

from app.garbage import SMAPS, Mapping, put_aside, unwritten

PAGES = 64

FIELDS = """Size:                 {size} kB
Rss:                  {size} kB
Private_Dirty:         {dirty} kB
Anonymous:             {dirty} kB
Swap:                  {swapped} kB
VmFlags: rd mr mw me
"""


def _smaps(*mappings: tuple[str, int, int, int]) -> str:
    return "".join(f"{head}\n{FIELDS.format(size=size, dirty=d, swapped=s)}" for head, size, d, s in mappings)


def test_what_nobody_can_write_or_has_written_may_go() -> None:
    smaps = _smaps(
        ("1000-3000 r--p 00000000 08:01 11    /lib/libm.so.6", 8, 0, 0),
        ("3000-4000 r-xp 00002000 08:01 11    /lib/with a space.so (deleted)", 4, 0, 0),
        ("4000-6000 r--p 00003000 08:01 11    /lib/relocated.so", 8, 4, 0),
        ("a000-c000 r--p 00003000 08:01 11    /lib/swapped.so", 8, 0, 4),
        ("6000-7000 rw-p 00005000 08:01 11    /lib/libm.so.6", 4, 0, 0),
        ("7000-8000 r--s 00000000 08:01 12    /shared", 4, 0, 0),
        ("8000-9000 r--p 00000000 00:00 0 ", 4, 0, 0),
        ("9000-a000 r-xp 00000000 00:00 0     [vdso]", 4, 0, 0),
    )

    assert list(unwritten(smaps)) == [Mapping(0x1000, 0x2000), Mapping(0x3000, 0x1000)]


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_was_only_read_is_put_aside_and_found_again_and_what_was_written_stays(tmp_path: Path) -> None:
    content = b"r" * PAGES * mmap.PAGESIZE
    (tmp_path / "read").write_bytes(content)
    (tmp_path / "written").write_bytes(content)
    with (tmp_path / "read").open("rb") as read, (tmp_path / "written").open("rb") as written:
        library = mmap.mmap(read.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        linked = mmap.mmap(written.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    linked[:3] = b"own"
    _protect(linked)
    assert library[:] == content
    assert _resident("read") == len(content) // 1024

    put_aside()

    assert _resident("read") == 0
    assert library[:] == content
    assert linked[:4] == b"ownr"


def _protect(linked: mmap.mmap) -> None:
    """Nobody can write to it any more, like to what a linker has prepared."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(linked))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(len(linked)), mmap.PROT_READ) == 0


def _resident(name: str) -> int:
    """KiB in memory of the mapping of a file."""
    found = re.search(rf"/{name}\n(?:.*\n)*?Rss: +(\d+) kB", SMAPS.read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1])
