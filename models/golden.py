"""Golden examples: raw events and the outputs they must give, replayed before a model may serve.

They catch what checksums cannot: an encoder that changed, another TensorFlow, a device that computes differently.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np

from models.contract import Contract
from models.encode import Arrays, Event, encode_context, encode_history, encode_profile, to_history
from models.vocabulary import Vocabulary

#: How far a replayed probability may be from the recorded one.
TOLERANCE = 1e-4

#: The served functions by signature name: batched arrays in, batched arrays out.
Functions = Mapping[str, Callable[[Arrays], Arrays]]


class GoldenError(Exception):
    """A model does not give the outputs that were recorded with it. The message is one sentence for a person."""


def record(
    examples: Sequence[dict[str, Any]], contract: Contract, vocabulary: Vocabulary, functions: Functions
) -> list[dict[str, Any]]:
    """Add ``expected`` to raw examples (``events``, ``context``, ``profile``, ``at``, ``candidates``)."""
    return [{**example, "expected": outcomes(example, contract, vocabulary, functions)} for example in examples]


def replay(
    examples: Sequence[dict[str, Any]], contract: Contract, vocabulary: Vocabulary, functions: Functions
) -> None:
    """Compute every example anew. Raises GoldenError at the first output that is off by more than TOLERANCE."""
    for number, example in enumerate(examples):
        found = outcomes(example, contract, vocabulary, functions)
        for name, expected in example["expected"].items():
            want, got = np.asarray(expected), np.asarray(found[name])
            scale = max(1.0, float(np.abs(want).max(initial=0.0)))
            off = float(np.abs(want - got).max(initial=0.0)) if want.shape == got.shape else float("inf")
            if not off <= TOLERANCE * scale:
                raise GoldenError(
                    f"Golden example {number} gives another {name} than was recorded (off by {off:.3g}): "
                    "this model or its encoder is not the one that was exported; export it again."
                )


def outcomes(
    example: Mapping[str, Any], contract: Contract, vocabulary: Vocabulary, functions: Functions
) -> dict[str, list[float]]:
    """What the model says of one raw example: each output of ``score`` by candidate, and the best retrieval scores."""
    history = to_history([Event(*event) for event in example["events"]], vocabulary, contract)
    arrays = encode_history(history, contract)
    profile = encode_profile(example["profile"], vocabulary, contract)
    moment = encode_context(example["context"], profile, example["at"], history.last_at, vocabulary, contract)
    inputs = {
        "state": functions["encode"]({name: array[None] for name, array in arrays.items()})["state"],
        "lengths": np.array([min(len(history), contract.history_length)], np.int32),
        "context": moment.fields[None],
        "since": np.array([moment.since], np.float32),
    }
    scored = functions["score"]({**inputs, "candidates": vocabulary.item_ids(example["candidates"])[None]})
    allowed = np.arange(contract.items)[None] > 1
    retrieved = functions["retrieve"]({**inputs, "allowed": allowed})["scores"][0][:10]
    return {name: rounded(values[0]) for name, values in scored.items()} | {"retrieval": rounded(retrieved)}


def rounded(values: Any) -> list[float]:
    """Floats with seven significant digits, for JSON."""
    return [float(f"{value:.7g}") for value in np.asarray(values, np.float64)]
