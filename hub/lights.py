"""Lights: how the open cases of a scope stand against their deadlines, for superiors (SPEC §7).

A case is overdue when one of its clocks has run out, due soon when one of them has a working day or less left, else in
time. A case that is offered to another bureau, parked, or without a clock is stopped: its deadlines are not measured.
The four add up to the open cases; those with an extension running are counted besides.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from hub.store import OPEN_CASES, OPEN_CLOCKS, among
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, Custody, Light, Stage

_COUNTED: Final = {
    int(Light.IN_TIME): "in_time",
    int(Light.DUE_SOON): "due_soon",
    int(Light.OVERDUE): "overdue",
    int(Light.STOPPED): "stopped",
}


@dataclass(slots=True)
class LightRow:
    """The open cases of one bureau with all its subordinates, or of a scope's own bureau alone."""

    bureau: str
    label: str
    in_time: int = 0
    due_soon: int = 0
    overdue: int = 0
    stopped: int = 0
    extended: int = 0


@dataclass(frozen=True, slots=True)
class RunningClock:
    """One clock of an open case that runs."""

    kind: ClockKind
    due_us: int
    is_extended: bool


@dataclass(frozen=True, slots=True)
class OpenCase:
    """An open case as a superior sees it: nothing of it is private."""

    bureau: str
    case_id: str
    stage: int
    category: int
    channel: int
    light: Light
    clocks: tuple[RunningClock, ...]
    """Those that run, the nearest deadline first."""
    last_act_us: int
    position: "Position"


Position = tuple[int, str, str]
"""Where a case stands in the list: nearest deadline, bureau, case."""
NO_DEADLINE: Final = 2**63 - 1
"""The nearest deadline of a case without a clock: it comes last."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which open cases are asked for: of a scope with everything under it. None: any; 0: any, as everywhere."""

    scope: str
    light: Light | None = None
    category: int = 0
    own_only: bool = False
    """The scope's own ledger alone."""
    after: Position | None = None
    limit: int


def open_cases(connection: sa.Connection, tree: BureauTree, wanted: Wanted, now_us: int) -> list[OpenCase]:
    """Open cases, the nearest deadline first, at most `limit` of them after a position. Raises `UnknownBureau`."""
    bureaus = [wanted.scope] if wanted.own_only else list(tree.subtree(wanted.scope))
    lit = _lit(now_us, bureaus).subquery()
    due = sa.func.coalesce(lit.c.due_us, NO_DEADLINE)
    statement = sa.select(lit, due.label("position")).where(lit.c.bureau.in_(bureaus))
    if wanted.light is not None:
        statement = statement.where(lit.c.light == int(wanted.light))
    if wanted.category:
        statement = statement.where(lit.c.category == wanted.category)
    if wanted.after is not None:
        statement = statement.where(sa.tuple_(due, lit.c.bureau, lit.c.case_id) > sa.tuple_(*wanted.after))
    rows = connection.execute(statement.order_by(due, lit.c.bureau, lit.c.case_id).limit(wanted.limit)).all()
    clocks = _clocks_of(connection, [(row.bureau, row.case_id) for row in rows])
    return [
        OpenCase(
            row.bureau,
            row.case_id,
            row.stage,
            row.category,
            row.channel,
            Light(row.light),
            clocks.get((row.bureau, row.case_id), ()),
            row.last_act_us,
            (row.position, row.bureau, row.case_id),
        )
        for row in rows
    ]


def lights(connection: sa.Connection, tree: BureauTree, scope: str, now_us: int) -> list[LightRow]:
    """The scope's own bureau, then each immediate subordinate with everything under it. Raises `UnknownBureau`."""
    rows = {scope: LightRow(scope, f"{tree.get(scope).name}（本级）")}
    rows.update({child: LightRow(child, tree.get(child).name) for child in tree.children(scope)})
    for bureau, light, extended, count in connection.execute(_counts(now_us, tree.subtree(scope))):
        if bureau not in tree or not tree.contains(scope, bureau):
            continue
        row = rows[tree.branch(scope, bureau)]
        attribute = _COUNTED[light]
        setattr(row, attribute, getattr(row, attribute) + count)
        row.extended += count * extended
    return list(rows.values())


_CASES_AT_A_TIME: Final = 500
"""SQLite takes a limited number of parameters in one statement."""


def _clocks_of(
    connection: sa.Connection, cases: Sequence[tuple[str, str]]
) -> dict[tuple[str, str], tuple[RunningClock, ...]]:
    found: dict[tuple[str, str], tuple[RunningClock, ...]] = {}
    key = sa.tuple_(OPEN_CLOCKS.c.bureau, OPEN_CLOCKS.c.case_id)
    for start in range(0, len(cases), _CASES_AT_A_TIME):
        some = cases[start : start + _CASES_AT_A_TIME]
        statement = sa.select(OPEN_CLOCKS).where(key.in_(some)).order_by(OPEN_CLOCKS.c.due_us, OPEN_CLOCKS.c.kind)
        for row in connection.execute(statement):
            clock = RunningClock(ClockKind(row.kind), row.due_us, row.extended == 1)
            found[row.bureau, row.case_id] = (*found.get((row.bureau, row.case_id), ()), clock)
    return found


def _counts(now_us: int, bureaus: Collection[str]) -> sa.Select[Any]:
    """Open cases by bureau, light, and whether a running clock has been extended."""
    lit = _lit(now_us, bureaus).subquery()
    by = (lit.c.bureau, lit.c.light, lit.c.is_extended)
    return sa.select(*by, sa.func.count()).group_by(*by)


def _lit(now_us: int, bureaus: Collection[str]) -> sa.Select[Any]:
    """Open cases with their light, their nearest deadline, and whether a running clock has been extended.

    Those of these bureaus, or of all where they are many.
    """
    due_us, soon_us = sa.func.min(OPEN_CLOCKS.c.due_us), sa.func.min(OPEN_CLOCKS.c.soon_us)
    light = sa.case(
        (
            sa.or_(
                OPEN_CASES.c.custody != int(Custody.OWNED),
                OPEN_CASES.c.stage == int(Stage.DEFERRED),
                due_us.is_(None),
            ),
            int(Light.STOPPED),
        ),
        (due_us <= now_us, int(Light.OVERDUE)),
        (soon_us <= now_us, int(Light.DUE_SOON)),
        else_=int(Light.IN_TIME),
    )
    is_extended = sa.func.max(sa.case((OPEN_CLOCKS.c.extended == 1, 1), else_=0))
    key = (OPEN_CASES.c.bureau, OPEN_CASES.c.case_id)
    of_case = sa.and_(OPEN_CLOCKS.c.bureau == key[0], OPEN_CLOCKS.c.case_id == key[1])
    return (
        sa.select(OPEN_CASES, due_us.label("due_us"), light.label("light"), is_extended.label("is_extended"))
        .select_from(OPEN_CASES.outerjoin(OPEN_CLOCKS, of_case))
        .where(*among(OPEN_CASES.c.bureau, bureaus))
        # Both tables lie in this order, so that nothing is sorted or put aside.
        .group_by(*key)
    )
