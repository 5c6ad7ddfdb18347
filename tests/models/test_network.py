"""The networks: no look into the future, no trace of padding, the same numbers in training and in serving."""

from __future__ import annotations

import numpy as np
import pytest
import tensorflow as tf

from models.baselines import Popularity, Yardstick
from models.behaviour import Behaviour, age_bucket
from models.calibrators import sigmoid
from models.contract import GAP_BUCKETS
from models.datasets.dataset import Dataset
from models.decisions import event_decisions, exposure_decisions
from models.encode import Arrays
from models.export import Served
from models.log import Log
from models.network import Network, copies_of
from models.past import Candidates, Catalogue, Events, Past
from models.run import NETWORKS, TrainConfig, build_network, build_variables
from models.samples import Windows


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, log: Log) -> Network:
    tf.random.set_seed(0)
    network = build_network(log.contract, log.content, TrainConfig(model=request.param))
    build_variables(network)
    rng = np.random.default_rng(0)
    network.set_weights([w + rng.normal(0, 0.04, w.shape) for w in network.get_weights()])
    return network


@pytest.fixture
def batch(shop: Dataset, log: Log) -> Arrays:
    return Windows(log, exposure_decisions(shop, log), event_decisions(log), per_window=40).batch(np.arange(12))


def logits(network: Network, batch: Arrays) -> np.ndarray:
    data = {key: tf.constant(value) for key, value in batch.items()}
    past = Past(network.state_of(Events.of(data)), data["items"] != 0, data["prefix"], data["since"])
    own, numbers = network.catalogue_vectors(data["candidates"])
    found = network.score(past, Candidates(data["candidates"], own, numbers, data["context"]), network.categories)
    return np.asarray(found)


def test_changing_the_future_changes_no_past_output(network: Network, batch: Arrays) -> None:
    before = logits(network, batch)
    changed = {key: value.copy() for key, value in batch.items()}
    last = changed["items"].shape[1] - 1
    changed["items"][:, last] = 2 + (changed["items"][:, last] + 7) % 100
    changed["types"][:, last] = 2 + (changed["types"][:, last] + 1) % 4
    changed["gaps"][:, last] = 9
    changed["exposed"][:, last] = 2 + (changed["exposed"][:, last] + 5) % 100
    changed["exposures"][:, last] += 20
    after = logits(network, changed)
    blind = batch["prefix"] < last
    np.testing.assert_allclose(after[blind], before[blind], atol=1e-5)
    if not isinstance(network, Popularity):  # which sees no history
        assert np.abs(after[~blind] - before[~blind]).max() > 1e-3


def test_what_was_shown_before_an_event_counts(network: Network, batch: Arrays) -> None:
    before = logits(network, batch)
    knowing = {"exposed": (Behaviour,), "exposures": (Behaviour, Yardstick)}  # which, and how many
    for name, kinds in knowing.items():
        after = logits(network, batch | {name: np.zeros_like(batch[name])})
        assert (np.abs(after - before).max() > 1e-3) == (isinstance(network, kinds) and type(network) is not Popularity)


def test_what_lies_under_the_padding_does_not_matter(network: Network, batch: Arrays) -> None:
    before = logits(network, batch)
    changed = {key: value.copy() for key, value in batch.items()}
    padding = changed["items"] == 0
    assert padding.any()
    changed["types"][padding], changed["gaps"][padding] = 3, 5
    changed["values"][padding], changed["ages"][padding] = 2.0, 0.5
    changed["exposed"][padding], changed["exposures"][padding] = 3, 9
    np.testing.assert_allclose(logits(network, changed), before, atol=1e-5)


def test_a_prefix_in_a_window_scores_as_the_same_events_do_when_served(network: Network, batch: Arrays) -> None:
    """A decision in the middle of a window equals the served functions on its past alone, moved to the right."""
    trained = logits(network, batch)
    served = Served(network)
    length = batch["items"].shape[1]
    checked = 0
    for row in range(len(batch["items"])):
        for d in range(0, batch["prefix"].shape[1], 5):
            slot = int(batch["prefix"][row, d])
            if batch["candidates"][row, d] == 0:
                continue
            alone = {name: np.zeros((1, *batch[name].shape[1:]), batch[name].dtype) for name in Events._fields}
            since = 0.0
            if slot >= 0:
                for name, array in alone.items():
                    array[0, length - slot - 1 :] = batch[name][row, : slot + 1]
                alone["ages"] -= alone["ages"][0, -1] * (alone["items"] != 0)  # of the newest of these, not of all
                since = batch["ages"][row, slot] + batch["since"][row, d]
            state = served.function("encode")(**{k: tf.constant(v) for k, v in alone.items()})["state"]
            scored = served.function("score")(
                state=state,
                lengths=tf.constant([int((alone["items"] != 0).sum())], tf.int32),
                context=tf.constant(batch["context"][row, d][None]),
                since=tf.constant([since], tf.float32),
                candidates=tf.constant(batch["candidates"][row, d][None, None]),
            )
            for i, target in enumerate(network.contract.targets):
                want = float(sigmoid(trained[row, d, i]))
                assert float(scored[target][0, 0]) == pytest.approx(want, abs=2e-3)  # the state is float16
            checked += 1
    assert checked > 20


def test_retrieval_returns_allowed_items_best_first(network: Network, log: Log) -> None:
    served = Served(network)
    contract = served.contract
    allowed = np.zeros((1, contract.items), bool)
    allowed[0, [5, 9, 30]] = True
    length, width = contract.state_shape
    found = served.function("retrieve")(
        state=tf.zeros([2, length, width], contract.state_dtype),
        lengths=tf.zeros([2], tf.int32),
        context=tf.zeros([2, len(contract.fields)], tf.int32),
        since=tf.zeros([2]),
        allowed=tf.constant(allowed),
    )
    scores = found["scores"].numpy()
    assert {*found["items"].numpy()[0, :3].tolist()} == {5, 9, 30}
    assert np.isfinite(scores[:, :3]).all()
    assert np.isneginf(scores[:, 3:]).all()
    assert (np.diff(scores[:, :3]) <= 0).all()


def test_the_same_seed_gives_the_same_losses(shop: Dataset, log: Log, batch: Arrays) -> None:
    def losses() -> dict[str, float]:
        tf.keras.utils.set_random_seed(5)
        network = build_network(log.contract, log.content, TrainConfig())
        data = {key: tf.constant(value) for key, value in batch.items()}
        return {name: float(value) for name, value in network.losses_of(data, training=True).items()}

    assert losses() == losses()


def test_values_weigh_by_how_many_decisions_tell_them(network: Network, log: Log) -> None:
    """Of 200 decisions 10 tell an amount: .3 + .1 + 4 * .05 * .5 = .5, and 2 of retrieval by its weight."""
    parts = {"click": 0.3, "purchase": 0.1, "amount": 0.5, "rating": 0.7, "retrieval": 2.0}
    rows = {"click": 150.0, "purchase": 200.0, "amount": 10.0, "rating": 0.0, "retrieval": 40.0}
    assert set(parts) == {*log.contract.targets, *log.contract.values, "retrieval"}
    assert float(network.total(parts, rows)) == pytest.approx(0.5 + 2 * network.retrieval_weight)
    assert float(network.judged(parts, rows)) == pytest.approx(0.5)
    assert network.judged({"retrieval": 2.0}, {"retrieval": 40.0}) == 2.0


def test_a_batch_costs_by_its_own_rows(network: Network, batch: Arrays) -> None:
    data = {key: tf.constant(value) for key, value in batch.items()}
    parts = {name: float(value) for name, value in network.losses_of(data, training=False).items()}
    rows = {name: float(count) for name, count in network.rows_of(batch).items()}
    assert parts.pop("loss") == pytest.approx(float(network.total(parts, rows)), rel=1e-5)
    moves = batch["moves"].ravel()[batch["picked"][batch["picked"] >= 0]]
    told = np.isfinite(batch["amounts"]).sum(axis=(0, 1))
    assert rows == {
        "click": batch["weights"][..., 0].sum(),
        "purchase": batch["weights"][..., 1].sum(),
        "amount": told[0],
        "rating": told[1],
        "retrieval": (moves != 0).sum(),
    }
    assert min(rows.values()) > 0


def test_an_item_of_the_history_is_retrieved_with_its_copies(log: Log) -> None:
    """The bonus of an item is log(1 + the weights of all events on it), once, however many there are."""
    tf.keras.utils.set_random_seed(0)
    network = build_network(log.contract, log.content, TrainConfig())
    build_variables(network)
    length = log.contract.history_length
    items = tf.constant([[0] * (length - 3) + [7, 9, 7]])
    nothing, none = tf.zeros([1, length, log.contract.exposed], tf.int32), tf.zeros([1, length])
    zeros = tf.zeros([1, length], tf.int32)
    events = Events(items, tf.fill([1, length], 2), zeros, none, none, nothing, zeros)
    past = Past(network.state_of(events), items != 0, tf.constant([[length - 1]]), tf.zeros([1, 1]))
    context = tf.zeros([1, len(log.contract.fields)], tf.int32)
    table, numbers = network.catalogue_vectors(tf.range(log.contract.items))
    found = network.catalogue_scores(past, context, Catalogue(table, network.categories, numbers))[0].numpy()
    query = network.query(past, context[:, None])[0, 0]
    weights = network.copy_weights(past)[0, 0].numpy()
    plain = tf.linalg.matvec(table, query).numpy()
    assert found[7] - plain[7] == pytest.approx(np.log1p(weights[-1] + weights[-3]), abs=1e-4)
    assert found[9] - plain[9] == pytest.approx(np.log1p(weights[-2]), abs=1e-4)
    np.testing.assert_allclose(np.delete(found - plain, [0, 7, 9]), 0, atol=1e-5)


def test_a_stronger_target_adds_what_is_said_of_the_weaker(log: Log) -> None:
    """click at log-odds 0 has a chance of 1/2: the purchase's logit falls by log 2, or by half of that at half weight.

    At log-odds log 3 it is 3/4. What is expected of values stays.
    """
    network = build_network(log.contract, log.content, TrainConfig())
    assert isinstance(network, Behaviour)
    assert network.contract.targets == ("click", "purchase")
    build_variables(network)
    asked = tf.constant([[[0.0, 1.0, 5.0], [np.log(3), -2.0, 6.0]]], tf.float32)
    whole = [[0.0, 1.0 - np.log(2), 5.0], [np.log(3), -2.0 + np.log(0.75), 6.0]]
    np.testing.assert_allclose(network.chained(asked)[0], whole, rtol=1e-6)
    network.chain.assign([0.5])
    half = [[0.0, 1.0 - np.log(2) / 2, 5.0], [np.log(3), -2.0 + np.log(0.75) / 2, 6.0]]
    np.testing.assert_allclose(network.chained(asked)[0], half, rtol=1e-6)


def test_copy_weights_of_drawn_items_are_those_of_all_their_events() -> None:
    """Item 5 has the weights 1 and 4, item 7 has 2, item 9 none; 5 is drawn twice."""
    items, weights = (
        tf.constant([[5, 7, 5, 8], [7, 7, 0, 0]]),
        tf.constant([[1.0, 2.0, 4.0, 8.0], [1.0, 2.0, 0.0, 0.0]]),
    )
    found = copies_of(items, weights, tf.constant([9, 5, 7, 5]), 10)
    np.testing.assert_array_equal(found, [[0, 5, 2, 5], [0, 0, 3, 0]])


def test_ages_fall_into_a_bucket_for_each_doubling() -> None:
    hours = tf.constant([[0.0, 0.9 / 3600, 1.0 / 3600, 1.0, 24.0, 1e9]])
    # 1 + seconds is 1, 1.9, 2, 3601 (2**11 = 2048), 86401 (2**16 = 65536), and more than there are buckets
    assert age_bucket(hours).numpy().tolist() == [[0, 0, 1, 11, 16, GAP_BUCKETS - 1]]
