"""Item and user files: what they say, what is rejected, and how they go over what the events say."""

from __future__ import annotations

import polars as pl
import pytest

from models.datasets.mapping import MappingError
from models.datasets.tables import overlay, read_items, read_users


def test_items_are_read_and_bad_rows_counted() -> None:
    raw = pl.DataFrame(
        {
            "product_id": ["a", None, "b", "c", "a"],
            "name": ["Old", "Nobody", "Bread", "Cake", "New"],
            "category": ["Food", "Food", "Food > Bakery|Bread", " > ", None],
            "price": ["1", "1", "-1", "2.50", ""],
            "available": ["no", None, None, None, "yes"],
        }
    )
    table = read_items(raw)
    assert table.reasons == {"item_id missing": 1, "price unreadable": 1, "duplicate": 1}
    assert table.kept.to_dicts() == [
        {"item_id": "c", "title": "Cake", "categories": [], "price": 2.5, "available": True},
        {"item_id": "a", "title": "New", "categories": None, "price": None, "available": True},
    ]
    assert table.rejected["row"].to_list() == [0, 1, 2]


def test_a_category_path_may_be_text_or_a_list() -> None:
    text = pl.DataFrame({"item_id": ["a"], "categories": ["Food > Bakery|Bread"]})
    lists = pl.DataFrame({"item_id": ["a"], "categories": [["Food", None, "Bakery"]]})
    assert read_items(text).kept["categories"].to_list() == [["Food", "Bakery", "Bread"]]
    assert read_items(lists).kept["categories"].to_list() == [["Food", "Bakery"]]


def test_every_other_column_of_users_is_profile() -> None:
    table = read_users(
        pl.DataFrame({"user_id": [1.0, 2.0, 1.0], "age": [30, 40, 31], "profile_country": ["DE", "FR", ""]})
    )
    assert table.kept.to_dicts() == [
        {"user_id": "2", "profile_age": "40", "profile_country": "FR"},
        {"user_id": "1", "profile_age": "31", "profile_country": None},
    ]
    assert table.reasons == {"duplicate": 1}


def test_a_file_without_an_id_column_is_refused() -> None:
    with pytest.raises(MappingError, match=r"known as the item_id; rename one. Columns found: name"):
        read_items(pl.DataFrame({"name": ["x"]}))
    with pytest.raises(MappingError, match="Both user and customer could be the user_id"):
        read_users(pl.DataFrame({"user": ["x"], "customer": ["y"]}))


def test_the_better_frame_counts_where_it_says_something() -> None:
    known = pl.DataFrame({"item_id": ["a", "b"], "title": ["A", "B"]})
    better = pl.DataFrame({"item_id": ["b", "c"], "title": ["Bee", None], "price": [1.0, 2.0]})
    assert overlay(known, better, "item_id").sort("item_id").to_dicts() == [
        {"item_id": "a", "title": "A", "price": None},
        {"item_id": "b", "title": "Bee", "price": 1.0},
        {"item_id": "c", "title": None, "price": 2.0},
    ]
