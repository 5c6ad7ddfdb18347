"""Which column of a file means what: read from flags, from a small TOML file, or recognised by the column names."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

import polars as pl

FOLDER = Path(__file__).parent / "mappings"

#: Column names, in lower case without underscores and spaces, that speak for themselves.
SYNONYMS: Mapping[str, tuple[str, ...]] = {
    "user": ("userid", "user", "customerid", "customer", "visitorid", "householdid", "memberid", "sessionid"),
    "item": ("itemid", "item", "productid", "product", "movieid", "articleid", "sku", "stockcode"),
    "type": ("type", "event", "eventtype", "behavior", "behaviour", "action"),
    "time": ("at", "time", "timestamp", "ts", "datetime", "eventtime", "date"),
    "value": ("value", "amount", "rating", "revenue"),
    "request": ("requestid",),
    "position": ("position", "rank"),
}
_NEEDED = ("user", "item", "type", "time")
#: Meanings of one column that a recognised file may lack.
OPTIONAL = ("request", "position", "title", "price")


class MappingError(ValueError):
    """A column mapping that is missing, ambiguous or wrong. The message is one sentence for a person."""


@dataclass(frozen=True, slots=True)
class Rule:
    """Rows that a source itself says are no events. One of three tests:

    ``pattern``: the column's text matches it; ``unless``: it does not; ``at_most``: its number is not above that.
    """

    reason: str
    column: str
    pattern: str | None = None
    unless: str | None = None
    at_most: float | None = None

    def __post_init__(self) -> None:
        if sum(test is not None for test in (self.pattern, self.unless, self.at_most)) != 1:
            raise MappingError(f"The rule {self.reason!r} needs one of pattern, unless and at_most.")
        try:  # by those who will search with it
            pl.Series([""]).str.contains(self.pattern or self.unless or "")
        except pl.exceptions.ComputeError as error:
            raise MappingError(f"The rule {self.reason!r} holds no regular expression ({error}).") from error


@dataclass(frozen=True, slots=True)
class Columns:
    """Names of a file's columns by what they mean. Required are user, item, time and one of type and constant_type.

    Attributes:
        name: how the source is called, e.g. ``"taobao"``; the default name of the data set.
        domain: the domain its types belong to.
        licence: under which terms the data may be used; model cards say it.
        constant_type: the type of every row, where no column says it.
        value: the number an event carries; ``times`` is a second column it is multiplied with.
        types: the source's words for event types -> the domain's; words that the domain knows need no entry.
        context, profile: field -> column, read with each event and with each user (the newest counts).
        title, price, categories: what rows say about their item (newest title, median price, levels coarse to fine).
        reject: rows that are no events.
    """

    user: str = ""
    item: str = ""
    time: str = ""
    type: str | None = None
    constant_type: str | None = None
    value: str | None = None
    times: str | None = None
    request: str | None = None
    position: str | None = None
    title: str | None = None
    price: str | None = None
    categories: tuple[str, ...] = ()
    types: Mapping[str, str] = field(default_factory=dict)
    context: Mapping[str, str] = field(default_factory=dict)
    profile: Mapping[str, str] = field(default_factory=dict)
    reject: tuple[Rule, ...] = ()
    name: str | None = None
    domain: str | None = None
    licence: str | None = None

    def used(self) -> list[str]:
        """Every column the mapping reads, each once."""
        single = (self.user, self.item, self.time, self.type, self.value, self.times, self.request, self.position)
        rest = (self.title, self.price, *self.categories, *self.context.values(), *self.profile.values())
        return list(dict.fromkeys(c for c in (*single, *rest, *(r.column for r in self.reject)) if c))

    def needed(self) -> list[str]:
        """The columns among those used without which the rows would say something else."""
        needed = (self.user, self.item, self.time, self.type, self.value, self.times)
        return list(dict.fromkeys(c for c in (*needed, *(rule.column for rule in self.reject)) if c))

    def among(self, found: Sequence[str]) -> Columns:
        """Without the columns that are neither needed nor found."""
        single: dict[str, Any] = {role: None for role in OPTIONAL if getattr(self, role) not in found}
        named: dict[str, Any] = {
            kind: {name: column for name, column in getattr(self, kind).items() if column in found}
            for kind in ("context", "profile")
        }
        return replace(self, **single, **named, categories=tuple(c for c in self.categories if c in found))

    def check(self, found: Sequence[str]) -> None:
        """Raise MappingError where a needed column is not named, or a named one is not among those found."""
        listed = ", ".join(found) or "none"
        for role in ("user", "item", "time"):
            if not getattr(self, role):
                raise MappingError(f"No column is known as the {role}; name it with --{role}. Columns found: {listed}.")
        if not self.type and not self.constant_type:
            raise MappingError(
                f"No column is known as the type; use --type or --constant-type purchase. Columns found: {listed}."
            )
        if self.type and self.constant_type:
            raise MappingError("The type comes either from a column or is constant; give one of the two.")
        if missing := [c for c in self.used() if c not in found]:
            raise MappingError(f"There is no column {missing[0]!r}. Columns found: {listed}.")


def load_mapping(name_or_path: str) -> Columns:
    """A shipped mapping by its name, or a TOML file by its path. Raises MappingError where it is missing or bad.

    ``like`` names a mapping that it begins with, whose columns are ``renamed``.
    """
    path = _file(str(name_or_path))
    data = _toml(path)
    if "like" in data:
        like, names = data.pop("like"), data.pop("renamed", {})
        if not isinstance(names, dict):
            raise MappingError(f"{path} says renamed = {names!r}, which is of the wrong type.")
        data = _renamed(_toml(_file(str(like))), names) | data
    return _columns(data, str(path))


def _file(text: str) -> Path:
    path = Path(text) if "/" in text or text.endswith(".toml") else FOLDER / f"{text}.toml"
    if not path.is_file():
        raise MappingError(
            f"No mapping {text!r}; shipped are {', '.join(mapping_names())}, or give a path to a TOML file."
        )
    return path


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise MappingError(f"{path} cannot be read as TOML ({error}).") from error


def _renamed(part: Any, names: Mapping[str, str]) -> Any:
    """A part of a mapping where some columns are called otherwise."""
    if isinstance(part, dict):
        return {key: _renamed(value, names) for key, value in part.items()}
    if isinstance(part, list):
        return [_renamed(value, names) for value in part]
    return names.get(part, part)


def mapping_names() -> list[str]:
    """Names of the shipped mappings."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def recognise(found: Sequence[str]) -> Columns | None:
    """The shipped mapping that fits, without the columns that are neither there nor needed; None where none fits."""
    fitting = [m.among(found) for m in map(load_mapping, mapping_names()) if set(m.needed()) <= set(found)]
    return max(fitting, key=lambda m: len(m.used()), default=None)


def guess(found: Sequence[str], given: Columns) -> Columns:
    """Fill what ``given`` leaves open by the names of the columns.

    Raises:
        MappingError: two columns fit the same needed meaning.
    """
    spelt = {column: re.sub(r"[_\s]", "", column).lower() for column in found}
    taken = set(given.used())
    filled: dict[str, Any] = {}
    for role, words in SYNONYMS.items():
        if getattr(given, role) or (role == "type" and given.constant_type):
            continue
        fitting = [column for column, word in spelt.items() if word in words and column not in taken]
        if len(fitting) > 1 and role in _NEEDED:
            listed = " and ".join(fitting)
            raise MappingError(
                f"Both {listed} could be the {role}; say which with --{role}. Columns found: {', '.join(found)}."
            )
        if len(fitting) == 1:
            filled[role] = fitting[0]
    for kind in ("context", "profile"):
        own = {c.removeprefix(f"{kind}_"): c for c in found if c.startswith(f"{kind}_") and c not in taken}
        filled[kind] = {**own, **getattr(given, kind)}
    return replace(given, **filled)


def merge(base: Columns, flags: Columns) -> Columns:
    """``base`` with everything that ``flags`` says on top."""
    said = {f.name: getattr(flags, f.name) for f in fields(flags) if getattr(flags, f.name)}
    if "type" in said:
        said.setdefault("constant_type", None)
    if "constant_type" in said:
        said.setdefault("type", None)
    return replace(base, **said)


def pairs(words: Iterable[str], option: str) -> dict[str, str]:
    """``field=column`` words as a dictionary; a bare ``column`` names the field as well."""
    result = {}
    for word in words:
        name, _, column = word.partition("=")
        if not name or (not column and "=" in word):
            raise MappingError(f"{option} takes field=column, not {word!r}.")
        result[name] = column or name
    return result


def _columns(data: dict[str, Any], source: str) -> Columns:
    kinds = {"categories": list, "types": dict, "context": dict, "profile": dict, "reject": list}
    known = {f.name for f in fields(Columns)}
    for key, value in data.items():
        if key not in known:
            raise MappingError(f"{source} has a key {key!r}; known are {', '.join(sorted(known))}.")
        if not isinstance(value, kinds.get(key, str)):
            raise MappingError(f"{source} says {key} = {value!r}, which is of the wrong type.")
    try:
        rules = tuple(Rule(**rule) for rule in data.get("reject", ()))
    except TypeError as error:
        raise MappingError(
            f"{source} has a reject rule that is not reason, column and one of pattern, unless, at_most."
        ) from error
    return Columns(**{**data, "categories": tuple(data.get("categories", ())), "reject": rules})
