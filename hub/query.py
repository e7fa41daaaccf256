"""Figures read from the hub's database: facts, deadlines, working days taken, rates, completeness.

A figure is read for a bureau with everything under it, or for a bureau alone; only the bureau's own rows or totals are
touched, whatever the size of the tree below it, and of totals a whole month or year is read at once. How long it takes
depends on the rows and columns of the answer, not on how many entries have been counted in it.
"""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, timedelta
from enum import IntEnum
from functools import cache
from operator import itemgetter
from typing import Any, Final

import sqlalchemy as sa

from hub.cells import Ground, by_measure, summed
from hub.definitions import COUNTS, RATES, net
from hub.fold import DAY_MAX, DAY_MIN, EPOCH_DAY, Mark
from hub.measures import FACT_NAMES, UNFINISHED, clocks_in, histogram, met, missed, percentile_workdays, total
from hub.store import (
    ALONE,
    ALONE_MONTHLY,
    ALONE_YEARLY,
    LONGER,
    MONTHLY,
    OPEN_CASES,
    OPEN_CLOCKS,
    WITH_SUBORDINATES,
    YEARLY,
    among,
    read_tallies,
)
from hub.words import Grouping, Lack, ground_text
from kuaixiang.domain.periods import PeriodKind, period_of
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel, ClockKind, DepartmentKind

PERIODS: Final[Mapping[Grouping, PeriodKind]] = {
    Grouping.DAY: PeriodKind.DAY,
    Grouping.WEEK: PeriodKind.WEEK,
    Grouping.MONTH: PeriodKind.MONTH,
    Grouping.QUARTER: PeriodKind.QUARTER,
    Grouping.YEAR: PeriodKind.YEAR,
}
"""Groupings whose rows are periods; their keys are written as `kuaixiang.domain.periods` writes them."""


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
    department: int = 0
    """Kind of department. 0: all, as for category and channel."""
    measures: tuple[int, ...] = ()
    """Those that are asked for, and nothing that is not one of them: no open cases, nothing unfinished; none: all."""


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
    p95_workdays: float


@dataclass(slots=True)
class Row:
    """One row of figures."""

    key: str = ""
    label: str = ""
    sums: Mapping[int, int] = field(default_factory=dict)
    open: int = 0
    """Open cases now, whatever the period; not told by periods, nor by bureau and category at once."""
    overdue: int = 0
    """Those of them with a clock running past its deadline."""
    unfinished: int | None = None
    """Cases not finished at the end of the period, by the definition of that name; None where it is not told."""

    @property
    def facts(self) -> dict[str, int]:
        """Counts by the name of the fact, those that are not zero."""
        return {FACT_NAMES[fact]: self.sums[fact] for fact in sorted(FACT_NAMES.keys() & self.sums) if self.sums[fact]}

    @property
    def counts(self) -> dict[str, int]:
        """Every figure that is summed up from measures, by its one definition."""
        counts = {count.name: net(self.sums, count) for count in COUNTS if count.name != _UNFINISHED.name}
        return counts if self.unfinished is None else counts | {_UNFINISHED.name: self.unfinished}

    @property
    def rates(self) -> list[RateFigure]:
        """Every rate that can be told, by its one definition."""
        known = self.sums if self.unfinished is None else {**self.sums, UNFINISHED: self.unfinished}
        return [
            RateFigure(rate.name, total(known, rate.numerator), total(known, rate.denominator))
            for rate in RATES
            if self.unfinished is not None or UNFINISHED not in rate.measures
        ]

    @property
    def clocks(self) -> list[ClockFigure]:
        """The clocks of which anything is known."""
        found = []
        for kind in clocks_in(self.sums):
            counts = histogram(self.sums, kind)
            found.append(
                ClockFigure(
                    kind,
                    self.sums.get(met(kind), 0),
                    self.sums.get(missed(kind), 0),
                    tuple(counts),
                    percentile_workdays(counts, 0.5),
                    percentile_workdays(counts, 0.9),
                    percentile_workdays(counts, 0.95),
                )
            )
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
    missing: Mapping[str, Lack] = field(default_factory=dict)
    """The bureaus that are not up to date, in the order of the tree, and why."""


_GROUNDS: Final = (Grouping.CATEGORY, Grouping.CHANNEL, Grouping.DEPARTMENT)
_WEEK_DAYS: Final = 7
"""Less than this before the calendar's end, no week has an end."""
_UNFINISHED: Final = next(count for count in COUNTS if count.name == "unfinished")


def figures(connection: sa.Connection, tree: BureauTree, question: Question, now_us: int) -> list[Row]:
    """Answer a question. `now_us` says what is overdue. Raises `UnknownBureau`."""
    plan = _counted(connection, tree, question)
    rows = plan.rows
    if question.grouping in PERIODS:
        found = list(rows.values())
        if not question.measures:
            _add_unfinished_in_turn(connection, question, plan, found)
        return found
    if question.grouping is Grouping.BUREAU_AND_CATEGORY:
        return [rows[key] for key in sorted(rows)]
    if not question.measures:
        _add_unfinished(connection, question, plan)
        _add_open(connection, tree, question, now_us, plan)
    if question.grouping is Grouping.EVERY_BUREAU:
        return [rows[bureau] for bureau in tree.subtree(question.scope) if bureau in rows]
    if question.grouping in _GROUNDS:
        return [rows[key] for key in sorted(rows, key=int)]
    return list(rows.values())


def cells(
    connection: sa.Connection, tree: BureauTree, question: Question
) -> dict[tuple[int, int, int], Mapping[int, int]]:
    """Sums of the measures of the scope with its subordinates, by (category, channel, department kind)."""
    plan = _Plan([_totals_of(tree, question.scope)], tuple(Ground), _first, _first, {})
    return {
        (category, channel, department): sums
        for (_, category, channel, department), sums in _sums(connection, question, plan)
    }


def unfinished_and_sums(connection: sa.Connection, tree: BureauTree, question: Question) -> list[Row]:
    """Every bureau of the scope by itself, as it enters an edition: nothing that depends on the present."""
    plan = _counted(connection, tree, replace(question, grouping=Grouping.EVERY_BUREAU))
    _add_unfinished(connection, question, plan)
    return list(plan.rows.values())


def day_number(of: date) -> int:
    """A day as the tallies count it, from 1970-01-01."""
    return (of - EPOCH_DAY).days


def day_text(day: int) -> str:
    """A day of the tallies as YYYY-MM-DD; days beyond the calendar, which only a false entry has, as its ends."""
    return date_of(day).isoformat()


def date_of(day: int) -> date:
    """A day of the tallies; beyond the calendar, its end."""
    return EPOCH_DAY + timedelta(days=min(max(day, DAY_MIN), DAY_MAX))


def period_text(day: int, kind: PeriodKind) -> str:
    """The period of a kind that a day of the tallies belongs to, as it is written; days beyond it as above."""
    return str(period_of(date_of(min(day, DAY_MAX - _WEEK_DAYS)), kind))


def completeness(
    expected: Sequence[str], marks: Mapping[str, Mark], silent: frozenset[str], until_us: int = 0
) -> Completeness:
    """How complete the figures of these bureaus are; `silent` ones have not been heard from lately.

    With `until_us`, a bureau must have reported up to that instant too.
    """
    heard = [mark for bureau in expected if (mark := marks.get(bureau)) is not None and mark.heard_at_us]
    lacks = {bureau: _lack(marks.get(bureau), silent, until_us) for bureau in expected}
    missing = {bureau: lack for bureau, lack in lacks.items() if lack is not None}
    return Completeness(
        bureaus_expected=len(expected),
        bureaus_heard=len(heard),
        bureaus_up_to_date=len(expected) - len(missing),
        bureaus_quarantined=sum(bool(mark.quarantine) for mark in heard),
        data_as_of_us=min((mark.data_as_of_us for mark in heard), default=0),
        missing=missing,
    )


def _lack(mark: Mark | None, silent: frozenset[str], until_us: int) -> Lack | None:
    if mark is None or not mark.heard_at_us:
        return Lack.NEVER_HEARD
    if mark.quarantine:
        return Lack.QUARANTINED
    if mark.restored:
        return Lack.RESTORED
    if mark.behind or mark.data_as_of_us < until_us:
        return Lack.BEHIND
    return Lack.SILENT if mark.bureau in silent else None


# ---------------------------------------------------------------- inside


@dataclass(frozen=True, slots=True)
class _Plan:
    """Where a question's figures stand, and which row each belongs to."""

    places: Sequence[tuple[str, int]]
    """Bureaus, each alone or with its subordinates."""
    grounds: Sequence[Ground]
    """What tells the rows apart besides the bureau or the day."""
    key: Callable[["_At"], str]
    label: Callable[["_At"], str]
    rows: dict[str, Row]
    """Begins with the rows that are shown whatever is counted."""
    by_bureau: bool = False
    period: PeriodKind | None = None
    """The rows are periods of this kind."""


def _plan(tree: BureauTree, question: Question) -> _Plan:
    scope = question.scope
    totals = [_totals_of(tree, scope)]
    match question.grouping:
        case Grouping.BUREAU:
            rows = {scope: Row(scope, f"{tree.get(scope).name}（本级）")}
            rows.update({child: Row(child, tree.get(child).name) for child in tree.children(scope)})
            places = [(scope, ALONE), *(_totals_of(tree, child) for child in tree.children(scope))]
            return _Plan(places, (), _first, lambda at: tree.get(at[0]).name, rows, by_bureau=True)
        case Grouping.BUREAU_AND_CATEGORY:
            places = [(scope, ALONE), *(_totals_of(tree, child) for child in tree.children(scope))]
            return _Plan(
                places,
                (Ground.CATEGORY,),
                lambda at: f"{at[0]}/{at[1]}",
                lambda at: f"{tree.get(at[0]).name} {ground_text(Category, at[1])}",
                {},
                by_bureau=True,
            )
        case Grouping.EVERY_BUREAU:
            everyone = [(bureau, ALONE) for bureau in tree.subtree(scope)]
            bureaus = tree.bureaus
            return _Plan(everyone, (), _first, lambda at: bureaus[at[0]].name, {}, by_bureau=True)
        case Grouping.CATEGORY:
            return _by_word(totals, Ground.CATEGORY, Category)
        case Grouping.CHANNEL:
            return _by_word(totals, Ground.CHANNEL, Channel)
        case Grouping.DEPARTMENT:
            return _by_word(totals, Ground.DEPARTMENT, DepartmentKind)
        case Grouping.TOTAL:
            return _Plan(totals, (), _first, _first, {"": Row()})
        case of_time:
            kind = PERIODS[of_time]
            return _Plan(totals, (), _first, _first, {}, period=kind)


def _counted(connection: sa.Connection, tree: BureauTree, question: Question) -> _Plan:
    """The plan of a question with everything counted in its rows."""
    plan = _plan(tree, question)
    rows, key_of, label_of = plan.rows, plan.key, plan.label
    for at, sums in _sums(connection, question, plan):
        key = key_of(at)
        row = rows.get(key)
        if row is None:
            rows[key] = Row(key, label_of(at), sums)
        else:
            row.sums = sums
    return plan


def _row(plan: _Plan, at: "_At") -> Row:
    """The row that something belongs to."""
    key = plan.key(at)
    row = plan.rows.get(key)
    if row is None:
        row = plan.rows[key] = Row(key, plan.label(at))
    return row


_first: Final[Callable[["_At"], str]] = itemgetter(0)


def _by_word(places: Sequence[tuple[str, int]], ground: Ground, kind: type[IntEnum]) -> _Plan:
    return _Plan(places, (ground,), lambda at: str(at[1]), lambda at: ground_text(kind, at[1]), {})


def _totals_of(tree: BureauTree, bureau: str) -> tuple[str, int]:
    """Where a bureau's figures with all subordinates stand: one without any has only its own."""
    return bureau, WITH_SUBORDINATES if tree.children(bureau) else ALONE


def _spans(
    first: int | None, last: int | None, daily: int, longer: Sequence[int]
) -> list[tuple[int, int | None, int | None]]:
    """The days from `first` to `last` (None: unbounded) as (reach, first, last): in the longest periods there are."""
    if not longer:
        return [(daily, first, last)]
    reach, *shorter = longer
    first_of, beyond = LONGER[reach]
    begin = first if first is None or first_of(first) == first else first_of(first_of(first) + beyond)
    end = None if last is None else first_of(last + 1)
    if begin is not None and end is not None and begin >= end:
        return _spans(first, last, daily, shorter)
    spans: list[tuple[int, int | None, int | None]] = [(reach, begin, None if end is None else end - 1)]
    if first is not None and begin is not None and first < begin:
        spans = _spans(first, begin - 1, daily, shorter) + spans
    if last is not None and end is not None and end <= last:
        spans += _spans(end, last, daily, shorter)
    return spans


_LONGER: Final[Mapping[int, Sequence[int]]] = {
    ALONE: (ALONE_YEARLY, ALONE_MONTHLY),
    WITH_SUBORDINATES: (YEARLY, MONTHLY),
}


def _longer(reach: int, question: Question, plan: _Plan) -> Sequence[int]:
    """The periods longer than days that a question can be answered from."""
    if reach == ALONE and (plan.grounds or question.category or question.channel or question.department):
        # A bureau's own months and years are kept over all grounds together.
        return ()
    if plan.period is None or plan.period >= PeriodKind.YEAR:
        return _LONGER[reach]
    return _LONGER[reach][1:] if plan.period >= PeriodKind.MONTH else ()


_WITHOUT_GROUNDS: Final = frozenset({ALONE_YEARLY, ALONE_MONTHLY})
_At = tuple[Any, ...]
"""What tells a row: the bureau or the period (nothing where neither does), then the grounds asked for."""


def _sums(
    connection: sa.Connection, question: Question, plan: _Plan, measures: tuple[int, ...] = ()
) -> list[tuple[_At, Mapping[int, int]]]:
    """Sums of the measures (all of them by default) where the plan has them: (what tells the row, sums by measure)."""
    first = None if question.from_day is None else day_number(question.from_day)
    last = None if question.to_day is None else day_number(question.to_day)
    kind = plan.period
    told = None if kind is None else cache(lambda day: period_text(day, kind))
    wanted = {
        ground: number
        for ground, number in zip(Ground, (question.category, question.channel, question.department), strict=True)
        if number
    }
    measures = measures or question.measures
    kept: list[tuple[str, bytes]] = []
    reaches: set[int] = set()
    for reach in (ALONE, WITH_SUBORDINATES):
        bureaus = [bureau for bureau, where in plan.places if where == reach]
        for stored, begin, end in _spans(first, last, reach, _longer(reach, question, plan)) if bureaus else ():
            reaches.add(stored)
            rows = read_tallies(connection, stored, bureaus, begin, end)
            if plan.by_bureau:
                kept += [(bureau, cells) for _, bureau, cells in rows]
            else:
                kept += [("" if told is None else told(day), cells) for day, _, cells in rows]
    if plan.by_bureau and reaches <= _WITHOUT_GROUNDS and len(kept) == len(dict(kept)):
        # Every bureau's one value, which is its sums.
        told_of = [((bureau,), by_measure(cells, measures)) for bureau, cells in kept]
        return [(at, sums) for at, sums in told_of if sums]
    return summed(kept, plan.grounds, wanted, measures)


_MOVES: Final = (*_UNFINISHED.plus, *_UNFINISHED.minus)


def _before(connection: sa.Connection, question: Question, plan: _Plan) -> list[tuple[_At, Mapping[int, int]]]:
    """What made and ended unfinished business before the period began."""
    if question.from_day is None:
        return []
    earlier = replace(question, from_day=None, to_day=question.from_day - timedelta(days=1))
    return _sums(connection, earlier, plan, _MOVES)


def _add_unfinished(connection: sa.Connection, question: Question, plan: _Plan) -> None:
    """Add what was unfinished at the end of the period to each row; not by department, between which cases move."""
    if question.grouping is Grouping.DEPARTMENT or question.department:
        return
    earlier = {_row(plan, at).key: sums for at, sums in _before(connection, question, plan)}
    for key, row in plan.rows.items():
        row.unfinished = net(row.sums, _UNFINISHED) + net(earlier.get(key, {}), _UNFINISHED)


def _add_unfinished_in_turn(connection: sa.Connection, question: Question, plan: _Plan, rows: Sequence[Row]) -> None:
    """The same for rows that follow each other in time."""
    if question.department:
        return
    earlier: Counter[int] = Counter()
    for _, sums in _before(connection, question, plan):
        earlier.update(sums)
    unfinished = net(earlier, _UNFINISHED)
    for row in rows:
        unfinished += net(row.sums, _UNFINISHED)
        row.unfinished = unfinished


def _add_open(connection: sa.Connection, tree: BureauTree, question: Question, now_us: int, plan: _Plan) -> None:
    """Add the open cases, each to the row it belongs to."""
    within = frozenset(tree.subtree(question.scope))
    grounds = (OPEN_CASES.c.category, OPEN_CASES.c.channel, OPEN_CASES.c.department_kind)
    by = [OPEN_CASES.c.bureau]
    if question.grouping in _GROUNDS:
        by.append(grounds[_GROUNDS.index(question.grouping)])
    late = (
        sa.select(OPEN_CLOCKS.c.bureau, OPEN_CLOCKS.c.case_id)
        .where(OPEN_CLOCKS.c.due_us <= now_us, *among(OPEN_CLOCKS.c.bureau, within))
        .distinct()
    ).subquery()
    counted = sa.select(*by, sa.func.count()).where(*among(OPEN_CASES.c.bureau, within)).group_by(*by)
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
        for column, wanted in zip(grounds, (question.category, question.channel, question.department), strict=True):
            if wanted:
                statement = statement.where(column == wanted)  # noqa: PLW2901
        for bureau, *ground, count in connection.execute(statement):
            if bureau not in within:
                continue
            row = _row(plan, _row_of(tree, question, bureau, ground))
            setattr(row, attribute, getattr(row, attribute) + count)


def _row_of(tree: BureauTree, question: Question, bureau: str, ground: Sequence[int]) -> _At:
    """What tells the row that open cases of a bureau, and of the ground that rows are told apart by, belong to."""
    match question.grouping:
        case Grouping.BUREAU:
            return (tree.branch(question.scope, bureau),)
        case Grouping.EVERY_BUREAU:
            return (bureau,)
        case Grouping.CATEGORY | Grouping.CHANNEL | Grouping.DEPARTMENT:
            return ("", *ground)
        case _:
            return ("",)
