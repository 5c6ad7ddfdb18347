"""External names and internal ids."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.contract import FIRST, PAD, UNKNOWN
from models.vocabulary import Vocabulary


def test_ids_start_at_first_and_strangers_are_unknown(vocabulary: Vocabulary) -> None:
    assert vocabulary.item_ids(["a", "c", "nobody"]).tolist() == [FIRST, FIRST + 2, UNKNOWN]
    assert len(vocabulary) == 5


def test_pad_and_unknown_have_no_name(vocabulary: Vocabulary) -> None:
    assert vocabulary.item_name(FIRST) == "a"
    for item_id in (PAD, UNKNOWN, -1):
        with pytest.raises(IndexError):
            vocabulary.item_name(item_id)


def test_no_value_is_pad_and_a_strange_value_is_unknown(vocabulary: Vocabulary) -> None:
    values = ["web", "watch", None, ""]
    assert [vocabulary.field_id("device", value) for value in values] == [3, UNKNOWN, PAD, PAD]


def test_numbers_and_booleans_are_spelt_as_in_the_data() -> None:
    vocabulary = Vocabulary([], {"age": ["30", "true"]}, [])
    assert [vocabulary.field_id("age", value) for value in (30, 30.0, True)] == [FIRST, FIRST, FIRST + 1]


def test_a_category_path_has_an_id_a_level(vocabulary: Vocabulary) -> None:
    assert vocabulary.category_ids(["food", "bread"]) == [2, 2]
    assert vocabulary.category_ids(["toys"]) == [3, PAD]
    assert vocabulary.category_ids(["toys", "boats", "deeper"]) == [3, UNKNOWN]


@given(st.lists(st.text(min_size=1), unique=True))
def test_every_item_gets_its_name_back(tmp_path_factory: pytest.TempPathFactory, names: list[str]) -> None:
    path = tmp_path_factory.mktemp("vocabulary") / "vocabulary.json"
    names = [name.encode("utf-8", "replace").decode() for name in names]
    Vocabulary(names, {}, []).save(path)
    vocabulary = Vocabulary.load(path)
    assert [vocabulary.item_name(int(i)) for i in vocabulary.item_ids(dict.fromkeys(names))] == list(
        dict.fromkeys(names)
    )
