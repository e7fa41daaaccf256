"""What a new version of the tree of bureaus must be like to follow the one in force."""

from collections.abc import Iterable

from kuaixiang.domain.directives import edition
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import listed
from kuaixiang.domain.tree import BureauTree

NAMED_MAX = 5
"""Bureaus that a refusal names; whoever has lost a province sees it by these."""


class TreeUnusable(Refused):
    """The text of a tree is not one; `problem` names the line."""

    condition = Condition.INVALID
    field = "tree"
    remedy = "Correct the file; `kx tree check FILE` names its faults without publishing."
    remedy_chinese = "请更正文件；可先用 kx tree check 检查。"

    def __init__(self, problem: str) -> None:
        super().__init__(f"The tree cannot be used: {problem}.", f"机构树无法使用：{problem}。")


class TreeUnnumbered(Refused):
    """A tree's version cannot be compared with others."""

    condition = Condition.INVALID
    field = "tree"
    remedy = "Write the version as numbers with points or hyphens between, such as 2026-10 or 2026.10.2."
    remedy_chinese = "版本号请写成以点或连字符分隔的数字，例如 2026-10 或 2026.10.2。"

    def __init__(self, version: str) -> None:
        super().__init__(
            f"The tree's version {version!r} cannot be compared with others.", f"机构树版本“{version}”无法比较先后。"
        )


class TreeNotNewer(Refused):
    """A tree is not of a higher version than the one in force."""

    field = "tree"

    def __init__(self, version: str, in_force: str) -> None:
        self.remedy = f"Give it a version higher than {in_force}."
        self.remedy_chinese = f"请使用高于 {in_force} 的版本号。"
        super().__init__(
            f"Tree {version} is not newer than {in_force}, which is in force.",
            f"机构树 {version} 不比现行的 {in_force} 更新。",
        )


class TreeMovesRoot(Refused):
    """A tree has another root than the one in force: whose word the federation follows is not the tree's to say."""

    field = "tree"
    remedy = "Leave the root as it is."
    remedy_chinese = "请保持根单位不变。"

    def __init__(self, root: str, in_force: str) -> None:
        super().__init__(
            f"The tree's root is {root}, not {in_force}, which publishes it.",
            f"机构树的根单位是 {root}，而不是发布单位 {in_force}。",
        )


class TreeForgetsBureaus(Refused):
    """A tree leaves out bureaus of the one in force, which have ledgers, cases and figures, also when dissolved."""

    field = "tree"
    remedy = "Keep their rows; one that is dissolved keeps its row, with its successor in the column `successor`."
    remedy_chinese = "请保留这些单位；已撤并的单位也须保留，并在 successor 列填写承接单位。"

    def __init__(self, bureaus: tuple[str, ...]) -> None:
        self.bureaus = bureaus
        english, chinese = _some(bureaus)
        super().__init__(
            f"The tree leaves out bureaus of the one in force: {english}.", f"机构树遗漏现有单位：{chinese}。"
        )


class TreeMovesSites(Refused):
    """A tree puts bureaus into another province: their journals are in the one's NATS site, their node beside it."""

    field = "tree"
    remedy = "Found a bureau with a code of its own there, and hand the open cases over."
    remedy_chinese = "请在新的省份新设单位，并移交未办结的诉求。"

    def __init__(self, bureaus: tuple[str, ...]) -> None:
        self.bureaus = bureaus
        english, chinese = _some(bureaus)
        super().__init__(
            f"The tree moves bureaus to another province: {english}.", f"机构树将单位划入其他省份：{chinese}。"
        )


class TreeForgetsSuperiors(Refused):
    """A tree puts bureaus under other superiors and does not say where they stood.

    What they share with the earlier superior would then be refused: hand-overs that are not decided, conclusions.
    """

    field = "tree"
    remedy = "List their earlier superiors in the column `formerly`, those of earlier editions too."
    remedy_chinese = "请在 formerly 列中写明其原上级单位，包括以前各版所列的单位。"

    def __init__(self, bureaus: tuple[str, ...]) -> None:
        self.bureaus = bureaus
        english, chinese = _some(bureaus)
        super().__init__(
            f"The tree does not say under whom these bureaus stood before: {english}.",
            f"机构树未写明以下单位的原上级：{chinese}。",
        )


class TreeLocksOut(Refused):
    """A tree pins headquarters to certificates among which is not the one that its node has now."""

    field = "tree"
    remedy = "Add the certificate in use to its fingerprints; `kx pki show` tells it. Take it out when it is replaced."
    remedy_chinese = "请将现用证书加入其指纹（可用 kx pki show 查看），更换证书之后再删除。"

    def __init__(self, bureau: str, fingerprint: str) -> None:
        super().__init__(
            f"The tree does not list {fingerprint[:16]}…, by which the node of {bureau} publishes it.",
            f"机构树未列出 {bureau} 节点用以发布的证书 {fingerprint[:16]}…。",
        )


def check_succession(new: BureauTree, in_force: BureauTree, publisher: str) -> None:
    """Whether a tree may follow the one in force; `publisher` is the fingerprint of headquarters' certificate.

    Raises `TreeUnnumbered`, `TreeNotNewer`, `TreeMovesRoot`, `TreeForgetsBureaus`, `TreeMovesSites`,
    `TreeForgetsSuperiors`, `TreeLocksOut`.
    """
    number = edition(new.version)
    if not number:
        raise TreeUnnumbered(new.version)
    if number <= edition(in_force.version):
        raise TreeNotNewer(new.version, in_force.version)
    check_adoption(new, in_force, in_force.bureaus)
    strayed = tuple(
        code
        for code, before in in_force.bureaus.items()
        if not {before.parent, *before.formerly} <= {new.get(code).parent, *new.get(code).formerly}
    )
    if strayed:
        raise TreeForgetsSuperiors(strayed)
    pinned = new.get(new.root).fingerprints
    if pinned and publisher not in pinned:
        raise TreeLocksOut(new.root, publisher)


def check_adoption(new: BureauTree, in_force: BureauTree, bureaus: Iterable[str]) -> None:
    """Whether whoever keeps what is of these bureaus can go on with a tree that headquarters has published.

    Raises `TreeMovesRoot`, `TreeForgetsBureaus`, `TreeMovesSites`.
    """
    bureaus = tuple(bureaus)
    if new.root != in_force.root:
        raise TreeMovesRoot(new.root, in_force.root)
    gone = tuple(code for code in bureaus if code not in new)
    if gone:
        raise TreeForgetsBureaus(gone)
    moved = tuple(code for code in bureaus if code in in_force and new.site(code) != in_force.site(code))
    if moved:
        raise TreeMovesSites(moved)


def newer(one: BureauTree, other: BureauTree) -> bool:
    """Whether a tree's version is higher than another's; one that is not numbered is lower than all."""
    return edition(one.version) > edition(other.version)


def _some(bureaus: tuple[str, ...]) -> tuple[str, str]:
    named = bureaus[:NAMED_MAX]
    more = len(bureaus) - len(named)
    return (
        ", ".join(named) + (f" and {more} more" if more else ""),
        listed(named) + (f"等 {len(bureaus)} 个单位" if more else ""),
    )
