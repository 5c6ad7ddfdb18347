"""The frozen description of what a model takes in and gives out.

One :class:`Contract` is written into every artifact's manifest. Training builds its inputs by it, the service builds
its inputs by it, and :meth:`Contract.fingerprint` tells whether two sides mean the same thing.

Conventions that hold everywhere:

* ``PAD = 0`` marks "nothing here", ``UNKNOWN = 1`` marks "something the vocabulary does not know"; real ids start at
  ``FIRST = 2``.
* Sequences are padded on the **left**: the newest event always sits in the last slot.
* Masks are true where there **is** an event.
* Times are seconds since 1970-01-01 UTC, as float64.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

PAD = 0
UNKNOWN = 1
FIRST = 2

#: Buckets of a time gap: 0 = no gap known, then 1 + floor(log2(1 + seconds)), at most GAP_BUCKETS - 1 (a gap of 12 days
#: or more shares the last bucket but ten; 2**30 seconds are 34 years).
GAP_BUCKETS = 32

#: Every row of a state ends with four numbers: the event's age in hours when the newest event happened; its exposures
#: (below) and its type id, as ``exposures * TYPE_BASE + type``; then its item id as
#: ``high * ITEM_BASE + low``. float16 holds the last three exactly, so a state knows which items it has seen, for up to
#: ITEM_BASE**2 items; and the age to a two-thousandth, up to OLDEST (nearly seven years).
STATE_TAIL = 4
TYPE_BASE = 32
ITEM_BASE = 2048
OLDEST = 60_000.0

#: Of the items that a user was shown since the event before, a history names the newest EXPOSED (two pages of ten), and
#: counts up to EXPOSURES: its ``exposures`` are 1 + their number, or 0 where nobody said what was shown.
EXPOSED = 20
EXPOSURES = ITEM_BASE // TYPE_BASE - 2

#: Numbers in an item's content: standardised log price, whether the price is known, scaled log popularity.
ITEM_NUMBERS = 3
#: The column of the popularity among them.
POPULARITY = 2

#: Signatures that an artifact may lack; a model without ``explain`` predicts, and says that it cannot explain; one
#: without ``query`` does not retrieve by vector, or is older: its catalogue is scored whole, however large it is. One
#: without ``relevance`` is older, and always retrieves ``retrieval_size`` items, however few are wanted.
OPTIONAL = ("explain", "query", "relevance")

#: Context fields that are computed from the clock and the history, never sent by a client.
CLOCK_FIELDS = ("hour", "weekday", "since_last")


class ContractError(ValueError):
    """A contract, or something that has to follow it, does not fit. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Behaviour:
    """One kind of event.

    Attributes:
        name: the event type on the wire, e.g. ``"purchase"``.
        target: whether the model predicts its probability.
        value: what the number carried by such an event means (``"amount"``, ``"rating"``), or None.
        weight: its share in the default ranking objective.
    """

    name: str
    target: bool = False
    value: str | None = None
    weight: float = 0.0


@dataclass(frozen=True, slots=True)
class Field:
    """One categorical input of the request context.

    ``source`` says where it is read: ``request`` (sent with the request), ``user`` (the stored profile) or ``clock``
    (computed: ``hour``, ``weekday``, ``since_last``). ``size`` counts its ids, PAD and UNKNOWN included.
    """

    name: str
    source: Literal["request", "user", "clock"]
    size: int


@dataclass(frozen=True, slots=True)
class Contract:
    """What a model takes in and gives out; see the module docstring for the conventions.

    Attributes:
        behaviours: every event type, weakest first (a stronger event, such as a purchase, comes later). The id of a
            behaviour is ``FIRST + its index``.
        fields: the request context, in the order of the model's ``context`` input.
        category_sizes: for each level of the category path (coarse to fine) the number of ids.
        history_length: events a state looks back on (L).
        state_shape: shape of one encoded history, ``[L, width]``, the STATE_TAIL columns included.
        state_dtype: dtype of the encoded history on the wire and in the cache.
        items: ids of the item vocabulary, PAD and UNKNOWN included (V).
        retrieval_size: candidates that ``retrieve`` returns, at most V - FIRST.
        value_scales: the typical size of each value (the training mean), by value name; amounts are divided by it.
        price_mean, price_std: of log1p(price) over the training catalogue; prices enter the model standardised.
        probability_of: what a probability is conditioned on: ``exposure`` (learned from what was shown) or
            ``sampled candidates`` (no exposures in the data: each event against ``negatives`` random items).
        negatives: random items for each event, where probability_of is ``sampled candidates``.
        repeats: whether people come back to an item; where nobody does, retrieval has nothing to copy from a history.
        exposed: items shown before each event that a history names (E), 0 where nobody recorded what was shown.
    """

    behaviours: tuple[Behaviour, ...]
    fields: tuple[Field, ...]
    category_sizes: tuple[int, ...]
    history_length: int
    state_shape: tuple[int, int]
    state_dtype: Literal["float16", "float32"]
    items: int
    retrieval_size: int
    value_scales: Mapping[str, float]
    price_mean: float = 0.0
    price_std: float = 1.0
    probability_of: Literal["exposure", "sampled candidates"] = "exposure"
    negatives: int = 0
    repeats: bool = True
    exposed: int = 0
    pad_side: Literal["left"] = "left"

    @property
    def targets(self) -> tuple[str, ...]:
        """Names of the behaviours whose probability the model predicts, weakest first."""
        return tuple(b.name for b in self.behaviours if b.target)

    @property
    def values(self) -> tuple[str, ...]:
        """Names of the values the model predicts (given that their behaviour happens)."""
        return tuple(b.value for b in self.behaviours if b.value in self.value_scales and b.value is not None)

    @property
    def attributes(self) -> tuple[str, ...]:
        """What an explanation can name of an item: its identity, each level of its category, price, popularity."""
        levels = (f"category {level + 1}" for level in range(len(self.category_sizes)))
        return ("item", *levels, "price", "popularity")

    @property
    def objective(self) -> dict[str, float]:
        """The default ranking objective: weight by target name; where none has one, all weigh alike."""
        weights = {b.name: b.weight for b in self.behaviours if b.target}
        return weights if any(weights.values()) else dict.fromkeys(weights, 1.0)

    def type_id(self, name: str) -> int:
        """The id of an event type; UNKNOWN for a name that is no behaviour."""
        for index, behaviour in enumerate(self.behaviours):
            if behaviour.name == name:
                return FIRST + index
        return UNKNOWN

    def signatures(self) -> dict[str, Signature]:
        """The functions an artifact offers, with dtype and shape of each tensor (None = any).

        An artifact may lack those of OPTIONAL.
        """
        length, width = self.state_shape
        state = ("state", TensorSpec(self.state_dtype, (None, length, width)))
        lengths = ("lengths", TensorSpec("int32", (None,)))
        context = ("context", TensorSpec("int32", (None, len(self.fields))))
        pairs = TensorSpec("float32", (None, None))
        whole, real = (TensorSpec(dtype, (None, self.history_length)) for dtype in ("int32", "float32"))
        history = {"items": whole, "types": whole, "gaps": whole, "values": real, "ages": real}
        if self.exposed:
            named = TensorSpec("int32", (None, self.history_length, self.exposed))
            history |= {"exposed": named, "exposures": whole}
        since = ("since", TensorSpec("float32", (None,)))
        candidates = ("candidates", TensorSpec("int32", (None, None)))
        parts = {"events": length, "context": len(self.fields), "attributes": len(self.attributes)}
        moved = {name: TensorSpec("float32", (None, None, len(self.targets), n)) for name, n in parts.items()}
        allowed = ("allowed", TensorSpec("bool", (None, None)))
        return {
            "encode": Signature(
                inputs=history,
                outputs=dict([state]),
            ),
            "embed_items": Signature(
                inputs={
                    "items": TensorSpec("int32", (None,)),
                    "categories": TensorSpec("int32", (None, len(self.category_sizes))),
                    "numbers": TensorSpec("float32", (None, ITEM_NUMBERS)),
                },
                outputs={"vectors": TensorSpec("float32", (None, None))},
            ),
            "retrieve": Signature(
                inputs=dict([state, lengths, context, since, allowed]),
                outputs={
                    "items": TensorSpec("int32", (None, self.retrieval_size)),
                    "scores": TensorSpec("float32", (None, self.retrieval_size)),
                },
            ),
            "relevance": Signature(
                inputs=dict([state, lengths, context, since, allowed]),
                outputs={"scores": pairs},
            ),
            "query": Signature(
                inputs=dict([state, lengths, context, since]),
                outputs={
                    "query": TensorSpec("float32", (None, None)),
                    "bonus": TensorSpec("float32", (None, self.history_length)),
                },
            ),
            "score": Signature(
                inputs=dict([state, lengths, context, since, candidates]),
                outputs=dict.fromkeys((*self.targets, *self.values), pairs),
            ),
            "explain": Signature(
                inputs=history | dict([lengths, context, since, candidates]),
                outputs=moved | {"base": TensorSpec("float32", (None, None, len(self.targets)))},
            ),
        }

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary for the manifest; :meth:`from_json` reads it back.

        Without exposures it does not mention them: it is, fingerprint and all, as it was before there were any.
        """
        data: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return data if self.exposed else {name: value for name, value in data.items() if name != "exposed"}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Contract:
        """Read what :meth:`to_json` wrote. Raises ContractError where a part is missing, extra or of another type."""
        try:
            rest = {k: v for k, v in data.items() if k not in {"behaviours", "fields"}}
            rest["category_sizes"] = tuple(rest["category_sizes"])
            rows, width = rest["state_shape"]
            rest["state_shape"] = (int(rows), int(width))
            return cls(
                behaviours=tuple(Behaviour(**b) for b in data["behaviours"]),
                fields=tuple(Field(**f) for f in data["fields"]),
                **rest,
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ContractError(f"The manifest's contract cannot be read ({error}); export the model again.") from error

    def fingerprint(self) -> str:
        """Sixteen hex digits that two contracts share exactly when they are equal."""
        canonical = json.dumps(self.to_json(), sort_keys=True, separators=(",", ":"))
        return hashlib.sha256(canonical.encode()).hexdigest()[:16]


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """dtype and shape of one tensor; None stands for any size."""

    dtype: str
    shape: tuple[int | None, ...]


@dataclass(frozen=True, slots=True)
class Signature:
    """Inputs and outputs of one exported function, by name."""

    inputs: Mapping[str, TensorSpec]
    outputs: Mapping[str, TensorSpec]
