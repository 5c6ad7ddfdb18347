"""A dataset as columns of ids: what training and evaluation read, and how the contract is derived from it.

Users are contiguous and in order; within a user, events are ordered by (time, event id), as the service orders them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import polars as pl
from numpy.typing import NDArray

from models.artifact import Artifact
from models.contract import CLOCK_FIELDS, EXPOSED, FIRST, GAP_BUCKETS, ITEM_BASE, PAD, TYPE_BASE, Contract, Field
from models.counter import Counter, Times
from models.datasets.dataset import Dataset
from models.domain import Domain
from models.encode import Arrays, encode_clock, encode_items, gap_bucket
from models.exposures import Exposed, exposures_before
from models.vocabulary import Ids, Vocabulary

#: Values of a context field beyond the most frequent ones are UNKNOWN.
FIELD_VALUES = 256
CATEGORY_LEVELS = 3
#: Where a data set's columns of each source begin.
PREFIXES = {"request": "context_", "user": "profile_"}
CLOCK_SIZES = {"hour": FIRST + 24, "weekday": FIRST + 7, "since_last": GAP_BUCKETS}


@dataclass(frozen=True, slots=True)
class Split:
    """Time split: training before ``validation``, validation before ``test``, test until the end (seconds, UTC).

    After a ``refit`` (see train.refit) what was chosen on the validation has been learned again up to the test.
    """

    validation: float
    test: float
    refit: bool = False

    @classmethod
    def of(cls, artifact: Artifact) -> Split:
        """The split that a published model knows."""
        return cls(**artifact.manifest["split"])

    @property
    def learned(self) -> float:
        """Everything learned or counted is from before this moment."""
        return self.test if self.refit else self.validation


@dataclass(frozen=True, slots=True)
class Log:
    """Events of U users as columns of E rows, plus what is known of users and items.

    Attributes:
        users: external ids [U]; ``offsets`` [U + 1] bounds each user's events.
        items, types, at, values, gaps: event columns [E]; values are NaN where there are none; gaps are buckets
            (0 for a user's first event). ``exposed`` knows what was shown before each of them.
        request: ids of the request fields of each event [E, F], 0 in other columns.
        profiles: ids of the user fields of each user [U, F], 0 in other columns.
        content: categories [V, levels] and numbers [V, 3] of every item id, PAD and UNKNOWN included.
    """

    contract: Contract
    vocabulary: Vocabulary
    users: list[str]
    offsets: NDArray[np.int64]
    items: Ids
    types: Ids
    at: Times
    values: NDArray[np.float32]
    gaps: Ids
    exposed: Exposed
    request: Ids
    profiles: Ids
    content: Arrays

    def context(self, user: NDArray[np.int64], at: Times, last_at: Times, request: Ids) -> Ids:
        """Context rows [n, F] of n moments, given their users, times and request fields."""
        clock = encode_clock(at, last_at, self.contract)
        return np.where(clock >= 0, clock, request + self.profiles[user]).astype(np.int32)

    def events_before(self, user: NDArray[np.int64], at: Times) -> NDArray[np.int64]:
        """How many events each user has strictly before a moment, shape [n]."""
        return Counter(self.offsets, self.at).before(user, at)

    def last_at(self, user: NDArray[np.int64], count: NDArray[np.int64]) -> Times:
        """Time of each user's count-th event (1-based), NaN for count 0."""
        index = np.maximum(self.offsets[user] + count - 1, 0)
        return np.where(count > 0, self.at[index] if len(self.at) else np.nan, np.nan)


def split_by_time(dataset: Dataset, validation: float = 0.1, test: float = 0.1) -> Split:
    """Cut points that leave the last ``test`` share of events for testing and the share before it for validation.

    Raises:
        ValueError: the events lie at fewer than three times, or so that less than a third is left for training.
    """
    moments, counts = np.unique(dataset.events["at"].dt.epoch("ms").to_numpy(), return_counts=True)
    earlier = np.cumsum(counts) - counts  # events before each moment
    cuts = np.searchsorted(earlier, [len(dataset.events) * share for share in (1 - validation - test, 1 - test)])
    second = min(int(cuts[1]), len(moments) - 1)
    first = min(int(cuts[0]), second - 1)
    if first < 1 or earlier[first] < len(dataset.events) / 3:
        raise ValueError(
            f"The data set {dataset.name} cannot be split by time into training, validation and test: "
            f"its {len(dataset.events):,} events lie at only {len(moments):,} times, or most of them at the last ones."
        )
    return Split(float(moments[first]) / 1000.0, float(moments[second]) / 1000.0)


def build_vocabulary(dataset: Dataset, before: float) -> Vocabulary:
    """Every item of the catalogue; context values seen before ``before``; category names of each level."""
    seen = dataset.events.filter(pl.col("at").dt.epoch("ms") < before * 1000)
    fields: dict[str, list[str]] = {}
    for frame, prefix in ((seen, PREFIXES["request"]), (dataset.users, PREFIXES["user"])):
        for column in frame.columns:
            if column.startswith(prefix):
                counts = frame[column].drop_nulls().value_counts(sort=True)
                name, frequent = column.removeprefix(prefix), counts[column].head(FIELD_VALUES).to_list()
                fields[name] = sorted({*fields.get(name, []), *frequent})
    paths = dataset.items["categories"].to_list()
    depth = min(CATEGORY_LEVELS, max((len(p) for p in paths if p), default=0))
    levels = [sorted({p[level] for p in paths if p and len(p) > level}) for level in range(depth)]
    return Vocabulary(dataset.items["item_id"].to_list(), fields, levels)


def build_contract(
    dataset: Dataset,
    vocabulary: Vocabulary,
    domain: Domain,
    before: float,
    *,
    history_length: int,
    negatives: int,
) -> Contract:
    """The contract of a data set, every statistic of its events from the time before ``before`` alone.

    A behaviour of the domain that never happens in the data is no target: there is nothing to learn about it.
    ``state_shape`` is a placeholder until a network says what it needs.

    Raises:
        ValueError: no target of the domain happens at all, or there are more items or behaviours than a state can name.
    """
    if len(domain.behaviours) > (most := TYPE_BASE - FIRST):
        raise ValueError(f"The domain {domain.name} has more than {most} behaviours, the most a state can name.")
    if len(vocabulary) > ITEM_BASE**2:
        raise ValueError(f"{dataset.name} has more than {ITEM_BASE**2:,} items, the most a state can name.")
    seen = dataset.events.filter(pl.col("at").dt.epoch("ms") < before * 1000)
    types = set(seen["type"].unique())
    behaviours = tuple(replace(b, target=b.target and b.name in types) for b in domain.behaviours)
    if not any(b.target for b in behaviours):
        wanted = ", ".join(b.name for b in domain.behaviours if b.target)
        raise ValueError(f"The data set {dataset.name} has no event of a type to predict ({wanted}).")
    scales = {}
    for behaviour in domain.behaviours:
        values = seen.filter((pl.col("type") == behaviour.name) & (pl.col("value") > 0))["value"]
        if behaviour.value and len(values):  # a size that is not positive teaches nothing
            scales[behaviour.value] = max(float(np.mean(values.to_numpy())), 1e-6)
    price = np.log1p(dataset.items["price"].drop_nulls().to_numpy())
    request, profile = (
        [column.removeprefix(prefix) for column in frame.columns if column.startswith(prefix)]
        for frame, prefix in ((dataset.events, PREFIXES["request"]), (dataset.users, PREFIXES["user"]))
    )
    fields = [Field(name, "clock", CLOCK_SIZES[name]) for name in CLOCK_FIELDS]
    fields += [Field(name, "request", FIRST + len(vocabulary.fields[name])) for name in request]
    fields += [Field(name, "user", FIRST + len(vocabulary.fields[name])) for name in profile]
    sampled = dataset.exposures is None
    return Contract(
        behaviours=behaviours,
        fields=tuple(fields),
        category_sizes=tuple(FIRST + len(level) for level in vocabulary.categories),
        history_length=history_length,
        state_shape=(history_length, 0),
        state_dtype="float16",
        items=len(vocabulary),
        retrieval_size=min(200, len(vocabulary.items)),
        value_scales=scales,
        price_mean=float(price.mean()) if len(price) else 0.0,
        price_std=max(float(price.std()), 1e-6) if len(price) else 1.0,
        probability_of="sampled candidates" if sampled else "exposure",
        negatives=negatives if sampled else 0,
        exposed=0 if sampled else EXPOSED,
        repeats=bool(seen.select(pl.struct("user_id", "item_id").is_duplicated().any()).item()),
    )


def build_log(dataset: Dataset, vocabulary: Vocabulary, contract: Contract, before: float) -> Log:
    """Turn a data set into columns of ids; popularity counts events before ``before`` only."""
    names = set(dataset.events["user_id"].unique())
    if dataset.exposures is not None:
        names |= set(dataset.exposures["user_id"].unique())
    users = sorted(names)
    events = dataset.events.sort("user_id", "at", "event_id")
    user = user_index(events["user_id"], users)
    offsets = np.searchsorted(user, np.arange(len(users) + 1))
    at = events["at"].dt.epoch("ms").to_numpy() / 1000.0
    items = vocabulary.item_ids(events["item_id"].to_list())
    gaps = np.zeros(len(at), np.int32)
    gaps[1:] = np.where(user[1:] == user[:-1], gap_bucket(np.diff(at)), 0)
    popularity = np.bincount(items[at < before], minlength=contract.items)
    return Log(
        contract=contract,
        vocabulary=vocabulary,
        users=users,
        offsets=offsets,
        items=items,
        types=np.array([contract.type_id(name) for name in events["type"].to_list()], np.int32),
        at=at,
        values=events["value"].fill_null(np.nan).to_numpy().astype(np.float32),
        gaps=gaps,
        exposed=_exposed(events, dataset.exposures, vocabulary),
        request=field_ids(events, "request", vocabulary, contract),
        profiles=_profiles(dataset.users, users, vocabulary, contract),
        content=_content(dataset.items, popularity, vocabulary, contract),
    )


def user_index(column: pl.Series, users: Sequence[str]) -> NDArray[np.int64]:
    """The place of each user id in ``users``, shape [n]."""
    place = {name: i for i, name in enumerate(users)}
    return np.fromiter((place[name] for name in column.to_list()), np.int64, len(column))


def field_ids(frame: pl.DataFrame, source: str, vocabulary: Vocabulary, contract: Contract) -> Ids:
    """Ids [n, F] of the fields that ``frame`` is the source of (``request`` or ``user``); 0 in the other columns."""
    rows = np.zeros((len(frame), len(contract.fields)), np.int32)
    for place, field in enumerate(contract.fields):
        column = PREFIXES.get(field.source, "") + field.name
        if field.source == source and column in frame.columns:
            values = frame[column].to_list()
            ids = {value: vocabulary.field_id(field.name, value) for value in set(values)}
            rows[:, place] = [ids[value] for value in values]
    return rows


def _exposed(events: pl.DataFrame, exposures: pl.DataFrame | None, vocabulary: Vocabulary) -> Exposed:
    if exposures is None:
        return Exposed.nothing(len(events))
    shown = exposures.sort("user_id", "at", "event_id")
    items = vocabulary.item_ids(shown["item_id"].to_list())
    return Exposed(np.append(items, np.int32(PAD)), exposures_before(events, shown))


def _profiles(frame: pl.DataFrame, users: list[str], vocabulary: Vocabulary, contract: Contract) -> Ids:
    rows = np.zeros((len(users), len(contract.fields)), np.int32)
    known = frame.filter(pl.col("user_id").is_in(users))
    if len(known):
        rows[user_index(known["user_id"], users)] = field_ids(known, "user", vocabulary, contract)
    return rows


def _content(frame: pl.DataFrame, popularity: NDArray[Any], vocabulary: Vocabulary, contract: Contract) -> Arrays:
    paths = [path or [] for path in frame["categories"].to_list()]
    content = encode_items(paths, frame["price"].to_list(), popularity[FIRST:], vocabulary, contract)
    return {
        name: np.concatenate([np.zeros((FIRST, *rows.shape[1:]), rows.dtype), rows]) for name, rows in content.items()
    }
