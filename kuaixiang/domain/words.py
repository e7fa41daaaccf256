"""The field's terms as enumerations, with the numbers they have on the wire.

A test holds each of them against the enumeration of the same name in `proto/kuaixiang/wire/v1/common.proto`.
"""

from enum import IntEnum


class Category(IntEnum):
    """诉求类别 (§三)."""

    POLICY = 1
    ENFORCEMENT = 2
    SERVICE = 3
    SYSTEMS = 4
    REMEDY = 5
    OTHER = 6


class Channel(IntEnum):
    """受理渠道 (§三, §五(二))."""

    HOTLINE = 1
    PLATFORM = 2
    WEBSITE = 3
    COUNTER = 4
    ASSOCIATION = 5
    OTHER = 6


class Stage(IntEnum):
    """Where a case stands in one bureau's ledger."""

    REGISTERED = 1
    FORWARDED = 2
    HANDLING = 3
    JOINT_HANDLING = 4
    DEFERRED = 5
    REFERRED = 6
    COMPLETED = 7
    FED_BACK = 8
    FOLLOWED_UP = 9
    CONCLUDED = 10
    RECONSIDERATION = 11
    WITHDRAWN = 12
    WRITTEN_OFF = 13


class Custody(IntEnum):
    """Whether this bureau is responsible for the case."""

    OWNED = 1
    OFFERED = 2
    RELEASED = 3


class Role(IntEnum):
    """岗位: in what capacity somebody acts."""

    REGISTRAR = 1
    TAX_SERVICE = 2
    HANDLER = 3
    DEPUTY_HEAD = 4
    BUREAU_HEAD = 5
    CHANNEL = 6
    SYSTEM = 7
    SUPERVISOR = 8
    AUDITOR = 9


class DepartmentKind(IntEnum):
    """部门类别."""

    TAX_SERVICE = 1
    POLICY = 2
    COLLECTION = 3
    INFORMATION = 4
    LEGAL = 5
    INSPECTION = 6
    HALL = 7
    LEADERSHIP = 8
    OTHER = 9


class ClockKind(IntEnum):
    """时限."""

    FORWARD = 1
    DISPATCH = 2
    HANDLE = 3
    JOINT = 4
    FEEDBACK = 5
    FOLLOW_UP = 6
    ORDER = 7
    REVIEW = 8


class ClockAction(IntEnum):
    """What happened to a clock."""

    STARTED = 1
    EXTENDED = 2
    OVERDUE = 3
    STOPPED = 4
    DUE_SOON = 5
    RECOMPUTED = 6


class ClockOutcome(IntEnum):
    """How a stopped clock counts."""

    MET = 1
    MISSED = 2
    VOID = 3


class Telling(IntEnum):
    """告知: what the taxpayer was told when there was no answer on the spot (§四(一)2)."""

    COMPLICATED = 1
    TRANSFERRED = 2


class Satisfaction(IntEnum):
    """满意度 (§四(四))."""

    SATISFIED = 1
    BASICALLY = 2
    NOT_SATISFIED = 3
    NOT_REACHED = 4


class ReferralKind(IntEnum):
    """移交方式 (§四(二)3): the direction of the whole journey, the same on each of its hops."""

    ESCALATE = 1
    REFER = 2
    RELAY = 3
    RETURN = 4
    ARBITRATE = 5


class Refusal(IntEnum):
    """Why an offer was refused by rule."""

    NOT_ADJACENT = 1
    WRONG_ADDRESSEE = 2
    LOOP = 3
    TOO_MANY_HOPS = 4
    STALE_EPOCH = 5
    CONFLICT = 6
    WITHDRAWN = 7
    INVALID = 8


class Outcome(IntEnum):
    """How a referred case ended where it was handled."""

    COMPLETED = 1
    WITHDRAWN = 2
    RECONSIDERATION = 3
    REOPENED = 4


class ReferralState(IntEnum):
    """Where a referral stands at its sender."""

    OFFERED = 1
    WITHDRAWING = 2
    ACCEPTED = 3
    REFUSED = 4


class DirectiveKind(IntEnum):
    """What headquarters publishes to every bureau."""

    CALENDAR = 1
    ISSUE = 2
    TREE = 3


class DuplicateReason(IntEnum):
    """Why a case of the ledger may be the same as one about to be registered (§四(一)1)."""

    SAME_TAXPAYER = 1
    SIMILAR_TEXT = 2


class Override(IntEnum):
    """特批: a rule that two people together may set aside for one case."""

    LEDGERS_DISAGREE = 1


class Disclosure(IntEnum):
    """How private data are shown to who reads them."""

    MASKED = 1
    FULL = 2


class DifferenceKind(IntEnum):
    """How two ledgers differ about a case (对账)."""

    MISSING_HERE = 1
    MISSING_THERE = 2
    DIFFERENT = 3


class LedgerFinding(IntEnum):
    """What a witness finds in a ledger that contradicts what it has seen of it; the graver, the higher."""

    SHORTER = 1
    """It ends before a head that was cosigned: cut off, or put back to an older copy."""
    REWRITTEN = 2
    """At a place that was cosigned it has another entry: rewritten, or gone on with from two copies."""
    UNACCOUNTED = 3
    """A new generation leaves out what was cosigned and does not say so."""


class OrderLevel(IntEnum):
    """督办级别 (§五(三))."""

    URGE = 1
    SUPERVISE = 2
    KEY = 3


class OrderStage(IntEnum):
    """Where a supervision order stands, as far as one bureau's ledger knows."""

    ISSUED = 1
    RECEIVED = 2
    ACKNOWLEDGED = 3
    ANSWERED = 4
    RETURNED = 5
    CLOSED = 6
    CANCELLED = 7


class Light(IntEnum):
    """How near the nearest deadline of an open case is (SPEC §7)."""

    IN_TIME = 1
    DUE_SOON = 2
    OVERDUE = 3
    STOPPED = 4
    """No clock runs, the case is parked, or another bureau's decision is awaited."""


class OrderSide(IntEnum):
    """Which end of a supervision order a bureau is at."""

    ISSUED = 1
    RECEIVED = 2
    RELAYED = 3


class WorkTab(IntEnum):
    """待办分类: the parts of a bureau's work list; what each of them means is said in `worklist`."""

    TO_FORWARD = 1
    TO_DISPATCH = 2
    TO_HANDLE = 3
    DUE_TODAY = 4
    OVERDUE = 5
    TO_FEED_BACK = 6
    TO_FOLLOW_UP = 7
    TO_WRITE_OFF = 8
    DEFERRED = 9
    ELSEWHERE = 10
    TO_DECIDE = 11
    ALL = 12


class TokenScope(IntEnum):
    """What the token of a channel 渠道 lets its holder do."""

    REGISTER = 1
    STATUS = 2
