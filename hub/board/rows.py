"""From any figure to the rows under it: by bureau, by day, by whatever figures are grouped by; and as a file."""

import asyncio
from typing import Final

from starlette.responses import Response

from hub.board.figures import (
    ALL,
    NOW,
    RATE_NAMES,
    cell,
    components,
    figure_name,
    ground_name,
    number_of,
    rate_of,
)
from hub.board.sheets import Sheet, Value
from hub.board.view import View, value_of
from hub.bulletin.document import Cell, basis_points_of, rate
from hub.bulletin.figures import EXPLANATIONS
from hub.query import PERIODS
from hub.words import Grouping
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.words import ClockKind
from kuaixiang.web.language import Name, word
from kuaixiang.wire.v1 import statistics_pb2 as pb

GROUPINGS: Final = (
    Grouping.BUREAU,
    Grouping.EVERY_BUREAU,
    Grouping.DAY,
    Grouping.WEEK,
    Grouping.MONTH,
    Grouping.QUARTER,
    Grouping.YEAR,
    Grouping.CATEGORY,
    Grouping.CHANNEL,
    Grouping.DEPARTMENT,
)
_BY_BUREAU: Final = (Grouping.BUREAU, Grouping.EVERY_BUREAU)
PERCENTILES: Final = ("p50_workdays", "p90_workdays", "p95_workdays")


class NoSuchFigure(Refused):
    """A page is asked for a figure that there is not."""

    condition = Condition.MISSING
    field = "figure"
    remedy = "The page of definitions has all of them."
    remedy_chinese = "全部指标见统计口径页面。"

    def __init__(self, name: str) -> None:
        super().__init__(f"There is no figure {name!r}.", f"没有“{name}”这项指标。")


async def rows_page(view: View) -> Response:
    """One figure of the scope, row by row."""
    name, by = _figure(view), _grouping(view)
    answer, total = await asyncio.gather(view.asking.figures(view.days, by), view.asking.figures(view.days))
    columns = [of for of in components(name) if of in ALL]
    whole = number_of(total.rows[0], name) if name not in RATE_NAMES else None
    lines = [
        (
            Name(_key_name(view, by, row)) if by in _BY_BUREAU else _key_name(view, by, row),
            _further(view, by, row.key, name),
            [cell(row, of) for of in columns],
            cell(row, name),
            _share(row, name, whole),
        )
        for row in answer.rows
    ]
    return view.page(
        "rows.html",
        name=name,
        by=by,
        groupings=[one for one in GROUPINGS if name not in NOW or one not in PERIODS],
        names=ALL,
        columns=columns,
        lines=lines,
        total_cells=[cell(total.rows[0], of) for of in columns],
        total_cell=cell(total.rows[0], name),
        is_rate=name in RATE_NAMES,
        is_added=_is_added(by, name),
        answer=answer,
    )


async def rows_file(view: View) -> Response:
    """Every figure of every row, and the total, as a file."""
    by = _grouping(view)
    answer, total = await asyncio.gather(view.asking.figures(view.days, by), view.asking.figures(view.days))
    return view.file(figures_sheet(view, by, answer, total), view.visit.request.path_params["format"])


def figures_sheet(view: View, by: Grouping, answer: pb.GetFiguresResponse, total: pb.GetFiguresResponse) -> Sheet:
    """The table of all figures: a row each, the total last."""
    headings = [view.say("Code"), view.say("Name")]
    percents: set[int] = set()
    for name in ALL:
        if name in RATE_NAMES:
            label = figure_name(name, view.language)
            headings += [f"{label} {view.say('numerator')}", f"{label} {view.say('denominator')}", label]
            percents.add(len(headings) - 1)
        else:
            headings.append(figure_name(name, view.language))
    for kind in ClockKind:
        headings += [
            f"{word(kind, view.language)} {which[:3].upper()} {view.say('working days')}" for which in PERCENTILES
        ]
    rows = [_told(row.key, _key_name(view, by, row), row) for row in answer.rows]
    rows.append(_told("", view.say("Total"), total.rows[0]))
    as_of = answer.completeness
    return Sheet(
        name=f"figures-{view.scope}-{view.days.first}-{view.days.last}-{by.name.lower()}",
        title=view.say("Figures"),
        headings=headings,
        rows=rows,
        note=view.note(as_of.data_as_of.ToDatetime(tzinfo=SHANGHAI) if as_of.HasField("data_as_of") else None),
        percents=frozenset(percents),
    )


# ---------------------------------------------------------------- inside


def _told(key: str, name: str, row: pb.Figures) -> list[Value]:
    values: list[Value] = [key, name]
    for figure in ALL:
        if figure in RATE_NAMES:
            of = rate_of(row, figure)
            values += [None, None] if of is None else list(of)
        values.append(value_of(cell(row, figure)))
    clocks = {int(clock.kind): clock for clock in row.clocks}
    for kind in ClockKind:
        clock = clocks.get(kind)
        values += [None if clock is None or not any(clock.histogram) else getattr(clock, of) for of in PERCENTILES]
    return values


def _figure(view: View) -> str:
    name = view.asked.get("figure", "registered")
    if name not in ALL or name not in EXPLANATIONS:
        raise NoSuchFigure(name)
    return name


def _grouping(view: View) -> Grouping:
    known = {by.name.lower(): by for by in GROUPINGS}
    default = Grouping.BUREAU if view.tree.children(view.scope) else Grouping.DAY
    return known.get(view.asked.get("by", ""), default)


def _key_name(view: View, by: Grouping, row: pb.Figures) -> str:
    if by in _BY_BUREAU:
        return view.row_name(row.key) if by is Grouping.BUREAU else view.bureau(row.key)
    if by in PERIODS:
        return row.key
    return ground_name(by, row.key, view.language)


def _further(view: View, by: Grouping, key: str, name: str) -> str:
    """From a row to what is under it: a subordinate's own subordinates, else its days."""
    if by not in _BY_BUREAU or key == view.scope:
        return ""
    below = Grouping.BUREAU if view.tree.children(key) or name in NOW else Grouping.DAY
    return view.link("/figures", scope=key, figure=name, by=below.name.lower())


def _share(row: pb.Figures, name: str, whole: int | None) -> Cell | None:
    number = number_of(row, name) if whole else None
    return None if number is None or not whole or number < 0 else rate(basis_points_of(number, whole))


def _is_added(by: Grouping, name: str) -> bool:
    """Whether the rows add up to the total: a stock over periods does not, nor does what one rate is to another."""
    return name not in RATE_NAMES and not (by in PERIODS and name == "unfinished")
