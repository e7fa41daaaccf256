"""Clocks: the statutory limits of a case (SPEC §4), started, extended, overdue and stopped.

A clock that runs past its deadline counts as missed once, on the change that records it as overdue; a clock that stops
before its deadline counts as met when the duty itself was done, and not at all when something else ended it.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import datetime

from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.events import ClockChange
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome


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
    extended: bool = False
    overdue: bool = False


def start(kind: ClockKind, at: datetime, workdays: int, calendar: WorkingCalendar, department: str = "") -> ClockChange:
    """A clock of `workdays` starts; the day it starts on does not count."""
    deadline = calendar.deadline(at, workdays)
    return ClockChange(
        kind=kind,
        action=ClockAction.STARTED,
        department=department,
        started_at=at,
        due_at=deadline.due_at,
        limit_workdays=workdays,
        calendar_version=deadline.calendar_version,
        provisional=deadline.provisional,
    )


def extend(clock: Clock, workdays: int, calendar: WorkingCalendar) -> ClockChange:
    """The whole limit grows by `workdays`, counted from the clock's own start."""
    deadline = calendar.deadline(clock.started_at, clock.limit_workdays + workdays)
    return replace(
        _change(clock, ClockAction.EXTENDED),
        due_at=deadline.due_at,
        limit_workdays=clock.limit_workdays + workdays,
        calendar_version=deadline.calendar_version,
        provisional=deadline.provisional,
    )


def overdue(clock: Clock, at: datetime) -> tuple[ClockChange, ...]:
    """The change that records a passed deadline, unless it has been recorded or has not passed."""
    if clock.overdue or at < clock.due_at:
        return ()
    return (_change(clock, ClockAction.OVERDUE),)


def stop(clock: Clock, at: datetime, calendar: WorkingCalendar, *, fulfilled: bool) -> tuple[ClockChange, ...]:
    """The clock stops: by the duty done (`fulfilled`) or because it no longer applies."""
    late = clock.overdue or at >= clock.due_at
    if late:
        outcome = ClockOutcome.MISSED
    elif fulfilled:
        outcome = ClockOutcome.MET
    else:
        outcome = ClockOutcome.VOID
    elapsed = round(calendar.elapsed_workdays(clock.started_at, at) * 1000)
    stopped = replace(_change(clock, ClockAction.STOPPED), outcome=outcome, elapsed_milli_workdays=elapsed)
    return (*overdue(clock, at), stopped)


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
                        started_at=change.started_at,
                        due_at=change.due_at,
                        limit_workdays=change.limit_workdays,
                        calendar_version=change.calendar_version,
                        provisional=change.provisional,
                    )
                )
            case ClockAction.EXTENDED if at is not None:
                running[at] = replace(
                    running[at],
                    due_at=change.due_at,
                    limit_workdays=change.limit_workdays,
                    calendar_version=change.calendar_version,
                    provisional=change.provisional,
                    extended=True,
                )
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
        started_at=clock.started_at,
        due_at=clock.due_at,
        limit_workdays=clock.limit_workdays,
        calendar_version=clock.calendar_version,
        provisional=clock.provisional,
    )
