"""Lights: how near the nearest deadline of an open case is (SPEC §7), for superiors who look at many."""

from datetime import datetime

from kuaixiang.domain.case import Case
from kuaixiang.domain.words import Custody, Light, Stage

CLOSED_STAGES = frozenset({Stage.RECONSIDERATION, Stage.WITHDRAWN, Stage.WRITTEN_OFF})
"""A case at any other stage is open in the ledger that is responsible for it."""


def light_of(case: Case, now: datetime) -> Light:
    """The light of an open case: overdue before due soon before in time.

    An offered case waits for another bureau's decision and a deferred one for its conditions: neither is measured.
    """
    if case.custody is not Custody.OWNED or case.stage is Stage.DEFERRED or not case.clocks:
        return Light.STOPPED
    if any(clock.has_passed(now) for clock in case.clocks):
        return Light.OVERDUE
    if any(clock.is_close(now) for clock in case.clocks):
        return Light.DUE_SOON
    return Light.IN_TIME


def is_extended(case: Case) -> bool:
    """Whether a running deadline rests on an approved extension."""
    return any(clock.extended for clock in case.clocks)
