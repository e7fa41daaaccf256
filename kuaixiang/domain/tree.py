"""The tree of bureaus (§二(四)): who is above whom, and the way from one bureau to another. Any depth.

The tree is data with a version. It is checked when it is built, so that every walk below ends at the one root.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import IntEnum
from types import MappingProxyType

from kuaixiang.domain.identifiers import DIVISION_DIGITS, is_division_code


class Tier(IntEnum):
    """A bureau's level. Bureaus below a county's own (branches, offices) are of the county tier too."""

    NATIONAL = 1
    PROVINCIAL = 2
    PREFECTURE = 3
    COUNTY = 4


class Relation(IntEnum):
    """What one bureau is to another."""

    SELF = 1
    PARENT = 2
    CHILD = 3
    ANCESTOR = 4
    """A superior further up than the parent."""
    DESCENDANT = 5
    """A subordinate further down than a child."""
    ELSEWHERE = 6


class TreeError(ValueError):
    """Base of every condition under which a tree cannot be built."""

    codes: tuple[str, ...] = ()
    """The offending bureaus, the first to be looked at first."""


class BadBureauCode(TreeError):
    """A bureau's code is not six digits."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.codes = (code,)
        self.code = code

    def __str__(self) -> str:
        return f"the bureau code {self.code!r} is not {DIVISION_DIGITS} digits"


class DuplicateBureau(TreeError):
    """Two bureaus have the same code."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.codes = (code,)
        self.code = code

    def __str__(self) -> str:
        return f"the bureau code {self.code} occurs twice"


class NoRoot(TreeError):
    """Every bureau names a superior, or there is no bureau."""

    def __str__(self) -> str:
        return "no bureau is without a superior, so that the tree has no root"


class SeveralRoots(TreeError):
    """More than one bureau has no superior."""

    def __init__(self, codes: tuple[str, ...]) -> None:
        super().__init__(codes)
        self.codes = codes

    def __str__(self) -> str:
        return f"the tree has several roots, bureaus without a superior: {', '.join(self.codes)}"


class OrphanBureau(TreeError):
    """A bureau names a superior that is not in the tree."""

    def __init__(self, code: str, parent: str) -> None:
        super().__init__(code, parent)
        self.codes = (code,)
        self.code = code
        self.parent = parent

    def __str__(self) -> str:
        return f"bureau {self.code} names the superior {self.parent!r}, which is not in the tree"


class BureauCycle(TreeError):
    """Bureaus are each other's superiors."""

    def __init__(self, codes: tuple[str, ...]) -> None:
        super().__init__(codes)
        self.codes = codes

    def __str__(self) -> str:
        return f"bureaus are superiors of each other in a circle: {' -> '.join((*self.codes, self.codes[0]))}"


class TierNotBelowParent(TreeError):
    """A bureau's tier is not below its superior's."""

    def __init__(self, code: str, tier: Tier, parent: str, parent_tier: Tier) -> None:
        super().__init__(code, tier, parent, parent_tier)
        self.codes = (code,)
        self.code = code
        self.tier = tier
        self.parent = parent
        self.parent_tier = parent_tier

    def __str__(self) -> str:
        return (
            f"bureau {self.code} of the {self.tier.name.lower()} tier cannot stand under {self.parent} "
            f"of the {self.parent_tier.name.lower()} tier"
        )


class UnknownFormerSuperior(TreeError):
    """A bureau names an earlier superior that is not in the tree, or itself, or the present one."""

    def __init__(self, code: str, former: str) -> None:
        super().__init__(code, former)
        self.codes = (code,)
        self.code = code
        self.former = former

    def __str__(self) -> str:
        return f"bureau {self.code} cannot have stood under {self.former!r} earlier"


class UnknownSuccessor(TreeError):
    """A bureau names a successor that is not in the tree, is itself, or has been dissolved too; or it is the root."""

    def __init__(self, code: str, successor: str) -> None:
        super().__init__(code, successor)
        self.codes = (code,)
        self.code = code
        self.successor = successor

    def __str__(self) -> str:
        return f"bureau {self.code} cannot have {self.successor!r} as its successor"


class UnderDissolved(TreeError):
    """A bureau stands under one that has been dissolved, over whose ledger its cases would go up and down."""

    def __init__(self, code: str, superior: str) -> None:
        super().__init__(code, superior)
        self.codes = (code,)
        self.code = code
        self.superior = superior

    def __str__(self) -> str:
        return f"bureau {self.code} stands under {self.superior}, which has been dissolved"


class UnknownBureau(LookupError):
    """A code that no bureau of the tree has."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"no bureau of the tree has the code {self.code!r}"


class AlreadyAtDestination(ValueError):
    """The next hop was asked for where the way ends."""

    def __init__(self, code: str) -> None:
        super().__init__(code)
        self.code = code

    def __str__(self) -> str:
        return f"bureau {self.code} is the destination itself: there is no next bureau"


def short_name(name: str) -> str:
    """A bureau's name without what all of them share: the place alone; headquarters are 总局."""
    return name.removeprefix("国家税务总局").removesuffix("税务局").strip("（）") or "总局"


@dataclass(frozen=True, slots=True)
class Bureau:
    """One tax bureau."""

    code: str
    """Its six digits, an administrative division code."""
    name: str
    tier: Tier
    parent: str | None
    """Code of its superior; None for the root."""
    endpoint: str = ""
    """Where its node answers, host:port; empty when the tree does not say."""
    desk: str = ""
    """Address of its desk's pages, http(s)://host[:port]; empty when the tree does not say."""
    fingerprints: tuple[str, ...] = ()
    """SHA-256 of the certificates that speak for it, in hexadecimal; none: every one of the authority's that names it.
    Several, so that the next one is listed before it is taken into use."""
    formerly: tuple[str, ...] = ()
    """Codes of its earlier superiors. What it shares with them is ended with them: hand-overs that are not decided,
    results of cases that went through both."""
    successor: str = ""
    """Code of the bureau that carries on for it since it was dissolved 撤并; empty: it is there. A dissolved one takes
    no new requests, ends what it has or hands it over, and its ledger stays where and what it is."""


class BureauTree:
    """All bureaus, immutable, checked. Every method raises `UnknownBureau` for a code that is not in the tree."""

    __slots__ = ("_ancestors", "_bureaus", "_children", "_root", "_subtrees", "_version")

    def __init__(self, version: str, bureaus: Iterable[Bureau]) -> None:
        """Build and check the tree.

        Raises:
            BadBureauCode, DuplicateBureau, NoRoot, SeveralRoots, OrphanBureau, BureauCycle, TierNotBelowParent,
            UnknownFormerSuperior, UnknownSuccessor, UnderDissolved.

        """
        self._version = version
        self._bureaus: Mapping[str, Bureau] = MappingProxyType(_by_code(bureaus))
        self._root = _the_root(self._bureaus)
        children: dict[str, list[str]] = {code: [] for code in self._bureaus}
        for bureau in self._bureaus.values():
            if bureau.parent is not None:
                _check_under(bureau, self._bureaus)
                children[bureau.parent].append(bureau.code)
                if self._bureaus[bureau.parent].successor and not bureau.successor:
                    raise UnderDissolved(bureau.code, bureau.parent)
            for former in bureau.formerly:
                if former not in self._bureaus or former in {bureau.code, bureau.parent}:
                    raise UnknownFormerSuperior(bureau.code, former)
            if bureau.successor:
                heir = self._bureaus.get(bureau.successor)
                if heir is None or heir.successor or bureau.parent is None:
                    raise UnknownSuccessor(bureau.code, bureau.successor)
        self._children = {code: tuple(below) for code, below in children.items()}
        self._subtrees: dict[str, tuple[str, ...]] = {}
        """Those that were asked for: each bureau is in as many as it has superiors."""
        self._ancestors: dict[str, tuple[str, ...]] = {self._root: ()}
        reached = [self._root]
        for code in reached:
            for child in self._children[code]:
                self._ancestors[child] = (code, *self._ancestors[code])
                reached.append(child)
        for code in self._bureaus:
            if code not in self._ancestors:
                raise BureauCycle(_cycle_from(code, self._bureaus))

    @property
    def version(self) -> str:
        """Which edition of the tree this is."""
        return self._version

    @property
    def bureaus(self) -> Mapping[str, Bureau]:
        """Every bureau by its code, in the order given."""
        return self._bureaus

    @property
    def root(self) -> str:
        """Code of the one bureau without a superior: headquarters, in the national tree."""
        return self._root

    def __contains__(self, code: object) -> bool:
        """Whether a bureau has this code."""
        return code in self._bureaus

    def __len__(self) -> int:
        """How many bureaus there are."""
        return len(self._bureaus)

    def get(self, code: str) -> Bureau:
        """Give the bureau with this code."""
        try:
            return self._bureaus[code]
        except KeyError:
            raise UnknownBureau(code) from None

    def parent(self, code: str) -> str | None:
        """Give the superior of a bureau; None for the root."""
        return self.get(code).parent

    def neighbours(self, code: str) -> tuple[str, ...]:
        """Give the superior of a bureau, if it has one, then the bureaus directly under it."""
        superior = self.parent(code)
        return (*((superior,) if superior else ()), *self.children(code))

    def branch(self, superior: str, code: str) -> str:
        """Give the bureau directly under `superior` that a bureau below is or stands under; `superior` for itself.

        Raises ValueError when the bureau is not below it.
        """
        line = self.superiors_and_self(code)
        above = line.index(superior)
        return line[above - 1] if above else superior

    def children(self, code: str) -> tuple[str, ...]:
        """Give the bureaus directly under a bureau."""
        self.get(code)
        return self._children[code]

    def ancestors(self, code: str) -> tuple[str, ...]:
        """Give every superior of a bureau, nearest first, the root last; empty for the root."""
        self.get(code)
        return self._ancestors[code]

    def superiors_and_self(self, code: str) -> tuple[str, ...]:
        """Give the bureau itself, then its superiors, nearest first."""
        return (code, *self.ancestors(code))

    def subtree(self, code: str) -> tuple[str, ...]:
        """Give a bureau and everything under it, each superior before its subordinates."""
        self.get(code)
        found = self._subtrees.get(code)
        if found is None:
            reached = [code]
            for superior in reached:
                reached.extend(self._children[superior])
            found = self._subtrees[code] = tuple(reached)
        return found

    def contains(self, superior: str, code: str) -> bool:
        """Whether a bureau is `superior` itself or stands somewhere under it."""
        self.get(superior)
        return superior in self.superiors_and_self(code)

    def lowest_common_superior(self, a: str, b: str) -> str:
        """Give the lowest bureau that contains both; one of them, if it contains the other."""
        of_b = self.superiors_and_self(b)
        return next(code for code in self.superiors_and_self(a) if code in of_b)

    def route(self, a: str, b: str) -> tuple[str, ...]:
        """Give the way from a to b along the tree, both included: up to the lowest common superior, then down."""
        top = self.lowest_common_superior(a, b)
        up = self.superiors_and_self(a)
        down = self.superiors_and_self(b)
        return up[: up.index(top) + 1] + down[: down.index(top)][::-1]

    def next_hop(self, a: str, b: str) -> str:
        """Give the bureau after a on the way to b: a's parent or one of its children.

        Raises:
            AlreadyAtDestination: a is b.

        """
        if a == b:
            raise AlreadyAtDestination(self.get(a).code)
        return self.route(a, b)[1]

    def relation(self, a: str, b: str) -> Relation:
        """Say what b is to a."""
        above_a, above_b = self.ancestors(a), self.ancestors(b)
        if a == b:
            return Relation.SELF
        if b in above_a:
            return Relation.PARENT if above_a[0] == b else Relation.ANCESTOR
        if a in above_b:
            return Relation.CHILD if above_b[0] == a else Relation.DESCENDANT
        return Relation.ELSEWHERE

    def is_under(self, code: str, superior: str) -> bool:
        """Whether a bureau stands, or stood once, directly under that superior."""
        bureau = self.get(code)
        return superior == bureau.parent or superior in bureau.formerly

    def dissolved(self, code: str) -> bool:
        """Whether a bureau has been dissolved: another one carries on for it."""
        return bool(self.get(code).successor)

    def retired(self, code: str) -> bool:
        """Whether a dissolved bureau's node has been stopped for good 停用: the tree gives it no endpoint any more."""
        return self.dissolved(code) and not self.get(code).endpoint

    def site(self, code: str) -> str:
        """Give the site whose message bus serves a bureau: its provincial bureau's code, or the root's above that."""
        for superior in self.superiors_and_self(code):
            if self._bureaus[superior].tier is Tier.PROVINCIAL:
                return superior
        return self._root

    def sites(self) -> tuple[str, ...]:
        """Give every site, the root's first."""
        return tuple(dict.fromkeys(map(self.site, self.subtree(self._root))))


def code_and_name(tree: BureauTree, code: str) -> str:
    """A bureau's code with its short name; the code alone where the tree does not know it."""
    return f"{code} {short_name(tree.get(code).name)}" if code in tree else code


def _by_code(bureaus: Iterable[Bureau]) -> dict[str, Bureau]:
    found: dict[str, Bureau] = {}
    for bureau in bureaus:
        if not is_division_code(bureau.code):
            raise BadBureauCode(bureau.code)
        if bureau.code in found:
            raise DuplicateBureau(bureau.code)
        found[bureau.code] = bureau
    return found


def _the_root(bureaus: Mapping[str, Bureau]) -> str:
    roots = tuple(code for code, bureau in bureaus.items() if bureau.parent is None)
    if len(roots) > 1:
        raise SeveralRoots(roots)
    if roots:
        return roots[0]
    for code, bureau in bureaus.items():
        _check_under(bureau, bureaus)
        raise BureauCycle(_cycle_from(code, bureaus))
    raise NoRoot


def _check_under(bureau: Bureau, bureaus: Mapping[str, Bureau]) -> None:
    """Check a bureau against the superior it names."""
    superior = bureaus.get(bureau.parent or "")
    if superior is None:
        raise OrphanBureau(bureau.code, bureau.parent or "")
    # County is the lowest tier there is a word for, so a county's own branches share it: any depth works.
    if bureau.tier <= superior.tier and not bureau.tier is superior.tier is Tier.COUNTY:
        raise TierNotBelowParent(bureau.code, bureau.tier, superior.code, superior.tier)


def _cycle_from(code: str, bureaus: Mapping[str, Bureau]) -> tuple[str, ...]:
    """Walk up from a bureau that never reaches a root, and give the circle it ends in."""
    walked: list[str] = []
    at: str | None = code
    while at is not None and at not in walked:
        walked.append(at)
        at = bureaus[at].parent
    return tuple(walked[walked.index(at) :]) if at is not None else ()
