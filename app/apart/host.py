"""The model process's end: what all HTTP processes ask meets in the batches of one model."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Coroutine, Sequence
from contextlib import asynccontextmanager
from socket import socket
from typing import Any, Protocol
from weakref import WeakValueDictionary

import numpy as np
import structlog

from app.apart.frames import Frames
from app.apart.messages import Answer, Ask, Drop, Failure, Greeting, Hello, Keep, Load, Marked
from app.batching import BatchTime
from app.errors import ForetellError
from app.model import Model
from app.seats import Holder, Seating
from app.selection import Allowed, Selection

log = structlog.stdlib.get_logger(__name__)


class Shared(Model, Protocol):
    """A model that several processes ask.

    Attributes:
        seating: its seats for newcomers.
        time: how long a batch of recommendations takes.
    """

    seating: Seating
    time: BatchTime


class Host:
    """Serves one model to all who connect."""

    def __init__(self, model: Shared) -> None:
        self.model = model
        self._guests: set[Guest] = set()
        self._empty = asyncio.Event()
        self._empty.set()
        self._selections: WeakValueDictionary[tuple[bytes, int], Selection] = WeakValueDictionary()

    @asynccontextmanager
    async def serving(self, listener: socket) -> AsyncIterator[None]:
        """Take connections while the context lasts, then close them. The listener stays its owner's."""
        listener.setblocking(False)
        accepting = asyncio.create_task(self._accept(listener))
        try:
            yield
        finally:
            accepting.cancel()
            await asyncio.gather(accepting, return_exceptions=True)
            for guest in self._guests:
                guest.close()
            await self.left()

    async def left(self) -> None:
        """Wait until nobody is connected."""
        await self._empty.wait()

    def enter(self, guest: Guest) -> None:
        """Somebody has connected."""
        self._guests.add(guest)
        self._empty.clear()

    def leave(self, guest: Guest) -> None:
        """Somebody has gone."""
        self._guests.discard(guest)
        if not self._guests:
            self._empty.set()

    def load(self, guest: Guest) -> Load:
        """How busy the model is, as one of those connected is told."""
        time = self.model.time
        return Load(time.a, time.b, sum(other.inside for other in self._guests if other is not guest))

    def selection(self, kept: Keep) -> Selection:
        """The selection of a message: one and the same object for the same items, whoever sends them, so that requests
        of several processes share a mask as those of one do."""
        key = (kept.bits, kept.size)
        found = self._selections.get(key)
        if found is None:
            bits = np.unpackbits(np.frombuffer(kept.bits, np.uint8), count=kept.size)
            found = self._selections[key] = Selection(bits.view(np.bool_))
        return found

    async def _accept(self, listener: socket) -> None:
        loop = asyncio.get_running_loop()
        while True:
            connection, _ = await loop.sock_accept(listener)
            await loop.connect_accepted_socket(lambda: Guest(self), connection)


class Guest(Frames):
    """One HTTP process.

    Attributes:
        inside: requests inside that process, as it said last.
    """

    def __init__(self, host: Host) -> None:
        super().__init__()
        self.inside = 0
        self._host = host
        self._holder = Holder(host.model.seating)
        self._selections: dict[int, Selection] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        model = host.model
        self._methods = {
            "encode": model.encode,
            "recommend": model.recommend,
            "score": model.score,
            "explain": model.explain,
            "take": self._holder.take,
            "leave": self._holder.leave,
        }

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """See :class:`asyncio.Protocol`."""
        super().connection_made(transport)
        self._host.enter(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """What it asked is not computed any more, and its newcomers give up their seats."""
        super().connection_lost(exc)
        for task in self._tasks:
            task.cancel()
        self._holder.close()
        self._host.leave(self)

    def head(self) -> Load:
        """How busy the model is."""
        return self._host.load(self)

    def received(self, head: int, messages: Sequence[Any]) -> None:
        """See :class:`app.apart.frames.Frames`."""
        self.inside = head
        for message in messages:
            match message:
                case Ask(arguments=arguments):
                    # Looked up here, for the next message may drop the selection.
                    self._start(self._answer(message, [self._given(argument) for argument in arguments]))
                case Keep(number=number):
                    self._selections[number] = self._host.selection(message)
                case Drop(number=number):
                    del self._selections[number]
                case Hello():
                    self._start(self._greet(message))

    def _given(self, argument: Any) -> Any:
        if isinstance(argument, Marked):
            return Allowed(self._selections[argument.number], argument.without)
        return argument

    def _start(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._loop.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _answer(self, ask: Ask, arguments: Sequence[Any]) -> None:
        method: Any = self._methods[ask.method]
        try:
            if ask.left is None:
                result = await method(*arguments)
            else:
                result = await method(*arguments, deadline=self._loop.time() + ask.left)
        except ForetellError as error:
            self.send(Failure(ask.number, error))
        except Exception:
            log.exception("model_failed", method=ask.method)
            self.send(Failure(ask.number, None))
        else:
            self.send(Answer(ask.number, result))

    async def _greet(self, hello: Hello) -> None:
        agreed = await self._holder.claim(hello.taken)
        model = self._host.model
        digest = str(model.artifact.manifest["digest"])
        self.send(Greeting(model.artifact.version, digest, model.device, model.places, model.explains, agreed))
