"""Next item: the leave-one-out protocol of sequential recommendation, on any file of sequences.

A line is ``user item item ...`` in time order. A user's last item is the test, the one before the validation; every
item is ranked for it but those already in the history (Kang & McAuley 2018; full ranking, Krichene & Rendle 2020).
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import keras
import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

from models.accelerate import Accelerator
from models.contract import FIRST, PAD, Behaviour, Contract
from models.decisions import event_decisions
from models.encode import POPULARITY_SCALE
from models.exposures import Exposed
from models.fit import Fit, Report, ahead
from models.log import Log
from models.metrics import ndcg_and_hit_rate
from models.network import Network
from models.past import Catalogue, Events, Past
from models.run import TrainConfig, build_network, build_variables, schedule_of
from models.samples import Windows, bucket_of
from models.vocabulary import Vocabulary

#: Defaults for every file; a size preset or a TOML file may override them.
DEFAULTS = TrainConfig(
    size="small",
    epochs=200,
    patience=8,
    minutes=60.0,
    batch=32,
    learning_rate=1e-3,
    history_length=200,
)
#: Settings that do nothing here, where nothing but the next item is learned.
IDLE = frozenset(
    (
        "pretrain_epochs",
        "per_window",
        "augment",
        "input_dropout",
        "negatives",
        "hard_negatives",
        "horizon_days",
        "stack",
    )
)
#: Dropout where the settings name none, see :func:`dropout_of`.
SPARSE, DENSE, COMMON = 0.5, 0.3, 50
#: The shortest sequence that leaves something to learn from beside validation and test.
SHORTEST = 3
#: Users that are ranked at once.
CHUNK = 256


@dataclass(frozen=True, slots=True)
class Sequences:
    """Item names by user, in time order; ``left_out`` users had fewer than SHORTEST items."""

    names: list[str]
    items: list[NDArray[np.int32]]  # ids of a vocabulary that begins at FIRST
    left_out: int = 0

    @classmethod
    def read(cls, path: Path) -> Sequences:
        """Raises ValueError, in one sentence, for a file that cannot be read, or that has nothing to learn from."""
        try:
            lines = path.read_text(encoding="utf-8").split("\n")
        except (OSError, UnicodeDecodeError) as error:
            raise ValueError(f"{path} cannot be read ({error}).") from error
        rows = [words for line in lines if (words := line.split())]
        if not rows:
            raise ValueError(f"{path} holds no sequence; each line has to be a user followed by items in time order.")
        long = [row for row in rows if len(row) > SHORTEST]
        if max((len(row) for row in long), default=0) <= SHORTEST + 1:
            raise ValueError(f"{path}: nobody has more than {SHORTEST} items, so that nothing follows in training.")
        names = sorted({item for row in long for item in row[1:]})
        place = {name: FIRST + i for i, name in enumerate(names)}
        items = [np.array([place[item] for item in row[1:]], np.int32) for row in long]
        return cls(names, items, left_out=len(rows) - len(long))


def run_next_item(path: Path, config: TrainConfig, report: Report = lambda *_: None) -> dict[str, Any]:
    """Train on all but the last two items of each user, choose on the second last, report both.

    Returns ``valid``, ``test``, ``yardsticks``, ``train_seconds`` and ``parameters``, and how many users were
    ``left_out``, having too few items. Raises ValueError as
    :meth:`Sequences.read` does.
    """
    keras.utils.set_random_seed(config.seed)
    sequences = Sequences.read(path)
    log = sequence_log(sequences, config.history_length)
    if config.dropout < 0:
        config = replace(config, dropout=dropout_of(log))
    accelerator = Accelerator(xla=config.xla, devices=config.devices)
    with accelerator.scope():
        network = build_network(log.contract, log.content, config)
        if not network.retrieval_weight:
            raise ValueError(f"The model {config.model} does not learn which item comes next; take behaviour.")
        build_variables(network)
    ranker = Ranker(network, sequences)
    started = time.monotonic()
    history = _learn(network, log, ranker, config, accelerator, report)
    took = time.monotonic() - started
    return {
        "valid": figures(ranker.ranks(2)),
        "test": figures(ranker.ranks(1)),
        "yardsticks": yardsticks(sequences),
        "train_seconds": round(took, 1),
        "parameters": sum(int(np.prod(v.shape)) for v in network.trainable_variables),
        "dropout": config.dropout,
        "left_out": sequences.left_out,
        "learning": history,
    }


def dropout_of(log: Log) -> float:
    """SPARSE where items were met fewer than COMMON times on average, for such are learned by heart; else DENSE."""
    met = len(log.items) / (log.contract.items - FIRST)
    return SPARSE if met < COMMON else DENSE


def sequence_log(sequences: Sequences, longest: int) -> Log:
    """The training part of the sequences (all but each last two) as a log, one second between events."""
    parts = [items[:-2] for items in sequences.items]
    lengths = np.array([len(part) for part in parts])
    items = np.concatenate(parts)
    at = np.concatenate([np.arange(n, dtype=np.float64) for n in lengths])
    size = FIRST + len(sequences.names)
    counts = np.bincount(items, minlength=size)
    length = int(bucket_of(np.array([min(int(lengths.max()), longest)]), longest)[0])
    contract = Contract(
        behaviours=(Behaviour("interaction", target=True, weight=1.0),),
        fields=(),
        category_sizes=(),
        history_length=length,
        state_shape=(length, 0),
        state_dtype="float16",
        items=size,
        retrieval_size=min(200, len(sequences.names)),
        value_scales={},
        probability_of="sampled candidates",
        repeats=any(len(np.unique(part)) < len(part) for part in parts),
    )
    numbers = np.zeros((size, 3), np.float32)
    numbers[:, 2] = np.log1p(counts) / POPULARITY_SCALE
    return Log(
        contract=contract,
        vocabulary=Vocabulary(sequences.names, {}, []),
        users=[str(i) for i in range(len(parts))],
        offsets=np.append(0, np.cumsum(lengths)),
        items=items,
        types=np.full(len(items), FIRST, np.int32),
        at=at,
        values=np.full(len(items), np.nan, np.float32),
        gaps=np.zeros(len(items), np.int32),
        exposed=Exposed.nothing(len(items)),
        request=np.zeros((len(items), 0), np.int32),
        profiles=np.zeros((len(parts), 0), np.int32),
        content={"categories": np.zeros((size, 0), np.int32), "numbers": numbers},
    )


class Ranker:
    """Ranks the last but ``left - 1`` item of every user among all items the user has not had before."""

    def __init__(self, network: Network, sequences: Sequences) -> None:
        self.network, self.sequences = network, sequences
        self.scores = tf.function(self._scores, jit_compile=True)

    def _scores(self, items: Any) -> Any:
        network = self.network
        zeros, none = tf.zeros_like(items), tf.zeros(tf.shape(items))
        types = tf.where(items != PAD, FIRST, PAD)
        columns = {"items": items, "types": types, "gaps": zeros, "values": none, "ages": none}
        state = network.state_of(Events.of(columns))
        prefix = tf.fill([tf.shape(items)[0], 1], tf.shape(items)[1] - 1)
        table, numbers = network.catalogue_vectors(tf.range(network.contract.items))
        catalogue = Catalogue(table, network.categories, numbers)
        past = Past(state, items != PAD, prefix, tf.zeros(tf.shape(prefix)))
        return network.catalogue_scores(past, tf.zeros([tf.shape(items)[0], 0], tf.int32), catalogue)

    def ranks(self, left: int) -> NDArray[np.int64]:
        """1-based ranks [U] of each user's item number -``left`` given all before it; ties count against it."""
        length = self.network.contract.history_length
        items = self.sequences.items
        lengths = np.array([len(row) - left for row in items])
        sizes = bucket_of(np.minimum(lengths, length), length)
        ranks = np.zeros(len(items), np.int64)
        for size in np.unique(sizes):
            users = np.flatnonzero(sizes == size)
            for start in range(0, len(users), CHUNK):
                part = users[start : start + CHUNK]
                rows = np.zeros((CHUNK, size), np.int32)
                for row, user in enumerate(part):
                    past = items[user][:-left][-size:]
                    rows[row, size - len(past) :] = past
                scores = self.scores(tf.constant(rows)).numpy()[: len(part)]
                ranks[part] = rank_of_last(scores, [items[user] for user in part], left)
        return ranks


def rank_of_last(scores: NDArray[np.float32], items: list[NDArray[np.int32]], left: int) -> NDArray[np.int64]:
    """The 1-based rank [n] of item -``left`` by scores [n, V] among items that do not come before it.

    What is no number counts against it: a network that has diverged ranks everything last.
    """
    rows = np.arange(len(items))
    own = scores[rows, [row[-left] for row in items]]
    scores = scores.copy()
    scores[:, :FIRST] = -np.inf
    for row, sequence in enumerate(items):
        scores[row, sequence[:-left]] = -np.inf
    scores[rows, [row[-left] for row in items]] = -np.inf
    return np.asarray(1 + (~(scores < own[:, None])).sum(axis=1), np.int64)


def figures(ranks: NDArray[np.int64]) -> dict[str, float]:
    """HR and NDCG at 5 and 10."""
    found: dict[str, float] = {}
    for cutoff in (5, 10):
        ndcg, hit_rate = ndcg_and_hit_rate(ranks, cutoff)
        found |= {f"HR@{cutoff}": round(hit_rate, 5), f"NDCG@{cutoff}": round(ndcg, 5)}
    return found


def yardsticks(sequences: Sequences) -> dict[str, dict[str, dict[str, float]]]:
    """What needs no learning: the most popular items, and items that often follow the last one (first-order Markov)."""
    size = FIRST + len(sequences.names)
    popularity = np.bincount(np.concatenate([row[:-2] for row in sequences.items]), minlength=size).astype(np.float32)
    follows: dict[int, dict[int, int]] = {}
    for row in sequences.items:
        for before, after in zip(row[:-3].tolist(), row[1:-2].tolist(), strict=True):
            counts = follows.setdefault(before, {})
            counts[after] = counts.get(after, 0) + 1
    found: dict[str, dict[str, dict[str, float]]] = {"popularity": {}, "markov": {}}
    for part, left in (("valid", 2), ("test", 1)):
        popular, markov = [], []
        for row in sequences.items:
            popular.append(rank_of_last(popularity[None], [row], left)[0])
            scores = popularity / (popularity.sum() + 1)
            for item, count in follows.get(int(row[-left - 1]), {}).items():
                scores[item] += count
            markov.append(rank_of_last(scores[None], [row], left)[0])
        found["popularity"][part] = figures(np.array(popular))
        found["markov"][part] = figures(np.array(markov))
    return found


def _learn(
    network: Network, log: Log, ranker: Ranker, config: TrainConfig, accelerator: Accelerator, report: Report
) -> dict[str, list[float]]:
    rng = np.random.default_rng(config.seed)
    windows = Windows(log, None, event_decisions(log).take(np.flatnonzero(log.at > 0)))

    def check() -> dict[str, float]:
        found = figures(ranker.ranks(2))
        return {"val_loss": -found["NDCG@10"], **{f"val_{name}": value for name, value in found.items()}}

    def batches() -> Any:
        return ahead(windows.batches(config.batch, rng))

    fit = Fit(network, network.pretraining_losses, schedule_of(config), accelerator, "next item")
    return fit.run(batches, len(windows.plan(config.batch)), check, report)
