"""What may be done with a case inside a bureau: registration, handling, feedback, follow-up, write-off (§四).

One function for each act; `decide` has made sure of role, custody and stage.
"""

import hashlib
from datetime import timedelta
from typing import Any, Final

from kuaixiang.domain import acts, clocks, errors, events
from kuaixiang.domain.acts import Act
from kuaixiang.domain.attachments import ATTACHMENTS_MAX, check_attachment
from kuaixiang.domain.case import Case, ExtensionRequest, OverrideRequest
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.desk import Context, Desk, shown
from kuaixiang.domain.directives import check_issue_id
from kuaixiang.domain.events import Attachment, CaseEvent, ClockChange, Private
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.domain.jurisdiction import check_not_dissolved, competent_bureau
from kuaixiang.domain.labels import Both, listed
from kuaixiang.domain.lifecycle import HANDLED_HERE, OPENING, TRANSITIONS
from kuaixiang.domain.registration import (
    NOTE_CHARACTERS_MAX,
    REFERENCE_CHARACTERS_MAX,
    at_most,
    check_department,
    check_registration,
    required,
)
from kuaixiang.domain.words import ClockKind, Custody, Override, Role, Satisfaction, Stage, Telling

EXTENSION_WORKDAYS_MAX: Final = 250
"""Where the notice sets no limit: more working days than this are a slip of the keyboard."""
REVIEW_AFTER_MAX: Final = timedelta(days=366)
"""A case that nobody looks at for longer than this is not parked but forgotten."""


def register(act: acts.Register, context: Context) -> tuple[CaseEvent, ...]:
    """受理登记 (§四(一)1), with the answer given on the spot and the link to a like case where the act has them."""
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
    at_most(act.note, "note", NOTE_CHARACTERS_MAX)
    check_not_dissolved(context.tree, context.bureau)
    running = clocks.start(ClockKind.FORWARD, context.occurred_at, context.rules.forward_workdays, context.calendar)
    proposed = competent_bureau(context.tree, act.taxpayer_number or None, act.place or None) or ""
    registered = events.Registered(
        stage=OPENING[acts.Register],
        epoch=0,
        clocks=(running,),
        private=Private(
            taxpayer_name=act.taxpayer_name,
            taxpayer_number=act.taxpayer_number,
            contact=act.contact,
            text=act.text,
            place=act.place,
            channel_reference=act.channel_reference,
            note=act.note,
        ),
        competent_bureau=proposed,
    )
    found: tuple[CaseEvent, ...] = (registered,)
    if act.lead_case_id:
        _check_lead(context.new_id, act.lead_case_id, context)
        found = (*found, events.Linked(stage=registered.stage, epoch=0, lead_case_id=act.lead_case_id))
    if not act.answer:
        return found
    answered = events.AnsweredOnTheSpot(
        stage=TRANSITIONS[registered.stage][acts.AnswerOnTheSpot],
        epoch=0,
        clocks=_answered_clocks(context.new_id, clocks.apply((), (running,)), context),
        private=Private(note=act.answer),
    )
    return (*found, answered)


def answer_on_the_spot(desk: Desk, act: acts.AnswerOnTheSpot) -> tuple[CaseEvent, ...]:
    """当场答复 (§四(一)2)."""
    required(act.answer, "answer", Both("§四(一)2 has the taxpayer answered", "通知四（一）2要求答复纳税人"))
    changes = _answered_clocks(desk.case.case_id, desk.case.clocks, desk.context)
    return (events.AnsweredOnTheSpot(**desk.frame(*changes, note=act.answer)),)


def _answered_clocks(case_id: str, running: tuple[Clock, ...], context: Context) -> tuple[ClockChange, ...]:
    """An answer on the spot is known to tax service at once (§四(一)2); what is left is the follow-up."""
    at, calendar = context.occurred_at, context.calendar
    forwarded = (clock for clock in running if clock.kind is ClockKind.FORWARD)
    return (
        *clocks.stop_each(forwarded, at, calendar, fulfilled=True),
        *_follow_up_clock(case_id, context),
    )


def _follow_up_clock(case_id: str, context: Context) -> tuple[ClockChange, ...]:
    """The clock of a case that is in the sample to be followed up; none for others, which may be, all the same."""
    if not in_sample(case_id, context.rules.follow_up_sample_percent):
        return ()
    return (clocks.start(ClockKind.FOLLOW_UP, context.occurred_at, context.rules.follow_up_workdays, context.calendar),)


def in_sample(case_id: str, percent: int) -> bool:
    """Whether a case is one of the share that is followed up (§四(四): 定期): by its number, so that nobody chooses."""
    drawn = int.from_bytes(hashlib.sha256(case_id.encode()).digest()[:8], "big")
    return drawn % 100 < percent


def tell(desk: Desk, telling: Telling | None, told: str) -> tuple[CaseEvent, ...]:
    """The telling that must come before the case leaves the desk (§四(一)2); none when it has been done."""
    if desk.case.telling is not None:
        return ()
    if telling is None:
        raise errors.NotTold(desk.case.case_id)
    frame = desk.frame(note=told) | {"stage": desk.case.stage}
    return (events.TaxpayerTold(**frame, telling=telling),)


def forward(desk: Desk, act: acts.Forward) -> tuple[CaseEvent, ...]:
    """转交纳税服务部门 within 1 working day, the taxpayer told (§四(一)2)."""
    changes = (
        *desk.fulfil(ClockKind.FORWARD),
        desk.start(ClockKind.DISPATCH, desk.context.rules.dispatch_workdays),
    )
    return (*tell(desk, act.telling, act.told), events.Forwarded(**desk.frame(*changes)))


def accept_directly(desk: Desk, act: acts.AcceptDirectly) -> tuple[CaseEvent, ...]:
    """直接受理: the department that registered the case handles it (§四(二)1)."""
    changes = (
        *desk.fulfil(ClockKind.FORWARD),
        desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays),
    )
    return (*tell(desk, act.telling, act.told), events.AcceptedDirectly(**desk.frame(*changes)))


def dispatch(desk: Desk, act: acts.Dispatch) -> tuple[CaseEvent, ...]:
    """分办 by tax service (§四(一)2)."""
    _check_known(desk.context, act.to_department, "to_department")
    changes = desk.fulfil(ClockKind.DISPATCH)
    if desk.case.clock(ClockKind.HANDLE) is None:
        # A referred case has its handling clock since it was received (SPEC §4); dispatching does not renew it.
        changes = (*changes, desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays))
    return (events.Dispatched(**desk.frame(*changes, note=act.note), to_department=act.to_department),)


def return_dispatch(desk: Desk, act: acts.ReturnDispatch) -> tuple[CaseEvent, ...]:
    """退回分办: of the whole case, or by an assisting department of its part."""
    required(act.reason, "reason", Both("a department that returns a case says why", "退回分办须说明原因"))
    case, department = desk.case, desk.context.department
    if department in case.open_parts:
        # The others go on; tax service may find another department for this part.
        frame = desk.frame(*desk.void(ClockKind.JOINT, department), note=act.reason) | {"stage": case.stage}
        return (events.PartReturned(**frame, part_department=department, bounces=case.bounces + 1),)
    # A referred case has its handling clock since it was received (SPEC §4); returning its dispatch does not renew it.
    kept = {ClockKind.HANDLE} if case.incoming is not None else set()
    stopped = (change for kind in ClockKind if kind not in kept for change in desk.void(kind))
    changes = (*stopped, desk.start(ClockKind.DISPATCH, desk.context.rules.dispatch_workdays))
    return (events.DispatchReturned(**desk.frame(*changes, note=act.reason), bounces=case.bounces + 1),)


def ask_extension(desk: Desk, act: acts.AskExtension) -> tuple[CaseEvent, ...]:
    """申请延期 before the deadline, once, with a reason (§四(二)1-2)."""
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
    joint = case.stage is Stage.JOINT_HANDLING
    for_department = desk.context.department if joint else ""
    if any(asked.for_department == for_department for asked in case.extensions):
        raise errors.ExtensionPending(case.case_id)
    clock = _extendable(case, for_department)
    if (clock is not None and clock.extended) or (case.extended and not joint):
        raise errors.ExtensionOnce(case.case_id)
    if clock is None or clock.has_passed(desk.at):
        raise errors.ExtensionTooLate(case.case_id, _due(clock))
    total_max = rules.joint_workdays_total_max if joint else rules.handle_workdays_total_max
    if total_max is not None and clock.limit_workdays + act.workdays > total_max:
        raise errors.ExtensionTooLong(act.workdays, clock.limit_workdays, total_max)
    asked = events.ExtensionAsked(**desk.frame(note=act.reason), workdays=act.workdays, for_department=for_department)
    return (asked,)


def _due(clock: Clock | None) -> str | None:
    return shown(clock.due_at) if clock else None


def _extendable(case: Case, for_department: str) -> Clock | None:
    """The clock that an extension moves: the one of the case, or of a part of its joint handling."""
    return case.clock(ClockKind.JOINT, for_department) if for_department else case.clock(ClockKind.HANDLE)


def _asked_extension(case: Case, for_department: str) -> ExtensionRequest:
    """The request that is to be decided; raises `NoExtensionAsked`, or `FieldMissing` where there are several."""
    pending = case.extensions
    if not for_department and len(pending) > 1:
        parts = tuple(asked.for_department for asked in pending)
        raise errors.FieldMissing(
            "for_department",
            Both(f"several departments have asked: {', '.join(parts)}", f"有多个部门申请延期：{listed(parts)}"),
        )
    for asked in pending:
        if for_department in {"", asked.for_department}:
            return asked
    raise errors.NoExtensionAsked(case.case_id)


def _check_leader(desk: Desk, act: Act, asked: ExtensionRequest) -> None:
    """§四(二)1: the deputy head in charge decides; §四(二)2: the bureau head, when departments handle jointly."""
    context = desk.context
    joint = desk.case.stage is Stage.JOINT_HANDLING
    leader = Role.BUREAU_HEAD if joint else Role.DEPUTY_HEAD
    if context.role is not leader:
        raise errors.RoleNotAllowed(type(act), context.role, (leader,))
    if asked.asked_by == context.actor:
        raise errors.SamePerson(type(act), context.actor, _ASKED)
    if not joint:
        context.staff.check_oversight(context.actor, desk.case.department)


_ASKED: Final = Both("asked for it", "是申请人")
OVERRIDE_WORKDAYS_MAX: Final = 5
"""An override is decided in the time in which a case is handled: its reason may not hold any longer."""


def approve_extension(desk: Desk, act: acts.ApproveExtension) -> tuple[CaseEvent, ...]:
    """批准延期 (§四(二)1-2)."""
    case = desk.case
    asked = _asked_extension(case, act.for_department)
    _check_leader(desk, act, asked)
    clock = _extendable(case, asked.for_department)
    if clock is None or clock.has_passed(desk.at):
        # Asked in time, decided after the deadline: it counts as missed, whether or not that has been recorded yet.
        raise errors.ExtensionTooLate(case.case_id, _due(clock))
    approved = events.ExtensionApproved(
        **desk.frame(clocks.extend(clock, asked.workdays, desk.context.calendar), note=act.note),
        workdays=asked.workdays,
        asked_by=asked.asked_by,
        for_department=asked.for_department,
    )
    return (approved,)


def refuse_extension(desk: Desk, act: acts.RefuseExtension) -> tuple[CaseEvent, ...]:
    """不批准延期."""
    asked = _asked_extension(desk.case, act.for_department)
    _check_leader(desk, act, asked)
    required(act.reason, "reason", Both("a refusal says why", "不批准延期须说明原因"))
    refused = events.ExtensionRefused(
        **desk.frame(note=act.reason), asked_by=asked.asked_by, for_department=asked.for_department
    )
    return (refused,)


def explain_extension(desk: Desk, act: acts.ExplainExtension) -> tuple[CaseEvent, ...]:
    """延期告知: the taxpayer is told the reason (§四(二)2)."""
    case, department = desk.case, desk.context.department
    required(
        act.told, "told", Both("§四(二)2 has the reason told to the taxpayer", "通知四（二）2要求向纳税人说明原因")
    )
    if department not in case.unexplained:
        raise errors.NothingToExplain(case.case_id, department)
    return (events.ExtensionExplained(**desk.frame(note=act.told), for_department=department),)


def start_joint_handling(desk: Desk, act: acts.StartJointHandling) -> tuple[CaseEvent, ...]:
    """联合办理: a clock for each department (§四(二)2)."""
    _check_known(desk.context, act.lead_department, "lead_department")
    if not act.assisting_departments:
        raise errors.FieldMissing(
            "assisting_departments", Both("joint handling takes at least two departments", "联合办理至少须有两个部门")
        )
    for department in act.assisting_departments:
        _check_known(desk.context, department, "assisting_departments")
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
        *desk.void(ClockKind.HANDLE),
        *(desk.start(ClockKind.JOINT, limit, department) for department in departments),
    )
    started = events.JointHandlingStarted(
        **desk.frame(*changes, note=act.note),
        lead_department=act.lead_department,
        assisting_departments=act.assisting_departments,
    )
    return (started,)


def add_part(desk: Desk, act: acts.AddPart) -> tuple[CaseEvent, ...]:
    """增加协办: its own clock begins when it is brought in (§四(二)2: 收到后)."""
    case, department = desk.case, act.to_department
    _check_known(desk.context, department, "to_department")
    if department in {case.lead_department, *case.open_parts}:
        raise errors.AlreadyAPart(case.case_id, department)
    clock = desk.start(ClockKind.JOINT, desk.context.rules.handle_workdays, department)
    return (events.PartAdded(**desk.frame(clock, note=act.note), part_department=department),)


def complete_part(desk: Desk, act: acts.CompletePart) -> tuple[CaseEvent, ...]:
    """协办完成: an assisting department has done its part (§四(二)2)."""
    case, department = desk.case, desk.context.department
    required(act.result, "result", Both("a part is done when there is a result", "完成协办须写明办理结果"))
    if department not in case.open_parts:
        raise errors.NotAPart(case.case_id, department, case.open_parts)
    _check_explained(case, department)
    changes = desk.fulfil(ClockKind.JOINT, department)
    return (events.PartCompleted(**desk.frame(*changes, note=act.result), part_department=department),)


def complete(desk: Desk, act: acts.Complete) -> tuple[CaseEvent, ...]:
    """办结 (§四(二)1)."""
    case = desk.case
    required(act.result, "result", Both("a case is completed with a result (办理结果)", "办结须写明办理结果"))
    joint = case.stage is Stage.JOINT_HANDLING
    if joint:
        if case.open_parts:
            raise errors.PartsOpen(case.case_id, case.open_parts)
        _check_explained(case, case.lead_department)
    kind = ClockKind.JOINT if joint else ClockKind.HANDLE
    changes = (*desk.fulfil(kind), desk.start(ClockKind.FEEDBACK, desk.context.rules.feedback_workdays))
    return (events.Completed(**desk.frame(*changes, note=act.result), jointly=joint),)


def _check_explained(case: Case, department: str) -> None:
    if department in case.unexplained:
        raise errors.ExtensionNotExplained(case.case_id, department)


def complete_with_lead(desk: Desk, act: acts.CompleteWithLead) -> tuple[CaseEvent, ...]:
    """并案办结: the result of the lead case answers this one; its own taxpayer is told by its own feedback."""
    case = desk.case
    if case.lead_case_id != act.lead_case_id:
        raise errors.NotLinked(case.case_id)
    changes = (
        *desk.void(ClockKind.DISPATCH),
        *desk.fulfil(ClockKind.HANDLE),
        desk.start(ClockKind.FEEDBACK, desk.context.rules.feedback_workdays),
    )
    completed = events.Completed(**desk.frame(*changes, note=act.result), jointly=False, lead_case_id=act.lead_case_id)
    return (completed,)


def link(desk: Desk, act: acts.Link) -> tuple[CaseEvent, ...]:
    """并案."""
    _check_lead(desk.case.case_id, act.lead_case_id, desk.context)
    return (events.Linked(**desk.frame(), lead_case_id=act.lead_case_id),)


def _check_lead(case_id: str, lead_case_id: str, context: Context) -> None:
    """A lead is another case that is handled in this ledger and linked to none; raises `CannotLink`."""
    lead = context.lead
    if lead is None or lead.case_id == case_id:
        why = Both("this ledger has no other case of that number", "本单位台账中没有该编号的其他诉求")
        raise errors.CannotLink(case_id, lead_case_id, why, Both("Check the number.", "请核对编号。"))
    if lead.lead_case_id:
        why = Both(f"that one is linked to {lead.lead_case_id} itself", f"该诉求已并入 {lead.lead_case_id}")
        remedy = Both(f"Link it to {lead.lead_case_id}.", f"请并入 {lead.lead_case_id}。")
        raise errors.CannotLink(case_id, lead_case_id, why, remedy)
    if lead.custody is not Custody.OWNED or lead.stage not in HANDLED_HERE:
        why = Both("that one is not being handled here any more", "该诉求已不在本单位办理")
        remedy = Both("Handle this one by itself.", "请单独办理。")
        raise errors.CannotLink(case_id, lead_case_id, why, remedy)
    if context.is_lead:
        why = Both("others are linked to it", "已有其他诉求并入该诉求")
        remedy = Both("Link the other way round, or undo those links first.", "请反向并案，或者先解除原有并案。")
        raise errors.CannotLink(case_id, lead_case_id, why, remedy)


def unlink(desk: Desk, act: acts.Unlink) -> tuple[CaseEvent, ...]:
    """解除并案."""
    required(act.reason, "reason", Both("a link that was recorded is undone with a reason", "解除并案须说明原因"))
    if not desk.case.lead_case_id:
        raise errors.NotLinked(desk.case.case_id)
    return (events.Unlinked(**desk.frame(note=act.reason), lead_case_id=desk.case.lead_case_id),)


def link_issue(desk: Desk, act: acts.LinkIssue) -> tuple[CaseEvent, ...]:
    """归入共性诉求 (§四(五)); the issue's own page says what it is."""
    check_issue_id(act.issue_id)
    return (events.IssueLinked(**desk.frame(), issue_id=act.issue_id),)


def attach(desk: Desk, act: acts.Attach) -> tuple[CaseEvent, ...]:
    """附件: a file of the taxpayer's or of the handling, once, however often it is sent."""
    attachment = check_attachment(
        Attachment(digest=act.digest, name=act.name, media_type=act.media_type, size_bytes=act.size_bytes)
    )
    if desk.context.is_attached:
        return ()
    if desk.case.attached >= ATTACHMENTS_MAX:
        raise errors.TooManyAttachments(desk.case.case_id, ATTACHMENTS_MAX)
    frame = desk.frame() | {"private": Private(attachments=(attachment,))}
    return (events.AttachmentAdded(**frame, size_bytes=attachment.size_bytes),)


def give_feedback(desk: Desk, act: acts.GiveFeedback) -> tuple[CaseEvent, ...]:
    """反馈 to the taxpayer, and to tax service in the same act (§四(三))."""
    required(
        act.told, "told", Both("§四(三) has the result told to the taxpayer", "通知四（三）要求将办理结果反馈纳税人")
    )
    changes = (*desk.fulfil(ClockKind.FEEDBACK), *_follow_up_clock(desk.case.case_id, desk.context))
    return (events.FeedbackGiven(**desk.frame(*changes, note=act.told), told_by=act.told_by),)


def follow_up(desk: Desk, act: acts.FollowUp) -> tuple[CaseEvent, ...]:
    """回访, never by who handled the case (§四(四))."""
    if desk.context.actor in desk.case.handlers:
        raise errors.SamePerson(acts.FollowUp, desk.context.actor, Both("handled the case", "办理过该诉求"))
    changes = desk.fulfil(ClockKind.FOLLOW_UP)
    followed_up = events.FollowedUp(
        **desk.frame(*changes, note=act.remark), satisfaction=act.satisfaction, explained=bool(act.remark.strip())
    )
    return (followed_up,)


def reopen(desk: Desk, act: acts.Reopen) -> tuple[CaseEvent, ...]:
    """重新办理."""
    required(act.reason, "reason", Both("a reopening says why", "重新办理须说明原因"))
    changes = (*desk.stop_all(), desk.start(ClockKind.HANDLE, desk.context.rules.handle_workdays))
    return (events.Reopened(**desk.frame(*changes, note=act.reason), round=desk.case.round + 1),)


def withdraw(desk: Desk, act: acts.Withdraw) -> tuple[CaseEvent, ...]:
    """纳税人撤回."""
    return (events.CaseWithdrawn(**desk.frame(*desk.stop_all(), note=act.reason)),)


def defer(desk: Desk, act: acts.Defer) -> tuple[CaseEvent, ...]:
    """待条件成熟, with owner, review day and condition (§四(二)1)."""
    required(act.owner, "owner", Both("a deferred case has an owner", "待条件成熟的诉求须有责任人"))
    required(
        act.condition, "condition", Both("a deferred case waits for something that is named", "须写明待何种条件成熟")
    )
    at_most(act.owner, "owner", REFERENCE_CHARACTERS_MAX)
    if act.review_at > desk.at + REVIEW_AFTER_MAX:
        raise errors.FieldMalformed(
            "review_at",
            Both("is more than a year away", "距今超过一年"),
            Both(
                "Look at a deferred case at least once a year.",
                "待条件成熟的诉求每年至少查看一次，请填写一年内的时间。",
            ),
        )
    if act.review_at <= desk.at:
        raise errors.FieldMalformed(
            "review_at",
            Both("is not in the future", "不晚于当前时间"),
            Both("Give the day on which to look at it again.", "请填写今后再次查看该诉求的时间。"),
        )
    calendar = desk.context.calendar
    # A case that is looked at again and parked again has had its review; the review's day is a clock like others,
    # so that it comes close and passes in front of everybody.
    reviewed = desk.fulfil(ClockKind.REVIEW)
    stopped = reviewed or desk.stop_all()
    review = clocks.start_until(ClockKind.REVIEW, desk.at, calendar.day_of(act.review_at), calendar)
    frame = desk.frame(*stopped, review, note=act.condition)
    return (events.Deferred(**frame, owner=act.owner, review_at=act.review_at),)


def resume(desk: Desk, act: acts.Resume) -> tuple[CaseEvent, ...]:
    """恢复办理: with a new clock once, later with what was left: parking is no extension that nobody approves."""
    case = desk.case
    workdays = case.left_workdays if case.resumed else desk.context.rules.handle_workdays
    handle = desk.start(ClockKind.HANDLE, workdays)
    return (events.Resumed(**desk.frame(*desk.fulfil(ClockKind.REVIEW), handle, note=act.note)),)


def send_to_reconsideration(desk: Desk, act: acts.SendToReconsideration) -> tuple[CaseEvent, ...]:
    """转行政复议 (§四(二)1)."""
    required(act.reference, "reference", Both("the legal track has its own reference", "转行政复议须登记复议编号"))
    return (events.SentToReconsideration(**desk.frame(*desk.stop_all(), note=act.reference)),)


def write_off(desk: Desk, act: acts.WriteOff) -> tuple[CaseEvent, ...]:
    """销号 (§五(三))."""
    case = desk.case
    if case.awaiting and Override.LEDGERS_DISAGREE not in case.overridden:
        raise errors.LedgersDisagree(case.case_id, tuple(sorted(case.awaiting)))
    if case.mismatches and Override.LEDGERS_DISAGREE not in case.overridden:
        raise errors.MismatchStands(case.case_id, tuple(sorted(mismatch.peer for mismatch in case.mismatches)))
    if case.satisfaction is Satisfaction.NOT_SATISFIED and not case.explained:
        raise errors.DissatisfactionOpen(case.case_id)
    return (events.WrittenOff(**desk.frame(*desk.stop_all(), note=act.note), custody=case.custody),)


def ask_override(desk: Desk, act: acts.AskOverride) -> tuple[CaseEvent, ...]:
    """申请特批: one person asks, another decides."""
    case = desk.case
    required(act.reason, "reason", Both("an override is asked for with a reason", "申请特批须说明原因"))
    if case.override_asked is not None and not _has_lapsed(desk, case.override_asked):
        raise errors.OverridePending(case.case_id)
    if not (case.awaiting or case.mismatches) or act.override in case.overridden:
        raise errors.NothingToOverride(case.case_id)
    return (events.OverrideAsked(**_as_held(desk, act.reason), override=act.override),)


def approve_override(desk: Desk, act: acts.ApproveOverride) -> tuple[CaseEvent, ...]:
    """批准特批."""
    asked = _asked_override(desk, act)
    approved = events.OverrideApproved(**_as_held(desk, act.note), override=asked.override, asked_by=asked.asked_by)
    return (approved,)


def refuse_override(desk: Desk, act: acts.RefuseOverride) -> tuple[CaseEvent, ...]:
    """不批准特批."""
    asked = _asked_override(desk, act)
    required(act.reason, "reason", Both("a refusal says why", "不批准须说明原因"))
    refused = events.OverrideRefused(**_as_held(desk, act.reason), override=asked.override, asked_by=asked.asked_by)
    return (refused,)


def _asked_override(desk: Desk, act: Act) -> OverrideRequest:
    asked = desk.case.override_asked
    if asked is None:
        raise errors.NoOverrideAsked(desk.case.case_id)
    if asked.asked_by == desk.context.actor:
        raise errors.SamePerson(type(act), desk.context.actor, _ASKED)
    if isinstance(act, acts.ApproveOverride) and _has_lapsed(desk, asked):
        raise errors.OverrideLapsed(desk.case.case_id, OVERRIDE_WORKDAYS_MAX)
    return asked


def _has_lapsed(desk: Desk, asked: OverrideRequest) -> bool:
    """Whether nobody has decided in time: it may be asked anew, and is not approved any more."""
    return desk.context.calendar.elapsed_workdays(asked.asked_at, desk.at) > OVERRIDE_WORKDAYS_MAX


def _as_held(desk: Desk, note: str) -> dict[str, Any]:
    """The frame of an act that is done wherever the case is: what this ledger holds of it stays as it is."""
    return desk.frame(note=note) | {"custody": desk.case.custody}


def _check_known(context: Context, department: str, field: str) -> None:
    check_department(department, field)
    context.staff.check_department(department, field)
