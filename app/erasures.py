"""Who was erased, and when: what keeps stragglers out, and what the next training set is built without.

Collection ``erased``: ``_id`` is a hash of the user's id under a salt of this database (models/erasure.py), ``at`` the
time. It is the one thing that is kept of an erased user, for ever, and it names nobody.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import Self

from app.mongo import Database, driver_errors, insert_new
from models.erasure import erasure_hash

#: For so long after an erasure nothing of the user is stored: longer than any request that was in flight then takes
#: from its write to its look here, and than clocks of two machines differ.
SECONDS = 60.0


class Erasures:
    """The list. Every method raises HistoryUnavailable. ``clock`` is the time, in seconds since 1970 UTC."""

    def __init__(self, database: Database, salt: bytes, clock: Callable[[], float] = time.time) -> None:
        self._erased = database.erased
        self._salt = salt
        self._clock = clock

    @classmethod
    async def open(cls, database: Database, clock: Callable[[], float] = time.time) -> Self:
        """The list of a database, under the salt that whoever came first has drawn."""
        await insert_new(database.meta, [{"_id": "erasures", "salt": secrets.token_bytes(32)}])
        with driver_errors():
            meta = await database.meta.find_one({"_id": "erasures"})
        assert meta is not None
        return cls(database, bytes(meta["salt"]), clock)

    async def add(self, user_ids: Collection[str]) -> None:
        """Note that these ids of one user are erased now; done before anything is deleted."""
        with driver_errors():
            for user_id in user_ids:
                name = erasure_hash(self._salt, user_id)
                await self._erased.update_one({"_id": name}, {"$max": {"at": self._now()}}, upsert=True)

    async def recent(self, user_ids: Collection[str]) -> set[str]:
        """Those users that were erased within the last minute."""
        names = {erasure_hash(self._salt, user_id): user_id for user_id in user_ids}
        since = self._now() - timedelta(seconds=SECONDS)
        with driver_errors():
            found = await self._erased.find({"_id": {"$in": list(names)}, "at": {"$gt": since}}).to_list(None)
        return {names[document["_id"]] for document in found}

    def _now(self) -> datetime:
        return datetime.fromtimestamp(self._clock(), UTC)
