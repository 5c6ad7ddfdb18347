"""Probes for orchestrators: is the process alive, and are requests welcome?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from app.dependencies import HealthDep
from app.errors import ShuttingDown
from app.openapi import ERRORS
from app.responses import json_response

router = APIRouter(prefix="/health", tags=["operations"])


@router.get("/live", summary="Is the process alive?")
async def live() -> dict[str, str]:
    """Always 200 while the event loop turns."""
    return {"status": "alive"}


@router.get("/ready", summary="Are requests welcome?", responses={503: ERRORS[503]})
async def ready(health: HealthDep) -> Response:
    """200 from the moment the port opens, when the model is warm; 503 once SIGTERM came, for FORETELL_DRAIN_SECONDS, in
    which requests are still answered, and while the model's process is being started again. A lost store is named in
    `degraded`; the service answers without it."""
    if health.leaving:
        raise ShuttingDown
    health.check_model()
    parts = await health.parts()
    lost = [name for name, part in parts.items() if part == "lost"]
    body: dict[str, Any] = {"status": "ready", "parts": {"model": "ok", **parts}, "degraded": lost}
    return json_response(body)
