"""The rows of a model's tables beyond the vocabulary's: seats, which newcomers to the catalogue take and leave."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from typing import Protocol

from app.columns import ItemContent
from models.contract import UNKNOWN

Write = Callable[[Sequence[int], Sequence[ItemContent]], Awaitable[None]]

#: A newcomer's seat and content, by external id.
Taken = Mapping[str, tuple[int, ItemContent]]


class Seats(Protocol):
    """The seats as one process that looks at the catalogue has them."""

    async def take(self, newcomers: Mapping[str, ItemContent]) -> dict[str, int]:
        """The seats of newcomers, by external id, with their contents written there; who has one keeps it.

        Those that find none free are left out. A seat is an internal id.
        """
        ...

    async def leave(self, names: Collection[str]) -> None:
        """Give seats up; nothing of this process may ask for them any more."""
        ...


class Seating:
    """Who sits where in one model. Several processes may ask it: they agree, for there is only this one list.

    A seat is free again when the last process that took it has left it. Where two have read the catalogue at different
    times, a row may hold the older content until the one that wrote it looks again.

    Args:
        first: the first seat.
        count: how many there are.
        write: writes contents into the rows of seats.
    """

    def __init__(self, first: int, count: int, write: Write) -> None:
        self.write = write
        self._free = deque(range(first, first + count))  # may also name seats that were claimed
        self._seats: dict[str, int] = {}
        self._names: dict[int, str] = {}
        self._holders: dict[str, set[Holder]] = {}

    def sit(self, name: str, holder: Holder) -> int:
        """The seat of a newcomer; UNKNOWN where none is free."""
        while name not in self._seats:
            if not self._free:
                return UNKNOWN
            if (seat := self._free.popleft()) not in self._names:
                self._put(name, seat)
        self._holders[name].add(holder)
        return self._seats[name]

    def claim(self, name: str, seat: int, holder: Holder) -> bool:
        """Sit where an earlier model had a newcomer sit; False where others have come in between."""
        if seat not in self._names and name not in self._seats:
            self._put(name, seat)
        if self._seats.get(name) != seat:
            return False
        self._holders[name].add(holder)
        return True

    def stand_up(self, name: str, holder: Holder) -> None:
        """Let go of a newcomer's seat; nothing happens where it is not held."""
        holders = self._holders.get(name, set())
        holders.discard(holder)
        if not holders and name in self._seats:
            seat = self._seats.pop(name)
            del self._names[seat], self._holders[name]
            self._free.append(seat)

    def _put(self, name: str, seat: int) -> None:
        self._seats[name], self._names[seat] = seat, name
        self._holders[name] = set()


class Holder:
    """One process's hold on the seats of a :class:`Seating`; implements :class:`Seats`."""

    def __init__(self, seating: Seating) -> None:
        self._seating = seating
        self._held: set[str] = set()

    async def take(self, newcomers: Mapping[str, ItemContent]) -> dict[str, int]:
        """See :meth:`Seats.take`."""
        seats = {name: self._seating.sit(name, self) for name in newcomers}
        taken = {name: seat for name, seat in seats.items() if seat != UNKNOWN}
        self._held.update(taken)
        if taken:
            await self._seating.write(list(taken.values()), [newcomers[name] for name in taken])
        return taken

    async def leave(self, names: Collection[str]) -> None:
        """See :meth:`Seats.leave`."""
        for name in names:
            self._seating.stand_up(name, self)
        self._held.difference_update(names)

    async def claim(self, taken: Taken) -> bool:
        """Take the very seats that an earlier model gave; False, and nothing is held, where others sit there now."""
        for name, (seat, _) in taken.items():
            if not self._seating.claim(name, seat, self):
                self.close()
                return False
            self._held.add(name)
        if taken:
            seats, contents = zip(*taken.values(), strict=True)
            await self._seating.write(seats, contents)
        return True

    def close(self) -> None:
        """Leave everything: the process has gone."""
        for name in self._held:
            self._seating.stand_up(name, self)
        self._held.clear()
