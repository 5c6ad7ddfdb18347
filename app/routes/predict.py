"""What will this user do next?"""

from __future__ import annotations

import time

from fastapi import APIRouter, Request, Response

from app.deadline import after, within
from app.dependencies import PredictorDep, RequestId, SettingsDep
from app.middleware import ARRIVED
from app.openapi import ERRORS, json_body
from app.responses import json_response, read_json
from app.schemas import PredictRequest, PredictResponse

router = APIRouter(tags=["predictions"])


@router.post(
    "/predict",
    summary="Predict what a user does next",
    response_model=PredictResponse,
    responses={status: ERRORS[status] for status in (413, 415, 422, 503, 504)},
    openapi_extra=json_body(PredictRequest),
)
async def predict(request: Request, predictor: PredictorDep, settings: SettingsDep, request_id: RequestId) -> Response:
    """Probabilities for the named items, and ranked recommendations from the catalogue.

    A user nobody knows, or a lost store, is no error: `provenance` says what the answer rests on.
    """
    age = time.perf_counter() - request.scope[ARRIVED]
    deadline = after(settings.deadline_ms - 1000 * age)
    async with within(deadline):  # a body that trickles in is no reason to wait
        question = await read_json(request, PredictRequest)
    return json_response(await predictor.predict(question, request_id, deadline))
