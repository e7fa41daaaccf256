"""Writes the five dashboards of deploy/grafana/dashboards; `--write` puts them in place.

A dashboard is a list of panels, a panel its title and what it shows: that table is what one reads and changes. What
Grafana wants around it is the same for all and stands below it.
"""  # noqa: INP001 - a program, not part of a package

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from docs.writing import print_or_write

FOLDER: Final = Path(__file__).parent / "dashboards"
SOURCE: Final = {"type": "prometheus", "uid": "prometheus"}
WIDTH: Final = 24
HEIGHT: Final = 8
ABREAST: Final = 3


@dataclass(frozen=True)
class Panel:
    """Expressions with their legends; `unit` is Grafana's name of it. A stat shows the latest value, large."""

    title: str
    shows: Mapping[str, str]
    unit: str = "short"
    stat: bool = False


@dataclass(frozen=True)
class Dashboard:
    """`choices` are variables: name, and the query of its values."""

    name: str
    title: str
    panels: Sequence[Panel]
    choices: Mapping[str, str]


def missed_share(due: str, missed: str, by: str) -> str:
    """A ratio of sums."""
    return f"sum by ({by}) ({missed}) / (sum by ({by}) ({due}) > 0)"


ON_TIME: Final = "percentunit"
INSTANCE: Final = '{job=~"kuaixiang-.+", site=~"$site", instance=~"$instance"}'
COMMITS: Final = "kx_database_commit_seconds"
WORKS: Final = "kx_database_batch_works"
NODE: Final = '{site=~"$site", instance=~"$instance"}'
OF_BUREAU: Final = '{site=~"$site", bureau=~"$bureau"}'
SITE: Final = {"site": "label_values(up, site)"}

DASHBOARDS: Final = (
    Dashboard(
        "national",
        "Kuaixiang: nation",
        (
            Panel("Bureaus not up to date", {"kx_hub_bureaus_expected - kx_hub_bureaus_up_to_date": ""}, stat=True),
            Panel("Bureaus quarantined", {"kx_hub_bureaus_quarantined": ""}, stat=True),
            Panel("Mismatches with ledgers", {"kx_hub_reconciliation_mismatches": ""}, stat=True),
            Panel("Open cases by light", {"sum by (light) (kx_hub_cases_open)": "{{light}}"}),
            Panel("Overdue by province", {'kx_hub_cases_open{light="overdue"} > 0': "{{branch}}"}),
            Panel(
                "Deadlines missed this month, by province",
                {missed_share("kx_hub_deadlines_due", "kx_hub_deadlines_missed", "branch"): "{{branch}}"},
                ON_TIME,
            ),
            Panel(
                "Deadlines missed this month, by clock",
                {missed_share("kx_hub_deadlines_due", "kx_hub_deadlines_missed", "clock"): "{{clock}}"},
                ON_TIME,
            ),
            Panel("Entries folded a second", {"sum(rate(kx_hub_entries_total[5m]))": "entries"}, "ops"),
            Panel("From record to fold", {"kx_hub_fold_lag_seconds": "lag"}, "s"),
        ),
        {},
    ),
    Dashboard(
        "province",
        "Kuaixiang: province",
        (
            Panel("Open cases by stage", {'sum by (stage) (site:kx_cases_open:sum{site=~"$site"})': "{{stage}}"}),
            Panel("Open cases by light", {'sum by (light) (site:kx_cases_open:sum{site=~"$site"})': "{{light}}"}),
            Panel(
                "Registered in an hour, by channel",
                {'sum by (channel) (site:kx_cases_registered:increase1h{site=~"$site"})': "{{channel}}"},
            ),
            Panel(
                "Closed in an hour, by way",
                {'sum by (way) (site:kx_cases_closed:increase1h{site=~"$site"})': "{{way}}"},
            ),
            Panel(
                "Deadlines missed in a day, by clock",
                {
                    missed_share(
                        'site:kx_deadlines_due:increase1d{site=~"$site"}',
                        'site:kx_deadlines_missed:increase1d{site=~"$site"}',
                        "clock",
                    ): "{{clock}}"
                },
                ON_TIME,
            ),
            Panel(
                "Working days taken in a day, nine in ten",
                {
                    "histogram_quantile(0.9, sum by (clock, le) "
                    '(site:kx_clock_workdays_bucket:increase1d{site=~"$site"}))': "{{clock}}"
                },
            ),
            Panel(
                "Handed over in an hour",
                {
                    'sum by (direction, result) (site:kx_referrals:increase1h{site=~"$site"})': (
                        "{{direction}} {{result}}"
                    )
                },
            ),
            Panel(
                "Bureaus with most overdue cases",
                {'topk(10, sum by (bureau) (kx_cases_open{site=~"$site", light="overdue"}))': "{{bureau}}"},
            ),
            Panel("Supervision orders late", {'sum by (site) (kx_orders_overdue{site=~"$site"})': "{{site}}"}),
        ),
        SITE,
    ),
    Dashboard(
        "bureau",
        "Kuaixiang: bureau",
        (
            Panel("Overdue", {f'sum(kx_cases_open{OF_BUREAU[:-1]}, light="overdue"}})': ""}, stat=True),
            Panel("Due soon", {f'sum(kx_cases_open{OF_BUREAU[:-1]}, light="due_soon"}})': ""}, stat=True),
            Panel("Open cases by stage", {f"sum by (stage) (kx_cases_open{OF_BUREAU})": "{{stage}}"}),
            Panel(
                "Registered in a day, by channel",
                {f"sum by (channel) (increase(kx_cases_registered_total{OF_BUREAU}[1d]))": "{{channel}}"},
            ),
            Panel(
                "Closed in a day, by way; reopened",
                {
                    f"sum by (way) (increase(kx_cases_closed_total{OF_BUREAU}[1d]))": "{{way}}",
                    f"sum(increase(kx_cases_reopened_total{OF_BUREAU}[1d]))": "reopened",
                },
            ),
            Panel(
                "Deadlines missed in a week, by clock",
                {f"sum by (clock) (increase(kx_deadlines_missed_total{OF_BUREAU}[7d]))": "{{clock}}"},
            ),
            Panel(
                "Working days taken in a week, nine in ten",
                {
                    "histogram_quantile(0.9, sum by (clock, le) "
                    f"(increase(kx_clock_workdays_bucket{OF_BUREAU}[7d])))": "{{clock}}"
                },
            ),
            Panel(
                "Extensions and returned dispatches in a week",
                {
                    f"sum by (result) (increase(kx_extensions_total{OF_BUREAU}[7d]))": "extension {{result}}",
                    f"sum(increase(kx_dispatches_returned_total{OF_BUREAU}[7d]))": "dispatch returned",
                },
            ),
            Panel(
                "Handed over in a week",
                {
                    f"sum by (direction, result) (increase(kx_referrals_total{OF_BUREAU}[7d]))": (
                        "{{direction}} {{result}}"
                    ),
                    f"sum by (by, reason) (increase(kx_referrals_refused_total{OF_BUREAU}[7d]))": (
                        "refused, {{by}}: {{reason}}"
                    ),
                },
            ),
            Panel(
                "Follow-ups in a week",
                {f"sum by (satisfaction) (increase(kx_follow_ups_total{OF_BUREAU}[7d]))": "{{satisfaction}}"},
            ),
            Panel(
                "Supervision orders in a week",
                {f"sum by (step) (increase(kx_orders_total{OF_BUREAU}[7d]))": "{{step}}"},
            ),
        ),
        SITE | {"bureau": 'label_values(kx_deadlines_due_total{site=~"$site"}, bureau)'},
    ),
    Dashboard(
        "transport",
        "Kuaixiang: federation transport",
        (
            Panel("Entries not yet in a stream", {"site:kx_journal_unpublished_entries:sum": "{{site}}"}),
            Panel("Longest wait for a stream", {"max by (site) (kx_journal_unpublished_age_seconds)": "{{site}}"}, "s"),
            Panel("Segments unacknowledged", {"sum by (site) (kx_publish_segments_unacknowledged)": "{{site}}"}),
            Panel("Published a second", {"site:kx_published_entries:rate5m": "{{site}}"}, "ops"),
            Panel(
                "Leaf links missing",
                {"kx_nats_leaf_links_expected - kx_nats_leaf_links": "{{site}}"},
            ),
            Panel("Connections to NATS lost", {"kx_nats_connected == 0": "{{site}} {{connection}}"}),
            Panel("Messages that peers are owed", {"site:kx_deliveries_pending:sum": "{{site}}"}),
            Panel("Longest owed", {"max by (site) (kx_delivery_oldest_age_seconds)": "{{site}}"}, "s"),
            Panel(
                "Attempts that brought no answer, against 0.5%",
                {
                    "site:kx_deliveries_failed:rate1h / site:kx_deliveries:rate1h": "{{site}}",
                    "vector(0.005)": "budget",
                },
                ON_TIME,
            ),
            Panel(
                "Time to deliver, 99 in 100",
                {
                    "histogram_quantile(0.99, sum by (site, le) (rate(kx_delivery_seconds_bucket[5m])))": "{{site}}",
                },
                "s",
            ),
            Panel(
                "Segments at the hub a second, by outcome",
                {"sum by (outcome) (rate(kx_hub_segments_total[5m]))": "{{outcome}}"},
                "ops",
            ),
            Panel("Parked at the hub", {"kx_hub_parked_entries": "entries"}),
        ),
        {},
    ),
    Dashboard(
        "node",
        "Kuaixiang: node or hub",
        (
            Panel("Up", {f"up{INSTANCE}": "{{instance}}"}, stat=True),
            Panel("Database takes writes", {f"kx_database_writable{NODE}": "{{instance}}"}, stat=True),
            Panel(
                "Certificate ends in",
                {f"kx_certificate_expires_timestamp_seconds{NODE} - time()": "{{instance}}"},
                "s",
                stat=True,
            ),
            Panel(
                "Calls a second, by code",
                {f"sum by (code) (rate(kx_rpcs_total{NODE}[5m]))": "{{code}}"},
                "ops",
            ),
            Panel(
                "Time to answer, 99 in 100",
                {
                    f"histogram_quantile(0.99, sum by (method, le) (rate(kx_rpc_seconds_bucket{NODE}[5m])))": (
                        "{{method}}"
                    )
                },
                "s",
            ),
            Panel(
                "Time to commit",
                {
                    f"histogram_quantile({share}, sum by (le) (rate({COMMITS}_bucket{NODE}[5m])))": label
                    for share, label in ((0.5, "half"), (0.99, "99 in 100"))
                },
                "s",
            ),
            Panel(
                "Works in a commit",
                {f"sum(rate({WORKS}_sum{NODE}[5m])) / sum(rate({WORKS}_count{NODE}[5m]))": "works"},
            ),
            Panel(
                "Chores that failed in an hour",
                {f"sum by (loop) (increase(kx_loop_failures_total{NODE}[1h])) > 0": "{{loop}}"},
            ),
            Panel("Memory", {f"process_resident_memory_bytes{INSTANCE}": "{{instance}}"}, "bytes"),
            Panel("Processor", {f"rate(process_cpu_seconds_total{INSTANCE}[5m])": "{{instance}}"}, "percentunit"),
            Panel(
                "Since the last backup",
                {f"time() - kx_backup_last_success_timestamp_seconds{NODE}": "{{instance}}"},
                "s",
            ),
            Panel("Since the last cosignature", {f"kx_cosign_age_seconds{NODE}": "{{instance}}"}, "s"),
        ),
        SITE | {"instance": 'label_values(up{site=~"$site"}, instance)'},
    ),
)


def panel_json(number: int, panel: Panel) -> dict[str, Any]:
    """A panel as Grafana reads it."""
    width = WIDTH // ABREAST
    return {
        "id": number + 1,
        "title": panel.title,
        "type": "stat" if panel.stat else "timeseries",
        "datasource": SOURCE,
        "gridPos": {"h": HEIGHT, "w": width, "x": number % ABREAST * width, "y": number // ABREAST * HEIGHT},
        "fieldConfig": {"defaults": {"unit": panel.unit, "min": 0}, "overrides": []},
        "targets": [
            {"refId": chr(ord("A") + index), "expr": expression, "legendFormat": legend, "datasource": SOURCE}
            for index, (expression, legend) in enumerate(panel.shows.items())
        ],
    }


def dashboard_json(dashboard: Dashboard) -> dict[str, Any]:
    """A dashboard as Grafana reads it."""
    return {
        "uid": f"kuaixiang-{dashboard.name}",
        "title": dashboard.title,
        "tags": ["kuaixiang"],
        "timezone": "Asia/Shanghai",
        "schemaVersion": 39,
        "refresh": "30s",
        "time": {"from": "now-6h", "to": "now"},
        "templating": {
            "list": [
                {
                    "name": name,
                    "type": "query",
                    "datasource": SOURCE,
                    "query": query,
                    "includeAll": True,
                    "multi": True,
                    "refresh": 2,
                }
                for name, query in dashboard.choices.items()
            ]
        },
        "panels": [panel_json(number, panel) for number, panel in enumerate(dashboard.panels)],
    }


def documents() -> dict[Path, str]:
    """Every dashboard as it should be."""
    return {
        FOLDER / f"{one.name}.json": json.dumps(dashboard_json(one), indent=2, ensure_ascii=False) + "\n"
        for one in DASHBOARDS
    }


if __name__ == "__main__":
    print_or_write(__doc__, documents)
