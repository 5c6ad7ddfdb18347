"""What is searched: vectors of a catalogue and queries of users, float32 [V, width] and [Q, width]."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float32]

ROOT = Path(__file__).parents[2] / ".foretell" / "bench" / "models"
QUERIES = 256
CLUSTERS = 1_000


class Data(NamedTuple):
    """Vectors, queries and where they come from."""

    name: str
    vectors: Floats
    queries: Floats


def untrained(items: int) -> Data:
    """The item vectors of a model as it is before training, and the queries of random histories."""
    from benchmarks.serving.shop import Shop, publish_model
    from models.scoring import load_functions

    shop = Shop(items=items, users=200, described=False)
    artifact = publish_model(shop, ROOT)
    contract, rng = artifact.contract, np.random.default_rng(1)
    functions = load_functions(artifact)
    shape = (QUERIES, contract.history_length)
    history = {
        "items": rng.integers(2, 5_000, shape),
        "types": rng.integers(2, 2 + len(contract.behaviours), shape),
        "gaps": rng.integers(1, 20, shape),
        "values": np.zeros(shape),
        "ages": np.sort(rng.uniform(0, 100, shape))[:, ::-1],
    }
    asked: dict[str, NDArray[Any]] = {
        "lengths": np.full(QUERIES, contract.history_length),
        "context": np.zeros((QUERIES, len(contract.fields))),
        "since": np.ones(QUERIES),
    }
    queries = functions["query"](functions["encode"](history) | asked)["query"]
    module = functions["encode"].__dict__["module"]
    return Data("an untrained model", module.vectors.numpy(), queries)


def clustered(items: int, width: int) -> Data:
    """What training gives: vectors in clusters, longer for what is popular, and users who like two clusters and what is
    popular."""
    rng = np.random.default_rng(2)
    centres = rng.normal(size=(CLUSTERS, width))
    popular = rng.normal(size=width) / np.sqrt(width)
    length = 0.5 + 0.25 * rng.pareto(3.0, items)  # of a vector; the mean is .625
    vectors = centres[rng.integers(0, CLUSTERS, items)] + 0.7 * rng.normal(size=(items, width))
    vectors = length[:, None] * (vectors + popular)
    liked = centres[rng.integers(0, CLUSTERS, (QUERIES, 2))].mean(axis=1)
    queries = liked + 0.5 * rng.normal(size=(QUERIES, width)) + popular
    return Data("clusters", vectors.astype(np.float32), queries.astype(np.float32))
