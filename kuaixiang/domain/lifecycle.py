"""The lifecycle of a case in one bureau's ledger.

1. Every change of stage is in these tables; a miss is one named error, `ActNotAllowed`.
2. This file knows nothing of who calls, of time, or of storage.
"""

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.errors import ActNotAllowed, RoleNotAllowed
from kuaixiang.domain.words import Role, Stage

TypeOfAct = type[Act]

OPENING: Mapping[TypeOfAct, Stage] = MappingProxyType(
    {
        acts.Register: Stage.REGISTERED,
        acts.Receive: Stage.FORWARDED,
    }
)
"""Acts that begin a case in this ledger. A received case is at the tax-service department at once."""

TRANSITIONS: Mapping[Stage, Mapping[TypeOfAct, Stage]] = MappingProxyType(
    {
        Stage.REGISTERED: {
            acts.AnswerOnTheSpot: Stage.FED_BACK,
            acts.Forward: Stage.FORWARDED,
            acts.AcceptDirectly: Stage.HANDLING,
            acts.Withdraw: Stage.WITHDRAWN,
            acts.AcknowledgeAcceptance: Stage.REFERRED,
        },
        Stage.FORWARDED: {
            acts.Dispatch: Stage.HANDLING,
            acts.StartJointHandling: Stage.JOINT_HANDLING,
            acts.CompleteWithLead: Stage.COMPLETED,
            acts.SendToReconsideration: Stage.RECONSIDERATION,
            acts.Withdraw: Stage.WITHDRAWN,
            acts.AcknowledgeAcceptance: Stage.REFERRED,
        },
        Stage.HANDLING: {
            acts.ReturnDispatch: Stage.FORWARDED,
            acts.StartJointHandling: Stage.JOINT_HANDLING,
            acts.Complete: Stage.COMPLETED,
            acts.CompleteWithLead: Stage.COMPLETED,
            acts.Defer: Stage.DEFERRED,
            acts.SendToReconsideration: Stage.RECONSIDERATION,
            acts.Withdraw: Stage.WITHDRAWN,
            acts.AcknowledgeAcceptance: Stage.REFERRED,
        },
        Stage.JOINT_HANDLING: {
            acts.ReturnDispatch: Stage.FORWARDED,
            acts.Complete: Stage.COMPLETED,
            acts.Defer: Stage.DEFERRED,
            acts.SendToReconsideration: Stage.RECONSIDERATION,
            acts.Withdraw: Stage.WITHDRAWN,
            acts.AcknowledgeAcceptance: Stage.REFERRED,
        },
        Stage.DEFERRED: {
            acts.Defer: Stage.DEFERRED,
            acts.Resume: Stage.HANDLING,
            acts.SendToReconsideration: Stage.RECONSIDERATION,
            acts.Withdraw: Stage.WITHDRAWN,
        },
        Stage.REFERRED: {
            acts.Receive: Stage.FORWARDED,
            acts.HearConclusion: Stage.CONCLUDED,
        },
        Stage.COMPLETED: {
            acts.GiveFeedback: Stage.FED_BACK,
        },
        Stage.FED_BACK: {
            acts.FollowUp: Stage.FOLLOWED_UP,
            acts.Reopen: Stage.HANDLING,
            acts.WriteOff: Stage.WRITTEN_OFF,
        },
        Stage.FOLLOWED_UP: {
            acts.FollowUp: Stage.FOLLOWED_UP,
            acts.Reopen: Stage.HANDLING,
            acts.WriteOff: Stage.WRITTEN_OFF,
        },
        Stage.CONCLUDED: {
            acts.Receive: Stage.FORWARDED,
            acts.HearConclusion: Stage.CONCLUDED,
            acts.WriteOff: Stage.WRITTEN_OFF,
        },
        Stage.RECONSIDERATION: {
            acts.WriteOff: Stage.WRITTEN_OFF,
        },
        Stage.WITHDRAWN: {
            acts.WriteOff: Stage.WRITTEN_OFF,
        },
        Stage.WRITTEN_OFF: {
            # Written off here, reopened by the bureau that handled it: the ledger has it open again.
            acts.Receive: Stage.FORWARDED,
            acts.HearConclusion: Stage.CONCLUDED,
        },
    }
)
"""Acts that move a case. Two of them have two ends: a conclusion heard that says REOPENED leads to REFERRED, and a
dispatch that an assisting department returns leaves the case in joint handling."""

_BEFORE_THE_END: Final = frozenset({Stage.REGISTERED, Stage.FORWARDED, Stage.HANDLING, Stage.JOINT_HANDLING})
HANDLED_HERE: Final = _BEFORE_THE_END | {Stage.DEFERRED}
"""Where a case of this bureau's is still being handled, or parked."""
_AT_TAX_SERVICE_OR_AFTER: Final = _BEFORE_THE_END - {Stage.REGISTERED}
_TO_BE_WRITTEN_OFF: Final = frozenset(
    {Stage.FED_BACK, Stage.FOLLOWED_UP, Stage.CONCLUDED, Stage.RECONSIDERATION, Stage.WITHDRAWN}
)

STANDING: Mapping[TypeOfAct, frozenset[Stage]] = MappingProxyType(
    {
        acts.Link: HANDLED_HERE,
        acts.Unlink: HANDLED_HERE,
        acts.Attach: HANDLED_HERE | {Stage.COMPLETED},
        acts.LinkIssue: frozenset(Stage) - {Stage.REFERRED, Stage.CONCLUDED, Stage.WRITTEN_OFF},
        acts.Refer: _BEFORE_THE_END,
        acts.Return: _AT_TAX_SERVICE_OR_AFTER,
        acts.AskRuling: _AT_TAX_SERVICE_OR_AFTER,
        acts.Rule: _AT_TAX_SERVICE_OR_AFTER,
        acts.WithdrawOffer: _BEFORE_THE_END,
        acts.AcknowledgeRefusal: _BEFORE_THE_END,
        acts.AskExtension: frozenset({Stage.HANDLING, Stage.JOINT_HANDLING}),
        acts.ApproveExtension: frozenset({Stage.HANDLING, Stage.JOINT_HANDLING}),
        acts.RefuseExtension: frozenset({Stage.HANDLING, Stage.JOINT_HANDLING}),
        acts.ExplainExtension: frozenset({Stage.JOINT_HANDLING}),
        acts.AddPart: frozenset({Stage.JOINT_HANDLING}),
        acts.CompletePart: frozenset({Stage.JOINT_HANDLING}),
        acts.AskOverride: _TO_BE_WRITTEN_OFF,
        acts.ApproveOverride: _TO_BE_WRITTEN_OFF,
        acts.RefuseOverride: _TO_BE_WRITTEN_OFF,
        acts.AcknowledgeConclusion: frozenset(Stage),
        acts.MarkOverdue: frozenset(Stage),
        acts.MarkDueSoon: frozenset(Stage),
        acts.Recompute: frozenset(Stage),
        acts.NoteMismatch: frozenset(Stage),
    }
)
"""Acts that leave the stage as it is, and where they are possible."""

ROLES: Mapping[TypeOfAct, frozenset[Role]] = MappingProxyType(
    {
        acts.Register: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.CHANNEL}),
        acts.AnswerOnTheSpot: frozenset({Role.REGISTRAR, Role.TAX_SERVICE}),
        acts.Forward: frozenset({Role.REGISTRAR, Role.TAX_SERVICE}),
        acts.AcceptDirectly: frozenset({Role.REGISTRAR, Role.HANDLER}),
        acts.Dispatch: frozenset({Role.TAX_SERVICE}),
        acts.ReturnDispatch: frozenset({Role.HANDLER}),
        acts.AskExtension: frozenset({Role.HANDLER}),
        acts.ApproveExtension: frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
        acts.RefuseExtension: frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
        acts.ExplainExtension: frozenset({Role.HANDLER}),
        acts.StartJointHandling: frozenset({Role.TAX_SERVICE}),
        acts.AddPart: frozenset({Role.TAX_SERVICE}),
        acts.CompletePart: frozenset({Role.HANDLER}),
        acts.Complete: frozenset({Role.HANDLER}),
        acts.CompleteWithLead: frozenset({Role.SYSTEM}),
        acts.Link: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}),
        acts.Unlink: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}),
        acts.LinkIssue: frozenset({Role.TAX_SERVICE, Role.HANDLER}),
        acts.Attach: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}),
        acts.GiveFeedback: frozenset({Role.HANDLER}),
        acts.FollowUp: frozenset({Role.TAX_SERVICE}),
        acts.Reopen: frozenset({Role.TAX_SERVICE}),
        acts.Withdraw: frozenset({Role.REGISTRAR, Role.TAX_SERVICE}),
        acts.Defer: frozenset({Role.HANDLER}),
        acts.Resume: frozenset({Role.HANDLER, Role.TAX_SERVICE}),
        acts.SendToReconsideration: frozenset({Role.HANDLER, Role.TAX_SERVICE}),
        acts.Refer: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}),
        acts.Return: frozenset({Role.TAX_SERVICE, Role.HANDLER}),
        acts.AskRuling: frozenset({Role.TAX_SERVICE, Role.HANDLER}),
        acts.Rule: frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
        acts.AskOverride: frozenset({Role.TAX_SERVICE}),
        acts.ApproveOverride: frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
        acts.RefuseOverride: frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
        acts.WithdrawOffer: frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER}),
        acts.WriteOff: frozenset({Role.TAX_SERVICE}),
        acts.Receive: frozenset({Role.SYSTEM}),
        acts.AcknowledgeAcceptance: frozenset({Role.SYSTEM}),
        acts.AcknowledgeRefusal: frozenset({Role.SYSTEM}),
        acts.HearConclusion: frozenset({Role.SYSTEM}),
        acts.AcknowledgeConclusion: frozenset({Role.SYSTEM}),
        acts.MarkOverdue: frozenset({Role.SYSTEM}),
        acts.MarkDueSoon: frozenset({Role.SYSTEM}),
        acts.Recompute: frozenset({Role.SYSTEM}),
        acts.NoteMismatch: frozenset({Role.SYSTEM}),
    }
)
"""Who may do what. The leader who decides an extension depends on the handling besides: see `handling`."""


def stage_after(case_id: str, stage: Stage, act: Act) -> Stage:
    """Looks the act up; raises `ActNotAllowed`."""
    kind = type(act)
    target = TRANSITIONS[stage].get(kind)
    if target is not None:
        return target
    if stage in STANDING.get(kind, ()):
        return stage
    raise ActNotAllowed(case_id, stage, kind, possible(stage))


def possible(stage: Stage) -> tuple[TypeOfAct, ...]:
    """The acts of people at a stage."""
    kinds = [*TRANSITIONS[stage], *(kind for kind, stages in STANDING.items() if stage in stages)]
    return tuple(kind for kind in kinds if ROLES[kind] != frozenset({Role.SYSTEM}))


def check_role(act: Act, role: Role) -> None:
    """Raises `RoleNotAllowed` when the act is not for the role."""
    check_allowed(act, role, ROLES[type(act)])


def check_allowed(act: Act, role: Role, allowed: frozenset[Role]) -> None:
    """Raises `RoleNotAllowed` when the role is none of those that the act is for."""
    if role not in allowed:
        raise RoleNotAllowed(type(act), role, tuple(sorted(allowed)))
