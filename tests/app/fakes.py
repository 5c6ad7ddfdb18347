"""Fakes of the service's parts: the same protocols, in memory, deterministic, and able to fail on demand.

A part whose ``lost`` is set raises what the real one raises when its server is away.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Collection, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
from limits import RateLimitItem
from numpy.typing import NDArray

from app.batching import BatchTime
from app.catalogue import ItemContent
from app.errors import CacheUnavailable, HistoryUnavailable, ModelUnavailable, Overloaded, RateLimited
from app.event_store import Inserted, StoredEvent
from app.history import UserRecord
from app.seats import Holder, Seating, Seats
from app.selection import Allowed, Selection
from app.states import CachedState, Lookup
from app.written import label_members
from models.artifact import Artifact, publish
from models.contract import FIRST, ITEM_BASE, STATE_TAIL, Behaviour, Contract, Field
from models.encode import Arrays, Event, Moment
from models.vocabulary import Ids, Vocabulary

ITEMS = ("shoe", "boot", "sock", "hat", "cap", "scarf")

CONTRACT = Contract(
    behaviours=(
        Behaviour("click", target=True, weight=0.1),
        Behaviour("cart"),
        Behaviour("purchase", target=True, value="amount", weight=1.0),
    ),
    fields=(Field("device", "request", 4), Field("country", "user", 4), Field("hour", "clock", 26)),
    category_sizes=(4, 6),
    history_length=4,
    state_shape=(4, STATE_TAIL),
    state_dtype="float32",
    items=FIRST + len(ITEMS),
    retrieval_size=len(ITEMS),
    value_scales={"amount": 20.0},
    exposed=2,
)

VOCABULARY = Vocabulary(
    items=ITEMS,
    fields={"device": ("mobile", "desktop"), "country": ("DE", "FR")},
    categories=(("feet", "head"), ("shoes", "socks", "hats", "scarves")),
)


def publish_artifact(root: Path) -> Artifact:
    """A real artifact for the fake model, with a file in place of the SavedModel."""

    def save(path: Path) -> None:
        path.mkdir()
        (path / "fake.txt").write_text("no model", encoding="utf-8")

    return publish(
        root,
        "storefront",
        kind="fake",
        contract=CONTRACT,
        vocabulary=VOCABULARY,
        golden=[],
        metrics={"validation": {"auc": {"click": 0.7}}},
        facts={"data": {"name": "storefront", "synthetic": True}},
        save_model=save,
    )


class FakeRuntime:
    """A model whose arithmetic can be done by hand.

    A state row is the tail every state has: type and item of an event.
    With c the internal id of a candidate and n the events in the state:
    click = 1 / (c + 1), purchase = click * (n + 1) / 10, amount = 10 * c, a newcomer's its price. Retrieval prefers low
    ids.
    """

    def __init__(self, artifact: Artifact) -> None:
        self.artifact = artifact
        self.device = "fake"
        self.places = CONTRACT.items  # no seats for newcomers
        self.failure: Exception | None = None
        self.hangs = False
        self.encoded: list[Arrays] = []
        self.contexts: list[list[int]] = []
        self.explains = True
        self.explained: list[Arrays] = []
        self.overloaded = self.away = False
        self.time = BatchTime()
        self.seated: dict[int, ItemContent] = {}
        self.seating = Seating(CONTRACT.items, 0, self.seat)

    def admit(self, deadline: float) -> None:
        """See :class:`app.model.Model`."""
        if self.away:
            raise ModelUnavailable
        if self.overloaded:
            raise Overloaded("Too many.", retry_after=3)

    def admitted(self, deadline: float) -> AbstractContextManager[None]:
        """See :class:`app.model.Model`."""
        self.admit(deadline)
        return nullcontext()

    async def encode(self, arrays: Arrays, *, deadline: float) -> NDArray[Any]:
        """See :class:`app.model.Model`."""
        await self._work()
        self.encoded.append(arrays)
        items = arrays["items"]
        tail = (arrays["ages"], arrays["types"], items // ITEM_BASE, items % ITEM_BASE)
        return np.stack(tail, axis=1).astype(np.float32)

    async def recommend(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        allowed: Allowed,
        count: int,
        *,
        deadline: float,
    ) -> tuple[Ids, dict[str, NDArray[Any]]]:
        """See :class:`app.model.Model`."""
        ids = np.arange(FIRST, CONTRACT.items, dtype=np.int32)
        best = ids[allowed.mask()[ids]]
        return best[:count], await self.score(state, length, moment, best[:count], deadline=deadline)

    async def score(
        self,
        state: NDArray[Any],
        length: int,
        moment: Moment,
        candidates: Ids,
        newcomers: Sequence[ItemContent] = (),
        *,
        deadline: float,
    ) -> dict[str, NDArray[Any]]:
        """See :class:`app.model.Model`."""
        await self._work()
        self.contexts.append(moment.fields.tolist())
        click = 1.0 / (candidates + 1.0)
        amount = 10.0 * candidates
        for i, content in enumerate(newcomers):
            amount[candidates == CONTRACT.items + i] = content.price
        columns = {"click": click, "purchase": click * (length + 1) / 10, "amount": amount}
        return {name: column.astype(np.float32) for name, column in columns.items()}

    def check(self) -> None:
        """See :class:`app.model.Model`."""

    def seats(self) -> Seats:
        """See :class:`app.model.Model`."""
        return Holder(self.seating)

    async def seat(self, seats: Sequence[int], contents: Sequence[ItemContent]) -> None:
        """What was written, for tests to look at."""
        self.seated.update(zip(seats, contents, strict=True))

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
        """See :class:`app.model.Model`; event s of L moves a target by s, a field by its id, the base is -c."""
        await self._work()
        self.explained.append(arrays)
        shape = (len(candidates), len(CONTRACT.targets))
        slots = np.where(arrays["items"] > 0, np.arange(1, CONTRACT.history_length + 1), 0)
        parts = {"events": slots, "context": moment.fields, "attributes": np.zeros(len(CONTRACT.attributes))}
        base = np.broadcast_to(-candidates[:, None], shape)
        moved = {name: np.broadcast_to(part, (*shape, len(part))) for name, part in parts.items()}
        return {name: part.astype(np.float32) for name, part in (moved | {"base": base}).items()}

    async def _work(self) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        if self.failure is not None:
            raise self.failure


class FakeHistory:
    """Histories in a dictionary."""

    def __init__(self) -> None:
        self.events: dict[str, list[tuple[str, Event]]] = {}
        self.profiles: dict[str, dict[str, Any]] = {}
        self.lost = False
        self.reads = 0

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """See :class:`app.history.History`."""
        self.reads += 1
        await self.ping()
        rows = sorted(self.events.get(user_id, []), key=lambda row: (row[1].at, row[0]))
        return UserRecord(
            events=[event for _, event in rows[-limit:]], total=len(rows), profile=self.profiles.get(user_id, {})
        )

    async def ping(self) -> None:
        """See :meth:`app.mongo.Mongo.ping`."""
        if self.lost:
            raise HistoryUnavailable("MongoDB did not answer.")


class FakeStates:
    """States in a dictionary, with the generations of the real cache."""

    def __init__(self) -> None:
        self.generations: dict[str, bytes] = {}
        self.states: dict[str, tuple[bytes, CachedState]] = {}
        self.tokens = 0
        self.lost = False
        self.invalidated: list[str] = []

    async def get(self, user_id: str) -> Lookup:
        """See :class:`app.states.States`."""
        self._ask()
        generation = self.generations.setdefault(user_id, self._token())
        computed, state = self.states.get(user_id, (b"", None))
        if state is None:
            return Lookup(state=None, generation=generation, outcome="miss")
        if computed != generation:
            return Lookup(state=None, generation=generation, outcome="stale")
        return Lookup(state=state, generation=generation, outcome="hit")

    async def put(self, user_id: str, generation: bytes, cached: CachedState) -> bool:
        """See :class:`app.states.States`."""
        self._ask()
        if self.generations.get(user_id) != generation:
            return False
        self.states[user_id] = (generation, cached)
        return True

    async def invalidate(self, user_ids: Iterable[str]) -> None:
        """See :class:`app.states.States`."""
        self._ask()
        for user_id in user_ids:
            self.invalidated.append(user_id)
            if user_id in self.generations:
                self.generations[user_id] = self._token()

    async def erase(self, user_id: str) -> None:
        """See :class:`app.states.States`."""
        self._ask()
        self.generations.pop(user_id, None)
        self.states.pop(user_id, None)

    async def ping(self) -> None:
        """See :func:`app.redis.ping`."""
        self._ask()

    def _ask(self) -> None:
        if self.lost:
            raise CacheUnavailable("Redis did not answer.")

    def _token(self) -> bytes:
        self.tokens += 1
        return self.tokens.to_bytes(16, "big")


class FakeLimiter:
    """Counts for ever, in a dictionary."""

    def __init__(self) -> None:
        self.counts: dict[str, int] = {}
        self.lost = False

    async def take(self, name: str, rate: RateLimitItem) -> bool:
        """See :class:`app.limits.Limiter`."""
        self.counts[name] = self.counts.get(name, 0) + 1
        if self.counts[name] > rate.amount:
            raise RateLimited("Too many requests.", retry_after=7)
        return not self.lost


class FakeUsers:
    """Nobody is held here."""

    async def describe(self, user_id: str, profile: Mapping[str, Any]) -> bool:
        """See :class:`app.users.Users`."""
        return True

    async def export(self, user_id: str) -> AsyncIterator[dict[str, Any]]:
        """See :class:`app.users.Users`."""
        documents: list[dict[str, Any]] = []
        for document in documents:
            yield document

    async def erase(self, user_id: str) -> dict[str, int]:
        """See :class:`app.users.Users`."""
        return {"users": 0, "events": 0, "exposures": 0}


class FakeEventStore:
    """Stores into a FakeHistory."""

    def __init__(self, history: FakeHistory) -> None:
        self.history = history
        self.events: dict[str, StoredEvent] = {}
        self.lost = False

    async def insert(self, events: Sequence[StoredEvent]) -> Inserted:
        """See :class:`app.event_store.EventStore`."""
        if self.lost:
            raise HistoryUnavailable("MongoDB did not answer.")
        accepted = []
        for place, event in enumerate(events):
            if event.event_id not in self.events:
                accepted.append(place)
                self.events[event.event_id] = event
                done = Event(event.item_id, event.type, event.at.timestamp(), event.value)
                self.history.events.setdefault(event.user_id, []).append((event.event_id, done))
        return Inserted(accepted, [place for place in range(len(events)) if place not in accepted])


class FakeCatalogue:
    """The six items of the vocabulary, and ``glove``, which only the catalogue knows."""

    def __init__(self) -> None:
        self.lost = False
        self.contents = {
            "shoe": ItemContent("Red shoe", ("feet", "shoes"), 80.0, available=True),
            "boot": ItemContent("Warm boot", ("feet", "shoes"), 120.0, available=True),
            "sock": ItemContent("Wool sock", ("feet", "socks"), 8.0, available=True),
            "hat": ItemContent("Felt hat", ("head", "hats"), 40.0, available=True),
            "cap": ItemContent(None, ("head", "hats"), 15.0, available=True),
            "scarf": ItemContent("Silk scarf", ("head", "scarves"), None, available=True),
            "glove": ItemContent("Glove", ("hands",), 20.0, available=True),
        }

    def item_id(self, name: str) -> int:
        """See :class:`app.offer.Offer`."""
        return VOCABULARY.item_id(name)

    def label(self, item: int) -> tuple[str, str | None]:
        """See :class:`app.offer.Offer`."""
        name = VOCABULARY.item_name(item)
        return name, self.contents[name].title

    def written(self, items: Iterable[int]) -> list[bytes]:
        """See :class:`app.offer.Offer`."""
        return [label_members(*self.label(item)) for item in items]

    def allowed(
        self,
        categories: Collection[str] = (),
        min_price: float | None = None,
        max_price: float | None = None,
    ) -> Selection:
        """See :class:`app.offer.Offer`."""
        mask = np.zeros(CONTRACT.items, np.bool_)
        for name in ITEMS:
            content = self.contents[name]
            price = np.nan if content.price is None else content.price
            mask[VOCABULARY.item_id(name)] = (
                content.available
                and (not categories or bool(set(categories) & set(content.categories)))
                and (min_price is None or price >= min_price)
                and (max_price is None or price <= max_price)
            )
        return Selection(mask)

    async def find(self, item_ids: Iterable[str]) -> dict[str, ItemContent]:
        """See :class:`app.offer.Offer`."""
        if self.lost:
            raise HistoryUnavailable("MongoDB did not answer.")
        return {name: self.contents[name] for name in item_ids if name in self.contents}
