"""The sizes of a batch that are compiled, and which of them those who wait make up."""

from __future__ import annotations

from collections.abc import Sequence


def sizes(most: int) -> list[int]:
    """The sizes of a batch that are compiled: 1, and from 8 on the powers of two up to ``most``.

    Each takes 16 MiB of every worker. To compute 4 together instead of one after the other would save a millisecond.
    """
    return [size for power in range(most.bit_length()) if (size := 2**power) not in (2, 4, most)] + [most]


def filling(sizes: Sequence[int], waiting: int) -> int:
    """How many of those who wait fill one of the sizes (rising, from 1), or lack no more than an eighth of it.

    Padding is computed like anything else. Who is left over is in the next batch, with whoever has come by then. Where
    they would be computed alone, less than half may be lacking: eight take as long as five one by one.
    """
    if waiting >= sizes[-1]:
        return waiting
    above, below = min(size for size in sizes if size >= waiting), max(size for size in sizes if size <= waiting)
    spare = above / 8 if below > 1 else (above - 1) / 2
    return waiting if above - waiting <= spare else below
