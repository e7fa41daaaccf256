"""The life of one case in one bureau, told act by act: what the tests of the rules are written in."""

from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime, timedelta
from typing import Any

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.clocks import Clock, Rules
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.events import ClockChange, Entry, Event
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockKind,
    DifferenceKind,
    Outcome,
    Override,
    ReferralKind,
    Refusal,
    Role,
    Satisfaction,
    Telling,
)

HEADQUARTERS = "000000"
ZHEJIANG, HANGZHOU, SHANGCHENG, XIHU = "330000", "330100", "330102", "330106"
BEIJING, DONGCHENG = "110000", "110101"

TREE = BureauTree(
    "test",
    (
        Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
        Bureau(ZHEJIANG, "Zhejiang", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(HANGZHOU, "Hangzhou", Tier.PREFECTURE, ZHEJIANG),
        Bureau(SHANGCHENG, "Shangcheng", Tier.COUNTY, HANGZHOU),
        Bureau(XIHU, "Xihu", Tier.COUNTY, HANGZHOU),
        Bureau(BEIJING, "Beijing", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(DONGCHENG, "Dongcheng", Tier.COUNTY, BEIJING),
    ),
)
CALENDAR = WorkingCalendar(
    version="test",
    first=date(2026, 1, 1),
    horizon=date(2026, 12, 31),
    # Friday 6 March is off, Saturday 14 March is worked: a holiday and its make-up day.
    off_days=frozenset({date(2026, 3, 6)}),
    work_days=frozenset({date(2026, 3, 14)}),
)
RULES = Rules()

CASE_ID = "330102-2026-0000001"
LEAD_ID = "330102-2026-0000002"
MONDAY = datetime(2026, 3, 2, 10, tzinfo=SHANGHAI).astimezone(UTC)
"""10:00 in Shanghai. Of the four days after it the Friday is off."""
HOUR, DAY = timedelta(hours=1), timedelta(days=1)

DEPARTMENTS = {
    Role.REGISTRAR: "hall",
    Role.TAX_SERVICE: "tax-service",
    Role.HANDLER: "policy",
    Role.DEPUTY_HEAD: "leaders",
    Role.BUREAU_HEAD: "leaders",
    Role.CHANNEL: "platform",
    Role.SYSTEM: "tax-service",
}
USUAL_ROLE: dict[type[Act], Role] = {
    acts.Register: Role.REGISTRAR,
    acts.AnswerOnTheSpot: Role.REGISTRAR,
    acts.Forward: Role.REGISTRAR,
    acts.AcceptDirectly: Role.REGISTRAR,
    acts.Dispatch: Role.TAX_SERVICE,
    acts.ReturnDispatch: Role.HANDLER,
    acts.AskExtension: Role.HANDLER,
    acts.ApproveExtension: Role.DEPUTY_HEAD,
    acts.RefuseExtension: Role.DEPUTY_HEAD,
    acts.StartJointHandling: Role.TAX_SERVICE,
    acts.CompletePart: Role.HANDLER,
    acts.Complete: Role.HANDLER,
    acts.GiveFeedback: Role.HANDLER,
    acts.FollowUp: Role.TAX_SERVICE,
    acts.Reopen: Role.TAX_SERVICE,
    acts.Withdraw: Role.REGISTRAR,
    acts.Defer: Role.HANDLER,
    acts.Resume: Role.HANDLER,
    acts.SendToReconsideration: Role.HANDLER,
    acts.Refer: Role.TAX_SERVICE,
    acts.Return: Role.TAX_SERVICE,
    acts.WithdrawOffer: Role.TAX_SERVICE,
    acts.WriteOff: Role.TAX_SERVICE,
    acts.ExplainExtension: Role.HANDLER,
    acts.AddPart: Role.TAX_SERVICE,
    acts.Link: Role.TAX_SERVICE,
    acts.Unlink: Role.TAX_SERVICE,
    acts.LinkIssue: Role.TAX_SERVICE,
    acts.Attach: Role.REGISTRAR,
    acts.AskRuling: Role.TAX_SERVICE,
    acts.Rule: Role.BUREAU_HEAD,
    acts.AskOverride: Role.TAX_SERVICE,
    acts.ApproveOverride: Role.DEPUTY_HEAD,
    acts.RefuseOverride: Role.DEPUTY_HEAD,
}
"""Who does an act in these tests when nothing else is said; what peers and time cause is the system's."""

REGISTER = acts.Register(
    taxpayer_name="杭州小微贸易有限公司",
    contact="13800000000",
    text="小规模纳税人的减免政策怎样办理？",
    category=Category.POLICY,
    channel=Channel.COUNTER,
)
FORWARD = acts.Forward(telling=Telling.TRANSFERRED, told="已转交纳税服务部门")
ACCEPT = acts.AcceptDirectly(telling=Telling.COMPLICATED, told="情况复杂，需要办理")
DISPATCH = acts.Dispatch(to_department="policy")
ASK = acts.AskExtension(workdays=5, reason="需要核实")
JOINT = acts.StartJointHandling(lead_department="policy", assisting_departments=("collection", "audit"))
COMPLETE = acts.Complete(result="可以享受减免")
FEEDBACK = acts.GiveFeedback(told_by=Channel.HOTLINE, told="可以享受减免")
FOLLOW_UP = acts.FollowUp(satisfaction=Satisfaction.SATISFIED)
REOPEN = acts.Reopen(reason="结果与事实不符")
REFER = acts.Refer(final_bureau=HANGZHOU, reason="超出本级职责", telling=Telling.TRANSFERRED)
WITHDRAW = acts.Withdraw(reason="已经解决")
RETURN = acts.Return(reason="不属于本单位职责")
RECONSIDER = acts.SendToReconsideration(reference="复议2026-1")
DEFER = acts.Defer(owner="policy-7", review_at=MONDAY + 90 * DAY, condition="等待政策明确")
ATTACH = acts.Attach(digest="ab" * 32, name="合同.pdf", media_type="application/pdf", size_bytes=1_000)
RECEIVE = acts.Receive(
    referral_id="r0",
    previous_referral_id="",
    referral_kind=ReferralKind.REFER,
    offer_epoch=1,
    from_bureau=HANGZHOU,
    final_bureau=SHANGCHENG,
    path=(HANGZHOU,),
    reason="属地管理",
    category=Category.POLICY,
    channel=Channel.HOTLINE,
    origin_bureau=HANGZHOU,
    registered_at=MONDAY - DAY,
    offered_at=MONDAY,
    taxpayer_name=REGISTER.taxpayer_name,
    taxpayer_number="",
    contact=REGISTER.contact,
    text=REGISTER.text,
    place="",
)
EXAMPLES: dict[type[Act], Act] = {
    type(act): act
    for act in (
        REGISTER,
        acts.AnswerOnTheSpot(answer="可以享受"),
        FORWARD,
        ACCEPT,
        DISPATCH,
        acts.ReturnDispatch(reason="不属于本部门职责"),
        ASK,
        acts.ApproveExtension(),
        acts.RefuseExtension(reason="可以按期办结"),
        JOINT,
        acts.ExplainExtension(told="需要上级部门确认数据"),
        acts.AddPart(to_department="legal"),
        acts.CompletePart(result="已提出意见"),
        COMPLETE,
        FEEDBACK,
        FOLLOW_UP,
        REOPEN,
        WITHDRAW,
        DEFER,
        acts.Resume(),
        RECONSIDER,
        REFER,
        RETURN,
        acts.CompleteWithLead(lead_case_id=LEAD_ID, result="可以享受减免"),
        acts.Link(lead_case_id=LEAD_ID),
        acts.Unlink(reason="不是同一事项"),
        acts.LinkIssue(issue_id="GX-2026-0001"),
        ATTACH,
        acts.AskRuling(reason="双方职责有争议"),
        acts.Rule(final_bureau=HANGZHOU, reason="属于该单位职责"),
        acts.AskOverride(override=Override.LEDGERS_DISAGREE, reason="对方单位已撤并"),
        acts.ApproveOverride(),
        acts.RefuseOverride(reason="应先核对"),
        acts.WithdrawOffer(),
        acts.WriteOff(),
        RECEIVE,
        acts.AcknowledgeAcceptance(referral_id="r1", receipt_seq=7, receipt_hash=bytes(32)),
        acts.AcknowledgeRefusal(referral_id="r1", refusal=Refusal.LOOP),
        acts.HearConclusion(
            from_bureau=HANGZHOU,
            referral_id="r1",
            epoch=1,
            round=0,
            outcome=Outcome.COMPLETED,
            handled_by=HANGZHOU,
            completed_at=MONDAY,
        ),
        acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=0, outcome=Outcome.COMPLETED),
        acts.MarkOverdue(),
        acts.MarkDueSoon(),
        acts.Recompute(),
        acts.NoteMismatch(peer=HANGZHOU, difference=DifferenceKind.DIFFERENT),
    )
}
"""One of each act."""


def day(month: int, number: int, hour: int = 10) -> datetime:
    """That hour of a day of 2026 in Shanghai."""
    return datetime(2026, month, number, hour, tzinfo=SHANGHAI).astimezone(UTC)


def end_of(month: int, number: int) -> datetime:
    """24:00 in Shanghai of a day of 2026."""
    return day(month, number, 0) + DAY


@dataclass
class Story:
    """One case in one bureau's ledger and the time there; `case` raises when there is none yet."""

    bureau: str = SHANGCHENG
    now: datetime = MONDAY
    rules: Rules = RULES
    entries: list[Entry] = field(default_factory=list)
    _case: Case | None = None

    @property
    def case(self) -> Case:
        assert self._case is not None
        return self._case

    def decide(self, act: Act, **who: Any) -> tuple[Event, ...]:
        """What the act does, without its being done. `who` overrides role, actor, department, occurred_at, new_id."""
        return decide(self._case, act, self.context(act, **who))

    def context(self, act: Act, **who: Any) -> Context:
        role = who.pop("role", None) or USUAL_ROLE.get(type(act), Role.SYSTEM)
        plain: dict[str, Any] = {
            "bureau": self.bureau,
            "actor": f"{role.name.lower()}-1",
            "role": role,
            "department": DEPARTMENTS[role],
            "now": self.now,
            "occurred_at": self.now,
            "tree": TREE,
            "calendar": CALENDAR,
            "rules": self.rules,
            "new_id": f"r{len(self.entries)}",
        }
        return Context(**{**plain, **who})

    def do(self, act: Act, **who: Any) -> tuple[Event, ...]:
        """Does the act: the events, folded into the case."""
        context = self.context(act, **who)
        found = decide(self._case, act, context)
        for event in found:
            before = self._case
            entry = Entry(
                bureau=self.bureau,
                case_id=CASE_ID,
                version=(before.version if before else 0) + 1,
                recorded_at=context.now,
                occurred_at=context.occurred_at,
                actor=context.actor,
                role=context.role,
                department=context.department,
                category=before.category if before else getattr(act, "category", None),
                channel=before.channel if before else getattr(act, "channel", None),
                event=event,
            )
            self.entries.append(entry)
            self._case = evolve(before, entry)
        return found

    def at(self, moment: datetime) -> "Story":
        """Time passes until then."""
        self.now = moment
        return self

    def after(self, span: timedelta) -> "Story":
        """Time passes."""
        return self.at(self.now + span)

    def then(self, *steps: Act, **who: Any) -> "Story":
        """Does several acts, all by the same person where one is named."""
        for act in steps:
            self.do(act, **who)
        return self

    def having(self, **facts: Any) -> "Story":
        """The case with some facts changed, for what would take long to reach."""
        self._case = replace(self.case, **facts)
        return self

    def clock(self, kind: ClockKind, department: str | None = None) -> Clock:
        """The running clock of a kind."""
        found = self.case.clock(kind, department)
        assert found is not None, f"no {kind.name} clock runs"
        return found


def changes(events: tuple[Event, ...]) -> list[ClockChange]:
    """What events did to the clocks, in order."""
    return [change for event in events for change in event.clocks]


def registered(now: datetime = MONDAY) -> Story:
    """A case just registered."""
    return Story(now=now).then(REGISTER)


def forwarded(now: datetime = MONDAY) -> Story:
    """A case at the tax-service department."""
    return registered(now).then(FORWARD)


def handling(now: datetime = MONDAY) -> Story:
    """A case dispatched to the department that handles it."""
    return forwarded(now).then(DISPATCH)


def joint(now: datetime = MONDAY) -> Story:
    """A case that three departments handle jointly."""
    return forwarded(now).then(JOINT)


def deferred(now: datetime = MONDAY) -> Story:
    """A parked case."""
    return handling(now).then(DEFER)


def completed(now: datetime = MONDAY) -> Story:
    """A case completed."""
    return handling(now).then(COMPLETE)


def fed_back(now: datetime = MONDAY) -> Story:
    """A case whose result the taxpayer knows."""
    return completed(now).then(FEEDBACK)


def followed_up(now: datetime = MONDAY) -> Story:
    """A case whose taxpayer has been called back."""
    return fed_back(now).then(FOLLOW_UP)


def offered(now: datetime = MONDAY) -> Story:
    """A case offered to the superior, not decided; the referral's id is that of `offer_id`."""
    return forwarded(now).then(REFER)


def offer_id(story: Story) -> str:
    """The id of the outstanding offer."""
    assert story.case.outgoing is not None
    return story.case.outgoing.referral_id


def released(now: datetime = MONDAY) -> Story:
    """A case that the superior has accepted."""
    story = offered(now)
    story.do(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=7, receipt_hash=bytes(32)))
    return story


def concluded(now: datetime = MONDAY) -> Story:
    """A case that the superior has concluded."""
    return released(now).then(EXAMPLES[acts.HearConclusion])


def received(now: datetime = MONDAY) -> Story:
    """A case that the superior has referred here."""
    return Story(now=now).then(RECEIVE)


def reconsidered(now: datetime = MONDAY) -> Story:
    """A case on the legal track."""
    return handling(now).then(RECONSIDER)


def withdrawn(now: datetime = MONDAY) -> Story:
    """A case that the taxpayer has withdrawn."""
    return handling(now).then(WITHDRAW)


def written_off(now: datetime = MONDAY) -> Story:
    """A case that has left the open ledger."""
    return fed_back(now).then(acts.WriteOff())
