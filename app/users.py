"""What is held of one user: described, exported, erased. docs/privacy.md tells what that is."""

from __future__ import annotations

from collections.abc import AsyncIterator, Collection, Mapping
from contextlib import suppress
from datetime import UTC, datetime
from typing import Any

import structlog

from app.erasures import Erasures
from app.errors import CacheUnavailable, Erased
from app.mongo import Database, Document, driver_errors, patience
from app.pseudonyms import Alias
from app.states import States

log = structlog.get_logger(__name__)

#: Every collection that may hold something of users, and the field that says of whom. ``meta`` has the shopper whom the
#: demo shows.
COLLECTIONS = {"users": "_id", "events": "user_id", "exposures": "user_id", "meta": "user_id"}
#: Documents read at once for an export.
BATCH = 500


class Users:
    """Users by the ids that callers know; ``alias`` makes of one the id that is stored."""

    def __init__(self, database: Database, erasures: Erasures, states: States, alias: Alias) -> None:
        self._database = database
        self._erasures = erasures
        self._states = states
        self._alias = alias

    async def describe(self, user_id: str, profile: Mapping[str, Any]) -> bool:
        """Replace a user's profile; False where it counts only when the cached state expires, Redis being away.

        Raises:
            Erased: the user was erased a moment ago; nothing is kept.
            HistoryUnavailable: it may be stored or not; sending it again is harmless.
        """
        inside = self._alias(user_id)
        document = {"profile": dict(profile), "updated_at": datetime.now(UTC)}
        with driver_errors():
            await self._database.users.replace_one({"_id": inside}, document, upsert=True)
        if await self.keep_out({inside}):
            raise Erased("This user was erased less than a minute ago; nothing was stored.")
        try:
            await self._states.invalidate([inside])
        except CacheUnavailable:  # states retries in the background
            return False
        return True

    async def export(self, user_id: str) -> AsyncIterator[Document]:
        """Every document that is held of a user, as it is stored but under the caller's id, with ``collection``.

        Raises HistoryUnavailable, also in the middle.
        """
        for name, field in COLLECTIONS.items():
            with driver_errors(), patience():
                cursor = self._database[name].find({field: {"$in": self._ids(user_id)}}, batch_size=BATCH)
            while True:
                with driver_errors(), patience():
                    documents = await cursor.to_list(BATCH)
                for document in documents:
                    yield {"collection": name, **document, field: user_id}
                if len(documents) < BATCH:
                    break

    async def erase(self, user_id: str) -> dict[str, int]:
        """Erase a user; returns how many documents of each collection there were. Again is harmless.

        The list of erasures comes first: what a request in flight stores after the deletion, it takes back when it
        looks there (``keep_out``). The cache comes last: a state computed from the history before the deletion was
        computed under a generation that has gone by then, so it is not written any more.

        Raises:
            HistoryUnavailable, CacheUnavailable: something may be left; the caller sends it again.
        """
        ids = self._ids(user_id)
        await self._erasures.add(ids)
        deleted = await self._delete(ids)
        try:
            for name in ids:
                await self._states.erase(name)
        except CacheUnavailable as error:
            raise CacheUnavailable(
                "Events and profile are erased, but Redis did not answer, so a cached state may be left; "
                "send the same request again."
            ) from error
        log.info("user_erased", user_id=user_id, **deleted)
        return deleted

    async def keep_out(self, inside: Collection[str]) -> set[str]:
        """Of these stored ids those that were erased within the last minute; what was stored of them since is deleted.

        Whoever stores something of a user asks this afterwards, before it is acknowledged. Raises HistoryUnavailable.
        """
        gone = await self._erasures.recent(inside)
        if gone:
            await self._delete(sorted(gone))
            # A prediction in between may have computed a state from what was deleted just now.
            with suppress(CacheUnavailable):  # states retries in the background, and counts what waits
                await self._states.invalidate(sorted(gone))
        return gone

    async def _delete(self, ids: list[str]) -> dict[str, int]:
        deleted = {}
        for name, field in COLLECTIONS.items():
            with driver_errors(), patience():
                result = await self._database[name].delete_many({field: {"$in": ids}})
            deleted[name] = result.deleted_count
        return deleted

    def _ids(self, user_id: str) -> list[str]:
        """The stored id, and the caller's: what was stored before there were pseudonyms has that."""
        return list(dict.fromkeys([self._alias(user_id), user_id]))
