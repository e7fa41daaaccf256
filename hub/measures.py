"""What is counted: facts, deadlines met and missed, working days taken.

A measure is a number that is added up and nothing else, so that a superior's figure is the sum of its subordinates' and
a month's the sum of its days. Rates (`hub.definitions`) and percentiles are computed from sums when they are asked for:
there is no average of averages anywhere.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import Final

from hub.cells import CELL_BITS, Cell
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, DepartmentKind, ReferralKind, Satisfaction
from kuaixiang.wire.v1.journal_pb2 import ClockChange, Entry

DEFINITIONS: Final = 3
"""Raised whenever an entry comes to add something else than before: a hub whose tables hold the sums of another number
folds every ledger again. 2: department kinds, rulings. 3: supervision orders."""

MICROS_PER_DAY: Final = 86_400_000_000
SHANGHAI_MICROS: Final = 8 * 3_600_000_000
"""China's legal time is UTC+8 all the year."""

HISTOGRAM_EDGES_WORKDAYS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)
"""Upper edges, included, in working days; one more bucket lies above the last. Fixed for ever: histograms with the same
edges merge exactly."""
_EDGES_MILLI: Final = tuple(int(edge * 1000) for edge in HISTOGRAM_EDGES_WORKDAYS)
BUCKETS: Final = len(HISTOGRAM_EDGES_WORKDAYS) + 1


NOT_SMALL: Final = ~15
"""Categories, channels and kinds of departments take four bits each of a cell's number."""


class NoSuchDepartment(Exception):
    """A clock is of a kind of department that cannot be."""

    def __init__(self, kind: int) -> None:
        self.kind = kind
        super().__init__(f"there is no kind of department {kind}")


class Fact(IntEnum):
    """Something that happened to a case and is counted on the Shanghai day on which it occurred.

    The number is the measure's number in the hub's tables and never changes.
    """

    REGISTERED = 1
    COMPLETED = 2
    """Every completion, those on the spot and jointly included; a reopened case can be completed again."""
    COMPLETED_ON_THE_SPOT = 3
    COMPLETED_JOINTLY = 4
    FORWARDED = 5
    ACCEPTED_DIRECTLY = 6
    DISPATCHED = 7
    DISPATCH_RETURNED = 8
    FED_BACK = 9
    FOLLOWED_UP = 10
    """Every follow-up recorded, reached or not."""
    SATISFIED = 11
    BASICALLY_SATISFIED = 12
    NOT_SATISFIED = 13
    NOT_REACHED = 14
    EXTENSION_ASKED = 15
    EXTENDED = 16
    EXTENSION_REFUSED = 17
    DEFERRED = 18
    RESUMED = 19
    TO_RECONSIDERATION = 20
    WITHDRAWN = 21
    REFERRED_UP = 22
    REFERRED_DOWN = 23
    REFERRED_ACROSS = 24
    """Sent by its own decision to a bureau elsewhere in the tree."""
    RELAYED = 25
    """Passed on for others, whatever the direction."""
    RETURNED_REFERRAL = 26
    RECEIVED = 27
    OFFER_REFUSED = 28
    REOPENED = 29
    CONCLUDED = 30
    """Concluded by the bureau it had been referred to."""
    WRITTEN_OFF = 31
    REFERRED_FOR_RULING = 32
    """Sent to the lowest common superior, which decides who handles it."""
    ORDERS_ISSUED = 60
    """Supervision orders (督办): issued by the bureau itself, those derived from another included."""
    ORDERS_RECEIVED = 61
    """For the bureau to answer; what it only passes on is not counted."""
    ORDERS_ACKNOWLEDGED = 62
    ORDERS_ANSWERED = 63
    """Every answer; one that was returned can be followed by another."""
    ORDER_ANSWERS_RETURNED = 64
    """Answers that the bureau, as issuer, did not accept."""
    ORDERS_CLOSED = 65
    ORDERS_CANCELLED = 66


FACT_NAMES: Final[Mapping[int, str]] = {fact: fact.name.lower() for fact in Fact}

_MET: Final = 100
_MISSED: Final = 200
_TAKEN: Final = 1_000
_TAKEN_STEP: Final = 100


def met(kind: int) -> int:
    """Number of the measure "deadlines of this clock that were met", on the day they fell due."""
    return _MET + kind


def missed(kind: int) -> int:
    """Number of the measure "deadlines of this clock that were missed", on the day they fell due."""
    return _MISSED + kind


def taken(kind: int, bucket: int) -> int:
    """Number of the measure "clocks stopped that took as many working days", on the day they were stopped."""
    return _TAKEN + _TAKEN_STEP * kind + bucket


UNFINISHED: Final = 50_000
"""Number of the stock "cases not finished at the end of the period", which is no tally but follows from them."""


def measure_name(measure: int) -> str:
    """What a measure's number says, in words, such as `registered` or `handle_met`."""
    if measure in FACT_NAMES:
        return FACT_NAMES[measure]
    if measure == UNFINISHED:
        return "unfinished"
    if measure >= _TAKEN:
        kind, bucket = divmod(measure - _TAKEN, _TAKEN_STEP)
        edge = f"{HISTOGRAM_EDGES_WORKDAYS[bucket]:g}" if bucket < BUCKETS - 1 else "more"
        return f"{ClockKind(kind).name.lower()}_workdays_{edge}"
    word, kind = ("missed", measure - _MISSED) if measure >= _MISSED else ("met", measure - _MET)
    return f"{ClockKind(kind).name.lower()}_{word}"


def shanghai_day(instant_us: int) -> int:
    """The day in Shanghai that an instant belongs to, as days since 1970-01-01."""
    return (instant_us + SHANGHAI_MICROS) // MICROS_PER_DAY


def due_day(due_at_us: int) -> int:
    """The day that a deadline ends. A deadline is 24:00 of its last day, which is the first instant of the next."""
    return (due_at_us + SHANGHAI_MICROS - 1) // MICROS_PER_DAY


def bucket_of(elapsed_milli_workdays: int) -> int:
    """The histogram's bucket for a number of thousandths of working days."""
    return bisect_left(_EDGES_MILLI, elapsed_milli_workdays)


_BY_EVENT: Final[Mapping[str, tuple[int, ...]]] = {
    "registered": (Fact.REGISTERED,),
    "answered_on_the_spot": (Fact.COMPLETED, Fact.COMPLETED_ON_THE_SPOT, Fact.FED_BACK),
    "taxpayer_told": (),
    "forwarded": (Fact.FORWARDED,),
    "dispatched": (Fact.DISPATCHED,),
    "dispatch_returned": (Fact.DISPATCH_RETURNED,),
    "accepted_directly": (Fact.ACCEPTED_DIRECTLY,),
    "extension_asked": (Fact.EXTENSION_ASKED,),
    "extension_approved": (Fact.EXTENDED,),
    "extension_refused": (Fact.EXTENSION_REFUSED,),
    "joint_handling_started": (),
    "part_completed": (),
    "feedback_given": (Fact.FED_BACK,),
    "reopened": (Fact.REOPENED,),
    "case_withdrawn": (Fact.WITHDRAWN,),
    "deferred": (Fact.DEFERRED,),
    "resumed": (Fact.RESUMED,),
    "sent_to_reconsideration": (Fact.TO_RECONSIDERATION,),
    "offered": (),
    "offer_withdrawal_asked": (),
    "offer_refused": (Fact.OFFER_REFUSED,),
    "received": (Fact.RECEIVED,),
    "offer_declined": (),
    "concluded": (Fact.CONCLUDED,),
    "conclusion_revoked": (),
    "conclusion_delivered": (),
    "written_off": (Fact.WRITTEN_OFF,),
    "became_overdue": (),
    "became_due_soon": (),
    "clocks_recomputed": (),
    "calendar_adopted": (),
    "tree_adopted": (),
    "directive_published": (),
    "ledgers_reconciled": (),
    "mismatch_found": (),
    "mismatch_cleared": (),
    "absent_case_found": (),
    "absent_case_cleared": (),
    "private_read": (),
    "attachment_read": (),
    "snapshot_given_back": (),
    "ledger_exported": (),
    "ledger_doubted": (),
    "ledger_trusted": (),
    "generation_opened": (),
    "snapshot_restored": (),
    "private_parts_lost": (),
    "private_erased": (),
    "order_issued": (Fact.ORDERS_ISSUED,),
    "order_arrived": (),
    "order_delivered": (),
    "order_clock_noted": (),
    "linked": (),
    "unlinked": (),
    "part_returned": (Fact.DISPATCH_RETURNED,),
    "part_added": (),
    "extension_explained": (),
    "ruled": (),
    "override_asked": (),
    "override_approved": (),
    "override_refused": (),
    "issue_linked": (),
    "attachment_added": (),
}
"""Events that are counted the same whatever they carry. `completed`, `followed_up` and `released` are looked into."""

_FACTS_BY_EVENT: Final = {event: tuple(map(int, facts)) for event, facts in _BY_EVENT.items()}
"""The same as plain numbers, which are quicker to put into a cell than members of an enumeration."""

_BY_ORDER_EVENT: Final[Mapping[str, Fact]] = {
    "order_received": Fact.ORDERS_RECEIVED,
    "order_acknowledged": Fact.ORDERS_ACKNOWLEDGED,
    "order_answered": Fact.ORDERS_ANSWERED,
    "order_answer_returned": Fact.ORDER_ANSWERS_RETURNED,
    "order_closed": Fact.ORDERS_CLOSED,
    "order_cancelled": Fact.ORDERS_CANCELLED,
}
"""Events that every ledger on an order's way records; each is counted at the one bureau whose doing it is."""

EVENTS: Final = frozenset(_BY_EVENT) | frozenset(_BY_ORDER_EVENT) | {"completed", "followed_up", "released"}
"""Every event there is; a test holds it against the wire."""

_BY_SATISFACTION: Final[Mapping[int, int]] = {
    Satisfaction.SATISFIED: Fact.SATISFIED,
    Satisfaction.BASICALLY: Fact.BASICALLY_SATISFIED,
    Satisfaction.NOT_SATISFIED: Fact.NOT_SATISFIED,
    Satisfaction.NOT_REACHED: Fact.NOT_REACHED,
}
_BY_REFERRAL: Final[Mapping[int, int]] = {
    ReferralKind.ESCALATE: Fact.REFERRED_UP,
    ReferralKind.REFER: Fact.REFERRED_DOWN,
    ReferralKind.RELAY: Fact.REFERRED_ACROSS,
    ReferralKind.RETURN: Fact.RETURNED_REFERRAL,
    ReferralKind.ARBITRATE: Fact.REFERRED_FOR_RULING,
}
_DUTY_OF: Final[Mapping[int, int]] = {
    int(ClockKind.FORWARD): 0,
    int(ClockKind.DISPATCH): int(DepartmentKind.TAX_SERVICE),
    int(ClockKind.FOLLOW_UP): int(DepartmentKind.TAX_SERVICE),
}
"""Whose duty a clock is where the entry's department in charge is another's: the entry that ends it names the
department that the case has gone to. Dispatching and following up are tax service's (§四(一)2, §四(四)); who registered
a case is not told by then, so that forwarding counts for no kind."""

_OVERDUE: Final = int(ClockAction.OVERDUE)
_STOPPED: Final = int(ClockAction.STOPPED)
COUNTED_ACTIONS: Final = frozenset({_OVERDUE, _STOPPED})
"""What a clock does that is counted."""
_MET_OUTCOME: Final = int(ClockOutcome.MET)
_COUNTED_OUTCOMES: Final = frozenset({int(ClockOutcome.MET), int(ClockOutcome.MISSED)})
_CLOCKS: Final = frozenset(map(int, ClockKind))
_ORDER: Final = int(ClockKind.ORDER)


def count_event(entry: Entry, in_charge: int, day: int, ground: Cell, into: list[int]) -> None:
    """Add what has happened by one journal entry, each fact one more: its day above the bits of its cell.

    `day` is the entry's in Shanghai, `ground` the cell of its category and channel, `in_charge` its kind of department.
    An event that this version does not know adds nothing.
    """
    event = entry.WhichOneof("event")
    facts = () if event is None else _FACTS_BY_EVENT.get(event)
    if facts is None:
        facts = _facts(str(event), entry)
    if facts:
        place = day << CELL_BITS | ground | in_charge << 16
        for fact in facts:
            into.append(place | fact)  # noqa: PERF401 - mostly one


def count_clock(  # noqa: PLR0917 - called for almost every entry, where names cost
    change: ClockChange, kind: int, action: int, in_charge: int, day: int, ground: Cell, into: list[int]
) -> None:
    """Add what an entry says of one of its clocks, in the same way, if the action is one of `COUNTED_ACTIONS`.

    A deadline counts once: as missed when the ledger records that it has run out, as met when the duty is done before.
    That a missed one is done later adds no second count, only to the working days taken. A clock that this version does
    not know adds nothing. `kind` and `action` are the change's. Raises `NoSuchDepartment`.
    """
    if kind not in _CLOCKS or (kind == _ORDER and change.department):
        # The clock of an order that another bureau is to answer counts in that bureau's ledger.
        return
    outcome = change.outcome
    if action == _STOPPED and outcome not in _COUNTED_OUTCOMES:
        return
    whose = change.department_kind or _DUTY_OF.get(kind, in_charge)
    if whose & NOT_SMALL:
        raise NoSuchDepartment(whose)
    of_whom = ground | whose << 16
    if action == _OVERDUE:
        into.append(due_day(change.due_at_us) << CELL_BITS | of_whom | _MISSED + kind)
        return
    if outcome == _MET_OUTCOME:
        into.append(due_day(change.due_at_us) << CELL_BITS | of_whom | _MET + kind)
    into.append(day << CELL_BITS | of_whom | taken(kind, bucket_of(change.elapsed_milli_workdays)))


def _facts(event: str, entry: Entry) -> tuple[int, ...]:
    """The facts of an event that has to be looked into."""
    if event in _BY_ORDER_EVENT:
        own = getattr(entry, event)
        elsewhere = own.to_bureau if event == "order_received" else own.from_bureau
        return () if elsewhere else (_BY_ORDER_EVENT[event],)
    if event == "completed":
        return (Fact.COMPLETED, Fact.COMPLETED_JOINTLY) if entry.completed.jointly else (Fact.COMPLETED,)
    if event == "followed_up":
        answer = _BY_SATISFACTION.get(entry.followed_up.satisfaction)
        return (Fact.FOLLOWED_UP,) if answer is None else (Fact.FOLLOWED_UP, answer)
    if entry.released.relayed:
        return (Fact.RELAYED,)
    direction = _BY_REFERRAL.get(entry.released.referral_kind)
    return () if direction is None else (direction,)


# ---------------------------------------------------------------- sums


def total(sums: Mapping[int, int], wanted: Iterable[int]) -> int:
    """The sum of some measures."""
    found = 0
    get = sums.get
    for measure in wanted:
        found += get(measure, 0)
    return found


_TAKEN_BY: Final = {kind: tuple(taken(kind, bucket) for bucket in range(BUCKETS)) for kind in ClockKind}
_CLOCK_OF: Final = {measure: kind for kind in ClockKind for measure in (met(kind), missed(kind), *_TAKEN_BY[kind])}


def clocks_in(sums: Mapping[int, int]) -> list[ClockKind]:
    """The clocks of which something has been counted."""
    return sorted({_CLOCK_OF[measure] for measure in _CLOCK_OF.keys() & sums if sums[measure]})


def histogram(sums: Mapping[int, int], kind: ClockKind) -> list[int]:
    """The histogram of working days that clocks of this kind took."""
    get = sums.get
    return [get(measure, 0) for measure in _TAKEN_BY[kind]]


def percentile_workdays(counts: list[int], share: float) -> float:
    """The working days within which that share of the clocks was stopped, linear within a bucket; 0 without a clock.

    The bucket above the last edge has no upper end: its percentiles are the last edge, a lower bound.
    """
    wanted = share * sum(counts)
    if wanted <= 0:
        return 0.0
    below = 0
    lower = 0.0
    for count, upper in zip(counts, HISTOGRAM_EDGES_WORKDAYS, strict=False):
        if count and below + count >= wanted:
            return lower + (upper - lower) * (wanted - below) / count
        below += count
        lower = upper
    return HISTOGRAM_EDGES_WORKDAYS[-1]
