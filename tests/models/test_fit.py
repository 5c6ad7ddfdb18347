"""The training loop: it keeps the best weights, cools down, feeds batches from a thread, and shares them out."""

from __future__ import annotations

import itertools
import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import astuple
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models import accelerate
from models.accelerate import Accelerator, split_rows
from models.augment import hide_events
from models.behaviour import prior_l2
from models.datasets.dataset import Dataset
from models.decisions import event_decisions, exposure_decisions
from models.dropout import Dropout
from models.encode import Arrays
from models.fit import Fit, ahead, mean_losses
from models.log import Log
from models.run import TrainConfig, build_network, build_variables
from models.samples import Windows
from models.steps import Schedule, Steps, remembered


@pytest.fixture
def windows(shop: Dataset, log: Log) -> Windows:
    return Windows(log, exposure_decisions(shop, log), event_decisions(log), per_window=20)


def fit(log: Log, schedule: Schedule, xla: bool = False, **options: Any) -> Fit:
    tf.keras.utils.set_random_seed(0)
    network = build_network(log.contract, log.content, TrainConfig(**options))
    build_variables(network)
    return Fit(network, network.losses_of, schedule, Accelerator(xla=xla))


def test_the_penalty_on_tables_is_that_of_their_prior() -> None:
    """A normal prior of spread .05 costs v**2 / (2 * .0025); over 200 decisions that is 1 a unit of v**2."""
    assert prior_l2(200) == pytest.approx(1.0)
    assert prior_l2(0) == prior_l2(1)


def test_training_lowers_the_loss_and_notes_every_figure(log: Log, windows: Windows) -> None:
    loop = fit(log, Schedule(epochs=8, learning_rate=3e-3), xla=True)
    check = mean_losses(loop.network, loop.losses, lambda: windows.batches(32), loop.accelerator)
    before = check()["val_loss"]
    history = loop.run(lambda: windows.batches(32, np.random.default_rng(0)), len(windows.plan(32)), check)
    assert check()["val_loss"] == pytest.approx(min(history["val_loss"]), rel=1e-4)
    assert min(history["val_loss"]) < 0.6 * before
    assert {len(values) for values in history.values()} == {8}
    assert {"loss", "val_click", "seconds", "learning_rate"} <= set(history)


def test_validation_is_the_mean_over_rows_however_they_are_batched(log: Log, windows: Windows) -> None:
    """Few decisions have an amount: a mean of the means of small batches would count each of them as another number."""
    loop = fit(log, Schedule(), model="logistic")
    found = []
    for size in (1, 4, 64):
        means = mean_losses(loop.network, loop.losses, partial(windows.batches, size), loop.accelerator)()
        found.append([means[f"val_{name}"] for name in (*log.contract.targets, *log.contract.values)])
    assert all(value > 0 for value in found[0])
    assert found[1] == pytest.approx(found[0], rel=1e-4)
    assert found[2] == pytest.approx(found[0], rel=1e-4)


def test_the_best_weights_are_kept_and_cooling_down_begins_when_nothing_improves(log: Log, windows: Windows) -> None:
    loop = fit(log, Schedule(epochs=50, patience=1, minutes=5), model="logistic")
    losses = iter([3.0, 1.0, 2.0, 2.0, 2.0, 2.0])
    seen = []

    def check() -> dict[str, float]:
        seen.append(loop.network.get_weights()[0].copy())
        return {"val_loss": next(losses)}

    few = list(windows.batches(64))[:2]
    history = loop.run(lambda: few, 2, check)
    # One epoch without improvement (the third) begins to cool down for two epochs.
    assert history["val_loss"] == [3.0, 1.0, 2.0, 2.0, 2.0]
    assert history["learning_rate"][-1] < history["learning_rate"][-2] or history["learning_rate"][-1] < 1e-3 / 4
    np.testing.assert_array_equal(loop.network.get_weights()[0], seen[1])


@pytest.mark.parametrize(("cool", "stable", "lasts"), [(0.25, 8, 2), (0.5, 6, 3), (2.0, 3, 6)])
def test_cooling_down_lasts_as_told_and_is_over_in_time(
    log: Log, windows: Windows, cool: float, stable: int, lasts: int
) -> None:
    """Epochs of one step each; the first epoch of cooling down still begins with the whole rate."""
    loop = fit(log, Schedule(epochs=stable + lasts, cool=cool, minutes=50), model="logistic")
    batch, losses = next(iter(windows.batches(8))), itertools.count(10.0, -1.0)  # ever better: patience has no part
    history = loop.run(lambda: [batch], 1, lambda: {"val_loss": next(losses)})
    falling = [1e-3 * (1 - done / lasts) for done in range(lasts)]
    assert history["learning_rate"] == pytest.approx([1e-3] * stable + falling, abs=1e-6)


def test_the_course_to_the_best_weights_is_noted_and_taken_again(
    log: Log, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Best after two epochs of three steps, none better by the fourth, then the second of a cool-down of two is."""
    loop = fit(log, Schedule(epochs=50, patience=2, cool=0.5, learning_rate=1e-3), model="logistic")
    losses = iter([3.0, 2.0, 2.5, 2.5, 2.2, 1.0])
    few = list(windows.batches(64))[:3]
    loop.run(lambda: few, 3, lambda: {"val_loss": next(losses)})
    assert astuple(loop.course) == pytest.approx((2.0, 2.0, 2.0))

    again, told, cooled = fit(log, loop.schedule, model="logistic"), [], []
    take = Steps.take

    def noted(steps: Steps, batch: dict[str, Any], share: float) -> dict[str, Any]:
        cooled.append(share)
        return take(steps, batch, share)

    monkeypatch.setattr(Steps, "take", noted)
    again.retrace(loop.course, lambda: few, 3, lambda _, done, total: told.append((done, total)))
    assert told == [(step, 12) for step in range(1, 13)]
    assert cooled == pytest.approx([0.0] * 6 + [step / 6 for step in range(6)])


def test_learning_that_diverges_is_an_error_and_no_result(log: Log, windows: Windows) -> None:
    loop = fit(log, Schedule(epochs=3), model="logistic")
    few = list(windows.batches(64))[:1]
    with pytest.raises(ValueError, match="diverged: after epoch 1 of train"):
        loop.run(lambda: few, 1, lambda: {"val_loss": float("nan")})


def test_averages_forget_what_the_weights_began_as() -> None:
    """After 12 steps of a pass of 1,000, what the first step left has a weight of 1/4 * 2/5 * .. * 12/15 < 1 %."""
    kept = np.prod([remembered(taken, 1000) for taken in range(1, 12)])
    assert kept == pytest.approx(2 * 3 * 4 / (13 * 14 * 15))
    assert remembered(5000, 1000) == 1 - 1 / 1000


def test_an_epoch_is_a_pass_or_a_tenth_of_the_time(log: Log, windows: Windows, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches without end and a minute by a clock that each look moves on a second: 3 steps and 9 seconds an epoch.

    So there are seven, and from the sixth, which ends after more than four fifths of the minute, the rate falls.
    """
    loop = fit(log, Schedule(epochs=50, minutes=1), model="logistic")
    batch = next(iter(windows.batches(8)))
    monkeypatch.setattr("models.fit.time", SimpleNamespace(monotonic=itertools.count(0.0).__next__))
    losses = itertools.count(10.0, -1.0)  # ever better, so that patience has no part in it
    history = loop.run(lambda: itertools.repeat(batch), 1_000_000, lambda: {"val_loss": next(losses)})
    assert len(history["val_loss"]) == 7
    assert history["learning_rate"][:6] == pytest.approx([1e-5 * steps for steps in (3, 6, 9, 12, 15, 18)], abs=1e-6)
    assert history["learning_rate"][6] < 0.8 * 21e-5


def test_batches_made_ahead_come_in_order_and_their_errors_surface() -> None:
    def some(broken: bool) -> Iterator[Arrays]:
        for i in range(9):
            if broken and i == 5:
                raise ValueError("no more")
            yield {"i": np.array(i)}

    assert [int(batch["i"]) for batch in ahead(some(False), 2)] == list(range(9))
    with pytest.raises(ValueError, match="no more"):
        list(ahead(some(True), 2))


def test_batches_made_ahead_may_be_left_early() -> None:
    batches = ahead({"i": np.array(i)} for i in range(1000))
    assert int(next(batches)["i"]) == 0
    batches.close()


def test_shares_of_a_batch_hold_each_move_once(windows: Windows) -> None:
    batch = next(windows.batches(32, np.random.default_rng(0)))
    parts = split_rows(batch, 2)
    assert len(parts[0]["items"]) == len(batch["items"]) // 2
    width = batch["moves"].shape[1]
    whole = batch["moves"].ravel()[batch["picked"][batch["picked"] >= 0]]
    found = [part["moves"].ravel()[part["picked"][part["picked"] >= 0]] for part in parts]
    limit = len(batch["items"]) // 2 * 2 * width
    assert sum(map(len, found)) <= int((batch["picked"] < limit).sum())
    assert set(np.concatenate(found).tolist()) <= set(whole.tolist())


def test_hidden_events_become_padding_and_answers_stay(windows: Windows) -> None:
    batch = next(windows.batches(32))
    hidden = hide_events(batch, 0.5, np.random.default_rng(0))
    gone = (hidden["items"] == 0) & (batch["items"] != 0)
    assert 0.4 < gone.sum() / (batch["items"] != 0).sum() < 0.6
    assert not hidden["types"][gone].any()
    np.testing.assert_array_equal(hidden["moves"], batch["moves"])
    assert hide_events(batch, 0.0, np.random.default_rng(0)) is batch


@pytest.mark.parametrize("xla", [False, True])
def test_dropout_zeroes_its_share_and_keeps_the_mean(xla: bool) -> None:
    tf.random.set_seed(0)
    drop = tf.function(Dropout(0.3), jit_compile=xla)
    x = tf.ones([101, 99])
    y, z = (drop(x, training=True).numpy() for _ in range(2))
    assert (y == 0).mean() == pytest.approx(0.3, abs=0.02)
    assert y.mean() == pytest.approx(1.0, abs=0.03)
    assert (y != z).any()
    np.testing.assert_array_equal(drop(x, training=False), x)


def test_two_devices_train_the_same_network() -> None:
    """Logical devices have to be made before TensorFlow looks at its devices, so this runs in its own process."""
    done = subprocess.run([sys.executable, "-c", TWO_DEVICES], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
    losses = json.loads(done.stdout.splitlines()[-1])
    assert losses[-1] < losses[0]


def test_more_devices_than_there_are_is_an_error() -> None:
    with pytest.raises(ValueError, match="devices is 3"):
        Accelerator(devices=3)


TWO_DEVICES = """
import json
import tempfile
from pathlib import Path
import tensorflow as tf

cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)
from models.datasets.storefront import simulate
from models.run import TrainConfig
from models.train import train

shop = simulate(seed=3, users=80, items=120, events=6_000)
config = TrainConfig(devices=2, history_length=8, pretrain_epochs=0, epochs=3, batch=16, per_window=20)
with tempfile.TemporaryDirectory() as run:
    history = train(shop, Path(run), config)["learning"]["train"]
print(json.dumps(history["click"]))
"""


def test_mixed_precision_changes_the_encoder_by_no_more_than_its_rounding(log: Log, windows: Windows) -> None:
    batch = {name: tf.constant(array) for name, array in next(windows.batches(16)).items()}
    losses = {}
    for precision in ("float32", "mixed_bfloat16"):
        tf.keras.utils.set_random_seed(0)
        network = build_network(log.contract, log.content, TrainConfig(size="small", precision=precision))
        losses[precision] = float(network.losses_of(batch, training=False)["loss"])
        assert all(v.dtype == "float32" for v in network.trainable_variables)
    assert losses["mixed_bfloat16"] != losses["float32"]
    assert losses["mixed_bfloat16"] == pytest.approx(losses["float32"], rel=0.02)


def test_xla_compiles_a_shape_that_comes_often_and_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    """A text is what XLA cannot compile: the third batch of two rows fails, the first of three does not."""
    monkeypatch.setattr(accelerate, "HOT", 2)
    step = Accelerator().step(lambda batch: {"digits": tf.reduce_sum(tf.strings.length(tf.as_string(batch["rows"])))})
    two, three = ({"rows": np.full(rows, 12, np.int32)} for rows in (2, 3))
    assert [int(step(two)["digits"]) for _ in range(2)] == [4, 4]
    with pytest.raises(tf.errors.InvalidArgumentError):
        step(two)
    assert int(step(three)["digits"]) == 6


def test_a_compiled_step_goes_on_where_the_plain_one_was(
    log: Log, windows: Windows, monkeypatch: pytest.MonkeyPatch
) -> None:
    """By its seed it drops the very same, every time: nothing tells them apart but rounding."""
    losses = []
    for hot in (1, 100):
        monkeypatch.setattr(accelerate, "HOT", hot)
        loop = fit(log, Schedule(epochs=3, minutes=60), xla=True, model="dnn")
        plan = len(windows.plan(32))
        losses.append(loop.run(lambda: windows.batches(32), plan, lambda: {"val_loss": 0.0})["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=1e-4)
