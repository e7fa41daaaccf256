"""A case as one bureau's ledger knows it: the fold of its entries."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final

from kuaixiang.domain import clocks as clockwork
from kuaixiang.domain import events
from kuaixiang.domain.changed import changed
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.custody import Holding
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Custody,
    DifferenceKind,
    Outcome,
    Override,
    ReferralKind,
    Satisfaction,
    Stage,
    Telling,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtensionRequest:
    """An extension asked for and not decided; `for_department` names the part of a joint handling, else it is empty."""

    workdays: int
    asked_by: str
    for_department: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class OverrideRequest:
    """An override asked for and not decided."""

    override: Override
    asked_by: str
    asked_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Outgoing:
    """An offer that awaits the receiver's decision."""

    referral_id: str
    referral_kind: ReferralKind
    to_bureau: str
    final_bureau: str
    path: tuple[str, ...]
    offer_epoch: int
    offered_at: datetime
    withdrawing: bool = False
    returns: int = 0
    disputants: tuple[str, ...] = ()
    ruled_by: str = ""

    @property
    def relayed(self) -> bool:
        """Whether the sender only passes the case on."""
        return len(self.path) > 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Incoming:
    """The accepted referral that brought the case last."""

    referral_id: str
    kind: ReferralKind
    from_bureau: str
    path: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Conclusion:
    """How the case ended. Of two conclusions the one of the higher (epoch, round, standing) is the later."""

    outcome: Outcome
    epoch: int
    round: int
    handled_by: str
    completed_at: datetime

    @property
    def order(self) -> tuple[int, int, bool]:
        """Within a round, a reopening comes before the outcome that follows it."""
        return (self.epoch, self.round, self.outcome is not Outcome.REOPENED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mismatch:
    """A peer whose ledger tells something else of the case, as the last reconciliation found."""

    peer: str
    difference: DifferenceKind
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """What the entries of a case amount to."""

    bureau: str
    case_id: str
    version: int
    stage: Stage
    custody: Custody
    epoch: int
    category: Category
    channel: Channel
    department: str
    origin_bureau: str
    registered_at: datetime
    last_at: datetime
    clocks: tuple[Clock, ...] = ()
    telling: Telling | None = None
    bounces: int = 0
    round: int = 0
    extensions: tuple[ExtensionRequest, ...] = ()
    extended: bool = False
    """Whether its handling has had its one extension (§四(二)1), whichever department has it now."""
    left_workdays: int = 0
    """What its handling clock had left when the case was parked last."""
    resumed: bool = False
    """Whether its handling has been begun anew once after it was parked, whichever department has it now."""
    lead_department: str = ""
    open_parts: tuple[str, ...] = ()
    unexplained: frozenset[str] = frozenset()
    """Jointly handling departments with an extension that the taxpayer has not been told the reason of (§四(二)2)."""
    lead_case_id: str = ""
    """The case of this ledger that asks the same."""
    issue_id: str = ""
    attached: int = 0
    """Files that the case has."""
    handlers: frozenset[str] = frozenset()
    satisfaction: Satisfaction | None = None
    explained: bool = False
    outgoing: Outgoing | None = None
    incoming: Incoming | None = None
    neighbours: tuple[tuple[str, str], ...] = ()
    """Bureaus with which the case was handed over, in either direction, each with the latest referral's id."""
    conclusion: Conclusion | None = None
    awaiting: frozenset[str] = frozenset()
    """Neighbours that have not acknowledged the conclusion yet."""
    returns: int = 0
    """Times the case has been sent back between bureaus."""
    disputants: tuple[str, ...] = ()
    """The bureaus that have sent it back to each other."""
    let_go: ReferralKind | None = None
    """How it left this bureau last."""
    ruled_by: str = ""
    """The superior that has ruled that this bureau handles it."""
    override_asked: OverrideRequest | None = None
    overridden: frozenset[Override] = frozenset()
    """Rules that two people together have set aside for this case."""
    with_bureau: str = ""
    competent_bureau: str = ""
    snapshot_version: int = 1
    """The entry that holds the taxpayer's name, contact and text."""
    mismatches: tuple[Mismatch, ...] = ()
    """One for each peer; none may stand when the case is written off (对账销号)."""

    @property
    def holding(self) -> Holding:
        """What the custody rules need to know."""
        return Holding(custody=self.custody, epoch=self.epoch)

    @property
    def neighbour_bureaus(self) -> frozenset[str]:
        """The bureaus that it has gone to or come from."""
        return frozenset(bureau for bureau, _ in self.neighbours)

    def clock(self, kind: ClockKind, department: str | None = None) -> Clock | None:
        """The running clock of a kind, of one department where that is asked for."""
        for clock in self.clocks:
            if clock.kind == kind and department in {None, clock.department}:
                return clock
        return None


_NOTED: Final = (
    events.BecameOverdue,
    events.BecameDueSoon,
    events.ClocksRecomputed,
    events.ConclusionDelivered,
    events.MismatchFound,
    events.MismatchCleared,
    events.SnapshotRestored,
    events.PrivatePartsLost,
)
"""Events that note what time, a calendar or a peer did."""


def evolve(case: Case | None, entry: Entry) -> Case | None:
    """The case after an entry: pure and total. None only for an entry that concerns no case of this ledger."""
    event = entry.event
    if isinstance(event, events.OfferDeclined) or not isinstance(event, events.CaseEvent):
        return case
    if case is None:
        case = _begin(entry, event)
        return changed(case, **_received(case, entry, event)) if isinstance(event, events.Received) else case
    changes = _particulars(case, entry)
    changes["version"] = entry.version
    changes["stage"] = event.stage
    changes["custody"] = event.custody
    changes["epoch"] = event.epoch
    if not isinstance(event, _NOTED):
        # An officer may still record what was done before they were noted.
        changes["last_at"] = entry.occurred_at
    if event.clocks:
        changes["clocks"] = clockwork.apply(case.clocks, event.clocks)
    return changed(case, **changes)


def _begin(entry: Entry, event: events.CaseEvent) -> Case:
    """The case by its first entry, made in one go: most cases of a busy day have no other one yet."""
    received = event if isinstance(event, events.Received) else None
    return Case(
        bureau=entry.bureau,
        case_id=entry.case_id,
        version=entry.version,
        stage=event.stage,
        custody=event.custody,
        epoch=event.epoch,
        category=entry.category or Category.OTHER,
        channel=entry.channel or Channel.OTHER,
        department=entry.department,
        origin_bureau=received.origin_bureau if received else entry.bureau,
        registered_at=received.registered_at if received else entry.occurred_at,
        last_at=entry.occurred_at,
        with_bureau=entry.bureau,
        clocks=clockwork.apply((), event.clocks),
        competent_bureau=event.competent_bureau if isinstance(event, events.Registered) else "",
    )


def _particulars(case: Case, entry: Entry) -> dict[str, Any]:  # noqa: C901, PLR0911, PLR0912 - one flat arm for each event
    """What an event changes besides stage, custody, epoch and clocks."""
    match entry.event:
        case events.AnsweredOnTheSpot():
            return _ended(case, Outcome.COMPLETED, entry.occurred_at) | {"handlers": case.handlers | {entry.actor}}
        case events.TaxpayerTold() as event:
            return {"telling": event.telling}
        case events.Dispatched() as event:
            return {"department": event.to_department}
        case events.DispatchReturned() as event:
            return {"bounces": event.bounces, **_NOT_JOINT}
        case events.AcceptedDirectly():
            return {"department": entry.department}
        case events.ExtensionAsked() as event:
            asked = ExtensionRequest(workdays=event.workdays, asked_by=entry.actor, for_department=event.for_department)
            return {"extensions": (*case.extensions, asked)}
        case events.ExtensionApproved() as event:
            joint = {event.for_department} - {""}
            return {
                "extensions": _undecided(case, event.for_department),
                "unexplained": case.unexplained | joint,
                "extended": case.extended or not joint,
            }
        case events.ExtensionRefused() as event:
            return {"extensions": _undecided(case, event.for_department)}
        case events.ExtensionExplained() as event:
            return {"unexplained": case.unexplained - {event.for_department}}
        case events.JointHandlingStarted() as event:
            return {
                "department": event.lead_department,
                "lead_department": event.lead_department,
                "open_parts": event.assisting_departments,
                "extensions": (),
            }
        case events.PartAdded() as event:
            return {"open_parts": (*case.open_parts, event.part_department)}
        case events.PartReturned() as event:
            return {**_without_part(case, event.part_department), "bounces": event.bounces}
        case events.PartCompleted() as event:
            return {**_without_part(case, event.part_department), "handlers": case.handlers | {entry.actor}}
        case events.Completed() as event:
            # What another case's result has answered is that case's department's to tell.
            in_charge = {"department": entry.department} if event.lead_case_id else {}
            return {"extensions": (), "handlers": case.handlers | {entry.actor}, **in_charge}
        case events.Linked() as event:
            return {"lead_case_id": event.lead_case_id}
        case events.Unlinked():
            return {"lead_case_id": ""}
        case events.IssueLinked() as event:
            return {"issue_id": event.issue_id}
        case events.AttachmentAdded():
            return {"attached": case.attached + 1}
        case events.FeedbackGiven():
            # The feedback is the handler's too: who gave it does not follow it up.
            return _ended(case, Outcome.COMPLETED, entry.occurred_at) | {"handlers": case.handlers | {entry.actor}}
        case events.FollowedUp() as event if event.satisfaction is Satisfaction.NOT_REACHED and case.satisfaction:
            # A call that reached nobody does not undo what was said before; a remark may explain it.
            return {"explained": case.explained or event.explained}
        case events.FollowedUp() as event:
            return {"satisfaction": event.satisfaction, "explained": event.explained}
        case events.Reopened() as event:
            again = {
                "round": event.round,
                "satisfaction": None,
                "explained": False,
                "overridden": frozenset(),
                "extended": False,
                "resumed": False,
                **_NOT_JOINT,
            }
            return _ended(case, Outcome.REOPENED, entry.occurred_at, round_=event.round) | again
        case events.CaseWithdrawn():
            return _ended(case, Outcome.WITHDRAWN, entry.occurred_at) | {"extensions": ()}
        case events.SentToReconsideration():
            return _ended(case, Outcome.RECONSIDERATION, entry.occurred_at) | {"extensions": ()}
        case events.Deferred() as event:
            return {**_NOT_JOINT, "left_workdays": _left_workdays(case, event)}
        case events.Resumed():
            return {"resumed": True}
        case events.Ruled() as event:
            return {"ruled_by": case.bureau if event.final_bureau == case.bureau else ""}
        case events.OverrideAsked() as event:
            return {
                "override_asked": OverrideRequest(
                    override=event.override, asked_by=entry.actor, asked_at=entry.occurred_at
                )
            }
        case events.OverrideApproved() as event:
            return {"override_asked": None, "overridden": case.overridden | {event.override}}
        case events.OverrideRefused():
            return {"override_asked": None}
        case events.Offered() as event:
            return {
                "outgoing": Outgoing(
                    referral_id=event.referral_id,
                    referral_kind=event.referral_kind,
                    to_bureau=event.to_bureau,
                    final_bureau=event.final_bureau,
                    path=event.path,
                    offer_epoch=event.offer_epoch,
                    offered_at=entry.occurred_at,
                    returns=event.returns,
                    disputants=event.disputants,
                    ruled_by=event.ruled_by,
                ),
            }
        case events.OfferWithdrawalAsked() if case.outgoing is not None:
            return {"outgoing": replace(case.outgoing, withdrawing=True)}
        case events.Released() as event:
            return {
                "outgoing": None,
                "with_bureau": event.to_bureau,
                "returns": case.outgoing.returns if case.outgoing else case.returns,
                "disputants": case.outgoing.disputants if case.outgoing else case.disputants,
                "ruled_by": "",
                "let_go": event.referral_kind,
                **_NOT_JOINT,
                "neighbours": _with_neighbour(case, event.to_bureau, event.referral_id),
                # A reopening is still to be told to those who hold the case for concluded.
                "awaiting": case.awaiting - {event.to_bureau},
            }
        case events.OfferRefused():
            return {"outgoing": None}
        case events.Received() as event:
            return _received(case, entry, event)
        case events.Concluded() as event:
            heard = Conclusion(
                outcome=event.outcome,
                epoch=event.epoch,
                round=event.round,
                handled_by=event.handled_by,
                completed_at=event.completed_at,
            )
            return _heard(case, event.from_bureau, heard)
        case events.ConclusionRevoked() as event:
            revoked = Conclusion(
                outcome=Outcome.REOPENED,
                epoch=event.epoch,
                round=event.round,
                handled_by=event.handled_by,
                completed_at=entry.occurred_at,
            )
            return _heard(case, event.from_bureau, revoked)
        case events.ConclusionDelivered() as event:
            return {"awaiting": case.awaiting - {event.to_bureau}}
        case events.MismatchFound() as event:
            found = Mismatch(peer=event.peer, difference=event.difference, since=entry.occurred_at)
            return {"mismatches": (*_mismatches_without(case, event.peer), found)}
        case events.MismatchCleared() as event:
            return {"mismatches": _mismatches_without(case, event.peer)}
        case events.SnapshotRestored():
            return {"snapshot_version": entry.version}
        case _:
            return {}


def _left_workdays(case: Case, event: events.Deferred) -> int:
    """Whole working days that the stopped handling clock had left; as before for a case that was parked already."""
    for change in event.clocks:
        handling = change.kind is ClockKind.HANDLE or (
            change.kind is ClockKind.JOINT and change.department == case.lead_department
        )
        if handling and change.action is ClockAction.STOPPED:
            left = change.limit_workdays - change.elapsed_milli_workdays // 1000
            return 0 if change.outcome is ClockOutcome.MISSED else max(left, 0)
    return case.left_workdays


def _mismatches_without(case: Case, peer: str) -> tuple[Mismatch, ...]:
    return tuple(mismatch for mismatch in case.mismatches if mismatch.peer != peer)


def _received(case: Case, entry: Entry, event: events.Received) -> dict[str, Any]:
    """The case is here (again): a new segment begins, with what the ledger knew of the earlier ones kept."""
    return {
        "department": entry.department,
        # Whoever referred the case had told the taxpayer: a case cannot leave a desk otherwise.
        "telling": case.telling or Telling.TRANSFERRED,
        "outgoing": None,
        "incoming": Incoming(
            referral_id=event.referral_id, kind=event.referral_kind, from_bureau=event.from_bureau, path=event.path
        ),
        "neighbours": _with_neighbour(case, event.from_bureau, event.referral_id),
        **_NOT_JOINT,
        "extended": False,
        "resumed": False,
        "returns": event.returns,
        "disputants": event.disputants,
        "ruled_by": event.ruled_by,
        "attached": event.attached,
        "lead_case_id": "",
        "override_asked": None,
        "overridden": frozenset(),
        "satisfaction": None,
        "explained": False,
        "with_bureau": case.bureau,
        "snapshot_version": entry.version,
        **_open_again(case, entry, event),
    }


def _open_again(case: Case, entry: Entry, event: events.Received) -> dict[str, Any]:
    """A case that came (back) is open: whoever was told here how it ended is to hear that this no longer stands."""
    if case.conclusion is None:
        return {}
    reopened = Conclusion(
        outcome=Outcome.REOPENED,
        epoch=event.epoch,
        round=case.round,
        handled_by=case.bureau,
        completed_at=entry.occurred_at,
    )
    return {"conclusion": reopened, "awaiting": case.neighbour_bureaus - {event.from_bureau}}


_NOT_JOINT: Mapping[str, Any] = MappingProxyType(
    {"lead_department": "", "open_parts": (), "extensions": (), "unexplained": frozenset()}
)
"""What no longer holds when the departments that handled a case have it no more."""


def _undecided(case: Case, for_department: str) -> tuple[ExtensionRequest, ...]:
    return tuple(asked for asked in case.extensions if asked.for_department != for_department)


def _without_part(case: Case, department: str) -> dict[str, Any]:
    return {
        "open_parts": tuple(part for part in case.open_parts if part != department),
        "extensions": _undecided(case, department),
        "unexplained": case.unexplained - {department},
    }


def _with_neighbour(case: Case, bureau: str, referral_id: str) -> tuple[tuple[str, str], ...]:
    others = tuple(pair for pair in case.neighbours if pair[0] != bureau)
    return (*others, (bureau, referral_id))


def _ended(case: Case, outcome: Outcome, at: datetime, round_: int | None = None) -> dict[str, Any]:
    """A conclusion reached here: every neighbour is to hear of it."""
    conclusion = Conclusion(
        outcome=outcome,
        epoch=case.epoch,
        round=case.round if round_ is None else round_,
        handled_by=case.bureau,
        completed_at=at,
    )
    return {"conclusion": conclusion, "awaiting": case.neighbour_bureaus}


def _heard(case: Case, from_bureau: str, conclusion: Conclusion) -> dict[str, Any]:
    """A conclusion heard from one neighbour: every other one is to hear of it."""
    return {
        "round": conclusion.round,
        "conclusion": conclusion,
        "awaiting": case.neighbour_bureaus - {from_bureau},
        "with_bureau": conclusion.handled_by,
    }
