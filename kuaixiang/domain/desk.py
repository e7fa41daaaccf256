"""A case before somebody: what every decision needs, and the words the decisions share."""

from dataclasses import dataclass
from datetime import datetime, time, timedelta
from typing import Any

from kuaixiang.domain import clocks
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.events import ClockChange, Private
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX, at_most
from kuaixiang.domain.staff import UNLISTED, Staff
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, Role, Stage


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who acts, in what capacity, when, and the rules of the place.

    `new_id` serves when the act needs a fresh one: a case's number to register, a referral's to refer, what tells an
    order from its namesakes. `lead` is the case that the act names as the one to link to, as this ledger has it;
    `is_lead` says that others are linked to the case itself, `is_attached` that the case has the file already that the
    act would attach.
    """

    bureau: str
    actor: str
    role: Role
    department: str
    now: datetime
    occurred_at: datetime
    tree: BureauTree
    calendar: WorkingCalendar
    rules: Rules
    staff: Staff = UNLISTED
    new_id: str = ""
    lead: Case | None = None
    is_lead: bool = False
    is_attached: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Desk:
    """A case, who acts on it, and the stage that the lifecycle gives it by the act."""

    case: Case
    context: Context
    stage: Stage

    @property
    def at(self) -> datetime:
        """When it happens."""
        return self.context.occurred_at

    def frame(self, *changes: ClockChange, note: str = "") -> dict[str, Any]:
        """What every event says besides its own particulars."""
        at_most(note, "note", NOTE_CHARACTERS_MAX)
        return {
            "stage": self.stage,
            "epoch": self.case.epoch,
            "clocks": changes,
            "private": Private(note=note) if note else None,
        }

    def start(self, kind: ClockKind, workdays: int, department: str = "") -> ClockChange:
        """A clock of the bureau, or of a department of it, starts."""
        context = self.context
        return clocks.start(
            kind,
            self.at,
            workdays,
            context.calendar,
            department=department,
            department_kind=context.staff.kind_of(department) if department else None,
        )

    def fulfil(self, kind: ClockKind, department: str | None = None) -> tuple[ClockChange, ...]:
        """Stops a clock whose duty is done; nothing when it does not run."""
        clock = self.case.clock(kind, department)
        return clocks.stop(clock, self.at, self.context.calendar, fulfilled=True) if clock else ()

    def void(self, kind: ClockKind, department: str | None = None) -> tuple[ClockChange, ...]:
        """Stops the clocks of a kind, of one department where it is named: not by their duty done."""
        named = (one for one in self.case.clocks if one.kind is kind and department in {None, one.department})
        return clocks.stop_each(named, self.at, self.context.calendar, fulfilled=False)

    def stop_all(self, at: datetime | None = None) -> tuple[ClockChange, ...]:
        """Stops every clock: something other than their duties ended them."""
        return clocks.stop_each(self.case.clocks, at or self.at, self.context.calendar, fulfilled=False)


def shown(at: datetime) -> str:
    """An instant as officers read it: the time in China; midnight as the end of the day that it ends."""
    local = at.astimezone(SHANGHAI)
    if local.time() == time.min:
        return f"{local.date() - timedelta(days=1)} 24:00"
    return f"{local:%Y-%m-%d %H:%M:%S}"
