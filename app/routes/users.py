"""What is held of a user: described, exported, erased."""

from __future__ import annotations

from collections.abc import AsyncIterator

import orjson
from fastapi import APIRouter, Depends, Request, Response
from pydantic import TypeAdapter, ValidationError
from starlette.convertors import PathConvertor, register_url_convertor
from starlette.responses import StreamingResponse

from app.access import Needs
from app.dependencies import MetricsDep, UsersDep
from app.errors import InvalidPayload, NotFound, problems
from app.mongo import Document
from app.openapi import ERRORS, KEYED, json_body
from app.replies import DescribedResponse, ErasedResponse
from app.responses import json_response, read_json
from app.schemas import UserRequest
from app.wire import Id


class _Anything(PathConvertor):
    """A path with whatever is in it; Starlette's own does not match a line break: such an id was 404, not 422."""

    regex = "(?s:.*)"


register_url_convertor("anything", _Anything())
router = APIRouter(
    prefix="/users",
    tags=["users"],
    dependencies=[Depends(Needs("admin"))],
    responses=KEYED | {status: ERRORS[status] for status in (422, 503)},
)

_ID: TypeAdapter[str] = TypeAdapter(Id)


@router.put(
    "/{user_id:anything}",
    summary="Describe a user",
    response_model=DescribedResponse,
    responses={status: ERRORS[status] for status in (408, 409, 413, 415)},
    openapi_extra=json_body(UserRequest),
)
async def describe(request: Request, user_id: str, users: UsersDep, metrics: MetricsDep) -> Response:
    """Replace the profile of a user. The next prediction knows it."""
    user_id = _valid(user_id)
    body = await read_json(request, UserRequest)
    current = await users.describe(user_id, body.profile)
    if not current:
        metrics.degraded.labels("cache").inc()
    return json_response({"user_id": user_id, "degraded": [] if current else ["cache"]})


@router.get(
    "/{user_id:anything}",
    summary="Export what is held of a user",
    response_class=Response,
    responses={
        200: {"description": "A document a line.", "content": {"application/jsonl": {"schema": {"type": "string"}}}},
        404: {"model": ERRORS[422]["model"], "description": "Nothing is held of this user."},
    },
)
async def export(user_id: str, users: UsersDep) -> Response:
    """Every document, as JSON Lines; `collection` says where it lies. An export that breaks off is not complete: the
    connection is closed without the end of the last chunk."""
    documents = users.export(_valid(user_id))
    first = await anext(documents, None)
    if first is None:
        raise NotFound("Nothing is held of this user.")
    return StreamingResponse(_lines(first, documents), media_type="application/jsonl")


@router.delete("/{user_id:anything}", summary="Erase a user", response_model=ErasedResponse)
async def erase(user_id: str, users: UsersDep, metrics: MetricsDep) -> Response:
    """Delete events, profile, exposures and cached states. For a minute nothing of this user is stored again; a 503
    means that something may be left: send the same request again."""
    deleted = await users.erase(_valid(user_id))
    metrics.erasures.inc()
    return json_response({"deleted": deleted})


def _valid(user_id: str) -> str:
    try:
        return _ID.validate_python(user_id)
    except ValidationError as error:
        raise InvalidPayload.of("user_id", problems(error)[0].problem) from None


async def _lines(first: Document, rest: AsyncIterator[Document]) -> AsyncIterator[bytes]:
    yield _line(first)
    async for document in rest:
        yield _line(document)


def _line(document: Document) -> bytes:
    """A line of JSON; what only BSON knows becomes text."""
    return orjson.dumps(document, default=str, option=orjson.OPT_APPEND_NEWLINE)
