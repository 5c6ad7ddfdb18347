"""Names in place of user ids: a keyed hash, the same for the same id and key, that tells nobody the id."""

from __future__ import annotations

import hmac
import secrets
from base64 import urlsafe_b64encode
from collections.abc import Callable

from app.settings import Settings

#: Turns a user id into the one that is stored; the id itself where nobody asked for pseudonyms.
Alias = Callable[[str], str]


def pseudonym(key: bytes, purpose: str, user_id: str) -> str:
    """32 characters, letters, digits, ``-`` and ``_``: 192 bits of HMAC-SHA256. Names of two purposes have nothing in
    common."""
    message = f"{purpose}\0{user_id}".encode("utf-8", "surrogatepass")
    return urlsafe_b64encode(hmac.digest(key, message, "sha256")[:24]).decode()


def same(user_id: str) -> str:
    """No pseudonym."""
    return user_id


def alias_of(settings: Settings) -> Alias:
    """What FORETELL_PSEUDONYM_KEY makes of ids at the door."""
    return aliased(None if settings.pseudonym_key is None else settings.pseudonym_key.get_secret_value())


def aliased(secret: str | None) -> Alias:
    """:func:`alias_of` by the secret itself; None makes none."""
    if not secret:
        return same
    key = secret.encode()
    return lambda user_id: pseudonym(key, "user", user_id)


def log_name_of(settings: Settings) -> Alias:
    """What stands in the log for a user; by a key of this process where FORETELL_LOG_SECRET is not set."""
    given = settings.log_secret
    key = secrets.token_bytes(32) if given is None else given.get_secret_value().encode()
    return lambda user_id: pseudonym(key, "log", user_id)
