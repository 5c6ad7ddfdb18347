"""A domain: the kinds of events a data set holds, which of them are predicted, and what their numbers mean.

Shipped domains are the TOML files in ``models/domains``; a path to a file of your own works the same::

    name = "ecommerce"
    exposure = "exposure"        # optional: the event type that says "this was shown"

    [[behaviours]]               # weakest first
    name = "click"
    target = true
    weight = 0.1
"""

from __future__ import annotations

import math
import tomllib
from collections import Counter
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from models.contract import Behaviour

FOLDER = Path(__file__).parent / "domains"

#: What a behaviour in a domain file may say, and the types it may say it in.
_KEYS: Mapping[str, type | tuple[type, ...]] = {
    "name": str,
    "target": bool,
    "value": str,
    "weight": (int, float),
}


class DomainError(ValueError):
    """A domain that is missing or makes no sense. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Domain:
    """The event types of a data set.

    Attributes:
        name: how the domain is called, e.g. ``"ecommerce"``.
        behaviours: weakest first, as :class:`models.contract.Contract` wants them.
        exposure: the event type that says an item was shown, or None. It is no behaviour.
    """

    name: str
    behaviours: tuple[Behaviour, ...]
    exposure: str | None = None

    @property
    def types(self) -> tuple[str, ...]:
        """Names of the behaviours, weakest first."""
        return tuple(b.name for b in self.behaviours)

    def to_json(self) -> dict[str, Any]:
        """A plain dictionary, as a domain file would be read; :meth:`from_json` reads it back."""
        behaviours = [{k: v for k, v in asdict(b).items() if v is not None} for b in self.behaviours]
        data: dict[str, Any] = {"name": self.name, "behaviours": behaviours}
        return data if self.exposure is None else {**data, "exposure": self.exposure}

    @classmethod
    def from_json(cls, data: Mapping[str, Any], source: str = "The domain") -> Domain:
        """Read a dictionary. Raises DomainError, beginning with ``source``, where it makes no sense."""
        if unknown := sorted(set(data) - {"name", "behaviours", "exposure"}):
            raise DomainError(f"{source} has a key {unknown[0]!r}; only name, exposure and behaviours are known.")
        name, exposure, rows = data.get("name"), data.get("exposure"), data.get("behaviours")
        if not isinstance(name, str) or not name:
            raise DomainError(f'{source} has no name; add a line such as name = "ecommerce".')
        if exposure is not None and (not isinstance(exposure, str) or not exposure):
            raise DomainError(f"{source} says exposure = {exposure!r}; it has to be the name of an event type.")
        if not isinstance(rows, list) or not rows:
            raise DomainError(f"{source} has no behaviours; add at least one [[behaviours]] table.")
        domain = cls(name, tuple(_behaviour(row, source) for row in rows), exposure)
        _check(domain, source)
        return domain


def load_domain(name_or_path: str | Path) -> Domain:
    """Read a shipped domain by its name, or a file by its path (anything with a ``/`` or ``.toml`` in it).

    Raises:
        DomainError: no such domain or file, no TOML, or a domain that makes no sense.
    """
    text = str(name_or_path)
    path = Path(text) if "/" in text or text.endswith(".toml") else FOLDER / f"{text}.toml"
    if not path.is_file():
        raise DomainError(
            f"No domain {text!r}; shipped are {', '.join(domain_names())}, or give a path to a TOML file."
        )
    try:
        data = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DomainError(f"{path} cannot be read as TOML ({error}).") from error
    return Domain.from_json(data, str(path))


def domain_names() -> list[str]:
    """Names of the shipped domains."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def _behaviour(row: object, source: str) -> Behaviour:
    if not isinstance(row, Mapping) or not isinstance(row.get("name"), str) or not row["name"]:
        raise DomainError(f"{source} has a behaviour without a name.")
    for key, value in row.items():
        if key not in _KEYS:
            raise DomainError(f"{source} gives {row['name']!r} a key {key!r}; known are {', '.join(_KEYS)}.")
        # bool is an int to Python, but weight = true is a slip of the pen.
        if not isinstance(value, _KEYS[key]) or (key == "weight" and isinstance(value, bool)):
            raise DomainError(f"{source} gives {row['name']!r} {key} = {value!r}, which is of the wrong type.")
    behaviour = Behaviour(**{**row, "weight": float(row.get("weight", 0.0))})
    if not math.isfinite(behaviour.weight) or behaviour.weight < 0:
        raise DomainError(f"{source} gives {behaviour.name!r} a weight that is not a number from 0 up.")
    return behaviour


def _check(domain: Domain, source: str) -> None:
    if not any(b.target for b in domain.behaviours):
        raise DomainError(f"{source} predicts nothing; give at least one behaviour target = true.")
    # Behaviours and values become outputs of one signature, so no two may share a name.
    outputs = [*domain.types, *(b.value for b in domain.behaviours if b.value)]
    if domain.exposure:
        outputs.append(domain.exposure)
    name, count = Counter(outputs).most_common(1)[0]
    if count > 1:
        raise DomainError(f"{source} uses the name {name!r} twice; behaviours, values and the exposure need their own.")
