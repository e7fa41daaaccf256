"""Who may ask what of a bureau: decided by the names in a certificate and the tree, denied unless allowed."""

from dataclasses import dataclass

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.tree import BureauTree, Relation
from kuaixiang.domain.words import Channel, Role, TokenScope


@dataclass(frozen=True, slots=True, kw_only=True)
class SignedIn:
    """An officer who has proven to this service who he is. `roles`: those that he has in that bureau now."""

    bureau: str
    actor: str
    roles: frozenset[Role]


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
        english = what.english.format(bureau=f"bureau {bureau or '(empty)'}")
        chinese = what.chinese.format(bureau=f"单位 {bureau or '（空）'} ")
        super().__init__(f"This certificate does not allow its holder to {english}.", f"该证书无权{chinese}。")


def _is_above(caller: Caller, code: str, tree: BureauTree) -> bool:
    """Whether it is of the bureau itself, of a superior, or a hub there; of a code outside the tree: of just that."""
    return not caller.codes.isdisjoint(tree.superiors_and_self(code) if code in tree else (code,))


def _related(tree: BureauTree, bureau: str, other: str, *relations: Relation) -> bool:
    return bureau in tree and other in tree and tree.relation(bureau, other) in relations


def _is_under(tree: BureauTree, bureau: str, superior: str) -> bool:
    """Whether it stands, or stood once, directly under that superior: what they share is ended with each other.

    Something new between bureaus that are no neighbours any more is refused by rule, which is a decision.
    """
    return bureau in tree and superior in tree and tree.is_under(bureau, superior)


def check_officer(caller: Caller, bureau: str) -> None:
    """Acts on cases and reading them: the bureau's own officers and its own node."""
    if bureau not in caller.offices and bureau not in caller.bureaus:
        raise NotAuthorised(
            Both("work on the cases of {bureau}", "办理{bureau}的诉求"),
            bureau,
            Both(f"Use a certificate for an office of bureau {bureau}.", f"请使用单位 {bureau} 的办公证书。"),
        )


def check_own(caller: Caller, bureau: str) -> None:
    """A node speaks for the bureaus of its certificate alone."""
    if bureau not in caller.bureaus:
        raise NotAuthorised(
            Both("speak for {bureau}", "代表{bureau}收发督办"),
            bureau,
            Both(f"Use the certificate of the node of bureau {bureau}.", f"请使用单位 {bureau} 的节点证书。"),
        )


def check_order_from_superior(caller: Caller, from_bureau: str, to_bureau: str, tree: BureauTree) -> None:
    """Supervision orders (§五(三)) come down from the node of the receiver's direct superior."""
    check_own(caller, from_bureau)
    if not _is_under(tree, to_bureau, from_bureau):
        raise NotAuthorised(
            Both("give orders to {bureau}", "向{bureau}下达督办"),
            to_bureau,
            Both("Only its direct superior does; check the tree.", "只有其直接上级可以下达，请核对机构树。"),
        )


def check_report_from_subordinate(caller: Caller, from_bureau: str, to_bureau: str, tree: BureauTree) -> None:
    """What has become of an order comes up from the node of a direct subordinate of the receiver."""
    check_own(caller, from_bureau)
    if not _is_under(tree, from_bureau, to_bureau):
        raise NotAuthorised(
            Both("report on orders to {bureau}", "向{bureau}报告督办进展"),
            to_bureau,
            Both("Only its direct subordinates do; check the tree.", "只有其直接下级可以报告，请核对机构树。"),
        )


def check_peer(caller: Caller, from_bureau: str, to_bureau: str, tree: BureauTree) -> None:
    """Referrals: the node of the sending bureau, which must be the receiver's superior or subordinate."""
    if from_bureau not in caller.bureaus:
        raise NotAuthorised(
            Both("speak for {bureau}", "代表{bureau}收发移交"),
            from_bureau,
            Both(f"Use the certificate of the node of bureau {from_bureau}.", f"请使用单位 {from_bureau} 的节点证书。"),
        )
    if not (_is_under(tree, to_bureau, from_bureau) or _is_under(tree, from_bureau, to_bureau)):
        raise NotAuthorised(
            Both("hand cases to {bureau}", "向{bureau}移交诉求"),
            to_bureau,
            Both(
                "Only its superior and its subordinates do; check the tree.",
                "只有其直接上级和直接下级可以移交，请核对机构树。",
            ),
        )


def check_supervisor(caller: Caller, bureau: str, tree: BureauTree) -> None:
    """Journals, public parts: the bureau itself, its superiors, and the hubs above it."""
    if not _is_above(caller, bureau, tree):
        raise NotAuthorised(
            Both("read the journal of {bureau}", "查阅{bureau}的台账日志"),
            bureau,
            Both("Its superiors and the hubs above it may.", "其上级单位和上级汇总中心可以查阅。"),
        )


def check_pair(caller: Caller, bureau: str, peer: str, tree: BureauTree) -> None:
    """对账, of the bureau's ledger with the peer's: the node of that peer, if it is one, and who reads the journal."""
    if not (peer in caller.bureaus and _related(tree, bureau, peer, Relation.PARENT, Relation.CHILD)):
        check_supervisor(caller, bureau, tree)


def check_reader(caller: Caller, scope: str, tree: BureauTree) -> None:
    """Figures: whoever is of the scope, above it, or within it."""
    if scope not in tree or not any(
        code in tree and (tree.contains(code, scope) or tree.contains(scope, code)) for code in caller.codes
    ):
        raise NotAuthorised(
            Both("read the figures of {bureau}", "查阅{bureau}的统计数据"),
            scope,
            Both("Offices, bureaus and hubs of that scope may.", "该范围内的单位、办公证书和汇总中心可以查阅。"),
        )


def check_overseer(caller: Caller, scope: str, tree: BureauTree) -> None:
    """The board's pages: whoever is of the scope or above it, since they tell of single cases besides figures."""
    if not _is_above(caller, scope, tree):
        raise NotAuthorised(
            Both("oversee {bureau}", "督导{bureau}"),
            scope,
            Both("Its own supervisors and those of its superiors may.", "该单位及其上级单位的督办人员可以查看。"),
        )


def check_subordinate(caller: Caller, bureau: str, tree: BureauTree) -> None:
    """Directives: whoever is of the bureau or somewhere below it, and the hubs there."""
    if bureau not in tree or not any(code in tree and tree.contains(bureau, code) for code in caller.codes):
        raise NotAuthorised(
            Both("read what headquarters has published from {bureau}", "向{bureau}索取总局发布的指令"),
            bureau,
            Both("Its own bureaus and those below it may.", "本单位及其下级单位可以索取。"),
        )


def check_publisher(caller: Caller, scope: str) -> str:
    """Publishing figures: an office of the scope itself or its hub. Gives which of them it is."""
    for kind, codes in (("office", caller.offices), ("hub", caller.hubs)):
        if scope in codes:
            return f"{kind} {scope}"
    raise NotAuthorised(
        Both("publish the figures of {bureau}", "发布{bureau}的统计数据"),
        scope,
        Both(
            f"Use a certificate for an office or the hub of {scope}.",
            f"请使用单位 {scope} 的办公证书或汇总中心证书。",
        ),
    )


def check_issues(caller: Caller, scope: str, tree: BureauTree) -> None:
    """Finding and confirming common issues, which reads masked texts: the scope itself, its superiors, their hubs."""
    if not _is_above(caller, scope, tree):
        raise NotAuthorised(
            Both("find or confirm the common issues of {bureau}", "分析或者确认{bureau}的共性诉求"),
            scope,
            Both(
                "Its own offices and hub and those of its superiors may.",
                "该单位及其上级单位的办公证书和汇总中心可以办理。",
            ),
        )
