"""Who may ask what: one table, denied unless it allows.

1. Every call that a service of ours answers has one row in `ACCESS`; `decide_access` knows nothing else.
2. A row says, for each capacity in which a certificate names a bureau, what that bureau may be to the bureau asked
   about; which officers may ask; and what a channel's token must allow. A call without a row is refused to everybody.

What an act does is held to roles again where it is decided: the rows of acts take theirs from the lifecycle's table.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from kuaixiang.domain import acts, lifecycle, order_acts, orders
from kuaixiang.domain.acts import Act
from kuaixiang.domain.directives import PUBLISHERS
from kuaixiang.domain.disclosure import READS
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both, listed, name, term
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.tree import BureauTree, Relation
from kuaixiang.domain.words import Channel, DirectiveKind, Disclosure, Role, TokenScope


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """An officer who has proven to this service who he is. `roles`: those that he has in that bureau now.

    `name`: what he is called, where that is known and is not his number.
    """

    bureau: str
    actor: str
    roles: frozenset[Role]
    name: str = ""

    def is_same(self, bureau: str, actor: str) -> bool:
        """Whether that number of that bureau is his: two bureaus may give the same number to two persons."""
        return (self.bureau, self.actor) == (bureau, actor)

    @property
    def signature(self) -> str:
        """As he signs for something that is kept: by name, bureau and number."""
        number = f"{self.bureau} {self.actor}"
        return f"{self.name} ({number})" if self.name not in {"", self.actor} else number


@dataclass(frozen=True, slots=True, kw_only=True)
class ChannelToken:
    """What the token that came with a call lets a channel do: in one bureau, as one channel, within its scopes."""

    bureau: str
    channel: Channel
    scopes: frozenset[TokenScope]


@dataclass(frozen=True, slots=True)
class Caller:
    """What a certificate says of its holder: bureaus it serves, bureaus whose officers it stands for, hubs it runs.

    Besides, who has signed in at that terminal, or the channel's token that came with the call; at most one of them.
    """

    bureaus: frozenset[str] = frozenset()
    offices: frozenset[str] = frozenset()
    hubs: frozenset[str] = frozenset()
    officer: SignedIn | None = None
    token: ChannelToken | None = None

    @property
    def codes(self) -> frozenset[str]:
        """All that it names, in whatever capacity."""
        return self.bureaus | self.offices | self.hubs


class NotAuthorised(Refused):
    """The caller's certificate does not allow this; `what` says where the bureau is named in it."""

    condition = Condition.FORBIDDEN

    def __init__(self, what: Both, bureau: str, remedy: Both) -> None:
        self.remedy, self.remedy_chinese = remedy
        asked = _named(what, bureau)
        super().__init__(
            f"This certificate does not allow its holder to {asked.english}.", f"该证书无权{asked.chinese}。"
        )


class NotForOfficer(Refused):
    """Whoever has signed in has none of the roles that this call is for; `what` as in `NotAuthorised`."""

    condition = Condition.FORBIDDEN
    field = "role"

    def __init__(self, what: Both, bureau: str, roles: frozenset[Role], allowed: frozenset[Role]) -> None:
        asked = _named(what, bureau)
        have, wanted = sorted(roles), sorted(allowed)
        self.remedy = f"It takes the role {' or '.join(map(name, wanted))}." if wanted else "No officer does it."
        self.remedy_chinese = (
            f"须由以下岗位办理：{listed(map(term, wanted))}。" if wanted else "该接口不供工作人员使用。"
        )
        super().__init__(
            f"An officer with the roles {', '.join(map(name, have)) or '(none)'} may not {asked.english}.",
            f"岗位为“{listed(map(term, have)) or '无'}”的人员无权{asked.chinese}。",
        )


class NotForToken(Refused):
    """The channel's token that came with the call does not allow it; `what` as in `NotAuthorised`."""

    condition = Condition.FORBIDDEN
    remedy = "Use a token of that bureau whose scopes include this call."
    remedy_chinese = "请使用该单位签发、权限范围包含此操作的渠道令牌。"

    def __init__(self, what: Both, bureau: str) -> None:
        asked = _named(what, bureau)
        super().__init__(
            f"This channel's token does not allow its holder to {asked.english}.", f"该渠道令牌无权{asked.chinese}。"
        )


class NoRuleForCall(Refused):
    """No row says who may make this call: nobody may."""

    condition = Condition.FORBIDDEN
    remedy = "Call a method that docs/AUTHORITY.md lists."
    remedy_chinese = "请调用 docs/AUTHORITY.md 中列出的接口。"

    def __init__(self, rpc: str) -> None:
        super().__init__(f"Nobody may call {rpc}.", f"接口 {rpc} 未对任何人开放。")


def _named(what: Both, bureau: str) -> Both:
    """The sentence with its bureau."""
    return Both(
        what.english.format(bureau=f"bureau {bureau or '(empty)'}"),
        what.chinese.format(bureau=f"单位 {bureau or '（空）'} "),
    )


# ---------------------------------------------------------------- what a row says


class Capacity(StrEnum):
    """In what capacity a certificate names a bureau."""

    NODE = "node"
    """It keeps the bureau's ledger."""
    OFFICE = "office"
    """Its terminals: the officers of the bureau sit there."""
    HUB = "hub"
    """It folds the ledgers of the bureau and of everything under it."""


Relations = frozenset[Relation]
"""What the caller's bureau may be to the bureau asked about: PARENT, if the caller is its parent."""

NOBODY: Final[Relations] = frozenset()
SELF: Final = frozenset({Relation.SELF})
ABOVE: Final = SELF | {Relation.PARENT, Relation.ANCESTOR}
"""The bureau and its superiors."""
BELOW: Final = SELF | {Relation.CHILD, Relation.DESCENDANT}
"""The bureau and everything under it."""
LINE: Final = ABOVE | BELOW
NEIGHBOURS: Final = frozenset({Relation.PARENT, Relation.CHILD})
ANYWHERE: Final = frozenset(Relation)

OFFICERS: Final = frozenset(Role) - {Role.CHANNEL, Role.SYSTEM}
LEADERS: Final = frozenset({Role.SUPERVISOR, Role.DEPUTY_HEAD, Role.BUREAU_HEAD})
TOKEN_KEEPERS: Final = frozenset({Role.DEPUTY_HEAD, Role.BUREAU_HEAD})
TOKEN_READERS: Final = TOKEN_KEEPERS | {Role.TAX_SERVICE, Role.AUDITOR}
READERS_IN_CLEAR: Final = frozenset(role for role, most in READS.items() if most is Disclosure.FULL)


@dataclass(frozen=True, slots=True)
class Errand:
    """What calls are for, in the sentences that refuse them: both may name `{bureau}` and `{code}`."""

    what: Both
    """Completes "does not allow its holder to …"."""
    remedy: Both

    def refusal(self, bureau: str) -> NotAuthorised:
        """The refusal of a certificate."""
        told = (sentence.format(code=bureau or "(empty)") for sentence in self.remedy)
        return NotAuthorised(self.what, bureau, Both(*told))


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """Who may make one call."""

    errand: Errand
    node: Relations = NOBODY
    office: Relations = NOBODY
    hub: Relations = NOBODY
    party: Relations = NOBODY
    """What the node of a bureau may be that the case or the question itself names: see `Subject.parties`."""
    once: Relations = NOBODY
    """What a neighbour may be that is none any more: what two bureaus share is ended with each other, and something new
    between them is refused by rule, which is a decision."""
    speaks: Errand | None = None
    """The call speaks in the name of a bureau, which must be one that the certificate is the node of; else this."""
    roles: frozenset[Role] = OFFICERS
    """Of officers who have signed in: one of these is needed."""
    scope: TokenScope | None = None
    """What a channel's token must allow; None: no channel calls it."""
    by_capacity: Mapping[Capacity, Relations] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index the columns."""
        columns = {Capacity.NODE: self.node, Capacity.OFFICE: self.office, Capacity.HUB: self.hub}
        object.__setattr__(self, "by_capacity", MappingProxyType(columns))


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What a call is about."""

    bureau: str
    """Whose ledger, cases or figures."""
    speaker: str = ""
    """The bureau in whose name it speaks, where the rule is of such calls."""
    parties: frozenset[str] = frozenset()
    """What the case adds: the bureaus that handed it over with this one, or the other one of a pair."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Access:
    """Why a call is allowed: as what the caller's certificate names which bureau."""

    capacity: Capacity
    code: str

    def __str__(self) -> str:
        """As records keep it."""
        return f"{self.capacity} {self.code}"


# ---------------------------------------------------------------- the table

_CASES = Errand(
    Both("work on the cases of {bureau}", "办理{bureau}的诉求"),
    Both("Use a certificate for an office of bureau {code}.", "请使用单位 {code} 的办公证书。"),
)
_JOURNAL = Errand(
    Both("read the journal of {bureau}", "查阅{bureau}的台账日志"),
    Both("Its superiors and the hubs above it may.", "其上级单位和上级汇总中心可以查阅。"),
)
_REFERRALS = Errand(
    Both("hand cases to {bureau}", "向{bureau}移交诉求"),
    Both(
        "Only its superior and its subordinates do; check the tree.", "只有其直接上级和直接下级可以移交，请核对机构树。"
    ),
)
_SPEAKING_OF_CASES = Errand(
    Both("speak for {bureau}", "代表{bureau}收发移交"),
    Both("Use the certificate of the node of bureau {code}.", "请使用单位 {code} 的节点证书。"),
)
_TRACKING = Errand(
    Both("follow the cases of {bureau}", "跟踪{bureau}的诉求"),
    Both("Its own officers do, and bureaus that handed the case to it.", "本单位人员和移交该诉求的单位可以跟踪。"),
)
_ORDERS_DOWN = Errand(
    Both("give orders to {bureau}", "向{bureau}下达督办"),
    Both("Only its direct superior does; check the tree.", "只有其直接上级可以下达，请核对机构树。"),
)
_ORDERS_UP = Errand(
    Both("report on orders to {bureau}", "向{bureau}报告督办进展"),
    Both("Only its direct subordinates do; check the tree.", "只有其直接下级可以报告，请核对机构树。"),
)
_SPEAKING_OF_ORDERS = Errand(
    Both("speak for {bureau}", "代表{bureau}收发督办"),
    Both("Use the certificate of the node of bureau {code}.", "请使用单位 {code} 的节点证书。"),
)
_DIRECTIVES = Errand(
    Both("read what headquarters has published from {bureau}", "向{bureau}索取总局发布的指令"),
    Both("Its own bureaus and those below it may.", "本单位及其下级单位可以索取。"),
)
_WITNESSING = Errand(
    Both("have a ledger witnessed by {bureau}", "由{bureau}见证台账"),
    Both(
        "A superior witnesses a ledger, and of headquarters a direct subordinate; check the tree.",
        "台账由上级单位见证，税务总局的台账由直接下级见证，请核对机构树。",
    ),
)
_SPEAKING_OF_LEDGERS = Errand(
    Both("speak for {bureau}", "代表{bureau}申请台账见证"),
    Both("Use the certificate of the node of bureau {code}.", "请使用单位 {code} 的节点证书。"),
)
_FIGURES = Errand(
    Both("read the figures of {bureau}", "查阅{bureau}的统计数据"),
    Both("Offices, bureaus and hubs of that scope may.", "该范围内的单位、办公证书和汇总中心可以查阅。"),
)
_PUBLISHING = Errand(
    Both("publish the figures of {bureau}", "发布{bureau}的统计数据"),
    Both("Use a certificate for an office or the hub of {code}.", "请使用单位 {code} 的办公证书或汇总中心证书。"),
)
_ISSUES = Errand(
    Both("find or confirm the common issues of {bureau}", "分析或者确认{bureau}的共性诉求"),
    Both("Its own offices and hub and those of its superiors may.", "该单位及其上级单位的办公证书和汇总中心可以办理。"),
)
_SIGNING_IN = Errand(
    Both("sign in as an officer of {bureau}", "以{bureau}人员的身份登录"),
    Both("Use a terminal of bureau {code}.", "请使用单位 {code} 的终端。"),
)
_TOKENS = Errand(
    Both("manage the channels' tokens of {bureau}", "管理{bureau}的渠道令牌"),
    Both("Use a terminal of bureau {code}.", "请使用单位 {code} 的终端。"),
)
_CALLBACKS = Errand(
    Both("look after what {bureau} tells the outside", "管理{bureau}的对外推送"),
    Both("Use a terminal of bureau {code}.", "请使用单位 {code} 的终端。"),
)
_OVERSEEING = Errand(
    Both("oversee {bureau}", "督导{bureau}"),
    Both("Its own supervisors and those of its superiors may.", "该单位及其上级单位的督办人员可以查看。"),
)


def _own(roles: frozenset[Role] = OFFICERS, scope: TokenScope | None = None) -> Rule:
    """The bureau's own officers, and its own node."""
    return Rule(errand=_CASES, node=SELF, office=SELF, roles=roles, scope=scope)


def _act(act: type[Act], scope: TokenScope | None = None) -> Rule:
    """An act of the bureau's officers, for the roles that it is for."""
    roles = orders.ROLES[act] if issubclass(act, OrderAct) else lifecycle.ROLES[act]
    return _own(roles - {Role.CHANNEL}, scope)


def _superiors(roles: frozenset[Role], errand: Errand = _JOURNAL, party: Relations = NOBODY) -> Rule:
    """The bureau itself, its superiors and the hubs above it."""
    return Rule(errand=errand, node=ABOVE, office=ABOVE, hub=ABOVE, party=party, roles=roles)


def _peers(errand: Errand, speaks: Errand, neighbours: Relations) -> Rule:
    """The node of a neighbour, or of a former one, in the name of its bureau."""
    return Rule(errand=errand, node=neighbours, once=neighbours, speaks=speaks, roles=frozenset())


_WITNESSING_RULE = Rule(
    errand=_WITNESSING,
    node=frozenset({Relation.PARENT, Relation.CHILD, Relation.DESCENDANT}),
    speaks=_SPEAKING_OF_LEDGERS,
    roles=frozenset(),
)
_FIGURES_RULE = Rule(errand=_FIGURES, node=LINE, office=LINE, hub=LINE)

ACCESS: Final[Mapping[str, Rule]] = MappingProxyType(
    {
        # CaseService: officers and channels, of their own bureau.
        "RegisterCase": _act(acts.Register, TokenScope.REGISTER),
        "RegisterCases": _act(acts.Register, TokenScope.REGISTER),
        "AnswerOnTheSpot": _act(acts.AnswerOnTheSpot),
        "ForwardCase": _act(acts.Forward),
        "DispatchCase": _act(acts.Dispatch),
        "ReturnDispatch": _act(acts.ReturnDispatch),
        "AcceptDirectly": _act(acts.AcceptDirectly),
        "AskExtension": _act(acts.AskExtension),
        "ApproveExtension": _act(acts.ApproveExtension),
        "RefuseExtension": _act(acts.RefuseExtension),
        "ExplainExtension": _act(acts.ExplainExtension),
        "StartJointHandling": _act(acts.StartJointHandling),
        "AddPart": _act(acts.AddPart),
        "CompletePart": _act(acts.CompletePart),
        "CompleteCase": _act(acts.Complete),
        "LinkCase": _act(acts.Link),
        "UnlinkCase": _act(acts.Unlink),
        "AttachFile": _act(acts.Attach),
        "LinkIssue": _act(acts.LinkIssue),
        "GiveFeedback": _act(acts.GiveFeedback),
        "RecordFollowUp": _act(acts.FollowUp),
        "ReopenCase": _act(acts.Reopen),
        "WithdrawCase": _act(acts.Withdraw),
        "DeferCase": _act(acts.Defer),
        "ResumeCase": _act(acts.Resume),
        "SendToReconsideration": _act(acts.SendToReconsideration),
        "ReferCase": _act(acts.Refer),
        "ReturnCase": _act(acts.Return),
        "AskRuling": _act(acts.AskRuling),
        "RuleCase": _act(acts.Rule),
        "WithdrawOffer": _act(acts.WithdrawOffer),
        "AskOverride": _act(acts.AskOverride),
        "ApproveOverride": _act(acts.ApproveOverride),
        "RefuseOverride": _act(acts.RefuseOverride),
        "WriteOffCase": _act(acts.WriteOff),
        "GetCase": _own(scope=TokenScope.STATUS),
        "ListCases": _own(scope=TokenScope.STATUS),
        "ListChanges": _own(scope=TokenScope.STATUS),
        "CountWork": _own(),
        "WatchCases": _own(),
        "ExportLedger": _own(),
        "ReadAttachment": _own(READERS_IN_CLEAR),
        "FindDuplicates": _own(lifecycle.ROLES[acts.Link]),
        # ReferralService: a neighbour's node, for its bureau (§四(二)); who had the case follows it.
        "Offer": _peers(_REFERRALS, _SPEAKING_OF_CASES, NEIGHBOURS),
        "PutAttachment": _peers(_REFERRALS, _SPEAKING_OF_CASES, NEIGHBOURS),
        "Withdraw": _peers(_REFERRALS, _SPEAKING_OF_CASES, NEIGHBOURS),
        "Conclude": _peers(_REFERRALS, _SPEAKING_OF_CASES, NEIGHBOURS),
        "ListReceipts": _superiors(OFFICERS),
        # Hand-overs of the past stay with the case, whatever the tree has become.
        "Track": Rule(errand=_TRACKING, node=SELF, office=SELF, party=ANYWHERE),
        # SupervisionService (§五(三)): officers; orders come down from the parent, reports up from children.
        "IssueOrder": _act(order_acts.IssueOrder),
        "CascadeOrder": _act(order_acts.CascadeOrder),
        "AcknowledgeOrder": _act(order_acts.AcknowledgeOrder),
        "AnswerOrder": _act(order_acts.AnswerOrder),
        "AcceptAnswer": _act(order_acts.AcceptAnswer),
        "ReturnAnswer": _act(order_acts.ReturnAnswer),
        "CancelOrder": _act(order_acts.CancelOrder),
        "GetOrder": _own(),
        "ListOrders": _own(),
        "DeliverOrder": _peers(_ORDERS_DOWN, _SPEAKING_OF_ORDERS, frozenset({Relation.PARENT})),
        "ReportOrder": _peers(_ORDERS_UP, _SPEAKING_OF_ORDERS, frozenset({Relation.CHILD})),
        "ListSubordinateCases": _superiors(OFFICERS),
        "GetSubordinateCase": _superiors(OFFICERS),
        # LedgerService: public parts and masked words, for superiors.
        "ReadJournal": _superiors(LEADERS | {Role.AUDITOR}),
        "GetHeads": _superiors(LEADERS | {Role.AUDITOR}),
        "ReadTerms": _superiors(LEADERS | {Role.TAX_SERVICE}),
        "ReadMaskedTexts": _superiors(LEADERS | {Role.TAX_SERVICE}),
        # ReconciliationService: superiors, and the node of the other ledger of the pair.
        "GetPairDigests": _superiors(OFFICERS, party=NEIGHBOURS),
        "ReadPairRecords": _superiors(OFFICERS, party=NEIGHBOURS),
        "ReconcileLedgers": _superiors(OFFICERS, party=NEIGHBOURS),
        "ListMismatches": _superiors(OFFICERS),
        # CosignService: a node shows its ledger to a superior, headquarters' to subordinates; neighbours give back.
        "CosignHead": _WITNESSING_RULE,
        "GetCosigned": _WITNESSING_RULE,
        "ReadWitnessed": _WITNESSING_RULE,
        "ListWitnessed": _superiors(OFFICERS),
        "ReadHandedOver": _peers(_REFERRALS, _SPEAKING_OF_CASES, NEIGHBOURS),
        # DirectiveService: headquarters publishes at its own node (`directives.check_publisher`); all below it read.
        "PublishCalendar": _own(PUBLISHERS[DirectiveKind.CALENDAR]),
        "PublishIssue": _own(PUBLISHERS[DirectiveKind.ISSUE]),
        "PublishTree": _own(PUBLISHERS[DirectiveKind.TREE]),
        "ReadDirectives": Rule(errand=_DIRECTIVES, node=BELOW, office=BELOW, hub=BELOW),
        "GetPublishedIssue": _own(),
        # SignInService: at the bureau's own terminals. Its leaders give channels access, by name.
        "SignIn": Rule(errand=_SIGNING_IN, node=SELF, office=SELF),
        "SignOut": Rule(errand=_SIGNING_IN, node=SELF, office=SELF),
        "GetSignIn": Rule(errand=_SIGNING_IN, node=SELF, office=SELF),
        "IssueToken": Rule(errand=_TOKENS, node=SELF, office=SELF, roles=TOKEN_KEEPERS),
        "RevokeToken": Rule(errand=_TOKENS, node=SELF, office=SELF, roles=TOKEN_KEEPERS),
        "ListTokens": Rule(errand=_TOKENS, node=SELF, office=SELF, roles=TOKEN_READERS),
        # CallbackService: those who give channels access look after what channels and taxpayers could not be told.
        "ListCallbacks": Rule(errand=_CALLBACKS, node=SELF, office=SELF, roles=TOKEN_READERS),
        "RetryCallbacks": Rule(errand=_CALLBACKS, node=SELF, office=SELF, roles=TOKEN_KEEPERS),
        "DropCallbacks": Rule(errand=_CALLBACKS, node=SELF, office=SELF, roles=TOKEN_KEEPERS),
        # StatisticsService: figures without persons, for whoever is in line with the scope.
        "GetFigures": _FIGURES_RULE,
        "GetCompleteness": _FIGURES_RULE,
        "GetCorrections": _FIGURES_RULE,
        "GetLights": _FIGURES_RULE,
        "Reconcile": _FIGURES_RULE,
        "GetBulletin": _FIGURES_RULE,
        "PublishPeriod": Rule(errand=_PUBLISHING, office=SELF, hub=SELF, roles=LEADERS),
        # IssueService: masked words of a scope, for it and its superiors; what is confirmed is for all in line.
        "FindIssues": _superiors(LEADERS | {Role.TAX_SERVICE}, _ISSUES),
        "ConfirmIssue": _superiors(LEADERS | {Role.TAX_SERVICE}, _ISSUES),
        "ListIssues": _FIGURES_RULE,
        "GetConfirmedIssue": _FIGURES_RULE,
        # The board's pages tell of single cases besides figures: nobody looks upwards.
        "OverseeBoard": _superiors(OFFICERS, _OVERSEEING),
    }
)
"""Who may make which call, by its name; names are unique over all services. The last rows are of pages."""

PAGES: Final = frozenset({"OverseeBoard"})
"""Rows that are no calls over gRPC."""
HTTP_ALONE: Final = frozenset({"ChannelService"})
"""Services without rows: no gRPC server has them, and over HTTP each of their calls asks one that has a row."""


# ---------------------------------------------------------------- looking it up


def decide_access(caller: Caller, rpc: str, subject: Subject, tree: BureauTree) -> Access:
    """Whether the caller may make the call about the subject, and as what.

    Raises `NoRuleForCall`, `NotAuthorised`, and for who has signed in or came with a token `NotForOfficer`,
    `NotForToken`.
    """
    rule = ACCESS.get(rpc)
    if rule is None:
        raise NoRuleForCall(rpc)
    if rule.speaks is not None and subject.speaker not in caller.bureaus:
        raise rule.speaks.refusal(subject.speaker)
    access = next(_accesses(_held(caller), rule, subject, tree), None)
    if access is None:
        raise rule.errand.refusal(subject.bureau)
    if caller.token is not None and (rule.scope is None or rule.scope not in caller.token.scopes):
        raise NotForToken(rule.errand.what, subject.bureau)
    if caller.officer is not None and rule.roles.isdisjoint(caller.officer.roles):
        raise NotForOfficer(rule.errand.what, subject.bureau, caller.officer.roles, rule.roles)
    return access


def relation_of(tree: BureauTree, bureau: str, code: str) -> Relation:
    """What `code` is to the bureau; a code outside of the tree is elsewhere, but to itself."""
    if bureau == code:
        return Relation.SELF
    return tree.relation(bureau, code) if bureau in tree and code in tree else Relation.ELSEWHERE


def _former(tree: BureauTree, bureau: str, code: str) -> Relations:
    """What `code` was to the bureau in an earlier tree."""
    if bureau not in tree or code not in tree:
        return NOBODY
    was = {Relation.PARENT: code in tree.get(bureau).formerly, Relation.CHILD: bureau in tree.get(code).formerly}
    return frozenset(relation for relation, so in was.items() if so)


def _held(caller: Caller) -> Mapping[Capacity, frozenset[str]]:
    """The codes that count, by capacity: an officer, a token are of one bureau, whatever else the terminal is for."""
    whose = caller.officer or caller.token
    offices, bureaus, hubs = caller.offices, caller.bureaus, caller.hubs
    if whose is not None:
        one = frozenset({whose.bureau})
        offices, bureaus, hubs = offices & one, bureaus & one, frozenset()
    return {Capacity.OFFICE: offices, Capacity.NODE: bureaus, Capacity.HUB: hubs}


def _accesses(
    held: Mapping[Capacity, frozenset[str]], rule: Rule, subject: Subject, tree: BureauTree
) -> Iterator[Access]:
    """Every way in which the certificate allows it."""
    for capacity, codes in held.items():
        allowed = rule.by_capacity[capacity]
        if rule.speaks is None and Relation.SELF in allowed and subject.bureau in codes:
            yield Access(capacity=capacity, code=subject.bureau)  # first, for most calls are of the bureau's own
        for code in codes if rule.speaks is None else {subject.speaker}.intersection(codes):
            is_party = capacity is Capacity.NODE and code in subject.parties
            if not allowed and not is_party:
                continue
            relation = relation_of(tree, subject.bureau, code)
            if (
                relation in allowed
                or (is_party and relation in rule.party)
                or (capacity is Capacity.NODE and rule.once & _former(tree, subject.bureau, code))
            ):
                yield Access(capacity=capacity, code=code)
