"""What is counted, and by one definition each: facts, deadlines met and missed, working days taken, and the rates.

A measure is a number that is added up and nothing else, so that a superior's figure is the sum of its subordinates' and
a month's the sum of its days. Rates and percentiles are computed from sums when they are asked for: there is no average
of averages anywhere.
"""

from bisect import bisect_left
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, ReferralKind, Satisfaction
from kuaixiang.wire.v1.journal_pb2 import ClockChange, Entry

MICROS_PER_DAY: Final = 86_400_000_000
SHANGHAI_MICROS: Final = 8 * 3_600_000_000
"""China's legal time is UTC+8 all the year."""

HISTOGRAM_EDGES_WORKDAYS: Final = (0.5, 1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 15.0, 20.0)
"""Upper edges, included, in working days; one more bucket lies above the last. Fixed for ever: histograms with the same
edges merge exactly."""
_EDGES_MILLI: Final = tuple(int(edge * 1000) for edge in HISTOGRAM_EDGES_WORKDAYS)
BUCKETS: Final = len(HISTOGRAM_EDGES_WORKDAYS) + 1


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


def measure_name(measure: int) -> str:
    """What a measure's number says, in words, such as `registered` or `handle_met`."""
    if measure in FACT_NAMES:
        return FACT_NAMES[measure]
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
}
"""Events that are counted the same whatever they carry. `completed`, `followed_up` and `released` are looked into."""

EVENTS: Final = frozenset(_BY_EVENT) | {"completed", "followed_up", "released"}
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
}

_OVERDUE: Final = int(ClockAction.OVERDUE)
_STOPPED: Final = int(ClockAction.STOPPED)
_MET_OUTCOME: Final = int(ClockOutcome.MET)
_COUNTED_OUTCOMES: Final = frozenset({int(ClockOutcome.MET), int(ClockOutcome.MISSED)})
_CLOCKS: Final = frozenset(map(int, ClockKind))


def measures(entry: Entry) -> list[tuple[int, int]]:
    """What one journal entry adds: (measure, day), each standing for one more.

    A deadline counts once: as missed when the ledger records that it has run out, as met when the duty is done before.
    That a missed one is done later adds no second count, only to the working days taken. An event or a clock that this
    version does not know adds nothing.
    """
    day = shanghai_day(entry.occurred_at_us)
    event = entry.WhichOneof("event")
    found = [(fact, day) for fact in _facts(event, entry)]
    for change in entry.clocks:
        _count_clock(change, day, found)
    return found


def _facts(event: str | None, entry: Entry) -> tuple[int, ...]:
    if event is None:
        return ()
    plain = _BY_EVENT.get(event)
    if plain is not None:
        return plain
    if event == "completed":
        return (Fact.COMPLETED, Fact.COMPLETED_JOINTLY) if entry.completed.jointly else (Fact.COMPLETED,)
    if event == "followed_up":
        answer = _BY_SATISFACTION.get(entry.followed_up.satisfaction)
        return (Fact.FOLLOWED_UP,) if answer is None else (Fact.FOLLOWED_UP, answer)
    if entry.released.relayed:
        return (Fact.RELAYED,)
    direction = _BY_REFERRAL.get(entry.released.referral_kind)
    return () if direction is None else (direction,)


def _count_clock(change: ClockChange, day: int, found: list[tuple[int, int]]) -> None:
    action, kind = change.action, change.kind
    if kind not in _CLOCKS:
        return
    if action == _OVERDUE:
        found.append((_MISSED + kind, due_day(change.due_at_us)))
    elif action == _STOPPED:
        outcome = change.outcome
        if outcome == _MET_OUTCOME:
            found.append((_MET + kind, due_day(change.due_at_us)))
        if outcome in _COUNTED_OUTCOMES:
            found.append((taken(kind, bucket_of(change.elapsed_milli_workdays)), day))


# ---------------------------------------------------------------- rates


@dataclass(frozen=True, slots=True)
class RateDefinition:
    """A rate: the sum of some measures over the sum of others, of the same period and bureaus."""

    name: str
    label: str
    numerator: tuple[int, ...]
    denominator: tuple[int, ...]
    sentence: str


def _on_time(kind: ClockKind, label: str, duty: str) -> RateDefinition:
    return RateDefinition(
        name=f"on_time_{kind.name.lower()}",
        label=label,
        numerator=(met(kind),),
        denominator=(met(kind), missed(kind)),
        sentence=f"Of the deadlines for {duty} that fell due in the period, the share that was met.",
    )


_REACHED: Final = (int(Fact.SATISFIED), int(Fact.BASICALLY_SATISFIED), int(Fact.NOT_SATISFIED))

RATES: Final = (
    RateDefinition(
        name="on_time",
        label="按时办理率",
        numerator=(met(ClockKind.HANDLE), met(ClockKind.JOINT)),
        denominator=(
            met(ClockKind.HANDLE),
            missed(ClockKind.HANDLE),
            met(ClockKind.JOINT),
            missed(ClockKind.JOINT),
        ),
        sentence="Of the deadlines for handling, alone or jointly (§四(二)), that fell due in the period, the share "
        "that was met. An extension approved in time moves the deadline; a deferred case has none.",
    ),
    _on_time(ClockKind.FORWARD, "按时转交率", "forwarding a registration to the tax-service department (§四(一)2)"),
    _on_time(ClockKind.DISPATCH, "按时分办率", "dispatching to a department (§四(二))"),
    _on_time(ClockKind.HANDLE, "按时主办率", "handling by one department (§四(二)1)"),
    _on_time(ClockKind.JOINT, "按时联办率", "each department's part of joint handling (§四(二)2)"),
    _on_time(ClockKind.FOLLOW_UP, "按时回访率", "follow-up (§四(四))"),
    RateDefinition(
        name="feedback_in_time",
        label="反馈及时率",
        numerator=(met(ClockKind.FEEDBACK),),
        denominator=(met(ClockKind.FEEDBACK), missed(ClockKind.FEEDBACK)),
        sentence="Of the deadlines for feedback (§四(三)) that fell due in the period, the share that was met; answers "
        "on the spot have no such deadline.",
    ),
    RateDefinition(
        name="completion",
        label="办结率",
        numerator=(int(Fact.COMPLETED),),
        denominator=(int(Fact.REGISTERED),),
        sentence="Cases completed in the period for every case registered in it, by these bureaus. Above one where "
        "they complete what others, or an earlier period, registered.",
    ),
    RateDefinition(
        name="on_the_spot",
        label="即时答复率",
        numerator=(int(Fact.COMPLETED_ON_THE_SPOT),),
        denominator=(int(Fact.REGISTERED),),
        sentence="Cases answered on the spot (§四(一)2) for every case registered in the period.",
    ),
    RateDefinition(
        name="follow_up",
        label="有效回访率",
        numerator=_REACHED,
        denominator=(int(Fact.FOLLOWED_UP),),
        sentence="Of the follow-ups recorded in the period (§四(四)), the share that reached the taxpayer. Whether "
        "they came in time is another rate, on_time_follow_up.",
    ),
    RateDefinition(
        name="satisfaction",
        label="满意率",
        numerator=(int(Fact.SATISFIED), int(Fact.BASICALLY_SATISFIED)),
        denominator=_REACHED,
        sentence="Of the taxpayers reached by follow-up in the period, the share that was satisfied or basically "
        "satisfied.",
    ),
)
"""The one definition of each rate, shown with it wherever it is shown."""


def total(sums: Mapping[int, int], wanted: Iterable[int]) -> int:
    """The sum of some measures."""
    return sum(sums.get(measure, 0) for measure in wanted)


def histogram(sums: Mapping[int, int], kind: int) -> list[int]:
    """The histogram of working days that clocks of this kind took."""
    return [sums.get(taken(kind, bucket), 0) for bucket in range(BUCKETS)]


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
