"""`decide`: what an act does to a case under the rules. Pure: time, calendar and tree are arguments.

It returns the events, or raises a `Refused` that says which rule stands against it. An empty answer means that the act
is a repetition of what is already so.
"""

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from kuaixiang.domain import acts, clocks, errors, events
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI, WorkingCalendar
from kuaixiang.domain.case import Case, Conclusion, Outgoing
from kuaixiang.domain.clocks import Clock, Rules
from kuaixiang.domain.events import CaseEvent, ClockChange, Private
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.jurisdiction import competent_bureau
from kuaixiang.domain.labels import Both
from kuaixiang.domain.lifecycle import OPENING, TRANSITIONS, check_role, stage_after
from kuaixiang.domain.registration import (
    NOTE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    at_most,
    check_actor,
    check_department,
    check_registration,
    required,
)
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, Custody, Outcome, ReferralKind, Role, Satisfaction, Stage, Telling

RECEIVING_DEPARTMENT = "tax-service"
"""Referrals arrive at the tax-service department, which keeps the ledger balanced (§五(二))."""
EXTENSION_WORKDAYS_MAX = 250
"""Where the notice sets no limit: more working days than this are a slip of the keyboard."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """Who acts, in what capacity, when, and the rules of the place. `new_id` serves when the act needs a fresh one."""

    bureau: str
    actor: str
    role: Role
    department: str
    now: datetime
    occurred_at: datetime
    tree: BureauTree
    calendar: WorkingCalendar
    rules: Rules
    new_id: str = ""


def decide(case: Case | None, act: Act, context: Context) -> tuple[CaseEvent, ...]:
    """The events of an act; raises `Refused`."""
    _check_time(case, context)
    check_role(act, context.role)
    if context.role is not Role.SYSTEM:
        check_actor(context.actor)
        check_department(context.department, "header.department")
    if case is None:
        return _opening(act, context)
    if isinstance(act, acts.Receive):
        return _receive(case, act, context)
    if isinstance(act, (acts.HearConclusion, acts.AcknowledgeConclusion)):
        return _conclusion(case, act, context)
    if isinstance(act, acts.MarkOverdue):
        return _mark_overdue(case, context)
    if isinstance(act, (acts.AcknowledgeAcceptance, acts.AcknowledgeRefusal, acts.WithdrawOffer)):
        return _offer_resolution(case, act, context)
    if case.custody is Custody.OFFERED and case.outgoing is not None:
        raise errors.CaseFrozen(case.case_id, case.outgoing.to_bureau)
    if case.custody is Custody.RELEASED and not isinstance(act, acts.WriteOff):
        raise errors.NotCustodian(case.case_id, case.with_bureau, case.custody)
    stage = stage_after(case.case_id, case.stage, act)
    return _DECISIONS[type(act)](_Desk(case=case, context=context, stage=stage), act)


def _check_time(case: Case | None, context: Context) -> None:
    at, now = context.occurred_at, context.now
    if at > now:
        raise errors.TimeInFuture(_shown(at), _shown(now))
    if at < now:
        calendar, days_max = context.calendar, context.rules.backdating_workdays_max
        if calendar.workdays_between(calendar.day_of(at), calendar.day_of(now)) > days_max:
            raise errors.RecordedTooLate(_shown(at), days_max)
    if case is not None and at < case.last_at:
        raise errors.OutOfOrder(_shown(at), _shown(case.last_at))


def _shown(at: datetime) -> str:
    """An instant as officers read it: the time in China."""
    return at.astimezone(SHANGHAI).isoformat(sep=" ", timespec="seconds")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Desk:
    """A case before somebody: what the decisions below need, with the words they share."""

    case: Case
    context: Context
    stage: Stage

    @property
    def at(self) -> datetime:
        return self.context.occurred_at

    def frame(self, *changes: ClockChange, note: str = "") -> dict[str, Any]:
        """What every event says besides its own particulars."""
        at_most(note, "note", NOTE_CHARACTERS_MAX)
        return {
            "stage": self.stage,
            "epoch": self.case.epoch,
            "clocks": changes,
            "private": Private(note=note) if note else None,
        }

    def start(self, kind: ClockKind, workdays: int, department: str = "") -> ClockChange:
        return clocks.start(kind, self.at, workdays, self.context.calendar, department=department)

    def fulfil(self, kind: ClockKind, department: str | None = None) -> tuple[ClockChange, ...]:
        """Stops a clock whose duty is done; nothing when it does not run."""
        clock = self.case.clock(kind, department)
        return clocks.stop(clock, self.at, self.context.calendar, fulfilled=True) if clock else ()

    def stop_all(self, at: datetime | None = None) -> tuple[ClockChange, ...]:
        """Stops every clock: something other than their duties ended them."""
        when, calendar = at or self.at, self.context.calendar
        return tuple(
            change for clock in self.case.clocks for change in clocks.stop(clock, when, calendar, fulfilled=False)
        )


def _opening(act: Act, context: Context) -> tuple[CaseEvent, ...]:
    match act:
        case acts.Register():
            return _register(act, context)
        case acts.Receive():
            return _received(act, context)
        case _:
            raise errors.UnknownCase(context.bureau, "")


def _register(act: acts.Register, context: Context) -> tuple[CaseEvent, ...]:
    check_registration(
        taxpayer_name=act.taxpayer_name, contact=act.contact, taxpayer_number=act.taxpayer_number, text=act.text
    )
    at_most(act.channel_reference, "channel_reference", REFERENCE_CHARACTERS_MAX)
    if act.place and not is_division_code(act.place):
        raise errors.FieldMalformed(
            "place",
            Both("is not the code of a place", "不是行政区划代码"),
            Both(
                "Give the six digits of the administrative division, or leave it out.",
                "请填写六位行政区划代码，也可不填。",
            ),
        )
    at_most(act.answer, "answer", NOTE_CHARACTERS_MAX)
    forward = clocks.start(ClockKind.FORWARD, context.occurred_at, context.rules.forward_workdays, context.calendar)
    proposed = competent_bureau(context.tree, act.taxpayer_number or None, act.place or None) or ""
    registered = events.Registered(
        stage=OPENING[acts.Register],
        epoch=0,
        clocks=(forward,),
        private=Private(
            taxpayer_name=act.taxpayer_name,
            taxpayer_number=act.taxpayer_number,
            contact=act.contact,
            text=act.text,
            place=act.place,
            channel_reference=act.channel_reference,
        ),
        competent_bureau=proposed,
    )
    if not act.answer:
        return (registered,)
    answered = events.AnsweredOnTheSpot(
        stage=TRANSITIONS[registered.stage][acts.AnswerOnTheSpot],
        epoch=0,
        clocks=_answered_clocks(clocks.apply((), (forward,)), context),
        private=Private(note=act.answer),
    )
    return (registered, answered)


def _answer_on_the_spot(desk: _Desk, act: acts.AnswerOnTheSpot) -> tuple[CaseEvent, ...]:
    required(act.answer, "answer", Both("§四(一)2 has the taxpayer answered", "通知四（一）2要求答复纳税人"))
    changes = _answered_clocks(desk.case.clocks, desk.context)
    return (events.AnsweredOnTheSpot(**desk.frame(*changes, note=act.answer)),)


def _answered_clocks(running: tuple[Clock, ...], context: Context) -> tuple[ClockChange, ...]:
    """An answer on the spot is known to tax service at once (§四(一)2); what is left is the follow-up."""
    at, calendar = context.occurred_at, context.calendar
    forwarded = (clock for clock in running if clock.kind is ClockKind.FORWARD)
    return (
        *(change for clock in forwarded for change in clocks.stop(clock, at, calendar, fulfilled=True)),
        clocks.start(ClockKind.FOLLOW_UP, at, context.rules.follow_up_workdays, calendar),
    )


def _tell(desk: _Desk, telling: Telling | None, told: str) -> tuple[CaseEvent, ...]:
    """The telling that must come before the case leaves the desk (§四(一)2); none when it has been done."""
    if desk.case.telling is not None:
        return ()
    if telling is None:
        raise errors.NotTold(desk.case.case_id)
    frame = desk.frame(note=told) | {"stage": desk.case.stage}
    return (events.TaxpayerTold(**frame, telling=telling),)


def _forward(desk: _Desk, act: acts.Forward) -> tuple[CaseEvent, ...]:
    changes = (
        *desk.fulfil(ClockKind.FORWARD),
        desk.start(ClockKind.DISPATCH, desk.context.rules.dispatch_workdays),
    )
    return (*_tell(desk, act.telling, act.told), events.Forwarded(**desk.frame(*changes)))


def _accept_directly(desk: _Desk, act: acts.AcceptDirectly) -> tuple[CaseEvent, ...]:
    changes = (
        *desk.fulfil(ClockKind.FORWARD),
        desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays),
    )
    return (*_tell(desk, act.telling, act.told), events.AcceptedDirectly(**desk.frame(*changes)))


def _dispatch(desk: _Desk, act: acts.Dispatch) -> tuple[CaseEvent, ...]:
    check_department(act.to_department, "to_department")
    changes = desk.fulfil(ClockKind.DISPATCH)
    if desk.case.clock(ClockKind.HANDLE) is None:
        # A referred case has its handling clock since it was received (SPEC §4); dispatching does not renew it.
        changes = (*changes, desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays))
    return (events.Dispatched(**desk.frame(*changes, note=act.note), to_department=act.to_department),)


def _return_dispatch(desk: _Desk, act: acts.ReturnDispatch) -> tuple[CaseEvent, ...]:
    required(act.reason, "reason", Both("a department that returns a case says why", "退回分办须说明原因"))
    changes = (*desk.stop_all(), desk.start(ClockKind.DISPATCH, desk.context.rules.dispatch_workdays))
    return (events.DispatchReturned(**desk.frame(*changes, note=act.reason), bounces=desk.case.bounces + 1),)


def _handling_clock(desk: _Desk) -> Clock | None:
    case = desk.case
    if case.stage is Stage.JOINT_HANDLING:
        return case.clock(ClockKind.JOINT, desk.context.department) or case.clock(ClockKind.JOINT, case.lead_department)
    return case.clock(ClockKind.HANDLE)


def _ask_extension(desk: _Desk, act: acts.AskExtension) -> tuple[CaseEvent, ...]:
    case, rules = desk.case, desk.context.rules
    required(act.reason, "reason", Both("§四(二)1 asks for the reason (说明原因)", "通知四（二）1要求说明原因"))
    if act.workdays < 1:
        raise errors.FieldMalformed(
            "workdays",
            Both("is not a number of days", "不是有效的天数"),
            Both("Ask for at least one working day.", "请至少申请1个工作日。"),
        )
    if act.workdays > EXTENSION_WORKDAYS_MAX:
        raise errors.FieldMalformed(
            "workdays",
            Both(f"is {act.workdays}", f"为 {act.workdays}，明显过多"),
            Both(
                f"Ask for at most {EXTENSION_WORKDAYS_MAX}, a year of working days.",
                f"最多申请 {EXTENSION_WORKDAYS_MAX} 个工作日（约一年）。",
            ),
        )
    if case.extension is not None:
        raise errors.ExtensionPending(case.case_id)
    if case.extended:
        raise errors.ExtensionOnce(case.case_id)
    clock = _handling_clock(desk)
    if clock is None or clock.overdue or desk.at >= clock.due_at:
        raise errors.ExtensionTooLate(case.case_id, _shown(clock.due_at) if clock else None)
    joint = case.stage is Stage.JOINT_HANDLING
    total_max = rules.joint_workdays_total_max if joint else rules.handle_workdays_total_max
    if total_max is not None and clock.limit_workdays + act.workdays > total_max:
        raise errors.ExtensionTooLong(act.workdays, clock.limit_workdays, total_max)
    return (events.ExtensionAsked(**desk.frame(note=act.reason), workdays=act.workdays),)


def _check_leader(desk: _Desk, act: Act) -> None:
    """§四(二)1: the deputy head in charge decides; §四(二)2: the bureau head, when departments handle jointly."""
    joint = desk.case.stage is Stage.JOINT_HANDLING
    leader = Role.BUREAU_HEAD if joint else Role.DEPUTY_HEAD
    if desk.context.role is not leader:
        raise errors.RoleNotAllowed(type(act), desk.context.role, (leader,))
    asked = desk.case.extension
    if asked is not None and asked.asked_by == desk.context.actor:
        raise errors.SamePerson(type(act), desk.context.actor, Both("asked for it", "是延期申请人"))


def _approve_extension(desk: _Desk, act: acts.ApproveExtension) -> tuple[CaseEvent, ...]:
    case, asked = desk.case, desk.case.extension
    if asked is None:
        raise errors.NoExtensionAsked(case.case_id)
    _check_leader(desk, act)
    running = [clock for clock in case.clocks if clock.kind in {ClockKind.HANDLE, ClockKind.JOINT}]
    changes = tuple(
        clocks.extend(clock, asked.workdays, desk.context.calendar)
        for clock in running
        if not clock.overdue and desk.at < clock.due_at
    )
    if not changes:
        # Asked in time, decided after the deadline: it counts as missed, whether or not that has been recorded yet.
        raise errors.ExtensionTooLate(case.case_id, _shown(running[0].due_at) if running else None)
    approved = events.ExtensionApproved(
        **desk.frame(*changes, note=act.note), workdays=asked.workdays, asked_by=asked.asked_by
    )
    return (approved,)


def _refuse_extension(desk: _Desk, act: acts.RefuseExtension) -> tuple[CaseEvent, ...]:
    asked = desk.case.extension
    if asked is None:
        raise errors.NoExtensionAsked(desk.case.case_id)
    _check_leader(desk, act)
    required(act.reason, "reason", Both("a refusal says why", "不批准延期须说明原因"))
    return (events.ExtensionRefused(**desk.frame(note=act.reason), asked_by=asked.asked_by),)


def _start_joint_handling(desk: _Desk, act: acts.StartJointHandling) -> tuple[CaseEvent, ...]:
    check_department(act.lead_department, "lead_department")
    if not act.assisting_departments:
        raise errors.FieldMissing(
            "assisting_departments", Both("joint handling takes at least two departments", "联合办理至少须有两个部门")
        )
    for department in act.assisting_departments:
        check_department(department, "assisting_departments")
    departments = (act.lead_department, *act.assisting_departments)
    if len(set(departments)) != len(departments):
        raise errors.FieldMalformed(
            "assisting_departments",
            Both("names a department twice", "中有部门重复"),
            Both("Name each one once.", "每个部门只填一次，主办部门不再列为协办部门。"),
        )
    limit = desk.context.rules.handle_workdays
    changes = (
        *desk.fulfil(ClockKind.DISPATCH),
        # A handling clock that runs is replaced by one for each department.
        *(
            change
            for clock in desk.case.clocks
            if clock.kind is ClockKind.HANDLE
            for change in clocks.stop(clock, desk.at, desk.context.calendar, fulfilled=False)
        ),
        *(desk.start(ClockKind.JOINT, limit, department) for department in departments),
    )
    started = events.JointHandlingStarted(
        **desk.frame(*changes, note=act.note),
        lead_department=act.lead_department,
        assisting_departments=act.assisting_departments,
    )
    return (started,)


def _complete_part(desk: _Desk, act: acts.CompletePart) -> tuple[CaseEvent, ...]:
    case, department = desk.case, desk.context.department
    required(act.result, "result", Both("a part is done when there is a result", "完成协办须写明办理结果"))
    if department not in case.open_parts:
        raise errors.NotAPart(case.case_id, department, case.open_parts)
    changes = desk.fulfil(ClockKind.JOINT, department)
    return (events.PartCompleted(**desk.frame(*changes, note=act.result), part_department=department),)


def _complete(desk: _Desk, act: acts.Complete) -> tuple[CaseEvent, ...]:
    case = desk.case
    required(act.result, "result", Both("a case is completed with a result (办理结果)", "办结须写明办理结果"))
    joint = case.stage is Stage.JOINT_HANDLING
    if case.open_parts and joint:
        raise errors.PartsOpen(case.case_id, case.open_parts)
    kind = ClockKind.JOINT if joint else ClockKind.HANDLE
    changes = (*desk.fulfil(kind), desk.start(ClockKind.FEEDBACK, desk.context.rules.feedback_workdays))
    return (events.Completed(**desk.frame(*changes, note=act.result), jointly=joint),)


def _give_feedback(desk: _Desk, act: acts.GiveFeedback) -> tuple[CaseEvent, ...]:
    required(
        act.told, "told", Both("§四(三) has the result told to the taxpayer", "通知四（三）要求将办理结果反馈纳税人")
    )
    changes = (
        *desk.fulfil(ClockKind.FEEDBACK),
        desk.start(ClockKind.FOLLOW_UP, desk.context.rules.follow_up_workdays),
    )
    return (events.FeedbackGiven(**desk.frame(*changes, note=act.told), told_by=act.told_by),)


def _follow_up(desk: _Desk, act: acts.FollowUp) -> tuple[CaseEvent, ...]:
    if desk.context.actor in desk.case.handlers:
        raise errors.SamePerson(acts.FollowUp, desk.context.actor, Both("handled the case", "办理过该诉求"))
    changes = desk.fulfil(ClockKind.FOLLOW_UP)
    followed_up = events.FollowedUp(
        **desk.frame(*changes, note=act.remark), satisfaction=act.satisfaction, explained=bool(act.remark.strip())
    )
    return (followed_up,)


def _reopen(desk: _Desk, act: acts.Reopen) -> tuple[CaseEvent, ...]:
    required(act.reason, "reason", Both("a reopening says why", "重新办理须说明原因"))
    changes = (*desk.stop_all(), desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays))
    return (events.Reopened(**desk.frame(*changes, note=act.reason), round=desk.case.round + 1),)


def _withdraw(desk: _Desk, act: acts.Withdraw) -> tuple[CaseEvent, ...]:
    return (events.CaseWithdrawn(**desk.frame(*desk.stop_all(), note=act.reason)),)


def _defer(desk: _Desk, act: acts.Defer) -> tuple[CaseEvent, ...]:
    required(act.owner, "owner", Both("a deferred case has an owner", "待条件成熟的诉求须有责任人"))
    required(
        act.condition, "condition", Both("a deferred case waits for something that is named", "须写明待何种条件成熟")
    )
    at_most(act.owner, "owner", REFERENCE_CHARACTERS_MAX)
    if act.review_at <= desk.at:
        raise errors.FieldMalformed(
            "review_at",
            Both("is not in the future", "不晚于当前时间"),
            Both("Give the day on which to look at it again.", "请填写今后再次查看该诉求的时间。"),
        )
    frame = desk.frame(*desk.stop_all(), note=act.condition)
    return (events.Deferred(**frame, owner=act.owner, review_at=act.review_at),)


def _resume(desk: _Desk, act: acts.Resume) -> tuple[CaseEvent, ...]:
    handle = desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays)
    return (events.Resumed(**desk.frame(handle, note=act.note)),)


def _send_to_reconsideration(desk: _Desk, act: acts.SendToReconsideration) -> tuple[CaseEvent, ...]:
    required(act.reference, "reference", Both("the legal track has its own reference", "转行政复议须登记复议编号"))
    return (events.SentToReconsideration(**desk.frame(*desk.stop_all(), note=act.reference)),)


def _write_off(desk: _Desk, act: acts.WriteOff) -> tuple[CaseEvent, ...]:
    case = desk.case
    if case.awaiting:
        raise errors.LedgersDisagree(case.case_id, tuple(sorted(case.awaiting)))
    if case.satisfaction is Satisfaction.NOT_SATISFIED and not case.explained:
        raise errors.DissatisfactionOpen(case.case_id)
    return (events.WrittenOff(**desk.frame(*desk.stop_all(), note=act.note), custody=case.custody),)


def _refer(desk: _Desk, act: acts.Refer) -> tuple[CaseEvent, ...]:
    tree, bureau = desk.context.tree, desk.context.bureau
    required(act.reason, "reason", Both("a referral says why (§四(二)3)", "移交须说明原因（通知四（二）3）"))
    if act.final_bureau not in tree or act.final_bureau == bureau:
        raise errors.UnknownAddressee(act.final_bureau)
    kind = referral_kind(tree, bureau, act.final_bureau)
    told = _tell(desk, act.telling, act.told)
    return (*told, _offer(desk, kind, act.final_bureau, (bureau,), act.reason))


def _return(desk: _Desk, act: acts.Return) -> tuple[CaseEvent, ...]:
    required(act.reason, "reason", Both("a return says why (§四(二)3)", "退回须说明原因（通知四（二）3）"))
    incoming = desk.case.incoming
    if incoming is None:
        raise errors.NotReceived(desk.case.case_id)
    # Back to where the journey began: bureaus that only passed it on have nothing to decide.
    first = incoming.path[0]
    if first not in desk.context.tree:
        raise errors.UnknownAddressee(first)
    return (_offer(desk, ReferralKind.RETURN, first, (desk.context.bureau,), act.reason),)


def referral_kind(tree: BureauTree, from_bureau: str, final_bureau: str) -> ReferralKind:
    """The direction of a journey, told by its two ends."""
    if tree.contains(final_bureau, from_bureau):
        return ReferralKind.ESCALATE
    if tree.contains(from_bureau, final_bureau):
        return ReferralKind.REFER
    return ReferralKind.RELAY


def _offer(desk: _Desk, kind: ReferralKind, final_bureau: str, path: tuple[str, ...], reason: str) -> CaseEvent:
    case, context = desk.case, desk.context
    return events.Offered(
        **(desk.frame(note=reason) | {"custody": Custody.OFFERED}),
        referral_id=context.new_id,
        previous_referral_id=case.incoming.referral_id if case.incoming else "",
        referral_kind=kind,
        to_bureau=context.tree.next_hop(context.bureau, final_bureau),
        final_bureau=final_bureau,
        path=path,
        offer_epoch=case.epoch + 1,
    )


def _offer_resolution(
    case: Case, act: acts.AcknowledgeAcceptance | acts.AcknowledgeRefusal | acts.WithdrawOffer, context: Context
) -> tuple[CaseEvent, ...]:
    """The end of an outstanding offer. A receipt for an offer that is resolved already says nothing new."""
    outgoing = case.outgoing
    if isinstance(act, acts.WithdrawOffer):
        if outgoing is None and case.custody is Custody.RELEASED:
            raise errors.NotCustodian(case.case_id, case.with_bureau, case.custody)
        stage = stage_after(case.case_id, case.stage, act)
        if outgoing is None:
            raise errors.NothingOffered(case.case_id)
        if outgoing.withdrawing:
            return ()
        frame = _Desk(case=case, context=context, stage=stage).frame(note=act.reason)
        return (events.OfferWithdrawalAsked(**frame | {"custody": Custody.OFFERED}, referral_id=outgoing.referral_id),)
    if outgoing is None or outgoing.referral_id != act.referral_id:
        return ()
    desk = _Desk(case=case, context=context, stage=stage_after(case.case_id, case.stage, act))
    if isinstance(act, acts.AcknowledgeRefusal):
        # A bureau that only passed the case on has it to handle from now on: that is where its segment begins.
        started = segment_clocks(desk.at, context.rules, context.calendar) if outgoing.relayed else ()
        refused = events.OfferRefused(
            **desk.frame(*started), referral_id=act.referral_id, to_bureau=outgoing.to_bureau, refusal=act.refusal
        )
        return (refused,)
    return (_released(desk, outgoing, receipt_seq=act.receipt_seq, receipt_hash=act.receipt_hash),)


def _released(desk: _Desk, outgoing: Outgoing, receipt_seq: int = 0, receipt_hash: bytes = b"") -> CaseEvent:
    """The case is no longer ours. Our clocks stopped when we offered it: the way to the receiver is not our delay."""
    frame = desk.frame(*desk.stop_all(outgoing.offered_at)) | {
        "epoch": outgoing.offer_epoch,
        "custody": Custody.RELEASED,
        "stage": stage_after(
            desk.case.case_id,
            desk.case.stage,
            acts.AcknowledgeAcceptance(referral_id=outgoing.referral_id, receipt_seq=0, receipt_hash=b""),
        ),
    }
    return events.Released(
        **frame,
        referral_id=outgoing.referral_id,
        to_bureau=outgoing.to_bureau,
        referral_kind=outgoing.referral_kind,
        relayed=outgoing.relayed,
        receipt_seq=receipt_seq,
        receipt_hash=receipt_hash,
    )


def _proof_of_release(case: Case, context: Context) -> tuple[CaseEvent, ...]:
    """Our outstanding offer was accepted if the case has moved on since: its receipt is no longer needed."""
    if case.custody is not Custody.OFFERED or case.outgoing is None:
        return ()
    return (_released(_Desk(case=case, context=context, stage=case.stage), case.outgoing),)


def _receive(case: Case, act: acts.Receive, context: Context) -> tuple[CaseEvent, ...]:
    released = _proof_of_release(case, context)
    stage = Stage.REFERRED if released else case.stage
    stage_after(case.case_id, stage, act)
    return (*released, *_received(act, context))


def _received(act: acts.Receive, context: Context) -> tuple[CaseEvent, ...]:
    """The case is ours: accepted for this bureau, or to be passed on at once when it is for another."""
    at, rules, calendar = context.occurred_at, context.rules, context.calendar
    relaying = act.final_bureau != context.bureau
    # A bureau on the way has nothing to handle; the clocks of its segment would measure the next bureau's link.
    started = () if relaying else segment_clocks(at, rules, calendar)
    received = events.Received(
        stage=OPENING[acts.Receive],
        epoch=act.offer_epoch,
        clocks=started,
        private=Private(
            taxpayer_name=act.taxpayer_name,
            taxpayer_number=act.taxpayer_number,
            contact=act.contact,
            text=act.text,
            place=act.place,
            note=act.reason,
        ),
        referral_id=act.referral_id,
        previous_referral_id=act.previous_referral_id,
        referral_kind=act.referral_kind,
        from_bureau=act.from_bureau,
        final_bureau=act.final_bureau,
        path=act.path,
        origin_bureau=act.origin_bureau,
        registered_at=act.registered_at,
        offered_at=act.offered_at,
        returns=act.returns,
        disputants=act.disputants,
        ruled_by=act.ruled_by,
    )
    if not relaying:
        return (received,)
    offered = events.Offered(
        stage=OPENING[acts.Receive],
        custody=Custody.OFFERED,
        epoch=act.offer_epoch,
        private=Private(note=act.reason) if act.reason else None,
        referral_id=context.new_id,
        previous_referral_id=act.referral_id,
        referral_kind=act.referral_kind,
        to_bureau=context.tree.next_hop(context.bureau, act.final_bureau),
        final_bureau=act.final_bureau,
        path=(*act.path, context.bureau),
        offer_epoch=act.offer_epoch + 1,
    )
    return (received, offered)


def segment_clocks(at: datetime, rules: Rules, calendar: WorkingCalendar) -> tuple[ClockChange, ...]:
    """The clocks of a bureau that has received a case: to dispatch it, and to handle it (SPEC §4)."""
    return (
        clocks.start(ClockKind.DISPATCH, at, rules.dispatch_workdays, calendar),
        clocks.start(ClockKind.HANDLE, at, rules.handle_workdays, calendar),
    )


def _conclusion(
    case: Case, act: acts.HearConclusion | acts.AcknowledgeConclusion, context: Context
) -> tuple[CaseEvent, ...]:
    if isinstance(act, acts.AcknowledgeConclusion):
        return _acknowledged(case, act)
    heard = Conclusion(
        outcome=act.outcome,
        epoch=act.epoch,
        round=act.round,
        handled_by=act.handled_by,
        completed_at=act.completed_at,
    )
    if act.from_bureau not in {bureau for bureau, _ in case.neighbours} | {_offered_to(case)}:
        raise errors.ImpossibleConclusion(case.case_id, act.from_bureau)
    if act.epoch < case.epoch or (case.conclusion is not None and heard.order <= case.conclusion.order):
        return ()
    if case.custody is Custody.OWNED or (case.outgoing is not None and act.epoch < case.outgoing.offer_epoch):
        # Nobody else can have concluded what is ours; what we offer is ours until the offer's epoch is reached.
        raise errors.ImpossibleConclusion(case.case_id, act.from_bureau)
    if _is_of_a_namesake(case, act):
        raise errors.ImpossibleConclusion(case.case_id, act.from_bureau)
    released = _proof_of_release(case, context)
    revoked = act.outcome is Outcome.REOPENED
    before = Stage.REFERRED if released else case.stage
    frame: dict[str, Any] = {
        "stage": Stage.REFERRED if revoked else stage_after(case.case_id, before, act),
        "custody": Custody.RELEASED,
        "epoch": act.epoch,
        "private": Private(note=act.result) if act.result else None,
        "round": act.round,
        "from_bureau": act.from_bureau,
        "handled_by": act.handled_by,
    }
    if revoked:
        return (*released, events.ConclusionRevoked(**frame))
    return (*released, events.Concluded(**frame, outcome=act.outcome, completed_at=act.completed_at))


def _is_of_a_namesake(case: Case, act: acts.HearConclusion) -> bool:
    """Whether the teller ended another case of this number: one that a ledger restored from a backup has forgotten.

    At the offer's own epoch the offer is what brought the teller the case.
    """
    outgoing = case.outgoing
    return (
        outgoing is not None
        and (act.from_bureau, act.epoch) == (outgoing.to_bureau, outgoing.offer_epoch)
        and act.referral_id != outgoing.referral_id
    )


def _offered_to(case: Case) -> str:
    return case.outgoing.to_bureau if case.outgoing is not None else ""


def _acknowledged(case: Case, act: acts.AcknowledgeConclusion) -> tuple[CaseEvent, ...]:
    """A neighbour has recorded what it was told; an acknowledgement of an earlier telling changes nothing."""
    stands = case.conclusion
    told = (act.epoch, act.round, act.outcome)
    if stands is None or told != (stands.epoch, stands.round, stands.outcome) or act.to_bureau not in case.awaiting:
        return ()
    delivered = events.ConclusionDelivered(
        stage=case.stage,
        custody=case.custody,
        epoch=case.epoch,
        to_bureau=act.to_bureau,
        outcome=act.outcome,
        round=act.round,
    )
    return (delivered,)


def _mark_overdue(case: Case, context: Context) -> tuple[CaseEvent, ...]:
    """Records passed deadlines, once each. An offered case waits for another bureau: its clocks stand."""
    if case.custody is not Custody.OWNED:
        return ()
    changes = tuple(change for clock in case.clocks for change in clocks.overdue(clock, context.occurred_at))
    if not changes:
        return ()
    return (events.BecameOverdue(stage=case.stage, custody=case.custody, epoch=case.epoch, clocks=changes),)


_DECISIONS: dict[type[Act], Callable[[_Desk, Any], tuple[CaseEvent, ...]]] = {
    acts.AnswerOnTheSpot: _answer_on_the_spot,
    acts.Forward: _forward,
    acts.AcceptDirectly: _accept_directly,
    acts.Dispatch: _dispatch,
    acts.ReturnDispatch: _return_dispatch,
    acts.AskExtension: _ask_extension,
    acts.ApproveExtension: _approve_extension,
    acts.RefuseExtension: _refuse_extension,
    acts.StartJointHandling: _start_joint_handling,
    acts.CompletePart: _complete_part,
    acts.Complete: _complete,
    acts.GiveFeedback: _give_feedback,
    acts.FollowUp: _follow_up,
    acts.Reopen: _reopen,
    acts.Withdraw: _withdraw,
    acts.Defer: _defer,
    acts.Resume: _resume,
    acts.SendToReconsideration: _send_to_reconsideration,
    acts.Refer: _refer,
    acts.Return: _return,
    acts.WriteOff: _write_off,
}
