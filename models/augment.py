"""Augmentation of sequences: what is seen of a history differs from epoch to epoch, what is asked does not."""

from __future__ import annotations

import numpy as np

from models.contract import PAD
from models.encode import Arrays
from models.samples import HISTORY


def hide_events(batch: Arrays, share: float, rng: np.random.Generator) -> Arrays:
    """Hide each past event of a batch of windows with a chance of ``share`` (item dropout).

    A hidden event is padding in its place, and so is what was shown before it: nothing attends to it, distances stay as
    they were. The moves and decisions are kept, so no answer is lost. What is decided just after a hidden event has to
    be told from what came before.
    """
    if share <= 0:
        return batch
    hidden = rng.random(batch["items"].shape) < share
    history = {name: batch[name].copy() for name in HISTORY}
    for column in history.values():
        column[hidden] = PAD
    return {**batch, **history}
