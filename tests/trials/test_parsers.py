"""Whatever people write into settings and logs becomes something valid, or one sentence about what is wrong."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from app.settings import PREFIX, Settings, SettingsError, load_settings
from models.datasets.dataset import Dataset
from models.datasets.files import build, choose
from models.datasets.mapping import Columns, MappingError
from models.datasets.schema import DatasetError
from models.datasets.source import read
from models.domain import load_domain
from models.log import build_contract, build_log, build_vocabulary, split_by_time

NOW = datetime(2025, 3, 10, tzinfo=UTC)
TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=30)
NUMBERS = st.integers().map(str) | st.floats().map(str)
CELLS = TEXT | NUMBERS | st.none() | st.booleans() | st.lists(TEXT, max_size=2)
TIMES = st.datetimes(datetime(1990, 1, 1), datetime(2030, 1, 1)).map(str) | NUMBERS | TEXT
#: Rows of which most can be read.
ROWS = st.fixed_dictionaries(
    {
        "user_id": st.sampled_from(["u", "v"]) | CELLS,
        "item_id": st.sampled_from(["a", "b", "c"]) | CELLS,
        "type": st.sampled_from(["click", "cart", "purchase"]) | CELLS,
        "timestamp": st.datetimes(datetime(2020, 1, 1), datetime(2025, 1, 1)).map(str) | TIMES,
    },
    optional={"amount": NUMBERS | CELLS, "event_id": CELLS, "category": CELLS, "price": CELLS, "device": CELLS},
)


@contextmanager
def _environment(values: dict[str, str]) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in Settings.model_fields:
            patch.delenv(PREFIX + name.upper(), raising=False)
        for name, value in values.items():
            patch.setenv(PREFIX + name.upper(), value)
        yield


@settings(deadline=None)
@given(st.dictionaries(st.sampled_from(sorted(Settings.model_fields)), TEXT | NUMBERS, max_size=6))
def test_settings_are_good_or_each_mistake_is_a_sentence_with_its_variable(values: dict[str, str]) -> None:
    problems: list[str] = []
    with _environment(values):
        try:
            told = load_settings()
        except SettingsError as error:
            problems = error.problems
        else:
            assert told.redis_timeout_ms + told.mongo_timeout_ms < told.deadline_ms
    for problem in problems:
        assert problem.startswith(PREFIX), problem
        assert problem.endswith("."), problem


def _import(content: bytes, name: str) -> Dataset | None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_bytes(content)
        try:
            source = read(path)
            columns, _ = choose(source.frame.columns, Columns())
            return build([source], columns, load_domain("ecommerce"), "toy", NOW).dataset
        except (DatasetError, MappingError) as error:
            sentence = str(error)
    assert sentence[-1] in ".:)", sentence
    return None


@settings(deadline=None)
@given(st.lists(ROWS, max_size=40))
def test_a_log_is_imported_and_becomes_columns_or_is_refused_with_a_sentence(rows: list[dict[str, object]]) -> None:
    dataset = _import("\n".join(json.dumps(row) for row in rows).encode(), "log.jsonl")
    if dataset is None:
        return
    try:
        split = split_by_time(dataset)
        vocabulary = build_vocabulary(dataset, split.validation)
        contract = build_contract(dataset, vocabulary, dataset.domain, split.validation, history_length=4, negatives=1)
    except ValueError as error:
        sentence = str(error)
    else:
        log = build_log(dataset, vocabulary, contract, split.validation)
        assert len(log.items) == len(dataset.events)
        assert log.items.max(initial=0) < contract.items
        assert all(np.all(np.diff(log.at[slice(*bounds)]) >= 0) for bounds in pairwise(log.offsets))
        return
    assert sentence.startswith("The data set toy "), sentence


@settings(deadline=None)
@example(b"a\rb", "log.csv")  # found by make fuzz
@given(st.binary(max_size=300), st.sampled_from(["log.csv", "log.tsv", "log.jsonl", "log.csv.gz", "log.parquet"]))
def test_bytes_that_are_no_log_are_refused_with_a_sentence(content: bytes, name: str) -> None:
    _import(content, name)
    _import(b"user_id,item_id,type,timestamp\n" + content, name)
