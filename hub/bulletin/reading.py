"""Asking the hub's database for everything a bulletin tells. Read at one instant, so that its tables agree."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

import sqlalchemy as sa

from hub import query
from hub.bulletin.material import IssueLine, Material, PeriodFigures, Shortfall
from hub.fold import Mark
from hub.query import Grouping, Lack, Question
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.periods import Period
from kuaixiang.domain.tree import BureauTree, short_name
from kuaixiang.runtime.clock import from_micros, to_micros


class PeriodNotBegun(Refused):
    """A bulletin is asked for of a period that lies in the future."""

    condition = Condition.INVALID
    field = "period"
    remedy = "Ask for a period that has begun; one that has ended is complete."
    remedy_chinese = "请选择已经开始的统计期间；已结束的期间数据才完整。"

    def __init__(self, period: str, first: date) -> None:
        super().__init__(
            f"The period {period} begins on {first}: there is nothing to tell of it yet.",
            f"统计期间 {period} 自 {first} 开始，尚无可通报的数据。",
        )


def read_material(
    connection: sa.Connection,
    *,
    tree: BureauTree,
    scope: str,
    period: Period,
    marks: Mapping[str, Mark],
    silent: frozenset[str],
    now_us: int,
    minimum_sample: int,
    issues: Sequence[IssueLine] = (),
) -> Material:
    """Read what a bulletin is made from. Raises `UnknownBureau`, `PeriodNotBegun`."""
    if period.first > from_micros(now_us).astimezone(SHANGHAI).date():
        raise PeriodNotBegun(str(period), period.first)

    def read(of: Period, *more: Grouping) -> PeriodFigures:
        question = Question(scope, of.first, of.last)
        answers = {
            grouping: query.figures(connection, tree, replace(question, grouping=grouping), now_us)
            for grouping in (Grouping.TOTAL, *more)
        }
        return PeriodFigures(
            answers[Grouping.TOTAL][0],
            answers.get(Grouping.BUREAU, ()),
            answers.get(Grouping.CATEGORY, ()),
            answers.get(Grouping.CHANNEL, ()),
        )

    rows = (Grouping.BUREAU, Grouping.CATEGORY, Grouping.CHANNEL)
    return Material(
        bureau=tree.get(scope),
        period=period,
        current=read(period, *rows),
        previous=read(period.previous, *rows),
        year_before=read(period.year_before),
        completeness=query.completeness(tree.subtree(scope), marks, silent),
        now_us=now_us,
        minimum_sample=minimum_sample,
        shortfalls=shortfalls(tree=tree, scope=scope, period=period, marks=marks, silent=silent, now_us=now_us),
        issues=issues,
    )


def shortfalls(
    *, tree: BureauTree, scope: str, period: Period, marks: Mapping[str, Mark], silent: frozenset[str], now_us: int
) -> list[Shortfall]:
    """Name the bureaus that are not folded to the end of the period; while it lasts, those behind or silent."""
    end_us = to_micros(WorkingCalendar.end_of(period.last))
    found = []
    for bureau in tree.subtree(scope):
        mark = marks.get(bureau)
        if mark is None or not mark.heard_at_us:
            lack = Lack.NEVER_HEARD
        elif mark.quarantine:
            lack = Lack.QUARANTINED
        elif mark.data_as_of_us < end_us and (now_us >= end_us or mark.behind or bureau in silent):
            lack = Lack.BEHIND
        else:
            continue
        found.append(_shortfall(tree, scope, bureau, lack))
    return found


def _shortfall(tree: BureauTree, scope: str, bureau: str, lack: Lack) -> Shortfall:
    line = tree.superiors_and_self(bureau)
    below = line[: line.index(scope)]
    # A county's name alone is not unique: it is told with the names of those between it and the scope.
    name = "".join(short_name(tree.get(code).name) for code in reversed(below)) or "本级"
    return Shortfall(bureau, name, below[-1] if below else scope, lack)
