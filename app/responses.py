"""JSON in and out: the body of a request as it came, answers through orjson."""

from __future__ import annotations

from typing import Any, TypeVar

import orjson
from fastapi import Request, Response
from pydantic import BaseModel, ValidationError

from app.errors import FieldProblem, InvalidPayload, UnsupportedMedia
from app.nesting import deeper_than

M = TypeVar("M", bound=BaseModel)

#: In the scope of a request: its body, where all of it was there when its headers were read.
BODY = "foretell.body"


async def read_json(request: Request, schema: type[M]) -> M:
    """Read the body and parse it once, straight into ``schema``.

    Raises:
        UnsupportedMedia: the Content-Type is not ``application/json``.
        InvalidPayload: malformed JSON, JSON nested deeper than FORETELL_JSON_DEPTH, or JSON that does not fit the
            schema; every field at fault is named.
        PayloadTooLarge: from the body limit, while reading.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise UnsupportedMedia(
            "Send JSON, with the header Content-Type: application/json.",
            fields=[FieldProblem("Content-Type", "must be application/json")],
        )
    body: bytes = request.scope[BODY] if BODY in request.scope else await request.body()
    limit = request.app.state.settings.json_depth
    if deeper_than(body, limit):
        raise InvalidPayload.of("body", f"must not be nested deeper than {limit} levels")
    try:
        return schema.model_validate_json(body)
    except ValidationError as error:
        raise InvalidPayload.from_validation(error) from None


def json_response(body: Any) -> Response:
    """200 with JSON; takes dataclasses, datetimes and numpy numbers as they are."""
    return Response(orjson.dumps(body, option=orjson.OPT_SERIALIZE_NUMPY), media_type="application/json")
