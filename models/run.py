"""A run folder: everything that training leaves behind, and from which an artifact can be published again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.artifact import Artifact
from models.baselines import DNN, SVM, Logistic, Popularity
from models.behaviour import SIZES, Behaviour, BehaviourConfig
from models.calibration import Calibration
from models.contract import Contract
from models.encode import Arrays
from models.export import export
from models.network import Network
from models.stack import Stack
from models.steps import Schedule
from models.vocabulary import Vocabulary

PRECISIONS = ("float32", "mixed_bfloat16", "mixed_float16")

#: Catalogues up to this size are compared with whole in the retrieval loss; larger ones by drawn items.
WHOLE_CATALOGUE = 25_000
DRAWN = 2048

#: The least value of the training settings that may be less than 1.
LEAST: dict[str, float] = {"minutes": 0.01, "cool": 0, "learning_rate": 1e-9}
LEAST |= dict.fromkeys(("dropout", "table_l2", "weight_decay"), -1)
LEAST |= dict.fromkeys(("seed", "pretrain_epochs", "l1", "l2", "input_dropout", "augment"), 0)
LEAST |= dict.fromkeys(("hard_negatives", "catalogue_negatives", "horizon_days", "stack", "xla", "devices"), 0)


#: The model that has a say beside the behaviour model where that helps, see models/stack.py.
SECOND = "logistic"
#: Folders, in that of a stack, of the runs that it is made of.
PARTS = ("first", "second")


class RunError(Exception):
    """A run folder that is missing or incomplete. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train.

    Attributes:
        model: a key of :data:`NETWORKS`; ``size`` of the behaviour model: a key of behaviour.SIZES.
        epochs, patience, cool: at most so many passes; after ``patience`` without a better validation loss cool down
            for ``cool`` times the passes so far.
        minutes: stop learning after this time, pretraining included; a refit takes as many passes as were best.
        pretrain_epochs: passes that only learn which item comes next, before all heads learn together; 0 for none.
        batch: full windows in a step; ``per_window`` decisions are drawn from each.
        learning_rate, l1, l2: see steps.Schedule. ``weight_decay`` as well; -1 for that of the network.
        table_l2: of the embedding tables while all heads learn; -1 for behaviour.prior_l2 of the training decisions.
        dropout: of the encoder, where not that of the size (-1); ``input_dropout`` of what a decision is judged by.
        augment: the share of past events that a step hides at random.
        history_length: events a state looks back on; even.
        negatives: random items for each event where the data has no exposures; ``hard_negatives`` is the share of them
            that is hard to tell from real ones (negatives.Noise), in networks that take such.
        catalogue_negatives: items drawn for the retrieval loss; 0 takes the whole catalogue where it is small enough.
        horizon_days: 0 predicts the next event; above, what happens within so many days (decisions.period_decisions).
        stack: set a logistic regression beside the behaviour model where that helps; of a run: whether it did.
        xla, precision, devices: how steps run, see accelerate.Accelerator and behaviour.BehaviourConfig.
        seed: of every random choice.
    """

    model: str = "behaviour"
    size: str = "tiny"
    epochs: int = 30
    patience: int = 3
    cool: float = 0.25
    minutes: float = 7.0
    pretrain_epochs: int = 10
    batch: int = 64
    per_window: int = 96
    learning_rate: float = 3e-3
    weight_decay: float = -1.0
    l1: float = 0.0
    l2: float = 0.0
    table_l2: float = -1.0
    dropout: float = -1.0
    input_dropout: float = 0.0
    augment: float = 0.0
    history_length: int = 50
    negatives: int = 4
    hard_negatives: float = 0.5
    catalogue_negatives: int = 0
    horizon_days: float = 0.0
    stack: bool = False
    xla: bool = True
    precision: str = "float32"
    devices: int = 0
    seed: int = 1


def read_config(path: Path | None, overrides: Mapping[str, Any], defaults: TrainConfig | None = None) -> TrainConfig:
    """Training settings: the defaults (TrainConfig's own, if none are given), then a TOML file, then ``overrides``.

    Raises:
        ValueError: one sentence: a file that cannot be read, a name or a value that makes no sense.
    """
    given: dict[str, Any] = {}
    if path is not None:
        try:
            given = tomllib.loads(path.read_text(encoding="utf-8"))
        except (OSError, tomllib.TOMLDecodeError) as error:
            raise ValueError(f"{path} cannot be read as TOML ({error}).") from error
    given |= overrides
    known: dict[str, type] = {field.name: type(field.default) for field in fields(TrainConfig)}
    for name, value in given.items():
        if name not in known:
            raise ValueError(f"There is no training setting {name!r}; choose among {', '.join(known)}.")
        kinds = (int, float) if known[name] is float else known[name]
        too_small = isinstance(value, (int, float)) and not value >= LEAST.get(name, 1)  # NaN is none either
        if not isinstance(value, kinds) or too_small or value == "":
            raise ValueError(f"The training setting {name} cannot be {value!r}.")
    config = replace(defaults or TrainConfig(), **given)
    if config.model not in NETWORKS or config.size not in SIZES:
        raise ValueError(
            f"There is no model {config.model!r} of size {config.size!r}: "
            f"choose {' or '.join(NETWORKS)}, size {' or '.join(SIZES)}."
        )
    if config.stack and config.model != "behaviour":
        raise ValueError(f"Only the behaviour model is stacked, not {config.model}; leave out the setting stack.")
    if config.precision not in PRECISIONS:
        raise ValueError(f"There is no precision {config.precision!r}; choose {', '.join(PRECISIONS)}.")
    if max(config.dropout, config.input_dropout, config.augment, config.hard_negatives) >= 1:
        raise ValueError(
            "The training settings dropout, input_dropout, augment and hard_negatives are shares, below 1."
        )
    if config.history_length % 2:
        raise ValueError("The training setting history_length must be even: windows overlap by half of it.")
    return config


def build_network(contract: Contract, content: Arrays, config: TrainConfig) -> Network:
    """An untrained network of the configured kind."""
    return NETWORKS[config.model](contract, content, config)


def behaviour_config(contract: Contract, config: TrainConfig) -> BehaviourConfig:
    """The preset of a size with what the training settings override."""
    preset = SIZES[config.size]
    encoder = preset.encoder if config.dropout < 0 else replace(preset.encoder, dropout=config.dropout)
    drawn = config.catalogue_negatives or (DRAWN if contract.items > WHOLE_CATALOGUE else 0)
    return replace(
        preset, encoder=encoder, negatives=drawn, precision=config.precision, input_dropout=config.input_dropout
    )


def _behaviour(contract: Contract, content: Arrays, config: TrainConfig) -> Network:
    return Behaviour(contract, content, behaviour_config(contract, config))


def _dnn(contract: Contract, content: Arrays, config: TrainConfig) -> Network:
    return DNN(contract, content, dropout=0.2 if config.dropout < 0 else config.dropout)


#: How an untrained network of each kind is built; whatever is here can be trained, published and served.
NETWORKS: dict[str, Callable[[Contract, Arrays, TrainConfig], Network]] = {
    "behaviour": _behaviour,
    "logistic": lambda contract, content, _: Logistic(contract, content),
    "svm": lambda contract, content, _: SVM(contract, content),
    "dnn": _dnn,
    "popularity": lambda contract, content, _: Popularity(contract, content),
}


def schedule_of(config: TrainConfig) -> Schedule:
    """How long and how fast to train, by the training settings; what depends on network or data (-1) is left out."""
    given = {f.name: getattr(config, f.name) for f in fields(Schedule) if hasattr(config, f.name)}
    return Schedule(**given | {name: max(given[name], 0.0) for name in ("table_l2", "weight_decay")})


@dataclass(frozen=True, slots=True)
class Run:
    """What a training leaves behind: ``network`` with its trained weights, and all that is published with it."""

    network: Network
    calibration: Calibration
    contract: Contract
    vocabulary: Vocabulary
    content: Arrays
    config: TrainConfig
    golden: list[dict[str, Any]]
    metrics: Mapping[str, Any]
    facts: Mapping[str, Any]


def save_run(folder: Path, run: Run) -> None:
    """Write the folder that :func:`read_run` reads."""
    folder.mkdir(parents=True, exist_ok=True)
    np.savez(folder / "weights.npz", *run.network.get_weights())
    np.savez(folder / "content.npz", categories=run.content["categories"], numbers=run.content["numbers"])
    run.vocabulary.save(folder / "vocabulary.json")
    parts = {
        "contract": run.contract.to_json(),
        "config": asdict(run.config),
        "golden": {"examples": run.golden},
        "calibration": run.calibration.to_json(),
        "metrics": run.metrics,
        "facts": run.facts,
    }
    for name, data in parts.items():
        (folder / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def read_run(folder: Path) -> Run:
    """The run in a folder.

    Raises:
        RunError: the folder is no complete run.
    """
    try:
        contract = Contract.from_json(_load(folder / "contract.json"))
        config = TrainConfig(**_load(folder / "config.json"))
        content = dict(np.load(folder / "content.npz"))
        if config.stack:
            network: Network = stacked(contract, content, *(read_run(folder / part) for part in PARTS))
        else:
            network = build_network(contract, content, config)
            build_variables(network)
        with np.load(folder / "weights.npz") as weights:
            network.set_weights([weights[key] for key in weights.files])
        vocabulary = Vocabulary.load(folder / "vocabulary.json")
        calibration = Calibration.from_json(_load(folder / "calibration.json"))
        golden, metrics, facts = (_load(folder / f"{part}.json") for part in ("golden", "metrics", "facts"))
        examples = list(golden["examples"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{folder} is no complete training run ({error}); train again with `foretell train`.") from error
    return Run(network, calibration, contract, vocabulary, content, config, examples, metrics, facts)


def stacked(contract: Contract, content: Arrays, first: Run, second: Run) -> Stack:
    """The network of one run with that of another beside it."""
    return Stack(contract, content, first.network, second.network, (first.calibration, second.calibration))


def publish_run(folder: Path, root: Path, name: str) -> Artifact:
    """Publish what a run trained as the next version of ``name``. Raises RunError as :func:`read_run` does."""
    run = read_run(folder)
    return export(
        run.network,
        root,
        name,
        kind=run.config.model,
        vocabulary=run.vocabulary,
        golden=run.golden,
        metrics=run.metrics,
        facts=run.facts,
        calibration=run.calibration,
    )


def build_variables(network: Network) -> None:
    """Create the variables of an untrained network by one call on an empty window."""
    contract = network.contract
    length, width = contract.history_length, len(contract.fields)
    histories = {key: tf.zeros([1, length], tf.int32) for key in ("items", "types", "gaps", "exposures")}
    rows = {key: tf.zeros([1, 1], tf.int32) for key in ("prefix", "candidates", "shown", "moves", "move_prefix")}
    rows |= {key: tf.zeros([1, 1]) for key in ("since", "move_since", "popularity", "drawn")}
    rows |= {key: tf.zeros([1, length]) for key in ("values", "ages")}
    rows["exposed"] = tf.zeros([1, length, contract.exposed], tf.int32)
    rows["picked"] = tf.zeros([1], tf.int32)
    contexts = {key: tf.zeros([1, 1, width], tf.int32) for key in ("context", "move_context")}
    network.losses_of(
        {
            **histories,
            **rows,
            **contexts,
            "labels": tf.zeros([1, 1, len(contract.targets)]),
            "weights": tf.zeros([1, 1, len(contract.targets)]),
            "amounts": tf.zeros([1, 1, len(contract.values)]),
        },
        training=False,
    )


def _load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
