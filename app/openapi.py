"""The OpenAPI page: request bodies that routes read themselves, and errors in their one shape."""

from __future__ import annotations

from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from pydantic import BaseModel
from pydantic.json_schema import models_json_schema

from app.replies import ErrorResponse
from app.schemas import BatchRequest, EventsRequest, PredictRequest, UserRequest

REF = "#/components/schemas/{model}"

#: Request models, which FastAPI does not see because routes parse the body themselves.
REQUESTS: tuple[type[BaseModel], ...] = (PredictRequest, BatchRequest, EventsRequest, UserRequest)

#: By status, what a route's ``responses`` says of an error.
ERRORS: dict[int | str, dict[str, Any]] = {
    status: {"model": ErrorResponse, "description": description}
    for status, description in {
        401: "No key, or one that is not known or has expired; only where the service has keys.",
        403: "The key lacks the scope of this route.",
        408: "The client took longer than FORETELL_RECEIVE_SECONDS to send the request.",
        409: "The user was erased less than a minute ago. `Retry-After` says when to try again.",
        413: "The body is longer than FORETELL_BODY_LIMIT_BYTES.",
        415: "The Content-Type is not application/json.",
        422: "The payload is invalid; `fields` names every field at fault.",
        429: "The key's limit, or that of refused keys, is used up. `Retry-After` says when to try again.",
        503: "Overloaded, or a store or the model is away. `Retry-After` says when to try again.",
        504: "No answer within FORETELL_DEADLINE_MS.",
    }.items()
}

#: What every route that wants a key may answer.
KEYED: dict[int | str, dict[str, Any]] = {status: ERRORS[status] for status in (401, 403, 429)}


def json_body(schema: type[BaseModel]) -> dict[str, Any]:
    """``openapi_extra`` for a route that reads ``schema`` from its body; its examples show on the page."""
    extra = schema.model_config.get("json_schema_extra")
    examples = extra["examples"] if isinstance(extra, dict) else []
    assert isinstance(examples, list)
    content = {
        "schema": {"$ref": REF.format(model=schema.__name__)},
        "examples": {f"example {place}": {"value": value} for place, value in enumerate(examples, 1)},
    }
    return {"requestBody": {"required": True, "content": {"application/json": content}}}


def install(app: FastAPI) -> None:
    """Make ``/openapi.json`` hold the schemas of the request bodies too."""

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            document = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
            )
            _, definitions = models_json_schema([(model, "validation") for model in REQUESTS], ref_template=REF)
            document["components"]["schemas"] |= definitions["$defs"]
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # the way FastAPI documents
