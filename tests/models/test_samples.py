"""Windows and decisions: every decision sees its own past, all of it and nothing else."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
import pytest

from models import samples
from models.contract import FIRST, PAD
from models.counter import Counter
from models.datasets.dataset import Dataset
from models.decisions import Decisions, event_decisions, exposure_decisions, period_decisions, with_negatives
from models.encode import History, encode_history
from models.log import Log
from models.samples import Popularity, Windows


def past(log: Log, user: int, at: float) -> History:
    """The user's events strictly before a moment, counted one by one."""
    rows = [i for i in range(log.offsets[user], log.offsets[user + 1]) if log.at[i] < at]
    shown = log.exposed.newest(rows, log.contract.exposed), log.exposed.counts(rows)
    return History(log.items[rows], log.types[rows], log.at[rows], log.values[rows], *shown)


@pytest.mark.parametrize("of", ["events", "exposures"])
def test_each_decision_sees_its_past_as_the_service_encodes_it(shop: Dataset, log: Log, of: str) -> None:
    decisions = event_decisions(log) if of == "events" else exposure_decisions(shop, log)
    length = log.contract.history_length
    windows = Windows(log, decisions, event_decisions(log), per_window=1000)
    seen = 0
    grouped = windows._decisions
    assert grouped is not None
    for number in range(0, len(windows), 7):
        batch = windows.batch(np.array([number]))
        rows = grouped.take(np.arange(windows._bounds[number], windows._bounds[number + 1]))
        for d in range(len(rows)):
            slot = int(batch["prefix"][0, d])
            history = past(log, int(rows.user[d]), float(rows.at[d]))
            visible = int(np.sum(batch["items"][0, : slot + 1] != 0))
            assert visible >= min(len(history), length // 2)
            want = encode_history(history.take(slice(len(history) - visible, None)), log.contract)
            for name, array in want.items():
                first = 1 if name == "gaps" else 0  # the window may know what came before its visible part
                start = slot + 1 - visible
                shown = batch[name][0, start + first : slot + 1]
                if name == "ages" and visible:  # those of the window count from its newest event, also an unseen one
                    shown = shown - shown[-1]
                np.testing.assert_allclose(shown, array[length - visible + first :], rtol=1e-6, atol=1e-4)
            if visible:
                since = batch["ages"][0, slot] + batch["since"][0, d]
                np.testing.assert_allclose(since * 3600, rows.at[d] - history.at[-1], rtol=1e-3, atol=1)
            assert batch["candidates"][0, d] == rows.items[d]
            seen += 1
    assert seen > 100


def test_every_decision_is_in_exactly_one_window(shop: Dataset, log: Log) -> None:
    decisions = exposure_decisions(shop, log)
    windows = Windows(log, decisions, event_decisions(log), per_window=10_000)
    batches = list(windows.batches(16))
    assert sum(int((batch["weights"][..., 0] > 0).sum()) for batch in batches) == len(decisions)
    assert sum(int((batch["moves"] != 0).sum()) for batch in batches) <= len(log.items)


def test_a_fifth_of_what_is_learned_from_is_not_told_what_was_shown(shop: Dataset, log: Log) -> None:
    """Whole windows, or from some event on, or up to one; validation always is."""
    windows = Windows(log, exposure_decisions(shop, log), event_decisions(log), per_window=5)
    every = np.tile(np.arange(len(windows)), 20)
    told, learned = windows.batch(every), windows.batch(every, np.random.default_rng(0))
    events = told["items"] > 0
    assert (told["exposures"][events] > 0).all()
    hidden = events & (learned["exposures"] == 0)
    np.testing.assert_array_equal(learned["exposed"], np.where(hidden[..., None], PAD, told["exposed"]))
    long = hidden[events.all(axis=1)]  # of 8 events: a tenth is hidden whole, a twentieth from one on or up to one
    shares = [long.all(axis=1).mean(), long[:, 0].mean(), long[:, -1].mean()]
    assert shares == pytest.approx([0.1 + 0.05 / 8, 0.1 + 0.05 / 8 + 0.05 * 7 / 8, 0.15], abs=0.03)


def test_drawn_decisions_are_real_and_differ_between_epochs(shop: Dataset, log: Log) -> None:
    windows = Windows(log, exposure_decisions(shop, log), event_decisions(log), per_window=5)
    rng = np.random.default_rng(0)
    first, second = (windows.batch(np.arange(8), rng) for _ in range(2))
    assert first["candidates"].shape == (8, 5)
    assert (first["candidates"] >= FIRST).all()
    assert (first["candidates"] != second["candidates"]).any()


def test_labels_join_exposures_with_what_was_done_in_the_same_request(shop: Dataset, log: Log) -> None:
    decisions = exposure_decisions(shop, log)
    assert shop.exposures is not None
    shown = shop.exposures.sort("user_id", "at", "event_id")
    bought = shop.events.filter(pl.col("type") == "purchase").select("user_id", "item_id", "request_id")
    keys = set(bought.iter_rows())
    want = [key in keys for key in shown.select("user_id", "item_id", "request_id").iter_rows()]
    np.testing.assert_array_equal(decisions.labels[:, 1], want)
    amounts = decisions.values[:, log.contract.values.index("amount")]
    np.testing.assert_array_equal(np.isfinite(amounts), want)
    assert decisions.truth is not None


def test_an_event_says_no_to_stronger_targets_and_nothing_of_weaker_ones(log: Log) -> None:
    decisions = event_decisions(log)
    click, cart, purchase = (log.contract.type_id(name) for name in ("click", "cart", "purchase"))
    for kind, labels, weights in ((click, [1, 0], [1, 1]), (cart, [0, 0], [0, 1]), (purchase, [0, 1], [0, 1])):
        rows = log.types == kind
        assert np.unique(decisions.labels[rows], axis=0).tolist() == [labels]
        assert np.unique(decisions.weights[rows], axis=0).tolist() == [weights]


def test_negatives_follow_each_decision_and_say_no(log: Log) -> None:
    contract = replace(log.contract, negatives=3)
    decisions = event_decisions(log).take(np.arange(10))
    rows = with_negatives(decisions, contract, np.random.default_rng(0))
    assert len(rows) == 40
    np.testing.assert_array_equal(rows.items[::4], decisions.items)
    drawn = np.arange(40) % 4 > 0
    assert not rows.labels[drawn].any()
    assert (rows.weights[drawn] == 1).all()
    assert np.isnan(rows.values[drawn]).all()
    pool = np.array([5, 9], np.int32)
    assert set(with_negatives(decisions, contract, np.random.default_rng(0), pool).items[drawn].tolist()) == {5, 9}


def test_popularity_counts_what_happened_before(log: Log) -> None:
    item = int(np.bincount(log.items).argmax())
    moments = np.sort(log.at[log.items == item])
    found = Popularity(log).before(np.full(3, item, np.int32), np.array([0.0, moments[4], 1e12]))
    before = int((moments < moments[4]).sum())
    np.testing.assert_allclose(found, np.log1p([0, before, len(moments)]) / 10, rtol=1e-6)


def test_a_counter_counts_strictly_before() -> None:
    counter = Counter(np.array([0, 3, 3, 4]), np.array([1.0, 2.0, 2.0, 5.0]))
    groups, moments = np.array([0, 0, 0, 1, 2, 2]), np.array([1.0, 2.0, 2.001, 9.0, 5.0, 5.001])
    assert counter.before(groups, moments).tolist() == [0, 1, 3, 0, 0, 1]


def test_taking_rows_of_decisions_keeps_their_columns_together(log: Log) -> None:
    decisions: Decisions = event_decisions(log)
    part = decisions.between(float(np.median(log.at)), float("inf"))
    assert 0 < len(part) < len(decisions)
    assert (part.at >= np.median(log.at)).all()
    assert len(part.items) == len(part.labels) == len(part.context)


def test_a_period_asks_what_a_user_does_within_it_as_known_at_its_start(log: Log) -> None:
    end = float(log.at.max()) + 1
    start = end - 4 * 86_400
    rows = period_decisions(log, start, end, 2.0)
    assert set(np.round((rows.at - start) / 86_400).astype(int)) == {0, 2}
    purchase = log.contract.type_id("purchase")
    for row in range(0, len(rows), 11):
        own = slice(log.offsets[rows.user[row]], log.offsets[rows.user[row] + 1])
        inside = (log.at[own] >= rows.at[row]) & (log.at[own] < rows.at[row] + 2 * 86_400)
        same = inside & (log.items[own] == rows.items[row])
        assert same.any()
        assert rows.before[row] == (log.at[own] < rows.at[row]).sum() > 0
        assert rows.labels[row, 1] == (same & (log.types[own] == purchase)).any()
    keys = list(zip(rows.user, rows.at, rows.items, strict=True))
    assert len(set(keys)) == len(keys) > 40


def test_windows_of_a_bucket_are_trimmed_alike_and_lose_nothing(shop: Dataset, log: Log) -> None:
    windows = Windows(log, exposure_decisions(shop, log), event_decisions(log), per_window=10_000)
    moves = 0
    for batch in windows.batches(16):
        assert (batch["prefix"] < batch["items"].shape[1]).all()
        moves += int((batch["picked"] >= 0).sum())
        seen = batch["items"] != 0
        past = np.pad(np.cumsum(seen, axis=1), ((0, 0), (1, 0)))  # events in the first so many slots
        visible = np.take_along_axis(past, batch["prefix"] + 1, axis=1)
        newest = np.take_along_axis(seen, np.maximum(batch["prefix"], 0), axis=1)
        assert newest[(batch["candidates"] != 0) & (visible > 0)].all()
    assert moves <= len(log.items)


def test_batches_of_a_bucket_have_one_shape_filled_up_or_not(shop: Dataset, log: Log) -> None:
    """Each shape costs a step of its own: seconds to trace, and many more to compile."""
    longer = replace(log, contract=replace(log.contract, history_length=64))
    asked, moves = exposure_decisions(shop, log), event_decisions(log)
    first = np.argmax(np.diff(log.offsets))  # so that the first window of all is a full one
    asked, moves = (decisions.take(decisions.user >= first) for decisions in (asked, moves))
    shapes: dict[int, set[Any]] = {}
    filled = 0
    for batch in Windows(longer, asked, moves, per_window=10_000).batches(1):
        shapes.setdefault(batch["items"].shape[1], set()).add(tuple((n, a.shape) for n, a in batch.items()))
        filled += not batch["weights"][-1].any()
    assert len(shapes) > 1
    assert filled
    assert all(len(found) == 1 for found in shapes.values())


@pytest.mark.parametrize("learns", [True, False])
def test_few_moves_are_compared_beside_decisions_and_nearly_all_of_them_alone(
    shop: Dataset, log: Log, monkeypatch: pytest.MonkeyPatch, learns: bool
) -> None:
    """Also where validation is measured, and there they are always the same."""
    monkeypatch.setattr(samples, "BESIDE", 2)
    moves = event_decisions(log)
    beside = Windows(log, exposure_decisions(shop, log), moves)
    alone = Windows(log, None, moves)
    for windows, few in ((beside, True), (alone, False)):
        compared = []
        for batch in windows.batches(16, np.random.default_rng(0) if learns else None):
            assert (batch["picked"].size <= 2 * len(batch["items"])) is few
            real = batch["picked"][batch["picked"] >= 0]
            assert len(set(real)) == len(real)
            assert (batch["moves"].ravel()[real] != PAD).all()
            compared.append(batch["picked"])
        if not learns:
            for before, batch in zip(compared, windows.batches(16), strict=True):
                np.testing.assert_array_equal(batch["picked"], before)
