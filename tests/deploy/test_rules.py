"""The rules of deploy/prometheus: each alert fires when it should and keeps still when it should not, says whose it is and
what to do, and speaks only of metrics that there are."""

import json
import re
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.services import Monitors

ROOT = Path(__file__).resolve().parents[2]
PROMETHEUS = ROOT / "deploy" / "prometheus"
DOCS = ROOT / "docs"
DAY = 86_400
NODE = 'site="p330000", instance="node-330000:9440", job="kuaixiang-node"'
HUB = 'site="hq", instance="hub-000000:9450", job="kuaixiang-hub"'


@dataclass(frozen=True)
class Case:
    """Series that make an alert fire at a minute, and like ones that do not."""

    minute: int
    fires: Mapping[str, str]
    quiet: Sequence[Mapping[str, str]]
    labels: Mapping[str, str] = field(default_factory=dict)
    """What the alert says besides severity and route."""
    always: bool = False
    """It fires where there is nothing at all."""


def of(given: str) -> dict[str, str]:
    """Labels as they are written in a series."""
    return dict(re.findall(r'(\w+)="([^"]*)"', given))


def still(metric: str, labels: str, value: float, more: str = "") -> dict[str, str]:
    """A series that keeps its value for two hours."""
    return {f"{metric}{{{labels}{more}}}": f"{value:g}x120"}


def case(metric: str, labels: str, fires: float, quiet: float, minute: int) -> Case:
    """An alert on the value of one gauge."""
    return Case(minute, still(metric, labels, fires), [still(metric, labels, quiet)], of(labels))


def counted(metric: str, labels: str, more: str = "", minute: int = 10) -> Case:
    """An alert on a counter that has grown lately."""
    series = f"{metric}{{{labels}{more}}}"
    return Case(minute, {series: "3x5 4x20"}, [{series: "3x120"}], of(labels) | of(more))


def deliveries(failed: float, answered: float) -> dict[str, str]:
    """Attempts of a node, so many more of each every minute for seven hours."""
    series = f'kx_deliveries_total{{{NODE}, kind="offer", result='
    return {
        f'{series}"later"}}': f"0+{failed:g}x420",
        f'{series}"accepted"}}': f"0+{answered:g}x420",
        f'{series}"overtaken"}}': "0+50x420",
    }


BUREAU = ', bureau="330106"'
VERSIONS = {f'kx_calendar_in_force{{{NODE}, version="2026-1"}}': "1x30"}
MONTH = (', branch="330000", clock="forward"', ', branch="330000", clock="handle"')


def month(missed: float, due: float) -> dict[str, str]:
    """What a hub shows of a province: deadlines of two clocks."""
    found: dict[str, str] = {}
    for clock in MONTH:
        found |= still("kx_hub_deadlines_missed", HUB, missed / 2, clock)
        found |= still("kx_hub_deadlines_due", HUB, due / 2, clock)
    return found


def commits(slow: float) -> dict[str, str]:
    """Commits of a node by bucket: 100 a minute, so many of them above 0.1 s."""
    series = f"kx_database_commit_seconds_bucket{{{NODE}, le="
    return {
        f'{series}"0.1"}}': f"0+{100 - slow:g}x60",
        f'{series}"0.25"}}': "0+100x60",
        f'{series}"+Inf"}}': "0+100x60",
    }


CASES: dict[str, Case] = {
    "KxTargetAbsent": Case(
        5, {f"up{{{NODE}}}": "1 1 0x10"}, [{f"up{{{NODE}}}": "1x10"}, {f"up{{{NODE}}}": "1 0 1x8"}], of(NODE)
    ),
    "KxJobAbsent": Case(
        6,
        {f"up{{{NODE}}}": "1x10"},
        [{f"up{{{NODE}}}": "1x10", f"up{{{HUB}}}": "0x10"}],
        {"job": "kuaixiang-hub"},
        always=True,
    ),
    "KxDatabaseNotWritable": case("kx_database_writable", NODE, 0, 1, 3),
    "KxCommitsSlow": Case(30, commits(5), [commits(0.5)], of(NODE)),
    "KxChoreFailing": Case(
        30,
        {
            f'kx_loop_failures_total{{{NODE}, loop="sweep"}}': "0+2x60",
            f'kx_loop_steps_total{{{NODE}, loop="sweep"}}': "7x60",
        },
        [
            {
                f'kx_loop_failures_total{{{NODE}, loop="sweep"}}': "0+2x60",
                f'kx_loop_steps_total{{{NODE}, loop="sweep"}}': "0+2x60",
            }
        ],
        of(NODE) | {"loop": "sweep"},
    ),
    "KxClockSkew": Case(
        10,
        {f"kx_time_seconds{{{NODE}}}": "-5+60x60"},
        [{f"kx_time_seconds{{{NODE}}}": "0+60x60"}, {f"kx_time_seconds{{{NODE}}}": "1+60x60"}],
        of(NODE),
    ),
    "KxCertificateExpiresSoon": case("kx_certificate_expires_timestamp_seconds", HUB, 29 * DAY, 31 * DAY, 90),
    "KxCertificateExpiresAtOnce": case("kx_certificate_expires_timestamp_seconds", NODE, 2 * DAY, 4 * DAY, 10),
    "KxRenewalRefused": counted("kx_certificate_renewals_total", NODE, ', outcome="refused"'),
    "KxRevocationListOld": Case(
        90,
        still("kx_revocations_fresh_until_seconds", NODE, 6 * DAY),
        [
            still("kx_revocations_fresh_until_seconds", NODE, 9 * DAY),
            still("kx_revocations_fresh_until_seconds", NODE, 0),
        ],
        of(NODE),
    ),
    "KxBackupStale": case("kx_backup_last_success_timestamp_seconds", NODE, -26 * 3_600, -20 * 3_600, 120),
    "KxPrivateInLog": counted("kx_log_faults_total", NODE, ', fault="private_key"'),
    "KxOutboxStuck": Case(
        10,
        {f"kx_journal_unpublished_age_seconds{{{NODE}}}": "0 60 120 180 240 300 360 420 480 540 600"},
        [{f"kx_journal_unpublished_age_seconds{{{NODE}}}": "0 60 120 0 60 120 0 60 120 180 240"}],
        of(NODE),
    ),
    "KxNatsDisconnected": Case(
        8,
        {f'kx_nats_connected{{{NODE}, connection="node-330000"}}': "1 0x10"},
        [{f'kx_nats_connected{{{NODE}, connection="node-330000"}}': "0 0 1 1 0 0 1 0 0"}],
        of(NODE) | {"connection": "node-330000"},
    ),
    "KxLeafLinkDown": Case(
        10,
        still("kx_nats_leaf_links", NODE, 0) | still("kx_nats_leaf_links_expected", NODE, 1),
        [still("kx_nats_leaf_links", NODE, 1) | still("kx_nats_leaf_links_expected", NODE, 1)],
        of(NODE),
    ),
    "KxNatsNotPermitted": counted(
        "kx_nats_not_permitted_total", NODE, ', connection="node-330000", kind="publish"', minute=12
    ),
    "KxDeliveriesStuck": case("kx_delivery_oldest_age_seconds", NODE, 3_700, 3_500, 20),
    "KxDeliveriesSetAside": case("kx_deliveries_set_aside", NODE, 1, 0, 40),
    "KxCallbacksGivenUp": case("kx_callbacks_dead", NODE, 1, 0, 40),
    # 8% fail: sixteen times the budget. 4%: eight times. A few attempts an hour are no alarm, whatever becomes of them.
    "KxDeliveryBudgetBurnsFast": Case(
        120, deliveries(8, 92), [deliveries(4, 96), deliveries(0.1, 0)], {"site": "p330000"}
    ),
    "KxDeliveryBudgetBurnsSlowly": Case(
        400, deliveries(4, 96), [deliveries(2, 98), deliveries(0.1, 0)], {"site": "p330000"}
    ),
    "KxHubStale": Case(
        15,
        still("kx_hub_bureaus_up_to_date", HUB, 8) | still("kx_hub_bureaus_expected", HUB, 9),
        [still("kx_hub_bureaus_up_to_date", HUB, 9) | still("kx_hub_bureaus_expected", HUB, 9)],
        of(HUB),
    ),
    "KxLedgerForked": case("kx_hub_bureaus_quarantined", HUB, 1, 0, 1),
    "KxLedgerRestored": case("kx_hub_bureaus_restored", HUB, 1, 0, 1),
    "KxLedgerDoubted": Case(
        1,
        still("kx_witness_ledgers_doubted", NODE, 1) | still("kx_cosign_ledgers_refuted", NODE, 0),
        [still("kx_witness_ledgers_doubted", NODE, 0) | still("kx_cosign_ledgers_refuted", NODE, 0)],
        of(NODE),
    ),
    "KxCosigningLate": case("kx_cosign_age_seconds", NODE, 3_700, 3_500, 20),
    "KxLedgersDiffer": Case(
        70,
        still("kx_reconciliation_mismatches", NODE, 1, ', difference="different"')
        | still("kx_reconciliation_mismatches", NODE, 0, ', difference="missing_here"'),
        [still("kx_reconciliation_mismatches", NODE, 0, ', difference="different"')],
        of(NODE),
    ),
    "KxHubDiffers": case("kx_hub_reconciliation_mismatches", HUB, 2, 0, 1),
    "KxReconciliationLate": Case(
        70,
        still("kx_reconciliation_oldest_age_seconds", NODE, 2.5 * DAY),
        [
            still("kx_reconciliation_oldest_age_seconds", NODE, 1.5 * DAY),
            # A hub that has just been started has compared nothing.
            still("kx_hub_reconciliation_last_success_timestamp_seconds", HUB, -3 * DAY)
            | still("process_start_time_seconds", HUB, -DAY),
        ],
        of(NODE),
    ),
    "KxCalendarHorizonShort": case("kx_calendar_last_day_timestamp_seconds", NODE, 29 * DAY, 31 * DAY, 90),
    "KxVersionsDiffer": Case(15, VERSIONS | {f'kx_calendar_in_force{{{HUB}, version="2026-2"}}': "1x30"}, [VERSIONS]),
    "KxTreeNotAdopted": counted("kx_trees_not_adopted_total", HUB),
    "KxSweepSetAside": case("kx_sweep_set_aside", NODE, 1, 0, 40),
    "KxDeadlinesMissed": Case(
        10,
        {f'kx_deadlines_missed_total{{{NODE}{BUREAU}, clock="handle"}}': "0x5 1x20"},
        [{f'kx_deadlines_missed_total{{{NODE}{BUREAU}, clock="handle"}}': "1x120"}],
        {"site": "p330000", "bureau": "330106", "clock": "handle"},
    ),
    "KxCasesOverdue": Case(
        70,
        still("kx_cases_open", NODE, 1, f'{BUREAU}, stage="handling", light="overdue"'),
        [still("kx_cases_open", NODE, 1, f'{BUREAU}, stage="handling", light="due_soon"')],
        {"site": "p330000", "bureau": "330106"},
    ),
    "KxOrdersOverdue": case("kx_orders_overdue", NODE, 1, 0, 70),
    "KxBranchMissesMany": Case(70, month(6, 100), [month(4, 100), month(6, 18)], of(HUB) | {"branch": "330000"}),
}


def loaded(name: str) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((PROMETHEUS / name).read_text("utf-8"))
    return found


def rules(name: str) -> list[dict[str, Any]]:
    return [rule for group in loaded(name)["groups"] for rule in group["rules"]]


ALERTS = {rule["alert"]: rule for rule in rules("alerts.yml")}


def promtool(monitors: Monitors, *arguments: object, folder: Path = PROMETHEUS) -> str:
    done = subprocess.run(
        [monitors.promtool, *map(str, arguments)],
        cwd=folder,
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stdout + done.stderr
    return done.stdout


def unit_test(alert: str, series: Mapping[str, str], minute: int, expected: Sequence[Mapping[str, str]]) -> Any:
    """One test as promtool reads it."""
    rule = ALERTS[alert]
    return {
        "interval": "1m",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "alert_rule_test": [
            {
                "eval_time": f"{minute}m",
                "alertname": alert,
                "exp_alerts": [
                    {"exp_labels": {**labels, **rule["labels"]}, "exp_annotations": rule["annotations"]}
                    for labels in expected
                ],
            }
        ],
    }


def test_every_alert_has_a_case_and_every_case_an_alert() -> None:
    assert set(CASES) == set(ALERTS)


def alone(alert: str, folder: Path) -> Path:
    """A file of rules with one alert, and what it is computed from: all of them at each minute would take long."""
    needed = [rule for rule in rules("recording.yml") if rule["record"] in ALERTS[alert]["expr"]]
    return write(folder / f"{alert}-rules.yml", {"groups": [{"name": alert, "rules": [*needed, ALERTS[alert]]}]})


def write(path: Path, content: object) -> Path:
    path.write_text(json.dumps(content), "utf-8")  # JSON is YAML too
    return path


def test_alerts_fire_when_they_should_and_keep_still_when_they_should_not(monitors: Monitors, tmp_path: Path) -> None:
    files = []
    for alert, given in CASES.items():
        tests = [unit_test(alert, given.fires, given.minute, [given.labels])]
        tests += [unit_test(alert, series, given.minute, []) for series in given.quiet]
        if not given.always:
            tests.append(unit_test(alert, {}, given.minute, []))
        content = {"rule_files": [str(alone(alert, tmp_path))], "evaluation_interval": "1m", "tests": tests}
        files.append(write(tmp_path / f"{alert}.yml", content))
    assert len(CASES) == promtool(monitors, "test", "rules", *files).count("SUCCESS")


def test_prometheus_and_alertmanager_accept_their_configurations(monitors: Monitors) -> None:
    assert "SUCCESS" in promtool(monitors, "check", "config", "prometheus.yml")
    done = subprocess.run(
        [monitors.amtool, "check-config", PROMETHEUS / "alertmanager.yml"],
        check=False,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert 0 == done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("alert", ALERTS)
def test_every_alert_says_whose_it_is_how_urgent_and_what_to_do(alert: str) -> None:
    rule = ALERTS[alert]
    assert rule["labels"]["severity"] in {"page", "ticket"}
    assert rule["labels"]["route"] in {"operator", "supervisor"}
    # A deadline of the notice that was missed calls nobody out of bed.
    assert ("supervisor", "page") != (rule["labels"]["route"], rule["labels"]["severity"])
    assert f"docs/RUNBOOKS.md#{alert.lower()}" == rule["annotations"]["runbook"]
    assert rule["annotations"]["summary"].endswith(".")


def test_every_alert_has_a_runbook_and_every_runbook_an_alert() -> None:
    text = (DOCS / "RUNBOOKS.md").read_text("utf-8")
    assert list(ALERTS) == re.findall(r"^### (Kx\w+)$", text, re.MULTILINE)
    for section in text.split("\n### ")[1:]:
        name = section.partition("\n")[0]
        assert ["Means", "Look", "Do"] == re.findall(r"^\*\*(\w+)\.\*\*", section, re.MULTILINE), name


def test_alerts_for_supervisors_and_for_those_on_call_reach_receivers_of_their_own(monitors: Monitors) -> None:
    def receiver(*labels: str) -> str:
        done = subprocess.run(
            [monitors.amtool, "config", "routes", "test", f"--config.file={PROMETHEUS / 'alertmanager.yml'}", *labels],
            check=False,
            capture_output=True,
            text=True,
            timeout=120,
        )
        return done.stdout.strip()

    assert "supervisors" == receiver("route=supervisor", "severity=ticket")
    assert "operators-on-call" == receiver("route=operator", "severity=page")
    assert "operators" == receiver("route=operator", "severity=ticket")


def test_every_metric_that_a_rule_asks_for_is_one_that_there_is() -> None:
    documented = set(re.findall(r"^\| `(kx_\w+)` \|", (DOCS / "METRICS.md").read_text("utf-8"), re.MULTILINE))
    shown = documented | {f"{name}{ending}" for name in documented for ending in ("_bucket", "_sum", "_count")}
    recorded = {rule["record"] for rule in rules("recording.yml")}
    for rule in (*rules("recording.yml"), *rules("alerts.yml")):
        expression = rule["expr"]
        assert set() == set(re.findall(r"(?<![\w:])kx_\w+", expression)) - shown, expression
        assert set() == set(re.findall(r"\w+:kx_\w+:?\w*", expression)) - recorded, expression
