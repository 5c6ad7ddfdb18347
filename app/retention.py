"""How long events are kept: a TTL index, brought in line with FORETELL_RETENTION_DAYS at each start."""

from __future__ import annotations

import structlog

from app.mongo import Database, driver_errors, patience

log = structlog.get_logger(__name__)

NAME = "retention"
#: MongoDB's code for an index that is not there.
INDEX_NOT_FOUND = 27


async def ensure_retention(database: Database, days: int) -> None:
    """Let MongoDB delete events ``days`` after their time, or, at 0, never.

    Raises:
        HistoryUnavailable: MongoDB did not answer, or refused.
    """
    seconds = days * 86400
    with driver_errors(), patience():
        indexes = await database.events.index_information() if await _exists(database) else {}
        now = indexes.get(NAME, {}).get("expireAfterSeconds", 0)
        if now == seconds:
            return
        if not seconds:
            # Another worker that starts at the same time may have been first.
            await database.command("dropIndexes", "events", index=NAME, allowable_errors=[INDEX_NOT_FOUND])
        elif now:  # in place: building it again would take long on many events
            await database.command("collMod", "events", index={"name": NAME, "expireAfterSeconds": seconds})
        else:
            await database.events.create_index([("at", 1)], name=NAME, expireAfterSeconds=seconds)
    log.info("retention_changed", days=days)


async def _exists(database: Database) -> bool:
    return "events" in await database.list_collection_names()
