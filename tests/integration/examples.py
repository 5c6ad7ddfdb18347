"""A small contract, and states that fit it."""

from __future__ import annotations

import time

import numpy as np

from app.states import CachedState
from models.contract import Behaviour, Contract, Field

CONTRACT = Contract(
    behaviours=(Behaviour("click", target=True), Behaviour("purchase", target=True, value="amount")),
    fields=(Field("device", "request", 4), Field("segment", "user", 5), Field("region", "user", 6)),
    category_sizes=(4,),
    history_length=8,
    state_shape=(8, 4),
    state_dtype="float16",
    items=10,
    retrieval_size=5,
    value_scales={"amount": 10.0},
)


def example_state(
    total: int = 3, *, length: int = 3, last_at: float | None = 100.5, computed_at: float | None = None
) -> CachedState:
    """A padded state [8, 4] whose newest ``length`` rows count up from 1; a profile of ids 2 and 3."""
    state = np.zeros((8, 4), np.float16)
    state[8 - length :] = np.arange(1, 1 + 4 * length, dtype=np.float16).reshape(length, 4)
    return CachedState(
        state=state,
        length=length,
        total=total,
        last_at=last_at,
        profile=np.array([2, 3], np.int32),
        computed_at=time.time() if computed_at is None else computed_at,
    )
