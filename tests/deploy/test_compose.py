"""docker-compose.yml is valid by the official schema and fits the Dockerfile, the settings and the files beside it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema import Draft7Validator
from typer.testing import CliRunner

from app.keys import read_keys
from app.settings import PREFIX, Settings
from foretell.cli import app as cli
from tests.deploy.dockerfile import ROOT, read_stages

SCHEMA = json.loads((ROOT / "tests/deploy/compose_spec/compose-spec.json").read_text())
FILES = ["docker-compose.yml", "deploy/docker-compose.gpu.yml"]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
SERVICES: dict[str, Any] = COMPOSE["services"]


def problems(document: object) -> list[str]:
    """What the schema finds wrong, one sentence each."""
    return [f"{error.json_path}: {error.message}" for error in Draft7Validator(SCHEMA).iter_errors(document)]


@pytest.mark.parametrize("name", FILES)
def test_the_compose_files_are_valid_by_the_official_schema(name: str) -> None:
    assert problems(yaml.safe_load((ROOT / name).read_text())) == []


def test_the_schema_refuses_a_misspelt_key() -> None:
    """The check above can fail."""
    assert problems({"services": {"app": {"image": "foretell", "depend_on": ["mongo"]}}})


def test_ports_are_published_on_the_loopback_address_only() -> None:
    published = [port for service in SERVICES.values() for port in service.get("ports", [])]
    assert len(published) == 3
    assert all(port.startswith("127.0.0.1:") for port in published)


def test_built_services_name_a_stage_of_the_dockerfile() -> None:
    stages = read_stages(ROOT / "Dockerfile")
    assert {service["build"]["target"] for service in SERVICES.values() if "build" in service} == {"service", "demo"}
    assert {"service", "demo"} <= set(stages)


@pytest.mark.parametrize("name", FILES)
def test_variables_are_settings_of_the_service(name: str) -> None:
    known = {PREFIX + field.upper() for field in Settings.model_fields}
    for service in yaml.safe_load((ROOT / name).read_text())["services"].values():
        assert {key for key in service.get("environment", {}) if key.startswith(PREFIX)} <= known


def test_the_stores_are_healthy_before_the_service_starts_and_it_never_waits_for_the_seed() -> None:
    waits = {name: wait["condition"] for name, wait in SERVICES["app"]["depends_on"].items()}
    assert waits.pop("keys") == "service_completed_successfully"
    assert waits == {"mongo": "service_healthy", "redis": "service_healthy"}
    assert all("healthcheck" in SERVICES[name] for name in waits)


def test_the_service_is_given_longer_to_stop_than_it_takes() -> None:
    grace = int(SERVICES["app"]["stop_grace_period"].removesuffix("s"))
    assert grace > Settings.model_fields["shutdown_seconds"].default


def test_redis_restarts_with_all_it_acknowledged() -> None:
    """A snapshot could bring back a generation from before an acknowledged event, and its state with it."""
    command = SERVICES["redis"]["command"]
    options = dict(zip(command[1::2], command[2::2], strict=True))
    assert options["--save"] == ""
    assert (options["--appendonly"], options["--appendfsync"]) == ("yes", "always")
    assert options["--maxmemory-policy"] == "allkeys-lru"
    assert SERVICES["redis"]["volumes"] == ["redis-data:/data"]


@pytest.mark.parametrize("name", ["app", "keys", "seed"])
def test_our_containers_write_nowhere_but_below_tmp_and_gain_no_rights(name: str) -> None:
    service = SERVICES[name]
    assert service["read_only"] is True
    assert service["tmpfs"] == ["/tmp"]
    assert service["cap_drop"] == ["ALL"]
    assert service["security_opt"] == ["no-new-privileges:true"]
    assert not service.get("privileged")


def test_the_service_wants_keys_and_only_the_one_shot_that_makes_the_first_may_write_them() -> None:
    file = Path(SERVICES["app"]["environment"]["FORETELL_KEYS"])
    assert SERVICES["keys"]["environment"]["FORETELL_KEYS"] == str(file)
    assert f"keys:{file.parent}:ro" in SERVICES["app"]["volumes"]
    assert SERVICES["keys"]["volumes"] == [f"keys:{file.parent}"]
    assert "FORETELL_INSECURE" not in SERVICES["app"]["environment"]


def test_the_first_key_is_made_by_the_command_as_it_is(tmp_path: Path) -> None:
    """Run as the container runs it: a key that may do everything the first time, nothing the second."""
    program, *arguments = SERVICES["keys"]["command"]
    assert program == "foretell"
    file = tmp_path / "keys"
    results = [CliRunner().invoke(cli, arguments, env={"FORETELL_KEYS": str(file)}) for _ in range(2)]
    assert [result.exit_code for result in results] == [0, 0]
    assert [bool(result.stdout) for result in results] == [True, False]
    [key] = read_keys(file).values()
    assert key.scopes == {"predict", "ingest", "admin"}


def test_probes_and_metrics_have_a_port_that_is_not_published() -> None:
    port = SERVICES["app"]["environment"]["FORETELL_OPS_PORT"]
    assert not any(published.endswith(f":{port}") for published in SERVICES["app"]["ports"])
    scraped = yaml.safe_load((ROOT / "deploy/prometheus/prometheus.yml").read_text())["scrape_configs"]
    assert scraped[0]["static_configs"][0]["targets"] == [f"app:{port}"]


def test_mounted_files_exist_and_named_volumes_are_declared() -> None:
    for service in SERVICES.values():
        for mount in service.get("volumes", []):
            source = mount.split(":")[0]
            assert (ROOT / source).exists() if source.startswith("./") else source in COMPOSE["volumes"]


def test_a_gpu_that_is_asked_for_and_missing_stops_the_start() -> None:
    app = yaml.safe_load((ROOT / "deploy/docker-compose.gpu.yml").read_text())["services"]["app"]
    assert app["environment"]["FORETELL_DEVICE"] == "gpu"
    (device,) = app["deploy"]["resources"]["reservations"]["devices"]
    assert device["capabilities"] == ["gpu"]
