"""The sizes of a batch that are compiled, and which of them those who wait make up."""

from __future__ import annotations

from collections.abc import Iterator, Sequence


class Sizes:
    """The sizes of a batch that a function is compiled for: powers of two from 1 on, and the largest there is.

    Each costs seconds of a first start and some 8 MiB of every worker.

    Args:
        most: the largest.
        without: powers of two that are left out.
    """

    def __init__(self, most: int, without: Sequence[int] = ()) -> None:
        powers = (1 << power for power in range(most.bit_length()))
        self._all = (*(size for size in powers if size != most and size not in without), most)
        self._fills = [filling(self._all, waiting) for waiting in range(1, most + 1)]

    def __iter__(self) -> Iterator[int]:
        return iter(self._all)

    @property
    def most(self) -> int:
        """The largest."""
        return self._all[-1]

    def above(self, rows: int) -> int:
        """The size that so many rows, at most ``most``, are padded to."""
        return next(size for size in self._all if size >= rows)

    def fill(self, waiting: int) -> int:
        """How many of those who wait to compute together; see :func:`filling`."""
        return self._fills[min(waiting, self.most) - 1] if waiting else 0


def for_answers(most: int) -> Sizes:
    """Of what each request needs. Two together would take as long as one after the other."""
    return Sizes(most, without=(2,))


def for_histories(most: int) -> Sizes:
    """Of what is needed where no state is cached. Histories come eight at a time, not often from several reads."""
    return Sizes(max(most // 2, 1), without=(2, 4))


def filling(sizes: Sequence[int], waiting: int) -> int:
    """How many of those who wait, at most the largest of the sizes (rising, from 1), fill one, or nearly.

    Padding is computed like anything else, so no more than an eighth may be lacking. Who is left over is in the next
    batch, with whoever has come by then. Up to eight less than half may be lacking: each batch also costs its way to
    the model's thread and back.
    """
    above, below = min(size for size in sizes if size >= waiting), max(size for size in sizes if size <= waiting)
    spare = above / 8 if above > 8 else (above - 1) / 2
    return waiting if above - waiting <= spare else below
