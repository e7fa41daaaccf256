from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path

import chinese_calendar
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain.calendar import (
    SHANGHAI,
    DayBothOffAndWork,
    DayOutsideCalendar,
    Deadline,
    HorizonBeforeFirst,
    NaiveInstant,
    WorkingCalendar,
    latest_hour,
)
from kuaixiang.facts import FactsMalformed, FactsUnreadable, load_calendar, parse_calendar, published_calendar

DAY = timedelta(days=1)
CALENDAR = published_calendar()
SMALL = WorkingCalendar(
    version="small",
    first=date(2026, 3, 2),
    horizon=date(2026, 3, 22),
    off_days=frozenset({date(2026, 3, 4), date(2026, 3, 5), date(2026, 3, 20)}),
    work_days=frozenset({date(2026, 3, 7), date(2026, 3, 22)}),
)


def shanghai(year: int, month: int, day: int, hour: int = 0, minute: int = 0) -> datetime:
    return datetime(year, month, day, hour, minute, tzinfo=SHANGHAI).astimezone(UTC)


def days(first: date, last: date) -> Iterator[date]:
    while first <= last:
        yield first
        first += DAY


def walked_is_working(calendar: WorkingCalendar, day: date) -> bool:
    if day in calendar.work_days:
        return True
    return day.weekday() < 5 and day not in calendar.off_days


def walked_add(calendar: WorkingCalendar, day: date, n: int) -> date:
    step = DAY if n > 0 else -DAY
    left = abs(n)
    while left:
        day += step
        left -= walked_is_working(calendar, day)
    return day


def walked_between(calendar: WorkingCalendar, start: date, end: date) -> int:
    if end < start:
        return -walked_between(calendar, end, start)
    return sum(walked_is_working(calendar, day) for day in days(start + DAY, end))


def walked_elapsed(calendar: WorkingCalendar, start: datetime, end: datetime) -> float:
    if end < start:
        return -walked_elapsed(calendar, end, start)
    total = timedelta()
    for day in days(start.astimezone(SHANGHAI).date(), end.astimezone(SHANGHAI).date()):
        midnight = datetime(day.year, day.month, day.day, tzinfo=SHANGHAI)
        overlap = min(end, midnight + DAY) - max(start, midnight)
        if walked_is_working(calendar, day):
            total += overlap
    return total / DAY


def test_the_published_calendar_agrees_with_chinesecalendar_on_every_day_of_twenty_years() -> None:
    every = list(days(date(2006, 12, 30), date(2026, 12, 31)))

    assert [CALENDAR.is_working(day) for day in every] == [chinese_calendar.is_workday(day) for day in every]
    assert len(every) == 7307


def test_the_published_calendar_names_its_edition_and_its_limits() -> None:
    assert (CALENDAR.version, CALENDAR.first, CALENDAR.horizon) == ("2026.1", date(2006, 12, 30), date(2026, 12, 31))


def test_the_make_up_weekend_before_2007_is_worked() -> None:
    assert [CALENDAR.is_working(date(2006, 12, day)) for day in (30, 31)] == [True, True]
    assert CALENDAR.add_workdays(date(2006, 12, 29), 2) == date(2006, 12, 31)


def test_the_spring_festival_of_2020_has_its_extension() -> None:
    assert [CALENDAR.is_working(day) for day in days(date(2020, 1, 19), date(2020, 2, 3))] == [True] * 5 + [
        False
    ] * 10 + [True]


def test_counting_from_a_holiday_starts_with_the_next_day_where_find_workday_starts_with_the_next_working_day() -> None:
    assert CALENDAR.add_workdays(date(2024, 1, 1), 15) == date(2024, 1, 22)
    assert chinese_calendar.find_workday(15, date(2024, 1, 1)) == date(2024, 1, 23)
    assert CALENDAR.add_workdays(date(2024, 1, 2), 15) == chinese_calendar.find_workday(15, date(2024, 1, 2))


@pytest.mark.parametrize("day", [date(2006, 12, 29), date(2027, 1, 1), date(2027, 2, 6)])
def test_a_day_outside_the_published_days_follows_its_weekday_and_says_so(day: date) -> None:
    assert CALENDAR.is_provisional(day)
    assert CALENDAR.is_working(day) == (day.weekday() < 5)


@pytest.mark.parametrize("day", [date(2006, 12, 30), date(2026, 12, 31), date(2016, 2, 29)])
def test_a_published_day_is_not_provisional(day: date) -> None:
    assert not CALENDAR.is_provisional(day)


CALENDARS = st.sampled_from([CALENDAR, SMALL])
NEAR = st.one_of(st.dates(date(2026, 2, 1), date(2026, 4, 20)), st.dates(date(2006, 1, 1), date(2028, 12, 31)))
INSTANTS = NEAR.flatmap(
    lambda day: st.datetimes(
        datetime(day.year, day.month, day.day),  # noqa: DTZ001 hypothesis wants naive bounds and adds the offset
        datetime(day.year, day.month, day.day, 23, 59, 59, 999999),  # noqa: DTZ001
        timezones=st.sampled_from([UTC, SHANGHAI, timezone(timedelta(hours=-7, minutes=-30))]),
    )
)


@given(CALENDARS, NEAR)
def test_a_day_is_worked_as_its_listing_or_its_weekday_says(calendar: WorkingCalendar, day: date) -> None:
    assert calendar.is_working(day) == walked_is_working(calendar, day)


@given(CALENDARS, NEAR, st.integers(-60, 60))
def test_adding_working_days_is_a_walk_from_day_to_day(calendar: WorkingCalendar, day: date, n: int) -> None:
    assert calendar.add_workdays(day, n) == walked_add(calendar, day, n)


@given(CALENDARS, NEAR, st.integers(-90, 90))
def test_counting_working_days_is_a_walk_from_day_to_day(calendar: WorkingCalendar, day: date, distance: int) -> None:
    end = day + distance * DAY

    assert calendar.workdays_between(day, end) == walked_between(calendar, day, end)


@given(CALENDARS, NEAR, st.integers(1, 5_000))
def test_the_nth_working_day_is_worked_and_n_working_days_away(calendar: WorkingCalendar, day: date, n: int) -> None:
    due = calendar.add_workdays(day, n)

    assert calendar.is_working(due)
    assert calendar.workdays_between(day, due) == n


@given(CALENDARS, INSTANTS, st.timedeltas(timedelta(days=-40), timedelta(days=40)))
def test_elapsed_working_time_is_the_overlap_with_each_working_day(
    calendar: WorkingCalendar, start: datetime, length: timedelta
) -> None:
    assert calendar.elapsed_workdays(start, start + length) == pytest.approx(
        walked_elapsed(calendar, start, start + length), abs=1e-12
    )


@given(CALENDARS, INSTANTS, st.integers(0, 30))
def test_a_deadline_is_the_end_of_the_nth_working_day_after_the_start(
    calendar: WorkingCalendar, started: datetime, n: int
) -> None:
    deadline = calendar.deadline(started, n)

    start = started.astimezone(SHANGHAI).date()
    due_day = walked_add(calendar, start, n)
    midnight = datetime(due_day.year, due_day.month, due_day.day, tzinfo=SHANGHAI)
    assert deadline == Deadline(
        due_at=midnight + DAY,
        due_day=due_day,
        provisional=due_day > calendar.horizon or start < calendar.first,
        calendar_version=calendar.version,
    )
    assert deadline.due_at.tzinfo is UTC


def test_five_working_days_over_a_make_up_saturday() -> None:
    """Received on Wednesday 2026-09-16: Thursday, Friday, the make-up Sunday 20th, Monday and Tuesday count."""
    assert CALENDAR.deadline(shanghai(2026, 9, 16, 9), 5) == Deadline(
        due_at=datetime(2026, 9, 22, 16, tzinfo=UTC),
        due_day=date(2026, 9, 22),
        provisional=False,
        calendar_version="2026.1",
    )


def test_the_day_of_receipt_is_shanghais() -> None:
    assert CALENDAR.day_of(datetime(2026, 3, 2, 15, 59, 59, tzinfo=UTC)) == date(2026, 3, 2)
    assert CALENDAR.day_of(datetime(2026, 3, 2, 16, tzinfo=UTC)) == date(2026, 3, 3)


def test_a_deadline_past_the_horizon_is_provisional() -> None:
    last_sure = CALENDAR.deadline(shanghai(2026, 12, 30, 12), 1)
    first_unsure = CALENDAR.deadline(shanghai(2026, 12, 31, 12), 1)

    assert (last_sure.due_day, last_sure.provisional) == (date(2026, 12, 31), False)
    assert (first_unsure.due_day, first_unsure.provisional) == (date(2027, 1, 1), True)


def test_a_day_off_adds_nothing_to_the_elapsed_time() -> None:
    national_day = shanghai(2026, 10, 1), shanghai(2026, 10, 8)

    assert CALENDAR.elapsed_workdays(*national_day) == 0.0
    assert CALENDAR.elapsed_workdays(shanghai(2026, 9, 30, 12), shanghai(2026, 10, 8, 6)) == 0.75


@pytest.mark.parametrize("call", ["day_of", "deadline", "elapsed_workdays"])
def test_an_instant_without_offset_is_refused(call: str) -> None:
    naive = datetime(2026, 3, 2, 9)  # noqa: DTZ001 that is the fault under test
    arguments = {"day_of": (naive,), "deadline": (naive, 5), "elapsed_workdays": (naive, naive)}

    with pytest.raises(NaiveInstant, match="2026-03-02T09:00:00 has no offset"):
        getattr(CALENDAR, call)(*arguments[call])


def test_a_calendar_that_contradicts_itself_is_refused() -> None:
    day, next_day = date(2026, 3, 2), date(2026, 3, 3)
    none: frozenset[date] = frozenset()

    with pytest.raises(HorizonBeforeFirst, match="2026-03-02 lies before its first day 2026-03-03"):
        WorkingCalendar("bad", next_day, day, none, none)
    with pytest.raises(DayOutsideCalendar, match="2026-03-03 is listed"):
        WorkingCalendar("bad", day, day, frozenset({next_day}), none)
    with pytest.raises(DayBothOffAndWork, match="2026-03-02 is listed both"):
        WorkingCalendar("bad", day, day, frozenset({day}), frozenset({day}))


GOOD = """# version: 2027.1
# first: 2026-12-30
# horizon: 2027-12-31
date,name,kind
2027-01-01,元旦,off
2027-01-03,元旦,work
"""


def test_a_calendar_is_read_from_its_text() -> None:
    expected = WorkingCalendar(
        "2027.1",
        date(2026, 12, 30),
        date(2027, 12, 31),
        frozenset({date(2027, 1, 1)}),
        frozenset({date(2027, 1, 3)}),
    )

    assert parse_calendar(GOOD) == expected
    assert parse_calendar("\ufeff" + GOOD.replace("\n", "\r\n\r\n") + "# the end: of it\n") == expected


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("# version: 2027.1", "#", "the version is not named; write a line '# version: ...' above the header"),
        ("# horizon: 2027-12-31", "# horizon:", "line 3: the horizon is not named"),
        ("2027-12-31", "31.12.2027", "line 3: '31.12.2027' is not a day; write it as YYYY-MM-DD"),
        ("2027-12-31", "2026-12-01", "the calendar's horizon 2026-12-01 lies before its first day 2026-12-30"),
        ("date,name,kind", "date,kind", "line 4: the columns are date,kind; write date,name,kind"),
        ("2027-01-01", "2027-02-30", "line 5: '2027-02-30' is not a day"),
        ("2027-01-01,元旦,off", "2027-01-01,off", "line 5: the row has 2 fields, not 3; write date,name,kind"),
        ("元旦,off", "元旦,holiday", "line 5: the kind is 'holiday'; write off or work"),
        ("2027-01-03", "2027-01-01", "line 6: 2027-01-01 is listed already on line 5; keep one of them"),
        ("2027-01-03", "2028-01-03", "line 6: 2028-01-03 is listed but the calendar runs from 2026-12-30"),
    ],
)
def test_a_malformed_calendar_is_refused_with_its_line_and_what_to_do(
    good: str, bad: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "calendar.csv"
    path.write_text(GOOD.replace(good, bad), encoding="utf-8")

    with pytest.raises(FactsMalformed) as caught:
        load_calendar(path)

    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_an_empty_calendar_is_refused() -> None:
    with pytest.raises(FactsMalformed, match="there is no header; write date,name,kind"):
        parse_calendar("")


def test_a_calendar_that_is_missing_or_not_utf_8_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "calendar.csv"
    with pytest.raises(FactsUnreadable, match="No such file"):
        load_calendar(path)

    path.write_bytes(GOOD.encode("gb18030"))
    with pytest.raises(FactsUnreadable, match="line 5 is not UTF-8; save the file as UTF-8"):
        load_calendar(path)


def test_a_calendar_cannot_be_changed() -> None:
    with pytest.raises(AttributeError):
        CALENDAR.horizon = date(2027, 12, 31)  # type: ignore[misc]


@pytest.mark.parametrize(
    ("now", "latest"),
    [
        ("2026-03-02T01:59:59+08:00", "2026-03-01T02:00:00+08:00"),
        ("2026-03-02T02:00:00+08:00", "2026-03-02T02:00:00+08:00"),
        ("2026-03-01T23:00:00+00:00", "2026-03-02T02:00:00+08:00"),
    ],
)
def test_the_latest_time_of_an_hour_is_that_of_shanghai_and_may_be_now(now: str, latest: str) -> None:
    assert datetime.fromisoformat(latest) == latest_hour(datetime.fromisoformat(now), 2)
