"""Newcomers: items on offer that the vocabulary lacks, and the rows of the model's tables in which they sit."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence

import structlog

from app.columns import ItemContent
from models.contract import UNKNOWN

log = structlog.stdlib.get_logger(__name__)

Seat = Callable[[Sequence[int], Sequence[ItemContent]], Awaitable[None]]


class Newcomers:
    """Who sits where. A seat is an internal id beyond the vocabulary.

    One that is given up rests until the catalogue has been read as a whole once more, which is minutes later: a request
    under way may still ask who sat there.

    Args:
        first: the first seat.
        count: how many there are.
        seat: writes contents into the rows of seats.
        on_waiting: told how many newcomers have found no seat.
    """

    def __init__(
        self, first: int, count: int, seat: Seat, on_waiting: Callable[[int], None] = lambda count: None
    ) -> None:
        self._count = count
        self._seat = seat
        self._on_waiting = on_waiting
        self._free = deque(range(first, first + count))
        self._resting: list[int] = []
        self._seats: dict[str, int] = {}
        self._sitting: dict[int, tuple[str, ItemContent]] = {}  # also while a seat rests
        self._waiting: set[str] = set()

    def __len__(self) -> int:
        """How many seats there are."""
        return self._count

    def item_id(self, name: str) -> int:
        """The seat of a newcomer, UNKNOWN for one that has none."""
        return self._seats.get(name, UNKNOWN)

    def at(self, seat: int) -> tuple[str, ItemContent]:
        """Who sits, or sat last, in a seat: external id and content."""
        return self._sitting[seat]

    async def look(self, found: Mapping[str, ItemContent], *, whole: bool) -> dict[int, ItemContent | None]:
        """Seat the newcomers that a look at the catalogue has found, and let go of those no longer on offer.

        Args:
            found: those that have changed, or all there are.
            whole: whether they are all.

        Returns:
            What is now in the seats that have changed, or in all that are taken; None where nobody sits any more.
        """
        if whole:
            self._free.extend(self._resting)
            self._resting.clear()
            self._waiting.clear()
        arrived = self._arrived(found)
        if arrived:
            await self._seat(list(arrived), [content for _, content in arrived.values()])
        for seat, (name, _) in arrived.items():
            if name not in self._seats:
                self._seats[name] = self._free.popleft()
            self._sitting[seat] = arrived[seat]
        gone = [name for name in self._seats if not (found[name].available if name in found else not whole)]
        seats = self._seats.values() if whole else arrived
        self._resting += (left := [self._seats.pop(name) for name in gone])
        self._tell(whole)
        return dict.fromkeys(left) | {seat: self._sitting[seat][1] for seat in seats}

    def _arrived(self, found: Mapping[str, ItemContent]) -> dict[int, tuple[str, ItemContent]]:
        """Those that are new, or not what they were, by the seats they get or have; nobody sits down yet."""
        free = iter(self._free)
        arrived: dict[int, tuple[str, ItemContent]] = {}
        for name, content in found.items():
            self._waiting.discard(name)
            if not content.available:
                continue
            if (seat := self._seats.get(name)) is not None:
                if self._sitting[seat][1] != content:
                    arrived[seat] = (name, content)
            elif (seat := next(free, None)) is not None:
                arrived[seat] = (name, content)
            else:
                self._waiting.add(name)
        return arrived

    def _tell(self, whole: bool) -> None:
        self._on_waiting(len(self._waiting))
        if whole and self._waiting:
            log.warning("newcomers_without_a_seat", count=len(self._waiting), setting="FORETELL_NEWCOMERS")
