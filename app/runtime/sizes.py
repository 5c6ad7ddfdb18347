"""The sizes of a batch that are compiled, and which of them those who wait make up."""

from __future__ import annotations

from collections.abc import Sequence


def sizes(most: int) -> list[int]:
    """The sizes of a batch that are compiled: the powers of two up to ``most``, but for 2.

    Each takes 16 MiB of every worker. Two together would take as long as one after the other.
    """
    return [size for power in range(most.bit_length()) if (size := 2**power) not in (2, most)] + [most]


def filling(sizes: Sequence[int], waiting: int) -> int:
    """How many of those who wait fill one of the sizes (rising, from 1), or lack no more than an eighth of it.

    Padding is computed like anything else. Who is left over is in the next batch, with whoever has come by then. Up to
    eight less than half may be lacking: each batch also costs its way to the model's thread and back.
    """
    if waiting >= sizes[-1]:
        return waiting
    above, below = min(size for size in sizes if size >= waiting), max(size for size in sizes if size <= waiting)
    spare = above / 8 if above > 8 else (above - 1) / 2
    return waiting if above - waiting <= spare else below
