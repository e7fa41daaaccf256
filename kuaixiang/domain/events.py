"""What happened to a case, to a supervision order or to a ledger: frozen values, shaped as in the journal.

Every event of a case says where it leaves it (stage, custody, epoch) and what it did to its clocks, so that whoever
folds the journal needs no table of rules, and old journals mean the same under new rules.
"""

from dataclasses import dataclass
from datetime import datetime
from typing import Final

from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Custody,
    DepartmentKind,
    DifferenceKind,
    DirectiveKind,
    LedgerFinding,
    OrderLevel,
    OrderStage,
    Outcome,
    Override,
    ReferralKind,
    Refusal,
    Role,
    Satisfaction,
    Stage,
    Telling,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClockChange:
    """A change of one clock. `elapsed_milli_workdays` and `outcome` are set when it stops."""

    kind: ClockKind
    action: ClockAction
    department: str = ""
    started_at: datetime
    due_at: datetime
    limit_workdays: int
    calendar_version: str
    provisional: bool = False
    soon_at: datetime | None = None
    """When one working day is left; None for a limit of a single day, which is due within one from its start."""
    outcome: ClockOutcome | None = None
    elapsed_milli_workdays: int = 0
    department_kind: DepartmentKind | None = None
    """The kind of `department`; None for the bureau's own clocks, which count for the department in charge."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Attachment:
    """A file of a case 附件. `digest` is the SHA-256 of its content in hexadecimal digits; it names the content."""

    digest: str
    name: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Private:
    """What only bureaus that work on the case may see. `note` is what was written with the act."""

    taxpayer_name: str = ""
    taxpayer_number: str = ""
    contact: str = ""
    text: str = ""
    place: str = ""
    channel_reference: str = ""
    note: str = ""
    attachments: tuple[Attachment, ...] = ()
    """The files that came with this entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """Something that happened."""

    clocks: tuple[ClockChange, ...] = ()
    private: Private | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseEvent(Event):
    """Something that happened to a case, and where it leaves it."""

    stage: Stage
    custody: Custody = Custody.OWNED
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerEvent(Event):
    """Something that changes no case of this ledger; what it is about, if anything, is named by its entry."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderEvent(LedgerEvent):
    """Something that happened to a supervision order (督办, §五(三)), and where it leaves the order in this ledger.

    `from_bureau`, where an event has one, is empty on what was done in the ledger's own bureau, else the neighbour that
    told of it. `step` counts, each for itself, what the issuer has said of the order and what its receiver has.
    """

    order_stage: OrderStage


@dataclass(frozen=True, slots=True, kw_only=True)
class Registered(CaseEvent):
    """受理登记. `competent_bureau` proposes where the taxpayer belongs; empty when that cannot be told."""

    competent_bureau: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnsweredOnTheSpot(CaseEvent):
    """当场答复."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TaxpayerTold(CaseEvent):
    """告知."""

    telling: Telling


@dataclass(frozen=True, slots=True, kw_only=True)
class Forwarded(CaseEvent):
    """转交纳税服务部门."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatched(CaseEvent):
    """分办."""

    to_department: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DispatchReturned(CaseEvent):
    """退回分办; `bounces` counts them."""

    bounces: int


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptedDirectly(CaseEvent):
    """直接受理."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionAsked(CaseEvent):
    """申请延期; `for_department` names the part of a joint handling, empty otherwise."""

    workdays: int
    for_department: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionApproved(CaseEvent):
    """批准延期."""

    workdays: int
    asked_by: str
    for_department: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionRefused(CaseEvent):
    """不批准延期."""

    asked_by: str
    for_department: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionExplained(CaseEvent):
    """延期告知 (§四(二)2)."""

    for_department: str


@dataclass(frozen=True, slots=True, kw_only=True)
class JointHandlingStarted(CaseEvent):
    """联合办理."""

    lead_department: str
    assisting_departments: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PartCompleted(CaseEvent):
    """A department's part of a joint handling is done."""

    part_department: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartAdded(CaseEvent):
    """增加协办."""

    part_department: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PartReturned(CaseEvent):
    """An assisting department has given its part back; `bounces` counts as for a dispatch."""

    part_department: str
    bounces: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Completed(CaseEvent):
    """办结; `lead_case_id`: by the result of the case it was linked to."""

    jointly: bool
    lead_case_id: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Linked(CaseEvent):
    """并案."""

    lead_case_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlinked(CaseEvent):
    """解除并案."""

    lead_case_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class IssueLinked(CaseEvent):
    """归入共性诉求."""

    issue_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentAdded(CaseEvent):
    """附件; what it is called and its digest are private."""

    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class FeedbackGiven(CaseEvent):
    """反馈."""

    told_by: Channel


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowedUp(CaseEvent):
    """回访; `explained`: a remark says why a dissatisfaction stands."""

    satisfaction: Satisfaction
    explained: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopened(CaseEvent):
    """重新办理; `round` counts them."""

    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseWithdrawn(CaseEvent):
    """纳税人撤回."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Deferred(CaseEvent):
    """待条件成熟."""

    owner: str
    review_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Resumed(CaseEvent):
    """恢复办理."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SentToReconsideration(CaseEvent):
    """转行政复议."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Offered(CaseEvent):
    """移交, not decided yet."""

    referral_id: str
    previous_referral_id: str
    referral_kind: ReferralKind
    to_bureau: str
    final_bureau: str
    path: tuple[str, ...]
    offer_epoch: int
    returns: int = 0
    """Times the case has been sent back, this offer included."""
    disputants: tuple[str, ...] = ()
    """The bureaus that have sent it back to each other."""
    ruled_by: str = ""
    """The superior whose ruling this offer carries out; empty when none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ruled(CaseEvent):
    """裁定: who handles the case."""

    final_bureau: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferWithdrawalAsked(CaseEvent):
    """The sender would rather keep the case."""

    referral_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Released(CaseEvent):
    """移交 accepted by the receiver: the case is no longer ours."""

    referral_id: str
    to_bureau: str
    referral_kind: ReferralKind
    relayed: bool
    receipt_seq: int = 0
    receipt_hash: bytes = b""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferRefused(CaseEvent):
    """移交 refused by the receiver: the case stays ours."""

    referral_id: str
    to_bureau: str
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Received(CaseEvent):
    """移交 accepted here: the case is ours."""

    referral_id: str
    previous_referral_id: str
    referral_kind: ReferralKind
    from_bureau: str
    final_bureau: str
    path: tuple[str, ...]
    origin_bureau: str
    registered_at: datetime
    offered_at: datetime
    returns: int = 0
    disputants: tuple[str, ...] = ()
    ruled_by: str = ""
    attached: int = 0
    """How many files the case came with."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OfferDeclined(CaseEvent):
    """移交 refused here. It changes no case of ours; it is recorded so that the decision stands for good."""

    referral_id: str
    from_bureau: str
    offer_epoch: int
    refusal: Refusal
    offered_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Concluded(CaseEvent):
    """How the case ended elsewhere has reached this ledger."""

    from_bureau: str
    outcome: Outcome
    round: int
    handled_by: str
    completed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class ConclusionRevoked(CaseEvent):
    """The case was reopened elsewhere."""

    from_bureau: str
    round: int
    handled_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ConclusionDelivered(CaseEvent):
    """Another ledger has recorded the conclusion."""

    to_bureau: str
    outcome: Outcome
    round: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideAsked(CaseEvent):
    """申请特批."""

    override: Override


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideApproved(CaseEvent):
    """批准特批."""

    override: Override
    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideRefused(CaseEvent):
    """不批准特批."""

    override: Override
    asked_by: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WrittenOff(CaseEvent):
    """销号."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BecameOverdue(CaseEvent):
    """One or more deadlines have passed; `clocks` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class BecameDueSoon(CaseEvent):
    """临期: of one or more deadlines a single working day is left; `clocks` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClocksRecomputed(CaseEvent):
    """Deadlines were computed again from another version of the working calendar; `clocks` says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CalendarAdopted(LedgerEvent):
    """From this entry on deadlines come from that version of the working calendar, which headquarters has published."""

    calendar_version: str


@dataclass(frozen=True, slots=True, kw_only=True)
class TreeAdopted(LedgerEvent):
    """From this entry on that version of the tree holds, which headquarters has published; `digest` is its SHA-256."""

    tree_version: str
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DirectivePublished(LedgerEvent):
    """Headquarters has published a directive; `digest` is SHA-256 of what it signed."""

    directive_kind: DirectiveKind
    subject: str
    published_at: datetime
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgersReconciled(LedgerEvent):
    """对账: what came of comparing this ledger with a peer's, counted in the hand-overs of the days named."""

    peer: str
    from_day: str
    to_day: str
    matched: int
    pending: int
    missing_here: int
    missing_there: int
    different: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchFound(CaseEvent):
    """对账不符: the peer's ledger tells something else of the case."""

    peer: str
    difference: DifferenceKind


@dataclass(frozen=True, slots=True, kw_only=True)
class MismatchCleared(CaseEvent):
    """The peer's ledger tells the same of the case again."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentCaseFound(LedgerEvent):
    """对账不符: the peer has handed over a case with this bureau that is not in this ledger; the entry names it."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AbsentCaseCleared(LedgerEvent):
    """The ledgers no longer disagree about a case that was not in this one; the entry names it."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateRead(LedgerEvent):
    """查看隐私信息: the entry's actor has read in clear what is private of the entry's case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class AttachmentRead(LedgerEvent):
    """查看附件: the entry's actor has read a file of the entry's case; what it is called is private."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerExported(LedgerEvent):
    """导出台账 with private data in clear: of the cases registered at or after one instant, and before another.

    None where the export had no such bound.
    """

    registered_from: datetime | None
    registered_before: datetime | None
    open_only: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotGivenBack(LedgerEvent):
    """退还隐私信息: what is private of the entry's case was given to the peer that shares it and has lost its own."""

    peer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerDoubted(LedgerEvent):
    """台账存疑: the peer's ledger, which this bureau witnesses, contradicts what was seen of it.

    Known is what was seen before, told what is shown now; of a rewritten ledger both are of the first entry that is
    another one, where that could be found.
    """

    peer: str
    finding: LedgerFinding
    known_generation: int
    known_seq: int
    known_hash: bytes
    told_generation: int
    told_seq: int
    told_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LedgerTrusted(LedgerEvent):
    """台账恢复: the peer's ledger goes on in a new generation that says what it has lost; nothing stands against it."""

    peer: str
    trusted_generation: int
    opened_seq: int
    lost_entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerationOpened(LedgerEvent):
    """开启新世代: the first entry of a generation, in a ledger that was restored from a backup.

    The cosigned head is the last one of the generation before: the journal ends there, or has lost what is missing up
    to it. `set_aside` counts entries of the backup that the cosigned journal denies.
    """

    witness: str
    cosigned_generation: int
    cosigned_seq: int
    cosigned_hash: bytes
    backup_seq: int
    set_aside: int
    cases_numbered: int
    """Numbers of cases go on after this one, so that none is given out twice."""
    orders_numbered: int
    nonce: str = ""
    """Drawn for this restoration: tells it from another one of the same backup."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotRestored(CaseEvent):
    """A neighbour's ledger has given back what is private of the case."""

    from_bureau: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivatePartsLost(CaseEvent):
    """What is private of these many entries of the case was lost with the database; `snapshot`: the request itself."""

    entries: int
    snapshot: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PrivateErased(LedgerEvent):
    """删除隐私信息: by the rule of retention what was private of the entry's case, up to this entry, is gone."""

    retention_years: int
    ended_at: datetime
    parts: int
    """Entries whose private parts were erased."""
    files: int
    """Files that were erased with them, since no other case of the node has them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderIssued(OrderEvent):
    """下达督办: by this bureau, to a subordinate."""

    nonce: str
    """Drawn for this order: tells it from another of the same number in a ledger that was restored."""
    level: OrderLevel
    to_bureau: str
    """The next bureau on the way."""
    final_bureau: str
    case_ids: tuple[str, ...]
    answer_workdays: int
    parent_order_id: str
    """The order received from above that this one passes on; empty when none."""


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderReceived(OrderEvent):
    """An order has come from the superior: for this bureau when `to_bureau` is empty, else to be passed on."""

    nonce: str
    level: OrderLevel
    issuer: str
    from_bureau: str
    to_bureau: str
    final_bureau: str
    case_ids: tuple[str, ...]
    answer_workdays: int
    step: int
    issued_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderArrived(OrderEvent):
    """Heard from below: the order, or its return, is in the ledger of the bureau that it is for."""

    from_bureau: str
    step: int
    round: int
    received_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAcknowledged(OrderEvent):
    """签收."""

    from_bureau: str
    step: int
    acknowledged_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswered(OrderEvent):
    """回复; `derived_open` counts the orders derived from this one that had no answer yet."""

    from_bureau: str
    step: int
    round: int
    answered_at: datetime
    late: bool
    derived_open: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderAnswerReturned(OrderEvent):
    """退回回复: another answer is wanted; `round` counts the returns."""

    from_bureau: str
    step: int
    round: int
    answer_workdays: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderClosed(OrderEvent):
    """认可回复: the issuer accepts the answer, and the order is done."""

    from_bureau: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderCancelled(OrderEvent):
    """撤销督办."""

    from_bureau: str
    step: int


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderDelivered(OrderEvent):
    """A neighbour has in its ledger what it was told of the order."""

    to_bureau: str
    step: int
    receipt_seq: int
    receipt_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderClockNoted(OrderEvent):
    """What time, or another edition of the calendar, has done to the order's clock; `clocks` says it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """An event with who, when and which case: what the journal records.

    `version` counts the case's entries in this ledger from 1; 0 marks an entry that changes no case of this ledger. Of
    an `OrderEvent`, `case_id` is the order's number and `version` counts the order's entries.
    """

    bureau: str
    case_id: str
    version: int
    recorded_at: datetime
    occurred_at: datetime
    actor: str
    role: Role
    department: str
    category: Category | None
    channel: Channel | None
    event: Event
    department_kind: DepartmentKind | None = None
    """The kind of the department in charge of the case after the entry; None for an entry about no case."""


KINDS: Final[tuple[type[Event], ...]] = tuple(
    kind
    for kind in list(globals().values())
    if isinstance(kind, type) and issubclass(kind, Event) and kind not in {Event, CaseEvent, LedgerEvent, OrderEvent}
)
"""Every kind of event that a journal may hold."""
