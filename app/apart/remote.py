"""The model of another process, as an HTTP process has it: no TensorFlow, only a connection that comes back."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Any

import structlog
from numpy.typing import NDArray

from app.apart.door import Door
from app.apart.link import Link
from app.columns import ItemContent
from app.errors import ModelUnavailable, StartupError
from app.seats import Taken
from app.selection import Allowed
from app.settings import Settings
from models.artifact import Artifact, open_artifact
from models.encode import Arrays, Moment
from models.vocabulary import Ids

log = structlog.stdlib.get_logger(__name__)

#: Between two attempts to connect where nobody listens; the supervisor keeps the socket, so only when it has gone.
RETRY_SECONDS = 0.2


def end_this_process() -> None:
    """Have this process end in order; the supervisor starts another one in its place."""
    os.kill(os.getpid(), signal.SIGTERM)


class Remote:
    """The model behind a Unix socket; implements :class:`app.model.Model`.

    While its process is away every question raises ModelUnavailable at once; the next process is asked as soon as it is
    warm.

    Args:
        address: path of the socket.
        on_stranger: called where the next process has another model, or has given the newcomers' seats to others, so
            that what this process has in memory is not true any more.
    """

    def __init__(
        self, address: Path, artifact: Artifact, link: Link, door: Door, on_stranger: Callable[[], None]
    ) -> None:
        greeting = link.greeting.result()
        self.artifact = artifact
        self.device = greeting.device
        self.places = greeting.places
        self.explains = greeting.explains
        self._address = address
        self._door = door
        self._on_stranger = on_stranger
        self._link: Link | None = link
        self._seats = RemoteSeats(self._connected)
        self._back = asyncio.Event()
        self._back.set()

    def check(self) -> None:
        """See :meth:`app.model.Model.check`."""
        if self._link is None:
            raise ModelUnavailable

    def admit(self, deadline: float) -> None:
        """See :meth:`app.model.Model.admit`."""
        self.check()
        self._door.admit(deadline)

    def admitted(self, deadline: float) -> AbstractContextManager[None]:
        """See :meth:`app.model.Model.admitted`."""
        self.check()
        return self._door.admitted(deadline)

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """See :meth:`app.model.Model.encode`."""
        state: NDArray[Any] = await self._now().ask("encode", deadline, arrays)
        return state

    async def recommend(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        allowed: Allowed,
        count: int,
        *,
        deadline: float,
    ) -> tuple[Ids, Arrays]:
        """See :meth:`app.model.Model.recommend`."""
        link = self._now()
        found: tuple[Ids, Arrays] = await link.ask(
            "recommend", deadline, state, length, moment, link.marked(allowed), count
        )
        return found

    async def score(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> Arrays:
        """See :meth:`app.model.Model.score`."""
        outcomes: Arrays = await self._now().ask("score", deadline, state, length, moment, candidates, newcomers)
        return outcomes

    async def explain(
        self,
        arrays: Arrays,
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> Arrays:
        """See :meth:`app.model.Model.explain`."""
        parts: Arrays = await self._now().ask("explain", deadline, arrays, length, moment, candidates, newcomers)
        return parts

    def seats(self) -> RemoteSeats:
        """See :meth:`app.model.Model.seats`."""
        return self._seats

    async def stay(self) -> None:
        """Until cancelled: wait for the end of the connection, and for the next process."""
        while True:
            await self._now().closed.wait()
            self._link = None
            self._back.clear()
            log.warning("model_lost", model=self.artifact.name)
            link = await self._again()
            greeting = link.greeting.result()
            if not greeting.agreed or greeting.digest != self.artifact.manifest["digest"]:
                log.error("model_is_another", model=self.artifact.name)
                self._on_stranger()
                return
            self._link = link
            self._back.set()
            log.info("model_back", model=self.artifact.name)

    async def _again(self) -> Link:
        while True:
            try:
                return await connect(self._address, self._door, self._seats.taken)
            except OSError:  # the service ends, and so does this process, soon
                await asyncio.sleep(RETRY_SECONDS)

    def close(self) -> None:
        """End the connection."""
        if self._link is not None:
            self._link.close()

    def _now(self) -> Link:
        self.check()
        assert self._link is not None
        return self._link

    async def _connected(self) -> Link:
        """The connection; waited for where there is none."""
        await self._back.wait()
        return self._now()


async def connect(address: Path, door: Door, taken: Taken) -> Link:
    """A connection to a model that is warm; waited for while the process starts, or is started again.

    Raises OSError where nobody listens, now or ever.
    """
    loop = asyncio.get_running_loop()
    while True:
        _, link = await loop.create_unix_connection(lambda: Link(door, taken), str(address))
        try:
            await link.greeting
        except ModelUnavailable:
            continue
        except BaseException:
            link.close()
            raise
        return link


@asynccontextmanager
async def connected(
    address: Path, settings: Settings, on_stranger: Callable[[], None] = end_this_process
) -> AsyncIterator[Remote]:
    """The model of the process that listens at a path, waited for until it is warm; its artifact is read here as well.

    Raises:
        StartupError: nobody listens, or the model's files are not those that the process has read.
        ArtifactError: they are damaged.
    """
    door = Door(settings.max_batch, settings.queue_limit)
    try:
        link = await connect(address, door, {})
    except OSError as error:
        raise StartupError(f"The model's process does not listen ({error.strerror}): it has ended.") from error
    try:
        greeting = link.greeting.result()
        artifact = await asyncio.to_thread(open_artifact, settings.model_root, settings.model_name, greeting.version)
        if artifact.manifest["digest"] != greeting.digest:
            raise StartupError(f"{artifact.path} has changed since the model's process has read it; start it again.")
        remote = Remote(address, artifact, link, door, on_stranger)
        staying = asyncio.create_task(remote.stay())
        try:
            yield remote
        finally:
            staying.cancel()
            await asyncio.gather(staying, return_exceptions=True)
            remote.close()
    finally:
        link.close()


class RemoteSeats:
    """The seats of this process's newcomers; implements :class:`app.seats.Seats`.

    While the model is away it waits: whoever looks at the catalogue goes on when the model is back.

    Attributes:
        taken: the seats and what was last written there, for the next process.
    """

    def __init__(self, connected: Callable[[], Any]) -> None:
        self._connected = connected
        self.taken: dict[str, tuple[int, ItemContent]] = {}

    async def take(self, newcomers: Mapping[str, ItemContent]) -> dict[str, int]:
        """See :meth:`app.seats.Seats.take`."""
        seats: dict[str, int] = await self._ask("take", newcomers)
        self.taken.update({name: (seat, newcomers[name]) for name, seat in seats.items()})
        return seats

    async def leave(self, names: Collection[str]) -> None:
        """See :meth:`app.seats.Seats.leave`."""
        for name in names:
            self.taken.pop(name, None)
        await self._ask("leave", list(names))

    async def _ask(self, method: str, argument: Any) -> Any:
        while True:
            link: Link = await self._connected()
            try:
                return await link.ask(method, None, argument)
            except ModelUnavailable:
                await asyncio.sleep(0)  # Remote.stay hears of it, too
