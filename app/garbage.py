"""What start-up leaves behind: objects that stay, and memory that is free again."""

from __future__ import annotations

import ctypes
import gc
from contextlib import suppress

#: New objects that outlive their makers before the young are looked through. Python's 700 would be met in every turn of
#: a busy loop; requests leave hardly any cycles.
YOUNG = 20_000


def settle() -> None:
    """Take what start-up has made out of every later search; called once, when it is all there.

    TensorFlow, the model's graphs and the catalogue are hundreds of thousands of objects that stay. A search through
    them holds the interpreter, and every request in it.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
    give_back()


def give_back() -> None:
    """Return to the system what is free; glibc would keep it, some 50 MiB after each function that XLA has compiled.
    Elsewhere: nothing."""
    with suppress(AttributeError, OSError):
        ctypes.CDLL(None).malloc_trim(0)
