"""What can be asked of a supervision order (督办, §五(三)): one frozen value for each act, fields named as on the wire.

Acts of people come first, then what neighbours cause, then what the system does by itself.
"""

from dataclasses import dataclass
from datetime import datetime

from kuaixiang.domain.acts import Act
from kuaixiang.domain.events import ClockChange
from kuaixiang.domain.words import OrderLevel, OrderStage


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAct(Act):
    """Something asked of a supervision order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueOrder(OrderAct):
    """下达督办 to a direct or indirect subordinate, about some cases or about none."""

    final_bureau: str
    level: OrderLevel
    text: str
    answer_workdays: int
    case_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class CascadeOrder(OrderAct):
    """转下级督办: an order for each of some subordinates, derived from one received."""

    to_bureaus: tuple[str, ...]
    level: OrderLevel
    text: str
    answer_workdays: int
    case_ids: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeOrder(OrderAct):
    """签收."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOrder(OrderAct):
    """回复; `because` says why, when orders derived from this one are still without an answer."""

    answer: str
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptAnswer(OrderAct):
    """认可回复: the order is done."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnAnswer(OrderAct):
    """退回回复: another answer is wanted within `answer_workdays`."""

    reason: str
    answer_workdays: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CancelOrder(OrderAct):
    """撤销督办."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class HearStatement(OrderAct):
    """The superior says what the issuer has said of the order: ISSUED, RETURNED, CLOSED or CANCELLED."""

    nonce: str
    step: int
    stage: OrderStage
    round: int
    issuer: str
    from_bureau: str
    final_bureau: str
    level: OrderLevel
    case_ids: tuple[str, ...]
    answer_workdays: int
    text: str
    note: str
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HearReport(OrderAct):
    """The subordinate says what has become of the order where it is to be answered.

    `clock` is the start of the clock that runs there in this round.
    """

    nonce: str
    step: int
    stage: OrderStage
    round: int
    from_bureau: str
    clock: ClockChange
    acknowledged_at: datetime | None = None
    answered_at: datetime | None = None
    late: bool = False
    derived_open: int = 0
    answer: str = ""
    because: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteDelivery(OrderAct):
    """A neighbour's receipt says that it has what it was told."""

    to_bureau: str
    step: int
    receipt_seq: int
    receipt_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteClock(OrderAct):
    """Time has passed, or the calendar has a new edition."""
