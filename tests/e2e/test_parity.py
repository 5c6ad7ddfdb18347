"""Train/serve parity: what ``/predict`` answers is what evaluation computes offline from the same events."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import httpx
import numpy as np
import pytest

from app.lifespan import open_state
from app.main import create_app
from app.settings import Settings
from foretell.embedded import EmbeddedStores
from foretell.loading import load_dataset
from models.artifact import open_artifact
from models.datasets.storefront import simulate
from models.decisions import Decisions
from models.evaluate import Scorer, load_functions
from models.log import build_log
from tests.app.conftest import client_of
from tests.e2e.conftest import SAVED

USERS = 1_000
TOGETHER = 8
ITEMS = 3


@pytest.mark.timeout(600)
async def test_a_thousand_users_get_what_evaluation_computed(stores: EmbeddedStores) -> None:
    shop = simulate(seed=23, users=1_400, items=5_000, events=150_000)
    artifact = open_artifact(SAVED, "storefront")
    contract, vocabulary = artifact.contract, artifact.vocabulary
    log = build_log(shop, vocabulary, contract, before=0.0)
    assert len(log.users) >= USERS

    # One decision for each of some items a user; a minute after everything, on a phone.
    at = float(log.at.max()) + 60.0
    rng = np.random.default_rng(0)
    user = np.repeat(np.arange(USERS), ITEMS)
    before = np.diff(log.offsets)[user]
    request = np.zeros((len(user), len(contract.fields)), np.int32)
    place = [field.name for field in contract.fields].index("device")
    request[:, place] = vocabulary.field_id("device", "mobile")
    moments = np.full(len(user), at)
    none = np.zeros((len(user), 0), np.float32)
    decisions = Decisions(
        user=user,
        at=moments,
        before=before,
        items=rng.integers(2, contract.items, len(user), dtype=np.int32),
        labels=none,
        weights=none,
        values=none,
        context=log.context(user, moments, log.last_at(user, before), request),
        shown=np.zeros(len(user), np.int32),
    )
    offline = Scorer(log, load_functions(artifact)).score(decisions)

    load_dataset(shop, stores.mongo_url, "parity")
    settings = Settings(
        mongo_url=stores.mongo_url,
        redis_url=stores.redis_url,
        mongo_database="parity",
        model_root=SAVED,
        mongo_timeout_ms=20_000,
        redis_timeout_ms=20_000,
        deadline_ms=60_000,
    )
    app = create_app(settings, open_state=open_state)
    when = datetime.fromtimestamp(at, UTC).isoformat()
    worst = {"probability": 0.0, "value": 0.0}
    async with app.router.lifespan_context(app) as state, client_of(app, state) as client:

        async def compare(number: int) -> None:
            rows = slice(number * ITEMS, (number + 1) * ITEMS)
            body: dict[str, Any] = {
                "user_id": log.users[number],
                "items": [vocabulary.item_name(int(item)) for item in decisions.items[rows]],
                "rank": "items",
                "context": {"device": "mobile", "at": when},
            }
            computed, cached = await ask(client, body), await ask(client, body)
            assert computed["provenance"]["history"] == before[number * ITEMS]
            assert cached["provenance"]["state"] in {"cached", "anonymous"}
            for answer in (computed, cached):
                for i, target in enumerate(contract.targets):
                    online = [p["probabilities"][target] for p in answer["predictions"]]
                    off = np.abs(online - offline.probabilities[rows, i])
                    worst["probability"] = max(worst["probability"], float(off.max()))
                for i, value in enumerate(contract.values):
                    online = [p["expected"][value] for p in answer["predictions"]]
                    expected = offline.values[rows, i]
                    off = np.abs(online - expected) / np.maximum(expected, 1)  # amounts beyond 1 by their size
                    worst["value"] = max(worst["value"], float(off.max()))

        # Some at a time, so that they are computed together.
        for first in range(0, USERS, TOGETHER):
            await asyncio.gather(*(compare(number) for number in range(first, first + TOGETHER)))
    print(f"largest differences over {USERS} users, computed and cached: {worst}")
    assert max(worst.values()) < 1e-4


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> dict[str, Any]:
    answer = await client.post("/predict", json=body)
    assert answer.status_code == 200, answer.text
    return dict(answer.json())
