"""The simulator: deterministic, within its stated bands, and honest about its probabilities."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import numpy as np
import polars as pl
import pytest
from sklearn.metrics import roc_auc_score

from models.datasets.choices import EXAMINATION
from models.datasets.dataset import Dataset, DatasetError
from models.datasets.storefront import END, simulate

FRAMES = ("events", "exposures", "items", "users")


@pytest.fixture(scope="module")
def shop() -> Dataset:
    return simulate(seed=7, users=500, items=1_000, events=200_000)


@pytest.fixture(scope="module")
def labelled(shop: Dataset) -> pl.DataFrame:
    """Exposures with ``label_<behaviour>``: whether an event of the same user, item and request exists."""
    frame = shop.exposures
    assert frame is not None
    keys = ["user_id", "item_id", "request_id"]
    for name in ("click", "cart", "purchase"):
        done = shop.events.filter(pl.col("type") == name).select(*keys, pl.lit(1).alias(f"label_{name}"))
        assert done.select(keys).is_unique().all(), f"one {name} per exposure at most"
        frame = frame.join(done, on=keys, how="left").with_columns(pl.col(f"label_{name}").fill_null(0))
    return frame


def test_the_same_seed_gives_the_same_data_and_another_seed_does_not() -> None:
    once, twice, other = (simulate(seed, users=60, items=80, events=4_000) for seed in (3, 3, 4))
    for name in FRAMES:
        assert getattr(once, name).equals(getattr(twice, name)), name
    assert once.info == twice.info
    assert not once.events.equals(other.events)


def test_it_calls_itself_synthetic_and_makes_about_the_rows_asked_for(shop: Dataset) -> None:
    assert shop.synthetic
    assert shop.name == "storefront"
    counts = shop.info["counts"]
    assert counts["events"] + counts["exposures"] == pytest.approx(200_000, rel=0.12)
    assert (counts["users"], counts["items"]) == (500, 1_000)


def test_the_best_possible_model_is_good_but_not_perfect(labelled: pl.DataFrame) -> None:
    auc = {n: roc_auc_score(labelled[f"label_{n}"], labelled[f"true_{n}"]) for n in ("click", "purchase")}
    assert 0.75 < auc["click"] < 0.86
    assert 0.80 < auc["purchase"] < 0.92


def test_rates_are_those_of_a_shop(labelled: pl.DataFrame) -> None:
    assert 0.05 < labelled["label_click"].to_numpy().mean() < 0.12
    assert 0.01 < labelled["label_purchase"].to_numpy().mean() < 0.03


@pytest.mark.parametrize("name", ["click", "cart", "purchase"])
def test_true_probabilities_are_calibrated_in_every_fifth(labelled: pl.DataFrame, name: str) -> None:
    """Within five standard errors of a coin with that probability, from the least likely to the most likely."""
    ordered = labelled.sort(f"true_{name}", "event_id")
    for fifth in np.array_split(np.arange(len(ordered)), 5):
        truth, label = (ordered[f"{kind}_{name}"].to_numpy()[fifth] for kind in ("true", "label"))
        error = np.sqrt((truth * (1 - truth)).sum())
        assert abs(label.sum() - truth.sum()) < 5 * error


def test_examination_falls_with_the_position_and_neutral_truth_leaves_it_out(labelled: pl.DataFrame) -> None:
    assert EXAMINATION[0] == 1.0
    assert (np.diff(EXAMINATION) < 0).all()
    look = EXAMINATION[labelled["position"].to_numpy() - 1]
    assert np.allclose(labelled["true_click"], labelled["true_neutral_click"] * look)
    rates = labelled.group_by("position").agg(pl.col("label_click").mean()).sort("position")["label_click"].to_list()
    assert rates[0] > 1.8 * rates[-1]


def test_amounts_and_ratings_are_as_expected(shop: Dataset, labelled: pl.DataFrame) -> None:
    keys = ["user_id", "item_id", "request_id"]
    for kind, value in (("purchase", "true_amount"), ("review", "true_rating")):
        done = shop.events.filter(pl.col("type") == kind).join(labelled.select(*keys, value), on=keys)
        assert done["value"].to_numpy().mean() == pytest.approx(done[value].to_numpy().mean(), rel=0.05)
    assert set(shop.events.filter(pl.col("type") == "review")["value"].unique()) <= {1.0, 2.0, 3.0, 4.0, 5.0}


def test_histories_spread_from_a_handful_to_hundreds(shop: Dataset) -> None:
    lengths = shop.users.join(shop.events.group_by("user_id").len(), on="user_id", how="left")["len"].fill_null(0)
    assert lengths.to_numpy().min() == 0
    assert (lengths <= 5).sum() > 25
    assert 20 < lengths.to_numpy().mean() < 200
    assert lengths.to_numpy().max() > 200


def test_a_page_shows_each_item_once_in_places_one_to_ten(labelled: pl.DataFrame) -> None:
    pages = labelled.group_by("request_id").agg(
        pl.col("position").sort(), pl.col("item_id").n_unique().alias("items"), pl.col("user_id").n_unique()
    )
    assert (pages["items"] == pages["position"].list.len()).all()
    assert pages["position"].list.eval(pl.element() == pl.int_range(1, pl.len() + 1)).list.all().all()
    assert (pages["user_id"] == 1).all()


def test_deeds_follow_their_exposure_and_end_in_time(shop: Dataset, labelled: pl.DataFrame) -> None:
    keys = ["user_id", "item_id", "request_id"]
    done = shop.events.join(labelled.select(*keys, pl.col("at").alias("shown")), on=keys, how="left")
    assert done["shown"].null_count() == 0
    assert (done["at"] > done["shown"]).all()
    assert (shop.events["at"] < END).all()
    session = done.filter(pl.col("type") != "review")
    assert (session["at"] - session["shown"] < timedelta(seconds=70)).all(), "before the next page opens"


def test_a_clicked_category_is_clicked_more_in_the_rest_of_the_session(shop: Dataset, labelled: pl.DataFrame) -> None:
    """What a sequence model can learn: just after a click, items of its category are worth more than before."""
    fine = shop.items.select("item_id", pl.col("categories").list.slice(0, 2).list.join(">").alias("category"))
    clicks = shop.events.filter(pl.col("type") == "click").join(fine, on="item_id")
    clicks = clicks.select("user_id", "category", "at", pl.col("at").alias("clicked")).sort("at")
    pages = labelled.join(fine, on="item_id").sort("at")
    near = pages.join_asof(
        clicks, on="at", by=["user_id", "category"], tolerance="5m", strategy="backward", check_sortedness=False
    )
    near = near.with_columns(pl.col("clicked").is_not_null().alias("fresh"))
    after, otherwise = (near.filter(pl.col("fresh") == fresh)["label_click"].to_numpy() for fresh in (True, False))
    assert after.mean() > 1.5 * otherwise.mean()


def test_a_million_rows_take_less_than_a_minute() -> None:
    start = time.perf_counter()
    simulate()
    assert time.perf_counter() - start < 60


def test_a_catalogue_of_ones_own_smaller_than_a_page_fills_what_it_can() -> None:
    catalogue = pl.DataFrame(
        {
            "item_id": ["a", "b", "c"],
            "title": ["A", "B", "C"],
            "categories": [["x", "y"], ["x", "y"], ["z", "w"]],
            "price": [1.0, 2.0, 3.0],
            "popularity": [3, 2, 1],
            "store_brand": [True, False, False],
        }
    )
    dataset = simulate(users=20, events=500, catalogue=catalogue, end=datetime(2025, 6, 4, 15, tzinfo=UTC))
    assert dataset.exposures is not None
    assert dataset.exposures["position"].to_numpy().max() <= 3
    assert (dataset.exposures["at"] < datetime(2025, 6, 4, tzinfo=UTC)).all()


def test_numbers_that_make_no_shop_are_refused() -> None:
    with pytest.raises(DatasetError, match="at least one user"):
        simulate(users=0)
