"""Refusals at the door: what an overloaded service answers before it has read a request."""

from __future__ import annotations

import asyncio
import math
import time
from functools import cache

import orjson

from app.errors import ForetellError, Overloaded, told
from app.metrics import Metrics
from app.middleware import request_id_of
from app.model import Model
from app.parking import Parking
from app.settings import Settings

#: The route whose requests wait for the model, and are refused where they would wait too long.
PATH = "/predict"
#: While an overload stands, the share of FORETELL_QUEUE_MS that a request may expect to wait; and for how many seconds
#: after a refusal it is taken to stand.
STANDING = 0.5
CALM = 1.0
#: Seconds for which the door stays shut after a refusal. The model is not asked meanwhile: it takes longer to compute
#: anything that would change its mind.
SHUT = 0.001


class Door:
    """Says of a prediction whether it is let in, by how long it would wait.

    A burst may fill the whole queue, for it will soon be over. Where an overload stands, a long queue serves nobody: as
    many are answered from a short one, sooner (Nichols & Jacobson 2012; Maurer 2015).

    A refusal is ready-made bytes, for under overload most requests are refused: a task, a parsed body and an answer for
    each would take the time of those that are let in. The server asks (:mod:`foretell.protocol`), as early as it can.

    Attributes:
        parking: where connections wait on which too much was refused.
    """

    def __init__(self, model: Model, settings: Settings, metrics: Metrics) -> None:
        self._model = model
        self._seconds = min(settings.queue_ms, settings.deadline_ms) / 1000
        self._metrics = metrics
        self._origins = bool(settings.origins)
        self._calm_at = 0.0
        self._shut, self._shut_until = b"", -math.inf
        self.parking = Parking(metrics)

    def admit(self, deadline: float = math.inf) -> None:
        """Raises Overloaded where a prediction that came now would wait too long; to be asked before anything is spent.

        Args:
            deadline: when it is of no use any more, in the event loop's time.
        """
        now = asyncio.get_running_loop().time()
        latest = now + (STANDING if now < self._calm_at else 1.0) * self._seconds
        try:
            self._model.admit(min(deadline, latest))
        except Overloaded:
            if deadline >= latest:  # else it came late by itself
                self._calm_at = now + CALM
            raise

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer; None where the request is let in, or where the application has to say more than this: to a
        page of another origin, which may read no answer without its headers, or that the model is away."""
        if self._origins and any(name == b"origin" for name, _ in headers):
            return None
        began = time.perf_counter()
        if began >= self._shut_until and not self._shuts(began):
            return None
        self._metrics.answered(PATH, "POST", Overloaded.status, time.perf_counter() - began)
        return self._shut % request_id_of(headers).encode()

    def _shuts(self, now: float) -> bool:
        """Whether a prediction that came now would be refused, as those that come soon after it are."""
        try:
            self.admit()
        except Overloaded as error:
            self._shut, self._shut_until = _answer(error.detail, error.headers["Retry-After"]), now + SHUT
            return True
        except ForetellError:
            return False
        return False


@cache
def _answer(detail: str, retry_after: str) -> bytes:
    """The bytes, with a place for the request id. There are few: details are fixed, waits are whole seconds."""
    body = orjson.dumps(told(Overloaded(detail)))
    lines = (
        f"HTTP/1.1 {Overloaded.status} Service Unavailable",
        f"retry-after: {retry_after}",
        f"content-length: {len(body)}",
        "content-type: application/json",
        "x-request-id: %s",
    )
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body.replace(b"%", b"%%")
