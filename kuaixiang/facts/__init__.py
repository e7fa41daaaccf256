"""The facts shipped with the product: the published working calendar and the national tree of bureaus.

Each is read once per process. Other editions of either are read from files by `load_calendar` and `load_tree`, and the
departments and officers of bureaus, of which none are shipped, by `load_staff`.
"""

from collections.abc import Mapping
from functools import cache
from importlib.resources import files
from importlib.resources.abc import Traversable
from os import PathLike
from pathlib import Path

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.staff import Staff
from kuaixiang.domain.tree import BureauTree
from kuaixiang.facts.staff import parse_staff
from kuaixiang.facts.text import FactsError, FactsMalformed, parse_calendar, parse_tree

__all__ = [
    "FactsError",
    "FactsMalformed",
    "FactsUnreadable",
    "load_calendar",
    "load_staff",
    "load_tree",
    "national_tree",
    "parse_calendar",
    "parse_staff",
    "parse_tree",
    "published_calendar",
]

CALENDAR_FILE = "working-calendar-2026.1.csv"
TREE_FILE = "bureau-tree-2026-09.csv"
FACTS_BYTES_MAX = 16 * 2**20
"""The national tree is a fifth of a mebibyte; whatever is so much larger is not a file of facts."""


class FactsUnreadable(FactsError):
    """A file of facts is missing, cannot be opened, is too large or is not UTF-8."""

    def __init__(self, source: str, problem: str) -> None:
        super().__init__(source, problem)
        self.source = source
        self.problem = problem

    def __str__(self) -> str:
        return f"{self.source}: {self.problem}"


@cache
def published_calendar() -> WorkingCalendar:
    """Give the working calendar as published by the State Council, shipped with this release."""
    return parse_calendar(_text(files(__name__) / CALENDAR_FILE, CALENDAR_FILE), CALENDAR_FILE)


@cache
def national_tree() -> BureauTree:
    """Give the national tree of bureaus, shipped with this release."""
    return parse_tree(_text(files(__name__) / TREE_FILE, TREE_FILE), TREE_FILE)


def load_calendar(path: str | PathLike[str]) -> WorkingCalendar:
    """Read a working calendar from a file; `parse_calendar` tells its form.

    Raises:
        FactsUnreadable, FactsMalformed.

    """
    return parse_calendar(_text(Path(path), str(path)), str(path))


def load_tree(path: str | PathLike[str]) -> BureauTree:
    """Read a tree of bureaus from a file; `parse_tree` tells its form.

    Raises:
        FactsUnreadable, FactsMalformed.

    """
    return parse_tree(_text(Path(path), str(path)), str(path))


def load_staff(path: str | PathLike[str]) -> Mapping[str, Staff]:
    """Read the departments and officers of bureaus from a file, by bureau code; `parse_staff` tells its form.

    Raises:
        FactsUnreadable, FactsMalformed.

    """
    return parse_staff(_text(Path(path), str(path)), str(path))


def _text(file: Traversable, source: str) -> str:
    try:
        with file.open("rb") as stream:
            content = stream.read(FACTS_BYTES_MAX + 1)
    except OSError as error:
        raise FactsUnreadable(source, error.strerror or "cannot be opened") from error
    if len(content) > FACTS_BYTES_MAX:
        raise FactsUnreadable(source, f"larger than {FACTS_BYTES_MAX} bytes")
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise FactsUnreadable(source, f"line {line} is not UTF-8; save the file as UTF-8") from error
