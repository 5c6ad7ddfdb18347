"""Columns are recognised, guessed, named by flags, or asked for in one sentence."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.datasets.mapping import (
    Columns,
    MappingError,
    Rule,
    guess,
    load_mapping,
    mapping_names,
    merge,
    pairs,
    recognise,
)

TAOBAO = ["user_id", "item_id", "category_id", "behavior", "ts"]


def test_shipped_mappings_are_recognised_by_their_columns() -> None:
    known = recognise(["extra", *TAOBAO])
    assert known is not None
    assert known.name == "taobao"
    assert known.types == {"pv": "click", "fav": "favourite", "cart": "cart", "buy": "purchase"}
    assert recognise(TAOBAO[1:]) is None


def test_a_shipped_mapping_is_recognised_without_what_it_can_do_without() -> None:
    bare = recognise([name for name in TAOBAO if name != "category_id"])
    assert bare is not None
    assert bare.types["pv"] == "click"
    assert bare.categories == ()
    shop = load_mapping("online_retail")
    found = [column for column in shop.used() if column not in ("Description", "Country")]
    bare = recognise(found)
    assert bare is not None
    assert (bare.name, bare.title, bare.price, bare.profile) == ("online_retail", None, "UnitPrice", {})
    assert bare.reject == shop.reject
    bare.check(found)
    assert recognise([column for column in found if column != "InvoiceNo"]) is None  # by which returns are told


@pytest.mark.parametrize("name", mapping_names())
def test_every_shipped_mapping_is_complete(name: str) -> None:
    shipped = load_mapping(name)
    assert shipped.name == name
    shipped.check(shipped.used())


def test_columns_that_speak_for_themselves_are_guessed() -> None:
    columns = guess(
        ["User ID", "product_id", "event_type", "timestamp", "amount", "context_device", "colour"], Columns()
    )
    assert (columns.user, columns.item, columns.type, columns.time) == (
        "User ID",
        "product_id",
        "event_type",
        "timestamp",
    )
    assert columns.value == "amount"
    assert columns.context == {"device": "context_device"}


def test_two_columns_that_fit_are_asked_about() -> None:
    with pytest.raises(MappingError, match="Both user_id and customer could be the user; say which with --user"):
        guess(["user_id", "customer", "item", "type", "ts"], Columns())
    assert guess(["user_id", "customer", "item", "type", "ts"], Columns(user="customer")).user == "customer"


def test_missing_columns_are_named_with_those_found() -> None:
    with pytest.raises(MappingError, match=r"known as the item; name it with --item. Columns found: user, ts"):
        guess(["user", "ts"], Columns(constant_type="click")).check(["user", "ts"])
    with pytest.raises(MappingError, match="--constant-type"):
        Columns(user="u", item="i", time="t").check(["u", "i", "t"])
    with pytest.raises(MappingError, match=r"no column 'x'. Columns found: u, i, t"):
        Columns(user="u", item="i", time="t", constant_type="click", value="x").check(["u", "i", "t"])
    with pytest.raises(MappingError, match="give one of the two"):
        Columns(user="u", item="i", time="t", type="k", constant_type="click").check(["u", "i", "t", "k"])


def test_flags_count_more_than_a_mapping() -> None:
    merged = merge(load_mapping("taobao"), Columns(time="when", constant_type="click"))
    assert (merged.user, merged.time, merged.type, merged.constant_type) == ("user_id", "when", None, "click")


def test_pairs_take_field_and_column() -> None:
    assert pairs(["device=Dev", "country"], "--context") == {"device": "Dev", "country": "country"}
    with pytest.raises(MappingError, match="--context takes field=column"):
        pairs(["=x"], "--context")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('colour = "red"', "key 'colour'"),
        ("user = 3", "user = 3"),
        ('like = "nothing"', "No mapping 'nothing'"),
        ('like = "taobao"\nrenamed = "ts"', "renamed = 'ts', which is of the wrong type"),
        ('[[reject]]\nreason = "r"\ncolumn = "c"', "needs one of pattern, unless and at_most"),
        ('[[reject]]\nreason = "r"', "reject rule"),
        ('[[reject]]\nreason = "r"\ncolumn = "c"\npattern = "("', "no regular expression"),
        ('[[reject]]\nreason = "r"\ncolumn = "c"\npattern = "^(?!x)"', "no regular expression"),
        ("[", "cannot be read as TOML"),
    ],
)
def test_a_bad_mapping_file_is_refused_in_one_sentence(tmp_path: Path, text: str, says: str) -> None:
    path = tmp_path / "bad.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(MappingError, match=says):
        load_mapping(str(path))


def test_an_unknown_mapping_is_answered_with_the_shipped_ones() -> None:
    with pytest.raises(MappingError, match="shipped are completejourney, online_retail, online_retail_ii, taobao"):
        load_mapping("nonsense")


def test_a_rule_has_exactly_one_test() -> None:
    with pytest.raises(MappingError, match="needs one of"):
        Rule("r", "c", pattern="a", at_most=1)
