"""Builds the application: ``create_app`` is what uvicorn (``--factory``) and the tests call."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from importlib.metadata import version

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from app import errors, openapi
from app.direct import Direct, Service
from app.draining import DrainMiddleware
from app.lifespan import State, open_state
from app.metrics import Metrics
from app.middleware import BodyLimitMiddleware, RequestMiddleware, StartupMiddleware
from app.ports import PortMiddleware
from app.routes import events, health, metrics, models, page, predict, users
from app.settings import Settings, load_settings
from app.slow_clients import SlowClientMiddleware

OpenState = Callable[[Settings, Metrics], AbstractAsyncContextManager[State]]

TAGS = [
    {"name": "predictions", "description": "What will this user do next?"},
    {"name": "events", "description": "What users did."},
    {"name": "users", "description": "What is held of a user: described, exported, erased."},
    {"name": "models", "description": "What answers."},
    {"name": "operations", "description": "Probes and metrics."},
]


def create_app(settings: Settings | None = None, *, open_state: OpenState = open_state) -> Service:
    """The service as an ASGI application.

    Args:
        settings: read from the environment, if left out.
        open_state: opens everything the routes need; tests give one that opens fakes.

    Raises:
        SettingsError: the environment holds a setting that cannot be used.
    """
    settings = load_settings() if settings is None else settings
    collectors = Metrics()

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[State]:
        async with open_state(settings, collectors) as state:
            yield state

    app = Service(
        title="Foretell",
        version=version("foretell"),
        description="An online prediction service: what will this user do next?",
        openapi_tags=TAGS,
        lifespan=lifespan,
        redirect_slashes=False,
        docs_url=None,  # app.routes.page serves it; FastAPI's own pages load their scripts from elsewhere
        redoc_url=None,
    )
    app.state.settings = settings
    app.state.metrics = collectors
    for module in (predict, events, users, models, health, metrics, page):
        app.include_router(module.router)
    errors.install(app)
    openapi.install(app)
    app.direct = Direct("/predict", predict.predict_directly, settings, collectors)
    app.add_middleware(BodyLimitMiddleware, limit=settings.body_limit_bytes)
    if settings.origins:
        app.add_middleware(
            CORSMiddleware,
            allow_origins=settings.origins,
            allow_methods=["GET", "POST", "PUT", "DELETE"],
            allow_headers=["Authorization", "Content-Type", "X-Request-ID"],
            expose_headers=["Retry-After", "X-Degraded", "X-Request-ID"],
        )
    if settings.ops_port is not None:
        app.add_middleware(PortMiddleware, ops_port=settings.ops_port)
    app.add_middleware(SlowClientMiddleware, seconds=settings.receive_seconds)
    app.add_middleware(DrainMiddleware)
    app.add_middleware(RequestMiddleware, metrics=collectors)
    app.add_middleware(StartupMiddleware)  # added last, so outermost
    return app
