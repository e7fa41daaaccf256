"""`kx calendar`: the working calendar, shown, checked, and asked for deadlines."""

import calendar as months
from collections.abc import Iterator
from datetime import date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.labels import Both
from kx.output import WEEKDAYS, Failed, day_of, day_text, failures_shown, local, print_json

WORKDAYS_MAX: Final = 1000
"""Four years; no limit of the notice comes near."""
_DAY: Final = timedelta(days=1)
_CELL_COLUMNS: Final = 5
_MONTH_COLUMNS: Final = 7 * _CELL_COLUMNS + 3
_SATURDAY: Final = 5

app = typer.Typer(
    name="calendar",
    help="The legal working calendar: days off, make-up working days 调休, deadlines.",
    no_args_is_help=True,
)

File = Annotated[
    Path | None,
    typer.Option("--calendar", envvar="KX_CALENDAR", metavar="FILE", help="Another calendar than the shipped one."),
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of text.")]


@app.command()
def show(
    *,
    year: Annotated[
        int | None, typer.Option(min=1, max=9998, help="Which year; this one, in Shanghai, when left out.")
    ] = None,
    month: Annotated[int | None, typer.Option(min=1, max=12, help="Only this month, 1 to 12.")] = None,
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Show the working days of a year or a month: days off, make-up days, and where the published days end."""
    with failures_shown(as_json=as_json):
        calendar = _calendar(file)
        shown = year or datetime.now(SHANGHAI).year
        wanted = [month] if month else list(range(1, 13))
        if as_json:
            print_json(_as_dict(calendar, [day for one in wanted for day in _days(shown, one)]))
            return
        console = Console(highlight=False)
        grid = Table.grid(padding=(0, 3, 1, 0))
        beside = max(1, console.width // _MONTH_COLUMNS)
        for start in range(0, len(wanted), beside):
            grid.add_row(*(_month(calendar, shown, one) for one in wanted[start : start + beside]))
        console.print(grid)
        console.print(
            Text.assemble(
                ("26", ""), " worked  ", ("26", "red"), " off 休  ", ("26", "bold green"), " make-up 班  ",
                ("26", "dim italic"), " not published",
            )
        )  # fmt: skip
        console.print(
            f"Calendar {calendar.version}: published from {calendar.first} to {calendar.horizon}; "
            "a deadline beyond is provisional."
        )


@app.command()
def check(
    *,
    file: Annotated[
        Path | None,
        typer.Argument(metavar="[FILE]", help="A calendar to be checked; the shipped one when left out."),
    ] = None,
    as_json: AsJson = False,
) -> None:
    """Check a calendar's file, and count what it says year by year; a fault is named with its line."""
    with failures_shown(as_json=as_json):
        calendar = _calendar(file)
        years = [_year(calendar, year) for year in range(calendar.first.year, calendar.horizon.year + 1)]
        if as_json:
            print_json({**_edition(calendar), "years": years})
            return
        table = Table()
        for heading in ("year", "working days", "days off by law", "make-up days"):
            table.add_column(heading, justify="right")
        for one in years:
            table.add_row(*map(str, one.values()))
        console = Console(highlight=False)
        console.print(table)
        console.print(
            f"Calendar {calendar.version} is in order: published from {calendar.first} to {calendar.horizon}."
        )


@app.command()
def deadline(
    *,
    start: Annotated[
        date,
        typer.Option("--from", metavar="YYYY-MM-DD", parser=day_of, help="The day of receipt, which does not count."),
    ],
    workdays: Annotated[int, typer.Option(metavar="N", min=0, max=WORKDAYS_MAX, help="The limit in working days.")],
    file: File = None,
    as_json: AsJson = False,
) -> None:
    """Compute a deadline in working days: the end, 24:00 in Shanghai, of the last one (§四(二))."""
    with failures_shown(as_json=as_json):
        calendar = _calendar(file)
        try:
            found = calendar.deadline(datetime(start.year, start.month, start.day, tzinfo=SHANGHAI), workdays)
        except (ValueError, OverflowError):
            said = Both("The deadline would lie outside the years 1 to 9999.", "时限不在公元1年至9999年之间。")
            raise Failed(said, field="--from") from None
        counted = [day for day in _span(start + _DAY, found.due_day) if calendar.is_working(day)]
        skipped = [day for day in _span(start + _DAY, found.due_day) if not calendar.is_working(day)]
        if as_json:
            print_json(
                {
                    "from": start.isoformat(),
                    "workdays": workdays,
                    "due_day": found.due_day.isoformat(),
                    "due_at": found.due_at.astimezone(SHANGHAI).isoformat(),
                    "counted": [day.isoformat() for day in counted],
                    "skipped": [day.isoformat() for day in skipped],
                    "provisional": found.provisional,
                    "calendar_version": found.calendar_version,
                }
            )
            return
        console = Console(highlight=False)
        console.print(Text.assemble("due ", (f"{day_text(found.due_day)} 24:00", "bold"), f" ({local(found.due_at)})"))
        table = Table(show_header=False, box=None)
        table.add_row("counted", ", ".join(f"{day:%m-%d} {_mark(calendar, day)}".strip() for day in counted) or "none")
        if skipped:
            table.add_row("off", ", ".join(f"{day:%m-%d}" for day in skipped))
        console.print(table)
        if found.provisional:
            console.print(
                f"Provisional: calendar {calendar.version} is published up to {calendar.horizon}; "
                "a later one may move this deadline.",
                style="magenta",
            )


def _calendar(file: Path | None) -> WorkingCalendar:
    from kuaixiang.facts import FactsError, load_calendar, published_calendar

    try:
        return published_calendar() if file is None else load_calendar(file)
    except FactsError as failure:
        said = Both(str(failure), f"工作日历不能使用：{failure}")
        raise Failed(said, field=str(file), rule=type(failure).__name__) from failure


def _days(year: int, month: int) -> list[date]:
    return [date(year, month, day) for day in range(1, months.monthrange(year, month)[1] + 1)]


def _span(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += _DAY


def _mark(calendar: WorkingCalendar, day: date) -> str:
    """班 for a make-up working day, 休 for a day off that would be worked by its weekday."""
    working, weekend = calendar.is_working(day), day.weekday() >= _SATURDAY
    if working is weekend:
        return "班" if working else "休"
    return ""


def _month(calendar: WorkingCalendar, year: int, month: int) -> Table:
    days = _days(year, month)
    worked = sum(map(calendar.is_working, days))
    table = Table(title=f"{year}-{month:02} · {worked} working days", box=None, padding=(0, 0), title_justify="left")
    for name in WEEKDAYS:
        table.add_column(name, justify="right", width=_CELL_COLUMNS)
    cells: list[Text] = [Text()] * days[0].weekday()
    cells += [Text(f"{day.day}{_mark(calendar, day)}", _style(calendar, day)) for day in days]
    for start in range(0, len(cells), len(WEEKDAYS)):
        table.add_row(*cells[start : start + len(WEEKDAYS)])
    return table


def _style(calendar: WorkingCalendar, day: date) -> str:
    if calendar.is_provisional(day):
        return "dim italic"
    if not calendar.is_working(day):
        return "red"
    return "bold green" if _mark(calendar, day) else ""


def _edition(calendar: WorkingCalendar) -> dict[str, str]:
    return {
        "version": calendar.version,
        "first": calendar.first.isoformat(),
        "horizon": calendar.horizon.isoformat(),
    }


def _as_dict(calendar: WorkingCalendar, days: list[date]) -> dict[str, Any]:
    return {
        **_edition(calendar),
        "working_days": sum(map(calendar.is_working, days)),
        "days": [
            {
                "day": day.isoformat(),
                "working": calendar.is_working(day),
                "make_up": _mark(calendar, day) == "班",
                "provisional": calendar.is_provisional(day),
            }
            for day in days
        ],
    }


def _year(calendar: WorkingCalendar, year: int) -> dict[str, int]:
    days = [day for day in _span(date(year, 1, 1), date(year, 12, 31)) if not calendar.is_provisional(day)]
    return {
        "year": year,
        "working_days": sum(map(calendar.is_working, days)),
        "days_off": sum(day in calendar.off_days for day in days),
        "make_up_days": sum(_mark(calendar, day) == "班" for day in days),
    }
