"""Figures read from the hub's database: facts, deadlines, working days taken, rates, completeness.

A figure is read for a bureau with everything under it, or for a bureau alone; only the bureau's own rows or totals are
touched, whatever the size of the tree below it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, timedelta
from enum import IntEnum
from typing import Any, Final

import sqlalchemy as sa

from hub.fold import Mark
from hub.measures import (
    FACT_NAMES,
    RATES,
    histogram,
    met,
    missed,
    percentile_workdays,
    total,
)
from hub.store import ALONE, MARKS, OPEN_CASES, OPEN_CLOCKS, TALLIES, WITH_SUBORDINATES, mark_of
from kuaixiang.domain.labels import term_of
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel, ClockKind

EPOCH_DAY: Final = date(1970, 1, 1)
DAY_MIN: Final = (date.min - EPOCH_DAY).days
DAY_MAX: Final = (date.max - EPOCH_DAY).days


class Grouping(IntEnum):
    """What the rows of an answer are; the numbers are the wire's."""

    TOTAL = 0
    BUREAU = 1
    """The scope's own figures and those of each immediate subordinate with all of its own."""
    CATEGORY = 2
    CHANNEL = 3
    DAY = 4
    MONTH = 5
    EVERY_BUREAU = 6


@dataclass(frozen=True, slots=True)
class Question:
    """What figures are asked for."""

    scope: str
    from_day: date | None = None
    to_day: date | None = None
    """Days in Asia/Shanghai, both included; None: unbounded."""
    grouping: Grouping = Grouping.TOTAL
    category: int = 0
    channel: int = 0
    """0: all."""


@dataclass(frozen=True, slots=True)
class RateFigure:
    """A rate as what it was computed from."""

    name: str
    numerator: int
    denominator: int

    @property
    def value(self) -> float | None:
        """The rate; None when there is nothing to divide by."""
        return self.numerator / self.denominator if self.denominator else None


@dataclass(frozen=True, slots=True)
class ClockFigure:
    """One clock's deadlines that fell due, and the working days its clocks took."""

    kind: ClockKind
    met: int
    missed: int
    histogram: tuple[int, ...]
    p50_workdays: float
    p90_workdays: float


@dataclass(slots=True)
class Row:
    """One row of figures."""

    key: str = ""
    label: str = ""
    sums: dict[int, int] = field(default_factory=dict)
    open: int = 0
    """Open cases now, whatever the period; not told by day or month."""
    overdue: int = 0
    """Those of them with a clock running past its deadline."""

    def add(self, measure: int, value: int) -> None:
        """Add to a measure."""
        self.sums[measure] = self.sums.get(measure, 0) + value

    @property
    def facts(self) -> dict[str, int]:
        """Counts by the name of the fact, those that are not zero."""
        return {name: self.sums[fact] for fact, name in FACT_NAMES.items() if self.sums.get(fact)}

    @property
    def rates(self) -> list[RateFigure]:
        """Every rate, by its one definition."""
        return [
            RateFigure(rate.name, total(self.sums, rate.numerator), total(self.sums, rate.denominator))
            for rate in RATES
        ]

    @property
    def clocks(self) -> list[ClockFigure]:
        """The clocks of which anything is known."""
        found = []
        for kind in ClockKind:
            counts = histogram(self.sums, kind)
            figures = ClockFigure(
                kind,
                self.sums.get(met(kind), 0),
                self.sums.get(missed(kind), 0),
                tuple(counts),
                percentile_workdays(counts, 0.5),
                percentile_workdays(counts, 0.9),
            )
            if figures.met or figures.missed or any(counts):
                found.append(figures)
        return found


@dataclass(frozen=True, slots=True)
class Completeness:
    """How much of a scope the figures hold."""

    bureaus_expected: int
    bureaus_heard: int
    bureaus_up_to_date: int
    bureaus_quarantined: int
    data_as_of_us: int
    """Every bureau heard from has reported at least up to this instant; 0: none has been heard from."""


def figures(connection: sa.Connection, tree: BureauTree, question: Question, now_us: int) -> list[Row]:
    """Answer a question. `now_us` says what is overdue. Raises `UnknownBureau`."""
    tree.get(question.scope)
    rows: dict[str, Row] = {}
    match question.grouping:
        case Grouping.TOTAL:
            rows[""] = Row()
            for measure, value in _sums(connection, question, [_totals_of(tree, question.scope)], ()):
                rows[""].add(measure, value)
        case Grouping.BUREAU:
            rows = _by_bureau(connection, tree, question)
        case Grouping.EVERY_BUREAU:
            everyone = tree.subtree(question.scope)
            wanted = [(bureau, ALONE) for bureau in everyone]
            for bureau, measure, value in _sums(connection, question, wanted, (TALLIES.c.bureau,)):
                rows.setdefault(bureau, Row(bureau, tree.get(bureau).name)).add(measure, value)
            rows = {bureau: rows[bureau] for bureau in everyone if bureau in rows}
        case Grouping.CATEGORY:
            rows = _by_column(connection, tree, question, TALLIES.c.category, Category)
        case Grouping.CHANNEL:
            rows = _by_column(connection, tree, question, TALLIES.c.channel, Channel)
        case Grouping.DAY | Grouping.MONTH:
            totals = [_totals_of(tree, question.scope)]
            for day, measure, value in sorted(_sums(connection, question, totals, (TALLIES.c.day,))):
                key = day_text(day)[: 10 if question.grouping is Grouping.DAY else 7]
                rows.setdefault(key, Row(key, key)).add(measure, value)
            return list(rows.values())
    _add_open(connection, tree, question, now_us, rows)
    return list(rows.values())


def day_text(day: int) -> str:
    """A day of the tallies as YYYY-MM-DD; days beyond the calendar, which only a false entry has, as its ends."""
    return (EPOCH_DAY + timedelta(days=min(max(day, DAY_MIN), DAY_MAX))).isoformat()


def read_marks(connection: sa.Connection, bureaus: Iterable[str] | None = None) -> dict[str, Mark]:
    """The committed marks, of all bureaus or of some."""
    wanted = None if bureaus is None else frozenset(bureaus)
    return {
        row.bureau: mark_of(row)
        for row in connection.execute(sa.select(MARKS).order_by(MARKS.c.bureau))
        if wanted is None or row.bureau in wanted
    }


def completeness(expected: Sequence[str], marks: Mapping[str, Mark], silent: frozenset[str]) -> Completeness:
    """How complete the figures of these bureaus are; `silent` ones have not been heard from lately."""
    heard = [mark for bureau in expected if (mark := marks.get(bureau)) is not None and mark.heard_at_us]
    return Completeness(
        bureaus_expected=len(expected),
        bureaus_heard=len(heard),
        bureaus_up_to_date=sum(not mark.behind and not mark.quarantine and mark.bureau not in silent for mark in heard),
        bureaus_quarantined=sum(bool(mark.quarantine) for mark in heard),
        data_as_of_us=min((mark.data_as_of_us for mark in heard), default=0),
    )


# ---------------------------------------------------------------- inside


def _totals_of(tree: BureauTree, bureau: str) -> tuple[str, int]:
    """Where a bureau's figures with all subordinates stand: one without any has only its own."""
    return bureau, WITH_SUBORDINATES if tree.children(bureau) else ALONE


def _sums(
    connection: sa.Connection,
    question: Question,
    places: Sequence[tuple[str, int]],
    by: Sequence[sa.ColumnElement[Any]],
) -> list[Any]:
    """Sums of the measures at some (bureau, reach), grouped; rows are (*by, measure, sum)."""
    found: list[Any] = []
    for reach in (ALONE, WITH_SUBORDINATES):
        bureaus = [bureau for bureau, where in places if where == reach]
        # SQLite takes a limited number of parameters in one statement.
        for start in range(0, len(bureaus), 500):
            statement = (
                sa.select(*by, TALLIES.c.measure, sa.cast(sa.func.sum(TALLIES.c.value), sa.BigInteger))
                .where(TALLIES.c.reach == reach, TALLIES.c.bureau.in_(bureaus[start : start + 500]))
                .group_by(*by, TALLIES.c.measure)
            )
            if question.from_day is not None:
                statement = statement.where(TALLIES.c.day >= (question.from_day - EPOCH_DAY).days)
            if question.to_day is not None:
                statement = statement.where(TALLIES.c.day <= (question.to_day - EPOCH_DAY).days)
            if question.category:
                statement = statement.where(TALLIES.c.category == question.category)
            if question.channel:
                statement = statement.where(TALLIES.c.channel == question.channel)
            found.extend(tuple(row) for row in connection.execute(statement))
    return found


def _by_bureau(connection: sa.Connection, tree: BureauTree, question: Question) -> dict[str, Row]:
    scope = question.scope
    rows = {scope: Row(scope, f"{tree.get(scope).name}（本级）")}
    rows.update({child: Row(child, tree.get(child).name) for child in tree.children(scope)})
    places = [(scope, ALONE), *(_totals_of(tree, child) for child in tree.children(scope))]
    for bureau, measure, value in _sums(connection, question, places, (TALLIES.c.bureau,)):
        rows[bureau].add(measure, value)
    return rows


def _by_column(
    connection: sa.Connection,
    tree: BureauTree,
    question: Question,
    column: sa.ColumnElement[Any],
    kind: type[IntEnum],
) -> dict[str, Row]:
    rows: dict[str, Row] = {}
    for value_of, measure, value in sorted(_sums(connection, question, [_totals_of(tree, question.scope)], (column,))):
        key = str(value_of)
        rows.setdefault(key, Row(key, term_of(kind, value_of))).add(measure, value)
    return rows


def _add_open(
    connection: sa.Connection, tree: BureauTree, question: Question, now_us: int, rows: dict[str, Row]
) -> None:
    """Add the open cases, each to the row it belongs to."""
    within = frozenset(tree.subtree(question.scope))
    by = (OPEN_CASES.c.bureau, OPEN_CASES.c.category, OPEN_CASES.c.channel)
    late = (
        sa.select(OPEN_CLOCKS.c.bureau, OPEN_CLOCKS.c.case_id).where(OPEN_CLOCKS.c.due_us <= now_us).distinct()
    ).subquery()
    counted = sa.select(*by, sa.func.count()).group_by(*by)
    counted_late = (
        sa.select(*by, sa.func.count())
        .join_from(
            late,
            OPEN_CASES,
            sa.and_(OPEN_CASES.c.bureau == late.c.bureau, OPEN_CASES.c.case_id == late.c.case_id),
        )
        .group_by(*by)
    )
    for statement, attribute in ((counted, "open"), (counted_late, "overdue")):
        if question.category:
            statement = statement.where(OPEN_CASES.c.category == question.category)  # noqa: PLW2901
        if question.channel:
            statement = statement.where(OPEN_CASES.c.channel == question.channel)  # noqa: PLW2901
        for bureau, category, channel, count in connection.execute(statement):
            if bureau not in within:
                continue
            row = _row_for(tree, question, rows, (bureau, category, channel))
            setattr(row, attribute, getattr(row, attribute) + count)


def _row_for(tree: BureauTree, question: Question, rows: dict[str, Row], of: tuple[str, int, int]) -> Row:
    bureau, category, channel = of
    match question.grouping:
        case Grouping.BUREAU:
            line = tree.superiors_and_self(bureau)
            above = line.index(question.scope)
            return rows[line[above - 1] if above else bureau]
        case Grouping.EVERY_BUREAU:
            return rows.setdefault(bureau, Row(bureau, tree.get(bureau).name))
        case Grouping.CATEGORY:
            return rows.setdefault(str(category), Row(str(category), term_of(Category, category)))
        case Grouping.CHANNEL:
            return rows.setdefault(str(channel), Row(str(channel), term_of(Channel, channel)))
        case _:
            return rows[""]
