"""What an HTTP process and the model process say to each other, and how it becomes bytes.

Pickle: only the socket of our own user is read (see :mod:`foretell.model_process`), and it is cheap, for what the
messages of one frame share is written once. Arrays travel as their bytes, which takes half the time of numpy's way.
"""

from __future__ import annotations

import io
import pickle
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from app.errors import ForetellError
from app.seats import Taken


class Hello(NamedTuple):
    """The first message of an HTTP process: the seats that its newcomers had in the model process before this one."""

    taken: Taken


class Greeting(NamedTuple):
    """The answer to it, and the first message of the model process.

    Attributes:
        version: of the model; ``digest``: of its manifest.
        agreed: whether the newcomers have the seats that they had.
    """

    version: str
    digest: str
    device: str
    places: int
    explains: bool
    agreed: bool


class Ask(NamedTuple):
    """A call of a method of the model: ``left`` are the seconds to its deadline, None where the method knows none."""

    number: int
    method: str
    left: float | None
    arguments: tuple[Any, ...]


class Keep(NamedTuple):
    """A selection, which later messages call by its number: its mask [size], eight to a byte."""

    number: int
    bits: bytes
    size: int


class Drop(NamedTuple):
    """Nobody asks with this selection any more."""

    number: int


class Marked(NamedTuple):
    """:class:`app.selection.Allowed` with the number of its selection."""

    number: int
    without: NDArray[Any]


class Answer(NamedTuple):
    """The result of a call."""

    number: int
    result: Any


class Failure(NamedTuple):
    """The error of a call; None for one that nobody expected, which the log of the model process has."""

    number: int
    error: ForetellError | None


class Load(NamedTuple):
    """How busy the model is: a batch of n rows takes a * n + b seconds; requests inside the other HTTP processes."""

    a: float
    b: float
    others: int


#: What travels together: ``head`` is a :class:`Load` from the model, and the number of requests inside towards it.
Frame = tuple[Any, Sequence[Any]]


def dumps(frame: Frame) -> bytes:
    """A frame as bytes."""
    file = io.BytesIO()
    pickler = pickle.Pickler(file, 5)
    pickler.dispatch_table = {np.ndarray: _reduce}
    pickler.dump(frame)
    return file.getvalue()


def loads(data: memoryview) -> Frame:
    """The frame. Its arrays are not to be written to."""
    frame: Frame = pickle.loads(data)
    return frame


def _reduce(array: NDArray[Any]) -> tuple[Any, ...]:
    if array.ndim == 1:
        return np.frombuffer, (array.tobytes(), array.dtype.char)
    return _shaped, (array.tobytes(), array.dtype.char, array.shape)


def _shaped(data: bytes, kind: str, shape: tuple[int, ...]) -> NDArray[Any]:
    return np.frombuffer(data, kind).reshape(shape)
