"""Explanations: Shapley values by hand, what leaving something out means, and that they add up for every network."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import tensorflow as tf

from models.artifact import Artifact
from models.attribution import Attribution, Question, coalitions, instead, regap
from models.baselines import GAIN, Logistic, Popularity
from models.calibration import Calibration, Line
from models.contract import Contract, Field
from models.datasets.dataset import Dataset
from models.encode import Event, encode_history
from models.explain import Unexplained, explain, faithfulness
from models.explanation import read_explanations
from models.export import Served, export
from models.features import feature_names
from models.golden import Functions
from models.log import Log, split_by_time
from models.network import Network
from models.past import Catalogue, Events
from models.protocols.behaviours import explained
from models.run import NETWORKS, TrainConfig, build_network, build_variables
from models.scoring import Scorer, load_functions
from models.vocabulary import Vocabulary


class Game(Attribution):
    """Three players: 1 for the first, 2 for the second, 4 more for first and third together, and 6 for all three."""

    def __init__(self, triple: float) -> None:
        self.fields, self.attributes, self.orders, self.triple = 0, 0, 1, triple

    def worth(self, question: Question, known: Any, scene: Any) -> Any:
        a, b, c = tf.unstack(tf.cast(known, tf.float32), axis=1)
        return (10.0 + a + 2 * b + 4 * a * c + self.triple * a * b * c)[:, None, None]


def question(players: int) -> Question:
    history = Events(*(tf.zeros([players], tf.int32) for _ in Events._fields))
    return Question(history, tf.constant(players), tf.zeros([0], tf.int32), tf.zeros([]), tf.zeros([1], tf.int32))


def test_players_who_interact_in_pairs_get_their_exact_shapley_values() -> None:
    """Each of a pair gets half of what they are worth together: 1 + 4 / 2, 2 and 4 / 2."""
    gains, base = Game(triple=0.0)(question(3))
    np.testing.assert_allclose(gains[:, 0, 0], [3.0, 2.0, 2.0])
    assert base[0, 0] == 10.0


def test_contributions_add_up_whatever_the_interactions() -> None:
    gains, base = Game(triple=6.0)(question(3))
    assert base[0, 0] + tf.reduce_sum(gains) == 10 + 1 + 2 + 4 + 6


def test_every_walk_goes_from_nobody_in_its_scene_to_everybody() -> None:
    """Two orders of two players and their reverses; coalitions: both, nobody twice, then who came first."""
    known, scene, which = coalitions(tf.constant([[0, 1], [1, 0], [1, 0], [0, 1]]), 2)
    assert known.numpy().tolist() == [[1, 1], [0, 0], [0, 0], [1, 0], [0, 1], [0, 1], [1, 0]]
    assert scene.numpy().tolist() == [0, 0, 1, 0, 1, 0, 1]
    assert which.numpy().tolist() == [[1, 3, 0], [2, 4, 0], [1, 5, 0], [2, 6, 0]]


def test_unknown_moments_are_at_the_quartiles_and_unknown_pasts_unknown() -> None:
    """Of 24 hours (ids 2 to 25) 06:00 and 18:00; of two devices one each."""
    assert [instead(Field("hour", "clock", 26), share) for share in (0.25, 0.75)] == [8, 20]
    assert [instead(Field("device", "request", 4), share) for share in (0.25, 0.75)] == [2, 3]
    assert instead(Field("since_last", "clock", 32), 0.25) == 0
    assert instead(Field("empty", "request", 2), 0.25) == 0


def test_context_moves_as_far_as_it_differs_from_the_average_moment(log: Log) -> None:
    """The only weights are on the hour, 0.01 an hour: 06:00 and 18:00 stand for unknown, so 15:00 is worth 3 hours."""
    network = build_network(log.contract, log.content, TrainConfig(model="logistic"))
    assert isinstance(network, Logistic)
    build_variables(network)
    network.set_weights([np.zeros_like(w) for w in network.get_weights()])
    place = [field.name for field in log.contract.fields].index("hour")
    table = network.context_tables[place]
    table.assign(tf.repeat(0.01 * (tf.range(26.0) - 2)[:, None], table.shape[1], axis=1))
    inputs = scenes(log, (3,))
    inputs["context"][0, place] = 2 + 15
    parts = Served(network).explain(**inputs)
    np.testing.assert_allclose(parts["base"], GAIN * 0.12, atol=1e-5)
    np.testing.assert_allclose(parts["context"][..., place], GAIN * 0.03, atol=1e-5)
    inputs["context"][0, place] = 0
    assert not np.any(Served(network).explain(**inputs)["context"])


def test_gaps_between_neighbours_stay_and_others_add_up() -> None:
    """Gaps of 2 (about 2 s), 9 (about 383 s) and 5 (about 23 s): between second and fourth event lie 406 s (9)."""
    gaps = tf.constant([0, 2, 9, 5])
    order = tf.constant([[0, 1, 2, 3], [1, 0, 2, 3], [2, 0, 1, 3], [0, 1, 2, 3]])
    present = tf.constant([[True] * 4, [False, True, True, True], [False, True, True, True], [False] * 4])
    np.testing.assert_array_equal(regap(gaps, order, present), [[0, 2, 9, 5], [0, 0, 9, 5], [0, 0, 2, 9], [0, 0, 0, 0]])


@pytest.fixture(params=NETWORKS)
def network(request: pytest.FixtureRequest, log: Log) -> Network:
    """A network of each kind, all of whose weights count."""
    return shaken(request.param, log)


def shaken(kind: str, log: Log) -> Network:
    tf.random.set_seed(0)
    network = build_network(log.contract, log.content, TrainConfig(model=kind))
    build_variables(network)
    rng = np.random.default_rng(0)
    network.set_weights([w + rng.normal(0, 0.03, w.shape) for w in network.get_weights()])
    return network


def scenes(log: Log, lengths: tuple[int, ...]) -> dict[str, np.ndarray]:
    """Inputs of ``explain`` for some users with so many events, each with the item of their newest event as one of two
    candidates."""
    scorer = Scorer(log, {})
    histories = [scorer.history(user, length) for user, length in enumerate(lengths)]
    rows = [encode_history(history, log.contract) for history in histories]
    inputs = {name: np.stack([row[name] for row in rows]) for name in rows[0]}
    inputs["lengths"] = np.minimum(lengths, log.contract.history_length).astype(np.int32)
    inputs["context"] = np.full((len(lengths), len(log.contract.fields)), 2, np.int32)
    inputs["since"] = np.arange(len(lengths), dtype=np.float32)
    newest = np.maximum(inputs["items"][:, -1], 2)
    inputs["candidates"] = np.stack([newest, np.full(len(lengths), 9)], axis=1).astype(np.int32)
    return inputs


def log_odds(served: Served, inputs: dict[str, np.ndarray]) -> np.ndarray:
    """What is served, as log-odds [B, C, T]."""
    history = {name: inputs[name] for name in Events._fields}
    rest = {name: inputs[name] for name in ("lengths", "context", "since", "candidates")}
    scored = served.score(**served.encode(**history), **rest)
    chance = np.stack([scored[name] for name in served.contract.targets], axis=-1).astype(np.float64)
    return np.asarray(np.log(chance / (1 - chance)))


def test_contributions_of_every_network_add_up_to_the_calibrated_log_odds(network: Network, log: Log) -> None:
    """Also without any event, and where the state holds fewer events than there are."""
    bent = (Line((-1.0, 0.0, 1.0), (-3.0, -0.5, 0.2)),) * 4
    served = Served(network, Calibration(dict.fromkeys(log.contract.targets, bent)))
    inputs = scenes(log, (30, 3, 0))
    parts = {name: part.numpy() for name, part in served.explain(**inputs).items()}
    assert {name: part.shape for name, part in parts.items()} == {
        name: tuple(size or real for size, real in zip(spec.shape, (3, 2), strict=False)) + spec.shape[2:]
        for name, spec in served.contract.signatures()["explain"].outputs.items()
    }
    total = parts["base"] + sum(parts[name].sum(axis=-1) for name in ("events", "context", "attributes"))
    np.testing.assert_allclose(total, log_odds(served, inputs), atol=2e-4)
    assert not parts["events"][1, ..., :-3].any()
    assert not parts["events"][2].any()
    if not isinstance(network, Popularity):  # which sees no history
        assert np.abs(parts["events"][0]).min() > 0


def test_leaving_out_an_event_is_encoding_the_history_without_it(log: Log) -> None:
    served = Served(shaken("behaviour", log))
    history = Scorer(log, {}).history(0, 6)
    exposed = np.where(np.arange(20) < 3 * np.arange(6)[:, None], 0, 2 + np.arange(120).reshape(6, 20) % 100)
    history = replace(history, exposed=exposed, exposures=np.arange(60, 0, -10, dtype=np.int32))
    history = replace(history, at=np.array([0.0, 1e5, 1e5 + 9, 1e5 + 700, 3e5, 3e5 + 40]))
    whole, less = ({**scenes(log, (length,)), **one(h, log)} for length, h in ((6, history), (5, without(history, 2))))
    less["candidates"] = whole["candidates"]
    attribution = Attribution(
        served.network,
        served.contract,
        Catalogue(served.vectors, served.categories, served.numbers),
        served.calibration,
    )
    columns = Events(*(tf.constant(whole[name][0, -6:]) for name in Events._fields))
    rest = (tf.constant(whole[name][0]) for name in ("context", "since", "candidates"))
    asked = Question(columns, tf.constant(6), *rest)
    known = np.ones((1, 6 + attribution.fields + attribution.attributes), bool)
    known[0, 2] = False
    np.testing.assert_allclose(
        attribution.worth(asked, tf.constant(known), tf.constant([0])), log_odds(served, less), atol=2e-3
    )


def one(history: Any, log: Log) -> dict[str, np.ndarray]:
    return {name: array[None] for name, array in encode_history(history, log.contract).items()}


def without(history: Any, place: int) -> Any:
    return history.take(np.delete(np.arange(len(history)), place))


def test_event_and_item_share_what_having_bought_this_very_item_says(log: Log) -> None:
    """The only weight, 1, is on purchases of the same item: one is worth GAIN * log 2, of which each has half."""
    network = build_network(log.contract, log.content, TrainConfig(model="logistic"))
    assert isinstance(network, Logistic)
    build_variables(network)
    kernel = np.zeros(network.kernel.shape, np.float32)
    kernel[feature_names(log.contract).index("purchase on the same item")] = 1.0
    network.set_weights([kernel if w.shape == kernel.shape else np.zeros_like(w) for w in network.get_weights()])
    served, inputs = Served(network), scenes(log, (1,))
    inputs["items"][0, -1], inputs["types"][0, -1] = 5, log.contract.type_id("purchase")
    inputs["candidates"] = np.array([[5, 6]], np.int32)
    parts = {name: part.numpy() for name, part in served.explain(**inputs).items()}
    half = GAIN * np.log(2.0) / 2
    np.testing.assert_allclose(parts["events"][0, :, 0, -1], [half, 0.0], atol=1e-4)
    np.testing.assert_allclose(
        parts["attributes"][0, 0, 0], [half, 0, 0, 0, 0, 0][: len(log.contract.attributes)], atol=1e-4
    )
    assert not parts["context"].any()


def test_popularity_counts_as_far_as_it_is_unusual(log: Log) -> None:
    network = build_network(log.contract, log.content, TrainConfig(model="popularity"))
    build_variables(network)
    network.kernel.assign(tf.ones_like(network.kernel))
    inputs = scenes(log, (3,))
    parts = Served(network).explain(**inputs)
    popularity = log.content["numbers"][:, 2]
    expected = GAIN * (popularity[inputs["candidates"][0]] - popularity[2:].mean())
    np.testing.assert_allclose(parts["attributes"][0, :, 0, -1], expected, atol=1e-4)


def test_an_explanation_is_told_in_names_and_begins_with_what_moved_most(
    contract: Contract, vocabulary: Vocabulary
) -> None:
    """Of five events the newest four were explained; hour 14 is 12 o'clock, weekday 7 Saturday, 256 s to 511 s ago."""
    events = [Event("a", "click", 0.0), *(Event(name, "cart", 60.0 * i) for i, name in enumerate("abcb"))]
    parts = {
        "events": np.array([[[0.1, -2.0, 0.5, 0.2], [0.0] * 4]]),
        "context": np.array([[[0.1, 0.2, 0.3, -0.4, 0.0], [0.0] * 5]]),
        "attributes": np.array([[[0.0, 1.0, -3.0, 0.0, 0.5], [0.0] * 5]]),
        "base": np.array([[-4.0, 1.0]]),
    }
    context = np.array([14, 7, 9, 1, 0], np.int32)
    titles = {"b": "Bun"}.get
    [told] = read_explanations(parts, events, context, contract, vocabulary, titles=titles, most_events=2)
    click = told["click"]
    assert [(e.item_id, e.title, e.at.minute, e.contribution) for e in click.events] == [
        ("b", "Bun", 1, -2.0),
        ("c", None, 2, 0.5),
    ]
    assert click.other_events == 0.3
    assert [(c.field, c.value, c.contribution) for c in click.context] == [
        ("device", None, -0.4),
        ("since_last", "4 min to 9 min", 0.3),
        ("weekday", "Saturday", 0.2),
        ("hour", "12:00", 0.1),
    ]
    assert [a.attribute for a in click.attributes[:3]] == ["category 2", "category 1", "popularity"]
    assert click.log_odds == pytest.approx(-4 + (0.1 - 2 + 0.5 + 0.2) + 0.2 - 1.5)
    assert told["purchase"].log_odds == 1.0


@pytest.fixture(scope="module")
def published(log: Log, shop: Dataset, tmp_path_factory: pytest.TempPathFactory) -> tuple[Artifact, Functions]:
    """A published network, and its functions."""
    split = split_by_time(shop)
    facts = {"split": {"validation": split.validation, "test": split.test}}
    root = tmp_path_factory.mktemp("explained")
    network = shaken("logistic", log)
    artifact = export(
        network, root, "shop", kind="logistic", vocabulary=log.vocabulary, golden=[], metrics={}, facts=facts
    )
    return artifact, load_functions(artifact)


def test_the_library_explains_items_for_a_history(published: tuple[Artifact, Functions]) -> None:
    artifact, functions = published
    first, second, *_ = artifact.vocabulary.items
    history = [Event(first, "click", 1e9), Event(second, "purchase", 1e9 + 60, 5.0)]
    same, other = explain(
        artifact, history, [second, "no such item"], {"device": "mobile"}, at=1e9 + 120, functions=functions
    )
    assert list(same) == list(artifact.contract.targets)
    assert {event.item_id for event in same["click"].events} == {first, second}
    assert {"hour", "weekday", "since_last", "device"} <= {part.field for part in same["click"].context}
    lists = (same["click"].events, same["click"].context, same["click"].attributes)
    total = same["click"].base + sum(part.contribution for parts in lists for part in parts)
    assert total == pytest.approx(same["click"].log_odds, abs=1e-3)
    assert other["click"].log_odds != same["click"].log_odds


def test_where_nobody_has_a_history_a_benchmark_says_so_and_goes_on(
    published: tuple[Artifact, Functions], shop: Dataset
) -> None:
    once = replace(shop, exposures=None, events=shop.events.unique("user_id", keep="last", maintain_order=True))
    found = explained(published[0], once)
    assert found["predictions"] == 0
    assert "history of two events" in found["missing"]


def test_a_model_exported_before_explanations_says_what_to_do(published: tuple[Artifact, Functions]) -> None:
    artifact, functions = published
    assert set(artifact.contract.signatures()) - set(functions) == {"query"}  # what an artifact lacks is not promised
    older = {name: function for name, function in functions.items() if name != "explain"}
    with pytest.raises(Unexplained, match="export the model again"):
        explain(artifact, [], ["a"], functions=older)


def test_faithfulness_compares_the_top_event_with_a_random_one(
    published: tuple[Artifact, Functions], shop: Dataset
) -> None:
    artifact, functions = published
    found = faithfulness(artifact, shop, 40, functions=functions)
    assert found["predictions"] == 40
    assert found["additivity"] < 1e-3
    assert found["top"]["value"] > found["random"]["value"] > 0
    assert found["ratio"]["value"] == pytest.approx(found["top"]["value"] / found["random"]["value"])
    low, high = found["ratio"]["interval"]
    assert 1 < low < found["ratio"]["value"] < high
    assert set(found["targets"]) == set(artifact.contract.targets)
    assert faithfulness(artifact, shop, 40, functions=functions) == found
