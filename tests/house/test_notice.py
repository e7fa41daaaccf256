"""NOTICE.md: every sentence of the notice has its act, clock, rule or figure, its command and its test, and each exists."""

import ast
import dataclasses
import importlib
import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest
import typer.main

from hub.definitions import COUNTS, FACTS, RATES
from kuaixiang.domain import words
from kuaixiang.domain.clocks import Rules
from kx.main import app

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "NOTICE.md"
HEADINGS = (
    "§一 工作目标",
    "§二(一) 依法治税，规范服务",
    "§二(二) 优质便捷，精准高效",
    "§二(三) 部门合作，统筹协调",
    "§二(四) 分级负责，闭环管理",
    "§三(一) 诉求和意见类别",
    "§三(二) 接收渠道",
    "§四 工作流程",
    "§四(一) 受理登记",
    "§四(一)1 受理登记的内容",
    "§四(一)2 受理登记的要求",
    "§四(二) 快速办理",
    "§四(二)1 限时办理",
    "§四(二)2 联合办理",
    "§四(二)3 分级办理",
    "§四(三) 及时反馈",
    "§四(四) 定期回访",
    "§四(五) 统计分析",
    "§五(一) 高度重视，提高认识",
    "§五(二) 协调配合，形成合力",
    "§五(三) 强化督导，跟踪问效",
)
"""Every heading of the notice under which a sentence stands, in reading order."""
BESIDES = ("What nobody must suffer", "Bad days")
QUOTED = re.compile(r"「[^」]*[\u4e00-\u9fff][^」]*」")
NAMED = re.compile(r"`([^`]+)`")
FIGURES = {fact.name.lower() for fact in FACTS} | {figure.name for figure in (*COUNTS, *RATES)}
PACKAGES = ("kuaixiang", "node", "hub", "kx", "demo")


@dataclasses.dataclass(frozen=True)
class Row:
    """A row of a table, under its heading."""

    heading: str
    cells: tuple[str, ...]

    def named(self, cell: int) -> list[str]:
        """What a cell names."""
        return NAMED.findall(self.cells[cell])


@cache
def rows() -> tuple[Row, ...]:
    """Every row of the page but the tables' heads."""
    found, heading, head = [], "", True
    for line in PAGE.read_text("utf-8").splitlines():
        if line.startswith("## "):
            heading, head = line.removeprefix("## "), True
        elif line.startswith("| ---"):
            head = False
        elif line.startswith("|") and not head:
            found.append(Row(heading, tuple(cell.strip() for cell in line.strip().strip("|").split("|"))))
    return tuple(found)


@cache
def module_of(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError:
        return None


def exists(name: str) -> bool:
    """Whether a name of the page is one of the code: a figure, a word, or something in a module."""
    first, *rest = name.split(".")
    if not rest and name in FIGURES:
        return True
    if first == Rules.__name__:
        return reached(Rules, rest)
    if hasattr(words, first):
        return reached(getattr(words, first), rest)
    place = name if first in PACKAGES else f"kuaixiang.domain.{name}"
    parts = place.split(".")
    for length in range(len(parts), 1, -1):
        found = module_of(".".join(parts[:length]))
        if found is not None:
            return reached(found, parts[length:])
    return False


def reached(found: Any, rest: list[str]) -> bool:
    """Whether a path of attributes leads somewhere; a dataclass has its fields, a settings class its settings."""
    for attribute in rest:
        fields = {field.name for field in dataclasses.fields(found)} if dataclasses.is_dataclass(found) else set()
        if attribute in fields | set(getattr(found, "model_fields", ())):
            return attribute == rest[-1]
        if not hasattr(found, attribute):
            return False
        found = getattr(found, attribute)
    return True


@cache
def kx() -> Any:
    return typer.main.get_command(app)


def fault_of(line: str) -> str:
    """What is wrong with a command line; empty when the command has those options."""
    command, context = kx(), click.Context(click.Command("kx"))
    _, *parts = line.split()
    while parts and not parts[0].startswith("-"):
        command = command.get_command(context, parts.pop(0)) if hasattr(command, "get_command") else None
        if command is None:
            return f"{line}: no such command"
    if hasattr(command, "get_command"):
        return f"{line}: a group, not a command"
    options = {option for parameter in command.params for option in parameter.opts}
    return "".join(f"{line}: no {option}" for option in parts if option not in options)


@cache
def functions_of(path: str) -> frozenset[str]:
    """The names of the tests in a file; empty when there is no such file."""
    file = ROOT / path
    if not file.is_file():
        return frozenset()
    tree = ast.parse(file.read_text("utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def of(heading: str) -> Iterator[Row]:
    return (row for row in rows() if row.heading == heading)


def test_every_heading_of_the_notice_has_rows_in_reading_order() -> None:
    assert [*HEADINGS, *BESIDES] == list(dict.fromkeys(row.heading for row in rows()))


def test_no_cell_is_empty_and_every_demand_is_quoted() -> None:
    assert [] == [row for row in rows() if len(row.cells) != 5 or not all(row.cells)]
    assert [] == [row for row in rows() if row.heading in HEADINGS and not QUOTED.fullmatch(row.cells[0])]


@pytest.mark.parametrize("heading", [*HEADINGS, *BESIDES])
def test_what_a_row_names_exists(heading: str) -> None:
    """Something of the code, commands with their options, tests: at least one of each."""
    for row in of(heading):
        code, commands, tests = (row.named(cell) for cell in (2, 3, 4))
        assert all((code, commands, tests)), row
        assert [] == [name for name in code if not exists(name)], row
        assert [] == [fault for line in commands if (fault := fault_of(line))], row
        assert [] == [test for test in tests if test.split("::")[1] not in functions_of(test.split("::")[0])], row


def test_a_name_that_is_none_is_found_out() -> None:
    assert not any(map(exists, ("acts.Forwarded", "Stage.LOST", "Rules.handle_hours", "on_tme", "hub.nowhere.Thing")))
    assert all(map(fault_of, ("kx case vanish", "kx case", "kx case list --nowhere", "kx nothing at-all")))
    assert frozenset() == functions_of("tests/domain/test_nothing.py")
