"""What bureaus do with a case between them: refer, return, rule, receive, conclude (§四(二)3, SPEC §5).

One function for each act; `decide` has made sure of role, custody and stage. Whether an offer may be received at all is
decided before by `custody.judge`.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import datetime
from functools import reduce
from typing import Any, Final

from kuaixiang.domain import acts, clocks, errors, events
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.case import Case, Conclusion, Outgoing
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.desk import Context, Desk
from kuaixiang.domain.events import CaseEvent, ClockChange, Private
from kuaixiang.domain.handling import tell
from kuaixiang.domain.jurisdiction import check_not_dissolved
from kuaixiang.domain.labels import Both
from kuaixiang.domain.lifecycle import OPENING, stage_after
from kuaixiang.domain.registration import required
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import ClockKind, Custody, Outcome, ReferralKind, Stage


def refer(desk: Desk, act: acts.Refer) -> tuple[CaseEvent, ...]:
    """移交 (§四(二)3). To hand a case to the bureau it came from is a return, and counts as one."""
    case, tree, bureau = desk.case, desk.context.tree, desk.context.bureau
    required(act.reason, "reason", Both("a referral says why (§四(二)3)", "移交须说明原因（通知四（二）3）"))
    if act.final_bureau not in tree or act.final_bureau == bureau:
        raise errors.UnknownAddressee(act.final_bureau)
    check_not_dissolved(tree, act.final_bureau)
    incoming = case.incoming
    told = tell(desk, act.telling, act.told)
    if incoming is not None and incoming.kind is not ReferralKind.RETURN and act.final_bureau == incoming.path[0]:
        return (*told, _returned(desk, act.final_bureau, act.reason))
    _check_free(desk, act.final_bureau)
    kind = referral_kind(tree, bureau, act.final_bureau)
    return (*told, _offer(desk, kind, act.final_bureau, act.reason))


def return_to_sender(desk: Desk, act: acts.Return) -> tuple[CaseEvent, ...]:
    """退回 (§四(二)3) to where the journey began: bureaus that only passed the case on have nothing to decide."""
    required(act.reason, "reason", Both("a return says why (§四(二)3)", "退回须说明原因（通知四（二）3）"))
    incoming = desk.case.incoming
    if incoming is None:
        raise errors.NotReceived(desk.case.case_id)
    first = incoming.path[0]
    if first not in desk.context.tree:
        raise errors.UnknownAddressee(first)
    check_not_dissolved(desk.context.tree, first)
    return (_returned(desk, first, act.reason),)


def _returned(desk: Desk, first: str, reason: str) -> CaseEvent:
    case = desk.case
    _check_free(desk, first)
    parties = tuple(sorted({*case.disputants, case.bureau, first}))
    return _offer(desk, ReferralKind.RETURN, first, reason, returns=case.returns + 1, disputants=parties)


def _check_free(desk: Desk, to_bureau: str) -> None:
    """A ruled case stays where it is; one that has gone to and fro goes on by a ruling only (§二(四))."""
    case, context = desk.case, desk.context
    if case.ruled_by:
        raise errors.RulingBinds(case.case_id, case.ruled_by)
    incoming = case.incoming
    back = incoming is not None and to_bureau == incoming.path[0]
    if case.returns >= context.rules.returns_max and (back or to_bureau in case.disputants):
        superior = _superior_of(context.tree, {*case.disputants, case.bureau, to_bureau})
        raise errors.ReturnLimitReached(case.case_id, case.returns, superior, here=superior == case.bureau)


def _superior_of(tree: BureauTree, bureaus: Iterable[str]) -> str:
    """The lowest common superior of several bureaus; those that have left the tree have no say."""
    return reduce(tree.lowest_common_superior, (bureau for bureau in bureaus if bureau in tree))


def ask_ruling(desk: Desk, act: acts.AskRuling) -> tuple[CaseEvent, ...]:
    """提请裁定 by the lowest common superior of the bureaus that have sent the case back to each other."""
    case, context = desk.case, desk.context
    required(act.reason, "reason", Both("a superior who is to rule is told why", "提请裁定须说明原因"))
    if case.ruled_by:
        raise errors.RulingBinds(case.case_id, case.ruled_by)
    _check_disputed(desk)
    superior = _superior_of(context.tree, {*case.disputants, case.bureau})
    if superior == case.bureau:
        raise errors.ReturnLimitReached(case.case_id, case.returns, superior, here=True)
    return (_offer(desk, ReferralKind.ARBITRATE, superior, act.reason),)


def rule(desk: Desk, act: acts.Rule) -> tuple[CaseEvent, ...]:
    """裁定: this bureau, or one under it, handles the case; neither returns it nor hands it on (§二(四))."""
    case, context = desk.case, desk.context
    required(act.reason, "reason", Both("a ruling says why", "裁定须说明理由"))
    tree, bureau = context.tree, context.bureau
    _check_disputed(desk)
    superior = _superior_of(tree, {*case.disputants, bureau})
    if superior != bureau:
        raise errors.NothingToRule(case.case_id, superior)
    if act.final_bureau not in tree or not tree.contains(bureau, act.final_bureau):
        raise errors.NotBelow(act.final_bureau)
    check_not_dissolved(tree, act.final_bureau)
    ruled = events.Ruled(**desk.frame(note=act.reason), final_bureau=act.final_bureau)
    if act.final_bureau == bureau:
        return (ruled,)
    return (ruled, _offer(desk, ReferralKind.REFER, act.final_bureau, act.reason, ruled_by=bureau))


def _check_disputed(desk: Desk) -> None:
    case, returns_max = desk.case, desk.context.rules.returns_max
    if case.returns < returns_max or not case.disputants:
        raise errors.NotInDispute(case.case_id, case.returns, returns_max)


def referral_kind(tree: BureauTree, from_bureau: str, final_bureau: str) -> ReferralKind:
    """The direction of a journey, told by its two ends."""
    if tree.contains(final_bureau, from_bureau):
        return ReferralKind.ESCALATE
    if tree.contains(from_bureau, final_bureau):
        return ReferralKind.REFER
    return ReferralKind.RELAY


def _offer(
    desk: Desk,
    kind: ReferralKind,
    final_bureau: str,
    reason: str,
    *,
    returns: int | None = None,
    disputants: tuple[str, ...] | None = None,
    ruled_by: str = "",
) -> CaseEvent:
    case, context = desk.case, desk.context
    return events.Offered(
        **(desk.frame(note=reason) | {"custody": Custody.OFFERED}),
        referral_id=context.new_id,
        previous_referral_id=case.incoming.referral_id if case.incoming else "",
        referral_kind=kind,
        to_bureau=context.tree.next_hop(context.bureau, final_bureau),
        final_bureau=final_bureau,
        path=(context.bureau,),
        offer_epoch=case.epoch + 1,
        returns=case.returns if returns is None else returns,
        disputants=case.disputants if disputants is None else disputants,
        ruled_by=ruled_by,
    )


def resolve_offer(
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
        frame = Desk(case=case, context=context, stage=stage).frame(note=act.reason)
        return (events.OfferWithdrawalAsked(**frame | {"custody": Custody.OFFERED}, referral_id=outgoing.referral_id),)
    if outgoing is None or outgoing.referral_id != act.referral_id:
        return ()
    desk = Desk(case=case, context=context, stage=stage_after(case.case_id, case.stage, act))
    if isinstance(act, acts.AcknowledgeRefusal):
        # A bureau that only passed the case on has it to handle from now on: that is where its segment begins.
        started = segment_clocks(desk.at, context.rules, context.calendar) if outgoing.relayed else ()
        refused = events.OfferRefused(
            **desk.frame(*started), referral_id=act.referral_id, to_bureau=outgoing.to_bureau, refusal=act.refusal
        )
        return (refused,)
    return (_released(desk, outgoing, receipt_seq=act.receipt_seq, receipt_hash=act.receipt_hash),)


def _released(desk: Desk, outgoing: Outgoing, receipt_seq: int = 0, receipt_hash: bytes = b"") -> CaseEvent:
    """The case is no longer ours. Our clocks stopped when we offered it: the way to the receiver is not our delay."""
    frame = desk.frame(*desk.stop_all(outgoing.offered_at)) | {
        "epoch": outgoing.offer_epoch,
        "custody": Custody.RELEASED,
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
    return (_released(Desk(case=case, context=context, stage=Stage.REFERRED), case.outgoing),)


def receive(case: Case, act: acts.Receive, context: Context) -> tuple[CaseEvent, ...]:
    """A case that this ledger has had comes (back)."""
    released = _proof_of_release(case, context)
    stage = Stage.REFERRED if released else case.stage
    stage_after(case.case_id, stage, act)
    # Whoever returned the case, or asked for a ruling, has had this round counted.
    outgoing = case.outgoing if released else None
    let_go, counted = (outgoing.referral_kind, outgoing) if outgoing is not None else (case.let_go, case)
    # What this ledger has counted itself, no neighbour's offer counts back.
    came = replace(
        act,
        returns=max(act.returns, counted.returns),
        disputants=tuple(sorted({*act.disputants, *counted.disputants})),
    )
    return (*released, *received(came, context, handed_on=let_go not in _DELIBERATE))


_DELIBERATE: Final = frozenset({ReferralKind.RETURN, ReferralKind.ARBITRATE})
"""Referrals that count themselves, or end the counting."""


def received(act: acts.Receive, context: Context, *, handed_on: bool = False) -> tuple[CaseEvent, ...]:
    """The case is ours: accepted for this bureau, or to be passed on at once when it is for another.

    `handed_on`: this ledger had it before and referred it onwards; then a referral that ends here has come full circle,
    and counts as a return.
    """
    at, rules, calendar = context.occurred_at, context.rules, context.calendar
    relaying = act.final_bureau != context.bureau
    # A bureau on the way has nothing to handle; the clocks of its segment would measure the next bureau's link.
    started = () if relaying else segment_clocks(at, rules, calendar)
    returns, disputants = act.returns, act.disputants
    if handed_on and not relaying and not act.ruled_by and act.referral_kind not in _DELIBERATE:
        returns, disputants = returns + 1, tuple(sorted({*disputants, context.bureau, act.path[0]}))
    arrived = events.Received(
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
            attachments=act.attachments,
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
        returns=returns,
        disputants=disputants,
        ruled_by=act.ruled_by,
        attached=len(act.attachments),
    )
    if not relaying:
        return (arrived,)
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
        returns=act.returns,
        disputants=act.disputants,
        ruled_by=act.ruled_by,
    )
    return (arrived, offered)


def segment_clocks(at: datetime, rules: Rules, calendar: WorkingCalendar) -> tuple[ClockChange, ...]:
    """The clocks of a bureau that has received a case: to dispatch it, and to handle it (SPEC §4)."""
    return (
        clocks.start(ClockKind.DISPATCH, at, rules.dispatch_workdays, calendar),
        clocks.start(ClockKind.HANDLE, at, rules.handle_workdays, calendar),
    )


def hear(case: Case, act: acts.HearConclusion | acts.AcknowledgeConclusion, context: Context) -> tuple[CaseEvent, ...]:
    """How a case ended elsewhere is heard, or that it was heard is acknowledged."""
    if isinstance(act, acts.AcknowledgeConclusion):
        return _acknowledged(case, act)
    heard = Conclusion(
        outcome=act.outcome,
        epoch=act.epoch,
        round=act.round,
        handled_by=act.handled_by,
        completed_at=act.completed_at,
    )
    if act.from_bureau not in case.neighbour_bureaus | {_offered_to(case)}:
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
