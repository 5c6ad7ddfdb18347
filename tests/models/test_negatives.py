"""Hard negatives: drawn as said, and the loss knows how much more often than uniformly."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import example, given
from hypothesis import strategies as st

from models import run
from models.contract import FIRST
from models.decisions import event_decisions
from models.log import Log
from models.negatives import Noise, alias_table
from models.run import TrainConfig, build_network


@pytest.fixture
def small(log: Log) -> Log:
    """One user who acted on 2, 3, 3, 4, 5 and 5, of 8 items; of a history of 4 events the last 2 may be drawn."""
    contract = replace(log.contract, items=FIRST + 8, history_length=4, negatives=1000)
    some: dict[str, Any] = {name: getattr(log, name)[:6] for name in ("types", "values", "gaps", "request")}
    items, offsets = np.array([2, 3, 3, 4, 5, 5], np.int32), np.array([0, 6])
    at = np.arange(6, dtype=np.float64) * 1000.0
    return replace(log, contract=contract, users=log.users[:1], offsets=offsets, items=items, at=at, **some)


def test_the_odds_are_those_of_the_mixture_over_uniform(small: Log) -> None:
    """Of 8 items, half uniform (1/8 each), a quarter of 3 and 4, a quarter of the six acted on.

    Item 3: .5 + .25 * 8 * 1/2 + .25 * 8 * 2/6 = 2.1667 times as often as uniformly; 9, which nobody acts on: .5.
    """
    decisions = event_decisions(small).take(np.array([4, 0]))  # before it 3 and 4 are the last two; before 0 nothing
    odds = Noise(small, small.items, 0.5).odds(decisions, np.array([[3, 5, 9], [3, 5, 9]], np.int32))
    third = 8 * 2 / 6
    with_own = [0.5 + 0.25 * third + 0.25 * 4, 0.5 + 0.25 * third, 0.5]
    without = [0.5 + 0.5 * third, 0.5 + 0.5 * third, 0.5]
    np.testing.assert_allclose(np.exp(odds), [with_own, without], rtol=1e-6)


def test_items_are_drawn_as_often_as_the_odds_say(small: Log) -> None:
    decisions, noise = event_decisions(small).take(np.array([4, 0] * 50)), Noise(small, small.items, 0.5)
    drawn = noise.draw(decisions, np.random.default_rng(0))
    assert drawn.shape == (100, 1000)
    everything = np.arange(FIRST, FIRST + 8, dtype=np.int32)
    for place in (0, 1):
        share = (drawn[place::2, :, None] == everything).mean(axis=(0, 1))
        chance = np.exp(noise.odds(decisions.take(np.array([place])), everything[None])[0]) / 8
        assert chance.sum() == pytest.approx(1)
        np.testing.assert_allclose(share, chance, atol=0.01)


def test_without_hard_ones_the_draw_is_uniform_and_the_loss_is_told_nothing(small: Log) -> None:
    decisions, noise = event_decisions(small), Noise(small, small.items, 0.0)
    assert not noise.odds(decisions, noise.draw(decisions, np.random.default_rng(0))).any()


def test_the_alias_table_of_three_items_by_hand() -> None:
    """Chances 0, 3/4, 1/4 are 0, 2 1/4 and 3/4 of the mean: both others are filled up by the second."""
    share, other = alias_table(np.array([0.0, 0.75, 0.25]))
    np.testing.assert_allclose(share, [0.0, 1.0, 0.75])
    np.testing.assert_array_equal(other, [1, 1, 1])


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=50).filter(any))
@example([0, 0, 1])
@example([1])
def test_an_alias_table_draws_by_its_chances(weights: list[int]) -> None:
    chance = np.array(weights) / sum(weights)
    share, other = alias_table(chance)
    drawn = (share + np.bincount(other, 1 - share, len(share))) / len(share)
    np.testing.assert_allclose(drawn, chance, atol=1e-6)
    assert (drawn[chance == 0] == 0).all()


def test_items_are_drawn_as_often_as_their_correction_says(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """50,000 of them, each item within five standard deviations; compiled as well as not."""
    monkeypatch.setattr(run, "WHOLE_CATALOGUE", 0)
    monkeypatch.setattr(run, "DRAWN", 50_000)
    tf.keras.utils.set_random_seed(0)
    network = build_network(log.contract, log.content, TrainConfig())
    chance = network.draw_chance.numpy()
    for compiled in (False, True):
        drawn = tf.function(network.draw_negatives, jit_compile=compiled)().numpy()
        assert drawn.min() >= FIRST
        often = np.bincount(drawn, minlength=len(chance))
        assert (abs(often - 50_000 * chance) <= 5 * np.sqrt(50_000 * chance) + 1e-3).all()
