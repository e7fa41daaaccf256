"""全国看板, the dashboard: the figures of a scope and some days, each defined, each with a way to what is under it."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, Final

from starlette.responses import Response

from hub.board.figures import (
    BUREAU_COLUMNS,
    CARDS,
    OVERDUE,
    Moved,
    basis_points,
    cell,
    figure_name,
    ground_name,
    moves,
    number_of,
    rate_of,
)
from hub.board.view import View
from hub.bulletin.contents import MINIMUM_SAMPLE
from hub.bulletin.document import Cell, growth
from hub.query import PERIODS
from hub.words import Grouping
from kuaixiang.domain.periods import Period, period_of
from kuaixiang.domain.words import ClockKind
from kuaixiang.wire.v1 import statistics_pb2 as pb

TILE_RATES: Final = ("on_time", "feedback_in_time", "satisfaction")
"""What the tiles may show."""
LEVELS: Final = ((9_900, 1), (9_500, 2), (9_000, 3), (0, 4))
"""From which rate, in basis points, a tile is of which level. The second is the bulletin's own line for feedback; at
one in ten a superior asks why."""
MARKS: Final = {0: "○", 1: "●", 2: "◐", 3: "▲", 4: "■"}
TRENDS: Final = (Grouping.DAY, Grouping.WEEK, Grouping.MONTH)
TREND_COUNTS: Final = ("registered", "completed", "unfinished")


@dataclass(frozen=True, slots=True)
class Card:
    """One figure of the whole scope."""

    name: str
    cell: Cell
    of: tuple[int, int] | None
    """Of a rate: what it is computed from."""
    moves: Sequence[Moved]


@dataclass(frozen=True, slots=True)
class Tile:
    """One subordinate with everything under it, on the grid."""

    bureau: str
    cell: Cell
    sample: int
    level: int
    """1 the best, 4 the worst, 0 nothing to tell."""

    @property
    def is_small(self) -> bool:
        """Whether the rate rests on too few to rank by."""
        return self.sample < MINIMUM_SAMPLE

    @property
    def mark(self) -> str:
        """What the level looks like without its colour."""
        return MARKS[self.level]


async def dashboard(view: View) -> Response:
    """The page."""
    asking, days = view.asking, view.days
    by = _trend_grouping(view)
    (total, trend, bureaus, categories, channels), issues, outcomes = await asyncio.gather(
        _figures(view, by), asking.issues(days), asking.outcomes()
    )
    row = total.rows[0]
    points = _trend(trend.rows, by, days.first, min(days.last, view.today))
    tiled = view.asked.get("tiles", "")
    return view.page(
        "dashboard.html",
        cards=[
            Card(name, cell(row, name), rate_of(row, name), moves(row, name) if view.is_over else ()) for name in CARDS
        ],
        by=by,
        trends=TRENDS,
        trend=points,
        trend_chart=_trend_chart(view, points),
        categories=_mix(view, Grouping.CATEGORY, categories.rows),
        channels=_mix(view, Grouping.CHANNEL, channels.rows),
        tiles=_tiles(bureaus.rows, tiled if tiled in TILE_RATES else TILE_RATES[0]),
        tile_rate=tiled if tiled in TILE_RATES else TILE_RATES[0],
        tile_rates=TILE_RATES,
        levels=LEVELS,
        marks=MARKS,
        bureaus=[(one.key, [(name, cell(one, name)) for name in BUREAU_COLUMNS]) for one in bureaus.rows],
        bureau_columns=BUREAU_COLUMNS,
        bureau_total=[(name, cell(row, name)) for name in BUREAU_COLUMNS],
        overdue_chart=_overdue_chart(view, bureaus.rows),
        clocks=[(ClockKind(int(clock.kind)), clock) for clock in row.clocks],
        issues=issues,
        outcomes=outcomes,
        total=total,
        grown=growth,
    )


# ---------------------------------------------------------------- inside


async def _figures(view: View, by: Grouping) -> tuple[pb.GetFiguresResponse, ...]:
    """The total with what it is compared with, the trend, and the rows by bureau, category and channel."""
    asking, days = view.asking, view.days
    return await asyncio.gather(
        asking.figures(days, compare=True),
        asking.figures(days, by),
        asking.figures(days, Grouping.BUREAU),
        asking.figures(days, Grouping.CATEGORY),
        asking.figures(days, Grouping.CHANNEL),
    )


def _trend_grouping(view: View) -> Grouping:
    known = {by.name.lower(): by for by in TRENDS}
    return known.get(view.asked.get("by", ""), view.days.grouping)


def _trend(
    rows: Sequence[pb.Figures], by: Grouping, first: date, last: date
) -> list[tuple[str, dict[str, int | None]]]:
    """Every period of the trend in turn, those in which nothing was counted too."""
    known = {row.key: row for row in rows}
    found: list[tuple[str, dict[str, int | None]]] = []
    unfinished: int | None = None
    at: Period = period_of(first, PERIODS[by])
    while at.first <= last:
        row = known.get(str(at))
        told = {name: 0 if row is None else number_of(row, name) for name in TREND_COUNTS}
        # What is unfinished stays so while nothing happens; before the first row of the days it is not told.
        unfinished = told["unfinished"] = unfinished if row is None else told["unfinished"]
        found.append((str(at), told))
        at = at.following
    return found


def _trend_chart(view: View, points: Sequence[tuple[str, dict[str, int | None]]]) -> dict[str, Any]:
    return {
        "kind": "lines",
        "labels": [key for key, _ in points],
        "series": [
            {"name": figure_name(name, view.language), "values": [told[name] for _, told in points]}
            for name in TREND_COUNTS
        ],
    }


def _mix(view: View, grouping: Grouping, rows: Sequence[pb.Figures]) -> dict[str, Any]:
    """What was registered by category or channel, most first, with its chart."""
    shares = sorted(
        ((ground_name(grouping, row.key, view.language), number_of(row, "registered") or 0, row) for row in rows),
        key=lambda one: -one[1],
    )
    return {
        "chart": {
            "kind": "bars",
            "labels": [name for name, *_ in shares],
            "series": [
                {"name": figure_name("registered", view.language), "values": [number for _, number, _ in shares]}
            ],
        },
        "cells": [(name, cell(row, "registered"), cell(row, "on_time")) for name, _, row in shares],
    }


def _tiles(rows: Sequence[pb.Figures], name: str) -> list[Tile]:
    return [_tile(row, name) for row in rows]


def _tile(row: pb.Figures, name: str) -> Tile:
    told, of = basis_points(row, name), rate_of(row, name)
    level = 0 if told is None else next(level for least, level in LEVELS if told >= least)
    return Tile(row.key, cell(row, name), 0 if of is None else of[1], level)


def _overdue_chart(view: View, rows: Sequence[pb.Figures]) -> dict[str, Any]:
    late = sorted((row for row in rows if row.overdue), key=lambda row: -row.overdue)
    return {
        "kind": "bars",
        "labels": [view.row_name(row.key) for row in late],
        "series": [{"name": figure_name(OVERDUE, view.language), "values": [row.overdue for row in late]}],
    }
