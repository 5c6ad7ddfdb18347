"""The bar: after DELETE a search of every byte of both stores finds neither the user's id nor its pseudonym, whatever
was in flight. And proof that the search can find."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from pydantic import SecretStr

from app.erasures import SECONDS, Erasures
from app.errors import CacheUnavailable
from app.invalidations import user_key
from app.mongo import Mongo
from app.pseudonyms import alias_of
from app.redis import Cache
from app.settings import Settings
from app.users import Users
from foretell.embedded import EmbeddedStores
from models.artifact import Artifact, open_artifact
from tests.app.fakes import publish_artifact
from tests.integration.examples import Clock
from tests.integration.stored import Stored, stored

#: Unlike anything else in the stores.
USER = "user-7f3a-erase-me"
OTHER = "user-11aa-keep-me"


@pytest.fixture(scope="module")
def artifact(tmp_path_factory: pytest.TempPathFactory) -> Artifact:
    root = tmp_path_factory.mktemp("models")
    publish_artifact(root)
    return open_artifact(root, "storefront")


@pytest.fixture(params=[False, True], ids=["ids", "pseudonyms"])
def settings(request: pytest.FixtureRequest) -> Settings:
    return Settings(pseudonym_key=SecretStr("0123456789abcdef") if request.param else None, deadline_ms=60_000)


@pytest.fixture
async def house(mongo: Mongo, cache: Cache, settings: Settings, artifact: Artifact) -> AsyncIterator[Stored]:
    """The service with two users, one of whom will leave."""
    async with stored(mongo, cache, settings, artifact) as house:
        for user in (USER, OTHER):
            await house.client.put(f"/users/{user}", json={"profile": {"country": "DE"}})
            await house.did(user, *(f"{user[-8:]}-{n}" for n in range(5)))
        await mongo.database.exposures.insert_one({"user_id": alias_of(settings)(USER), "item_id": "shoe"})
        yield house


def names(house: Stored, user: str = USER) -> list[str]:
    """The id and, where there are pseudonyms, what is stored in its place."""
    return sorted({user, alias_of(house.settings)(user)})


async def places(house: Stored, user: str = USER) -> set[str]:
    """Where any name of the user is found."""
    return set().union(*[await house.found(name) for name in names(house, user)])


async def erase(house: Stored) -> dict[str, int]:
    response = await house.client.delete(f"/users/{USER}")
    assert response.status_code == 200, response.text
    return dict(response.json()["deleted"])


async def test_everything_held_of_a_user_is_deleted_and_of_nobody_else(house: Stored) -> None:
    await house.predict(USER)
    assert (await house.predict(USER))["provenance"]["state"] == "cached"
    assert await places(house) == {"users", "events", "exposures"}  # the search can find
    inside = alias_of(house.settings)(USER)
    assert await house.cache.client.exists(user_key(inside))
    assert await erase(house) == {"users": 1, "events": 5, "exposures": 1, "meta": 0}
    assert await places(house) == set()
    assert not await house.cache.client.exists(user_key(inside))
    assert await erase(house) == {"users": 0, "events": 0, "exposures": 0, "meta": 0}
    assert await places(house, OTHER) == {"users", "events"}
    assert (await house.predict(OTHER))["provenance"]["history"] == 5


async def test_the_search_finds_what_a_cache_under_plain_names_would_hold(house: Stored) -> None:
    await house.cache.client.hset(f"foretell:{{{USER}}}", "g", "x")
    await house.cache.client.hset("other", "field", f"..{USER}..")
    assert "redis" in await places(house)


async def test_nothing_comes_back_by_100_predictions_that_have_read_the_history_already(house: Stored) -> None:
    """Each has its generation and its history, and waits for the model, when the user is erased."""
    house.model.gate.shut()
    running = [asyncio.create_task(house.predict(USER)) for _ in range(100)]
    await house.model.gate.crowd(100)
    await erase(house)
    house.model.gate.open()
    answers = await asyncio.gather(*running)
    assert {answer["provenance"]["history"] for answer in answers} == {5}  # asked before, answered as then
    assert await places(house) == set()
    assert await house.cache.client.hkeys(user_key(alias_of(house.settings)(USER))) in ([], [b"g"])
    after = await house.predict(USER)
    assert (after["provenance"]["state"], after["provenance"]["history"]) == ("anonymous", 0)


async def test_nothing_comes_back_by_a_storm_of_predictions_and_events_around_the_erasure(house: Stored) -> None:
    """100 predictions and 20 batches of events of this user, at whatever point they are."""
    async with asyncio.TaskGroup() as group:
        for n in range(100):
            group.create_task(house.predict(USER))
            if n % 5 == 0:
                group.create_task(house.did(USER, f"storm-{n}"))
            if n == 50:
                group.create_task(erase(house))
    # Events that were acknowledged before the erasure began are deleted; all others were rejected.
    assert await places(house) == set()


async def test_an_event_that_was_on_its_way_is_rejected_and_deleted_again_and_its_neighbours_are_not(
    house: Stored,
) -> None:
    house.store.gate.shut()
    sent = [
        {"event_id": "mine", "user_id": USER, "item_id": "shoe", "type": "click"},
        {"event_id": "bad", "user_id": USER, "item_id": "shoe", "type": "nap"},
        {"event_id": "other", "user_id": OTHER, "item_id": "shoe", "type": "click"},
    ]
    running = asyncio.create_task(house.client.post("/events", json={"events": sent}))
    await house.store.gate.crowd(1)
    await erase(house)
    house.store.gate.open()
    answer = (await running).json()
    assert (answer["accepted"], answer["duplicates"]) == (1, 0)
    assert [(r["index"], r["error"]) for r in answer["rejected"]] == [(0, "erased"), (1, "unknown_type")]
    assert await places(house) == set()
    assert await house.mongo.database.events.count_documents({"_id": "other"}) == 1


async def test_a_profile_that_was_on_its_way_is_refused(house: Stored) -> None:
    await erase(house)
    response = await house.client.put(f"/users/{USER}", json={"profile": {"country": "FR"}})
    assert (response.status_code, response.json()["error"]) == (409, "erased")
    assert response.headers["retry-after"] == "60"
    assert await places(house) == set()


async def test_who_comes_back_after_a_minute_is_welcome(mongo: Mongo, house: Stored) -> None:
    clock = Clock()
    erasures = await Erasures.open(mongo.database, clock)
    users = Users(mongo.database, erasures, house.states, alias_of(house.settings))
    await users.erase(USER)
    inside = alias_of(house.settings)(USER)
    clock.now += SECONDS - 0.1
    assert await users.keep_out({inside, "somebody"}) == {inside}
    clock.now += 0.2
    assert await users.keep_out({inside, "somebody"}) == set()


async def test_a_state_made_of_what_is_deleted_again_is_worth_nothing(mongo: Mongo, house: Stored) -> None:
    """An event is stored after the erasure, a prediction sees it, then it is taken back."""
    await erase(house)
    inside = alias_of(house.settings)(USER)
    await mongo.database.events.insert_one(
        {"_id": "late", "user_id": inside, "item_id": "shoe", "type": "click", "at": datetime.now(UTC), "context": {}}
    )
    assert (await house.predict(USER))["provenance"]["history"] == 1
    users = Users(mongo.database, await Erasures.open(mongo.database), house.states, alias_of(house.settings))
    assert await users.keep_out({inside}) == {inside}
    after = await house.predict(USER)
    assert (after["provenance"]["state"], after["provenance"]["history"]) == ("anonymous", 0)


async def test_without_redis_the_caller_is_told_to_come_again(house: Stored, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(house.states, "erase", _lost)
    response = await house.client.delete(f"/users/{USER}")
    assert (response.status_code, response.json()["error"]) == (503, "cache_unavailable")
    assert "send the same request again" in response.json()["detail"]
    monkeypatch.undo()
    assert await erase(house) == {"users": 0, "events": 0, "exposures": 0, "meta": 0}


async def _lost(*arguments: object) -> None:
    raise CacheUnavailable("Redis did not answer.")


async def test_a_state_that_is_cached_between_the_steps_of_an_erasure_goes_too(
    house: Stored, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It was computed from the whole history, under a generation that nobody has replaced."""
    delete = Users._delete

    async def predicted(users: Users, ids: list[str]) -> dict[str, int]:
        await house.predict(USER)
        return await delete(users, ids)

    monkeypatch.setattr(Users, "_delete", predicted)
    await erase(house)
    after = await house.predict(USER)
    assert (after["provenance"]["state"], after["provenance"]["history"]) == ("anonymous", 0)


async def test_not_even_the_log_file_of_valkey_ever_held_the_id(house: Stored, stores: EmbeddedStores) -> None:
    """Keys are digests, so the append-only file, which keeps commands, has nothing to forget."""
    user = "user-5e5e-in-no-log"  # the test above has put the other one there
    await house.did(user, "logged")
    await house.predict(user)
    logs = _contents(stores.data_dir / "valkey")
    assert user_key(alias_of(house.settings)(user)).encode() in logs
    assert not [name for name in names(house, user) if name.encode() in logs]


def _contents(folder: Path) -> bytes:
    return b"".join(file.read_bytes() for file in folder.rglob("*") if file.is_file())
