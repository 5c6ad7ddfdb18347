"""What is found out before TensorFlow is imported."""

from __future__ import annotations

from dataclasses import replace

import pytest

from app.loading import wants_onednn
from app.settings import Settings
from tests.app.fakes import CONTRACT


@pytest.mark.parametrize(
    ("items", "index_from", "xla", "wanted"),
    [
        (100, 101, True, False),  # the whole catalogue is scored, by XLA
        (100, 100, True, True),  # an index multiplies bytes
        (100, 0, True, False),  # never an index
        (100, 0, False, True),  # nothing is compiled
    ],
)
def test_onednn_is_left_out_where_nothing_that_is_asked_all_the_time_needs_it(
    items: int, index_from: int, xla: bool, wanted: bool
) -> None:
    contract = replace(CONTRACT, items=items)
    assert wants_onednn(contract, Settings(index_from=index_from, xla=xla)) is wanted
