"""Prometheus, its alerts and the Grafana dashboard ask only for metrics that the service has."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any

import pytest
import yaml

from app.metrics import Metrics
from app.settings import Settings
from tests.deploy.dockerfile import ROOT

DASHBOARD: dict[str, Any] = json.loads((ROOT / "deploy/grafana/dashboards/foretell.json").read_text())
SUFFIXES = {"counter": ["_total"], "gauge": [""], "histogram": ["_bucket", "_sum", "_count"]}


def load(name: str) -> Any:
    """A YAML file below deploy/."""
    return yaml.safe_load((ROOT / "deploy" / name).read_text())


def exported() -> set[str]:
    """The names of all series that the service can expose, seen or not yet."""
    return {metric.name + suffix for metric in Metrics().registry.collect() for suffix in SUFFIXES[metric.type]}


def alerts() -> Iterator[dict[str, Any]]:
    """Every alert rule."""
    for group in load("prometheus/alerts.yml")["groups"]:
        yield from group["rules"]


def queries() -> list[str]:
    """Every PromQL expression of the alerts and of the dashboard."""
    panels = [target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"]]
    return panels + [alert["expr"] for alert in alerts()]


@pytest.mark.parametrize("query", queries())
def test_queries_name_only_metrics_that_the_service_exports(query: str) -> None:
    names = set(re.findall(r"\bforetell_\w+", query))
    assert names or "up{" in query
    assert names <= exported()


def test_the_dashboard_shows_every_metric_that_the_service_exports() -> None:
    shown = " ".join(target["expr"] for panel in DASHBOARD["panels"] for target in panel["targets"])
    missing = [metric.name for metric in Metrics().registry.collect() if metric.name not in shown]
    assert missing == []


def test_alerts_say_how_urgent_they_are_and_what_is_wrong() -> None:
    for alert in alerts():
        assert alert["labels"]["severity"] in {"page", "ticket"}
        assert alert["annotations"]["summary"]
        assert re.fullmatch(r"\d+m", alert["for"])


OPERATIONS = (ROOT / "docs/operations.md").read_text()


def test_each_alert_has_a_runbook_and_each_runbook_an_alert() -> None:
    runbooks = re.findall(r"^### (Foretell\w+)$", OPERATIONS, re.MULTILINE)
    assert sorted(runbooks) == sorted(alert["alert"] for alert in alerts())
    for text in re.split(r"^### Foretell\w+$", OPERATIONS, flags=re.MULTILINE)[1:]:
        assert "**Means**" in text
        assert "**Do**" in text


def test_the_runbooks_name_only_metrics_and_settings_that_there_are() -> None:
    names = set(re.findall(r"\bforetell_\w+", OPERATIONS))
    assert names <= exported() | {metric.name for metric in Metrics().registry.collect()}
    settings = {name.removeprefix("FORETELL_").lower() for name in re.findall(r"\bFORETELL_\w+", OPERATIONS)}
    assert len(settings) > 5
    assert settings <= set(Settings.model_fields)


def test_prometheus_scrapes_the_port_of_operations_and_loads_the_alerts() -> None:
    configuration = load("prometheus/prometheus.yml")
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
    port = compose["services"]["app"]["environment"]["FORETELL_OPS_PORT"]
    (job,) = configuration["scrape_configs"]
    assert job["static_configs"] == [{"targets": [f"app:{port}"]}]
    assert configuration["rule_files"] == ["alerts.yml"]


def test_grafana_finds_its_data_source_and_its_dashboards() -> None:
    compose = yaml.safe_load((ROOT / "docker-compose.yml").read_text())["services"]["grafana"]
    (source,) = load("grafana/provisioning/datasources/prometheus.yml")["datasources"]
    (provider,) = load("grafana/provisioning/dashboards/foretell.yml")["providers"]
    assert {panel["datasource"]["uid"] for panel in DASHBOARD["panels"]} == {source["uid"]}
    assert f"./deploy/grafana/dashboards:{provider['options']['path']}:ro" in compose["volumes"]


def test_panels_have_their_own_ids_and_do_not_overlap() -> None:
    panels = DASHBOARD["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    cells = [
        (x, y)
        for grid in (panel["gridPos"] for panel in panels)
        for x in range(grid["x"], grid["x"] + grid["w"])
        for y in range(grid["y"], grid["y"] + grid["h"])
    ]
    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
