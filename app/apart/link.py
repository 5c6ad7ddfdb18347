"""A connection to the model process, as an HTTP process has it."""

from __future__ import annotations

import asyncio
import itertools
import weakref
from collections.abc import Sequence
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np

from app.apart.door import Door
from app.apart.frames import Frames
from app.apart.messages import Answer, Ask, Drop, Failure, Greeting, Hello, Keep, Load, Marked
from app.errors import Internal, ModelUnavailable
from app.seats import Taken
from app.selection import Allowed, Selection


class Link(Frames):
    """Asks, and hands the answers to who asked.

    Args:
        door: knows how many requests are inside, and is told how busy the model is.
        taken: the seats of this process's newcomers.

    Attributes:
        greeting: what the model says first; ModelUnavailable where the connection ends before.
        closed: set when the connection has ended.
    """

    def __init__(self, door: Door, taken: Taken) -> None:
        super().__init__()
        self._door = door
        self._taken = taken
        self.greeting: asyncio.Future[Greeting] = self._loop.create_future()
        self.closed = asyncio.Event()
        self._asked: dict[int, asyncio.Future[Any]] = {}
        self._numbers = itertools.count()
        self._kept: WeakKeyDictionary[Selection, int] = WeakKeyDictionary()

    async def ask(self, method: str, deadline: float | None, *arguments: Any) -> Any:
        """Call a method of the model. Raises what it raises, ModelUnavailable where the connection ends."""
        number, left = next(self._numbers), None if deadline is None else deadline - self._loop.time()
        if self.closed.is_set():
            raise ModelUnavailable
        future = self._asked[number] = self._loop.create_future()
        self.send(Ask(number, method, left, arguments))
        try:
            return await future
        finally:
            self._asked.pop(number, None)

    def marked(self, allowed: Allowed) -> Marked:
        """What is allowed, by the number of its selection, which is sent when it is asked with for the first time."""
        selection = allowed.selection
        number = self._kept.get(selection)
        if number is None:
            number = self._kept[selection] = next(self._numbers)
            self.send(Keep(number, np.packbits(selection.mask).tobytes(), len(selection.mask)))
            weakref.finalize(selection, self._drop, number).atexit = False
        return Marked(number, allowed.without)

    def head(self) -> int:
        """How many requests are inside this process."""
        return self._door.inside

    def received(self, head: Load, messages: Sequence[Any]) -> None:
        """See :class:`app.apart.frames.Frames`."""
        self._door.told(head)
        for message in messages:
            if isinstance(message, Greeting):
                if not self.greeting.done():
                    self.greeting.set_result(message)
            elif (future := self._asked.get(message.number)) is not None and not future.done():
                _settle(future, message)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Say who is there."""
        super().connection_made(transport)
        self.send(Hello(self._taken))

    def connection_lost(self, exc: Exception | None) -> None:
        """Whoever waits is told so at once."""
        super().connection_lost(exc)
        self.closed.set()
        for future in (self.greeting, *self._asked.values()):
            if not future.done():
                future.set_exception(ModelUnavailable())
        self.greeting.exception()  # nobody may have asked for it

    def _drop(self, number: int) -> None:
        """On whatever thread the last reference to a selection goes."""
        if not self.closed.is_set() and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self.send, Drop(number))


def _settle(future: asyncio.Future[Any], message: Answer | Failure) -> None:
    if isinstance(message, Answer):
        future.set_result(message.result)
    else:
        future.set_exception(message.error or Internal())
