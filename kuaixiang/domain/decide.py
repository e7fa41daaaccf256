"""`decide`: what an act does to a case under the rules. Pure: time, calendar, tree and staff are arguments.

It returns the events, or raises a `Refused` that says which rule stands against it. An empty answer means that the act
is a repetition of what is already so. What each act does is in `handling` (inside a bureau) and `referring` (between
bureaus); here is what is asked of every act.
"""

import itertools
from collections.abc import Callable, Mapping
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from kuaixiang.domain import acts, clocks, errors, events, handling, referring
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.desk import Context, Desk, shown
from kuaixiang.domain.events import CaseEvent
from kuaixiang.domain.lifecycle import ROLES, check_allowed, stage_after
from kuaixiang.domain.registration import check_actor, check_department
from kuaixiang.domain.words import Custody, Role, Stage

AFTER_RELEASE: Final = (acts.WriteOff, acts.AskOverride, acts.ApproveOverride, acts.RefuseOverride)
"""What a bureau still does with a case that another one is responsible for: close it in its own ledger."""


def decide(case: Case | None, act: Act, context: Context) -> tuple[CaseEvent, ...]:
    """The events of an act; raises `Refused`."""
    check_asked(act, ROLES[type(act)], case.last_at if case else None, context)
    if case is None:
        return _opening(act, context)
    if isinstance(act, acts.Receive):
        return referring.receive(case, act, context)
    if isinstance(act, (acts.HearConclusion, acts.AcknowledgeConclusion)):
        return referring.hear(case, act, context)
    if isinstance(act, (acts.MarkOverdue, acts.MarkDueSoon, acts.Recompute)):
        return _time_passed(case, act, context)
    if isinstance(act, acts.NoteMismatch):
        return _note_mismatch(case, act)
    if isinstance(act, (acts.AcknowledgeAcceptance, acts.AcknowledgeRefusal, acts.WithdrawOffer)):
        return referring.resolve_offer(case, act, context)
    if case.custody is Custody.OFFERED and case.outgoing is not None:
        raise errors.CaseFrozen(case.case_id, case.outgoing.to_bureau)
    if case.custody is Custody.RELEASED and not isinstance(act, AFTER_RELEASE):
        raise errors.NotCustodian(case.case_id, case.with_bureau, case.custody)
    stage = stage_after(case.case_id, case.stage, act)
    _check_in_charge(case, act, context)
    return _DECISIONS[type(act)](Desk(case=case, context=context, stage=stage), act)


def check_asked(act: Act, allowed: frozenset[Role], last_at: datetime | None, context: Context) -> None:
    """What is asked of every act, on a case or on an order: its time, its role, who does it; raises `Refused`."""
    check_time(last_at, context)
    check_allowed(act, context.role, allowed)
    if context.role is not Role.SYSTEM:
        check_actor(context.actor)
        check_department(context.department, "header.department")
        context.staff.check_officer(context.actor, context.role, context.department)


def check_time(last_at: datetime | None, context: Context) -> None:
    """Raises for an act in the future, too long ago, or before the last one (`last_at`) on the same matter."""
    at, now = context.occurred_at, context.now
    if at > now:
        raise errors.TimeInFuture(shown(at), shown(now))
    if at < now:
        calendar, days_max = context.calendar, context.rules.backdating_workdays_max
        if calendar.workdays_between(calendar.day_of(at), calendar.day_of(now)) > days_max:
            raise errors.RecordedTooLate(shown(at), days_max)
    if last_at is not None and at < last_at:
        raise errors.OutOfOrder(shown(at), shown(last_at))


_OF_A_PART: Final = (acts.AskExtension, acts.ExplainExtension, acts.ReturnDispatch, acts.Attach)
"""What an assisting department does in joint handling; everything else is the lead's (谁主办、谁反馈)."""


def _check_in_charge(case: Case, act: Act, context: Context) -> None:
    """A handler is of the department that handles the case; who accepts directly, of the one that registered it."""
    if context.role is not Role.HANDLER and not isinstance(act, acts.AcceptDirectly):
        return
    if isinstance(act, acts.CompletePart):
        # Which parts are open is this act's own question.
        return
    in_charge: tuple[str, ...] = (case.department,)
    if case.stage is Stage.JOINT_HANDLING and isinstance(act, _OF_A_PART):
        in_charge = (case.lead_department, *case.open_parts)
    if context.department not in in_charge:
        raise errors.NotInCharge(case.case_id, context.department, in_charge)


def _opening(act: Act, context: Context) -> tuple[CaseEvent, ...]:
    match act:
        case acts.Register():
            return handling.register(act, context)
        case acts.Receive():
            return referring.received(act, context)
        case _:
            raise errors.UnknownCase(context.bureau, "")


def _time_passed(
    case: Case, act: acts.MarkOverdue | acts.MarkDueSoon | acts.Recompute, context: Context
) -> tuple[CaseEvent, ...]:
    """Records what time has done to the clocks, once each. An offered case waits for another bureau: they stand."""
    if case.custody is not Custody.OWNED:
        return ()
    at = context.occurred_at
    kind: type[CaseEvent]
    if isinstance(act, acts.MarkOverdue):
        kind, found = events.BecameOverdue, [clocks.overdue(clock, at) for clock in case.clocks]
    elif isinstance(act, acts.MarkDueSoon):
        kind, found = events.BecameDueSoon, [clocks.due_soon(clock, at) for clock in case.clocks]
    else:
        # A deadline that has passed, recorded or not, was missed under the calendar of its day.
        standing = (clock for clock in case.clocks if at < clock.due_at)
        kind, found = events.ClocksRecomputed, [clocks.recompute(clock, context.calendar) for clock in standing]
    changes = tuple(itertools.chain.from_iterable(found))
    if not changes:
        return ()
    return (kind(stage=case.stage, custody=case.custody, epoch=case.epoch, clocks=changes),)


def _note_mismatch(case: Case, act: acts.NoteMismatch) -> tuple[CaseEvent, ...]:
    """Records once that a peer's ledger differs, how, and that it no longer does."""
    known = next((mismatch.difference for mismatch in case.mismatches if mismatch.peer == act.peer), None)
    if known == act.difference:
        return ()
    standing: dict[str, Any] = {"stage": case.stage, "custody": case.custody, "epoch": case.epoch}
    if act.difference is None:
        return (events.MismatchCleared(**standing, peer=act.peer),)
    return (events.MismatchFound(**standing, peer=act.peer, difference=act.difference),)


_DECISIONS: Final[Mapping[type[Act], Callable[[Desk, Any], tuple[CaseEvent, ...]]]] = MappingProxyType(
    {
        acts.AnswerOnTheSpot: handling.answer_on_the_spot,
        acts.Forward: handling.forward,
        acts.AcceptDirectly: handling.accept_directly,
        acts.Dispatch: handling.dispatch,
        acts.ReturnDispatch: handling.return_dispatch,
        acts.AskExtension: handling.ask_extension,
        acts.ApproveExtension: handling.approve_extension,
        acts.RefuseExtension: handling.refuse_extension,
        acts.ExplainExtension: handling.explain_extension,
        acts.StartJointHandling: handling.start_joint_handling,
        acts.AddPart: handling.add_part,
        acts.CompletePart: handling.complete_part,
        acts.Complete: handling.complete,
        acts.CompleteWithLead: handling.complete_with_lead,
        acts.Link: handling.link,
        acts.Unlink: handling.unlink,
        acts.LinkIssue: handling.link_issue,
        acts.Attach: handling.attach,
        acts.GiveFeedback: handling.give_feedback,
        acts.FollowUp: handling.follow_up,
        acts.Reopen: handling.reopen,
        acts.Withdraw: handling.withdraw,
        acts.Defer: handling.defer,
        acts.Resume: handling.resume,
        acts.SendToReconsideration: handling.send_to_reconsideration,
        acts.Refer: referring.refer,
        acts.Return: referring.return_to_sender,
        acts.AskRuling: referring.ask_ruling,
        acts.Rule: referring.rule,
        acts.AskOverride: handling.ask_override,
        acts.ApproveOverride: handling.approve_override,
        acts.RefuseOverride: handling.refuse_override,
        acts.WriteOff: handling.write_off,
    }
)
