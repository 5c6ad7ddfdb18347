"""Probes for orchestrators: is the process alive, and are requests welcome?"""

from __future__ import annotations

from typing import Any

from fastapi import APIRouter, Response

from app.dependencies import HealthDep
from app.errors import error_response
from app.responses import json_response

router = APIRouter(prefix="/health", tags=["operations"])


@router.get("/live", summary="Is the process alive?")
async def live() -> dict[str, str]:
    """Always 200 while the event loop turns."""
    return {"status": "alive"}


@router.get(
    "/ready", summary="Are requests welcome?", responses={503: {"description": "No: the reason is in `detail`."}}
)
async def ready(health: HealthDep) -> Response:
    """200 from the moment the port opens until shutdown. A lost store is named in `degraded`, not a reason for 503."""
    if health.stopping:
        return error_response(503, {"error": "not_ready", "detail": "The service is shutting down."})
    parts = await health.parts()
    lost = [name for name, part in parts.items() if part == "lost"]
    body: dict[str, Any] = {"status": "ready", "parts": {"model": "ok", **parts}, "degraded": lost}
    return json_response(body)
