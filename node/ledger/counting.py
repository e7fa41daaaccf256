"""What a node's bureaus do, counted entry by entry as it is committed, for Prometheus.

Counters of this process: they begin at 0 with it, and rates bridge a restart. What is counted for good, by the rules of
the notice, are the hub's figures; these say how the work flows, bureau by bureau, while it does.

Every label but the bureau is a word of an enumeration, so that a bureau has at most `SERIES_MAX` series. Counting costs
the writer's thread a few lookups an entry: a batch's counts are added up before Prometheus' own counters are touched.
Only how long a clock ran is given to its histogram one by one.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import Any, Final

from prometheus_client import Counter, Histogram

from kuaixiang.domain import events
from kuaixiang.domain.events import ClockChange, Entry, Event
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome

SERIES_MAX: Final = 400
"""Series that hold a bureau's code, at most: a province's Prometheus keeps those of a hundred bureaus in memory."""
WORKDAYS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)
"""Upper edges, in working days: the limits of the notice (3 to forward and to answer, 5, 10, 15) are among them."""

REGISTERED: Final = Counter("kx_cases_registered_total", "Cases registered.", ["bureau", "channel"])
CLOSED: Final = Counter(
    "kx_cases_closed_total",
    "Cases that ended here, by way: answered_on_the_spot, completed, withdrawn, reconsideration.",
    ["bureau", "way"],
)
REOPENED: Final = Counter("kx_cases_reopened_total", "Cases to be handled once more.", ["bureau"])
RETURNED: Final = Counter(
    "kx_dispatches_returned_total", "Dispatches, and parts of joint handlings, that a department gave back.", ["bureau"]
)
EXTENSIONS: Final = Counter(
    "kx_extensions_total", "Extensions of deadlines, by result: asked, approved, refused.", ["bureau", "result"]
)
FOLLOW_UPS: Final = Counter(
    "kx_follow_ups_total",
    "Follow-ups, by what the taxpayer said, or that he was not reached.",
    ["bureau", "satisfaction"],
)
REFERRALS: Final = Counter(
    "kx_referrals_total",
    "Hand-overs between bureaus, by the direction of the journey and result: offered, released (accepted by the peer), "
    "received (accepted here).",
    ["bureau", "direction", "result"],
)
REFERRALS_REFUSED: Final = Counter(
    "kx_referrals_refused_total",
    "Hand-overs refused by rule, by whom (peer: the peer refused ours; here: we refused the peer's) and reason.",
    ["bureau", "by", "reason"],
)
ORDERS: Final = Counter(
    "kx_orders_total",
    "What the bureau itself did about supervision orders: issued, received, acknowledged, answered, returned, closed, "
    "cancelled.",
    ["bureau", "step"],
)
DUE: Final = Counter(
    "kx_deadlines_due_total", "Deadlines that were met or missed, each counted once, by clock.", ["bureau", "clock"]
)
MISSED: Final = Counter("kx_deadlines_missed_total", "Those of them that were missed.", ["bureau", "clock"])
TAKEN: Final = Histogram(
    "kx_clock_workdays",
    "Working days that clocks ran until the duty was done, by clock.",
    ["bureau", "clock"],
    buckets=WORKDAYS,
)

_Child = tuple[Counter, tuple[str, ...]]
"""A counter, and the values of its labels behind the bureau."""


def begin(bureaus: Iterable[str]) -> None:
    """Show every deadline's counters from 0 on, since a growth from nothing is none to Prometheus."""
    for bureau in bureaus:
        for kind in ClockKind:
            DUE.labels(bureau, word(kind))
            MISSED.labels(bureau, word(kind))


def count(entries: Iterable[Entry]) -> None:
    """Count what was committed."""
    tally: defaultdict[tuple[str, _Child], int] = defaultdict(int)
    for entry in entries:
        bureau, event = entry.bureau, entry.event
        look = _LOOKS.get(type(event))
        found = look(entry) if look is not None else None
        if found is not None:
            tally[bureau, found] += 1
        for change in event.clocks:
            if change.kind is ClockKind.ORDER and change.department:
                continue  # of an order that another bureau is to answer: it counts there
            for counter in _clock_counters(change):
                tally[bureau, (counter, (word(change.kind),))] += 1
            if change.action is ClockAction.STOPPED and change.outcome in _ANSWERED:
                TAKEN.labels(bureau, word(change.kind)).observe(change.elapsed_milli_workdays / 1000)
    for (bureau, (counter, labels)), times in tally.items():
        counter.labels(bureau, *labels).inc(times)


_ANSWERED: Final = frozenset({ClockOutcome.MET, ClockOutcome.MISSED})


def _clock_counters(change: ClockChange) -> tuple[Counter, ...]:
    """A deadline is missed when the ledger records that it has passed, met when the duty is done before."""
    if change.action is ClockAction.OVERDUE:
        return DUE, MISSED
    met = change.action is ClockAction.STOPPED and change.outcome is ClockOutcome.MET
    return (DUE,) if met else ()


# By type too: words of two enumerations with the same number are equal.
@lru_cache(maxsize=None, typed=True)
def word(of: IntEnum) -> str:
    """A label's value for a word of the field."""
    return of.name.lower()


_Look = Callable[[Any], _Child | None]
"""What an entry with a certain event adds one to."""


def _always(counter: Counter, *labels: str) -> _Look:
    child = (counter, labels)
    return lambda _: child


def _referral(result: str) -> _Look:
    return lambda entry: (REFERRALS, (word(entry.event.referral_kind), result))


def _refused(by: str) -> _Look:
    return lambda entry: (REFERRALS_REFUSED, (by, word(entry.event.refusal)))


def _order(step: str) -> _Look:
    """What the ledger's own bureau has done about an order; not what a neighbour told of it."""
    child = (ORDERS, (step,))
    return lambda entry: None if entry.event.from_bureau else child


_RECEIVED: Final = (ORDERS, ("received",))
_LOOKS: Final[Mapping[type[Event], _Look]] = {
    events.Registered: lambda entry: (REGISTERED, (word(entry.channel),)),
    events.AnsweredOnTheSpot: _always(CLOSED, "answered_on_the_spot"),
    events.Completed: _always(CLOSED, "completed"),
    events.CaseWithdrawn: _always(CLOSED, "withdrawn"),
    events.SentToReconsideration: _always(CLOSED, "reconsideration"),
    events.Reopened: _always(REOPENED),
    events.DispatchReturned: _always(RETURNED),
    events.PartReturned: _always(RETURNED),
    events.ExtensionAsked: _always(EXTENSIONS, "asked"),
    events.ExtensionApproved: _always(EXTENSIONS, "approved"),
    events.ExtensionRefused: _always(EXTENSIONS, "refused"),
    events.FollowedUp: lambda entry: (FOLLOW_UPS, (word(entry.event.satisfaction),)),
    events.Offered: _referral("offered"),
    events.Released: _referral("released"),
    events.Received: _referral("received"),
    events.OfferRefused: _refused("peer"),
    events.OfferDeclined: _refused("here"),
    events.OrderIssued: _always(ORDERS, "issued"),
    # What it only passes on is not its own.
    events.OrderReceived: lambda entry: None if entry.event.to_bureau else _RECEIVED,
    events.OrderAcknowledged: _order("acknowledged"),
    events.OrderAnswered: _order("answered"),
    events.OrderAnswerReturned: _order("returned"),
    events.OrderClosed: _order("closed"),
    events.OrderCancelled: _order("cancelled"),
}
"""Events that are counted; every other one is not."""
