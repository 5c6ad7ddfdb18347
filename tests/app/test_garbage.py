"""What a start leaves behind: libraries' pages are put aside, and nothing that was written is lost."""

from __future__ import annotations

import ctypes
import mmap
import re
import sys
from pathlib import Path

import pytest

from app.garbage import SMAPS, Mapping, put_aside, unwritten

KIB = 2048

FACTS = """Size:               2048 kB
Rss:                {rss} kB
Anonymous:          {anonymous} kB
Swap:               {swap} kB
VmFlags: rd ex mr mw me {flags}
"""


def _smaps(head: str, rss: int = KIB, anonymous: int = 0, swap: int = 0, flags: str = "") -> str:
    facts = FACTS.format(rss=rss, anonymous=anonymous, swap=swap, flags=flags)
    return (
        f"1000-3000 rw-p 00000000 08:01 11    /lib/libm.so.6\n{facts}{head}\n{facts}4000-5000 rw-p 0 00:00 0 \n{facts}"
    )


CODE = "3000-4000 r-xp 00002000 08:01 11    /lib/libm.so.6"


@pytest.mark.parametrize(
    "head",
    [CODE, "3000-4000 r--p 00000000 08:01 11    /lib/libm.so", CODE.replace("libm", "with a space") + " (deleted)"],
)
def test_what_nobody_can_write_to_or_ever_could_may_go(head: str) -> None:
    assert list(unwritten(_smaps(head))) == [Mapping(0x3000, 0x1000)]


@pytest.mark.parametrize(
    "smaps",
    [
        _smaps(CODE, anonymous=4),  # relocated
        _smaps(CODE, swap=4),  # relocated, and swapped out since
        _smaps(CODE, flags="ac"),  # could be written to once
        _smaps(CODE, rss=1020),  # not worth it
        _smaps(CODE, flags="ht"),
        _smaps(CODE).replace("VmFlags", "Flags"),  # a kernel that does not say
        _smaps(CODE).replace("Swap", "Sweep"),
        _smaps(CODE.replace("r-xp", "r-xs")),
        _smaps("3000-4000 r--p 00000000 08:01 12    /dev/shm/numbers"),
        _smaps("3000-4000 r-xp 00000000 00:00 0     [vdso]"),
        _smaps("3000-4000 r-xp 00000000 00:00 0 "),
        "",
    ],
)
def test_all_else_stays(smaps: str) -> None:
    assert not list(unwritten(smaps))


@pytest.mark.skipif(sys.platform != "linux", reason="/proc is Linux's")
def test_what_was_only_read_is_put_aside_and_found_again_and_what_was_written_stays(tmp_path: Path) -> None:
    content = b"r" * 1024 * KIB
    for name in ("read.so", "written.so"):
        (tmp_path / name).write_bytes(content)
    with (tmp_path / "read.so").open("rb") as read, (tmp_path / "written.so").open("rb") as written:
        library = mmap.mmap(read.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ)
        linked = mmap.mmap(written.fileno(), 0, mmap.MAP_PRIVATE, mmap.PROT_READ | mmap.PROT_WRITE)
    linked[:3] = b"own"
    _protect(linked)
    assert library[:] == content
    assert _resident("read.so") == KIB

    put_aside()

    assert _resident("read.so") == 0
    assert library[:] == content
    assert linked[:] == b"own" + content[3:]


def _protect(linked: mmap.mmap) -> None:
    """Nobody can write to it any more, like to what a linker has prepared."""
    address = ctypes.addressof(ctypes.c_char.from_buffer(linked))
    assert ctypes.CDLL(None).mprotect(ctypes.c_void_p(address), ctypes.c_size_t(len(linked)), mmap.PROT_READ) == 0


def _resident(name: str) -> int:
    """KiB in memory of the mapping of a file."""
    found = re.search(rf"/{name}\n(?:.*\n)*?Rss: +(\d+) kB", SMAPS.read_text(encoding="utf-8"))
    assert found is not None
    return int(found[1])
