"""What users did."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Request, Response

from app.access import Needs
from app.dependencies import IngestDep
from app.openapi import ERRORS, KEYED, json_body
from app.replies import EventsResponse
from app.responses import json_response, read_json
from app.schemas import EventsRequest

router = APIRouter(tags=["events"], dependencies=[Depends(Needs("ingest"))], responses=KEYED)


@router.post(
    "/events",
    summary="Store what users did",
    response_model=EventsResponse,
    responses={status: ERRORS[status] for status in (408, 413, 415, 422, 503)},
    openapi_extra=json_body(EventsRequest),
)
async def events(request: Request, ingest: IngestDep) -> Response:
    """Store up to 1,000 events; each is judged on its own, and sending one twice stores it once.

    Once this answers, every later prediction sees the accepted events. After a 503 nothing is promised: send the
    same events again.
    """
    batch = await read_json(request, EventsRequest)
    return json_response(await ingest.accept(batch))
