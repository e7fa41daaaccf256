"""Days in Shanghai, as requests write them, and the time that they cover."""

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Final

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.clock import to_micros

_DAY: Final = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Period:
    """Days in Shanghai, both included."""

    from_day: date
    to_day: date

    @property
    def span_us(self) -> tuple[int, int]:
        """From its first instant until before the first one after it, in microseconds."""
        return to_micros(WorkingCalendar.end_of(self.from_day - _DAY)), to_micros(WorkingCalendar.end_of(self.to_day))


def spans_us(days: Iterable[date]) -> list[tuple[int, int]]:
    """The time that days cover; days that follow each other are one span."""
    spans: list[tuple[int, int]] = []
    for day in sorted(days):
        since, until = Period(day, day).span_us
        if spans and spans[-1][1] == since:
            spans[-1] = (spans[-1][0], until)
        else:
            spans.append((since, until))
    return spans


def day_of(text: str, field: str) -> date:
    """A day as it is written; raises `FieldMalformed`."""
    try:
        day = date.fromisoformat(text)
        # The days at the ends of the calendar have no day after them.
        _ = (day - _DAY, day + _DAY)
    except (ValueError, OverflowError) as fault:
        raise FieldMalformed(
            field,
            Both("is no day", "不是有效日期"),
            Both("Write it as YYYY-MM-DD.", "请按“年-月-日”填写，如2026-03-02。"),
        ) from fault
    return day
