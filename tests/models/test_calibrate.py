"""Calibration: lines against fractions computed by hand, and the same numbers in numpy, TensorFlow and an artifact."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from hypothesis import given, settings
from hypothesis import strategies as st

from models.calibrate import FEW, VERY_FEW, calibrate, choose, fit_calibration, in_brief, logits_of
from models.calibrate_values import fit_value
from models.calibration import IDENTITY, LEAST_SLOPE, Calibration, Line, segment_of
from models.calibrators import METHODS, Rows, beta, isotonic, platt, rising, sigmoid
from models.datasets.dataset import Dataset
from models.export import Served, export
from models.log import Log
from models.questions import decisions_of
from models.run import TrainConfig, build_network, build_variables
from models.scoring import Scorer, functions_of, load_functions

BENT = Line((-2.0, 0.0, 1.0), (-3.0, 1.0, 1.5))


def counted(table: dict[float, tuple[int, int]], look: float = 1.0) -> Rows:
    """Rows with so many yes and so many rows at each logit, each of a user of its own."""
    logits = np.repeat(list(table), [n for _, n in table.values()]).astype(np.float64)
    labels = np.concatenate([np.arange(n) < yes for yes, n in table.values()]).astype(np.float64)
    return Rows(logits, labels, np.full(len(logits), look), np.arange(len(logits)))


def test_a_line_goes_through_its_points_and_on_with_the_slopes_of_its_ends() -> None:
    found = BENT(np.array([-3.0, -2.0, -1.0, 0.0, 0.5, 1.0, 3.0]))
    np.testing.assert_allclose(found, [-5.0, -3.0, -1.0, 1.0, 1.25, 1.5, 2.5])


@pytest.mark.parametrize(
    ("x", "y"),
    [((0.0,), (0.0,)), ((0.0, 0.0), (0.0, 1.0)), ((0.0, 1.0), (1.0, 1.0)), ((0.0, 1.0), (0.0, math.inf))],
)
def test_what_is_no_rising_line_is_refused(x: tuple[float, ...], y: tuple[float, ...]) -> None:
    with pytest.raises(ValueError, match="calibration line"):
        Line(x, y)


def test_a_target_needs_a_line_for_every_segment() -> None:
    with pytest.raises(ValueError, match="click has 1 lines for 4 segments"):
        Calibration({"click": [IDENTITY]})


def test_segments_are_none_a_few_some_and_many_events() -> None:
    assert segment_of(np.array([0, 1, 4, 5, 19, 20, 200])).tolist() == [0, 1, 1, 2, 2, 3, 3]


@pytest.mark.parametrize("look", [1.0, 0.5])
def test_platt_finds_the_straight_line_through_two_rates(look: float) -> None:
    """Neutral rates 1/4 at logit -1 and 3/4 at 1 lie on log(3) * z; at a look of a half, half of them is seen."""
    yes = (int(1000 * look), int(3000 * look))
    line = platt(counted({-1.0: (yes[0], 4000), 1.0: (yes[1], 4000)}, look))
    np.testing.assert_allclose(line(np.array([-1.0, 0.0, 1.0])), [-math.log(3), 0.0, math.log(3)], atol=1e-4)


def test_beta_has_a_slope_on_either_side() -> None:
    """Rates made by slopes 1/2 below p = 1/2 and 2 above are found again."""
    logits = np.linspace(-4, 4, 17)
    curve = -0.5 * np.logaddexp(0, -logits) + 2 * np.logaddexp(0, logits)
    yes = np.round(1000 * sigmoid(curve)).astype(int)
    rows = counted({float(z): (int(n), 1000) for z, n in zip(logits, yes, strict=True)})
    found = beta(rows)
    assert found(np.array([-8.0]))[0] - found(np.array([-9.0]))[0] == pytest.approx(0.5, abs=0.05)
    assert found(np.array([9.0]))[0] - found(np.array([8.0]))[0] == pytest.approx(2.0, abs=0.1)
    np.testing.assert_allclose(found(logits), curve, atol=0.06)


def test_isotonic_pools_what_is_out_of_order_and_never_says_never() -> None:
    """Yes of 1,000 at logits -1.5, 0, .5, 1: 0, 400, 200, 600. Each starts with one look at the mean rate, .3; the
    middle two are pooled to 600.6 of 2,002. Between them the line is level, but for the least slope."""
    rows = counted({-1.5: (0, 1000), 0.0: (400, 1000), 0.5: (200, 1000), 1.0: (600, 1000)})
    slope = float(np.diff(platt(rows)(np.array([0.0, 1.0])))[0])
    heights = np.array([0.3 / 1001, 600.6 / 2002, 600.6 / 2002, 600.3 / 1001])
    logits = np.log(heights / (1 - heights))
    near = 0.05 / slope  # logits are told apart in steps
    line = isotonic(rows)
    assert len(line.x) == 6
    np.testing.assert_allclose(line.x[1:5], [-1.5, 0.0, 0.5, 1.0], atol=near)
    np.testing.assert_allclose(line.y[1:5], logits, atol=1.1 * LEAST_SLOPE * 0.5)
    outer = np.diff(line.y)[[0, -1]] / np.diff(line.x)[[0, -1]]
    np.testing.assert_allclose(outer, slope, rtol=1e-6)


def test_isotonic_divides_by_the_looks() -> None:
    """Looked at half of the time, 100 and 300 yes of 1,000 are so many of 500 looks, beside .4 of one."""
    line = isotonic(counted({-1.0: (100, 1000), 1.0: (300, 1000)}, look=0.5))
    np.testing.assert_allclose(sigmoid(np.array(line.y[1:3])), [100.4 / 501, 300.4 / 501], atol=1e-9)


def test_more_yes_than_looks_stay_a_probability() -> None:
    line = isotonic(counted({-1.0: (150, 1000), 1.0: (990, 1000)}, look=0.9))  # 990 of 900 looks
    assert sigmoid(np.array(line.y[-2])) == pytest.approx(1 - 0.5 / 901)


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000), method=st.sampled_from(sorted(METHODS)), slope=st.sampled_from([-1.0, 0.0, 0.3, 4.0])
)
def test_whatever_is_fitted_rises_everywhere(seed: int, method: str, slope: float) -> None:
    """Also where the answers fall with the logit: what the network ranks higher stays higher."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-1, 2, 400)
    labels = (rng.random(400) < sigmoid(slope * logits)).astype(np.float64)
    rows = Rows(logits, labels, rng.choice([1.0, 0.6, 0.1], 400), rng.integers(0, 40, 400))
    assert (np.diff(METHODS[method](rows)(np.linspace(-30, 30, 500))) > 0).all()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(st.floats(0.01, 3), st.floats(-3, 3)), min_size=2, max_size=64))
def test_points_become_a_rising_line_that_lies_nowhere_below_them(steps: list[tuple[float, float]]) -> None:
    x, y = np.cumsum([dx for dx, _ in steps]), np.array([height for _, height in steps])
    line = rising(x, y)
    assert (np.array(line.y) >= y - 1e-12).all()


@st.composite
def calibrations(draw: st.DrawFn) -> Calibration:
    rng = np.random.default_rng(draw(st.integers(0, 10_000)))
    sizes = draw(st.lists(st.integers(2, 64), min_size=8, max_size=8))
    lines = [rising(np.cumsum(rng.uniform(0.05, 1, n)) - n / 4, np.cumsum(rng.uniform(0, 1, n)) - n / 4) for n in sizes]
    return Calibration({"click": lines[:4], "purchase": lines[4:]})


@settings(max_examples=20, deadline=None)
@given(calibration=calibrations(), seed=st.integers(0, 10_000))
def test_numpy_and_tensorflow_say_the_same_to_the_last_bits(calibration: Calibration, seed: int) -> None:
    rng = np.random.default_rng(seed)
    lengths = rng.integers(0, 30, 6).astype(np.int32)
    logits = rng.normal(0, 8, (6, 5, 2)).astype(np.float32)
    graph = calibration(tf.constant(logits), tf.constant(lengths)).numpy()
    flat = calibration.apply(logits.reshape(-1, 2), np.repeat(lengths, 5)).reshape(6, 5, 2)
    np.testing.assert_allclose(graph, flat, rtol=1e-6, atol=1e-6)
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    assert again.lines == calibration.lines


def test_no_calibration_leaves_every_bit() -> None:
    logits = np.random.default_rng(0).normal(0, 9, (50, 2)).astype(np.float32)
    lengths = np.arange(50, dtype=np.int32)
    none = Calibration.none(["click", "purchase"])
    assert (none.apply(logits, lengths) == logits).all()
    assert (none(tf.constant(logits[:, None]), tf.constant(lengths)).numpy()[:, 0] == logits).all()


def test_the_simpler_method_stays_unless_the_other_is_better_by_a_standard_error() -> None:
    """Two users of one row each: gains a and b have the mean (a + b) / 2 and a standard error of |a - b| / sqrt(8)."""
    rows = Rows(np.zeros(2), np.ones(2), np.ones(2), np.arange(2))
    both, one = np.array([0.2, 0.3]), np.array([0.4, -0.3])  # clearly above, and within an error of nothing
    assert choose(rows, {"simple": np.zeros(2), "other": both}) == "other"
    assert choose(rows, {"simple": np.zeros(2), "other": one}) == "simple"


def test_a_user_with_many_rows_counts_as_one_for_the_error() -> None:
    """What looks sure by rows is not where all of the gain is one user's."""
    gain = np.concatenate([np.full(50, 0.5), np.full(50, -0.3)])
    guesses = {"simple": np.zeros(100), "other": gain}
    rows = Rows(np.zeros(100), np.ones(100), np.ones(100), np.arange(100))
    assert choose(rows, guesses) == "other"
    by_user = Rows(rows.logits, rows.labels, rows.looks, np.repeat([0, 1], 50))
    assert choose(by_user, guesses) == "simple"


@pytest.fixture(scope="module")
def miscalibrated() -> dict[str, np.ndarray]:
    """Two targets: the first too bold for new users and right for old ones, of the second there are few answers."""
    rng = np.random.default_rng(7)
    n = 24_000
    logits = rng.normal(-1.5, 1.5, (n, 2))
    lengths = rng.choice([0, 2, 10, 30], n)
    truth = logits.copy()
    truth[lengths < 5, 0] = 0.4 * logits[lengths < 5, 0] - 1.0
    truth[:, 1] = 0.5 * logits[:, 1] - 4.0
    looks = rng.choice([1.0, 0.5], n)
    labels = (rng.random((n, 2)) < looks[:, None] * sigmoid(truth)).astype(np.float32)
    return {
        "logits": logits,
        "labels": labels,
        "weights": np.ones((n, 2), np.float32),
        "looks": looks,
        "lengths": lengths,
        "users": rng.integers(0, 2000, n),
    }


def test_each_segment_is_forecast_better_and_one_that_was_right_is_left_alone(
    miscalibrated: dict[str, np.ndarray],
) -> None:
    calibration, report = fit_calibration(["click", "purchase"], **miscalibrated)
    for name in ("0", "1-4"):
        found = report["click"][name]
        assert found["before"]["ece"] > 0.05
        assert found["cross-fitted"]["ece"] < 0.02
        assert found["cross-fitted"]["logloss"] < found["before"]["logloss"] - 0.02
    assert report["click"]["20+"]["cross-fitted"]["ece"] < 0.015
    line = calibration.lines["click"][0]
    np.testing.assert_allclose(line(np.array([-3.0, 0.0])), [-2.2, -1.0], atol=0.25)
    np.testing.assert_allclose(calibration.lines["click"][3](np.array([-3.0, 0.0])), [-3.0, 0.0], atol=0.1)


def test_segments_with_few_answers_share_the_line_of_all(miscalibrated: dict[str, np.ndarray]) -> None:
    """Of the purchases of two segments nine each are left: too few for any line of their own."""
    rows = miscalibrated | {"weights": miscalibrated["weights"].copy()}
    for length in (2, 10):
        yes = np.flatnonzero((rows["lengths"] == length) & (rows["labels"][:, 1] > 0))
        rows["weights"][yes[VERY_FEW - 1 :], 1] = 0
    calibration, report = fit_calibration(["click", "purchase"], **rows)
    found = report["purchase"]
    assert [found[name]["positives"] for name in ("1-4", "5-19")] == [VERY_FEW - 1] * 2
    assert [found[name]["method"] for name in ("1-4", "5-19")] == ["shared"] * 2
    assert calibration.lines["purchase"][1] == calibration.lines["purchase"][2] != IDENTITY


def test_a_segment_with_some_answers_leaves_a_shared_line_that_is_wrong_for_it() -> None:
    """200 rows, 40 yes, among 20,000 whose logits mean something else; no bent line is fitted to so few."""
    rng = np.random.default_rng(2)
    logits = np.concatenate([rng.normal(-2, 0.5, 20_000), rng.normal(2, 0.5, 200)])
    labels = rng.random(20_200) < np.concatenate([sigmoid(2 * logits[:20_000] + 4), np.full(200, 0.2)])
    _, report = fit_calibration(
        ["click"],
        logits[:, None],
        labels[:, None].astype(np.float32),
        np.ones((20_200, 1)),
        np.ones(20_200),
        np.repeat([30, 2], [20_000, 200]),
        rng.integers(0, 3000, 20_200),
    )
    few = report["click"]["1-4"]
    assert VERY_FEW <= few["positives"] < FEW
    assert few["method"] == "platt"
    assert few["cross-fitted"]["ece"] < 0.15 < few["before"]["ece"]


@pytest.mark.parametrize("busy", ["bought everything", "alone has a long history"])
def test_what_one_user_decides_alone_is_not_forecast_for_others(busy: str) -> None:
    """150 yes of one user among 100: whoever leaves that user out has nothing to fit a line to."""
    rng = np.random.default_rng(3)
    users = np.repeat(np.arange(100), 30)
    labels = (rng.random(3000) < 0.3).astype(np.float32)
    lengths = np.full(3000, 2)
    users[:300], labels[:300:2] = 0, 1.0
    if busy == "bought everything":
        labels[users != 0] = 0.0
    else:
        lengths[users == 0] = 50
    _, report = fit_calibration(
        ["click"],
        rng.normal(-1, 1, (3000, 1)),
        labels[:, None],
        np.ones((3000, 1)),
        np.ones(3000),
        lengths,
        users,
    )
    alone = "all" if busy == "bought everything" else "20+"
    assert report["click"][alone]["positives"] >= 150
    assert report["click"][alone]["method"] in ("identity", "shared")


def test_labels_that_are_not_known_are_no_answers(miscalibrated: dict[str, np.ndarray]) -> None:
    weights = miscalibrated["weights"].copy()
    weights[:, 1] = 0
    calibration, report = fit_calibration(["click", "purchase"], **(miscalibrated | {"weights": weights}))
    assert calibration.lines["purchase"] == (IDENTITY,) * 4
    assert report["purchase"]["all"] == {"method": "identity", "rows": 0, "positives": 0}
    brief = json.dumps(in_brief({"targets": report, "values": {}}), allow_nan=False)
    assert json.loads(brief)["targets"]["purchase"] == {}


def test_logits_of_probabilities_that_rounding_made_certain_are_finite() -> None:
    found = logits_of(np.array([0.0, 0.25, 1.0], np.float32))
    assert np.isfinite(found).all()
    assert found[1] == pytest.approx(-math.log(3))


def test_a_published_artifact_gives_the_calibrated_probabilities(shop: Dataset, log: Log, tmp_path: Path) -> None:
    """Fitted on what the bare network says, applied inside ``score``, saved and loaded: numpy's answer all the way."""
    tf.keras.utils.set_random_seed(0)
    network = build_network(log.contract, log.content, TrainConfig(model="logistic"))
    build_variables(network)
    plain = Served(network)
    decisions = decisions_of(shop, log, 0.0, float("inf"), 3000)
    functions = functions_of(plain.function, plain.names, plain.contract)
    calibration, found = calibrate(log, functions, decisions, network.examined().numpy())
    report = found["targets"]
    assert set(found["values"]) == set(log.contract.values)
    assert report["click"]["all"]["after"]["ece"] < report["click"]["all"]["before"]["ece"]  # it says 1/2 to all
    calibration = Calibration({name: (BENT, IDENTITY, *row[2:]) for name, row in calibration.lines.items()})
    artifact = export(
        network,
        tmp_path,
        "shop",
        kind="logistic",
        vocabulary=log.vocabulary,
        golden=[],
        metrics={},
        facts={},
        calibration=calibration,
    )
    before = logits_of(Scorer(log, functions).score(decisions).probabilities)
    served = Scorer(log, load_functions(artifact)).score(decisions).probabilities
    lengths = np.minimum(decisions.before, log.contract.history_length)
    np.testing.assert_allclose(served, sigmoid(calibration.apply(before, lengths)), atol=1e-6)


def test_a_value_that_says_too_much_is_drawn_together() -> None:
    """Forecasts whose logs are twice as far apart as what comes: a slope of a half; exact ones stay as they are."""
    rng = np.random.default_rng(0)
    truth = rng.normal(0, 0.5, 2000)
    found = np.exp(truth + rng.normal(0, 0.5, 2000))  # of the median exp(truth), the mean is exp(.125) times as much
    fold = np.arange(2000) % 5
    line, report = fit_value(np.exp(2 * truth + 1), found, fold)
    assert line is not None
    np.testing.assert_allclose(line(np.array([1.0, 2.0])), [0.0, 0.5], atol=0.03)
    assert report["cross-fitted"] < report["before"]
    assert report["mean over forecast"] == pytest.approx(math.exp(0.125), rel=0.03)
    assert fit_value(np.exp(truth), found, fold)[0] is None
    assert fit_value(np.exp(2 * truth[:40]), found[:40], fold[:40])[0] is None  # too few to say


def test_a_values_line_is_applied_in_the_graph_and_kept() -> None:
    calibration = Calibration(Calibration.none(("click",)).lines, {"amount": Line((0.0, 1.0), (0.25, 0.75))})
    again = Calibration.from_json(json.loads(json.dumps(calibration.to_json())))
    np.testing.assert_allclose(again.sized("amount", tf.constant([0.0, 2.0])), [0.25, 1.25])
    np.testing.assert_allclose(again.sized("rating", tf.constant([0.0, 2.0])), [0.0, 2.0])
