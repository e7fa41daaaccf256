"""What a plan lets one expect of the hub: the figures of each bureau, by the notice's own rules."""

import datetime as dt
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final

from demo.replay.log import CaseHistory, Complete, Depart, HandOver, Plan, Resume, Step, Wait
from demo.replay.tree import Direction, LogTree
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.words import ClockOutcome

HANDLE_WORKDAYS: Final = 5  # §四(二)1


class SegmentEnd(StrEnum):
    """How a bureau's time with a case ended."""

    COMPLETED = "completed"
    REFERRED = "referred"
    RETURNED = "returned"
    """Its department gave it back, and it went to another."""
    DEFERRED = "deferred"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class Segment:
    """One handling clock of one case.

    Attributes:
        bureau: whose clock it is.
        case_ref: the case.
        started_at: when it began to run.
        ended_at: when it stopped; the end of the log for a case that is open.
        due_day: the last day for completion, in Shanghai.
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
        deferred: waits that began at it.
        met: handling clocks that were completed in time.
        missed: handling clocks that ran out.
        referred_up: hand-overs that it sent to a superior.
        referred_down: hand-overs that it sent to a subordinate.
        referred_across: hand-overs that it sent elsewhere.
        returned: hand-overs that it sent back to where they had come from.
        received: hand-overs that ended at it.
        relayed: hand-overs between others that passed through it.
    """

    registered: int = 0
    completed: int = 0
    deferred: int = 0
    met: int = 0
    missed: int = 0
    referred_up: int = 0
    referred_down: int = 0
    referred_across: int = 0
    returned: int = 0
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


def figures_of(plan: Plan, calendar: WorkingCalendar) -> PlanFigures:
    """The figures of a plan.

    Args:
        plan: the plan.
        calendar: the working calendar.
    """
    found: defaultdict[str, BureauFigures] = defaultdict(BureauFigures)
    for code in plan.tree.bureaus.bureaus:
        found[code] = BureauFigures()
    for case in plan.cases:
        bureau = case.origin
        found[bureau].registered += 1
        came_from = ""
        for step in case.steps:
            match step:
                case HandOver():
                    back = step.to_bureau == came_from
                    _count_hand_over(found, plan.tree, step, back=back)
                    # Whoever gets a case back may send it there again: that is no return.
                    bureau, came_from = step.to_bureau, "" if back else step.from_bureau
                case Wait():
                    found[bureau].deferred += 1
                case Complete():
                    found[bureau].completed += 1
                case Depart() | Resume():
                    pass
        for segment in segments_of(case, plan.ends_at or case.registered_at, calendar):
            found[segment.bureau].met += segment.outcome is ClockOutcome.MET
            found[segment.bureau].missed += segment.outcome is ClockOutcome.MISSED
    return PlanFigures(dict(found))


def segments_of(case: CaseHistory, ends_at: dt.datetime, calendar: WorkingCalendar) -> Iterator[Segment]:
    """The handling clocks of a case, in their order, as SPEC §4 and the lifecycle have them.

    A clock starts
    - at the registration, unless the first step is a dispatch: then there, the case having been forwarded till then;
    - at the receipt of a referral, which the first dispatch after it does not renew;
    - at a dispatch to another department, the one before having given the case back;
    - at the end of a wait.

    It runs five working days after the day it starts on, and stops at the next of these, at a wait, or at completion.
    """
    steps = case.steps
    dispatched = not _departs(steps, 0)
    clock = _Clock(case, case.origin, case.registered_at, calendar) if dispatched else None
    bureau = case.origin
    for position, step in enumerate(steps, 1):
        end = _END_BY_STEP[type(step)]
        renewed = isinstance(step, Depart) and not dispatched and clock is not None
        if clock is not None and end is not None and not renewed:
            yield clock.stopped(step.at, end)
            clock = None
        match step:
            case Complete():
                return
            case HandOver():
                bureau, dispatched = step.to_bureau, not _departs(steps, position)
            case Depart():
                dispatched = True
            case Wait() | Resume():
                pass
        if clock is None and not isinstance(step, Wait):
            clock = _Clock(case, bureau, step.at, calendar)
    if clock is not None:
        yield clock.stopped(ends_at, SegmentEnd.OPEN)


_END_BY_STEP: Final[Mapping[type[Step], SegmentEnd | None]] = {
    HandOver: SegmentEnd.REFERRED,
    Depart: SegmentEnd.RETURNED,
    Wait: SegmentEnd.DEFERRED,
    Resume: None,
    Complete: SegmentEnd.COMPLETED,
}


def _departs(steps: tuple[Step, ...], position: int) -> bool:
    return position < len(steps) and isinstance(steps[position], Depart)


class _Clock:
    """One handling clock while it runs."""

    def __init__(self, case: CaseHistory, bureau: str, started_at: dt.datetime, calendar: WorkingCalendar) -> None:
        self._case_ref = case.case_ref
        self._bureau = bureau
        self._started_at = started_at
        self._deadline = calendar.deadline(started_at, HANDLE_WORKDAYS)

    def stopped(self, at: dt.datetime, end: SegmentEnd) -> Segment:
        in_time = ClockOutcome.MET if end is SegmentEnd.COMPLETED else ClockOutcome.VOID
        return Segment(
            bureau=self._bureau,
            case_ref=self._case_ref,
            started_at=self._started_at,
            ended_at=at,
            due_day=self._deadline.due_day,
            end=end,
            outcome=ClockOutcome.MISSED if at >= self._deadline.due_at else in_time,
        )


def _count_hand_over(found: defaultdict[str, BureauFigures], tree: LogTree, step: HandOver, *, back: bool) -> None:
    sender = found[step.from_bureau]
    match tree.direction(step.from_bureau, step.to_bureau):
        case _ if back:
            sender.returned += 1
        case Direction.UP:
            sender.referred_up += 1
        case Direction.DOWN:
            sender.referred_down += 1
        case Direction.ACROSS:
            sender.referred_across += 1
    found[step.to_bureau].received += 1
    for relay in tree.relays(step.from_bureau, step.to_bureau):
        found[relay].relayed += 1
