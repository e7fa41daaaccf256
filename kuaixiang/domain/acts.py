"""What can be asked of a case: one frozen value for each act, its fields named as on the wire.

Acts of people come first, then what peers cause, then what the system does by itself.
"""

from dataclasses import dataclass
from datetime import datetime

from kuaixiang.domain.events import Attachment
from kuaixiang.domain.words import (
    Category,
    Channel,
    DifferenceKind,
    Outcome,
    Override,
    ReferralKind,
    Refusal,
    Satisfaction,
    Telling,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """Something asked of a case."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Register(Act):
    """受理登记 (§四(一)1); a non-empty `answer` is given on the spot, `lead_case_id` links it to a like case."""

    taxpayer_name: str
    contact: str
    text: str
    category: Category
    channel: Channel
    taxpayer_number: str = ""
    channel_reference: str = ""
    place: str = ""
    answer: str = ""
    lead_case_id: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AnswerOnTheSpot(Act):
    """当场答复 (§四(一)2)."""

    answer: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Forward(Act):
    """转交纳税服务部门, having told the taxpayer (§四(一)2)."""

    telling: Telling
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispatch(Act):
    """分办 by tax service (§四(一)2)."""

    to_department: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnDispatch(Act):
    """退回分办: the department is not in charge of this, or, assisting in joint handling, not of its part."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AcceptDirectly(Act):
    """直接受理: the department that registered the case handles it (§四(二)1); tax service sees it in the ledger."""

    telling: Telling
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskExtension(Act):
    """申请延期 by `workdays` more working days (§四(二)1-2)."""

    workdays: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveExtension(Act):
    """批准延期 (§四(二)1-2); `for_department` where several that handle jointly have asked."""

    for_department: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseExtension(Act):
    """不批准延期."""

    reason: str
    for_department: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ExplainExtension(Act):
    """延期告知: the taxpayer is told why a jointly handling department takes longer (§四(二)2)."""

    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StartJointHandling(Act):
    """联合办理 (§四(二)2)."""

    lead_department: str
    assisting_departments: tuple[str, ...]
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AddPart(Act):
    """增加协办: another department assists in the joint handling (§四(二)2)."""

    to_department: str
    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CompletePart(Act):
    """An assisting department has done its part."""

    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Complete(Act):
    """办结 (§四(二)1); `with_linked`: the cases linked to this one are completed by the same result."""

    result: str
    with_linked: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class CompleteWithLead(Act):
    """并案办结: the case that this one is linked to has been completed, and its result answers this one too.

    It follows by itself; the actor is who completed the lead case.
    """

    lead_case_id: str
    result: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Link(Act):
    """并案: the case asks what another one of this ledger asks already."""

    lead_case_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Unlink(Act):
    """解除并案."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkIssue(Act):
    """归入共性诉求: the case is an instance of a confirmed common issue (§四(五))."""

    issue_id: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Attach(Act):
    """附件: a file, whose content this node holds already, becomes one of the case's."""

    digest: str
    name: str
    media_type: str
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class GiveFeedback(Act):
    """反馈 to the taxpayer, pushed to tax service in the same act (§四(三))."""

    told_by: Channel
    told: str


@dataclass(frozen=True, slots=True, kw_only=True)
class FollowUp(Act):
    """回访 (§四(四))."""

    satisfaction: Satisfaction
    remark: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Reopen(Act):
    """重新办理."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Withdraw(Act):
    """纳税人撤回."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Defer(Act):
    """待条件成熟: parked with an owner, a review date and a condition (§四(二)1)."""

    owner: str
    review_at: datetime
    condition: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Resume(Act):
    """恢复办理."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class SendToReconsideration(Act):
    """转行政复议 under the reference of the legal track (§四(二)1)."""

    reference: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Refer(Act):
    """移交 to a superior, a subordinate or any bureau of the tree (§四(二)3)."""

    final_bureau: str
    reason: str
    telling: Telling | None = None
    told: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Return(Act):
    """退回 to the bureau whose referral brought the case."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AskRuling(Act):
    """提请裁定: the lowest common superior is to decide who handles a case that has been sent back too often."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule(Act):
    """裁定 by a leader of the lowest common superior: who handles the case; it binds."""

    final_bureau: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WithdrawOffer(Act):
    """Asks the receiver to refuse an undecided offer; its decision stands either way."""

    reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AskOverride(Act):
    """申请特批: one person asks for a rule to be set aside for this case; a leader decides."""

    override: Override
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ApproveOverride(Act):
    """批准特批."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class RefuseOverride(Act):
    """不批准特批."""

    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteOff(Act):
    """销号 (§五(三))."""

    note: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Receive(Act):
    """A peer's offer, found acceptable by `custody.judge`."""

    referral_id: str
    previous_referral_id: str
    referral_kind: ReferralKind
    offer_epoch: int
    from_bureau: str
    final_bureau: str
    path: tuple[str, ...]
    reason: str
    category: Category
    channel: Channel
    origin_bureau: str
    registered_at: datetime
    taxpayer_name: str
    taxpayer_number: str
    contact: str
    text: str
    place: str
    offered_at: datetime
    returns: int = 0
    disputants: tuple[str, ...] = ()
    ruled_by: str = ""
    attachments: tuple[Attachment, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeAcceptance(Act):
    """The receiver's receipt says ACCEPTED."""

    referral_id: str
    receipt_seq: int
    receipt_hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeRefusal(Act):
    """The receiver's receipt says REFUSED."""

    referral_id: str
    refusal: Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class HearConclusion(Act):
    """A neighbouring ledger of the case says how it ended, or that it was reopened.

    `referral_id` is the latest referral of the case between the two bureaus, as the teller knows it.
    """

    from_bureau: str
    referral_id: str
    epoch: int
    round: int
    outcome: Outcome
    handled_by: str
    completed_at: datetime
    result: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class AcknowledgeConclusion(Act):
    """A neighbouring ledger has recorded the conclusion."""

    to_bureau: str
    epoch: int
    round: int
    outcome: Outcome


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkOverdue(Act):
    """A deadline has passed."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MarkDueSoon(Act):
    """One working day of a deadline is left."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Recompute(Act):
    """Another version of the working calendar is in force (SPEC §4)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NoteMismatch(Act):
    """对账: the peer's ledger tells something else of the case; None: it no longer does."""

    peer: str
    difference: DifferenceKind | None
