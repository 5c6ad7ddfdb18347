"""A user's encoded history as bytes: what the cache holds of it, and how to tell that it is the right thing.

One blob, little-endian: magic (4), CRC-32 of the rest (4), contract fingerprint (8), generation (16), digest of the
user id (16), computed_at f64, last_at f64 (NaN for none), total u32, length u16, number of profile ids u16, then the
profile ids as int32 and ``length`` rows of the state, oldest first. Nothing in it is trusted before all of that fits.
"""

from __future__ import annotations

import math
import struct
import zlib
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract import Contract
from models.vocabulary import Ids

GENERATION_BYTES = 16

_MAGIC = b"FTS1"
_HEAD = struct.Struct("<4sI")
_BODY = struct.Struct("<8s16s16sddIHH")


@dataclass(frozen=True, slots=True, eq=False)
class CachedState:
    """One user's encoded history and what a request needs to know beside it.

    Attributes:
        state: [length, width], the newest event in the last row; read from the cache it cannot be written to.
        length: rows of the state.
        total: events stored for the user.
        last_at: when the newest event happened, or None without events.
        profile: ids of the user's profile, as ``encode_profile`` gave them.
        computed_at: seconds since 1970 UTC, taken before the history was read.
    """

    state: NDArray[Any]
    length: int
    total: int
    last_at: float | None
    profile: Ids
    computed_at: float

    def padded(self, rows: int) -> NDArray[Any]:
        """The state as the model takes it: [rows, width], padded with zeros on the left."""
        whole = np.zeros((rows, self.state.shape[1]), self.state.dtype)
        whole[rows - self.length :] = self.state[len(self.state) - self.length :]
        return whole


class CorruptState(Exception):
    """Bytes that are not a state of this user under this contract."""


class StateCodec:
    """Packs and unpacks the states of one contract."""

    def __init__(self, contract: Contract) -> None:
        self._contract = bytes.fromhex(contract.fingerprint())
        self._rows, self._width = contract.state_shape
        self._dtype = np.dtype(contract.state_dtype).newbyteorder("<")
        self._profile = sum(field.source == "user" for field in contract.fields)

    def pack(self, user_id: str, generation: bytes, cached: CachedState) -> bytes:
        """The blob. Rows beyond the newest ``length`` (padding) are left out."""
        rows = cached.state[len(cached.state) - cached.length :]
        body = _BODY.pack(
            self._contract,
            generation,
            _digest(user_id),
            cached.computed_at,
            math.nan if cached.last_at is None else cached.last_at,
            cached.total,
            cached.length,
            len(cached.profile),
        )
        body += np.asarray(cached.profile, "<i4").tobytes() + np.asarray(rows, self._dtype).tobytes()
        return _HEAD.pack(_MAGIC, zlib.crc32(body)) + body

    def unpack(self, user_id: str, blob: bytes) -> tuple[bytes, CachedState]:
        """The generation a blob was computed under, and the state. Raises CorruptState for anything else."""
        start = _HEAD.size + _BODY.size
        if len(blob) < start or _HEAD.unpack_from(blob) != (_MAGIC, zlib.crc32(memoryview(blob)[_HEAD.size :])):
            raise CorruptState("no state, or a damaged one")
        contract, generation, digest, computed_at, last_at, total, length, profile = _BODY.unpack_from(blob, _HEAD.size)
        if contract != self._contract or digest != _digest(user_id):
            raise CorruptState("the state of another contract or user")
        rows_at = start + 4 * profile
        if (
            profile != self._profile
            or length > self._rows
            or len(blob) != rows_at + length * self._width * self._dtype.itemsize
        ):
            raise CorruptState("a state of another shape")
        rows = np.frombuffer(blob, self._dtype, length * self._width, rows_at).reshape(length, self._width)
        return generation, CachedState(
            state=rows,
            length=length,
            total=total,
            last_at=None if math.isnan(last_at) else last_at,
            profile=np.frombuffer(blob, "<i4", profile, start),
            computed_at=computed_at,
        )


def _digest(user_id: str) -> bytes:
    return blake2b(user_id.encode(), digest_size=16).digest()
