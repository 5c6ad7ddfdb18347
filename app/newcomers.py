"""Newcomers: items on offer that the vocabulary lacks, and the rows of the model's tables in which they sit."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import structlog

from app.columns import ItemContent
from app.seats import Seats
from models.contract import UNKNOWN

log = structlog.stdlib.get_logger(__name__)


class Newcomers:
    """Who sits where, as this process knows it. A seat is an internal id beyond the vocabulary.

    One whose newcomer is no longer on offer is left only when the catalogue has been read as a whole once more, minutes
    later: a request under way may still ask who sat there.

    Args:
        count: how many seats there are.
        seats: the model's.
        on_waiting: told how many newcomers have found no seat.
    """

    def __init__(self, count: int, seats: Seats, on_waiting: Callable[[int], None] = lambda count: None) -> None:
        self._count = count
        self._model_seats = seats
        self._on_waiting = on_waiting
        self._resting: set[str] = set()  # no longer on offer, and still in their seats
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
            away = {name for name in self._resting if not (name in found and found[name].available)}
            self._resting -= away
            self._waiting.clear()
            await self._model_seats.leave(away)
        arrived = await self._seated(found)
        gone = [name for name in self._seats if not (found[name].available if name in found else not whole)]
        seats = self._seats.values() if whole else arrived
        left = [self._seats.pop(name) for name in gone]
        self._resting.update(gone)
        self._tell(whole)
        return dict.fromkeys(left) | {seat: self._sitting[seat][1] for seat in seats}

    async def _seated(self, found: Mapping[str, ItemContent]) -> list[int]:
        """Seat those that are new, or not what they were; their seats."""
        on_offer = {name: content for name, content in found.items() if content.available}
        arrived = {name: content for name, content in on_offer.items() if self._is_news(name, content)}
        taken = await self._model_seats.take(arrived) if arrived else {}
        for name, seat in taken.items():
            self._seats[name] = seat
            self._sitting[seat] = (name, arrived[name])
        self._resting.difference_update(taken)
        self._waiting.difference_update(found)
        self._waiting.update(arrived.keys() - taken.keys())
        return list(taken.values())

    def _is_news(self, name: str, content: ItemContent) -> bool:
        seat = self._seats.get(name)
        return seat is None or self._sitting[seat][1] != content

    def _tell(self, whole: bool) -> None:
        self._on_waiting(len(self._waiting))
        if whole and self._waiting:
            log.warning("newcomers_without_a_seat", count=len(self._waiting), setting="FORETELL_NEWCOMERS")
