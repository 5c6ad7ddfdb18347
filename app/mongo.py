"""MongoDB: the only file that imports motor, so that the day it is replaced touches one file."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any, TypeAlias, TypeVar, cast
from urllib.parse import urlsplit

import pymongo
import structlog
from bson.errors import BSONError
from motor.frameworks.asyncio import run_on_executor
from motor.motor_asyncio import AsyncIOMotorClient, AsyncIOMotorCollection, AsyncIOMotorDatabase
from pymongo import ASCENDING, DESCENDING
from pymongo.database import Database as BlockingDatabase
from pymongo.errors import BulkWriteError, ConfigurationError, ConnectionFailure, OperationFailure, PyMongoError

from app.errors import HistoryUnavailable, StartupError, Unreachable

Document = dict[str, Any]
Database: TypeAlias = "AsyncIOMotorDatabase[Document]"
Collection: TypeAlias = "AsyncIOMotorCollection[Document]"
Blocking: TypeAlias = "BlockingDatabase[Document]"  #: a database to use in a thread
T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)

#: The first version that joins documents of a command (``$documents``, in :func:`app.history.everything`).
OLDEST = (6, 0)
#: Most connections to the server. Motor works in threads (MOTOR_MAX_WORKERS, five a core), so more would idle.
POOL_SIZE = 64
#: Seconds for reading a whole catalogue or building an index.
BULK_SECONDS = 120.0
#: A user's newest events first; ties in time are ordered by event id, here as everywhere.
EVENT_INDEX = [("user_id", ASCENDING), ("at", DESCENDING), ("_id", DESCENDING)]
#: What changed in the catalogue since the last look.
ITEM_INDEX = [("updated_at", ASCENDING)]
#: MongoDB's code for a key that is taken.
DUPLICATE_KEY = 11000


class Refused(HistoryUnavailable):
    """MongoDB answers, but does not do what we ask: wrong password, missing rights. ``reason`` is for the operator."""

    answered = True

    def __init__(self, reason: str) -> None:
        super().__init__("MongoDB refused a command; the log has the reason.")
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Mongo:
    """An open client and the database the service works in."""

    client: AsyncIOMotorClient[Document]
    database: Database

    async def ping(self) -> None:
        """Raises HistoryUnavailable where the server does not answer in time."""
        with driver_errors():
            await self.client.admin.command("ping")

    async def version(self) -> tuple[int, ...]:
        """Major and minor version of the server. Raises HistoryUnavailable."""
        with driver_errors():
            about = await self.client.admin.command("buildInfo")
        return tuple(about["versionArray"][:2])

    async def ensure_indexes(self) -> None:
        """Create the indexes that the service's queries need; those that exist stay. Raises HistoryUnavailable."""
        with driver_errors(), patience():
            await self.database.events.create_index(EVENT_INDEX)
            await self.database.items.create_index(ITEM_INDEX)

    async def close(self) -> None:
        """Close every connection. In a thread: Motor's own ``close`` waits for the server's reply to its goodbye, for
        half a minute where that does not come, and would stop the event loop so long."""
        await asyncio.to_thread(self.client.close)


async def connect(url: str, database: str, timeout_ms: int) -> Mongo:
    """Open a client and see that the server answers.

    Reads go to the primary, so that an acknowledged event is in the next read; writes are acknowledged by a majority,
    from the journal, so that none is taken back. ``timeout_ms`` bounds a whole operation, its one retry included.

    Raises:
        StartupError: the URL is none, or the server does not let us in.
        Unreachable: nobody answers there.
    """
    try:
        client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(
            url,
            appname="foretell",
            timeoutMS=timeout_ms,
            serverSelectionTimeoutMS=timeout_ms,
            connectTimeoutMS=timeout_ms,
            maxPoolSize=POOL_SIZE,
            readPreference="primary",
            w="majority",
            journal=True,
            tz_aware=True,
            datetime_conversion="DATETIME_AUTO",  # or one date that Python has no word for makes its batch unreadable
        )
        mongo = Mongo(client, client[database])
    except (PyMongoError, ValueError) as error:
        raise StartupError("FORETELL_MONGO_URL is not a URL of MongoDB; see the configuration table.") from error
    try:
        version = await mongo.version()
    except Refused as error:
        await mongo.close()
        raise refusal(url, error) from error
    except HistoryUnavailable as error:
        await mongo.close()
        raise Unreachable(
            f"MongoDB does not answer at {_address(url)} within {timeout_ms} ms; start it, or set FORETELL_MONGO_URL."
        ) from error
    if version < OLDEST:
        await mongo.close()
        have, need = (".".join(map(str, parts)) for parts in (version, OLDEST))
        raise StartupError(f"MongoDB at {_address(url)} is version {have}; Foretell needs {need} or newer.")
    return mongo


def refusal(url: str, error: Refused) -> StartupError:
    """What the operator is told where MongoDB refuses what the start needs."""
    return StartupError(
        f"MongoDB at {_address(url)} refuses us ({error.reason}); check user and password in FORETELL_MONGO_URL, "
        "and that the user may read and write."
    )


def blocking(database: Database, *, aware: bool = True) -> Blocking:
    """The same database for the work of :func:`in_thread`.

    Dates that are not to be ``aware`` are UTC all the same; to say so costs more than to read them.
    """
    plain = cast("Blocking", database.delegate)
    return plain.with_options(codec_options=plain.codec_options.with_options(tz_aware=aware))


async def in_thread(database: Blocking, work: Callable[[], T]) -> T:
    """What ``work`` returns, which asks ``database``'s server one thing after the other.

    Each operation of Motor's goes to a thread and comes back, which costs as much processor time as a small query;
    here they go once, and together they get the time of one. Raises HistoryUnavailable.
    """
    seconds = database.client.options.timeout

    def in_time() -> T:
        with pymongo.timeout(seconds):
            return work()

    with driver_errors():
        found: T = await run_on_executor(asyncio.get_running_loop(), in_time)
        return found


async def insert_new(collection: Collection, documents: Sequence[Document]) -> set[int]:
    """Insert those documents whose id is not taken; returns the places of the others. Raises HistoryUnavailable: some
    may be stored, others not."""
    with driver_errors():
        try:
            await collection.insert_many(documents, ordered=False)
        except BulkWriteError as error:
            return taken(error)
    return set()


def taken(error: BulkWriteError) -> set[int]:
    """The places, in an unordered insert, of documents whose id was taken. Raises the error where more went wrong."""
    failures = error.details.get("writeErrors", [])
    if error.details.get("writeConcernErrors") or any(failure["code"] != DUPLICATE_KEY for failure in failures):
        raise error
    return {failure["index"] for failure in failures}


@contextmanager
def driver_errors() -> Iterator[None]:
    """Turn what the server or the way to it did wrong into HistoryUnavailable, and into Refused where it answered. What
    we did wrong ourselves stays what it is."""
    try:
        yield
    except (OperationFailure, ConfigurationError, BSONError) as error:
        if isinstance(error, OperationFailure) and error.timeout:
            raise HistoryUnavailable("MongoDB did not answer in time; try again.") from error
        reason = str(error).partition(", full error")[0].partition(" dup key")[0]  # a key may be a user's id
        log.error("mongo_refused", reason=reason)
        raise Refused(reason) from error
    except ConnectionFailure as error:
        raise HistoryUnavailable("MongoDB did not answer; try again.") from error


def patience() -> AbstractContextManager[Any]:
    """Gives the operations inside BULK_SECONDS in place of the client's timeout, which is meant for single requests."""
    return pymongo.timeout(BULK_SECONDS)


def _address(url: str) -> str:
    """Where a URL points, without user and password."""
    return urlsplit(url).netloc.rpartition("@")[2]
