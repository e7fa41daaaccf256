"""督导台, the supervisor's page: subordinates ranked as in the bulletin, their open cases by light, and the cases."""

import asyncio
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, Final

from starlette.responses import Response

from hub.board.figures import figure_name
from hub.board.sheets import Sheet, Value
from hub.board.view import View, value_of
from hub.bulletin.contents import MINIMUM_SAMPLE
from hub.bulletin.league import LEAGUE_COUNTS, LEAGUE_RATES, League, LeagueLine
from hub.lights import OpenCase, Position, RunningClock, Wanted
from kuaixiang.domain.calendar import SHANGHAI, last_day
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.words import Category, Channel, Light, Stage
from kuaixiang.runtime.clock import from_micros
from kuaixiang.web.language import word
from kuaixiang.wire.v1 import statistics_pb2 as pb

FIGURES: Final = (*LEAGUE_COUNTS, *LEAGUE_RATES)
GROWTH: Final = "growth"
LIGHTS: Final = ("in_time", "due_soon", "overdue", "stopped", "extended")
LIGHT_OF: Final = {
    "in_time": Light.IN_TIME,
    "due_soon": Light.DUE_SOON,
    "overdue": Light.OVERDUE,
    "stopped": Light.STOPPED,
}
_RANK: Final = "rank"
PAGE_CASES: Final = 50
_SEPARATOR: Final = "."
_POSITION_PARTS: Final = 3
_POSITION_DIGITS: Final = 19


class NoSuchPlace(Refused):
    """An address names a place in a list that no page of it gave out."""

    condition = Condition.INVALID
    field = "page_token"
    remedy = "Begin the list again."
    remedy_chinese = "请从首页重新翻页。"

    def __init__(self) -> None:
        super().__init__("The list has no such place.", "列表中没有这个位置。")


@dataclass(frozen=True, slots=True)
class Line:
    """One subordinate: what the bulletin says of it, and its open cases by light."""

    of: LeagueLine
    lights: tuple[int, ...]

    @property
    def bureau(self) -> str:
        """Its code."""
        return self.of.row.key

    @property
    def open(self) -> int:
        """All its open cases."""
        return sum(self.lights[: len(LIGHT_OF)])

    def value(self, column: str) -> int | None:
        """What the line has in a column, to be sorted by."""
        if column == _RANK:
            return self.of.standing.rank
        if column.startswith("light_"):
            return self.lights[LIGHTS.index(column.removeprefix("light_"))]
        cell = self.of.cells[(*FIGURES, GROWTH).index(column)]
        return cell.value if isinstance(cell.value, int) else None


COLUMNS: Final = (_RANK, *FIGURES, GROWTH, *(f"light_{light}" for light in LIGHTS))


async def league_page(view: View) -> Response:
    """The page."""
    league, lights = await asyncio.gather(view.asking.league(view.days), view.asking.lights())
    column, is_down, lines = _sorted(view, league, lights)
    return view.page(
        "league.html",
        league=league,
        lines=lines,
        figures=FIGURES,
        light_names=LIGHTS,
        light_of=LIGHT_OF,
        sorted_by=column,
        is_down=is_down,
        sort_link=lambda wanted: view.here(
            sort=wanted, order="up" if wanted == column and is_down else "down" if wanted != _RANK else "up"
        ),
        light_total=_light_totals(lights),
        minimum_sample=MINIMUM_SAMPLE,
        as_of=_instant(league.completeness.data_as_of_us),
    )


async def league_file(view: View) -> Response:
    """The same table as a file."""
    league, lights = await asyncio.gather(view.asking.league(view.days), view.asking.lights())
    _, _, lines = _sorted(view, league, lights)
    headings = [
        view.say("Rank"),
        view.say("Code"),
        view.say("Bureau"),
        *(figure_name(name, view.language) for name in FIGURES),
        view.say("Growth"),
        *(f"{view.say('Open cases')} {light_word(view, name)}" for name in LIGHTS),
    ]
    total: list[Value] = [None, "", view.say("Total"), *map(value_of, league.total), *_light_totals(lights)]
    rows: list[list[Value]] = [total]
    rows += [
        [
            line.of.standing.rank,
            line.bureau,
            view.row_name(line.bureau),
            *map(value_of, line.of.cells),
            *line.lights,
        ]
        for line in lines
    ]
    first_rate = 3 + len(LEAGUE_COUNTS)
    sheet = Sheet(
        name=f"league-{view.scope}-{view.days.first}-{view.days.last}",
        title=view.say("Ranking of the bureaus"),
        headings=headings,
        rows=rows,
        note=view.note(_instant(league.completeness.data_as_of_us)),
        percents=frozenset(range(first_rate, first_rate + len(LEAGUE_RATES) + 1)),
    )
    return view.file(sheet, view.visit.request.path_params["format"])


def light_word(view: View, name: str) -> str:
    """What a light is called, or that a deadline has been extended."""
    return view.say("extended") if name == "extended" else word(LIGHT_OF[name], view.language)


def _sorted(view: View, league: League, lights: Any) -> tuple[str, bool, list[Line]]:  # noqa: ANN401 - wire rows
    by_bureau = {row.bureau: row for row in lights}
    lines = [Line(of, _numbers(by_bureau.get(of.row.key))) for of in league.lines]
    column = view.asked.get("sort", _RANK)
    is_down = view.asked.get("order") == "down"
    if column not in COLUMNS:
        column = _RANK
    if column == _RANK and not is_down:
        return column, is_down, lines
    told = [(value, line) for line in lines if (value := line.value(column)) is not None]
    told.sort(key=lambda one: one[0], reverse=is_down)
    return column, is_down, [*(line for _, line in told), *(line for line in lines if line.value(column) is None)]


def _numbers(row: pb.Lights | None) -> tuple[int, ...]:
    return tuple(0 if row is None else int(getattr(row, name)) for name in LIGHTS)


def _light_totals(lights: Any) -> list[int]:  # noqa: ANN401 - wire rows
    return [sum(getattr(row, name) for row in lights) for name in LIGHTS]


def _instant(micros: int) -> datetime | None:
    return from_micros(micros).astimezone(SHANGHAI) if micros else None


# ---------------------------------------------------------------- cases


async def cases_page(view: View) -> Response:
    """Open cases of the scope, the nearest deadline first, a page at a time."""
    wanted = _wanted(view, PAGE_CASES + 1)
    cases, lights = await asyncio.gather(view.asking.open_cases(wanted), view.asking.lights())
    shown = cases[:PAGE_CASES]
    totals = dict(zip(LIGHTS, _light_totals(lights), strict=True))
    return view.page(
        "cases.html",
        cases=[(case, _days_left(view, case)) for case in shown],
        light=wanted.light,
        lights=[(light, totals[name]) for name, light in LIGHT_OF.items()],
        open=sum(totals[name] for name in LIGHT_OF),
        category=wanted.category,
        categories=tuple(Category),
        stages={int(stage): stage for stage in Stage},
        category_words={int(one): one for one in Category},
        channel_words={int(one): one for one in Channel},
        first=view.here() if wanted.after is not None else "",
        following=view.here(after=_written(shown[-1].position)) if len(cases) > PAGE_CASES else "",
        completeness=view.asking.completeness(),
    )


async def cases_file(view: View) -> Response:
    """All of the list as a file."""
    cases = await view.asking.every_open_case(_wanted(view, PAGE_CASES))
    headings = (
        "Light",
        "Case",
        "Code",
        "Bureau",
        "Stage",
        "Category",
        "Channel",
        "Nearest clock",
        "Due",
        "Days left",
        "Extended",
    )
    as_of = _instant(view.asking.completeness().data_as_of_us)
    sheet = Sheet(
        name=f"open-cases-{view.scope}",
        title=view.say("Open cases"),
        headings=[view.say(heading) for heading in headings],
        rows=[_case_row(view, case) for case in cases],
        note=view.note(as_of),
    )
    return view.file(sheet, view.visit.request.path_params["format"])


def _case_row(view: View, case: OpenCase) -> list[Value]:
    clock = case.clocks[0] if case.clocks else None
    return [
        word(case.light, view.language),
        case.case_id,
        case.bureau,
        view.place(case.bureau),
        _word(view, Stage, case.stage),
        _word(view, Category, case.category),
        _word(view, Channel, case.channel),
        word(clock.kind, view.language) if clock is not None else None,
        _last_day(clock).isoformat() if clock is not None else None,
        _days_left(view, case),
        view.say("yes") if any(clock.is_extended for clock in case.clocks) else None,
    ]


def _word(view: View, kind: Any, number: int) -> str:  # noqa: ANN401 - one of the words
    known = set(map(int, kind))
    return word(kind(number), view.language) if number in known else view.say("not classified")


def _days_left(view: View, case: OpenCase) -> int | None:
    """Days of the calendar, not working days, up to the nearest deadline's last day; negative once it has passed."""
    if not case.clocks:
        return None
    return (_last_day(case.clocks[0]) - view.today).days


def _last_day(clock: RunningClock) -> date:
    return last_day(from_micros(clock.due_us))


def _wanted(view: View, limit: int) -> Wanted:
    asked = view.asked
    lights = {light.name.lower(): light for light in Light}
    categories = {str(int(one)): int(one) for one in Category}
    return Wanted(
        scope=view.scope,
        light=lights.get(asked.get("light", "")),
        category=categories.get(asked.get("category", ""), 0),
        own_only=asked.get("own") == "yes",
        after=_position(asked.get("after", "")),
        limit=limit,
    )


def _written(position: Position) -> str:
    return _SEPARATOR.join(map(str, position))


def _position(text: str) -> Position | None:
    if not text:
        return None
    parts = text.split(_SEPARATOR, _POSITION_PARTS - 1)
    digits = parts[0]
    is_number = digits.isascii() and digits.isdigit() and len(digits) <= _POSITION_DIGITS
    if len(parts) != _POSITION_PARTS or "\0" in text or not is_number or int(digits) >= 1 << 63:
        raise NoSuchPlace
    return int(digits), parts[1], parts[2]
