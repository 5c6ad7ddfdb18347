"""API keys: a file of their hashes, read again whenever it changes. ``foretell keys`` writes it.

A key is ``ftl_<id>_<secret>``; the secret is 32 random bytes. The file has one JSON object a line::

    {"id": "3f9a0c1d", "sha256": "<64 hex digits>", "scopes": ["predict"], "expires": "2027-01-31T12:00:00Z"}

Why SHA-256 and no slow hash: those make up for passwords that can be guessed. Nobody guesses 256 random bits, at any
speed, and a slow hash would make every request slow, and every wrong key a burden.

Why a file: keys must be checked while MongoDB or Redis are away, and a file is what secret stores mount.
"""

from __future__ import annotations

import hashlib
import hmac
import math
import secrets
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Annotated, Literal, NamedTuple

from limits import RateLimitItem, parse
from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, StringConstraints, ValidationError

from app.errors import StartupError, problems
from app.settings import Rate

Scope = Literal["predict", "ingest", "admin"]
Refusal = Literal["missing", "wrong", "expired", "scope"]

#: What a presented key is cut to; ours are 56 characters long.
LONGEST = 128


class KeysError(StartupError):
    """The file of keys cannot be used. The message is one sentence: what is wrong, and what to do."""


class KeyLine(BaseModel):
    """One line of the file; ``limit`` is a rate such as ``600/minute`` in place of FORETELL_KEY_LIMIT."""

    model_config = ConfigDict(extra="forbid")

    id: Annotated[str, StringConstraints(pattern=r"^[a-z0-9]{4,32}$")]
    sha256: Annotated[str, StringConstraints(pattern=r"^[0-9a-f]{64}$")]
    scopes: Annotated[list[Scope], Field(min_length=1)]
    expires: AwareDatetime | None = None
    limit: Rate | None = None


@dataclass(frozen=True, slots=True)
class Key:
    """What is known of a key: SHA-256 of the whole of it, what it may do, until when (seconds since 1970 UTC)."""

    id: str
    digest: bytes
    scopes: frozenset[str]
    expires: float
    limit: RateLimitItem | None


class Verdict(NamedTuple):
    """The key, and why it is refused; None where it is welcome. ``missing`` and ``wrong`` have no key."""

    key: Key | None
    refusal: Refusal | None


#: Stands in for a key that does not exist, so that the same work is done.
_DECOY = Key("", secrets.token_bytes(32), frozenset(), math.inf, None)


def new_key(scopes: Iterable[Scope], expires: datetime | None = None, limit: str | None = None) -> tuple[str, KeyLine]:
    """A new key, for whoever is to have it, and the line to keep of it."""
    name = secrets.token_hex(4)
    text = f"ftl_{name}_{secrets.token_urlsafe(32)}"
    line = KeyLine(id=name, sha256=_digest(text).hex(), scopes=sorted(set(scopes)), expires=expires, limit=limit)
    return text, line


def read_keys(path: Path) -> dict[str, Key]:
    """The keys of a file by their ids. Raises KeysError: it cannot be read, or a line is wrong."""
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "it is no UTF-8"
        raise KeysError(f"The keys in {path} cannot be read ({reason}); check FORETELL_KEYS.") from error
    keys: dict[str, Key] = {}
    for number, text in enumerate(lines, 1):
        if text.strip():
            key = _parse(text, f"{path}, line {number}")
            if key.id in keys:
                raise KeysError(f"{path}, line {number}: there is a key {key.id} already; remove one of them.")
            keys[key.id] = key
    return keys


def judge(keys: Mapping[str, Key], presented: str | None, scope: Scope, now: float) -> Verdict:
    """Whether a key may do what ``scope`` says.

    Every path does the same work: one hash, one comparison in constant time, every condition; which of them failed is
    looked at when all is done.
    """
    text = (presented or "")[:LONGEST]
    digest = _digest(text)
    key = keys.get(text[4:].partition("_")[0], _DECOY)
    right = hmac.compare_digest(digest, key.digest)
    fresh = now < key.expires
    allowed = scope in key.scopes
    refusals: tuple[tuple[bool, Refusal], ...] = (
        (presented is None, "missing"),
        (not right, "wrong"),
        (not fresh, "expired"),
        (not allowed, "scope"),
    )
    refusal = next((name for failed, name in refusals if failed), None)
    return Verdict(key if right else None, refusal)


def _digest(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def _parse(text: str, place: str) -> Key:
    try:
        line = KeyLine.model_validate_json(text)
    except ValidationError as error:
        field, problem = problems(error)[0]
        raise KeysError(f"{place}: {field}: {problem}; write keys with `foretell keys new`.") from error
    return Key(
        line.id,
        bytes.fromhex(line.sha256),
        frozenset(line.scopes),
        math.inf if line.expires is None else line.expires.timestamp(),
        None if line.limit is None else parse(line.limit),
    )
