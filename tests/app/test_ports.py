"""What comes from elsewhere: other origins, the port of operations."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from app.settings import Settings
from models.artifact import Artifact
from tests.app.conftest import House, serving
from tests.app.fakes import FakeRuntime

SHOP = "https://shop.example"


@asynccontextmanager
async def _house(artifact: Artifact, settings: Settings, **changes: Any) -> AsyncIterator[House]:
    house = House(FakeRuntime(artifact), settings.model_copy(update=changes))
    async with serving(house):
        yield house


async def _preflight(house: House, origin: str) -> httpx.Response:
    headers = {
        "Origin": origin,
        "Access-Control-Request-Method": "POST",
        "Access-Control-Request-Headers": "authorization, content-type",
    }
    return await house.client.options("/predict", headers=headers)


async def test_pages_of_other_origins_are_kept_out_by_default(house: House) -> None:
    assert (await _preflight(house, SHOP)).status_code == 405
    response = await house.client.post("/predict", json={"user_id": "u"}, headers={"Origin": SHOP})
    assert not [name for name in response.headers if name.startswith("access-control")]


async def test_the_origins_of_the_setting_and_no_others_may_call(artifact: Artifact, settings: Settings) -> None:
    async with _house(artifact, settings, cors_origins=f" {SHOP} ,https://b.example") as house:
        allowed = await _preflight(house, SHOP)
        assert allowed.status_code == 200
        assert allowed.headers["access-control-allow-origin"] == SHOP
        assert "access-control-allow-credentials" not in allowed.headers
        assert (await _preflight(house, "https://evil.example")).status_code == 400
        answer = await house.client.post("/predict", json={"user_id": "u"}, headers={"Origin": SHOP})
        assert answer.headers["access-control-allow-origin"] == SHOP
        assert "x-request-id" in answer.headers["access-control-expose-headers"].lower()


async def test_a_preflight_needs_no_key_and_a_refusal_can_be_read_by_the_page(
    artifact: Artifact, settings: Settings, tmp_path: Path
) -> None:
    keys = _empty(tmp_path)
    async with _house(artifact, settings, cors_origins=SHOP, keys=keys) as house:
        assert (await _preflight(house, SHOP)).status_code == 200
        refused = await house.client.post("/predict", json={"user_id": "u"}, headers={"Origin": SHOP})
        assert refused.status_code == 401
        assert refused.headers["access-control-allow-origin"] == SHOP


def _empty(folder: Path) -> Path:
    (folder / "keys").touch()
    return folder / "keys"


@pytest.mark.parametrize("path", ["/metrics", "/health/live", "/health/ready"])
async def test_operations_have_a_port_of_their_own_without_keys_there_and_are_not_found_elsewhere(
    artifact: Artifact, settings: Settings, tmp_path: Path, path: str
) -> None:
    async with _house(artifact, settings, ops_port=9900, keys=_empty(tmp_path)) as house:
        ops = await house.client.get(f"http://foretell:9900{path}")
        assert ops.status_code == 200, ops.text
        public = await house.client.get(path)
        assert (public.status_code, public.json()["error"]) == (404, "not_found")
        # The port is that of the socket; the client writes the Host header as it likes.
        lied = await house.client.get(path, headers={"Host": "foretell:9900"})
        assert lied.status_code == 404


@pytest.mark.parametrize("path", ["/", "/models", "/predict", "/users/u", "/docs", "/metricsx"])
async def test_the_port_of_operations_serves_nothing_else(artifact: Artifact, settings: Settings, path: str) -> None:
    async with _house(artifact, settings, ops_port=9900) as house:
        response = await house.client.get(f"http://foretell:9900{path}")
        assert (response.status_code, response.json()["error"]) == (404, "not_found")
        assert "x-request-id" in response.headers


async def test_without_such_a_port_operations_are_found_with_everything_else(house: House) -> None:
    assert (await house.client.get("/metrics")).status_code == 200
