"""The features that every yardstick sees: numbers for each decision; the context's ids stand beside them.

A feature is added here and nowhere else: its name, its number for a decision, its number for every catalogue item.
"""

from __future__ import annotations

from typing import Any

import keras
import tensorflow as tf

from models.contract import PAD, Contract
from models.matches import HALF_LIVES, match_catalogue, match_features
from models.past import Candidates, Catalogue, Past

Tensor = Any

#: Standardised features are held within so many standard deviations: what is rare is not also extreme.
FAR = 8.0


def feature_names(contract: Contract) -> list[str]:
    """What each column of the features is, K names."""
    behaviours = [behaviour.name for behaviour in contract.behaviours]
    counts = [(name, "") for name in behaviours]
    counts += [(name, f" within {half_life:g} h") for half_life in HALF_LIVES for name in behaviours]
    names = []
    for same in ("item", *(f"category {level + 1}" for level in range(len(contract.category_sizes)))):
        names += [f"{name} on the same {same}{lately}" for name, lately in counts] + [f"how recent the same {same}"]
    names += [f"{name} in all{lately}" for name, lately in counts]
    if contract.exposed:
        lately = ("", *(f" within {half_life:g} h" for half_life in HALF_LIVES))
        names += [f"{what} in all{when}" for when in lately for what in ("shown", "told what was shown")]
    return [*names, "price", "price known", "popularity"]


def decision_features(contract: Contract, past: Past, candidates: Candidates, categories: Tensor) -> Tensor:
    """Features of decisions, float32 [B, D, K]: matches with the visible history, price, popularity.

    ``categories`` [V, levels] are those of every item. Counts are log1p, the price is standardised.
    """
    history, behaviours = (*past.events, past.ages, past.visible), len(contract.behaviours)
    shown = past.exposures if contract.exposed else None
    matches = match_features(*history, candidates.items, categories, behaviours, exposures=shown)
    return tf.concat([matches, candidates.numbers], axis=-1)


def catalogue_features(
    contract: Contract,
    items: Tensor,
    types: Tensor,
    ages: Tensor,
    valid: Tensor,
    exposures: Tensor,
    catalogue: Catalogue,
) -> Tensor:
    """:func:`decision_features` of every item of the catalogue for one whole history, float32 [V, K].

    The history is ``items``, ``types``, ``ages`` (hours) and ``exposures`` [L], of which ``valid`` bool [L] are events.
    Items that the catalogue does not hold yet count as events, and match nothing.
    """
    items = tf.where(items < tf.shape(catalogue.categories)[0], items, PAD)
    sizes, behaviours = contract.category_sizes, len(contract.behaviours)
    shown = exposures if contract.exposed else None
    matches = match_catalogue(items, types, ages, valid, catalogue.categories, sizes, behaviours, shown)
    return tf.concat([matches, catalogue.numbers], axis=-1)


class Standardise(keras.layers.Layer):  # type: ignore[misc]
    """Features less their mean, over their standard deviation, as found among all rows seen in training.

    Unlike batch normalisation it does the same in training as in serving, leaves padding out, and needs no warm-up.
    """

    def __init__(self, features: int) -> None:
        super().__init__()
        self.count = self._statistic("count", (), "zeros")
        self.mean = self._statistic("mean", (features,), "zeros")
        self.variance = self._statistic("variance", (features,), "ones")

    def _statistic(self, name: str, shape: tuple[int, ...], start: str) -> Any:
        return self.add_weight(name=name, shape=shape, initializer=start, trainable=False, aggregation="mean")

    def observe(self, features: Tensor, real: Tensor) -> None:
        """Take the rows of features [..., K] that are ``real`` [...] into the statistics (Chan et al. 1983)."""
        weight = tf.cast(real, tf.float32)[..., None]
        axes = list(range(len(features.shape) - 1))
        rows = tf.reduce_sum(weight)
        mean = tf.math.divide_no_nan(tf.reduce_sum(features * weight, axes), rows)
        variance = tf.math.divide_no_nan(tf.reduce_sum(tf.square(features - mean) * weight, axes), rows)
        total = self.count + rows
        share, apart = tf.math.divide_no_nan(rows, total), mean - self.mean
        spread = (1 - share) * self.variance + share * variance + share * (1 - share) * tf.square(apart)
        self.variance.assign(tf.where(total > 0, spread, self.variance))
        self.mean.assign(self.mean + share * apart)
        self.count.assign(total)

    def call(self, features: Tensor) -> Tensor:
        """Standardised features, same shape, within [-FAR, FAR]."""
        deviation = tf.sqrt(tf.maximum(self.variance, 0.0) + 1e-4)
        return tf.clip_by_value((features - self.mean) / deviation, -FAR, FAR)
