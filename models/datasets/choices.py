"""The true choice model of the simulated shop: what a customer does with an item, and how likely.

Everything it depends on can be seen by a model: the history (tastes, habits, what this session is about), the item,
the moment and the user's profile; and the position, which a neutral prediction leaves out.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from models.datasets.shop import PAGE, WIDTH, Bools, Floats, Ints, Shop
from models.datasets.shoppers import DEVICES, PARTS, Shoppers

#: Chance that a place of the page is looked at at all; the first one always is.
EXAMINATION = np.array([1.0, 0.86, 0.74, 0.65, 0.58, 0.52, 0.47, 0.43, 0.40, 0.38])

MS_PER_DAY = 86_400_000.0


@dataclass
class Memory:
    """What U users carry from page to page; -1 stands for nothing yet.

    Attributes:
        drift: how far the user's taste has moved, [U, WIDTH].
        clicked: categories of the last clicks in this session, newest last, [U, 3].
        basket: categories put into the cart or bought in this session, newest last, [U, 3].
        bought: items bought lately, newest last, [U, 24]; ``bought_at``: when, in milliseconds, [U, 24].
    """

    users: int
    drift: Floats = field(init=False)
    clicked: Ints = field(init=False)
    basket: Ints = field(init=False)
    bought: Ints = field(init=False)
    bought_at: Ints = field(init=False)

    def __post_init__(self) -> None:
        self.drift = np.zeros((self.users, WIDTH))
        self.clicked = np.full((self.users, 3), -1)
        self.basket = np.full((self.users, 3), -1)
        self.bought = np.full((self.users, 24), -1)
        self.bought_at = np.zeros((self.users, 24), np.int64)

    def open_session(self, users: Ints, rng: np.random.Generator) -> None:
        """A new session: the mind is fresh, and taste has moved a little."""
        self.clicked[users] = -1
        self.basket[users] = -1
        step = rng.normal(size=(len(users), WIDTH)) * 0.1 / np.sqrt(WIDTH)
        self.drift[users] = 0.98 * self.drift[users] + step

    def remember(self, shop: Shop, page: Page, deeds: Deeds) -> None:
        """Take in what was done on a page."""
        category = shop.category[page.items]
        for buffer, done in ((self.clicked, deeds.click), (self.basket, deeds.cart | deeds.purchase)):
            buffer[page.users], _ = _push(buffer[page.users], np.where(done, category, -1))
        items = np.where(deeds.purchase, page.items, -1)
        self.bought[page.users], order = _push(self.bought[page.users], items)
        times = np.concatenate([self.bought_at[page.users], np.repeat(page.at[:, None], PAGE, axis=1)], axis=1)
        self.bought_at[page.users] = np.take_along_axis(times, order, axis=1)


@dataclass(frozen=True)
class Page:
    """One page for each of n users: user, time (ms), device and part of day [n]; items and what is filled [n, PAGE]."""

    users: Ints
    at: Ints
    device: Ints
    part: Ints
    items: Ints
    filled: Bools


@dataclass(frozen=True)
class Chances:
    """True probabilities at the place where an item was shown, and expectations, [n, PAGE] each.

    ``look`` is the chance that the place is examined. ``cart``, ``favourite`` and ``purchase`` are given a click;
    ``extra`` is the mean of pieces beyond the first, ``liking`` the mean of a rating from 0 to 1, given a purchase.
    """

    look: Floats
    click: Floats  # given that the place is examined
    favourite: Floats
    cart: Floats
    purchase_with_cart: Floats
    purchase_without: Floats
    extra: Floats
    liking: Floats

    @property
    def purchase(self) -> Floats:
        """The chance of a purchase given a click, with or without a cart before it."""
        return self.cart * self.purchase_with_cart + (1 - self.cart) * self.purchase_without


@dataclass(frozen=True)
class Deeds:
    """What was done, [n, PAGE] each."""

    click: Bools
    favourite: Bools
    cart: Bools
    purchase: Bools
    pieces: Ints


@dataclass(frozen=True)
class Moods:
    """How device and part of the day move people towards departments, [devices, D] and [PARTS, D]."""

    device: Floats
    part: Floats

    @classmethod
    def draw(cls, shop: Shop, rng: np.random.Generator) -> Moods:
        """Draw both tables."""
        kinds = int(shop.department.max()) + 1
        return cls(0.4 * rng.normal(size=(len(DEVICES), kinds)), 0.4 * rng.normal(size=(PARTS, kinds)))


def chances(shop: Shop, shoppers: Shoppers, moods: Moods, memory: Memory, page: Page) -> Chances:
    """The true probabilities of everything on a page."""
    who, items = page.users, page.items
    taste = shop.personas[shoppers.persona[who]] + shoppers.own[who] + memory.drift[who]  # [n, WIDTH]
    liking = (taste[:, None, :] * shop.vectors[items]).sum(axis=-1)  # [n, PAGE], spread about 1
    price = shoppers.thrift[who][:, None] * shop.relative[items]
    brand = shoppers.brand[who][:, None] * (shop.store_brand[items] - 0.4)
    due = _due(shop, memory, page)
    department = shop.department[items]
    mood = moods.device[page.device[:, None], department] + moods.part[page.part[:, None], department]
    focus = _matches(memory.clicked[who], shop.category[items])
    goes_with = _complements(shop, memory.basket[who], shop.category[items])
    click = -4.4 + 0.75 * liking - 0.7 * price + brand + shop.appeal[items] + 0.25 * shop.fame[items]
    click += shoppers.eagerness[who][:, None] + mood + 1.3 * focus + 0.9 * goes_with + 1.2 * due
    cart = -1.6 + 0.4 * liking - 0.4 * price + 0.5 * due + 0.4 * goes_with
    buy = -2.35 + 0.4 * liking - 0.9 * price + 1.0 * due + 0.4 * brand
    buy += np.array([-0.3, 0.4, 0.0])[page.device][:, None]
    cheap = np.clip(1.4 - 0.5 * np.log1p(shop.price[items]), 0.1, 1.4)
    return Chances(
        look=np.broadcast_to(EXAMINATION, items.shape),
        click=_sigmoid(click),
        favourite=_sigmoid(-3.0 + 0.6 * liking),
        cart=_sigmoid(cart),
        purchase_with_cart=_sigmoid(buy + 1.0),
        purchase_without=_sigmoid(buy - 2.5),
        extra=shoppers.basket[who][:, None] * cheap,
        liking=_sigmoid(0.9 + 0.5 * liking + 1.2 * shop.appeal[items] - 0.4 * price),
    )


def act(page: Page, chance: Chances, rng: np.random.Generator) -> Deeds:
    """Roll the dice."""
    dice = rng.random((5, *page.items.shape))
    click = page.filled & (dice[0] < chance.look * chance.click)
    cart = click & (dice[1] < chance.cart)
    purchase = click & (dice[2] < np.where(cart, chance.purchase_with_cart, chance.purchase_without))
    return Deeds(
        click=click,
        favourite=click & (dice[3] < chance.favourite),
        cart=cart,
        purchase=purchase,
        pieces=1 + rng.poisson(chance.extra),
    )


def _due(shop: Shop, memory: Memory, page: Page) -> Floats:
    """From -1 (just bought) over 0 (never bought) to 1 (bought one cycle ago), [n, PAGE]."""
    days = (page.at[:, None] - memory.bought_at[page.users]) / MS_PER_DAY  # [n, 24]
    same = memory.bought[page.users][:, None, :] == page.items[:, :, None]  # [n, PAGE, 24]
    since = np.where(same, days[:, None, :], np.inf).min(axis=-1)  # days since the newest purchase
    cycle = shop.cycle[shop.category[page.items]]
    again = np.exp(-(((since - cycle) / (0.5 * cycle)) ** 2))
    return np.where(np.isfinite(since), again - np.exp(-since / 1.5), 0.0)


def _matches(recent: Ints, category: Ints) -> Floats:
    """How much the session is about a category: 1 if the last click was, less for older ones, [n, PAGE]."""
    weight = np.array([0.35, 0.6, 1.0])
    focus: Floats = ((recent[:, None, :] == category[:, :, None]) * weight).max(axis=-1)
    return focus


def _complements(shop: Shop, basket: Ints, category: Ints) -> Floats:
    """1 where a category goes with something in the basket and is not in it itself, [n, PAGE]."""
    filled = basket >= 0
    fits = shop.complements[np.where(filled, basket, 0)[:, None, :], category[:, :, None]]  # [n, PAGE, 3]
    inside = (basket[:, None, :] == category[:, :, None]).any(axis=-1)
    fitting: Floats = ((fits & filled[:, None, :]).any(axis=-1) & ~inside).astype(np.float64)
    return fitting


def _push(buffer: Ints, new: Ints) -> tuple[Ints, Ints]:
    """Append what is not -1 to each row and keep the newest; also the columns of [buffer, new] that were kept."""
    joined = np.concatenate([buffer, new], axis=1)
    order = np.argsort(joined >= 0, axis=1, kind="stable")[:, -buffer.shape[1] :]
    return np.take_along_axis(joined, order, axis=1), order


def _sigmoid(x: Floats) -> Floats:
    return 1.0 / (1.0 + np.exp(-x))
