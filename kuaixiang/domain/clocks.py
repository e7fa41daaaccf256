"""Clocks: the statutory limits of a case (SPEC §4), started, extended, overdue and stopped.

A clock that runs past its deadline counts as missed once, on the change that records it as overdue; a clock that stops
before its deadline counts as met when the duty itself was done, and not at all when something else ended it. That one
working day is left is recorded once for each deadline, too.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import date, datetime

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.events import ClockChange
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, DepartmentKind


@dataclass(frozen=True, slots=True, kw_only=True)
class Rules:
    """The limits, in working days. What the notice fixes is not meant to be set otherwise than in tests."""

    forward_workdays: int = 1
    """§四(一)2: to tax service within one working day."""
    dispatch_workdays: int = 1
    """§四(一)2 says 及时."""
    handle_workdays: int = 5
    """§四(二)1."""
    handle_workdays_total_max: int = 10
    """§四(二)1: the longest with an extension."""
    joint_workdays_total_max: int | None = None
    """§四(二)2 sets none."""
    feedback_workdays: int = 1
    """§四(三)."""
    follow_up_workdays: int = 20
    """§四(四) says 定期."""
    follow_up_sample_percent: int = 100
    """The share of cases that are to be followed up (§四(四) says 定期, not each)."""
    returns_max: int = 2
    """How often a case may be sent back before the lowest common superior decides who handles it (§二(四))."""
    backdating_workdays_max: int = 1
    """How long after it happened an act may be recorded: a bureau without power writes on paper for a day."""
    hops_max: int = 12
    """Bureaus on one journey: twice the depth of the deepest tree, so that only a wrong tree meets it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Clock:
    """A running clock. It is met when it stops before `due_at`, the end of the last working day."""

    kind: ClockKind
    department: str
    started_at: datetime
    due_at: datetime
    limit_workdays: int
    calendar_version: str
    provisional: bool
    soon_at: datetime | None = None
    department_kind: DepartmentKind | None = None
    extended: bool = False
    due_soon: bool = False
    overdue: bool = False

    def has_passed(self, at: datetime) -> bool:
        """Whether its deadline has passed by then, recorded or not."""
        return self.overdue or at >= self.due_at

    def is_close(self, at: datetime) -> bool:
        """Whether one working day is left at most; a limit of a single day is within one from its start."""
        return self.soon_at is None or at >= self.soon_at


def start(
    kind: ClockKind,
    at: datetime,
    workdays: int,
    calendar: WorkingCalendar,
    *,
    department: str = "",
    department_kind: DepartmentKind | None = None,
) -> ClockChange:
    """A clock of `workdays` starts; the day it starts on does not count."""
    deadline = calendar.deadline(at, workdays)
    return ClockChange(
        kind=kind,
        action=ClockAction.STARTED,
        department=department,
        department_kind=department_kind,
        started_at=at,
        due_at=deadline.due_at,
        soon_at=_soon_at(at, workdays, calendar),
        limit_workdays=workdays,
        calendar_version=deadline.calendar_version,
        provisional=deadline.provisional,
    )


def start_until(kind: ClockKind, at: datetime, day: date, calendar: WorkingCalendar) -> ClockChange:
    """A clock starts that ends with a day which somebody has named, whatever the calendar says of it."""
    workdays = max(0, calendar.workdays_between(calendar.day_of(at), day))
    return ClockChange(
        kind=kind,
        action=ClockAction.STARTED,
        started_at=at,
        due_at=calendar.end_of(day),
        soon_at=_soon_at(at, workdays, calendar),
        limit_workdays=workdays,
        calendar_version=calendar.version,
    )


def extend(clock: Clock, workdays: int, calendar: WorkingCalendar) -> ClockChange:
    """The whole limit grows by `workdays`, counted from the clock's own start."""
    return _with_limit(clock, ClockAction.EXTENDED, clock.limit_workdays + workdays, calendar)


def recompute(clock: Clock, calendar: WorkingCalendar) -> tuple[ClockChange, ...]:
    """The change that computes a deadline again from another version of the calendar (SPEC §4).

    None for a clock that comes from this version already, and for one that has run out: that it did is a fact of its
    day, which no later calendar undoes. A day that somebody has named stays that day.
    """
    if clock.calendar_version == calendar.version or clock.overdue:
        return ()
    if clock.kind is ClockKind.REVIEW:
        return (replace(_change(clock, ClockAction.RECOMPUTED), calendar_version=calendar.version),)
    return (_with_limit(clock, ClockAction.RECOMPUTED, clock.limit_workdays, calendar),)


def due_soon(clock: Clock, at: datetime) -> tuple[ClockChange, ...]:
    """The change that records that one working day is left, unless it has been recorded or the deadline has passed."""
    if clock.due_soon or clock.overdue or clock.soon_at is None or not clock.soon_at <= at < clock.due_at:
        return ()
    return (_change(clock, ClockAction.DUE_SOON),)


def overdue(clock: Clock, at: datetime) -> tuple[ClockChange, ...]:
    """The change that records a passed deadline, unless it has been recorded or has not passed."""
    if clock.overdue or at < clock.due_at:
        return ()
    return (_change(clock, ClockAction.OVERDUE),)


def stop(clock: Clock, at: datetime, calendar: WorkingCalendar, *, fulfilled: bool) -> tuple[ClockChange, ...]:
    """The clock stops: by the duty done (`fulfilled`) or because it no longer applies."""
    if clock.has_passed(at):
        outcome = ClockOutcome.MISSED
    elif fulfilled:
        outcome = ClockOutcome.MET
    else:
        outcome = ClockOutcome.VOID
    elapsed = round(calendar.elapsed_workdays(clock.started_at, at) * 1000)
    stopped = replace(_change(clock, ClockAction.STOPPED), outcome=outcome, elapsed_milli_workdays=elapsed)
    return (*overdue(clock, at), stopped)


def stop_each(
    running: Iterable[Clock], at: datetime, calendar: WorkingCalendar, *, fulfilled: bool
) -> tuple[ClockChange, ...]:
    """Each of the clocks stops; see `stop`."""
    return tuple(change for clock in running for change in stop(clock, at, calendar, fulfilled=fulfilled))


def apply(clocks: tuple[Clock, ...], changes: Iterable[ClockChange]) -> tuple[Clock, ...]:
    """The running clocks after the changes."""
    running = list(clocks)
    for change in changes:
        at = _find(running, change)
        match change.action:
            case ClockAction.STARTED:
                running.append(
                    Clock(
                        kind=change.kind,
                        department=change.department,
                        department_kind=change.department_kind,
                        started_at=change.started_at,
                        due_at=change.due_at,
                        soon_at=change.soon_at,
                        limit_workdays=change.limit_workdays,
                        calendar_version=change.calendar_version,
                        provisional=change.provisional,
                    )
                )
            case ClockAction.EXTENDED | ClockAction.RECOMPUTED if at is not None:
                before = running[at]
                running[at] = replace(
                    before,
                    due_at=change.due_at,
                    soon_at=change.soon_at,
                    limit_workdays=change.limit_workdays,
                    calendar_version=change.calendar_version,
                    provisional=change.provisional,
                    extended=before.extended or change.action is ClockAction.EXTENDED,
                    # Another deadline comes close anew.
                    due_soon=before.due_soon and change.due_at == before.due_at,
                )
            case ClockAction.DUE_SOON if at is not None:
                running[at] = replace(running[at], due_soon=True)
            case ClockAction.OVERDUE if at is not None:
                running[at] = replace(running[at], overdue=True)
            case ClockAction.STOPPED if at is not None:
                del running[at]
            case _:
                # A change of a clock that does not run is history of a ledger that had it; the fold stays total.
                pass
    return tuple(running)


def _find(clocks: list[Clock], change: ClockChange) -> int | None:
    for index, clock in enumerate(clocks):
        if clock.kind == change.kind and clock.department == change.department:
            return index
    return None


def _change(clock: Clock, action: ClockAction) -> ClockChange:
    return ClockChange(
        kind=clock.kind,
        action=action,
        department=clock.department,
        department_kind=clock.department_kind,
        started_at=clock.started_at,
        due_at=clock.due_at,
        soon_at=clock.soon_at,
        limit_workdays=clock.limit_workdays,
        calendar_version=clock.calendar_version,
        provisional=clock.provisional,
    )


def _with_limit(clock: Clock, action: ClockAction, workdays: int, calendar: WorkingCalendar) -> ClockChange:
    deadline = calendar.deadline(clock.started_at, workdays)
    return replace(
        _change(clock, action),
        due_at=deadline.due_at,
        soon_at=_soon_at(clock.started_at, workdays, calendar),
        limit_workdays=workdays,
        calendar_version=deadline.calendar_version,
        provisional=deadline.provisional,
    )


def _soon_at(started_at: datetime, workdays: int, calendar: WorkingCalendar) -> datetime | None:
    """The end of the last working day but one; None where there is none."""
    return calendar.deadline(started_at, workdays - 1).due_at if workdays > 1 else None
