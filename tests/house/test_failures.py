"""What docs/FAILURES.md says of each failure is held by tests that are there, and names metrics and refusals that are."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

from tests.house.test_refusals import refusals

ROOT = Path(__file__).parents[2]
DOCUMENT = ROOT / "docs" / "FAILURES.md"
COLUMNS = 6
MUST_BE_THERE = (
    "superior, NATS and hub",
    "superior's node",
    "subordinate's node",
    "NATS server",
    "the hub",
    "read-only",
    "full",
    "own certificate has expired",
    "peer's certificate has expired",
    "calendar ends",
    "list of staff",
    "identity provider",
    "clock was set back",
    "clock has jumped",
)


def rows() -> list[list[str]]:
    lines = [line for line in DOCUMENT.read_text("utf-8").splitlines() if line.startswith("| ")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines[2:]]


@cache
def names_in(file: str) -> frozenset[str]:
    tree = ast.parse((ROOT / file).read_text("utf-8"))
    return frozenset(one.name for one in tree.body if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef))


def test_every_failure_that_must_be_thought_of_has_a_row() -> None:
    titles = " | ".join(row[0] for row in rows())
    assert [] == [wanted for wanted in MUST_BE_THERE if wanted not in titles]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_says_everything_and_names_tests_that_are_there(row: list[str]) -> None:
    assert COLUMNS == len(row)
    assert all(row), "no cell is empty"
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", row[-1])
    assert named
    assert [] == [f"{file}::{name}" for file, name in named if name not in names_in(file)]


@pytest.mark.parametrize("row", rows(), ids=lambda row: row[0])
def test_a_row_names_refusals_that_are_there(row: list[str]) -> None:
    known = {kind.__name__ for kind in refusals()}
    assert [] == [name for name in re.findall(r"`([A-Z][A-Za-z]+)`", " ".join(row)) if name not in known]
