"""Comparing a period with the one before it (环比) and with the same one of the year before (同比).

A whole day, week, month, quarter or year is compared with one of its kind; any other span of days with as many days
right before it, and with the same dates a year before. Changes of rates are told in percentage points.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date, timedelta
from typing import Final

import sqlalchemy as sa

from hub.query import PERIODS, Question, Row, figures
from hub.words import Basis
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.periods import Period, PeriodKind, parse_period, period_of
from kuaixiang.domain.tree import BureauTree

_DAY: Final = timedelta(days=1)
_LEAP_DAY: Final = (2, 29)
PERCENTAGE_POINTS: Final = 100


class ComparisonUnbounded(Refused):
    """A comparison of a period without a first or last day."""

    condition = Condition.INVALID
    field = "from_day"
    remedy = "Give the first and the last day, or a period such as 2026-10."
    remedy_chinese = "请填写起止日期，或填写 2026-10 这样的期间。"

    def __init__(self) -> None:
        super().__init__("Only a period with a first and a last day can be compared.", "比较须有明确的起止日期。")


class ComparisonUneven(Refused):
    """Rows that are whole periods, compared within a period that cuts one of them."""

    condition = Condition.INVALID
    field = "from_day"

    def __init__(self, first: date, last: date, kind: PeriodKind) -> None:
        self.remedy = f"Let the period begin and end with a whole {kind.name.lower()}."
        self.remedy_chinese = "请使期间的起止与各行的周期对齐。"
        super().__init__(
            f"{first} to {last} does not begin and end with a whole {kind.name.lower()}.",
            f"{first} 至 {last} 未与各行的周期对齐，无法逐行比较。",
        )


@dataclass(frozen=True, slots=True)
class Change:
    """A row against what it is compared with."""

    basis: Basis
    first: date
    last: date
    """The days compared with, both included."""
    before: Row
    facts: dict[str, int]
    """What has been added, by fact; those that are not zero."""
    counts: dict[str, int]
    rates: dict[str, float]
    """Percentage points, of rates that both have."""


@dataclass(frozen=True, slots=True)
class Compared:
    """A row and its changes."""

    row: Row
    changes: tuple[Change, ...] = ()

    def before(self, basis: Basis) -> Row | None:
        """What it is compared with; None where it is not."""
        return next((change.before for change in self.changes if change.basis is basis), None)


def whole_period(first: date, last: date) -> Period | None:
    """The day, week, month, quarter or year that begins and ends so; None when it is none."""
    periods = (period_of(first, kind) for kind in PeriodKind)
    return next((period for period in periods if (period.first, period.last) == (first, last)), None)


def days_compared(first: date, last: date, basis: Basis) -> tuple[date, date]:
    """The days that a period is compared with."""
    period = whole_period(first, last)
    if period is not None:
        before = period.previous if basis is Basis.LAST_PERIOD else period.year_before
        return before.first, before.last
    if basis is Basis.LAST_PERIOD:
        return first - (last - first) - _DAY, first - _DAY
    return _year_before(first), _year_before(last)


def compare(connection: sa.Connection, tree: BureauTree, question: Question, now_us: int) -> list[Compared]:
    """Answer a question, each row with its changes.

    Raises `UnknownBureau`, `ComparisonUnbounded`, `ComparisonUneven`.
    """
    first, last = question.from_day, question.to_day
    if first is None or last is None:
        raise ComparisonUnbounded
    rows = figures(connection, tree, question, now_us)
    if question.grouping in PERIODS:
        return _compare_in_turn(connection, tree, question, (first, last), rows, now_us)
    found: dict[str, list[Change]] = {row.key: [] for row in rows}
    for basis in Basis:
        days = days_compared(first, last, basis)
        earlier = replace(question, from_day=days[0], to_day=days[1])
        before = {row.key: row for row in figures(connection, tree, earlier, now_us)}
        for row in rows:
            found[row.key].append(change(basis, days, row, before.get(row.key) or Row(row.key, row.label)))
    return [Compared(row, tuple(found[row.key])) for row in rows]


def change(basis: Basis, days: tuple[date, date], row: Row, before: Row) -> Change:
    """A row against an earlier one."""
    earlier = {rate.name: rate.value for rate in before.rates}
    rates = {
        rate.name: (rate.value - was) * PERCENTAGE_POINTS
        for rate in row.rates
        if rate.value is not None and (was := earlier.get(rate.name)) is not None
    }
    return Change(basis, *days, before, _added(row.facts, before.facts), _added(row.counts, before.counts), rates)


def _added(now: dict[str, int], before: dict[str, int]) -> dict[str, int]:
    return {
        name: now.get(name, 0) - before.get(name, 0)
        for name in (*now, *(name for name in before if name not in now))
        if now.get(name, 0) != before.get(name, 0)
    }


def _compare_in_turn(  # noqa: PLR0917 - the question, its days and its rows
    connection: sa.Connection,
    tree: BureauTree,
    question: Question,
    days: tuple[date, date],
    rows: Sequence[Row],
    now_us: int,
) -> list[Compared]:
    """Each row, a period, against its own predecessor and the same one of the year before."""
    kind = PERIODS[question.grouping]
    begin, end = period_of(days[0], kind), period_of(days[1], kind)
    if (begin.first, end.last) != days:
        raise ComparisonUneven(*days, kind)
    earlier = replace(question, from_day=begin.year_before.first, to_day=end.last)
    known = {row.key: row for row in figures(connection, tree, earlier, now_us)}
    found = []
    for row in rows:
        period = parse_period(row.key)
        changes = tuple(
            change(basis, (of.first, of.last), row, known.get(str(of)) or Row(str(of), str(of)))
            for basis, of in ((Basis.LAST_PERIOD, period.previous), (Basis.YEAR_BEFORE, period.year_before))
        )
        found.append(Compared(row, changes))
    return found


def _year_before(day: date) -> date:
    return (
        day.replace(year=day.year - 1, day=28) if (day.month, day.day) == _LEAP_DAY else day.replace(year=day.year - 1)
    )
