"""What an explanation says, in names that people know; shared by the library and the service.

Contributions are to the log-odds of a target: the base, where nothing is known of user and item at an average moment,
plus all contributions is the log-odds of the predicted probability. A contribution of 0.7 doubles the odds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.contract import FIRST, PAD, Contract
from models.encode import Arrays, Event
from models.vocabulary import Ids, Vocabulary

WEEKDAYS = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
#: Units of time from short to long, in seconds, for the field ``since_last``.
UNITS = ((1, "s"), (60, "min"), (3600, "h"), (86400, "days"))


@dataclass(frozen=True, slots=True)
class PastEvent:
    """An event of the history; ``title`` is that of its item, where somebody knows one."""

    item_id: str
    title: str | None
    type: str
    at: datetime
    contribution: float


@dataclass(frozen=True, slots=True)
class ContextField:
    """A field of the request's context; ``value`` is None where the model knows the field, but not what it says."""

    field: str
    value: str | None
    contribution: float


@dataclass(frozen=True, slots=True)
class Attribute:
    """What the item is: one of :attr:`models.contract.Contract.attributes`."""

    attribute: str
    contribution: float


@dataclass(frozen=True, slots=True)
class Explanation:
    """Why one item has its probability of one target. Each part is sorted, what moved most comes first.

    Attributes:
        base: log-odds where nothing is known, see :mod:`models.attribution`.
        log_odds: of the predicted probability; base plus every contribution.
        other_events: the sum over the events that are not listed.
    """

    base: float
    log_odds: float
    events: Sequence[PastEvent]
    other_events: float
    context: Sequence[ContextField]
    attributes: Sequence[Attribute]


def read_explanations(
    parts: Arrays,
    events: Sequence[Event],
    context: Ids,
    contract: Contract,
    vocabulary: Vocabulary,
    *,
    titles: Callable[[str], str | None] = lambda item_id: None,
    most_events: int | None = None,
) -> list[dict[str, Explanation]]:
    """For each of C candidates an explanation of each target.

    Args:
        parts: what ``explain`` returned for one user: ``events`` [C, T, L], ``context`` [C, T, F], ``attributes``
            [C, T, A], ``base`` [C, T].
        events: the user's history, oldest first, of which the newest L were explained.
        context: the context ids that were explained [F]; fields that say nothing are left out.
        titles: from an item's external id to its title.
        most_events: list so many events at most; None for all.
    """
    newest, fields = events[-contract.history_length :], _fields(context, contract, vocabulary)
    read = _Reader(newest, fields, contract, titles, most_events)
    return [
        {
            target: read(*(parts[name][c, t] for name in ("events", "context", "attributes", "base")))
            for t, target in enumerate(contract.targets)
        }
        for c in range(len(parts["base"]))
    ]


@dataclass(frozen=True, slots=True)
class _Reader:
    events: Sequence[Event]
    fields: Mapping[str, str | None]
    contract: Contract
    titles: Callable[[str], str | None]
    most_events: int | None

    def __call__(
        self,
        events: NDArray[np.float32],
        context: NDArray[np.float32],
        attributes: NDArray[np.float32],
        base: NDArray[np.float32],
    ) -> Explanation:
        """The explanation of one target of one candidate, from its contributions [L], [F], [A] and the base."""
        own = events[len(events) - len(self.events) :]
        order = np.argsort(-np.abs(own), kind="stable")[: self.most_events]
        told = [self._event(self.events[i], own[i]) for i in order]
        moments = zip(self.contract.fields, context, strict=True)
        fields = [ContextField(f.name, self.fields[f.name], _short(x)) for f, x in moments if f.name in self.fields]
        traits = [Attribute(name, _short(x)) for name, x in zip(self.contract.attributes, attributes, strict=True)]
        return Explanation(
            base=_short(base),
            log_odds=_short(base + own.sum() + context.sum() + attributes.sum()),
            events=told,
            other_events=_short(own.sum() - own[order].sum()),
            context=sorted(fields, key=lambda part: -abs(part.contribution)),
            attributes=sorted(traits, key=lambda part: -abs(part.contribution)),
        )

    def _event(self, event: Event, contribution: np.float32) -> PastEvent:
        at = datetime.fromtimestamp(event.at, UTC)
        return PastEvent(event.item_id, self.titles(event.item_id), event.type, at, _short(contribution))


def _short(number: Any) -> float:
    """Four decimals: a ten-thousandth of log-odds moves no probability by more than 0.000025."""
    return round(float(number), 4) + 0.0  # no -0.0


def _fields(context: Ids, contract: Contract, vocabulary: Vocabulary) -> dict[str, str | None]:
    """What each field of a context row says, by name; those that say nothing are left out."""
    said: dict[str, str | None] = {}
    for field, value in zip(contract.fields, context.tolist(), strict=True):
        if value == PAD:
            continue
        if field.name == "hour" and field.source == "clock":
            said[field.name] = f"{value - FIRST:02}:00"
        elif field.name == "weekday" and field.source == "clock":
            said[field.name] = WEEKDAYS[value - FIRST]
        elif field.source == "clock":
            said[field.name] = f"{_span(2.0 ** (value - 1) - 1)} to {_span(2.0**value - 1)}"
        else:
            said[field.name] = vocabulary.fields[field.name][value - FIRST] if value >= FIRST else None
    return said


def _span(seconds: float) -> str:
    """A time in the largest unit that fits: ``17 min``."""
    size, unit = [pair for pair in UNITS if seconds >= pair[0]][-1] if seconds >= 1 else UNITS[0]
    return f"{seconds / size:.0f} {unit}"
