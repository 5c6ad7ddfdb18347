"""One family of errors that carry their HTTP status, and the handlers that answer with them.

Every error leaves the service in the same shape::

    {"error": "invalid_payload", "detail": "...", "fields": [{"field": "k", "problem": "..."}]}

``fields`` is there only where single fields are to blame.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple

import orjson
from fastapi import FastAPI, Request, Response
from pydantic import ValidationError
from starlette.exceptions import HTTPException

#: Fields named in one answer; ten thousand mistakes do not make an answer ten thousand lines long.
MAX_FIELDS = 20


class FieldProblem(NamedTuple):
    """What is wrong with one field: its path (``session.0.at``) and one sentence."""

    field: str
    problem: str


class StartupError(Exception):
    """The service cannot start. The message is one sentence: what is wrong, and what to do."""


class Unreachable(StartupError):
    """A store does not answer yet; asking again may help."""


class ForetellError(Exception):
    """What a client is told. Subclasses fix ``status``, ``code`` and, where a retry helps, ``retry_after``.

    Args:
        detail: one sentence for the client; never the text of an inner exception.
        fields: the fields of the request that are to blame.
        retry_after: seconds after which trying again helps, where that is known better than by the class.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal"
    retry_after: ClassVar[int | None] = None
    challenge: ClassVar[Mapping[str, str]] = {}  # what RFC 6750 wants beside a refusal

    def __init__(self, detail: str, *, fields: Sequence[FieldProblem] = (), retry_after: int | None = None) -> None:
        super().__init__(detail)
        self.detail = detail
        self.fields = tuple(fields)
        self._wait = self.retry_after if retry_after is None else retry_after

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled as what it tells: from the model process it comes to the HTTP process that asked."""
        return _again, (type(self), self.detail, self.fields, self._wait)

    @property
    def headers(self) -> dict[str, str]:
        """Headers of the answer: ``Retry-After`` in seconds, where trying again helps, and what the class adds."""
        return dict(self.challenge) if self._wait is None else {**self.challenge, "Retry-After": str(self._wait)}


class Internal(ForetellError):
    """Something nobody expected; the log has it."""

    def __init__(self) -> None:
        super().__init__("Something went wrong; the log has the details.")


class InvalidPayload(ForetellError):
    """The body is no valid request."""

    status = 422
    code = "invalid_payload"

    @classmethod
    def of(cls, field: str, problem: str) -> InvalidPayload:
        """The error for one field."""
        return cls(f"{field}: {problem}", fields=[FieldProblem(field, problem)])

    @classmethod
    def from_validation(cls, error: ValidationError) -> InvalidPayload:
        """The error for everything pydantic found."""
        fields = problems(error)
        more = error.error_count() - len(fields)
        detail = (
            f"{fields[0].field}: {fields[0].problem}"
            if len(fields) == 1
            else f"{len(fields) + more} fields are invalid."
        )
        return cls(detail, fields=fields)


class PayloadTooLarge(ForetellError):
    """The body is longer than FORETELL_BODY_LIMIT_BYTES."""

    status = 413
    code = "payload_too_large"


class UnsupportedMedia(ForetellError):
    """The body is not JSON by its Content-Type."""

    status = 415
    code = "unsupported_media_type"


class Unauthorized(ForetellError):
    """No key came along, or one that does not count (any more)."""

    status = 401
    code = "unauthorized"
    challenge: ClassVar = {"WWW-Authenticate": 'Bearer realm="foretell"'}


class Forbidden(ForetellError):
    """The key counts, but not for this."""

    status = 403
    code = "forbidden"
    challenge: ClassVar = {"WWW-Authenticate": 'Bearer realm="foretell", error="insufficient_scope"'}


class NotFound(ForetellError):
    """There is nothing at this path."""

    status = 404
    code = "not_found"


class Erased(ForetellError):
    """The user was erased less than a minute ago: what was on its way then must not bring them back."""

    status = 409
    code = "erased"
    retry_after = 60


class RateLimited(ForetellError):
    """More requests than the key, or than wrong keys from one address, may send."""

    status = 429
    code = "rate_limited"


class Overloaded(ForetellError):
    """More requests wait than can be answered in time; nothing was computed."""

    status = 503
    code = "overloaded"
    retry_after = 1


class ModelUnavailable(ForetellError):
    """The process that has the model has ended; another one is on its way."""

    status = 503
    code = "model_unavailable"
    retry_after = 5

    def __init__(self) -> None:
        super().__init__("The model's process has ended and is being started again; try again in a few seconds.")


class ShuttingDown(ForetellError):
    """The service was told to end; it still answers, but no new requests should come here."""

    status = 503
    code = "shutting_down"

    def __init__(self) -> None:
        super().__init__("This server is about to end; ask another one.")


class DeadlineExceeded(ForetellError):
    """The request's deadline passed before its answer was ready."""

    status = 504
    code = "deadline_exceeded"
    retry_after = 1


class StoreUnavailable(ForetellError):
    """A store did not do what it was asked. ``answered``: it said so itself, so it is there."""

    status = 503
    retry_after = 1
    answered: ClassVar[bool] = False


class HistoryUnavailable(StoreUnavailable):
    """MongoDB did not answer in time."""

    code = "history_unavailable"


class CacheUnavailable(StoreUnavailable):
    """Redis did not answer in time. Predictions go on without it."""

    code = "cache_unavailable"


class CacheRefused(CacheUnavailable):
    """Redis answered, but refused the command: it is full, or a key is no hash."""

    answered = True


class RequestTooSlow(ForetellError):
    """The client took longer than FORETELL_RECEIVE_SECONDS to send its request. The connection is closed."""

    status = 408
    code = "request_too_slow"

    @classmethod
    def after(cls, seconds: float) -> RequestTooSlow:
        """The error for a request that is not here after so many seconds."""
        return cls(f"The request did not arrive within {seconds:g} seconds; send it faster, or in parts.")

    @property
    def headers(self) -> dict[str, str]:
        """Closes the connection: the rest of the body would be read as the next request."""
        return {"Connection": "close"}


def _again(kind: type[ForetellError], detail: str, fields: Sequence[FieldProblem], wait: int | None) -> ForetellError:
    """An error that was pickled, whatever its class wants to be made with."""
    error = kind.__new__(kind)
    ForetellError.__init__(error, detail, fields=fields, retry_after=wait)
    return error


def problems(error: ValidationError) -> list[FieldProblem]:
    """The first MAX_FIELDS problems found, each with the path of its field (``body`` for the whole)."""
    found = error.errors(include_url=False, include_context=False, include_input=False)
    return [FieldProblem(_path(problem["loc"]), _sentence(problem["msg"])) for problem in found[:MAX_FIELDS]]


def told(error: ForetellError) -> dict[str, Any]:
    """An error as clients see it."""
    body: dict[str, Any] = {"error": error.code, "detail": error.detail}
    if error.fields:
        body["fields"] = [field._asdict() for field in error.fields]
    return body


def respond(error: ForetellError) -> Response:
    """The answer for an error."""
    return error_response(error.status, told(error), error.headers)


def error_response(status: int, body: Mapping[str, Any], headers: Mapping[str, str] | None = None) -> Response:
    """A JSON response; ``body`` has ``error`` and ``detail``."""
    return Response(orjson.dumps(body), status, headers, media_type="application/json")


def install(app: FastAPI) -> None:
    """Register the handlers. Unexpected exceptions are for :class:`app.middleware.RequestMiddleware`."""
    app.add_exception_handler(ForetellError, _on_foretell_error)
    app.add_exception_handler(HTTPException, _on_http_exception)


async def _on_foretell_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, ForetellError)
    return respond(error)


async def _on_http_exception(request: Request, error: Exception) -> Response:
    """404, 405 and their like, raised by the router."""
    assert isinstance(error, HTTPException)
    codes = {404: "not_found", 405: "method_not_allowed"}
    details = {
        404: "There is nothing at this path; GET /docs lists what there is.",
        405: "This path does not answer to this method; the Allow header names those it does.",
    }
    body = {
        "error": codes.get(error.status_code, "http_error"),
        "detail": details.get(error.status_code, str(error.detail)),
    }
    return error_response(error.status_code, body, error.headers)


def _path(location: tuple[int | str, ...]) -> str:
    return ".".join(str(part) for part in location) or "body"


def _sentence(message: str) -> str:
    """Pydantic's message without its "Value error, " and cut to a length that can be read."""
    return message.removeprefix("Value error, ")[:300]
