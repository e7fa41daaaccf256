"""What time and another calendar do to the clocks of a case, recorded once each."""

from dataclasses import replace
from datetime import date

import pytest

from kuaixiang.domain import acts, clocks, events
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.words import ClockAction, ClockKind
from tests.domain.story import (
    CALENDAR,
    COMPLETE,
    DAY,
    HOUR,
    MONDAY,
    Story,
    changes,
    day,
    deferred,
    end_of,
    handling,
    joint,
    offered,
    released,
)

# Tuesday 10 March is off too; in the other one Sunday 8 March is worked.
LATER = replace(CALENDAR, version="later", off_days=CALENDAR.off_days | {date(2026, 3, 10)})
EARLIER_DUE = replace(CALENDAR, version="make-up", work_days=CALENDAR.work_days | {date(2026, 3, 8)})
DUE = end_of(3, 10)


def kinds(found: tuple[events.Event, ...]) -> list[tuple[ClockKind, ClockAction]]:
    return [(change.kind, change.action) for change in changes(found)]


# ---------------------------------------------------------------- due soon


def test_that_one_working_day_is_left_is_recorded_once() -> None:
    story = handling().at(end_of(3, 9))
    assert [(ClockKind.HANDLE, ClockAction.DUE_SOON)] == kinds(story.do(acts.MarkDueSoon()))
    assert () == story.after(HOUR).do(acts.MarkDueSoon())


def test_nothing_is_due_soon_before_the_last_working_day_begins() -> None:
    assert () == handling().at(end_of(3, 9) - HOUR).do(acts.MarkDueSoon())


def test_a_deadline_that_has_passed_is_not_due_soon() -> None:
    assert () == handling().at(DUE).do(acts.MarkDueSoon())


def test_an_officer_may_still_record_what_was_done_before_it_was_due_soon() -> None:
    story = handling().at(end_of(3, 9)).then(acts.MarkDueSoon())
    assert story.do(COMPLETE, occurred_at=end_of(3, 9) - HOUR)


def test_the_review_of_a_parked_case_is_due_soon_and_overdue_like_any_deadline() -> None:
    story = deferred()
    review = story.clock(ClockKind.REVIEW)
    assert review.soon_at is not None
    assert [(ClockKind.REVIEW, ClockAction.DUE_SOON)] == kinds(story.at(review.soon_at).do(acts.MarkDueSoon()))
    assert [(ClockKind.REVIEW, ClockAction.OVERDUE)] == kinds(story.at(review.due_at).do(acts.MarkOverdue()))


# ---------------------------------------------------------------- another calendar


@pytest.mark.parametrize(
    ("calendar", "due"), [(LATER, end_of(3, 11)), (EARLIER_DUE, end_of(3, 9))], ids=["day off", "make-up day"]
)
def test_another_calendar_moves_an_open_deadline(calendar: WorkingCalendar, due: object) -> None:
    story = handling()
    (found,) = story.do(acts.Recompute(), calendar=calendar)
    assert [(ClockKind.HANDLE, ClockAction.RECOMPUTED)] == kinds((found,))
    clock = story.clock(ClockKind.HANDLE)
    assert (due, calendar.version, 5) == (clock.due_at, clock.calendar_version, clock.limit_workdays)
    assert () == story.do(acts.Recompute(), calendar=calendar)


def test_the_calendar_in_force_moves_nothing() -> None:
    assert () == handling().do(acts.Recompute())


def test_every_departments_deadline_is_computed_again_in_one_entry() -> None:
    story = joint()
    (found,) = story.do(acts.Recompute(), calendar=LATER)
    assert len(story.case.clocks) == len(found.clocks)


def test_an_extension_stays_with_the_deadline_that_is_computed_again() -> None:
    story = handling()
    extended = clocks.apply(story.case.clocks, [clocks.extend(story.clock(ClockKind.HANDLE), 2, CALENDAR)])
    story.having(clocks=extended).then(acts.Recompute(), calendar=LATER)
    clock = story.clock(ClockKind.HANDLE)
    assert (True, 7, end_of(3, 13)) == (clock.extended, clock.limit_workdays, clock.due_at)


def test_a_missed_deadline_stays_missed_whether_or_not_that_was_recorded() -> None:
    assert () == handling().at(DUE).do(acts.Recompute(), calendar=LATER)
    assert () == handling().at(DUE).then(acts.MarkOverdue()).do(acts.Recompute(), calendar=LATER)


def test_of_a_deadline_that_moved_it_is_recorded_anew_that_one_working_day_is_left() -> None:
    story = handling().at(end_of(3, 9)).then(acts.MarkDueSoon()).then(acts.Recompute(), calendar=LATER)
    assert [(ClockKind.HANDLE, ClockAction.DUE_SOON)] == kinds(story.do(acts.MarkDueSoon()))
    assert () == story.after(DAY).do(acts.MarkDueSoon())


def test_a_provisional_deadline_is_settled_by_the_calendar_that_publishes_its_days() -> None:
    story = handling(day(12, 28))
    assert story.clock(ClockKind.HANDLE).provisional
    published = replace(CALENDAR, version="2027", horizon=date(2027, 12, 31))
    story.do(acts.Recompute(), calendar=published)
    assert not story.clock(ClockKind.HANDLE).provisional


@pytest.mark.parametrize("begin", [offered, released])
@pytest.mark.parametrize("act", [acts.MarkDueSoon(), acts.Recompute()], ids=["due soon", "calendar"])
def test_the_clocks_of_a_case_that_is_not_ours_stand(begin: type[Story], act: acts.Act) -> None:
    assert () == begin().at(end_of(3, 9)).do(act, calendar=LATER)


def test_a_day_that_somebody_named_for_a_review_stays_that_day() -> None:
    story = deferred()
    due = story.clock(ClockKind.REVIEW).due_at
    story.do(acts.Recompute(), calendar=LATER)
    clock = story.clock(ClockKind.REVIEW)
    assert (due, "later") == (clock.due_at, clock.calendar_version)
    assert MONDAY < due
