"""Training samples: windows over users' histories, and the decisions (models/decisions.py) taken inside them.

A *window* is a stretch of at most L events of one user, encoded once; causality lets every decision inside it see only
its own past. Windows overlap by half, and a decision belongs to the window in which at least L/2 past events (or all
there are) are visible, so that training sees histories as long as serving does.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from models.contract import PAD
from models.counter import Counter
from models.decisions import Decisions, against
from models.encode import POPULARITY_SCALE, Arrays, encode_values, hours
from models.log import Log
from models.negatives import Noise
from models.vocabulary import Ids

Rows = NDArray[np.int64]
Floats = NDArray[np.float32]
Bools = NDArray[np.bool_]

#: What a window shows of its events.
HISTORY = ("items", "types", "gaps", "values", "ages", "exposed", "exposures")
#: A batch of short windows has at most so many times the rows of one of full windows.
MAX_ROWS = 16
#: Room for moves in a batch, as a multiple of their mean number.
SLACK = 1.15
#: Moves that teach retrieval beside decisions, for each window of a batch: a softmax over the catalogue for every move
#: would take more than half of the time for a tenth of the loss. In pretraining all of them teach.
BESIDE = 8
#: Share of the windows learned from that hide what was shown: half of them all of it, the others from some slot on, or
#: up to it. For a service may not be told what was shown, or no longer, or not yet.
UNTOLD = 0.2


class Popularity:
    """How often an item had been acted on before a moment; training sees this, as the final count knows the label."""

    def __init__(self, log: Log) -> None:
        order = np.lexsort((log.at, log.items))
        offsets = np.searchsorted(log.items[order], np.arange(log.contract.items + 1))
        self._counter = Counter(offsets, log.at[order])

    def before(self, items: Ids, at: NDArray[np.float64]) -> Floats:
        """Scaled log popularity of each item just before each moment, any shape."""
        count = self._counter.before(items.astype(np.int64), at)
        return (np.log1p(count) / POPULARITY_SCALE).astype(np.float32)


class Windows:
    """Decisions grouped into windows, as padded batches.

    Args:
        log: the events; a window shows only events that its decisions may see.
        decisions: what is learned; None to learn the moves alone, as pretraining does.
        moves: decisions whose item is the next thing the user did (the positives of retrieval); not empty.
        per_window: at most this many decisions are drawn from a window each epoch.
        hard: the share of drawn items that are hard to tell from the real ones, see negatives.Noise.
    """

    def __init__(
        self, log: Log, decisions: Decisions | None, moves: Decisions, *, per_window: int = 0, hard: float = 0.0
    ) -> None:
        self.log = log
        self.per_window = per_window
        self._noise = Noise(log, moves.items, hard)
        self._popularity = Popularity(log)
        self._values = encode_values(log.types, log.values, log.contract)
        keys, self._moves, bounds = self._group(moves)
        self._keys, self._bounds, self._decisions = keys, bounds, None
        if decisions is not None:
            self._keys, self._decisions, self._bounds = self._group(decisions)
        place = np.minimum(np.searchsorted(keys, self._keys), len(keys) - 1)
        ends = np.stack([bounds[place], bounds[place + 1]], axis=1)  # [W, 2]
        self._move_bounds = np.where((keys[place] == self._keys)[:, None], ends, 0)
        first, last = self._span(np.arange(len(self)))
        self._sizes = bucket_of(last - first, log.contract.history_length)

    def __len__(self) -> int:
        """The number of windows."""
        return len(self._keys)

    @property
    def decisions(self) -> int:
        """The number of decisions in all windows, drawn items not counted; 0 where the moves alone are learned."""
        return 0 if self._decisions is None else len(self._decisions)

    def _group(self, decisions: Decisions) -> tuple[Rows, Decisions, Rows]:
        """Window keys [W] (user * 2**32 + window number), decisions sorted by window, bounds [W + 1]."""
        half = self.log.contract.history_length // 2
        late = decisions.before - 2 * half
        key = (decisions.user << 32) + np.maximum(-(-late // half), 0)
        order = np.argsort(key, kind="stable")
        keys, starts = np.unique(key[order], return_index=True)
        return keys, decisions.take(order), np.append(starts, len(key))

    def plan(self, size: int, rng: np.random.Generator | None = None) -> list[Rows]:
        """Which windows make up each batch: of one length bucket, as many slots as ``size`` full windows have.

        So that few shapes occur and little is padding, a bucket's batches all have the same number of rows, the last
        one filled up with -1. Shuffled by ``rng``, or in order without one.
        """
        batches = []
        for bucket in np.unique(self._sizes):
            windows = np.flatnonzero(self._sizes == bucket)
            if rng is not None:
                windows = rng.permutation(windows)
            rows = min(size * self.log.contract.history_length // int(bucket), MAX_ROWS * size)
            windows = np.pad(windows, (0, -len(windows) % rows), constant_values=-1)
            batches += list(windows.reshape(-1, rows))
        return batches if rng is None else [batches[i] for i in rng.permutation(len(batches))]

    def batches(self, size: int, rng: np.random.Generator | None = None) -> Iterator[Arrays]:
        """Batches as :meth:`plan` says, each trimmed to the length of its bucket."""
        for windows in self.plan(size, rng):
            yield self._trim(self.batch(windows, rng), int(self._sizes[windows[0]]))

    def _trim(self, arrays: Arrays, length: int) -> Arrays:
        """The newest ``length`` slots alone, and no more decisions and moves than a window of that bucket can have."""
        cut = self.log.contract.history_length - length
        for name in HISTORY:
            arrays[name] = arrays[name][:, cut:]
        for name in ("prefix", "move_prefix"):
            if name in arrays:
                arrays[name] = np.maximum(arrays[name] - cut, -1)
        return arrays

    def batch(self, windows: Rows, rng: np.random.Generator | None = None) -> Arrays:
        """Arrays of the windows (-1: an empty row): history inputs [B, L], decisions [B, D] and next moves [B, M]."""
        real = windows >= 0
        windows = np.maximum(windows, 0)
        length = self.log.contract.history_length
        first, last = self._span(windows)
        slot = first[:, None] + np.arange(length) - (length - (last - first))[:, None]  # [B, L]
        seen = (slot >= first[:, None]) & real[:, None]
        index = np.where(seen, slot, 0)
        log = self.log
        columns = {"items": log.items, "types": log.types, "gaps": log.gaps, "values": self._values}
        arrays: Arrays = {
            name: np.where(seen, column[index], PAD).astype(column.dtype) for name, column in columns.items()
        }
        arrays["gaps"][slot == first[:, None]] = 0  # what came before the window is out of sight
        arrays["ages"] = np.where(seen, hours(self._newest(first, last)[:, None] - log.at[index]), 0).astype(np.float32)
        bucket = self._sizes[windows[real]].max()  # an empty row must not give its batch another shape
        exposed = log.exposed.newest(index, log.contract.exposed)
        arrays["exposed"] = np.where(seen[..., None], exposed, PAD).astype(np.int32)
        arrays["exposures"] = np.where(seen, log.exposed.counts(index), 0).astype(np.int32)
        if rng is not None and log.contract.exposed:
            hidden = _untold(arrays["items"].shape, rng)
            arrays["exposed"][hidden], arrays["exposures"][hidden] = PAD, 0
        arrays |= self._moved(windows, real, first, last, bucket, rng)
        if self._decisions is not None:
            arrays |= self._decided(windows, real, first, last, bucket, rng)
        return arrays

    def _span(self, windows: Rows) -> tuple[Rows, Rows]:
        """First and last + 1 event of each window, as rows of the log."""
        half = self.log.contract.history_length // 2
        user, number = self._keys[windows] >> 32, self._keys[windows] & 0xFFFFFFFF
        start = self.log.offsets[user]
        first = start + number * half
        return first, np.maximum(np.minimum(first + 2 * half, self.log.offsets[user + 1]), first)

    def _newest(self, first: Rows, last: Rows) -> NDArray[np.float64]:
        """When the newest event of each window happened; NaN where there is none."""
        return np.where(last > first, self.log.at[np.maximum(last - 1, 0)], np.nan)

    def _decided(
        self, windows: Rows, real: Bools, first: Rows, last: Rows, bucket: int, rng: np.random.Generator | None
    ) -> Arrays:
        assert self._decisions is not None
        bounds = np.stack([self._bounds[windows], self._bounds[windows + 1]], axis=1) * real[:, None]
        most = int(np.diff(self._bounds)[self._sizes <= bucket].max(initial=1))
        rows, kept = _draw(bounds, min(most, self.per_window), rng)  # [B, D]
        copies = self.log.contract.negatives + 1
        chosen = self._decisions.take(rows.ravel())
        shape = (len(windows), rows.shape[1] * copies)
        drawn = np.zeros(shape, np.float32)
        if copies > 1:
            asked, chosen = chosen, against(chosen, self._noise.draw(chosen, _by(rng)))
            drawn = self._noise.odds(asked, chosen.items.reshape(-1, copies)).reshape(shape)
        kept = np.repeat(kept, copies, axis=1)
        return {
            "prefix": self._prefix(np.repeat(rows, copies, axis=1), self._decisions, first, last),
            "since": hours(chosen.at.reshape(shape) - self._newest(first, last)[:, None]),
            "candidates": np.where(kept, chosen.items.reshape(shape), PAD).astype(np.int32),
            "popularity": self._popularity.before(chosen.items, chosen.at).reshape(shape),
            "context": chosen.context.reshape(*shape, -1),
            "shown": chosen.shown.reshape(shape),
            "drawn": drawn,
            "labels": chosen.labels.reshape(*shape, -1),
            "weights": chosen.weights.reshape(*shape, -1) * kept[..., None],
            "amounts": np.where(kept[..., None], chosen.values.reshape(*shape, len(self.log.contract.values)), np.nan),
        }

    def _moved(
        self, windows: Rows, real: Bools, first: Rows, last: Rows, bucket: int, rng: np.random.Generator | None
    ) -> Arrays:
        sizes = self._move_bounds[:, 1] - self._move_bounds[:, 0]
        most = min(int(sizes[self._sizes <= bucket].max(initial=1)), self.log.contract.history_length)
        rows, kept = _draw(self._move_bounds[windows] * real[:, None], most, rng)  # [B, M]
        moves = self._moves.take(rows.ravel())
        # The rows of the batch that are moves, so that the catalogue is not compared with padding. There is room for
        # SLACK times the mean, or for BESIDE a window; what a batch has beyond that is left out at random, without a
        # generator always the same.
        places = np.flatnonzero(kept)
        mean = max(float(sizes[self._sizes == bucket].mean()), 1.0)
        room = min(int(SLACK * mean * len(windows)) + 1, kept.size)
        if self._decisions is not None:
            room = min(room, BESIDE * len(windows))
        if len(places) > room:
            places = _by(rng).choice(places, room, replace=False)
        picked = np.full(room, -1, np.int32)
        picked[: len(places)] = places
        return {
            "moves": np.where(kept, moves.items.reshape(rows.shape), PAD).astype(np.int32),
            "move_prefix": self._prefix(rows, self._moves, first, last),
            "move_since": hours(moves.at.reshape(rows.shape) - self._newest(first, last)[:, None]),
            "move_context": moves.context.reshape(*rows.shape, -1),
            "picked": picked,
        }

    def _prefix(self, rows: Rows, decisions: Decisions, first: Rows, last: Rows) -> Ids:
        """The slot of the newest event a decision may see [B, D]; a slot before the window's first event sees none."""
        length = self.log.contract.history_length
        newest = self.log.offsets[decisions.user[rows]] + decisions.before[rows] - 1
        return np.asarray(np.clip(newest - last[:, None] + length, -1, length - 1), np.int32)


def bucket_of(events: Rows, length: int) -> Rows:
    """The padded length for windows of so many events: a power of two from 8 up, at most ``length``."""
    powers = 8 * 2 ** np.arange(16)
    sizes = np.append(powers[powers < length], length)
    return sizes[np.searchsorted(sizes, events)]


def _by(rng: np.random.Generator | None) -> np.random.Generator:
    """What to draw by; without one, as for validation, the draws are the same each time."""
    return rng or np.random.default_rng(0)


def _untold(shape: tuple[int, ...], rng: np.random.Generator) -> Bools:
    """Which slots [B, L] of windows are not told what was shown, see UNTOLD."""
    windows, length = shape
    slots, cut = np.arange(length), rng.integers(0, length, (windows, 1))
    ways = np.stack([np.ones(shape, np.bool_), slots >= cut, slots < cut])
    way = rng.choice(3, windows, p=(0.5, 0.25, 0.25))
    return ways[way, np.arange(windows)] & (rng.random((windows, 1)) < UNTOLD)


def _draw(bounds: Rows, width: int, rng: np.random.Generator | None) -> tuple[Rows, Bools]:
    """Up to ``width`` rows from each [start, end) as a padded matrix [B, width], and which entries are real."""
    size = bounds[:, 1] - bounds[:, 0]
    width = max(width, 1)
    if rng is None:
        offset = np.zeros(len(size), np.int64)
    else:  # a random stretch, which keeps the decisions of one page together
        offset = (rng.random(len(size)) * (np.maximum(size - width, 0) + 1)).astype(np.int64)
    place = offset[:, None] + np.arange(width)
    kept = place < size[:, None]
    return np.where(kept, bounds[:, :1] + place, 0), kept
