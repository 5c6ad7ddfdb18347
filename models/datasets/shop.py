"""The simulated shop: a catalogue as arrays, and the policy that picks what to show."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import polars as pl
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]
Bools = NDArray[np.bool_]

#: Width of the latent space in which items and tastes live.
WIDTH = 8
#: Kinds of customers; everyone is one of them, with a taste of their own on top.
PERSONAS = 12
PAGE = 10
#: Where the items that compete for a page come from: bestsellers, the persona's favourites, more of what was
#: clicked last, what the user bought before.
POOL = {"popular": 12, "persona": 16, "similar": 6, "again": 6}


@dataclass(frozen=True)
class Shop:
    """I items in C categories, and the customs of the house.

    Attributes:
        ids: external ids, [I].
        vectors: position of each item in the latent space, unit variance in each direction, [I, WIDTH].
        category, department: index of the item's category and department, [I].
        price: what one costs, [I]; ``relative`` is its log against its category, standardised, [I].
        fame: standardised log popularity, [I]; ``appeal`` is what makes an item attractive to everyone, [I].
        store_brand: whether it is the shop's own brand, [I].
        complements: whether the column's category goes with the row's, [C, C].
        cycle: days after which a purchase of this category is repeated, [C].
        personas: the taste of each kind of customer, [PERSONAS, WIDTH].
    """

    ids: list[str]
    vectors: Floats
    category: Ints
    department: Ints
    price: Floats
    relative: Floats
    fame: Floats
    appeal: Floats
    store_brand: Bools
    complements: Bools
    cycle: Floats
    personas: Floats
    by_popularity: Floats  # cumulated share, [I]
    by_persona: Floats  # persona + cumulated share, [PERSONAS * I]
    by_category: Ints  # items in the order of their category, [I]
    category_ends: Floats  # cumulated share in that order, 0 in front, [I + 1]
    category_starts: Ints  # where each category begins in that order, the end last, [C + 1]


def open_shop(catalogue: pl.DataFrame, rng: np.random.Generator) -> Shop:
    """Give the items of a catalogue (see :func:`models.datasets.completejourney.catalogue`) their hidden traits."""
    department = _codes(catalogue["categories"].list.get(0, null_on_oob=True))
    category = _codes(catalogue["categories"].list.join(">"), catalogue["categories"].list.slice(0, 2))
    price = catalogue["price"].to_numpy().astype(np.float64)
    popularity = catalogue["popularity"].to_numpy().astype(np.float64)
    items, kinds = len(price), int(category.max()) + 1
    vectors = (
        0.55 * rng.normal(size=(int(department.max()) + 1, WIDTH))[department]
        + 0.75 * rng.normal(size=(kinds, WIDTH))[category]
        + 0.35 * rng.normal(size=(items, WIDTH))
    )
    share = popularity**0.8 / (popularity**0.8).sum()
    vectors = _whiten(vectors, share)
    personas = rng.normal(size=(PERSONAS, WIDTH))
    personas /= np.linalg.norm(personas, axis=1, keepdims=True)
    liked = share * np.exp(1.2 * personas @ vectors.T)
    liked = np.cumsum(liked / liked.sum(axis=1, keepdims=True), axis=1)
    order = np.argsort(category, kind="stable")
    return Shop(
        ids=catalogue["item_id"].to_list(),
        vectors=vectors,
        category=category,
        department=department,
        price=price,
        relative=_relative(np.log(price), category),
        fame=_standard(np.log(popularity)),
        appeal=0.35 * rng.normal(size=items),
        store_brand=catalogue["store_brand"].to_numpy().astype(np.bool_),
        complements=rng.random((kinds, kinds)) < 6 / kinds,
        cycle=rng.uniform(4.0, 18.0, kinds),
        personas=personas,
        by_popularity=np.cumsum(share),
        by_persona=(np.minimum(liked, 1.0) + np.arange(PERSONAS, dtype=np.float64)[:, None]).ravel(),
        by_category=order,
        category_ends=np.concatenate([[0.0], np.cumsum(share[order])]),
        category_starts=np.searchsorted(category[order], np.arange(kinds + 1)),
    )


def draw_page(
    shop: Shop, persona: Ints, last_category: Ints, bought: Ints, rng: np.random.Generator
) -> tuple[Ints, Bools]:
    """What n users are shown, first place first: item indices and whether the place is filled, [n, PAGE] both.

    Args:
        persona: the kind of customer, [n].
        last_category: category of the last click in this session, -1 for none, [n].
        bought: items bought lately, -1 for none, [n, any].
    """
    pool = _pool(shop, persona, last_category, bought, rng)  # [n, pool]
    liking = (shop.vectors[pool] * shop.personas[persona][:, None, :]).sum(axis=-1)
    score = 0.5 * shop.fame[pool] + 0.8 * liking + rng.gumbel(size=pool.shape)
    order = np.argsort(pool, axis=1, kind="stable")
    ranked = np.take_along_axis(pool, order, axis=1)
    twice = np.zeros(pool.shape, np.bool_)
    np.put_along_axis(twice, order[:, 1:], ranked[:, 1:] == ranked[:, :-1], axis=1)
    score[twice] = -np.inf
    best = np.argsort(-score, axis=1, kind="stable")[:, :PAGE]
    return np.take_along_axis(pool, best, axis=1), ~np.take_along_axis(twice, best, axis=1)


def _pool(shop: Shop, persona: Ints, last_category: Ints, bought: Ints, rng: np.random.Generator) -> Ints:
    users, items = len(persona), len(shop.ids)
    popular = np.searchsorted(shop.by_popularity, rng.random((users, POOL["popular"])))
    liked = np.searchsorted(shop.by_persona, persona[:, None] + rng.random((users, POOL["persona"])))
    liked -= persona[:, None] * items
    spare = np.searchsorted(shop.by_popularity, rng.random((users, POOL["similar"] + POOL["again"])))
    low, high = (shop.category_ends[shop.category_starts[last_category + end]] for end in (0, 1))
    place = low[:, None] + rng.random((users, POOL["similar"])) * (high - low)[:, None]
    place = np.clip(np.searchsorted(shop.category_ends, place, side="right") - 1, 0, items - 1)
    similar = np.where(last_category[:, None] >= 0, shop.by_category[place], spare[:, : POOL["similar"]])
    again = np.take_along_axis(bought, rng.integers(0, bought.shape[1], (users, POOL["again"])), axis=1)
    again = np.where(again >= 0, again, spare[:, POOL["similar"] :])
    pool: Ints = np.clip(np.concatenate([popular, liked, similar, again], axis=1), 0, items - 1)
    return pool


def _codes(*columns: pl.Series) -> Ints:
    """Dense numbers for the values of the last column, in sorted order."""
    text = columns[-1]
    text = text.list.join(">") if isinstance(text.dtype, pl.List) else text.fill_null("")
    return text.rank("dense").to_numpy().astype(np.int64) - 1


def _standard(values: Floats) -> Floats:
    standard: Floats = (values - values.mean()) / max(float(values.std()), 1e-9)
    return standard


def _whiten(vectors: Floats, share: Floats) -> Floats:
    """Centre and scale, so that every taste of length one has mean 0 and spread 1 over what the shop sells."""
    centred = vectors - share @ vectors
    values, axes = np.linalg.eigh((centred * share[:, None]).T @ centred)
    white: Floats = centred @ (axes / np.sqrt(np.maximum(values, 1e-6))) @ axes.T
    return white


def _relative(values: Floats, group: Ints) -> Floats:
    """Deviation from the mean of the group, in units of its overall spread."""
    count = np.bincount(group)
    mean = np.bincount(group, values) / count
    away: Floats = values - mean[group]
    relative: Floats = np.clip(away / max(float(away.std()), 1e-9), -2.5, 2.5)
    return relative
