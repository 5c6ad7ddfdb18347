"""Users of the service, arriving at a steady rate whatever the answers take, who remember what they were promised."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Literal, Self

import aiohttp
import orjson

BROKEN, REFUSED, HUNG = 0, -1, -2
NAMES = {BROKEN: "broken", REFUSED: "refused", HUNG: "hung"}
#: Seconds after which an answer is called a hang.
PATIENCE = 20.0
EVENT_SHARE = 0.2
HEADERS = {"Content-Type": "application/json"}


@dataclass(frozen=True, slots=True)
class Reply:
    """One answer, or that there was none: BROKEN, the connection ended; REFUSED, nobody took it; HUNG, nothing came."""

    route: Literal["predict", "events", "other"]
    asked_at: float
    seconds: float
    status: int
    degraded: Sequence[str] = ()
    state: str = ""

    @property
    def fine(self) -> bool:
        """As if nothing was wrong."""
        return self.status == 200 and not self.degraded


@dataclass(slots=True)
class User:
    """Somebody, and the events the service knows of.

    Attributes:
        acknowledged: events it promised to keep.
        visible: how many of them every later answer must count, because the promise named nothing that was missing.
        unsure: the event whose fate is unknown; it is sent again before any other.
    """

    name: str
    acknowledged: list[str] = field(default_factory=list)
    visible: int = 0
    unsure: dict[str, Any] | None = None
    busy: bool = False
    made: int = 0


class Load:
    """``rate`` requests a second, one in five of them an event. Use it as an async context. ``headers`` come along with
    each: the key.

    Attributes:
        replies: of every request, in the order of their answers.
        stale: one sentence for each answer that knew less than it had to.
        welcome: whether requests are sent at all now; a balancer would ask the service's readiness.
    """

    def __init__(
        self,
        base: str,
        users: int,
        items: Sequence[str],
        rate: float,
        seed: int = 1,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        self.users = [User(f"user-{seed}-{n:04d}") for n in range(users)]
        self.rate = rate
        self.replies: list[Reply] = []
        self.stale: list[str] = []
        self.welcome: Callable[[], bool] = lambda: True
        self._base = base
        self._headers = HEADERS | dict(headers or {})
        self._items = items
        self._random = random.Random(seed)
        self._running: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._session = await aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=0, keepalive_timeout=3.0),  # shorter than the server's
            timeout=aiohttp.ClientTimeout(total=PATIENCE),
            headers=self._headers,
        ).__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._session.__aexit__(kind, error, trace)

    async def seed(self, events: int) -> None:
        """Let every user have done something."""
        for user in self.users:
            for _ in range(events):
                await self.event(user)

    async def capacity(self, seconds: float, clients: int = 16) -> float:
        """Requests a second that so many clients get answered, each asking again as soon as it is answered."""
        until, before = time.perf_counter() + seconds, len(self.replies)

        async def client() -> None:
            while time.perf_counter() < until:
                await self._one()

        await asyncio.gather(*(client() for _ in range(clients)))
        return (len(self.replies) - before) / seconds

    async def run(self, until: asyncio.Event) -> None:
        """Ask at the rate until told to end, then wait for the answers."""
        begin, asked = time.perf_counter(), 0
        while not until.is_set():
            due = int((time.perf_counter() - begin) * self.rate)
            for _ in range(due - asked if self.welcome() else 0):
                task = asyncio.create_task(self._one())
                self._running.add(task)
                task.add_done_callback(self._running.discard)
            asked = due
            await asyncio.sleep(0.5 / self.rate)
        await asyncio.gather(*self._running)

    async def _one(self) -> None:
        user = self._random.choice(self.users)
        if self._random.random() < EVENT_SHARE and not user.busy:
            await self.event(user)
        else:
            await self.predict(user)

    async def predict(self, user: User) -> int | None:
        """Ask what a user does next; returns how many events the answer counts, where it knows."""
        must, asked = user.visible, time.perf_counter()
        status, body = await self._post("/predict", {"user_id": user.name, "k": 10})
        provenance: dict[str, Any] = body["provenance"] if status == 200 else {"degraded": (), "state": ""}
        self._note(Reply("predict", asked, 0.0, status, provenance["degraded"], provenance["state"]))
        if status != 200 or "history" in provenance["degraded"]:
            return None
        if body["user_id"] != user.name:
            self.stale.append(f"{user.name} got the answer of {body['user_id']}")
        if provenance["history"] < must:
            self.stale.append(f"{user.name} has {provenance['history']} events of {must} ({provenance})")
        return int(provenance["history"])

    async def event(self, user: User) -> None:
        """Do something; one that was not acknowledged is sent again, as clients should."""
        user.busy = True
        try:
            if user.unsure is None:
                user.made += 1
                user.unsure = {
                    "event_id": f"{user.name}-{user.made}",
                    "user_id": user.name,
                    "item_id": self._random.choice(self._items),
                    "type": "click",
                }
            asked = time.perf_counter()
            status, body = await self._post("/events", {"events": [user.unsure]})
            self._note(Reply("events", asked, 0.0, status, body["degraded"] if status == 200 else ()))
            if status == 200 and body["accepted"] + body["duplicates"] == 1:
                user.acknowledged.append(user.unsure["event_id"])
                user.unsure = None
                if not body["degraded"]:
                    user.visible = len(user.acknowledged)
        finally:
            user.busy = False

    async def settle(self) -> list[str]:
        """Send again what was not acknowledged, then ask for each user: one sentence for each answer that is wrong."""
        for user in self.users:
            while user.unsure is not None:
                await self.event(user)
        wrong = []
        for user in self.users:
            known = await self.predict(user)
            if known != len(user.acknowledged):
                promised = f"{len(user.acknowledged)}, {user.visible} of them promised to be visible"
                wrong.append(f"{user.name} has {known} events of {promised}")
            user.visible = len(user.acknowledged)
        return wrong

    def _note(self, reply: Reply) -> None:
        seconds = time.perf_counter() - reply.asked_at
        self.replies.append(
            Reply(reply.route, reply.asked_at, seconds, reply.status, tuple(reply.degraded), reply.state)
        )

    async def _post(self, path: str, body: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        status, content = await self._send("POST", path, body)
        return status, orjson.loads(content) if status > 0 else {}

    async def _send(self, method: str, path: str, body: dict[str, Any] | None = None) -> tuple[int, bytes]:
        """Status and content of an answer."""
        data = None if body is None else orjson.dumps(body)
        try:
            async with self._session.request(method, self._base + path, data=data) as answer:
                return answer.status, await answer.read()
        except TimeoutError:
            return HUNG, b""
        except aiohttp.ClientConnectorError:
            return REFUSED, b""
        except aiohttp.ClientError:
            return BROKEN, b""


def percentile(seconds: Sequence[float], share: float) -> float:
    """The value below which this share of the values lies; 0 of none."""
    ordered = sorted(seconds)
    return ordered[min(int(share * len(ordered)), len(ordered) - 1)] if ordered else 0.0


def statuses(replies: Sequence[Reply]) -> dict[str, int]:
    """How often each status came, by name."""
    return dict(Counter(NAMES.get(reply.status, str(reply.status)) for reply in replies).most_common())
