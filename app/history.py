"""What a user did so far, and who they are: a protocol, and its implementation on MongoDB."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from itertools import chain
from math import isfinite
from types import NoneType
from typing import Annotated, Any, NamedTuple, Protocol

from pydantic import AwareDatetime, FiniteFloat, Strict

from app.breakers import Guard, unguarded
from app.coalescing import Coalescer
from app.documents import OnUnreadable, Reader, ignore
from app.errors import HistoryUnavailable
from app.mongo import Database, Document, Refused, blocking, in_thread
from models.encode import Event

#: Events are counted up to here; a longer history is reported as this long.
COUNT_LIMIT = 10_000
#: Users whose histories one command reads, and commands that read so many at once.
TOGETHER, ROUNDS = 8, 4
#: What is read of an event, and its field there; in columns, for a list of each costs a third of a list of documents.
COLUMNS = {"id": "_id", "item_id": "item_id", "type": "type", "at": "at", "value": "value"}
#: With what was shown before it, where the model learned from that.
EXPOSING = {**COLUMNS, "exposed": "exposed"}
#: Where times begin; naive, as the dates of events are read.
EPOCH = datetime(1970, 1, 1)


@dataclass(frozen=True, slots=True)
class UserRecord:
    """What is stored of a user.

    Attributes:
        events: the newest ones, oldest first; events of the same time in the order of their ids.
        total: how many are stored in all, at most COUNT_LIMIT.
        profile: fields of the user, by name; empty for a user nobody described.
    """

    events: list[Event]
    total: int
    profile: Mapping[str, Any]


class History(Protocol):
    """Reads histories."""

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """The newest ``limit`` events; for an unknown user an empty record. Raises HistoryUnavailable."""
        ...


@dataclass(frozen=True, slots=True)
class _Event:
    """A document of the collection ``events``, as far as a history needs it; ``at`` must be a date, or its place in the
    history would be a guess."""

    item_id: str
    type: str
    at: Annotated[AwareDatetime, Strict()]
    value: FiniteFloat | None = None
    exposed: list[str] | None = None


@dataclass(frozen=True, slots=True)
class _User:
    """A document of the collection ``users``."""

    profile: dict[str, Any] = field(default_factory=dict)


class _Question(NamedTuple):
    user_id: str
    limit: int


class _Found(NamedTuple):
    """The columns of the newest events, newest first, the number of all, and the user."""

    columns: Mapping[str, list[Any]]
    total: int
    user: Document | None


class MongoHistory:
    """Histories in MongoDB, read from the primary, so that an acknowledged event is in every later read.

    Documents that cannot be read are left out and told to ``on_unreadable``. Reads go through ``guard``, those of many
    users by one command: while one reads, others gather. ``exposed`` says whether to read what was shown before events.
    """

    def __init__(
        self,
        database: Database,
        on_unreadable: OnUnreadable = ignore,
        guard: Guard = unguarded,
        *,
        exposed: bool = False,
    ) -> None:
        self._columns = EXPOSING if exposed else COLUMNS
        self._guard = guard
        self._database = blocking(database, aware=False)
        self._event_reader = Reader("events", _Event, on_unreadable)
        self._user_reader = Reader("users", _User, on_unreadable)
        self._together = Coalescer[_Question, _Found](self._ask, most=TOGETHER, partial=1, rounds=ROUNDS)

    async def recent(self, user_id: str, limit: int) -> UserRecord:
        """Events, their number, profile; one command where the history is not long. Raises HistoryUnavailable."""
        columns, total, user = await self._guard(lambda: self._together(_Question(user_id, limit)))
        users = self._user_reader.read([] if user is None else [user])
        return UserRecord(self._oldest_first(columns), total, _aware(users[0].profile) if users else {})

    async def _ask(self, asked: Sequence[_Question]) -> Sequence[_Found | Exception]:
        """What is found of each. Among them may be one whom the server refuses to read; then each is asked for alone.

        Raises HistoryUnavailable.
        """
        try:
            return await in_thread(self._database, partial(self._read, asked))
        except Refused:
            if len(asked) == 1:
                raise
        return [await self._alone(question) for question in asked]

    async def _alone(self, question: _Question) -> _Found | Exception:
        try:
            (found,) = await in_thread(self._database, partial(self._read, [question]))
        except HistoryUnavailable as error:
            return error
        return found

    def _read(self, asked: Sequence[_Question]) -> list[_Found]:
        """What is found of each, by one command where no history is long. Runs in a thread."""
        limit = max(question.limit for question in asked)
        seen = max(2 * limit, 1)
        pipeline = everything({question.user_id for question in asked}, limit, seen, self._columns)
        by_user = {document["_id"]: document for document in self._database.aggregate(pipeline)}
        return [self._found(question, by_user[question.user_id], seen) for question in asked]

    def _found(self, question: _Question, document: Document, seen: int) -> _Found:
        user = next(iter(document["users"]), None)
        if not document["events"]:
            return _Found({name: [] for name in self._columns}, 0, user)
        (events,) = document["events"]
        total = events["total"]
        if total == seen:
            # Not of the same moment: an event erased meanwhile must not make the part larger than the whole.
            found = self._database["events"].count_documents({"user_id": question.user_id}, limit=COUNT_LIMIT)
            total = max(total, found)
        columns = {name: events[name][: question.limit] for name in self._columns}
        return _Found(columns, min(total, COUNT_LIMIT), user)

    def _oldest_first(self, columns: Mapping[str, list[Any]]) -> list[Event]:
        """The events of columns. Where all are as we write them, nothing else is checked; else the reader does it."""
        _, items, kinds, times, values, *rest = (column[::-1] for column in columns.values())
        exposed = rest[0] if rest else [None] * len(items)
        lists = {*map(type, exposed)} <= {list, NoneType}
        shown = chain.from_iterable(each for each in exposed if each) if lists else ()
        ordinary = lists and {*map(type, items), *map(type, kinds), *map(type, shown)} <= {str}
        ordinary = ordinary and {*map(type, times)} <= {datetime}
        if ordinary and all(value is None or (type(value) is float and isfinite(value)) for value in values):
            return list(map(Event, items, kinds, [(at - EPOCH).total_seconds() for at in times], values, exposed))
        rows = zip(*(column[::-1] for column in columns.values()), strict=True)
        names = [self._columns[name] for name in columns]
        return [
            Event(event.item_id, event.type, event.at.timestamp(), event.value, event.exposed)
            for event in self._event_reader.read(_aware(dict(zip(names, row, strict=True))) for row in rows)
        ]


def _aware(document: Mapping[str, Any]) -> Document:
    """A document whose dates say that they are UTC."""
    return {
        name: value.replace(tzinfo=UTC) if isinstance(value, datetime) else value for name, value in document.items()
    }


def everything(user_ids: Iterable[str], limit: int, seen: int, fields: Mapping[str, str] = COLUMNS) -> list[Document]:
    """A pipeline on the database that gives a document a user, ``_id`` theirs: in ``events`` one, or none for a user
    without, with the number of the newest ``seen`` events and ``fields``, by name, of the newest ``limit``; and what is
    in ``users``.

    A command costs us more than what it asks for, so there is one. It looks at more events than it gives, so that most
    histories need no other to be counted, but not at all of them: to count thousands takes the index alone. Each user's
    events are found by the index of :data:`app.mongo.EVENT_INDEX`, in whose order they are.
    """
    columns = {name: {"$push": {"$ifNull": [f"${field}", None]}} for name, field in fields.items()}
    newest = [
        {"$sort": {"at": -1, "_id": -1}},
        {"$limit": seen},
        {"$group": {"_id": None, "total": {"$sum": 1}, **columns}},
        {"$project": {"total": True} | {name: {"$slice": [f"${name}", max(limit, 1)]} for name in fields}},
    ]
    return [
        {"$documents": [{"_id": {"$literal": user_id}} for user_id in user_ids]},  # or an id could be an expression
        {
            "$lookup": {
                "from": "events",
                "localField": "_id",
                "foreignField": "user_id",
                "pipeline": newest,
                "as": "events",
            }
        },
        {"$lookup": {"from": "users", "localField": "_id", "foreignField": "_id", "as": "users"}},
        {"$project": {"events": True, "users._id": True, "users.profile": True}},
    ]
