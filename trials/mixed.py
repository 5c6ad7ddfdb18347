"""A load of everything that the service is asked, for the soak."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from trials.load import EVENT_SHARE, Load, Reply, User

#: Of the requests that are neither a plain prediction nor an event: one in ten of all.
OTHER_SHARE = 0.1
#: Events after which a user has left.
LIFE = 30

Request = tuple[str, str, dict[str, Any] | None]


class Mixed(Load):
    """As :class:`trials.load.Load`, but one request in ten is of another kind: named items, sessions, filters, batches,
    explanations, profiles, and guests, who come, are exported and erased.

    Users come and go: what is asked has to stay what it is, or whether answers get slower says nothing. Histories have
    every length below LIFE from the beginning, and who has done LIFE things makes room for somebody new.
    """

    _guests = 0
    _newcomers = 0

    async def _one(self) -> None:
        if self._random.random() >= OTHER_SHARE:
            await super()._one()
            return
        for method, path, body in self._random.choice(self._kinds)():
            asked = time.perf_counter()
            status, _ = await self._send(method, path, body)
            self._note(Reply("other", asked, 0.0, status))
            if status != 200:  # of somebody whose event was refused there is nothing to export
                return

    async def seed(self, events: int = LIFE) -> None:
        """Let user n have done n things, modulo ``events``."""
        for place, user in enumerate(self.users):
            for _ in range(place % events):
                await self.event(user)

    async def event(self, user: User) -> None:
        """See :meth:`Load.event`; after LIFE of them the user has left, and is asked about once more."""
        await super().event(user)
        if len(user.acknowledged) < LIFE or user.unsure is not None or user not in self.users:
            return
        self._newcomers += 1
        self.users[self.users.index(user)] = User(f"newcomer-{self._newcomers}")
        known = await self.predict(user)
        if known is not None and known != len(user.acknowledged):
            self.stale.append(f"{user.name} left with {known} events of {len(user.acknowledged)}")

    @property
    def _kinds(self) -> list[Callable[[], list[Request]]]:
        return [
            self._named,
            self._session_of,
            self._filtered,
            self._batch,
            self._explained,
            self._described,
            self._guest,
        ]

    def _user(self) -> str:
        return self._random.choice(self.users).name

    def _named(self) -> list[Request]:
        items = self._random.sample(self._items, 20)
        return [("POST", "/predict", {"user_id": self._user(), "items": items, "rank": "items"})]

    def _session_of(self) -> list[Request]:
        session = [{"type": "click", "item_id": item} for item in self._random.sample(self._items, 3)]
        body = {"user_id": self._user(), "session": session} if self._random.random() < 0.5 else {"session": session}
        return [("POST", "/predict", body)]

    def _filtered(self) -> list[Request]:
        filters = {"exclude_seen": ["click"], "price": {"max": self._random.uniform(10, 500)}}
        return [("POST", "/predict", {"user_id": self._user(), "filters": filters, "diversity": 0.3})]

    def _batch(self) -> list[Request]:
        return [("POST", "/predict/batch", {"requests": [{"user_id": self._user(), "k": 5} for _ in range(5)]})]

    def _explained(self) -> list[Request]:
        return [("POST", "/predict", {"user_id": self._user(), "k": 2, "explain": True})]

    def _described(self) -> list[Request]:
        return [("PUT", f"/users/{self._user()}", {"profile": {"country": self._random.choice(["DE", "FR", "IT"])}})]

    def _guest(self) -> list[Request]:
        """Somebody whom nobody has seen, and will not see again."""
        self._guests += 1
        user = f"guest-{self._guests}"
        event = {"event_id": f"{user}-1", "user_id": user, "item_id": self._random.choice(self._items), "type": "click"}
        return [
            ("POST", "/events", {"events": [event]}),
            ("POST", "/predict", {"user_id": user}),
            ("GET", f"/users/{user}", None),
            ("DELETE", f"/users/{user}", None),
        ]


#: What the load is made of, for the results.
SHARES = (
    f"{1 - OTHER_SHARE - (1 - OTHER_SHARE) * EVENT_SHARE:.0%} plain predictions, "
    f"{(1 - OTHER_SHARE) * EVENT_SHARE:.0%} events, {OTHER_SHARE:.0%} named items, sessions, filters, batches, "
    "explanations, profiles, exports and erasures"
)
