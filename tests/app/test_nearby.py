"""A catalogue with an index: the answers are those of scoring every item, whatever is filtered."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from app.columns import ItemContent
from app.loading import load
from app.metrics import Metrics
from app.runtime import Runtime
from app.selection import Allowed, Selection
from app.settings import Settings
from benchmarks.serving.shop import Shop, publish_model
from models.contract import FIRST
from models.encode import Arrays, History, Moment, encode_history
from models.vocabulary import Ids

FOREVER = float("inf")
SHOP = Shop(items=20_000, history=20)
#: Users: the same events of each, computed by both runtimes.
USERS = 40


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("models")
    publish_model(SHOP, root)
    return root


def loaded(root: Path, index_from: int) -> Iterator[Runtime]:
    settings = Settings(model_root=root, model_name=SHOP.model, index_from=index_from, max_batch=2)
    runtime = load(settings, Metrics())
    yield runtime
    runtime.close()


@pytest.fixture(scope="module")
def indexed(root: Path) -> Iterator[Runtime]:
    yield from loaded(root, 1)


@pytest.fixture(scope="module")
def exact(root: Path) -> Iterator[Runtime]:
    yield from loaded(root, 0)


def everything(runtime: Runtime) -> Allowed:
    ids = np.arange(runtime.places)
    return Allowed(Selection((ids >= FIRST) & (ids < runtime.artifact.contract.items)))


async def recommend(runtime: Runtime, user: int, allowed: Allowed, count: int = 100) -> tuple[Ids, Arrays]:
    """For a user with as many events as the number says, all the same kind, at most as many as are seen."""
    contract, rng = runtime.artifact.contract, np.random.default_rng(user)
    length = min(user, contract.history_length)
    items = rng.integers(FIRST, contract.items, contract.history_length)
    history = History(
        items=items[contract.history_length - length :].astype(np.int32),
        types=np.full(length, FIRST, np.int32),
        at=np.zeros(length),
        values=np.full(length, np.nan, np.float32),
        exposed=np.zeros((length, contract.exposed), np.int32),
        exposures=np.zeros(length, np.int32),
    )
    state = await runtime.encode(encode_history(history, contract), deadline=FOREVER)
    fields = [rng.integers(0, field.size) for field in contract.fields]
    moment = Moment(np.array(fields, np.int32), 1.0)
    return await runtime.recommend(state, length, moment, allowed, count, deadline=FOREVER)


async def of_all(runtime: Runtime, allowed: Allowed) -> list[tuple[Ids, Arrays]]:
    return await asyncio.gather(*(recommend(runtime, user, allowed) for user in range(USERS)))


async def test_the_index_finds_the_best_hundred_and_what_they_do_is_the_same(indexed: Runtime, exact: Runtime) -> None:
    assert (indexed._nearby is not None, exact._nearby) == (True, None)
    shares = []
    for (found, outcomes), (best, truth) in zip(
        await of_all(indexed, everything(indexed)), await of_all(exact, everything(exact)), strict=True
    ):
        assert len(set(found.tolist())) == len(found) == 100
        both, here, there = np.intersect1d(found, best, return_indices=True)
        shares.append(len(both) / 100)
        assert set(outcomes) == set(truth)
        for name in truth:
            np.testing.assert_allclose(outcomes[name][here], truth[name][there], rtol=1e-4, atol=1e-6)
    assert np.mean(shares[1:]) >= 0.99  # the first likes all alike


@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(1, 10_000),  # the user; 0 likes all alike, so that any are the best
            st.sampled_from([0, 1, 90, 150, 400, 2_000, 5_000, 12_000, 20_000]),  # items that the filter leaves
            st.sampled_from([0, 1, 30, 3_000]),  # of those, the best that are left out
            st.sampled_from([1, 20, 100, 150, 200]),  # wanted
        ),
        min_size=1,
        max_size=6,
    )
)
def test_whatever_is_filtered_nobody_gets_fewer_or_other_items_than_by_scoring_all(
    indexed: Runtime, exact: Runtime, asked: list[tuple[int, int, int, int]]
) -> None:
    """Requests together; the exact way answers each alone. Where few are left all are scored, and nothing is missed."""

    async def answers() -> None:
        requests = []
        for user, left, out, count in asked:
            rng = np.random.default_rng([user, left])
            mask = np.zeros(indexed.places, np.bool_)
            mask[FIRST + rng.permutation(SHOP.items)[:left]] = True
            selection = Selection(mask)
            best, _ = await recommend(exact, user, Allowed(selection), 200)
            without = np.concatenate([best[: min(out, 100)], rng.integers(0, SHOP.items, max(0, out - 100))])
            requests.append((user, Allowed(selection, without.astype(np.int32)), count))
        together = await asyncio.gather(*(recommend(indexed, *request) for request in requests))
        for request, (found, outcomes) in zip(requests, together, strict=True):
            best, _ = await recommend(exact, *request)
            assert len(found) == len(best) == len(set(found.tolist())) == len(outcomes["click"])
            assert request[1].mask()[found].all()
            shared = len(np.intersect1d(found, best))
            assert shared >= 0.95 * len(best) - 1  # half precision may mistake a tie
            if request[1].selection.count <= 1_000:
                assert shared == len(best)

    asyncio.run(answers())


async def test_newcomers_are_recommended_with_an_index_as_without(indexed: Runtime, exact: Runtime) -> None:
    """They sit in rows that the index does not know; users like some for their categories and prices."""
    levels = indexed.artifact.vocabulary.categories
    paths = (tuple(level[i % len(level)] for level in levels) for i in range(300))
    contents = [ItemContent(None, path, 0.5 + i % 13) for i, path in enumerate(paths)]
    first = indexed.artifact.contract.items
    seats = [first + seat for seat in (*range(5, 300), *range(5))]
    for runtime in (indexed, exact):
        await runtime.seat(seats, contents)
    mask = np.arange(indexed.places) >= FIRST
    mask[first + 300 :] = mask[first + 7] = False
    allowed = Allowed(Selection(mask))
    seen = 0
    for (found, outcomes), (best, truth) in zip(
        await of_all(indexed, allowed), await of_all(exact, allowed), strict=True
    ):
        assert set(best[best >= first].tolist()) == set(found[found >= first].tolist())
        assert first + 7 not in best
        both, here, there = np.intersect1d(found[found >= first], best, return_indices=True)
        seen += len(both)
        np.testing.assert_allclose(outcomes["click"][found >= first][here], truth["click"][there], rtol=1e-4, atol=1e-6)
    assert seen > 0
