"""What Prometheus scrapes."""

from __future__ import annotations

from fastapi import APIRouter, Depends, Response
from prometheus_client import CONTENT_TYPE_LATEST

from app.access import Needs
from app.dependencies import MetricsDep
from app.openapi import KEYED

router = APIRouter(tags=["operations"], dependencies=[Depends(Needs("admin"))], responses=KEYED)


@router.get("/metrics", summary="Prometheus metrics", response_class=Response)
async def metrics(metrics: MetricsDep) -> Response:
    """Every collector, in the Prometheus text format."""
    return Response(metrics.render(), headers={"Content-Type": CONTENT_TYPE_LATEST})
