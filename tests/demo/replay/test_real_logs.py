"""The four real logs: what the plan says equals what can be counted straight from the CSV."""

from collections import Counter
from functools import cache
from pathlib import Path

import pytest

from demo.replay.figures import BureauFigures, figures_of
from demo.replay.log import Plan, read_log
from demo.replay.mapping import SHIPPED, load_mapping
from kuaixiang.facts import published_calendar
from tests.demo.replay import independent

LOGS = sorted(independent.BY_LOG)
NAMES = {
    "registered": "registered",
    "completed": "completed",
    "deferred": "deferred",
    "met": "met",
    "missed": "missed",
    "up": "referred_up",
    "down": "referred_down",
    "across": "referred_across",
    "returned": "returned",
    "received": "received",
}


@cache
def plan_of(path: Path, log: str) -> Plan:
    return read_log(path, load_mapping(SHIPPED / f"{log}.toml"))


@cache
def found_in(path: Path, log: str) -> independent.Found:
    return independent.BY_LOG[log](path)


@pytest.fixture(params=LOGS)
def log(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def plan(logs: Path, log: str) -> Plan:
    return plan_of(present(logs, log), log)


@pytest.fixture
def found(logs: Path, log: str) -> independent.Found:
    return found_in(present(logs, log), log)


def present(logs: Path, log: str) -> Path:
    path = logs / f"{log}.csv.gz"
    if not path.is_file():
        pytest.skip(f"the event log {path} is not here")
    return path


def test_every_shipped_mapping_has_an_independent_computation() -> None:
    assert sorted(path.stem for path in SHIPPED.glob("*.toml")) == LOGS


def test_every_row_is_used_or_refused_and_as_the_csv_says(plan: Plan, found: independent.Found) -> None:
    assert (plan.rows_read, plan.rows_used) == (found.rows_read, found.rows_used)
    assert {reason.value: number for reason, number in plan.refused_by_reason().items()} == dict(found.refused)
    assert plan.rows_used + len(plan.refused) == plan.rows_read
    assert len({row.line for row in plan.refused}) == len(plan.refused)


def test_the_figures_of_every_bureau_are_those_of_the_csv(plan: Plan, found: independent.Found) -> None:
    bureaus = figures_of(plan, published_calendar()).bureaus
    figures = {
        key: Counter({name: getattr(bureaus[code], ours) for name, ours in NAMES.items()})
        for key, code in plan.tree.codes.items()
    }
    assert {key: +counted for key, counted in figures.items() if +counted} == {
        key: +counted for key, counted in found.figures.items() if +counted
    }
    assert len(plan.cases) == found.cases


def test_the_tree_is_the_one_that_the_csv_gives(plan: Plan, found: independent.Found, log: str) -> None:
    if log != "bpic2013-closed-problems":
        assert set(found.figures) <= set(plan.tree.codes)
        return
    keys = {code: key for key, code in plan.tree.codes.items()}
    parents = {keys[code]: keys[bureau.parent] for code, bureau in plan.tree.bureaus.bureaus.items() if bureau.parent}
    assert parents == found.parents


def test_no_step_of_a_case_is_before_the_one_before_it(plan: Plan) -> None:
    for case in plan.cases:
        times = [case.registered_at, *(step.at for step in case.steps)]
        assert times == sorted(times)


def test_a_log_read_twice_gives_the_same_plan(logs: Path) -> None:
    path = present(logs, "bpic2013-closed-problems")
    mapping = load_mapping(SHIPPED / "bpic2013-closed-problems.toml")
    one, other = read_log(path, mapping), read_log(path, mapping)
    assert (one.tree.codes, one.cases, one.refused) == (other.tree.codes, other.cases, other.refused)


@pytest.mark.parametrize(
    ("log", "counts", "total"),
    [
        (
            "bpic2013-closed-problems",
            (6660, 1487, 0),
            BureauFigures(
                registered=1487,
                completed=1487,
                deferred=507,
                met=593,
                missed=1313,
                referred_up=72,
                referred_down=49,
                referred_across=392,
                returned=142,
                received=655,
                relayed=1256,
            ),
        ),
        (
            "boston311-2015-h1",
            (58119, 58035, 84),
            BureauFigures(registered=58035, completed=49042, met=31657, missed=26378),
        ),
        ("wabo-receipt", (8577, 1409, 69), BureauFigures(registered=1409, completed=1304, met=248, missed=1358)),
        (
            "helpdesk",
            (21348, 4580, 2),
            BureauFigures(registered=4580, completed=4569, deferred=1350, met=3407, missed=1685),
        ),
    ],
)
def test_the_known_totals(logs: Path, log: str, counts: tuple[int, int, int], total: BureauFigures) -> None:
    plan = plan_of(present(logs, log), log)
    assert (plan.rows_read, len(plan.cases), len(plan.refused)) == counts
    assert figures_of(plan, published_calendar()).total == total
