"""The facts shipped with the product: the published working calendar and the national tree of bureaus.

Each is read once per process. Other editions of either are read from files by `load_calendar` and `load_tree`.
"""

from collections.abc import Callable
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path
from typing import TypeVar

from kuaixiang.domain.calendar import CalendarError, WorkingCalendar, parse_calendar
from kuaixiang.domain.tree import BureauTree, TreeError, parse_tree

CALENDAR_FILE = "working-calendar-2026.1.csv"
TREE_FILE = "bureau-tree-2026-09.csv"
Facts = TypeVar("Facts", WorkingCalendar, BureauTree)

FACTS_BYTES_MAX = 16 * 2**20
"""The national tree is a fifth of a mebibyte; whatever is so much larger is not a file of facts."""


class FactsError(ValueError):
    """A file of facts cannot be used."""

    def __init__(self, path: str, problem: str) -> None:
        super().__init__(path, problem)
        self.path = path
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.path}: {self.problem}"


class FactsUnreadable(FactsError):
    """A file of facts is missing, cannot be opened, is too large or is not UTF-8."""


class FactsMalformed(FactsError):
    """A file of facts does not say what it must; the problem names the line, and what to write instead."""


@cache
def published_calendar() -> WorkingCalendar:
    """Give the working calendar as published by the State Council, shipped with this release."""
    return _load(files(__name__) / CALENDAR_FILE, CALENDAR_FILE, parse_calendar)


@cache
def national_tree() -> BureauTree:
    """Give the national tree of bureaus, shipped with this release."""
    return _load(files(__name__) / TREE_FILE, TREE_FILE, parse_tree)


def load_calendar(path: str | PathLike[str]) -> WorkingCalendar:
    """Read a working calendar from a file; the form is told at `parse_calendar`.

    Raises:
        FactsUnreadable, FactsMalformed.

    """
    return _load(Path(path), str(path), parse_calendar)


def load_tree(path: str | PathLike[str]) -> BureauTree:
    """Read a tree of bureaus from a file; the form is told at `parse_tree`.

    Raises:
        FactsUnreadable, FactsMalformed.

    """
    return _load(Path(path), str(path), parse_tree)


def _load(source: Traversable, name: str, parse: Callable[[str], Facts]) -> Facts:
    try:
        with source.open("rb") as stream:
            content = stream.read(FACTS_BYTES_MAX + 1)
    except OSError as error:
        raise FactsUnreadable(name, error.strerror or "cannot be opened") from error
    if len(content) > FACTS_BYTES_MAX:
        raise FactsUnreadable(name, f"is larger than {FACTS_BYTES_MAX} bytes")
    try:
        return parse(content.decode())
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FactsUnreadable(name, f"line {line} is not UTF-8; save the file as UTF-8") from error
    except (CalendarError, TreeError) as error:
        raise FactsMalformed(name, str(error)) from error
