"""What a bureau does is counted by the field's words, and a journal's wait for its stream by what looks have shown."""

from datetime import datetime, timedelta
from enum import IntEnum

import pytest
from prometheus_client import REGISTRY

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.events import BecameOverdue, ClockChange, Completed, Entry, Event, Registered
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Light,
    ReferralKind,
    Refusal,
    Role,
    Satisfaction,
    Stage,
)
from node.events.tail import Tail
from node.ledger import counting

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
BUREAU = "999901"


def entry(event: Event) -> Entry:
    return Entry(
        bureau=BUREAU,
        case_id="case",
        version=1,
        recorded_at=MONDAY,
        occurred_at=MONDAY,
        actor="R01",
        role=Role.REGISTRAR,
        department="hall",
        category=Category.POLICY,
        channel=Channel.COUNTER,
        event=event,
    )


def clock(action: ClockAction, outcome: ClockOutcome | None = None) -> ClockChange:
    return ClockChange(
        kind=ClockKind.HANDLE,
        action=action,
        started_at=MONDAY,
        due_at=MONDAY + timedelta(days=7),
        limit_workdays=5,
        calendar_version="2026.1",
        outcome=outcome,
        elapsed_milli_workdays=6_500 if outcome else 0,
    )


def counted(metric: str, **labels: str) -> float | None:
    return REGISTRY.get_sample_value(metric, {"bureau": BUREAU, **labels})


@pytest.mark.parametrize("kind", [Channel, ClockKind, Light, ReferralKind, Refusal, Satisfaction, Stage])
def test_a_word_is_its_own_enumerations_whatever_its_number(kind: type[IntEnum]) -> None:
    assert [one.name.lower() for one in kind] == [counting.word(one) for one in kind]


def test_a_deadline_that_is_missed_and_done_later_counts_once_and_the_days_it_took_too() -> None:
    counting.begin([BUREAU])
    assert 0 == counted("kx_deadlines_missed_total", clock="handle")
    registered = entry(Registered(stage=Stage.REGISTERED, epoch=1))
    late = entry(BecameOverdue(stage=Stage.HANDLING, epoch=1, clocks=(clock(ClockAction.OVERDUE),)))
    stopped = (clock(ClockAction.STOPPED, ClockOutcome.MISSED),)
    counting.count([registered, late, entry(Completed(stage=Stage.COMPLETED, epoch=1, jointly=False, clocks=stopped))])
    assert 1 == counted("kx_cases_registered_total", channel="counter")
    assert 1 == counted("kx_cases_closed_total", way="completed")
    assert (
        1 == counted("kx_deadlines_due_total", clock="handle") == counted("kx_deadlines_missed_total", clock="handle")
    )
    assert 6.5 == counted("kx_clock_workdays_sum", clock="handle")


def test_a_journal_waits_from_the_look_that_finds_it_ahead_until_something_of_it_is_acknowledged() -> None:
    tail = Tail("110000", BUREAU, 10)
    assert 0 == tail.waits(10, now=100)
    assert 0 == tail.waits(12, now=200)
    assert 30 == tail.waits(15, now=230)
    tail.acknowledged = 12
    assert 0 == tail.waits(15, now=240)
    assert 5 == tail.waits(15, now=245)
    tail.acknowledged = 15
    assert 0 == tail.waits(15, now=250)
