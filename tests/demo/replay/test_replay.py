"""Logs played through real nodes, NATS sites and the hub: the hub's figures are those of the log."""

import csv
import gzip
import itertools
import json
import os
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from demo.replay.figures import BureauFigures
from demo.replay.log import Plan, read_log
from demo.replay.mapping import SHIPPED, load_mapping
from demo.replay.outcome import write_report
from demo.replay.run import first_cases
from kx.main import app
from tests.demo.replay import independent, small
from tests.demo.replay.test_real_logs import LOGS, NAMES, present

FULL = "KX_TEST_REPLAY"
SOME_CASES = {"bpic2013-closed-problems": 60, "helpdesk": 40, "wabo-receipt": 40, "boston311-2015-h1": 300}

pytestmark = [pytest.mark.nats, pytest.mark.slow]


def replayed(log: Path, mapping: Path | str, folder: Path, *options: str, exit_code: int = 0) -> Any:
    """The object that `kx replay --json` prints as its last line."""
    report = folder / "refused.csv"
    arguments = ["replay", str(log), "--mapping", str(mapping), "--report", str(report), "--json", *options]
    result = CliRunner().invoke(app, arguments, catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout.splitlines()[-1])


@pytest.mark.parametrize("database", ["sqlite", pytest.param("postgresql", marks=pytest.mark.postgres)])
def test_a_log_made_by_hand_is_played_and_counted_as_on_the_fingers(tmp_path: Path, database: str) -> None:
    log, mapping = small.write(tmp_path)
    told = replayed(log, mapping, tmp_path, "--database", database)
    assert told["matches"]
    assert told["differences"] == []
    plan = read_log(log, load_mapping(mapping))
    names = {code: bureau.name for code, bureau in plan.tree.bureaus.bureaus.items()}
    assert {names[code]: BureauFigures(**figures) for code, figures in told["hub"]["bureaus"].items()} == small.EXPECTED
    assert (told["rows_read"], told["rows_used"], told["rows_refused"], told["cases"]) == (24, 20, 4, small.CASES)
    with (tmp_path / "refused.csv").open(encoding="utf-8", newline="") as file:
        refused = list(csv.DictReader(file))
    assert {(row["line"], row["case"], row["reason"]) for row in refused} == small.REFUSED
    assert told["reconciliation"]["mismatches"] == []
    assert told["reconciliation"]["entries_compared"] == told["journal_entries"] > 0


@pytest.mark.timeout(300)
@pytest.mark.parametrize("log", ["bpic2013-closed-problems", "helpdesk"])
def test_the_first_cases_of_a_real_log_are_counted_as_the_csv_says(logs: Path, log: str, tmp_path: Path) -> None:
    shortened = first_rows(present(logs, log), log, tmp_path)
    told = replayed(shortened, log, tmp_path)
    assert_counted_as_the_csv_says(told, shortened, log)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("log", LOGS)
@pytest.mark.skipif(not os.environ.get(FULL), reason="whole logs take half an hour: make test-replay")
def test_a_whole_real_log_is_counted_as_the_csv_says(logs: Path, log: str, tmp_path: Path) -> None:
    whole = present(logs, log)
    told = replayed(whole, log, tmp_path)
    print({name: told[name] for name in ("cases", "journal_entries", "seconds", "entries_per_second")})
    assert_counted_as_the_csv_says(told, whole, log)


def first_rows(log: Path, name: str, folder: Path) -> Path:
    """A log of the rows of the first cases of another, in their order."""
    shortened = folder / f"{name}.csv.gz"
    identity = load_mapping(SHIPPED / f"{name}.toml").case_id
    with (
        gzip.open(log, "rt", encoding="utf-8", newline="") as source,
        gzip.open(shortened, "wt", encoding="utf-8", newline="") as target,
    ):
        reader = csv.DictReader(source)
        rows = list(reader)
        cases = set(itertools.islice(dict.fromkeys(row[identity] for row in rows), SOME_CASES[name]))
        writer = csv.DictWriter(target, reader.fieldnames or ())
        writer.writeheader()
        writer.writerows(row for row in rows if row[identity] in cases)
    return shortened


def assert_counted_as_the_csv_says(told: Any, log: Path, name: str) -> None:
    """The hub's figures beside a computation that knows nothing of the plan."""
    found = independent.BY_LOG[name](log)
    codes = read_log(log, load_mapping(SHIPPED / f"{name}.toml")).tree.codes
    names = {code: key for key, code in codes.items()}
    hub = {
        names[code]: +Counter({ours: figures[theirs] for ours, theirs in NAMES.items()})
        for code, figures in told["hub"]["bureaus"].items()
    }
    assert {key: figures for key, figures in hub.items() if figures} == {
        key: +counted for key, counted in found.figures.items() if +counted
    }
    assert (told["cases"], told["rows_read"], told["rows_used"]) == (found.cases, found.rows_read, found.rows_used)
    assert told["refused_by_reason"] == dict(found.refused)
    assert told["matches"]


# ---------------------------------------------------------------- what cannot be played


def test_a_limit_takes_the_first_cases_and_the_bureaus_that_they_need(tmp_path: Path) -> None:
    log, mapping = small.write(tmp_path)
    plan = first_cases(read_log(log, load_mapping(mapping)), 1)
    assert [case.case_ref for case in plan.cases] == ["up and down"]
    assert {bureau.name for bureau in plan.tree.bureaus.bureaus.values()} == {
        "Head office",
        "North",
        "Lab 2nd",
        "Desk",
    }
    assert plan.ends_at == plan.cases[0].completed_at


def test_a_log_without_a_case_is_refused_and_its_rows_are_reported(tmp_path: Path) -> None:
    log, mapping = small.write(tmp_path)
    log.write_text("case,at,what,line,team,section\nempty,,asked,North,Desk,\n", encoding="utf-8")
    told = replayed(log, mapping, tmp_path, exit_code=2)
    assert "not one makes a case" in told["error"]["message"]
    assert "no time" in (tmp_path / "refused.csv").read_text(encoding="utf-8")


def test_a_directory_that_holds_something_is_refused(tmp_path: Path) -> None:
    log, mapping = small.write(tmp_path)
    told = replayed(log, mapping, tmp_path, "--directory", str(tmp_path), exit_code=2)
    assert "is not empty" in told["error"]["message"]


@pytest.mark.parametrize("name", ["nothing.toml", "nothing"])
def test_a_mapping_that_is_not_there_is_named(tmp_path: Path, name: str) -> None:
    log, _ = small.write(tmp_path)
    assert name in replayed(log, tmp_path / name, tmp_path, exit_code=2)["error"]["message"]


def test_a_report_can_be_json(tmp_path: Path) -> None:
    log, mapping = small.write(tmp_path)
    plan: Plan = read_log(log, load_mapping(mapping))
    write_report(tmp_path / "refused.json", plan.refused)
    rows = json.loads((tmp_path / "refused.json").read_text(encoding="utf-8"))
    assert {(str(row["line"]), row["case"], row["reason"]) for row in rows} == small.REFUSED
