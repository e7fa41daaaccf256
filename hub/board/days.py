"""The days that a page is about, as its address says them: a whole period, or any days from one to another."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from typing import Final

from hub.comparison import ComparisonUnbounded, whole_period
from hub.servicer import EmptyPeriod, PeriodTwice, day_of
from hub.words import Grouping
from kuaixiang.domain.periods import Period, PeriodKind, parse_period, period_of

BY_DAY_MAX: Final = 62
BY_WEEK_MAX: Final = 366
"""Days up to which a trend is told by day, and by week; a line of more points is not read."""

CHOSEN: Final = (PeriodKind.WEEK, PeriodKind.MONTH, PeriodKind.QUARTER, PeriodKind.YEAR)
"""The periods that one chooses with one press: the one that today belongs to."""


@dataclass(frozen=True, slots=True)
class Days:
    """Some days in Shanghai, both included; `period` when they are a whole one."""

    first: date
    last: date
    period: Period | None

    @property
    def query(self) -> dict[str, str]:
        """How an address says them."""
        if self.period is not None:
            return {"period": str(self.period)}
        return {"from": self.first.isoformat(), "to": self.last.isoformat()}

    @property
    def count(self) -> int:
        """How many they are."""
        return (self.last - self.first).days + 1

    @property
    def grouping(self) -> Grouping:
        """By what a trend over them is told unless one chooses."""
        if self.count <= BY_DAY_MAX:
            return Grouping.DAY
        return Grouping.WEEK if self.count <= BY_WEEK_MAX else Grouping.MONTH


def days_of(asked: Mapping[str, str], today: date) -> Days:
    """The days of an address; this month where it says none.

    Raises `NoSuchPeriod`, `NoSuchDay`, `PeriodTwice`, `ComparisonUnbounded` for days without an end, `EmptyPeriod`.
    """
    named = asked.get("period", "")
    first, last = day_of("from_day", asked.get("from", "")), day_of("to_day", asked.get("to", ""))
    if named:
        period = parse_period(named)
        if first is not None or last is not None:
            raise PeriodTwice(period)
        return _whole(period)
    if first is None and last is None:
        return _whole(period_of(today, PeriodKind.MONTH))
    if first is None or last is None:
        raise ComparisonUnbounded
    if last < first:
        raise EmptyPeriod(first, last)
    return Days(first, last, whole_period(first, last))


def _whole(period: Period) -> Days:
    return Days(period.first, period.last, period)
