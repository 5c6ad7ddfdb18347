"""How long events are kept: the TTL index follows the setting."""

from __future__ import annotations

import asyncio

import pytest

from app.mongo import Mongo
from app.retention import NAME, ensure_retention


async def _seconds(mongo: Mongo) -> int | None:
    indexes = await mongo.database.events.index_information()
    found = indexes.get(NAME, {}).get("expireAfterSeconds")
    return None if found is None else int(found)


@pytest.mark.parametrize("steps", [(0,), (30,), (30, 30), (30, 7), (7, 365), (30, 0), (30, 0, 30)])
async def test_the_index_is_made_changed_and_dropped_with_the_setting(mongo: Mongo, steps: tuple[int, ...]) -> None:
    for days in steps:
        await ensure_retention(mongo.database, days)
    assert await _seconds(mongo) == (steps[-1] * 86400 or None)
    indexes = await mongo.database.events.index_information()
    assert "user_id_1_at_-1__id_-1" in indexes  # the others stay
    if steps[-1]:
        assert indexes[NAME]["key"] == [("at", 1)]


async def test_a_database_without_events_is_no_error(mongo: Mongo) -> None:
    await mongo.database.events.drop()
    await ensure_retention(mongo.database, 0)
    await ensure_retention(mongo.database, 30)
    assert await _seconds(mongo) == 30 * 86400


async def test_workers_that_start_together_may_all_drop_it(mongo: Mongo) -> None:
    await ensure_retention(mongo.database, 30)
    await asyncio.gather(*(ensure_retention(mongo.database, 0) for _ in range(4)))
    assert await _seconds(mongo) is None
