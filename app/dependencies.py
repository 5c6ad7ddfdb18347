"""What routes ask for: async getters of the lifespan's state, and their Annotated aliases."""

from __future__ import annotations

from typing import Annotated, cast

from fastapi import Depends, Request

from app.health import Health
from app.ingest import Ingest
from app.metrics import Metrics
from app.middleware import REQUEST_ID
from app.model import Model
from app.predictor import Predictor
from app.settings import Settings
from app.users import Users


async def get_predictor(request: Request) -> Predictor:
    """The path of a prediction."""
    return cast(Predictor, request.state.predictor)


async def get_ingest(request: Request) -> Ingest:
    """The path of events."""
    return cast(Ingest, request.state.ingest)


async def get_users(request: Request) -> Users:
    """What is held of users."""
    return cast(Users, request.state.users)


async def get_health(request: Request) -> Health:
    """Readiness."""
    return cast(Health, request.state.health)


async def get_model(request: Request) -> Model:
    """The model that serves."""
    return cast(Model, request.state.model)


async def get_metrics(request: Request) -> Metrics:
    """The collectors."""
    return cast(Metrics, request.app.state.metrics)


async def get_settings(request: Request) -> Settings:
    """The settings."""
    return cast(Settings, request.app.state.settings)


async def get_request_id(request: Request) -> str:
    """The id the middleware gave this request."""
    return cast(str, request.scope[REQUEST_ID])


PredictorDep = Annotated[Predictor, Depends(get_predictor)]
IngestDep = Annotated[Ingest, Depends(get_ingest)]
UsersDep = Annotated[Users, Depends(get_users)]
HealthDep = Annotated[Health, Depends(get_health)]
ModelDep = Annotated[Model, Depends(get_model)]
MetricsDep = Annotated[Metrics, Depends(get_metrics)]
SettingsDep = Annotated[Settings, Depends(get_settings)]
RequestId = Annotated[str, Depends(get_request_id)]
