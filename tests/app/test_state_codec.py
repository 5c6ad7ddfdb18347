"""The bytes of a cached state: they come back as they went in, and nothing else is taken for a state."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.state_codec import CorruptState, StateCodec
from tests.integration.examples import CONTRACT, example_state

G = bytes(range(16))
CODEC = StateCodec(CONTRACT)


def test_a_state_comes_back_trimmed_to_its_length() -> None:
    generation, cached = CODEC.unpack("u1", CODEC.pack("u1", G, example_state(total=7, computed_at=1000.25)))
    assert generation == G
    assert cached.state.dtype == np.float16
    assert cached.state.tolist() == [[1, 2, 3, 4], [5, 6, 7, 8], [9, 10, 11, 12]]
    assert (cached.length, cached.total, cached.last_at, cached.computed_at) == (3, 7, 100.5, 1000.25)
    assert cached.profile.tolist() == [2, 3]


def test_a_blob_is_header_profile_and_valid_rows_only() -> None:
    """8 bytes of magic and checksum, 64 of facts, 2 profile ids of 4, 3 rows of 4 float16."""
    assert len(CODEC.pack("u1", G, example_state())) == 8 + 64 + 2 * 4 + 3 * 4 * 2


def test_padding_goes_to_the_left() -> None:
    _, cached = CODEC.unpack("u1", CODEC.pack("u1", G, example_state()))
    padded = cached.padded(5)
    assert padded[:, 0].tolist() == [0, 0, 1, 5, 9]
    assert example_state().padded(8).tolist() == example_state().state.tolist()


def test_an_empty_history_has_a_state_of_no_rows() -> None:
    blob = CODEC.pack("u1", G, example_state(total=0, length=0, last_at=None))
    _, cached = CODEC.unpack("u1", blob)
    assert cached.state.shape == (0, 4)
    assert cached.last_at is None
    assert cached.padded(8).sum() == 0


def test_a_state_of_another_user_is_corrupt() -> None:
    with pytest.raises(CorruptState, match="another contract or user"):
        CODEC.unpack("u2", CODEC.pack("u1", G, example_state()))


def test_a_state_of_another_contract_is_corrupt() -> None:
    other = StateCodec(replace(CONTRACT, negatives=3))
    with pytest.raises(CorruptState, match="another contract or user"):
        other.unpack("u1", CODEC.pack("u1", G, example_state()))


@pytest.mark.parametrize("place", range(0, 104, 7))
def test_one_changed_bit_anywhere_is_noticed(place: int) -> None:
    blob = bytearray(CODEC.pack("u1", G, example_state()))
    blob[place] ^= 4
    with pytest.raises(CorruptState):
        CODEC.unpack("u1", bytes(blob))


@given(st.binary(max_size=200))
def test_garbage_is_corrupt_and_nothing_worse(garbage: bytes) -> None:
    for blob in (garbage, b"FTS1" + garbage, CODEC.pack("u1", G, example_state())[: len(garbage)]):
        with pytest.raises(CorruptState):
            CODEC.unpack("u1", blob)
