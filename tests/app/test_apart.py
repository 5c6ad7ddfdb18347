"""A model in another process: asked as one in the same, and what happens when it is not there."""

from __future__ import annotations

import asyncio
import gc
import socket
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest

from app.apart.host import Host
from app.apart.remote import Remote, connected
from app.columns import ItemContent
from app.errors import DeadlineExceeded, FieldProblem, Internal, InvalidPayload, ModelUnavailable, Overloaded
from app.loading import load
from app.metrics import Metrics
from app.newcomers import Newcomers
from app.runtime import Runtime
from app.seats import Seating
from app.selection import Allowed, Selection
from app.settings import Settings
from models.artifact import Artifact
from models.contract import FIRST, UNKNOWN
from models.encode import Moment
from tests.app.fakes import CONTRACT, FakeRuntime
from tests.app.test_runtime import (
    SAVED,
    test_an_item_beyond_the_vocabulary_is_scored_by_its_content_of_this_moment,
    test_requests_computed_together_get_what_they_get_alone,
    test_retrieval_keeps_to_what_is_allowed_also_beside_a_request_that_allows_all,
    test_there_is_no_end_to_items_beyond_the_vocabulary,
    test_what_is_recommended_has_the_outcomes_of_being_scored_and_more_begins_with_the_same,
)

__all__ = [  # the same behaviour, asked from here
    "test_an_item_beyond_the_vocabulary_is_scored_by_its_content_of_this_moment",
    "test_requests_computed_together_get_what_they_get_alone",
    "test_retrieval_keeps_to_what_is_allowed_also_beside_a_request_that_allows_all",
    "test_there_is_no_end_to_items_beyond_the_vocabulary",
    "test_what_is_recommended_has_the_outcomes_of_being_scored_and_more_begins_with_the_same",
]

FOREVER = float("inf")
MOMENT = Moment(np.zeros(len(CONTRACT.fields), np.int32), 1.0)
STATE = np.zeros(CONTRACT.state_shape, CONTRACT.state_dtype)
ALL = np.arange(CONTRACT.items) >= FIRST


@dataclass
class House:
    """A socket, the hosts that listen there one after the other, and those who ask."""

    settings: Settings
    listener: socket.socket
    stack: AsyncExitStack
    strangers: list[str] = field(default_factory=list)

    @asynccontextmanager
    async def serving(self, model: FakeRuntime | Runtime) -> AsyncIterator[Host]:
        """A model process, as far as others see it."""
        host = Host(model)
        async with host.serving(self.listener):
            yield host

    async def ask(self, name: str = "a") -> Remote:
        """Another HTTP process."""
        address = Path(self.listener.getsockname())
        return await self.stack.enter_async_context(
            connected(address, self.settings, lambda: self.strangers.append(name))
        )


@pytest.fixture
async def house(settings: Settings, tmp_path: Path) -> AsyncIterator[House]:
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        listener.listen()
        async with AsyncExitStack() as stack:
            yield House(settings, listener, stack)


@pytest.fixture
def fake(artifact: Artifact) -> FakeRuntime:
    return seated(artifact)


def seated(artifact: Artifact, seats: int = 2) -> FakeRuntime:
    """The fake with seats for newcomers."""
    model = FakeRuntime(artifact)
    model.seating = Seating(CONTRACT.items, seats, model.seat)
    return model


@pytest.fixture(scope="module")
def loaded() -> Iterator[Runtime]:
    runtime = load(Settings(model_root=SAVED, xla=False, max_batch=4), Metrics())
    yield runtime
    runtime.close()


@pytest.fixture
async def runtime(house: House, loaded: Runtime) -> AsyncIterator[Remote]:
    """The shipped model behind a socket, for the tests of test_runtime."""
    house.settings = Settings(model_root=SAVED, xla=False, max_batch=4)
    async with house.serving(loaded):
        yield await house.ask()


async def recommend(remote: Remote, selection: Selection, *without: int) -> list[int]:
    allowed = Allowed(selection, np.array(without, np.int32))
    found, _ = await remote.recommend(STATE, 0, MOMENT, allowed, 3, deadline=FOREVER)
    return [int(item) for item in found]


def there(remote: Remote) -> bool:
    """Whether the model can be asked."""
    try:
        remote.check()
    except ModelUnavailable:
        return False
    return True


async def until(condition: Callable[[], bool]) -> None:
    """Let the loop turn until something has come about."""
    while True:
        if condition():
            return
        await asyncio.sleep(0)


async def test_two_processes_ask_one_model_and_a_selection_is_sent_once(house: House, fake: FakeRuntime) -> None:
    async with house.serving(fake) as host:
        a, b = await house.ask("a"), await house.ask("b")
        assert (a.device, a.places, a.explains) == ("fake", CONTRACT.items, True)
        every, even = Selection(ALL.copy()), Selection(ALL & (np.arange(CONTRACT.items) % 2 == 0))
        same = Selection(ALL.copy())
        assert await recommend(a, every) == [2, 3, 4]
        assert await recommend(b, same, 2, 4) == [3, 5, 6]
        assert await recommend(a, even) == [2, 4, 6]
        assert len(host._selections) == 2  # that of b is that of a
        del even, every
        gc.collect()
        assert await recommend(b, same) == [2, 3, 4]
        assert await recommend(a, same) == [2, 3, 4]
        assert len(host._selections) == 1


@pytest.mark.parametrize(
    "error",
    [
        Overloaded("Too many.", retry_after=7),
        DeadlineExceeded("Too late."),
        InvalidPayload("k: too large", fields=[FieldProblem("k", "too large")]),
    ],
)
async def test_an_error_comes_as_it_was_raised(house: House, fake: FakeRuntime, error: InvalidPayload) -> None:
    fake.failure = error
    async with house.serving(fake):
        remote = await house.ask()
        with pytest.raises(type(error)) as caught:
            await remote.score(STATE, 0, MOMENT, np.array([2]), deadline=FOREVER)
    assert (caught.value.detail, caught.value.fields) == (error.detail, error.fields)
    assert caught.value.headers == error.headers


async def test_what_nobody_expected_is_internal_and_stays_in_the_log_of_the_model(
    house: House, fake: FakeRuntime
) -> None:
    fake.failure = ZeroDivisionError("oops")
    async with house.serving(fake):
        remote = await house.ask()
        with pytest.raises(Internal):
            await remote.score(STATE, 0, MOMENT, np.array([2]), deadline=FOREVER)


async def test_who_waits_is_told_at_once_that_the_model_has_gone_and_the_next_one_is_asked_without_a_word(
    house: House, fake: FakeRuntime, artifact: Artifact
) -> None:
    fake.hangs = True
    async with house.serving(fake):
        remote = await house.ask()
        waiting = asyncio.create_task(remote.score(STATE, 0, MOMENT, np.array([2]), deadline=FOREVER))
        await asyncio.sleep(0)
    with pytest.raises(ModelUnavailable):
        await waiting
    await until(lambda: not there(remote))
    with pytest.raises(ModelUnavailable) as caught:
        remote.admit(FOREVER)
    assert caught.value.headers == {"Retry-After": "5"}
    with pytest.raises(ModelUnavailable):
        await recommend(remote, Selection(ALL.copy()))
    async with house.serving(seated(artifact)):
        await until(lambda: there(remote))
        assert await recommend(remote, Selection(ALL.copy())) == [2, 3, 4]
    assert house.strangers == []


async def test_processes_that_look_at_the_catalogue_by_themselves_agree_on_the_seats(
    house: House, fake: FakeRuntime, artifact: Artifact
) -> None:
    """Two seats, from 8 on. That of x is free when both have left it; the next model has everybody where they were."""
    x, y, z = (ItemContent(price=price) for price in (1.0, 2.0, 3.0))
    async with house.serving(fake):
        one, other = await house.ask("a"), await house.ask("b")
        a, b = Newcomers(2, one.seats()), Newcomers(2, other.seats())
        assert await a.look({"x": x, "y": y}, whole=True) == {8: x, 9: y}
        assert await b.look({"y": y, "x": x, "z": z}, whole=True) == {9: y, 8: x}
        assert b.item_id("z") == UNKNOWN
        await a.look({"y": y, "z": z}, whole=True)
        await a.look({"y": y, "z": z}, whole=True)
        assert (a.item_id("x"), a.item_id("z")) == (UNKNOWN, UNKNOWN)  # b has x there still
        await b.look({"y": y, "z": z}, whole=True)
        await b.look({"y": y, "z": z}, whole=True)
        assert (b.item_id("z"), await a.look({"z": z}, whole=False)) == (8, {8: z})
        assert fake.seated == {8: z, 9: y}
    await until(lambda: not there(one))
    await until(lambda: not there(other))
    waiting = asyncio.create_task(a.look({"z": x}, whole=False))  # until the model is back
    after = seated(artifact)
    async with house.serving(after):
        assert await waiting == {8: x}
        await until(lambda: there(other))
        assert await b.look({"z": x}, whole=False) == {8: x}
        assert after.seated == {8: x, 9: y}
    assert house.strangers == []


async def test_who_finds_its_seats_taken_when_the_model_is_back_ends(
    house: House, fake: FakeRuntime, artifact: Artifact
) -> None:
    async with house.serving(fake):
        remote = await house.ask("a")
        await remote.seats().take({"x": ItemContent()})
    await until(lambda: not there(remote))
    after = seated(artifact)
    await after.seats().take({"y": ItemContent()})
    async with house.serving(after):
        await until(lambda: house.strangers == ["a"])
    with pytest.raises(ModelUnavailable):
        remote.check()


async def test_the_seats_of_a_process_that_has_gone_are_free(house: House, fake: FakeRuntime) -> None:
    async with house.serving(fake) as host, AsyncExitStack() as gone:
        remote = await gone.enter_async_context(connected(Path(house.listener.getsockname()), house.settings))
        assert await remote.seats().take({"x": ItemContent(), "y": ItemContent()}) == {"x": 8, "y": 9}
        other = (await house.ask()).seats()
        assert await other.take({"z": ItemContent()}) == {}
        await gone.aclose()
        await until(lambda: len(host._guests) == 1)
        assert await other.take({"z": ItemContent()}) in ({"z": 8}, {"z": 9})


async def test_the_door_counts_who_is_inside_the_other_processes(house: House, fake: FakeRuntime) -> None:
    """A row takes 100 ms and a batch nothing: beside one of its own and two of the other's, a fourth waits 400 ms."""
    fake.time.a = 0.1
    now = asyncio.get_running_loop().time
    async with house.serving(fake):
        a, b = await house.ask("a"), await house.ask("b")
        with b.admitted(FOREVER), b.admitted(FOREVER):
            await b.score(STATE, 0, MOMENT, np.array([2]), deadline=FOREVER)
            await a.score(STATE, 0, MOMENT, np.array([2]), deadline=FOREVER)
            a.admit(now() + 0.2)  # nobody of its own is inside: somebody is always let in
            with a.admitted(FOREVER):
                a.admit(now() + 0.45)
                with pytest.raises(Overloaded) as caught:
                    a.admit(now() + 0.35)
                assert caught.value.headers == {"Retry-After": "1"}
