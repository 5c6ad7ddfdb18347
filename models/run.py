"""A run folder: everything that training leaves behind, and from which an artifact can be published again."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
import tensorflow as tf

from models.artifact import Artifact
from models.baselines import Logistic, LogisticConfig
from models.behaviour import SIZES, Behaviour
from models.contract import Contract
from models.encode import Arrays
from models.export import export
from models.network import Network
from models.vocabulary import Vocabulary

#: Kinds of networks that can be trained and served.
MODELS = ("behaviour", "logistic")


#: The least value of the training settings that may be less than 1.
LEAST = {"minutes": 0.01, "learning_rate": 1e-9, "seed": 0}


class RunError(Exception):
    """A run folder that is missing or incomplete. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class TrainConfig:
    """How to train.

    Attributes:
        model: ``behaviour`` or ``logistic``.
        size: of the behaviour model: a key of behaviour.SIZES.
        epochs, patience: at most so many passes; stop after ``patience`` without a better validation loss.
        minutes: stop learning after this time.
        batch: windows in a step; ``per_window`` decisions are drawn from each.
        history_length: events a state looks back on; even.
        negatives: random items for each event where the data has no exposures.
        seed: of every random choice.
    """

    model: str = "behaviour"
    size: str = "tiny"
    epochs: int = 30
    patience: int = 3
    minutes: float = 7.0
    batch: int = 64
    per_window: int = 96
    learning_rate: float = 2e-3
    history_length: int = 50
    negatives: int = 4
    seed: int = 1


def read_config(path: Path | None, overrides: Mapping[str, Any]) -> TrainConfig:
    """Training settings: the defaults, then a TOML file, then ``overrides``.

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
        too_small = isinstance(value, (int, float)) and value < LEAST.get(name, 1)
        if not isinstance(value, kinds) or too_small or value == "":
            raise ValueError(f"The training setting {name} cannot be {value!r}.")
    config = TrainConfig(**given)
    if config.model not in MODELS or config.size not in SIZES:
        raise ValueError(
            f"There is no model {config.model!r} of size {config.size!r}: "
            f"choose {' or '.join(MODELS)}, size {' or '.join(SIZES)}."
        )
    if config.history_length % 2:
        raise ValueError("The training setting history_length must be even: windows overlap by half of it.")
    return config


def build_network(contract: Contract, content: Arrays, config: TrainConfig) -> Network:
    """An untrained network of the configured kind."""
    if config.model == "logistic":
        return Logistic(contract, content, LogisticConfig())
    return Behaviour(contract, content, SIZES[config.size])


def save_run(
    run: Path,
    network: Network,
    contract: Contract,
    vocabulary: Vocabulary,
    content: Arrays,
    config: TrainConfig,
    golden: Sequence[Mapping[str, Any]],
    metrics: Mapping[str, Any],
    facts: Mapping[str, Any],
) -> None:
    """Write the folder that :func:`publish_run` reads."""
    run.mkdir(parents=True, exist_ok=True)
    np.savez(run / "weights.npz", *network.get_weights())
    np.savez(run / "content.npz", categories=content["categories"], numbers=content["numbers"])
    vocabulary.save(run / "vocabulary.json")
    parts = {"contract": contract.to_json(), "config": asdict(config), "golden": {"examples": list(golden)}}
    for name, data in {**parts, "metrics": metrics, "facts": facts}.items():
        (run / f"{name}.json").write_text(json.dumps(data, indent=1) + "\n", encoding="utf-8")


def publish_run(run: Path, root: Path, name: str) -> Artifact:
    """Rebuild the trained network and publish it as the next version of ``name``.

    Raises:
        RunError: the folder is no complete run.
    """
    try:
        contract = Contract.from_json(_load(run / "contract.json"))
        config = TrainConfig(**_load(run / "config.json"))
        network = build_network(contract, dict(np.load(run / "content.npz")), config)
        build_variables(network)
        with np.load(run / "weights.npz") as weights:
            network.set_weights([weights[key] for key in weights.files])
        vocabulary = Vocabulary.load(run / "vocabulary.json")
        golden, metrics, facts = (_load(run / f"{part}.json") for part in ("golden", "metrics", "facts"))
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(f"{run} is no complete training run ({error}); train again with `foretell train`.") from error
    return export(
        network,
        root,
        name,
        kind=config.model,
        vocabulary=vocabulary,
        golden=golden["examples"],
        metrics=metrics,
        facts=facts,
    )


def build_variables(network: Network) -> None:
    """Create the variables of an untrained network by one call on an empty window."""
    contract = network.contract
    length, width = contract.history_length, len(contract.fields)
    histories = {key: tf.zeros([1, length], tf.int32) for key in ("items", "types", "gaps")}
    rows = {key: tf.zeros([1, 1], tf.int32) for key in ("prefix", "candidates", "shown", "moves", "move_prefix")}
    contexts = {key: tf.zeros([1, 1, width], tf.int32) for key in ("context", "move_context")}
    network.losses_of(
        {
            **histories,
            **rows,
            **contexts,
            "values": tf.zeros([1, length]),
            "popularity": tf.zeros([1, 1]),
            "labels": tf.zeros([1, 1, len(contract.targets)]),
            "weights": tf.zeros([1, 1, len(contract.targets)]),
            "amounts": tf.zeros([1, 1, len(contract.values)]),
        },
        training=False,
    )


def _load(path: Path) -> dict[str, Any]:
    data: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return data
