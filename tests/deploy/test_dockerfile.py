"""The Dockerfile keeps its promises: not root, checked for health, stoppable, pinned, nothing leaks."""

from __future__ import annotations

import re

import pytest

from app.settings import PREFIX, Settings
from tests.deploy.dockerfile import ROOT, Stage, exec_form, read_stages

STAGES = read_stages(ROOT / "Dockerfile")
SERVICE = STAGES["service"]


def environment(stage: Stage) -> dict[str, str]:
    """What ``ENV`` sets in the stage."""
    return dict(pair.split("=", 1) for line in stage.all("ENV") for pair in line.split())


@pytest.mark.parametrize("name", ["service", "demo"])
def test_containers_do_not_run_as_root(name: str) -> None:
    """By number, which is what Kubernetes' runAsNonRoot can check."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", STAGES[name].last("USER"))


def test_the_service_is_the_process_that_gets_the_signal() -> None:
    """The exec form, without a shell in between that would not pass SIGTERM on."""
    assert exec_form(SERVICE.last("CMD")) == ["foretell", "serve"]
    assert SERVICE.last("STOPSIGNAL") == "SIGTERM"


def test_the_seed_loads_the_demo_data_and_ends() -> None:
    assert exec_form(STAGES["demo"].last("CMD")) == ["foretell", "demo", "--load-only"]
    assert not STAGES["demo"].all("HEALTHCHECK")


def test_health_is_asked_by_the_script_that_the_image_holds() -> None:
    options, _, command = SERVICE.last("HEALTHCHECK").partition(" CMD ")
    assert exec_form(command) == ["python3", "/srv/foretell/health.py"]
    assert "--start-period=" in options
    assert "deploy/image/health.py /srv/foretell/" in STAGES["project"].all("COPY")


def test_the_service_listens_on_the_exposed_port_of_every_address() -> None:
    assert environment(SERVICE)["FORETELL_HOST"] == "0.0.0.0"
    assert environment(SERVICE)["FORETELL_PORT"] == SERVICE.last("EXPOSE")


def test_variables_of_the_image_are_settings_of_the_service() -> None:
    names = {name for name in environment(SERVICE) if name.startswith(PREFIX)}
    assert names <= {PREFIX + field.upper() for field in Settings.model_fields}


def test_packages_are_pinned_by_hash_or_come_from_no_index() -> None:
    """Every call of pip either checks hashes or may not look anywhere; only the former may see the index's address."""
    calls = [run for stage in STAGES.values() for run in stage.all("RUN") if re.search(r"pip (install|wheel)", run)]
    assert len(calls) == 5
    for call in calls:
        assert ("--require-hashes" in call) != ("--no-index" in call)
        assert ("--mount=type=secret,id=pip.conf" in call) == ("--require-hashes" in call)


def test_no_address_stands_in_the_dockerfile() -> None:
    assert "://" not in (ROOT / "Dockerfile").read_text()


def test_every_copied_path_exists_and_is_let_into_the_build_context() -> None:
    rules = (ROOT / ".dockerignore").read_text().splitlines()
    allowed = [
        rule[1:].removesuffix("/**").replace("requirements/*.txt", "requirements/") for rule in rules if rule[:1] == "!"
    ]
    for stage in STAGES.values():
        for line in stage.all("COPY"):
            if line.startswith("--from="):
                continue
            for source in line.split()[:-1]:
                assert (ROOT / source).exists(), source
                assert any(source.startswith(prefix) for prefix in allowed), source


def test_tests_data_and_git_stay_out_of_the_build_context() -> None:
    """The ignore file refuses everything first, and lets in by name."""
    rules = [r for r in (ROOT / ".dockerignore").read_text().splitlines() if r and not r.startswith("#")]
    assert rules[0] == "*"
    assert {rule.split("/")[0] for rule in rules if rule.startswith("!")} == {
        "!pyproject.toml", "!README.md", "!requirements", "!app", "!foretell", "!models", "!deploy",
    }  # fmt: skip
