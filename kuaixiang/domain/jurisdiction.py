"""Territorial competence 属地管理 (§二(四)): which bureau a taxpayer belongs to, by administrative division.

A proposal only: the registering officer decides.
"""

from kuaixiang.domain.errors import BureauDissolved
from kuaixiang.domain.identifiers import division_of, is_division_code
from kuaixiang.domain.tree import BureauTree


def competent_bureau(tree: BureauTree, taxpayer_number: str | None, place: str | None) -> str | None:
    """Propose the code of the bureau a taxpayer belongs to, or None when nothing given leads to one.

    The registration number's division decides. `place`, a division code, decides when there is no number, or when it
    names a bureau under the number's: firms registered with a provincial authority carry only the province.
    A text that is not of the form expected is taken as not given.
    """
    by_number = bureau_for_division(tree, division_of(taxpayer_number)) if taxpayer_number else None
    by_place = bureau_for_division(tree, place) if place else None
    if by_number is None:
        return by_place
    if by_place is not None and tree.contains(by_number, by_place):
        return by_place
    return by_number


def bureau_for_division(tree: BureauTree, division: str | None) -> str | None:
    """Give the bureau nearest to a division: its own, else its prefecture's (xxxx00), else its province's (xx0000).

    Cities with independent planning status are provincial bureaus of their own at xxxx00, so their districts are
    found before the province is. For a bureau that has been dissolved its successor. None when the tree has none of the
    three, or the text is no division code.
    """
    if division is None or not is_division_code(division) or division.startswith("00"):
        return None
    for code in (division, f"{division[:4]}00", f"{division[:2]}0000"):
        if code in tree:
            return tree.get(code).successor or code
    return None


def check_not_dissolved(tree: BureauTree, bureau: str) -> None:
    """Raises `BureauDissolved` for a bureau that takes nothing new; one unknown to the tree is not looked at."""
    if bureau in tree and tree.dissolved(bureau):
        raise BureauDissolved(bureau, tree.get(bureau).successor)
