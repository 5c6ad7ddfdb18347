"""From a network's logit to a probability that is right on average: a rising line with bends by target and segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import tensorflow as tf
from numpy.typing import NDArray

Tensor = Any
Floats = NDArray[Any]

#: Segments of history length (events that the state holds): none, a few, some, many. The first of each.
EDGES = (0, 1, 5, 20)
SEGMENTS = ("0", "1-4", "5-19", "20+")
#: Points that a line may have at most.
KNOTS = 64
#: The least slope: what the network ranks higher stays higher.
LEAST_SLOPE = 0.01


@dataclass(frozen=True, slots=True)
class Line:
    """A rising piecewise-linear function of a logit: points (x, y), and beyond the ends the slope of the last piece.

    Raises:
        ValueError: fewer than two points, more than KNOTS, or a point that is not to the right of and above the last.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]

    def __post_init__(self) -> None:
        if not (len(self.x) == len(self.y) and 2 <= len(self.x) <= KNOTS):
            raise ValueError(f"A calibration line has 2 to {KNOTS} points, this one {len(self.x)} and {len(self.y)}.")
        if not (np.isfinite([*self.x, *self.y]).all() and min(*np.diff(self.x), *np.diff(self.y)) > 0):
            raise ValueError("A calibration line must rise from each of its points to the next.")

    def __call__(self, logits: Floats) -> Floats:
        """The line at logits of any shape, in their precision."""
        x, y, slope = (column.astype(logits.dtype) for column in self.pieces())
        piece = np.searchsorted(x[1:], logits, side="right")
        return np.asarray(y[piece] + slope[piece] * (logits - x[piece]))

    def pieces(self) -> tuple[Floats, Floats, Floats]:
        """Where each of K - 1 pieces begins, its height there, and its slope, float64; the outer ones have no end."""
        x, y = np.asarray(self.x, np.float64), np.asarray(self.y, np.float64)
        return x[:-1], y[:-1], np.diff(y) / np.diff(x)


#: What changes nothing, to the last bit.
IDENTITY = Line((0.0, 1.0), (0.0, 1.0))


def segment_of(lengths: NDArray[Any]) -> NDArray[np.int64]:
    """The segment of each history length (events in the state, at most ``history_length``), any shape."""
    return np.asarray(np.searchsorted(EDGES, lengths, side="right") - 1, np.int64)


class Calibration:
    """A line for every target and segment, applied to neutral logits before the place on the page comes in; and a
    line for every value, applied to the log of its forecast size.

    Args:
        lines: by target, in the contract's order, one :class:`Line` for each of SEGMENTS.
        values: by value; one that is not there stays as it is.

    Raises:
        ValueError: a target that has not a line for every segment.
    """

    def __init__(self, lines: Mapping[str, Sequence[Line]], values: Mapping[str, Line] | None = None) -> None:
        for target, row in lines.items():
            if len(row) != len(SEGMENTS):
                raise ValueError(f"The calibration of {target} has {len(row)} lines for {len(SEGMENTS)} segments.")
        self.lines = {target: tuple(row) for target, row in lines.items()}
        self.values = dict(values or {})
        most = max((len(line.x) for row in self.lines.values() for line in row), default=2)
        shape = (len(SEGMENTS), len(self.lines), most - 1)  # [S, T, P]
        self._starts = np.full(shape, np.inf, np.float32)  # what a line lacks of pieces, no logit reaches
        self._pieces = np.zeros((*shape, 3), np.float32)  # start, height, slope
        for t, row in enumerate(self.lines.values()):
            for s, line in enumerate(row):
                count = len(line.x) - 1
                self._pieces[s, t, :count] = np.stack(line.pieces(), axis=-1)
                self._starts[s, t, :count] = self._pieces[s, t, :count, 0]

    @classmethod
    def none(cls, targets: Sequence[str]) -> Calibration:
        """The calibration that leaves every logit as it is."""
        return cls({target: (IDENTITY,) * len(SEGMENTS) for target in targets})

    def apply(self, logits: Floats, lengths: NDArray[Any]) -> NDArray[np.float32]:
        """Calibrated logits [R, T] of rows with logits [R, T] and history lengths [R]; in float32, as served."""
        logits, segment = np.asarray(logits, np.float32), segment_of(lengths)
        found = np.empty_like(logits)
        for t, row in enumerate(self.lines.values()):
            for s, line in enumerate(row):
                found[segment == s, t] = line(logits[segment == s, t])
        return found

    def __call__(self, logits: Tensor, lengths: Tensor) -> Tensor:
        """The same as a part of a TensorFlow graph: logits [B, C, T] and lengths [B] -> [B, C, T]."""
        segment = tf.searchsorted(tf.constant(EDGES, lengths.dtype), lengths, side="right") - 1  # [B]
        pieces = tf.gather(tf.constant(self._pieces), segment)  # [B, T, P, 3]
        if pieces.shape[2] == 1:  # straight lines need no search
            start, height, slope = tf.unstack(pieces[:, None, :, 0], axis=-1)  # [B, 1, T]
            return height + slope * (logits - start)
        z = tf.transpose(logits, [0, 2, 1])  # [B, T, C]
        bends = tf.gather(tf.constant(self._starts[..., 1:]), segment)  # [B, T, P - 1]
        piece = tf.searchsorted(bends, z, side="right")  # [B, T, C]
        start, height, slope = tf.unstack(tf.gather(pieces, piece, batch_dims=2), axis=-1)  # [B, T, C]
        return tf.transpose(height + slope * (z - start), [0, 2, 1])  # [B, C, T]

    def sized(self, name: str, log_size: Tensor) -> Tensor:
        """The calibrated log of a value's forecast size, as a part of a TensorFlow graph, any shape; straight lines."""
        if name not in self.values:
            return log_size
        start, height, slope = (float(column[0]) for column in self.values[name].pieces())
        return height + slope * (log_size - start)

    def to_json(self) -> dict[str, Any]:
        """Points by target and segment, for the run folder; :meth:`from_json` reads them back to the last bit."""
        return {
            "targets": {
                target: {name: _points(line) for name, line in zip(SEGMENTS, row, strict=True)}
                for target, row in self.lines.items()
            },
            "values": {name: _points(line) for name, line in self.values.items()},
        }

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Calibration:
        """Read what :meth:`to_json` wrote. Raises ValueError or KeyError where a part is missing or makes no sense."""
        lines = {target: [_line(row[name]) for name in SEGMENTS] for target, row in data["targets"].items()}
        return cls(lines, {name: _line(points) for name, points in data["values"].items()})


def _points(line: Line) -> dict[str, list[float]]:
    return {"x": list(line.x), "y": list(line.y)}


def _line(points: Mapping[str, Sequence[float]]) -> Line:
    return Line(tuple(points["x"]), tuple(points["y"]))
