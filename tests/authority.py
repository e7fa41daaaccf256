"""What the tests of authority say must be so, written apart from the table that they hold the product to.

A new call takes a line in `GROUPS`, and in `ROLES_OF_READINGS` where it is no act.
"""

from collections.abc import Iterator, Mapping
from importlib import import_module
from pkgutil import iter_modules
from typing import Final

from google.protobuf.descriptor import MethodDescriptor

from kuaixiang.domain import lifecycle, orders
from kuaixiang.domain.authority import Caller
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Role
from kuaixiang.wire import v1
from kuaixiang.wire.codec import ACT_OF_ORDER_REQUEST, ACT_OF_REQUEST, rpc_of

HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY, BRANCH = "000000", "330000", "330100", "330106", "330107"
OTHER_COUNTY, OTHER_PREFECTURE, OTHER_PROVINCE, NOWHERE = "330102", "330200", "110000", "990000"
ONCE_ABOVE, ONCE_BELOW = "330400", "330402"
ASKED: Final = PREFECTURE
"""The bureau that every question is about."""

BUREAUS: Final = (
    Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
    Bureau(PROVINCE, "Zhejiang", Tier.PROVINCIAL, HEADQUARTERS),
    Bureau(PREFECTURE, "Hangzhou", Tier.PREFECTURE, PROVINCE, formerly=(ONCE_ABOVE,)),
    Bureau(COUNTY, "Xihu", Tier.COUNTY, PREFECTURE),
    Bureau(BRANCH, "a branch of Xihu", Tier.COUNTY, COUNTY),
    Bureau(OTHER_COUNTY, "Shangcheng", Tier.COUNTY, PREFECTURE),
    Bureau(OTHER_PREFECTURE, "Ningbo", Tier.PREFECTURE, PROVINCE),
    Bureau(ONCE_ABOVE, "Jiaxing", Tier.PREFECTURE, PROVINCE),
    Bureau(ONCE_BELOW, "Nanhu", Tier.COUNTY, ONCE_ABOVE, formerly=(PREFECTURE,)),
    Bureau(OTHER_PROVINCE, "Beijing", Tier.PROVINCIAL, HEADQUARTERS),
)
TREE: Final = BureauTree("test", BUREAUS)

WHO: Final = {
    "self": ASKED,
    "parent": PROVINCE,
    "ancestor": HEADQUARTERS,
    "child": COUNTY,
    "descendant": BRANCH,
    "sibling": OTHER_PREFECTURE,
    "elsewhere": OTHER_PROVINCE,
    "unknown": NOWHERE,
    "once-above": ONCE_ABOVE,
    "once-below": ONCE_BELOW,
}
"""A bureau of each relation to the one asked about; the unknown one is in no tree."""

# What a certificate of a kind for a bureau of a relation allows, in groups of calls. Where the case or the question adds
# a bureau, it is the caller's own.
# fmt: off
ALLOWED: Final = """
         relation    own  line  above  below  peers  down  up  tracks  pairs  publishes  shows
node     self         x     x     x      x      .     .    .     x       x        .        .
node     parent       .     x     x      .      x     x    .     x       x        .        x
node     ancestor     .     x     x      .      .     .    .     x       x        .        .
node     child        .     x     .      x      x     .    x     x       x        .        x
node     descendant   .     x     .      x      .     .    .     x       .        .        x
node     sibling      .     .     .      .      .     .    .     x       .        .        .
node     elsewhere    .     .     .      .      .     .    .     x       .        .        .
node     unknown      .     .     .      .      .     .    .     x       .        .        .
node     once-above   .     .     .      .      x     x    .     x       .        .        .
node     once-below   .     .     .      .      x     .    x     x       .        .        .
office   self         x     x     x      x      .     .    .     x       x        x        .
office   parent       .     x     x      .      .     .    .     .       x        .        .
office   ancestor     .     x     x      .      .     .    .     .       x        .        .
office   child        .     x     .      x      .     .    .     .       .        .        .
office   descendant   .     x     .      x      .     .    .     .       .        .        .
office   sibling      .     .     .      .      .     .    .     .       .        .        .
office   elsewhere    .     .     .      .      .     .    .     .       .        .        .
office   unknown      .     .     .      .      .     .    .     .       .        .        .
office   once-above   .     .     .      .      .     .    .     .       .        .        .
office   once-below   .     .     .      .      .     .    .     .       .        .        .
hub      self         .     x     x      x      .     .    .     .       x        x        .
hub      parent       .     x     x      .      .     .    .     .       x        .        .
hub      ancestor     .     x     x      .      .     .    .     .       x        .        .
hub      child        .     x     .      x      .     .    .     .       .        .        .
hub      descendant   .     x     .      x      .     .    .     .       .        .        .
hub      sibling      .     .     .      .      .     .    .     .       .        .        .
hub      elsewhere    .     .     .      .      .     .    .     .       .        .        .
hub      unknown      .     .     .      .      .     .    .     .       .        .        .
hub      once-above   .     .     .      .      .     .    .     .       .        .        .
hub      once-below   .     .     .      .      .     .    .     .       .        .        .
"""
# fmt: on

GROUPS: Final = {
    "own": """
        RegisterCase RegisterCases AnswerOnTheSpot ForwardCase DispatchCase ReturnDispatch AcceptDirectly AskExtension
        ApproveExtension RefuseExtension ExplainExtension StartJointHandling AddPart CompletePart CompleteCase LinkCase
        UnlinkCase AttachFile LinkIssue GiveFeedback RecordFollowUp ReopenCase WithdrawCase DeferCase ResumeCase
        SendToReconsideration ReferCase ReturnCase AskRuling RuleCase WithdrawOffer AskOverride ApproveOverride
        RefuseOverride WriteOffCase GetCase ListCases ListChanges CountWork WatchCases ExportLedger ReadAttachment FindDuplicates
        IssueOrder CascadeOrder AcknowledgeOrder AnswerOrder AcceptAnswer ReturnAnswer CancelOrder GetOrder ListOrders
        PublishCalendar PublishIssue PublishTree GetPublishedIssue
        SignIn SignOut GetSignIn IssueToken RevokeToken ListTokens
        ListCallbacks RetryCallbacks DropCallbacks
    """,
    "line": """
        GetFigures GetCompleteness GetCorrections GetLights Reconcile GetBulletin ListIssues GetConfirmedIssue
    """,
    "above": """
        ListSubordinateCases GetSubordinateCase ReadJournal GetHeads ReadTerms ReadMaskedTexts ListMismatches FindIssues
        ConfirmIssue OverseeBoard ListWitnessed ListReceipts
    """,
    "below": "ReadDirectives",
    "peers": "Offer PutAttachment Withdraw Conclude ReadHandedOver",
    "down": "DeliverOrder",
    "up": "ReportOrder",
    "tracks": "Track",
    "pairs": "GetPairDigests ReadPairRecords ReconcileLedgers",
    "publishes": "PublishPeriod",
    "shows": "CosignHead GetCosigned ReadWitnessed",
}
GROUP_OF: Final = {rpc: group for group, rpcs in GROUPS.items() for rpc in rpcs.split()}

PEOPLE: Final = frozenset(Role) - {Role.CHANNEL, Role.SYSTEM}
_LEADERS: Final = frozenset({Role.SUPERVISOR, Role.DEPUTY_HEAD, Role.BUREAU_HEAD})
_DESKS: Final = frozenset({Role.REGISTRAR, Role.TAX_SERVICE, Role.HANDLER})
ROLES_OF_READINGS: Final = {
    "ReadAttachment": _DESKS,
    "SignIn": PEOPLE,
    "SignOut": PEOPLE,
    "GetSignIn": PEOPLE,
    "IssueToken": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
    "RevokeToken": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
    "ListTokens": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD, Role.TAX_SERVICE, Role.AUDITOR}),
    "RetryCallbacks": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
    "DropCallbacks": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD}),
    "ListCallbacks": frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD, Role.TAX_SERVICE, Role.AUDITOR}),
    "FindDuplicates": _DESKS,
    "ReadJournal": _LEADERS | {Role.AUDITOR},
    "GetHeads": _LEADERS | {Role.AUDITOR},
    "ReadTerms": _LEADERS | {Role.TAX_SERVICE},
    "ReadMaskedTexts": _LEADERS | {Role.TAX_SERVICE},
    "FindIssues": _LEADERS | {Role.TAX_SERVICE},
    "ConfirmIssue": _LEADERS | {Role.TAX_SERVICE},
    "PublishPeriod": _LEADERS,
    "PublishCalendar": frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD}),
    "PublishTree": frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD}),
    "PublishIssue": frozenset({Role.SUPERVISOR, Role.BUREAU_HEAD, Role.TAX_SERVICE}),
    **dict.fromkeys(
        (
            "Offer",
            "PutAttachment",
            "Withdraw",
            "Conclude",
            "DeliverOrder",
            "ReportOrder",
            "CosignHead",
            "GetCosigned",
            "ReadWitnessed",
            "ReadHandedOver",
        ),
        frozenset[Role](),
    ),
    **dict.fromkeys(
        [
            "GetCase",
            "ListCases",
            "ListChanges",
            "CountWork",
            "WatchCases",
            "ExportLedger",
            "GetOrder",
            "ListOrders",
            "GetPublishedIssue",
            "Track",
            "GetFigures",
            "GetCompleteness",
            "GetCorrections",
            "GetLights",
            "Reconcile",
            "GetBulletin",
            "ListIssues",
            "GetConfirmedIssue",
            "ListSubordinateCases",
            "GetSubordinateCase",
            "ListMismatches",
            "ListWitnessed",
            "ListReceipts",
            "GetPairDigests",
            "ReadPairRecords",
            "ReconcileLedgers",
            "ReadDirectives",
            "OverseeBoard",
        ],
        PEOPLE,
    ),
}
"""Which of a bureau's officers may make the calls that are no acts."""


_ROLES_OF_ACTS: Final = {
    **{rpc_of(request): lifecycle.ROLES[act] - {Role.CHANNEL} for request, act in ACT_OF_REQUEST.items()},
    **{rpc_of(request): orders.ROLES[act] for request, act in ACT_OF_ORDER_REQUEST.items()},
    "RegisterCases": frozenset({Role.REGISTRAR, Role.TAX_SERVICE}),
}
ROLES: Final[Mapping[str, frozenset[Role]]] = {**_ROLES_OF_ACTS, **ROLES_OF_READINGS}
"""Which of a bureau's officers may make each call; who may do an act is the lifecycle's to say."""


def cells(rpc: str) -> Iterator[tuple[str, str, bool]]:
    """Every cell of a call's row: kind of certificate, relation, allowed."""
    head, *rows = ALLOWED.strip().splitlines()
    column = head.split().index(GROUP_OF[rpc]) + 1
    for row in rows:
        words = row.split()
        yield words[0], words[1], words[column] == "x"


def caller_as(kind: str, code: str) -> Caller:
    """Whoever has a certificate of that kind for that bureau."""
    codes = frozenset({code})
    match kind:
        case "node":
            return Caller(bureaus=codes)
        case "office":
            return Caller(offices=codes)
        case _:
            return Caller(hubs=codes)


HTTP_ALONE: Final = frozenset({"ChannelService"})
"""Services that no gRPC server has: each of their calls asks others, which have rows."""


def methods() -> dict[str, MethodDescriptor]:
    """Every call that gRPC servers have, by name."""
    found: dict[str, MethodDescriptor] = {}
    for module in iter_modules(v1.__path__):
        if module.name.endswith("_pb2"):
            for service in import_module(f"{v1.__name__}.{module.name}").DESCRIPTOR.services_by_name.values():
                for method in () if service.name in HTTP_ALONE else service.methods:
                    assert method.name not in found, f"two services have a call {method.name}"
                    found[method.name] = method
    return found
