"""The tree of bureaus made from a log: headquarters, a provincial bureau for each organisation, the teams under it.

A team's place under its province is told by the log's columns, or (`exchange`) by who works with whom: the superior of
a team is the team of a higher support line, in the same province, with which it exchanged most hand-overs, in either
direction. Equal numbers: the lower of those lines first, then the lesser name. No such team: the provincial bureau.
Teams of the highest line are prefectures, the others counties (branches of a county's, where they stand under one).
"""

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from demo.replay.mapping import Shape, TreeRule
from kuaixiang.domain.tree import Bureau, BureauTree, Relation, Tier

HEADQUARTERS_CODE: Final = "000000"
FIRST_PROVINCE: Final = 11
PROVINCES_MAX: Final = 89  # two digits from 11 to 99
BUREAUS_PER_PROVINCE_MAX: Final = 9_999  # the other four digits

Key = tuple[str, ...]
"""What the log calls a bureau: the names of its province, of the bureaus between, and its own."""


class TreeTooLarge(ValueError):
    """The log names more bureaus under one superior than the digits of a code can number."""

    def __init__(self, superior: str, found: int, most: int) -> None:
        super().__init__(superior, found, most)
        self.superior = superior
        self.found = found
        self.most = most

    def __str__(self) -> str:
        return f"the log names {self.found} bureaus under {self.superior}; {self.most} can be numbered"


class Direction(StrEnum):
    """Where a hand-over goes, seen from the sender (§四(二)3)."""

    UP = "up"
    """To a superior, at any distance."""
    DOWN = "down"
    """To a subordinate, at any distance."""
    ACROSS = "across"
    """Elsewhere, by way of a common superior."""


@dataclass(frozen=True, slots=True)
class LogTree:
    """The tree, and the codes that it gave to the log's names."""

    bureaus: BureauTree
    codes: Mapping[Key, str]

    def direction(self, sender: str, receiver: str) -> Direction:
        """Tell where a hand-over goes.

        Raises:
            UnknownBureau: the tree has no such code.
        """
        match self.bureaus.relation(sender, receiver):
            case Relation.PARENT | Relation.ANCESTOR:
                return Direction.UP
            case Relation.CHILD | Relation.DESCENDANT:
                return Direction.DOWN
            case Relation.SELF | Relation.ELSEWHERE:
                return Direction.ACROSS

    def relays(self, sender: str, receiver: str) -> tuple[str, ...]:
        """Give the bureaus between the two that pass the case on.

        Raises:
            UnknownBureau: the tree has no such code.
        """
        return self.bureaus.route(sender, receiver)[1:-1]


def grow(rule: TreeRule, version: str, teams: Iterable[Key], exchanges: Counter[tuple[Key, Key]]) -> LogTree:
    """Make the tree for the teams of a log. The same teams and exchanges give the same codes.

    Args:
        rule: how the log's organisations become bureaus.
        version: the tree's edition.
        teams: the keys of the bureaus that hold cases.
        exchanges: how often one team handed a case to another.

    Raises:
        TreeTooLarge: more provinces, or more bureaus in one, than the codes can number.
    """
    parents = _by_columns(teams) if rule.shape is Shape.COLUMNS else _by_exchange(rule, teams, exchanges)
    below: defaultdict[Key, list[Key]] = defaultdict(list)
    for key in sorted(parents):
        below[parents[key]].append(key)
    provinces = below[()]
    if len(provinces) > PROVINCES_MAX:
        raise TreeTooLarge(rule.headquarters, len(provinces), PROVINCES_MAX)
    codes: dict[Key, str] = {(): HEADQUARTERS_CODE}
    bureaus = [Bureau(HEADQUARTERS_CODE, rule.headquarters, Tier.NATIONAL, None)]
    for number, province in enumerate(provinces, FIRST_PROVINCE):
        codes[province] = f"{number}0000"
        bureaus.append(Bureau(codes[province], province[-1], Tier.PROVINCIAL, HEADQUARTERS_CODE))
        under = _subordinates(province, below)
        if len(under) > BUREAUS_PER_PROVINCE_MAX:
            raise TreeTooLarge(province[-1], len(under), BUREAUS_PER_PROVINCE_MAX)
        for position, key in enumerate(under, 1):
            codes[key] = f"{number}{position:04d}"
            tier = Tier.PREFECTURE if _is_prefecture(rule, key, below) else Tier.COUNTY
            bureaus.append(Bureau(codes[key], key[-1], tier, codes[parents[key]]))
    return LogTree(BureauTree(version, bureaus), codes)


def _subordinates(superior: Key, below: Mapping[Key, list[Key]]) -> list[Key]:
    """Everything under a bureau, each superior before its subordinates."""
    found: list[Key] = []
    for key in below.get(superior, ()):
        found += [key, *_subordinates(key, below)]
    return found


def _is_prefecture(rule: TreeRule, key: Key, below: Mapping[Key, list[Key]]) -> bool:
    if rule.shape is Shape.COLUMNS:
        return key in below
    highest = max((*rule.lines.values(), rule.line_default))
    return rule.line_of(key[-1]) == highest


def _by_columns(teams: Iterable[Key]) -> dict[Key, Key]:
    """Each bureau under the one that its own columns name."""
    return {team[:depth]: team[: depth - 1] for team in teams for depth in range(1, len(team) + 1)}


def _by_exchange(rule: TreeRule, teams: Iterable[Key], exchanges: Counter[tuple[Key, Key]]) -> dict[Key, Key]:
    """Each team under the team of a higher line that it works with most; this module's description has the rule."""
    met: defaultdict[Key, Counter[Key]] = defaultdict(Counter)
    for (sender, receiver), times in exchanges.items():
        lower, higher = sorted((sender, receiver), key=lambda team: rule.line_of(team[-1]))
        if sender[0] == receiver[0] and rule.line_of(lower[-1]) != rule.line_of(higher[-1]):
            met[lower][higher] += times
    parents: dict[Key, Key] = {}
    for team in teams:
        province = team[:1]
        parents[province] = ()
        worked_with = met[team]
        parents[team] = min(
            worked_with,
            key=lambda other: (-worked_with[other], rule.line_of(other[-1]), other),
            default=province,
        )
    return parents
