"""The list of erased users, as it leaves the service: no ids, only what an id can be compared with.

A file of JSON Lines, written by ``foretell erased``: first ``{"salt": "<hex>"}``, then for each erasure
``{"user": "<hex>", "at": "<ISO 8601>"}``. ``user`` is HMAC-SHA256 of the id under the salt, which each database draws
for itself: lists of two databases cannot be compared, and a list names nobody to who has no ids.
"""

from __future__ import annotations

import hmac
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any


class ErasureError(Exception):
    """A list that cannot be read. The message is one sentence."""


def erasure_hash(salt: bytes, user_id: str) -> str:
    """What stands in the list for a user: 64 hex digits."""
    return hmac.digest(salt, user_id.encode("utf-8", "surrogatepass"), "sha256").hex()


@dataclass(frozen=True)
class Erased:
    """Who was erased, and when for the last time."""

    salt: bytes
    times: dict[str, datetime]

    def erased_at(self, user_ids: Iterable[str]) -> dict[str, datetime]:
        """Of these users the erased ones, with the time."""
        found = ((user_id, self.times.get(erasure_hash(self.salt, user_id))) for user_id in user_ids)
        return {user_id: at for user_id, at in found if at is not None}

    def lines(self) -> Iterator[str]:
        """The file's lines, without their ends."""
        yield json.dumps({"salt": self.salt.hex()})
        for user, at in self.times.items():
            yield json.dumps({"user": user, "at": at.astimezone(UTC).isoformat()})

    @classmethod
    def read(cls, path: Path) -> Erased:
        """Raises ErasureError: the file cannot be read, or is no such list."""
        try:
            head, *rest = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
            times = [(str(line["user"]), _time(line["at"])) for line in rest]
            return cls(bytes.fromhex(head["salt"]), dict(times))
        except OSError as error:
            raise ErasureError(f"The list of erased users {path} cannot be read ({error.strerror}).") from error
        except (ValueError, KeyError, TypeError) as error:
            raise ErasureError(f"{path} is no list of erased users; `foretell erased` writes one.") from error


def _time(value: Any) -> datetime:
    """Raises ValueError for a time without a zone."""
    at = datetime.fromisoformat(value)
    if at.tzinfo is None:
        raise ValueError("a time without a zone")
    return at
