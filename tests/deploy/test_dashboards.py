"""The dashboards of deploy/grafana are what their program writes, every expression parses, and every metric is there."""

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import yaml

from tests.deploy.test_rules import PROMETHEUS, promtool, rules, write
from tests.services import Monitors

GRAFANA = PROMETHEUS.parent / "grafana"
METRICS = PROMETHEUS.parents[1] / "docs" / "METRICS.md"
NAMES = ("bureau", "national", "node", "province", "transport")
WHAT_PROMETHEUS_ADDS = {"up", "process_resident_memory_bytes", "process_cpu_seconds_total"}


def program() -> ModuleType:
    """What writes the dashboards, which is no part of a package."""
    spec = importlib.util.spec_from_file_location("write_dashboards", GRAFANA / "write_dashboards.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module  # its dataclasses look for it there
    spec.loader.exec_module(module)
    return module


def dashboards() -> dict[str, dict[str, Any]]:
    return {path.stem: json.loads(path.read_text("utf-8")) for path in (GRAFANA / "dashboards").glob("*.json")}


def expressions(dashboard: dict[str, Any]) -> list[str]:
    """What its panels ask, with every variable as one value."""
    return [re.sub(r"\$\w+", "330000", target["expr"]) for panel in dashboard["panels"] for target in panel["targets"]]


def test_the_dashboards_are_what_their_program_writes() -> None:
    for path, expected in program().documents().items():
        assert expected == path.read_text("utf-8"), "run python -m deploy.grafana.write_dashboards --write"
    assert list(NAMES) == sorted(dashboards())


def test_every_expression_of_a_dashboard_parses(monitors: Monitors, tmp_path: Path) -> None:
    found = [each for dashboard in dashboards().values() for each in expressions(dashboard)]
    recorded = [{"record": f"parsed:{number}", "expr": each} for number, each in enumerate(found)]
    file = write(tmp_path / "rules.yml", {"groups": [{"name": "parsed", "rules": recorded}]})
    assert f"{len(found)} rules found" in promtool(monitors, "check", "rules", file)


def test_every_metric_of_a_dashboard_is_one_that_there_is() -> None:
    documented = set(re.findall(r"^\| `(kx_\w+)` \|", METRICS.read_text("utf-8"), re.MULTILINE))
    shown = documented | {f"{name}{ending}" for name in documented for ending in ("_bucket", "_sum", "_count")}
    known = shown | {rule["record"] for rule in rules("recording.yml")} | WHAT_PROMETHEUS_ADDS
    for dashboard in dashboards().values():
        for expression in expressions(dashboard):
            named = set(re.findall(r"(?:site:)?\b(?:kx|process)_\w+(?::\w+)?|\bup\b", expression))
            assert named - {"vector"} or expression == "vector(0.005)", expression
            assert set() == named - known, expression


def test_the_national_dashboard_and_what_a_site_adds_up_name_no_single_bureau() -> None:
    assert [] == [each for each in expressions(dashboards()["national"]) if "bureau" in re.sub(r"kx_\w+", "", each)]
    for rule in rules("recording.yml"):
        assert rule["record"].startswith("site:kx_")
        by = re.match(r"sum by \((.+?)\)", rule["expr"])
        assert by is not None, rule["expr"]
        assert not {"bureau", "instance", "job"} & set(by.group(1).split(", ")), rule["expr"]


def test_a_choice_of_a_dashboard_is_used_in_it() -> None:
    for dashboard in dashboards().values():
        text = json.dumps([panel["targets"] for panel in dashboard["panels"]])
        for choice in dashboard["templating"]["list"]:
            assert f"${choice['name']}" in text, dashboard["title"]


def test_grafana_finds_the_dashboards_and_their_source() -> None:
    compose = yaml.safe_load((PROMETHEUS.parent / "compose.yaml").read_text("utf-8"))
    mounted = [volume.split(":")[1] for volume in compose["services"]["grafana"]["volumes"]]
    provider = yaml.safe_load((GRAFANA / "provisioning" / "dashboards.yml").read_text("utf-8"))
    folder = provider["providers"][0]["options"]["path"]
    assert {f"{folder}/{name}.json" for name in NAMES} <= set(mounted)
    source = yaml.safe_load((GRAFANA / "provisioning" / "datasources.yml").read_text("utf-8"))["datasources"][0]
    assert {source["uid"]} == {
        panel["datasource"]["uid"] for dashboard in dashboards().values() for panel in dashboard["panels"]
    }
    assert "http://prometheus:9090" == source["url"]
