"""A clock yields one of met, missed and void, once; it may be extended and stops for good."""

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain import clocks
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome
from kuaixiang.facts import published_calendar
from tests.domain.story import CALENDAR, DAY, MONDAY, day, end_of

INSTANT = timedelta(microseconds=1)


def running(workdays: int = 5, department: str = "") -> Clock:
    return clocks.apply((), [clocks.start(ClockKind.HANDLE, MONDAY, workdays, CALENDAR, department=department)])[0]


def test_the_day_a_clock_starts_on_does_not_count() -> None:
    assert end_of(3, 3) == running(1).due_at


def test_a_clock_remembers_the_calendar_it_was_computed_from() -> None:
    assert ("test", False) == (running().calendar_version, running().provisional)


def test_a_deadline_past_the_published_days_is_provisional() -> None:
    assert clocks.start(ClockKind.HANDLE, day(12, 28), 5, CALENDAR).provisional


def test_the_holiday_of_2026_in_october_moves_a_deadline() -> None:
    change = clocks.start(ClockKind.HANDLE, day(9, 29), 5, published_calendar())
    # 30 September, then seven days off; 8, 9, 10 (a make-up Saturday) and 12 October.
    assert end_of(10, 12) == change.due_at


def test_an_extension_counts_from_the_clocks_own_start() -> None:
    change = clocks.extend(running(), 5, CALENDAR)
    assert (ClockAction.EXTENDED, 10, MONDAY, end_of(3, 16)) == (
        change.action,
        change.limit_workdays,
        change.started_at,
        change.due_at,
    )


def test_a_clock_is_overdue_from_its_deadline_on() -> None:
    clock = running()
    assert () == clocks.overdue(clock, clock.due_at - INSTANT)
    assert [ClockAction.OVERDUE] == [change.action for change in clocks.overdue(clock, clock.due_at)]


def test_a_clock_becomes_overdue_once() -> None:
    clock = running()
    (late,) = clocks.apply((clock,), clocks.overdue(clock, clock.due_at))
    assert late.overdue
    assert () == clocks.overdue(late, clock.due_at + DAY)


def test_a_duty_done_in_time_is_met() -> None:
    clock = running()
    (stop,) = clocks.stop(clock, clock.due_at - INSTANT, CALENDAR, fulfilled=True)
    assert ClockOutcome.MET is stop.outcome


def test_a_duty_that_no_longer_applies_is_void() -> None:
    (stop,) = clocks.stop(running(), MONDAY + DAY, CALENDAR, fulfilled=False)
    assert ClockOutcome.VOID is stop.outcome


def test_the_time_a_clock_ran_is_kept_in_thousandths_of_a_working_day() -> None:
    (stop,) = clocks.stop(running(), day(3, 9), CALENDAR, fulfilled=True)
    # Tuesday to Thursday and Monday; the Friday and the weekend are off.
    assert 4_000 == stop.elapsed_milli_workdays


def test_a_change_of_a_clock_that_does_not_run_changes_nothing() -> None:
    clock = running()
    (stop,) = clocks.stop(clock, MONDAY, CALENDAR, fulfilled=True)
    assert () == clocks.apply((), [stop, clocks.extend(clock, 1, CALENDAR), *clocks.overdue(clock, clock.due_at)])


def test_clocks_of_different_departments_are_different_clocks() -> None:
    both = (running(department="policy"), running(department="audit"))
    (stop,) = clocks.stop(both[1], MONDAY, CALENDAR, fulfilled=True)
    assert (both[0],) == clocks.apply(both, [stop])


minutes = st.integers(min_value=0, max_value=60 * 24 * 60)


@given(
    workdays=st.integers(1, 20),
    extension=st.none() | st.integers(1, 20),
    looks=st.lists(minutes, max_size=4),
    end=minutes,
    fulfilled=st.booleans(),
)
def test_a_clock_counts_exactly_once_whatever_happens(
    workdays: int, extension: int | None, looks: list[int], end: int, *, fulfilled: bool
) -> None:
    changes = [clocks.start(ClockKind.HANDLE, MONDAY, workdays, CALENDAR)]
    (clock,) = clocks.apply((), changes)
    if extension is not None:
        changes.append(clocks.extend(clock, extension, CALENDAR))
        (clock,) = clocks.apply((clock,), changes[-1:])
    for look in sorted(look for look in looks if look <= end):
        found = clocks.overdue(clock, MONDAY + timedelta(minutes=look))
        changes.extend(found)
        (clock,) = clocks.apply((clock,), found)
    at = MONDAY + timedelta(minutes=end)
    stopped = clocks.stop(clock, at, CALENDAR, fulfilled=fulfilled)
    changes.extend(stopped)
    assert () == clocks.apply((clock,), stopped)
    late = at >= clock.due_at
    expected = ClockOutcome.MISSED if late else ClockOutcome.MET if fulfilled else ClockOutcome.VOID
    assert [expected] == [change.outcome for change in changes if change.outcome is not None]
    assert int(late) == [change.action for change in changes].count(ClockAction.OVERDUE)
    assert changes[-1].elapsed_milli_workdays >= 0
