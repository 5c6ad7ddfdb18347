"""The yardsticks: features counted by hand, the hinge by hand, and every kind trained, published and replayed."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from models.artifact import open_artifact
from models.baselines import SVM, Popularity, balanced_hinge
from models.contract import Contract
from models.datasets.dataset import Dataset
from models.evaluate import load_functions
from models.features import FAR, Standardise, catalogue_features, decision_features, feature_names
from models.golden import replay
from models.log import Log
from models.matches import pack_tail
from models.past import Candidates, Catalogue, Past
from models.run import TrainConfig, build_network, build_variables, publish_run
from models.train import train

L2, L3 = math.log(2), math.log(3)
# Items 2, 3, 4; two category levels: 2 and 3 share the first, nothing shares the second.
CATEGORIES = tf.constant([[0, 0], [0, 0], [2, 2], [2, 3], [3, 0]])
NUMBERS = tf.constant([[0, 0, 0], [0, 0, 0], [0.5, 1, 0.1], [-0.5, 1, 0.2], [0, 0, 0.3]], tf.float32)
ITEMS, TYPES = tf.constant([0, 2, 3, 2]), tf.constant([0, 2, 4, 2])  # a click, a purchase of another, a click
AGES = tf.zeros([4])
EXPOSURES = tf.constant([0, 11, 0, 31])  # 10 items shown before the first click, 30 before the second
TAIL = (ITEMS, TYPES, AGES, EXPOSURES)


def test_features_of_a_small_history_are_as_counted_by_hand(contract: Contract) -> None:
    """So long ago that whatever fades has gone."""
    past = Past.whole(pack_tail(*TAIL)[None], tf.constant([3]), tf.constant([1e6]))
    items = tf.constant([[2]])
    numbers = tf.gather(NUMBERS, items)
    candidates = Candidates(items, numbers, numbers, tf.zeros([1, 1, 5], tf.int32))
    row = decision_features(contract, past, candidates, CATEGORIES)[0, 0].numpy()
    found = dict(zip(feature_names(contract), row.tolist(), strict=True))
    expected = {
        "click on the same item": L3,
        "how recent the same item": 1,
        "click on the same category 1": L3,
        "purchase on the same category 1": L2,
        "how recent the same category 1": 1,
        "click on the same category 2": L3,
        "how recent the same category 2": 1,
        "click in all": L3,
        "purchase in all": L2,
        "shown in all": math.log(41),
        "told what was shown in all": L3,
        "price": 0.5,
        "price known": 1,
        "popularity": 0.1,
    }
    assert found == pytest.approx({name: expected.get(name, 0.0) for name in found}, abs=1e-6)


def test_the_catalogue_has_the_features_of_each_of_its_items(contract: Contract) -> None:
    past = Past.whole(pack_tail(*TAIL)[None], tf.constant([3]), tf.constant([30.0]))
    items = tf.range(5)[None]
    each = decision_features(contract, past, Candidates(items, None, NUMBERS[None], None), CATEGORIES)[0]
    catalogue = Catalogue(NUMBERS, CATEGORIES, NUMBERS)
    np.testing.assert_allclose(
        catalogue_features(contract, ITEMS, TYPES, AGES + 30.0, past.valid[0], EXPOSURES, catalogue),
        each,
        rtol=1e-6,
        atol=1e-7,
    )


def test_a_past_item_beyond_the_catalogue_counts_as_an_event_and_matches_nothing(contract: Contract) -> None:
    catalogue = Catalogue(NUMBERS, CATEGORIES, NUMBERS)
    strange = tf.constant([0, 0, 0, 77])
    valid = tf.constant([False, False, False, True])
    found = catalogue_features(contract, strange, TYPES, AGES + 1e6, valid, EXPOSURES, catalogue).numpy()
    total = feature_names(contract).index("click in all")
    np.testing.assert_allclose(found[2:, total], L2, rtol=1e-6)
    assert not found[2:, :total].any()


def test_standardised_features_have_the_mean_and_deviation_of_all_real_rows() -> None:
    layer = Standardise(1)
    for batch, real in (([[1.0], [99.0]], [True, False]), ([[3.0], [5.0]], [True, True])):
        layer.observe(tf.constant(batch), tf.constant(real))
    assert float(layer.mean[0]) == pytest.approx(3)  # of 1, 3 and 5
    assert float(layer.variance[0]) == pytest.approx(8 / 3)
    found = layer(tf.constant([[3.0], [5.0], [1000.0]])).numpy()[:, 0]
    assert found == pytest.approx([0, 2 / math.sqrt(8 / 3), FAR], abs=1e-4)


def test_the_hinge_weighs_yes_and_no_alike() -> None:
    """Yes: margin 0.5 costs 0.5. No: margins -2, 0, 1 of weights 1, 1, 2 cost 0, 1, 2: 5 / 4. Half of each."""
    margins, labels = tf.constant([0.5, -2.0, 0.0, 1.0]), tf.constant([1.0, 0.0, 0.0, 0.0])
    assert float(balanced_hinge(margins, labels, tf.constant([1.0, 1.0, 1.0, 2.0]))) == pytest.approx(
        0.5 * (0.5 + 1.25)
    )
    assert float(balanced_hinge(margins, labels, tf.constant([0.0, 1.0, 1.0, 2.0]))) == pytest.approx(0.5 * 1.25)


def test_a_yes_at_a_place_that_is_seldom_looked_at_weighs_more_in_the_hinge(log: Log) -> None:
    """Two yes of margins 0 and 1 (costs 1 and 0), no no: alike 1/2; with looks 1/4 and 1, weights 4 and 1: 4/5."""
    network = SVM(log.contract, log.content)
    margins, labels, look = tf.Variable([[0.0, 1.0]]), tf.ones([1, 2]), tf.constant([[0.25, 1.0]])
    with tf.GradientTape() as tape:
        loss = network.target_loss(margins, labels, tf.ones([1, 2]), look)
    # Below the hinge's corner each yes pulls with its share of the weights; the cross-entropy beside it never does.
    np.testing.assert_allclose(tape.gradient(loss, margins)[0, 0], -0.5 * 4 / 5, rtol=1e-6)


def test_popularity_orders_the_catalogue_by_popularity(log: Log) -> None:
    network = Popularity(log.contract, log.content)
    build_variables(network)
    length = log.contract.history_length
    past = Past.whole(tf.zeros([2, length, 4]), tf.zeros([2], tf.int32), tf.zeros([2]))
    catalogue = Catalogue(network.numbers, network.categories, network.numbers)
    scores = network.catalogue_scores(past, tf.zeros([2, len(log.contract.fields)], tf.int32), catalogue).numpy()
    counts = np.bincount(log.items[log.at < np.quantile(log.at, 0.79)], minlength=log.contract.items)
    assert scores.shape == (2, log.contract.items)
    assert np.corrcoef(scores[0, 2:], np.log1p(counts[2:]))[0, 1] > 0.99
    np.testing.assert_array_equal(scores[0], scores[1])


def test_the_dropout_setting_reaches_the_network_that_has_one(log: Log) -> None:
    for setting, rate in ((-1.0, 0.2), (0.5, 0.5)):
        network = build_network(log.contract, log.content, TrainConfig(model="dnn", dropout=setting))
        assert network.drop.rate == rate


@pytest.mark.parametrize("kind", ["popularity", "logistic", "svm", "dnn"])
def test_every_yardstick_is_trained_published_and_replayed(kind: str, shop: Dataset, tmp_path: Path) -> None:
    """A short training ranks decisions better than chance, and the published model gives the recorded outputs."""
    config = TrainConfig(model=kind, epochs=25, patience=25, learning_rate=1e-3, history_length=8)
    metrics = train(shop, tmp_path / "run", config)
    assert metrics["validation"]["model"]["click"]["auc"] > 0.6
    publish_run(tmp_path / "run", tmp_path / "saved", kind)
    artifact = open_artifact(tmp_path / "saved", kind)
    assert artifact.manifest["kind"] == kind
    replay(artifact.golden(), artifact.contract, artifact.vocabulary, load_functions(artifact))
