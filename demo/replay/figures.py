"""What a plan lets one expect of the hub: the figures of each bureau, by the notice's own rules."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from demo.replay.log import CaseHistory, Complete, Depart, HandOver, Plan, Resume, Wait
from demo.replay.mapping import Waits
from demo.replay.tree import Direction, LogTree
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.words import ClockOutcome

HANDLE_WORKDAYS: Final = 5  # §四(二)1


class SegmentEnd(StrEnum):
    """How a bureau's time with a case ended."""

    COMPLETED = "completed"
    REFERRED = "referred"
    WAITED = "waited"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Segment:
    """One handling clock: the stretch of a case's life in one bureau.

    Attributes:
        bureau: whose clock it is.
        case_ref: the case.
        started_at: the registration there, or the receipt of the referral; after a wait that restarts it, its end.
        ended_at: when it stopped; the end of the log for a case that is open.
        due_day: the last day for completion.
        end: what stopped it.
        outcome: met: completed by the end of `due_day`; missed: not completed by then; void: neither, as it was
            stopped before by something other than a completion, or the log ends before.
    """

    bureau: str
    case_ref: str
    started_at: dt.datetime
    ended_at: dt.datetime
    due_day: dt.date
    end: SegmentEnd
    outcome: ClockOutcome


@dataclass(slots=True)
class BureauFigures:
    """The figures of one bureau.

    Attributes:
        registered: cases that it registered.
        completed: cases that it completed.
        met: handling clocks that were completed in time.
        missed: handling clocks that ran out.
        referred_up: hand-overs that it sent to a superior.
        referred_down: hand-overs that it sent to a subordinate.
        referred_across: hand-overs that it sent elsewhere.
        received: hand-overs that ended at it.
        relayed: hand-overs between others that passed through it.
    """

    registered: int = 0
    completed: int = 0
    met: int = 0
    missed: int = 0
    referred_up: int = 0
    referred_down: int = 0
    referred_across: int = 0
    received: int = 0
    relayed: int = 0

    def add(self, other: "BureauFigures") -> None:
        """Add another bureau's figures to these."""
        for part in fields(self):
            setattr(self, part.name, getattr(self, part.name) + getattr(other, part.name))


@dataclass(frozen=True, slots=True)
class PlanFigures:
    """The figures of every bureau of the tree by its code, and their sum."""

    bureaus: dict[str, BureauFigures] = field(default_factory=dict)

    @property
    def total(self) -> BureauFigures:
        """The sum over the tree."""
        total = BureauFigures()
        for figures in self.bureaus.values():
            total.add(figures)
        return total


def figures_of(plan: Plan, calendar: WorkingCalendar, waits: Waits) -> PlanFigures:
    """The figures of a plan.

    Args:
        plan: the plan.
        calendar: the working calendar.
        waits: what a wait does to the five days.
    """
    found: defaultdict[str, BureauFigures] = defaultdict(BureauFigures)
    for code in plan.tree.bureaus.bureaus:
        found[code] = BureauFigures()
    for case in plan.cases:
        found[case.origin].registered += 1
        for step in case.steps:
            if isinstance(step, HandOver):
                _count_hand_over(found, plan.tree, step)
        for segment in segments_of(case, plan.ends_at or case.registered_at, calendar, waits):
            bureau = found[segment.bureau]
            bureau.completed += segment.end is SegmentEnd.COMPLETED
            bureau.met += segment.outcome is ClockOutcome.MET
            bureau.missed += segment.outcome is ClockOutcome.MISSED
    return PlanFigures(dict(found))


def segments_of(case: CaseHistory, ends_at: dt.datetime, calendar: WorkingCalendar, waits: Waits) -> Iterator[Segment]:
    """The handling clocks of a case, in their order.

    Each runs five working days after the day of receipt, to the end of the day in Asia/Shanghai. A wait lets it run on
    (`run`), adds the working days that were left to the day on which the wait ends (`pause`), or ends it, and a new
    one begins with the end of the wait (`restart`).
    """
    clock = _Clock(case, case.origin, case.registered_at, calendar)
    waiting = False
    for step in case.steps:
        match step:
            case Depart():
                pass
            case HandOver():
                yield clock.stopped(step.at, SegmentEnd.REFERRED)
                clock = _Clock(case, step.to_bureau, step.at, calendar)
            case Complete():
                yield clock.stopped(step.at, SegmentEnd.COMPLETED)
                return
            case Wait():
                waiting = waits is not Waits.RUN
                if waits is Waits.PAUSE:
                    clock.pause(step.at)
                elif waits is Waits.RESTART:
                    yield clock.stopped(step.at, SegmentEnd.WAITED)
            case Resume():
                waiting = False
                if waits is Waits.PAUSE:
                    clock.resume(step.at)
                elif waits is Waits.RESTART:
                    clock = _Clock(case, clock.bureau, step.at, calendar)
    if not waiting or waits is Waits.PAUSE:
        yield clock.stopped(ends_at, SegmentEnd.OPEN)


class _Clock:
    """One handling clock while it runs."""

    def __init__(self, case: CaseHistory, bureau: str, started_at: dt.datetime, calendar: WorkingCalendar) -> None:
        self.bureau = bureau
        self._case_ref = case.case_ref
        self._started_at = started_at
        self._calendar = calendar
        deadline = calendar.deadline(started_at, HANDLE_WORKDAYS)
        self._due_at, self._due_day = deadline.due_at, deadline.due_day
        self._left: int | None = None
        self._ran_out = False

    def pause(self, at: dt.datetime) -> None:
        self._ran_out = self._ran_out or at >= self._due_at
        self._left = self._calendar.workdays_between(self._calendar.day_of(at), self._due_day)

    def resume(self, at: dt.datetime) -> None:
        if self._left is not None and not self._ran_out:
            # Nothing left means the rest of a working day: that of the day on which the wait ends, or the next.
            since = at if self._left else at - dt.timedelta(days=1)
            deadline = self._calendar.deadline(since, max(self._left, 1))
            self._due_at, self._due_day = deadline.due_at, deadline.due_day
        self._left = None

    def stopped(self, at: dt.datetime, end: SegmentEnd) -> Segment:
        late = self._ran_out or (self._left is None and at >= self._due_at)
        in_time = ClockOutcome.MET if end is SegmentEnd.COMPLETED else ClockOutcome.VOID
        return Segment(
            bureau=self.bureau,
            case_ref=self._case_ref,
            started_at=self._started_at,
            ended_at=at,
            due_day=self._due_day,
            end=end,
            outcome=ClockOutcome.MISSED if late else in_time,
        )


def _count_hand_over(found: defaultdict[str, BureauFigures], tree: LogTree, step: HandOver) -> None:
    sender = found[step.from_bureau]
    match tree.direction(step.from_bureau, step.to_bureau):
        case Direction.UP:
            sender.referred_up += 1
        case Direction.DOWN:
            sender.referred_down += 1
        case Direction.ACROSS:
            sender.referred_across += 1
    found[step.to_bureau].received += 1
    for relay in tree.relays(step.from_bureau, step.to_bureau):
        found[relay].relayed += 1
