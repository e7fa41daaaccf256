"""Every benchmark at its smallest size: that it still runs, not what it gives."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from bench import results
from bench.__main__ import OF_ONE_LEDGER, programs
from bench.filling import shared_ledgers

ROOT = Path(__file__).parents[2]

INSTALLING = ("peers",)
"""What installs other people's programs from the package index: a change is not judged by whether that can be had."""


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("program", [program for program in programs() if program not in INSTALLING])
def test_a_benchmark_runs_at_its_smallest_size_and_reports_rows(program: str, tmp_path: Path) -> None:
    kept = tmp_path / "results.json"
    done = subprocess.run(
        [sys.executable, "-m", f"bench.{program}", "--short", "--results", str(kept)],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=540,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    if "nothing is measured" in done.stdout:
        pytest.skip(done.stdout.strip().splitlines()[-1])
    assert results.read(kept)[program]


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_what_several_ask_of_a_large_ledger_is_asked_of_one_that_is_made_once() -> None:
    command = [sys.executable, "-m", "bench", *OF_ONE_LEDGER[1:], "--short"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=540)
    assert done.returncode == 0, done.stdout + done.stderr
    made = re.findall(r"^  (\d{6}): \d+ entries after", done.stdout, re.MULTILINE)
    # The work list is held against the first county alone, in a database of its own.
    bureaus, _ = shared_ledgers(short=True)
    assert made == [*bureaus, bureaus[0]]


def test_a_name_that_is_no_benchmarks_is_refused_with_those_that_there_are() -> None:
    command = [sys.executable, "-m", "bench", "registre", "--short"]
    done = subprocess.run(command, cwd=ROOT, check=False, capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (2, "")
    assert "register, " in done.stderr


def test_a_row_is_the_median_of_its_rounds_and_of_their_ratios() -> None:
    row = results.Row.of("ours", [10.0, 30.0, 20.0], "1/s", "theirs", [10.0, 10.0, 40.0], "≥ 0.75")
    assert (row.value, row.ratio, row.reached) == (20.0, 1.0, True)


def test_a_target_is_about_the_ratio_or_else_about_the_value() -> None:
    assert [
        results.Row(name="a", value=9.0, unit="ms", target="≤ 10").reached,
        results.Row(name="a", value=9.0, unit="ms", against="b", ratio=12.0, target="≤ 10").reached,
        results.Row(name="a", value=9.0, unit="ms").reached,
    ] == [True, False, None]


def test_a_program_replaces_its_own_rows_and_leaves_those_of_others(tmp_path: Path) -> None:
    arguments = results.parse(results.parser(""), ["--results", str(tmp_path / "kept.json")])
    for program, value in (("a", 1.0), ("b", 2.0), ("a", 3.0)):
        results.report(program, [results.Row(name="x", value=value, unit="s")], arguments)
    kept = results.read(tmp_path / "kept.json")
    assert {program: [row.value for row in rows] for program, rows in kept.items()} == {"a": [3.0], "b": [2.0]}
    machine = json.loads((tmp_path / "kept.json").read_text(encoding="utf-8"))["a"]["machine"]
    assert machine.keys() >= {"cpu", "cores", "memory_gib", "kernel", "python", "sqlite", "load_before"}


def test_a_short_run_is_kept_nowhere() -> None:
    arguments = results.parse(results.parser(""), ["--short"])
    assert (arguments.rounds, arguments.results) == (1, None)
