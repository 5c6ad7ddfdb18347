"""Refusals at the door: what an overloaded service answers before it has read a request."""

from __future__ import annotations

import time
from functools import cache

import orjson

from app.deadline import after
from app.errors import Overloaded, told
from app.metrics import Metrics
from app.middleware import request_id_of
from app.model import Model
from app.settings import Settings

#: The route whose requests wait for the model, and are refused where they would wait too long.
PATH = "/predict"


class Door:
    """Says of a prediction whose headers have just arrived whether it is let in.

    A refusal is ready-made bytes, for under overload most requests are refused: a task, a parsed body and an answer for
    each would take the time of those that are let in. The server asks (:mod:`foretell.protocol`), as early as it can.
    """

    def __init__(self, model: Model, settings: Settings, metrics: Metrics) -> None:
        self._model = model
        self._milliseconds = min(settings.queue_ms, settings.deadline_ms)
        self._metrics = metrics

    def refusal(self, headers: list[tuple[bytes, bytes]]) -> bytes | None:
        """The whole answer; None where the request is let in."""
        began = time.perf_counter()
        try:
            self._model.admit(after(self._milliseconds))
        except Overloaded as error:
            answer = _answer(error.detail, error.headers["Retry-After"])
        else:
            return None
        self._metrics.answered(PATH, "POST", Overloaded.status, time.perf_counter() - began)
        return answer % request_id_of(headers).encode()


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
