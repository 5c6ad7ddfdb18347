"""Visitors: what is remembered of them, and how long they may take."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from app.deadline import after
from app.errors import DeadlineExceeded
from app.history import UserRecord
from app.metrics import Metrics
from app.schemas import PredictRequest
from app.visitor import Degraded, Visitors
from tests.app.conftest import NOW, House


@pytest.fixture
def visitors(house: House) -> Visitors:
    return Visitors(house.history, house.states, house.model, Metrics())


async def test_an_encoding_past_the_deadline_is_given_up(house: House, visitors: Visitors) -> None:
    house.did("u1", ("click", "shoe"))
    house.model.hangs = True
    async with asyncio.timeout(30):
        with pytest.raises(DeadlineExceeded):
            await visitors.load(PredictRequest(user_id="u1"), NOW, after(5), Degraded())


async def test_only_a_user_with_events_is_remembered(house: House, visitors: Visitors) -> None:
    house.did("known", ("click", "shoe"))
    house.history.profiles["new"] = {"country": "DE"}
    for user_id in ("known", "new", "nobody"):
        await visitors.load(PredictRequest(user_id=user_id), NOW, after(60_000), Degraded())
    assert set(house.states.states) == {"known"}


async def test_who_goes_before_their_state_is_computed_finds_it_when_they_come_back(
    house: House, visitors: Visitors, monkeypatch: pytest.MonkeyPatch
) -> None:
    house.did("u1", ("click", "shoe"))
    reads, may_go_on, remembered = asyncio.Event(), asyncio.Event(), asyncio.Event()
    recent, put = house.history.recent, house.states.put

    async def slow(user_id: str, limit: int) -> UserRecord:
        reads.set()
        await may_go_on.wait()
        return await recent(user_id, limit)

    async def told(*arguments: Any) -> bool:
        kept = await put(*arguments)
        remembered.set()
        return kept

    monkeypatch.setattr(house.history, "recent", slow)
    monkeypatch.setattr(house.states, "put", told)
    asked = asyncio.create_task(visitors.load(PredictRequest(user_id="u1"), NOW, after(60_000), Degraded()))
    await reads.wait()
    asked.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asked
    may_go_on.set()
    await asyncio.wait_for(remembered.wait(), 30)
    again = await visitors.load(PredictRequest(user_id="u1"), NOW, after(60_000), Degraded())
    assert again.source == "cached"
