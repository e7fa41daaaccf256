"""The work list of a bureau: which part of it a case is in.

1. What each tab means is in one table, `TABS`; lists and counts read it.
2. A case lies on one pile, by where it stands. What time does to it (due today, overdue) is asked of its nearest
   deadline when somebody looks, for no pile may change without an act.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, IntEnum
from types import MappingProxyType
from typing import Final

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.case import Case
from kuaixiang.domain.words import ClockKind, Custody, ReferralKind, Stage, WorkTab


class Pile(IntEnum):
    """What is to be done next with a case, as one bureau's ledger knows; each case is on one."""

    TO_FORWARD = 1
    TO_DISPATCH = 2
    TO_HANDLE = 3
    TO_FEED_BACK = 4
    TO_FOLLOW_UP = 5
    TO_WRITE_OFF = 6
    DEFERRED = 7
    ELSEWHERE = 8
    CONCLUDED_ELSEWHERE = 9
    """With another bureau, whose conclusion has come: it is written off here."""
    DONE = 10
    EXTENSION_ASKED = 11
    """At a department, and a leader is to decide whether it may take longer (§四(二)1-2)."""
    OVERRIDE_ASKED = 12
    """Only its write-off is left, and a leader is to decide whether a rule is set aside for it."""
    TO_RULE = 13
    """Sent up by bureaus that sent it to each other: a leader is to rule who handles it (§二(四))."""


class Due(Enum):
    """What a tab asks of a case's nearest deadline."""

    TODAY = "today"
    PASSED = "passed"


@dataclass(frozen=True, slots=True)
class Meaning:
    """Which cases a tab shows."""

    piles: frozenset[Pile]
    due: Due | None = None


OWN: Mapping[Stage, Pile] = MappingProxyType(
    {
        Stage.REGISTERED: Pile.TO_FORWARD,
        Stage.FORWARDED: Pile.TO_DISPATCH,
        Stage.HANDLING: Pile.TO_HANDLE,
        Stage.JOINT_HANDLING: Pile.TO_HANDLE,
        Stage.DEFERRED: Pile.DEFERRED,
        Stage.REFERRED: Pile.ELSEWHERE,
        Stage.COMPLETED: Pile.TO_FEED_BACK,
        Stage.FED_BACK: Pile.TO_WRITE_OFF,
        Stage.FOLLOWED_UP: Pile.TO_WRITE_OFF,
        Stage.CONCLUDED: Pile.TO_WRITE_OFF,
        Stage.RECONSIDERATION: Pile.TO_WRITE_OFF,
        Stage.WITHDRAWN: Pile.TO_WRITE_OFF,
        Stage.WRITTEN_OFF: Pile.DONE,
    }
)
"""The piles of cases that the bureau is responsible for; of those fed back, some wait for a follow-up (§四(四))."""

_HANDLED: Final = frozenset({Pile.TO_HANDLE, Pile.EXTENSION_ASKED})
_DISPATCHED: Final = frozenset({Pile.TO_DISPATCH, Pile.TO_RULE})
_OPEN: Final = _HANDLED | _DISPATCHED | {Pile.TO_FORWARD, Pile.TO_FEED_BACK, Pile.TO_FOLLOW_UP, Pile.DEFERRED}
"""Owned cases that a deadline may run for: what only awaits its write-off has none."""

TABS: Mapping[WorkTab, Meaning] = MappingProxyType(
    {
        WorkTab.TO_FORWARD: Meaning(frozenset({Pile.TO_FORWARD})),
        WorkTab.TO_DISPATCH: Meaning(_DISPATCHED),
        WorkTab.TO_HANDLE: Meaning(_HANDLED),
        WorkTab.DUE_TODAY: Meaning(_OPEN, Due.TODAY),
        WorkTab.OVERDUE: Meaning(_OPEN, Due.PASSED),
        WorkTab.TO_FEED_BACK: Meaning(frozenset({Pile.TO_FEED_BACK})),
        WorkTab.TO_FOLLOW_UP: Meaning(frozenset({Pile.TO_FOLLOW_UP})),
        WorkTab.TO_WRITE_OFF: Meaning(frozenset({Pile.TO_WRITE_OFF, Pile.OVERRIDE_ASKED, Pile.CONCLUDED_ELSEWHERE})),
        WorkTab.DEFERRED: Meaning(frozenset({Pile.DEFERRED})),
        WorkTab.ELSEWHERE: Meaning(frozenset({Pile.ELSEWHERE, Pile.CONCLUDED_ELSEWHERE})),
        WorkTab.TO_DECIDE: Meaning(frozenset({Pile.EXTENSION_ASKED, Pile.OVERRIDE_ASKED, Pile.TO_RULE})),
        WorkTab.ALL: Meaning(frozenset(Pile)),
    }
)
"""What each tab shows. Some cases are in two: one whose conclusion has come from elsewhere can be written off, and what
a leader is to decide about stays with those who handle it."""


def pile_of(case: Case) -> Pile:
    """The pile that a case lies on."""
    if case.stage is Stage.WRITTEN_OFF:
        return Pile.DONE
    if case.custody is not Custody.OWNED:
        return Pile.CONCLUDED_ELSEWHERE if case.stage is Stage.CONCLUDED else Pile.ELSEWHERE
    if case.extensions:
        return Pile.EXTENSION_ASKED
    if case.override_asked is not None:
        return Pile.OVERRIDE_ASKED
    if case.stage is Stage.FORWARDED and case.incoming is not None and case.incoming.kind is ReferralKind.ARBITRATE:
        return Pile.TO_RULE
    if case.stage is Stage.FED_BACK and case.clock(ClockKind.FOLLOW_UP) is not None:
        return Pile.TO_FOLLOW_UP
    return OWN[case.stage]


def end_of_today(now: datetime) -> datetime:
    """24:00 in Shanghai of the day of an instant: what is due today is due then."""
    day = now.astimezone(SHANGHAI).replace(hour=0, minute=0, second=0, microsecond=0)
    return day + timedelta(days=1)
