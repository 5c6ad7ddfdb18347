"""Opens everything a request needs, in a clear order, and closes it in the opposite one."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path
from typing import TypedDict, TypeVar

import numpy as np
import structlog

from app import logs, mongo, redis
from app.access import Access
from app.apart import ADDRESS
from app.apart.remote import connected
from app.breakers import Breaker
from app.catalogue import Catalogue
from app.door import Door
from app.draining import draining
from app.erasures import Erasures
from app.errors import HistoryUnavailable, StartupError, Unreachable
from app.event_store import EventStore
from app.garbage import settle
from app.health import Health
from app.history import MongoHistory
from app.ingest import Ingest
from app.key_file import KeyFile
from app.limits import Limiter
from app.loading import load
from app.metrics import Metrics
from app.model import Model
from app.newcomers import Newcomers
from app.predictor import Predictor
from app.pseudonyms import alias_of
from app.retention import ensure_retention
from app.settings import Settings
from app.states import RedisStates
from app.users import Users
from app.visitor import Visitors
from models.artifact import Artifact

T = TypeVar("T")

log = structlog.stdlib.get_logger(__name__)


#: Between two attempts to reach a store at start.
RETRY_SECONDS = 0.2


class State(TypedDict):
    """What routes find in ``request.state``; :mod:`app.dependencies` has the getters."""

    predictor: Predictor
    ingest: Ingest
    users: Users
    access: Access
    health: Health
    model: Model
    door: Door


@asynccontextmanager
async def open_state(settings: Settings, metrics: Metrics) -> AsyncIterator[State]:
    """Stores first, so that a missing one is told before the model takes its seconds; then what needs both.

    Raises:
        StartupError, ArtifactError, ContractError: one sentence for the operator.
    """
    logs.configure(settings)  # again in each worker process
    async with AsyncExitStack() as stack:
        stack.callback(metrics.close)
        await stack.enter_async_context(metrics.settling())
        keys = await _keys(stack, settings, metrics)
        patience = settings.startup_seconds
        stores = await patiently(
            partial(mongo.connect, settings.mongo_url, settings.mongo_database, settings.mongo_timeout_ms), patience
        )
        stack.push_async_callback(stores.close)
        cache = await patiently(
            partial(redis.connect, settings.redis_url, settings.redis_timeout_ms, metrics.turned), patience
        )
        stack.push_async_callback(cache.close)
        guard = Breaker(
            "history", HistoryUnavailable, stores.ping, seconds=settings.mongo_timeout_ms / 1000, on_turn=metrics.turned
        )
        stack.push_async_callback(guard.close)
        model = await stack.enter_async_context(_model(settings, metrics))
        states = await stack.enter_async_context(_states(cache, model.artifact, settings, metrics))
        catalogue = Catalogue(
            stores.database,
            model.artifact.vocabulary,
            Newcomers(settings.newcomers, model.seats(), metrics.waiting.set),
            settings.catalogue_refresh_seconds,
            on_failure=metrics.catalogue_failures.inc,
            on_unreadable=metrics.left_out,
            guard=guard,
        )
        try:
            await stores.ensure_indexes()
            await ensure_retention(stores.database, settings.retention_days)
            erasures = await Erasures.open(stores.database)
            await stack.enter_async_context(catalogue)
        except mongo.Refused as error:
            raise mongo.refusal(settings.mongo_url, error) from error
        except HistoryUnavailable as error:
            raise StartupError("MongoDB stopped answering while the catalogue was read; start it again.") from error
        alias = alias_of(settings)
        users = Users(stores.database, erasures, states, alias)
        exposed = model.artifact.contract.exposed > 0
        history = MongoHistory(stores.database, metrics.left_out, guard, exposed=exposed)
        visitors = Visitors(history, states, model, metrics, alias)
        health = Health({"cache": cache.ping, "history": stores.ping}, check_model=model.check)
        stack.enter_context(draining(health, settings.drain_seconds))
        _announce(model, metrics)
        settle()
        yield State(
            predictor=Predictor(visitors, catalogue, model, metrics, settings, np.random.default_rng()),
            ingest=Ingest(
                EventStore(stores.database, guard),
                states,
                model.artifact.contract,
                metrics,
                settings.ingest_limit,
                alias=alias,
                keep_out=users.keep_out,
            ),
            users=users,
            access=Access(keys, Limiter(cache), settings, metrics),
            health=health,
            model=model,
            door=Door(model, settings, metrics),
        )


@asynccontextmanager
async def _model(settings: Settings, metrics: Metrics) -> AsyncIterator[Model]:
    """The model in a process of its own, where the supervisor has started one, and otherwise in this one."""
    if address := os.environ.get(ADDRESS):
        async with connected(Path(address), settings) as remote:
            yield remote
        return
    runtime = await asyncio.to_thread(load, settings, metrics)
    try:
        yield runtime
    finally:
        runtime.close()


async def _keys(stack: AsyncExitStack, settings: Settings, metrics: Metrics) -> KeyFile | None:
    """The keys, read again whenever they change. Raises KeysError."""
    if settings.keys is None:
        return None
    return await stack.enter_async_context(KeyFile(settings.keys, metrics.keys_failures.inc))


async def patiently(connect: Callable[[], Awaitable[T]], seconds: float) -> T:
    """What ``connect`` returns, tried again for ``seconds``: stores and service are often started together.

    Raises:
        Unreachable: nobody answered in all that time.
    """
    loop = asyncio.get_running_loop()
    end = loop.time() + seconds
    while True:
        try:
            return await connect()
        except Unreachable:
            if loop.time() >= end:
                raise
            await asyncio.sleep(RETRY_SECONDS)


def _states(cache: redis.Cache, artifact: Artifact, settings: Settings, metrics: Metrics) -> RedisStates:
    """The cache of this very artifact: a retrained model of the same name and version shares no state with it."""
    content = str(artifact.manifest["digest"])[:12]
    return RedisStates(
        cache,
        f"{artifact.name}:{artifact.version}:{content}",
        artifact.contract,
        settings.state_ttl_seconds,
        on_waiting=metrics.pending_invalidations.set,
        on_corrupt=metrics.corrupt.inc,
    )


def _announce(model: Model, metrics: Metrics) -> None:
    """Say which model serves, and where it runs: in the metrics and in the log."""
    artifact = model.artifact
    kind, fingerprint = str(artifact.manifest["kind"]), artifact.contract.fingerprint()
    metrics.model.labels(artifact.name, artifact.version, kind, model.device, fingerprint).set(1)
    log.info(
        "model_ready",
        model=artifact.name,
        version=artifact.version,
        kind=kind,
        device=model.device,
        fingerprint=fingerprint,
    )
