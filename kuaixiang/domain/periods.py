"""Periods that figures are told for: a day, a week, a month, a quarter, a year, in Shanghai's days.

They are written 2026-10-08, 2026-W40 (the ISO week, Monday to Sunday), 2026-10, 2026-Q4 and 2026. Nothing here reads a
clock.
"""

import calendar
import re
from dataclasses import dataclass
from datetime import date, timedelta
from enum import IntEnum
from typing import Final

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import field_term

YEAR_MIN: Final = 1971
YEAR_MAX: Final = 9998
"""Years a period may have: the one before and the one after it are years too, and no figure is older than 1970."""

_MONTHS_OF_QUARTER: Final = 3
_MONTHS_OF_YEAR: Final = 12
_WEEKS_OF_EVERY_YEAR: Final = 52
_LEAP_DAY: Final = (2, 29)
_DAY: Final = timedelta(days=1)
_WEEK: Final = timedelta(weeks=1)
_QUARTERS: Final = "一二三四"
_FORM: Final = re.compile(
    r"(?P<year>\d{4})(?:-(?:W(?P<week>\d{2})|Q(?P<quarter>[1-4])|(?P<month>\d{2})(?:-(?P<day>\d{2}))?))?", re.ASCII
)


class NoSuchPeriod(Refused):
    """A text that names no period."""

    condition = Condition.INVALID
    remedy = "Write a day as 2026-10-08, a week as 2026-W40, a month as 2026-10, a quarter as 2026-Q4, a year as 2026."
    remedy_chinese = "请写作：日 2026-10-08、周 2026-W40、月 2026-10、季度 2026-Q4、年 2026。"

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        super().__init__(f"{field} {text!r} is no period.", f"{field_term(field)}“{text}”不是有效的统计期间。")


class PeriodKind(IntEnum):
    """How long a period is, from the shortest."""

    DAY = 1
    WEEK = 2
    MONTH = 3
    QUARTER = 4
    YEAR = 5


@dataclass(frozen=True, slots=True, order=True)
class Period:
    """A whole day, week, month, quarter or year: `period_of` and `parse_period` make it. `str` gives what is parsed."""

    first: date
    last: date
    """Included."""
    kind: PeriodKind

    @property
    def days(self) -> int:
        """How many days it has."""
        return (self.last - self.first).days + 1

    @property
    def previous(self) -> "Period":
        """The period of the same kind right before (上期, for 环比)."""
        return period_of(self.first - _DAY, self.kind)

    @property
    def following(self) -> "Period":
        """The period of the same kind right after."""
        return period_of(self.last + _DAY, self.kind)

    @property
    def year_before(self) -> "Period":
        """The same period of the year before (上年同期, for 同比).

        A week is the one of the same number, the 53rd's the 52nd; 29 February's is 28 February.
        """
        if self.kind is PeriodKind.WEEK:
            year, week, _ = self.first.isocalendar()
            return period_of(date.fromisocalendar(year - 1, min(week, _WEEKS_OF_EVERY_YEAR), 1), self.kind)
        leap = (self.first.month, self.first.day) == _LEAP_DAY
        return period_of(self.first.replace(year=self.first.year - 1, day=28 if leap else self.first.day), self.kind)

    @property
    def chinese(self) -> str:
        """Its name in a Chinese text, such as 2026年10月."""
        year = f"{self.first.year}年"
        match self.kind:
            case PeriodKind.DAY:
                return f"{year}{self.first.month}月{self.first.day}日"
            case PeriodKind.WEEK:
                iso_year, week, _ = self.first.isocalendar()
                return f"{iso_year}年第{week}周"
            case PeriodKind.MONTH:
                return f"{year}{self.first.month}月"
            case PeriodKind.QUARTER:
                return f"{year}第{_QUARTERS[(self.first.month - 1) // _MONTHS_OF_QUARTER]}季度"
            case PeriodKind.YEAR:
                return year

    def __contains__(self, day: date) -> bool:
        """Whether a day belongs to it."""
        return self.first <= day <= self.last

    def __str__(self) -> str:
        """Give the text that `parse_period` reads, such as 2026-10."""
        match self.kind:
            case PeriodKind.DAY:
                return self.first.isoformat()
            case PeriodKind.WEEK:
                year, week, _ = self.first.isocalendar()
                return f"{year}-W{week:02}"
            case PeriodKind.MONTH:
                return f"{self.first.year}-{self.first.month:02}"
            case PeriodKind.QUARTER:
                return f"{self.first.year}-Q{(self.first.month - 1) // _MONTHS_OF_QUARTER + 1}"
            case PeriodKind.YEAR:
                return str(self.first.year)


def parse_period(text: str, field: str = "period") -> Period:
    """Read a period. Raises `NoSuchPeriod`, which names the field."""
    found = _FORM.fullmatch(text)
    if found is None or not YEAR_MIN <= int(found["year"]) <= YEAR_MAX:
        raise NoSuchPeriod(field, text)
    year = int(found["year"])
    try:
        if found["week"]:
            return period_of(date.fromisocalendar(year, int(found["week"]), 1), PeriodKind.WEEK)
        if found["quarter"]:
            month = (int(found["quarter"]) - 1) * _MONTHS_OF_QUARTER + 1
            return period_of(date(year, month, 1), PeriodKind.QUARTER)
        if found["day"]:
            return period_of(date(year, int(found["month"]), int(found["day"])), PeriodKind.DAY)
        if found["month"]:
            return period_of(date(year, int(found["month"]), 1), PeriodKind.MONTH)
    except ValueError:
        raise NoSuchPeriod(field, text) from None
    return period_of(date(year, 1, 1), PeriodKind.YEAR)


def period_of(day: date, kind: PeriodKind) -> Period:
    """Give the period of a kind that a day belongs to."""
    match kind:
        case PeriodKind.DAY:
            return Period(day, day, kind)
        case PeriodKind.WEEK:
            monday = day - _DAY * day.weekday()
            return Period(monday, monday + _WEEK - _DAY, kind)
        case PeriodKind.MONTH:
            return _months(day.year, day.month, 1, kind)
        case PeriodKind.QUARTER:
            return _months(day.year, day.month - (day.month - 1) % _MONTHS_OF_QUARTER, _MONTHS_OF_QUARTER, kind)
        case PeriodKind.YEAR:
            return _months(day.year, 1, _MONTHS_OF_YEAR, kind)


def _months(year: int, month: int, count: int, kind: PeriodKind) -> Period:
    last_month = month + count - 1
    _, days = calendar.monthrange(year, last_month)
    return Period(date(year, month, 1), date(year, last_month, days), kind)
