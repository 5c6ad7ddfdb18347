"""What every peer does for a question, so that only the frameworks differ: one Redis read, ``retrieve`` then ``score``
of the same SavedModel, the same answer. It uses Foretell's own pure-numpy code for the bytes of a
state and the context.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import tensorflow as tf

from app.state_codec import CachedState, StateCodec
from models.artifact import read_artifact
from models.contract import FIRST
from models.encode import Moment, encode_context

CANDIDATES = 100
K = 20


class Question(NamedTuple):
    """A user with their state, as it came from Redis."""

    user: str
    cached: CachedState
    moment: Moment


class Work:
    """The model of the benchmark, ready to answer. Reads BENCH_ARTIFACT, BENCH_TITLES, BENCH_THREADS, BENCH_REDIS."""

    def __init__(self) -> None:
        threads = int(os.environ.get("BENCH_THREADS", "1"))
        tf.config.threading.set_intra_op_parallelism_threads(threads)
        tf.config.threading.set_inter_op_parallelism_threads(threads)
        self.artifact = read_artifact(Path(os.environ["BENCH_ARTIFACT"]))
        self.contract, self.vocabulary = self.artifact.contract, self.artifact.vocabulary
        self.titles = json.loads(Path(os.environ["BENCH_TITLES"]).read_text(encoding="utf-8"))
        self.codec = StateCodec(self.contract)
        self.module = tf.saved_model.load(str(self.artifact.saved_model))
        self.retrieve, self.score = self.module.signatures["retrieve"], self.module.signatures["score"]
        self.everything = tf.constant(np.arange(self.contract.items)[None] >= FIRST)

    def question(self, user: str, blob: bytes) -> Question:
        """What a state and the time make of a user."""
        _, cached = self.codec.unpack(user, blob)
        moment = encode_context({}, cached.profile, time.time(), cached.last_at, self.vocabulary, self.contract)
        return Question(user, cached, moment)

    def answers(self, questions: list[Question]) -> list[dict[str, Any]]:
        """The answers to a batch of questions."""
        rows = self.contract.history_length
        scene = {
            "state": tf.constant(np.stack([q.cached.padded(rows) for q in questions])),
            "lengths": tf.constant(np.array([q.cached.length for q in questions], np.int32)),
            "context": tf.constant(np.stack([q.moment.fields for q in questions])),
            "since": tf.constant(np.array([q.moment.since for q in questions], np.float32)),
        }
        items = self.retrieve(**scene, allowed=self.everything)["items"][:, :CANDIDATES]
        scored = {name: part.numpy() for name, part in self.score(**scene, candidates=items).items()}
        found, weights = items.numpy(), self.contract.objective
        totals = sum(weights[name] * scored[name] for name in weights)
        best = np.argsort(-totals, axis=1, kind="stable")[:, :K]
        return [
            self._answer(
                question, found[row], totals[row], {name: part[row] for name, part in scored.items()}, best[row]
            )
            for row, question in enumerate(questions)
        ]

    def _answer(self, question: Question, items: Any, totals: Any, scored: dict[str, Any], best: Any) -> dict[str, Any]:
        columns = {name: part[best].tolist() for name, part in scored.items()}
        targets, values = self.contract.targets, self.contract.values
        return {
            "request_id": os.urandom(16).hex(),
            "user_id": question.user,
            "model": {"name": self.artifact.name, "version": self.artifact.version},
            "predictions": [],
            "recommendations": [
                {
                    "rank": place + 1,
                    "item_id": self.vocabulary.item_name(item),
                    "title": self.titles[item - FIRST],
                    "score": score,
                    "probabilities": {name: columns[name][place] for name in targets},
                    "expected": {name: columns[name][place] for name in values},
                    "reason": "history",
                    "explanation": None,
                }
                for place, (item, score) in enumerate(zip(items[best].tolist(), totals[best].tolist(), strict=True))
            ],
            "warnings": [],
            "provenance": {
                "state": "cached",
                "state_age_ms": round((time.time() - question.cached.computed_at) * 1000),
                "history": question.cached.total,
                "degraded": [],
            },
            "took_ms": 0.0,
        }


def key(user: str) -> str:
    """Where the harness has put the bytes of a user's state."""
    return f"bench:{user}"
