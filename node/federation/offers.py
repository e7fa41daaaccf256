"""What a peer is to be told of a case, made from the ledger as it is at that moment.

A message is made anew at each attempt and is the same each time: its id, epoch and contents are in the journal.
"""

from collections.abc import Sequence
from functools import reduce
from typing import Any, Final

from kuaixiang.domain import events
from kuaixiang.domain.attachments import attachments_in
from kuaixiang.domain.case import Case, Conclusion, Outgoing, evolve
from kuaixiang.domain.events import Attachment, Event, Private
from kuaixiang.domain.words import Outcome
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.codec import attachment_message
from kuaixiang.wire.v1 import referral_pb2
from node.ledger.queries import HistoryEntry

Message = referral_pb2.Offer | referral_pb2.WithdrawRequest | referral_pb2.ConcludeRequest

_ENDING: Final[dict[Outcome, tuple[type[Event], ...]]] = {
    Outcome.COMPLETED: (events.Completed, events.AnsweredOnTheSpot),
    Outcome.WITHDRAWN: (events.CaseWithdrawn,),
    Outcome.RECONSIDERATION: (events.SentToReconsideration,),
    Outcome.REOPENED: (events.Reopened,),
}
"""The entries whose note says how a case ended here; of a completed one the result (办理结果), not the feedback."""
_HEARD: Final = (events.Concluded, events.ConclusionRevoked)
"""The entries whose note says how it ended elsewhere."""


def owed(history: Sequence[HistoryEntry], peer: str) -> Message | None:
    """What the peer is to be told of a case now, its entries given with their private parts; None: nothing any more.

    An offer whose request was lost with a disk cannot be made again. It is withdrawn, which takes nothing private: who
    has accepted it says so once more, and else the case is back, where an officer asks the taxpayer again.
    """
    case = reduce(evolve, (item.entry for item in history), None)
    if case is None:
        return None
    outgoing = case.outgoing
    if outgoing is not None and outgoing.to_bureau == peer:
        private = None if outgoing.withdrawing else _private(case, history)
        return _withdrawal(case, outgoing) if private is None else _offer(case, outgoing, history, private)
    if case.conclusion is not None and peer in case.awaiting:
        return _conclusion(case, case.conclusion, peer, history)
    return None


def _withdrawal(case: Case, outgoing: Outgoing) -> referral_pb2.WithdrawRequest:
    return referral_pb2.WithdrawRequest(
        referral_id=outgoing.referral_id,
        case_id=case.case_id,
        epoch=outgoing.offer_epoch,
        from_bureau=case.bureau,
        to_bureau=outgoing.to_bureau,
        offered_at_us=to_micros(outgoing.offered_at),
    )


def _private(case: Case, history: Sequence[HistoryEntry]) -> Private | None:
    """The request, as far as it is kept here."""
    return next((item.entry.event.private for item in history if item.entry.version == case.snapshot_version), None)


def _offer(case: Case, outgoing: Outgoing, history: Sequence[HistoryEntry], private: Private) -> referral_pb2.Offer:
    previous, reason = "", ""
    for item in history:
        event = item.entry.event
        if isinstance(event, events.Offered) and event.referral_id == outgoing.referral_id:
            previous, reason = event.previous_referral_id, _note(event)
    kind: Any = outgoing.referral_kind
    return referral_pb2.Offer(
        referral_id=outgoing.referral_id,
        case_id=case.case_id,
        epoch=outgoing.offer_epoch,
        previous_referral_id=previous,
        from_bureau=case.bureau,
        to_bureau=outgoing.to_bureau,
        final_bureau=outgoing.final_bureau,
        path=outgoing.path,
        referral_kind=kind,
        reason=reason,
        snapshot=_snapshot(case, outgoing, private, attachments_in((i.entry for i in history), case.snapshot_version)),
        offered_at_us=to_micros(outgoing.offered_at),
    )


def _snapshot(
    case: Case, outgoing: Outgoing, private: Private, attachments: Sequence[Attachment]
) -> referral_pb2.Snapshot:
    words: dict[str, Any] = {"category": case.category, "channel": case.channel}
    return referral_pb2.Snapshot(
        origin_bureau=case.origin_bureau,
        registered_at_us=to_micros(case.registered_at),
        taxpayer_name=private.taxpayer_name,
        taxpayer_number=private.taxpayer_number,
        contact=private.contact,
        text=private.text,
        place=private.place,
        returns=outgoing.returns,
        disputants=outgoing.disputants,
        ruled_by=outgoing.ruled_by,
        attachments=[attachment_message(attachment) for attachment in attachments],
        **words,
    )


def _conclusion(
    case: Case, conclusion: Conclusion, peer: str, history: Sequence[HistoryEntry]
) -> referral_pb2.ConcludeRequest:
    here = conclusion.handled_by == case.bureau
    kinds = _ENDING[conclusion.outcome] if here else _HEARD
    ending = next((item.entry.event for item in reversed(history) if isinstance(item.entry.event, kinds)), None)
    outcome: Any = conclusion.outcome
    return referral_pb2.ConcludeRequest(
        case_id=case.case_id,
        from_bureau=case.bureau,
        to_bureau=peer,
        referral_id=dict(case.neighbours)[peer],
        epoch=conclusion.epoch,
        round=conclusion.round,
        outcome=outcome,
        handled_by=conclusion.handled_by,
        completed_at_us=to_micros(conclusion.completed_at),
        result=_note(ending) if ending is not None else "",
    )


def _note(event: Event) -> str:
    return event.private.note if event.private is not None else ""
