"""What will this user do next?"""

from __future__ import annotations

import asyncio
import time
from typing import Any

import structlog
from fastapi import APIRouter, Depends, Request, Response
from pydantic import ValidationError

from app.access import Needs
from app.answers import Answer
from app.deadline import after, within
from app.dependencies import PredictorDep, RequestId, SettingsDep
from app.door import Door
from app.errors import ForetellError, Internal, InvalidPayload, told
from app.middleware import ARRIVED, REQUEST_ID
from app.openapi import ERRORS, KEYED, json_body
from app.predictor import Predictor
from app.replies import BatchResponse, PredictResponse
from app.responses import BODY, M, json_response, read_json
from app.schemas import BatchRequest, PredictRequest
from app.settings import Settings

log = structlog.stdlib.get_logger(__name__)

needed = Needs("predict")
router = APIRouter(tags=["predictions"], dependencies=[Depends(needed)], responses=KEYED)


@router.post(
    "/predict",
    summary="Predict what a user does next",
    response_model=PredictResponse,
    responses={status: ERRORS[status] for status in (408, 413, 415, 422, 503, 504)},
    openapi_extra=json_body(PredictRequest),
)
async def predict(request: Request) -> Response:
    """Probabilities for the named items, and ranked recommendations from the catalogue.

    A user nobody knows, or a lost store, is no error: `provenance` says what the answer rests on.
    """
    predictor: Predictor = request.scope["state"]["predictor"]
    door: Door = request.scope["state"]["door"]
    settings: Settings = request.app.state.settings
    deadline = _deadline(request, settings)
    door.admit(deadline)
    question = await _read(request, PredictRequest, deadline)
    return json_response(await predictor.predict(question, request.scope[REQUEST_ID], deadline))


async def predict_directly(request: Request) -> Response:
    """The same for :class:`app.direct.Direct`, which leaves the key to its endpoint."""
    await needed(request)
    return await predict(request)


@router.post(
    "/predict/batch",
    summary="Predict what many users do next",
    response_model=BatchResponse,
    responses={status: ERRORS[status] for status in (408, 413, 415, 422, 504)},
    openapi_extra=json_body(BatchRequest),
)
async def predict_batch(
    request: Request, predictor: PredictorDep, settings: SettingsDep, request_id: RequestId
) -> Response:
    """An answer, or an error in the usual shape, for each request; one that fails spoils no other.

    All share one deadline. Answer n has the request id of the whole and `.n`, counted from 0.
    """
    deadline = _deadline(request, settings)
    batch = await _read(request, BatchRequest, deadline)
    answers = (
        _answer(predictor, question, f"{request_id}.{place}", deadline) for place, question in enumerate(batch.requests)
    )
    return json_response({"answers": await asyncio.gather(*answers)})


def _deadline(request: Request, settings: Settings) -> float:
    """When a request that arrived a while ago must be answered, in the event loop's time."""
    age = time.perf_counter() - request.scope[ARRIVED]
    return after(settings.deadline_ms - 1000 * age)


async def _read(request: Request, schema: type[M], deadline: float) -> M:
    """The body."""
    if BODY in request.scope:
        return await read_json(request, schema)
    async with within(deadline):  # a body that trickles in is no reason to wait
        return await read_json(request, schema)


async def _answer(
    predictor: Predictor, question: PredictRequest | ValidationError, request_id: str, deadline: float
) -> Answer | dict[str, Any]:
    """The answer to one request of many, or its error."""
    try:
        if isinstance(question, ValidationError):
            raise InvalidPayload.from_validation(question)
        return await predictor.predict(question, request_id, deadline)
    except ForetellError as error:
        return told(error)
    except Exception:  # as the middleware does for a request that comes alone
        log.exception("internal_error", request_id=request_id)
        return told(Internal())
