"""Events and context to model inputs: the only feature code, called by training, evaluation and the service alike.

Pure numpy. Everything here is a function of its arguments, so what the service computes for a user is, bit for bit,
what evaluation computed for the same events.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.contract import EXPOSURES, FIRST, GAP_BUCKETS, ITEM_BASE, OLDEST, PAD, STATE_TAIL, TYPE_BASE, Contract
from models.vocabulary import Ids, Vocabulary

Arrays = dict[str, NDArray[Any]]

#: Popularity counts enter the model as log1p(count) / POPULARITY_SCALE.
POPULARITY_SCALE = 10.0


class Event(NamedTuple):
    """One thing a user did: ``at`` in seconds since 1970 UTC, ``value`` as its behaviour defines it, and the ids of the
    items that were ``exposed`` to the user since the event before, oldest first; None where nobody said."""

    item_id: str
    type: str
    at: float
    value: float | None = None
    exposed: Sequence[str] | None = None


class Moment(NamedTuple):
    """Where and when a question is asked: ids of the context fields [F], and hours ``since`` the user's newest event
    (0 where there is none)."""

    fields: Ids
    since: float


@dataclass(frozen=True, slots=True)
class History:
    """A user's events as columns, oldest first, each of shape [n]; ``values`` are NaN where an event carries none.

    ``exposed`` [n, E] are the newest items that the user was shown before each event, padded on the left, and
    ``exposures`` are 1 + the number of all, at most 1 + EXPOSURES, or 0 where nobody said.
    """

    items: Ids
    types: Ids
    at: NDArray[np.float64]
    values: NDArray[np.float32]
    exposed: Ids
    exposures: Ids

    def __len__(self) -> int:
        return len(self.items)

    def take(self, index: Any) -> History:
        """The events at ``index`` (a slice, positions or a mask)."""
        return History(
            items=self.items[index],
            types=self.types[index],
            at=self.at[index],
            values=self.values[index],
            exposed=self.exposed[index],
            exposures=self.exposures[index],
        )

    @property
    def last_at(self) -> float | None:
        """When the newest event happened; None without events."""
        return float(self.at[-1]) if len(self.at) else None


def to_history(events: Iterable[Event], vocabulary: Vocabulary, contract: Contract) -> History:
    """Look up the ids of events that are already in time order (oldest first)."""
    rows = list(events)
    type_ids = {name: contract.type_id(name) for name in {row.type for row in rows}}
    exposed, exposures = np.zeros((len(rows), contract.exposed), np.int32), np.zeros(len(rows), np.int32)
    for place, row in enumerate(rows) if contract.exposed else ():
        if row.exposed is not None:
            newest = vocabulary.item_ids(row.exposed[-contract.exposed :])
            exposed[place, contract.exposed - len(newest) :] = newest
            exposures[place] = 1 + min(len(row.exposed), EXPOSURES)
    return History(
        items=vocabulary.item_ids(row.item_id for row in rows),
        types=np.fromiter((type_ids[row.type] for row in rows), np.int32, len(rows)),
        at=np.fromiter((row.at for row in rows), np.float64, len(rows)),
        values=np.fromiter((np.nan if row.value is None else row.value for row in rows), np.float32, len(rows)),
        exposed=exposed,
        exposures=exposures,
    )


def encode_history(history: History, contract: Contract) -> Arrays:
    """The inputs of ``encode`` for one user, each [L]: ``items``, ``types``, ``gaps`` (int32), ``values`` and ``ages``;
    and where the model knows what was shown, ``exposed`` [L, E] and ``exposures``.

    Ages are the hours from each event to the newest one. Only the newest L events count; they are padded on the left.
    The gap of the oldest visible event is unknown (0), whatever came before it, so that a longer history changes
    nothing.
    """
    length = contract.history_length
    n = min(len(history), length)
    arrays: Arrays = {
        "items": np.full(length, PAD, np.int32),
        "types": np.full(length, PAD, np.int32),
        "gaps": np.zeros(length, np.int32),
        "values": np.zeros(length, np.float32),
        "ages": np.zeros(length, np.float32),
    }
    if contract.exposed:
        arrays["exposed"] = np.full((length, contract.exposed), PAD, np.int32)
        arrays["exposures"] = np.zeros(length, np.int32)
    if n:
        arrays["items"][-n:] = history.items[-n:]
        arrays["types"][-n:] = history.types[-n:]
        arrays["values"][-n:] = encode_values(history.types[-n:], history.values[-n:], contract)
        if contract.exposed:
            arrays["exposed"][-n:] = history.exposed[-n:]
            arrays["exposures"][-n:] = history.exposures[-n:]
        arrays["ages"][-n:] = hours(history.at[-1] - history.at[-n:])
        if n > 1:
            arrays["gaps"][-n + 1 :] = gap_bucket(np.diff(history.at[-n:]))
    return arrays


def encode_values(types: Ids, values: NDArray[np.float32], contract: Contract) -> NDArray[np.float32]:
    """Event values, shape [n], as log1p(value / scale of its kind); 0 where there is none or it is negative."""
    scales = np.full(FIRST + len(contract.behaviours), np.inf, np.float32)
    for behaviour in contract.behaviours:
        if behaviour.value in contract.value_scales and behaviour.value is not None:
            scales[contract.type_id(behaviour.name)] = contract.value_scales[behaviour.value]
    known = np.where(np.isfinite(values), values, np.float32(0.0))
    return np.log1p(np.maximum(known, 0.0) / scales[types]).astype(np.float32)


def hours(seconds: NDArray[np.float64]) -> NDArray[np.float32]:
    """Seconds, any shape, as hours from -OLDEST to OLDEST; 0 for NaN."""
    known = np.where(np.isnan(seconds), 0.0, seconds)
    return np.minimum(np.maximum(known / 3600.0, -OLDEST), OLDEST).astype(np.float32)


def gap_bucket(seconds: NDArray[np.float64]) -> Ids:
    """Buckets of time gaps, any shape: 1 + floor(log2(1 + seconds)), negative gaps as 0 seconds."""
    exponent = np.frexp(1.0 + np.maximum(seconds, 0.0))[1]  # 1 + floor(log2), exactly
    return np.asarray(np.minimum(exponent, GAP_BUCKETS - 1), np.int32)


def encode_profile(profile: Mapping[str, Any], vocabulary: Vocabulary, contract: Contract) -> Ids:
    """Ids of the fields with source ``user``, in contract order; PAD where the profile says nothing."""
    names = [field.name for field in contract.fields if field.source == "user"]
    return np.array([vocabulary.field_id(name, profile.get(name)) for name in names], np.int32)


def encode_context(
    request: Mapping[str, Any],
    profile: Sequence[int] | Ids,
    at: float,
    last_at: float | None,
    vocabulary: Vocabulary,
    contract: Contract,
) -> Moment:
    """One row of the ``context`` input, in contract order, and of ``since``.

    Its clock is :func:`encode_clock` of a single moment, without the cost of arrays: every request needs one.

    Args:
        request: what the client says of the moment, e.g. ``{"device": "mobile"}``.
        profile: what :func:`encode_profile` returned.
        at: the time of the request.
        last_at: the time of the user's newest event, or None.
    """
    row = np.zeros(len(contract.fields), np.int32)
    profile_ids = iter(profile)
    for place, field in enumerate(contract.fields):
        if field.source == "user":
            row[place] = next(profile_ids)
        elif field.source == "request":
            row[place] = vocabulary.field_id(field.name, request.get(field.name))
        elif field.name == "hour":
            row[place] = 2 + int(at // 3600) % 24
        elif field.name == "weekday":
            row[place] = 2 + (int(at // 86400) + 3) % 7
        elif last_at is not None:
            row[place] = min(math.frexp(1.0 + max(at - last_at, 0.0))[1], GAP_BUCKETS - 1)
    since = 0.0 if last_at is None else min(max(at - last_at, 0.0) / 3600.0, OLDEST)
    return Moment(row, float(np.float32(since)))


def encode_clock(at: NDArray[np.float64], last_at: NDArray[np.float64], contract: Contract) -> Ids:
    """The clock fields of n moments, shape [n, F]; -1 in the columns of other fields.

    ``hour`` is 2..25 and ``weekday`` 2..8 (Monday first), both UTC; ``since_last`` is the gap bucket from the newest
    event (``last_at``, NaN for none, which is PAD).
    """
    rows = np.full((len(at), len(contract.fields)), -1, np.int32)
    seconds = np.floor(at).astype(np.int64)
    for place, field in enumerate(contract.fields):
        if field.source != "clock":
            continue
        if field.name == "hour":
            rows[:, place] = 2 + seconds // 3600 % 24
        elif field.name == "weekday":
            rows[:, place] = 2 + (seconds // 86400 + 3) % 7  # 1970-01-01 was a Thursday
        else:
            gaps = gap_bucket(np.nan_to_num(at - last_at, nan=0.0))
            rows[:, place] = np.where(np.isnan(last_at), PAD, gaps)
    return rows


def state_events(state: NDArray[Any]) -> tuple[Ids, Ids]:
    """Item ids and type ids, each [n], of the events behind the rows of a state, shape [n, width]."""
    tail = state[:, -STATE_TAIL:].astype(np.int32)
    return tail[:, 2] * ITEM_BASE + tail[:, 3], tail[:, 1] % TYPE_BASE


def encode_items(
    categories: Sequence[Sequence[str]],
    prices: Sequence[float | None],
    popularity: Sequence[float] | NDArray[np.float64],
    vocabulary: Vocabulary,
    contract: Contract,
) -> Arrays:
    """Content of n items for ``embed_items``: ``categories`` int32 [n, levels] and ``numbers`` float32 [n, 3].

    The numbers are the standardised log1p(price), whether a price is known, and log1p(popularity) / POPULARITY_SCALE,
    where popularity counts the item's events in the training data (0 for an item that came later).
    """
    price = np.array([np.nan if p is None else p for p in prices], np.float64)
    known = np.isfinite(price) & (price >= 0)
    standard = (np.log1p(np.where(known, price, 0.0)) - contract.price_mean) / contract.price_std
    numbers = np.stack(
        [
            np.where(known, standard, 0.0),
            known,
            np.log1p(np.asarray(popularity, np.float64)) / POPULARITY_SCALE,
        ],
        axis=1,
    )
    ids = np.array([vocabulary.category_ids(path) for path in categories], np.int32)
    return {
        "categories": ids.reshape(len(price), len(contract.category_sizes)),
        "numbers": numbers.astype(np.float32).reshape(len(price), 3),
    }
