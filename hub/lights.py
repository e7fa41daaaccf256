"""Lights: how the open cases of a scope stand against their deadlines, for superiors (SPEC §7).

A case is overdue when one of its clocks has run out, due soon when one of them has a working day or less left, else in
time. A case that is offered to another bureau, parked, or without a clock is stopped: its deadlines are not measured.
The four add up to the open cases; those with an extension running are counted besides.
"""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from hub.store import OPEN_CASES, OPEN_CLOCKS
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Custody, Light, Stage

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


def lights(connection: sa.Connection, tree: BureauTree, scope: str, now_us: int) -> list[LightRow]:
    """The scope's own bureau, then each immediate subordinate with everything under it. Raises `UnknownBureau`."""
    rows = {scope: LightRow(scope, f"{tree.get(scope).name}（本级）")}
    rows.update({child: LightRow(child, tree.get(child).name) for child in tree.children(scope)})
    for bureau, light, extended, count in connection.execute(_counts(now_us)):
        if bureau not in tree or not tree.contains(scope, bureau):
            continue
        row = rows[tree.branch(scope, bureau)]
        attribute = _COUNTED[light]
        setattr(row, attribute, getattr(row, attribute) + count)
        row.extended += count * extended
    return list(rows.values())


def _counts(now_us: int) -> sa.Select[Any]:
    """Open cases by bureau, light, and whether a running clock has been extended."""
    clocks = (
        sa.select(
            OPEN_CLOCKS.c.bureau,
            OPEN_CLOCKS.c.case_id,
            sa.func.min(OPEN_CLOCKS.c.due_us).label("due_us"),
            sa.func.min(OPEN_CLOCKS.c.soon_us).label("soon_us"),
            sa.func.max(sa.case((OPEN_CLOCKS.c.extended == 1, 1), else_=0)).label("extended"),
        )
        .group_by(OPEN_CLOCKS.c.bureau, OPEN_CLOCKS.c.case_id)
        .subquery()
    )
    light = sa.case(
        (
            sa.or_(
                OPEN_CASES.c.custody != int(Custody.OWNED),
                OPEN_CASES.c.stage == int(Stage.DEFERRED),
                clocks.c.due_us.is_(None),
            ),
            int(Light.STOPPED),
        ),
        (clocks.c.due_us <= now_us, int(Light.OVERDUE)),
        (clocks.c.soon_us <= now_us, int(Light.DUE_SOON)),
        else_=int(Light.IN_TIME),
    ).label("light")
    extended = sa.func.coalesce(clocks.c.extended, 0).label("extended")
    return (
        sa.select(OPEN_CASES.c.bureau, light, extended, sa.func.count())
        .select_from(
            OPEN_CASES.outerjoin(
                clocks,
                sa.and_(OPEN_CASES.c.bureau == clocks.c.bureau, OPEN_CASES.c.case_id == clocks.c.case_id),
            )
        )
        .group_by(OPEN_CASES.c.bureau, light, extended)
    )
