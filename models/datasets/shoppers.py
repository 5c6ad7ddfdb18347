"""The simulated customers: who they are, and when they come to the shop."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from models.datasets.shop import PERSONAS, WIDTH, Bools, Floats, Ints

AGES = ("18-29", "30-44", "45-59", "60+")
DEVICES = ("mobile", "desktop", "tablet")
HOUSEHOLDS = ("1", "2", "3-4", "5+")
COUNTRIES = ("DE", "FR", "GB", "NL", "PL")
PLACES = tuple(f"{country}-{city}" for country in COUNTRIES for city in ("capital", "city", "town"))
#: The day has four parts of six hours; a session starts in the first five hours of one and never reaches the next.
PARTS = 4
LONGEST_SESSION = 20  # pages
WEEKS = 10


@dataclass(frozen=True)
class Shoppers:
    """U users.

    Attributes:
        persona: which kind of customer, [U]; ``own`` is what sets the user's taste apart, [U, WIDTH].
        age, household, country: indices into AGES, HOUSEHOLDS, COUNTRIES, [U].
        thrift: how much a high price puts off, [U]; ``brand``: liking of the shop's own brand, [U].
        eagerness: how readily the user clicks at all, [U]; ``basket``: mean extra pieces bought, [U].
    """

    persona: Ints
    own: Floats
    age: Ints
    household: Ints
    country: Ints
    thrift: Floats
    brand: Floats
    eagerness: Floats
    basket: Floats

    def __len__(self) -> int:
        return len(self.persona)


@dataclass(frozen=True)
class Visits:
    """The schedule: every page a user opens, by user and time.

    ``first`` [U + 1] says where a user's pages begin. Of each page, [pages]: ``at`` in milliseconds, whether it is the
    first of its session, and the session's device and place (indices into DEVICES and PLACES) and part of the day.
    """

    first: Ints
    at: Ints
    opens: Bools
    device: Ints
    place: Ints
    part: Ints


def invite(users: int, rng: np.random.Generator) -> Shoppers:
    """Draw the population: tastes go with age, thrift with age, baskets with the size of the household."""
    age = rng.choice(len(AGES), users, p=[0.3, 0.33, 0.22, 0.15])
    leaning = rng.dirichlet(np.full(PERSONAS, 0.5), len(AGES))  # what customers of an age tend to be
    cumulated = np.cumsum(leaning, axis=1)[age]
    persona = np.minimum((rng.random(users)[:, None] > cumulated).sum(axis=1), PERSONAS - 1)
    household = rng.choice(len(HOUSEHOLDS), users, p=[0.3, 0.35, 0.25, 0.1])
    thrift_of_age = np.array([0.55, 0.35, 0.2, 0.45])
    return Shoppers(
        persona=persona,
        own=rng.normal(size=(users, WIDTH)) * 0.6 / np.sqrt(WIDTH),
        age=age,
        household=household,
        country=rng.choice(len(COUNTRIES), users, p=[0.35, 0.2, 0.2, 0.15, 0.1]),
        thrift=np.maximum(thrift_of_age[age] + 0.25 * rng.normal(size=users), 0.0),
        brand=0.4 * rng.normal(size=users),
        eagerness=0.3 * rng.normal(size=users),
        basket=np.array([0.15, 0.3, 0.6, 1.0])[household],
    )


def schedule(shoppers: Shoppers, pages: int, end_ms: int, rng: np.random.Generator) -> Visits:
    """Spread about ``pages`` page views over the WEEKS before ``end_ms``, a midnight.

    A few users make most of the visits, many joined on the way and some never came at all.
    """
    users, days = len(shoppers), WEEKS * 7
    activity = rng.lognormal(0.0, 0.9, users) * (rng.random(users) > 0.03)
    share = activity / max(float(activity.sum()), 1e-9)
    mean_length = 4.0
    wanted = np.minimum(rng.poisson(share * pages / mean_length), days * PARTS // 2)  # sessions of each user
    last_weekday = (end_ms // 86_400_000 + 2) % 7  # of the day before; 1970-01-01 was a Thursday
    slots = _slots(users, days, last_weekday, wanted, rng)  # [U, days * PARTS]
    user, slot = np.nonzero(slots)
    length = np.minimum(rng.geometric(1 / mean_length, len(user)), LONGEST_SESSION)
    length = _trim(length, pages)
    start = end_ms + ((slot - days * PARTS) * 6 + rng.random(len(user)) * 5) * 3_600_000
    session = np.repeat(np.arange(len(user)), length)
    opens = np.diff(session, prepend=-1) > 0
    # A page lasts 70 to 140 seconds: 20 of them take less than the hour that is left of a part of the day.
    lasts = np.where(opens, 0.0, rng.uniform(70_000, 140_000, len(session)))
    passed = np.cumsum(lasts)
    at = start[session] + passed - np.maximum.accumulate(np.where(opens, passed, 0.0))
    device, place = _circumstances(shoppers, user, slot % PARTS, rng)
    return Visits(
        first=np.searchsorted(user[session], np.arange(users + 1)),
        at=at.astype(np.int64),
        opens=opens,
        device=device[session],
        place=place[session],
        part=(slot % PARTS)[session],
    )


def _slots(users: int, days: int, last_weekday: int, wanted: Ints, rng: np.random.Generator) -> Bools:
    """Which parts of which days each user visits, [U, days * PARTS]: more in evenings, none before joining."""
    day = np.arange(days * PARTS) // PARTS
    weekend = np.where((last_weekday - (days - 1 - day)) % 7 >= 5, 0.35, 0.0)  # Monday is 0
    part = np.tile(np.log([0.15, 0.9, 1.0, 1.6]), days)
    habit = np.tile(0.7 * rng.normal(size=(users, PARTS)), days)
    score = weekend + part + habit + rng.gumbel(size=(users, days * PARTS))
    joined = np.where(rng.random(users) < 0.5, 0.0, rng.random(users) * 0.95 * days)
    score[day < joined[:, None]] = -np.inf
    rank = np.argsort(np.argsort(-score, axis=1, kind="stable"), axis=1, kind="stable")
    visited: Bools = (rank < wanted[:, None]) & np.isfinite(score)
    return visited


def _trim(length: Ints, pages: int) -> Ints:
    """Scale session lengths so that they add up to about ``pages``."""
    scaled = length * (pages / max(int(length.sum()), 1))
    return np.clip(np.round(scaled), 1, LONGEST_SESSION).astype(np.int64)


def _circumstances(shoppers: Shoppers, user: Ints, part: Ints, rng: np.random.Generator) -> tuple[Ints, Ints]:
    """Device and place of each session: the young are mobile, desks are for the day, people mostly are at home."""
    score = rng.gumbel(size=(len(user), len(DEVICES))) + np.array([0.8, 0.5, -1.0])
    score[:, 0] += np.array([0.7, 0.2, -0.3, -0.9])[shoppers.age[user]]
    score[:, 1] += np.array([-0.5, 0.7, 0.7, 0.0])[part]
    score += (0.8 * rng.normal(size=(len(shoppers), len(DEVICES))))[user]
    cities = len(PLACES) // len(COUNTRIES)
    home = rng.integers(0, cities, len(shoppers))[user] + shoppers.country[user] * cities
    away = rng.integers(0, len(PLACES), len(user))
    return score.argmax(axis=1), np.where(rng.random(len(user)) < 0.9, home, away)
