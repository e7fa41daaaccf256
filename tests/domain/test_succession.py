"""What a new tree must be like to follow the one in force; everything else is refused, and the refusal names it."""

from dataclasses import replace
from typing import Any

import pytest

from kuaixiang.domain import succession
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.succession import check_adoption, check_succession, newer
from kuaixiang.domain.tree import Bureau, BureauTree, Tier, UnknownFormerSuperior
from kuaixiang.facts import FactsMalformed, parse_tree

OURS, ANOTHER = "a" * 64, "b" * 64
BUREAUS = (
    Bureau("000000", "headquarters", Tier.NATIONAL, None),
    Bureau("330000", "Zhejiang", Tier.PROVINCIAL, "000000"),
    Bureau("330100", "Hangzhou", Tier.PREFECTURE, "330000"),
    Bureau("330200", "Ningbo", Tier.PREFECTURE, "330000"),
    Bureau("330106", "Xihu", Tier.COUNTY, "330100"),
    Bureau("110000", "Beijing", Tier.PROVINCIAL, "000000"),
)
IN_FORCE = BureauTree("2026-10", BUREAUS)


def changed(version: str = "2026-11", /, **of: dict[str, Any]) -> BureauTree:
    """The tree in force with changes, by code after an underscore."""
    return BureauTree(version, (replace(one, **of.get(f"_{one.code}", {})) for one in BUREAUS))


def without(*codes: str) -> BureauTree:
    return BureauTree("2026-11", (one for one in BUREAUS if one.code not in codes))


@pytest.mark.parametrize(
    "tree",
    [
        changed(),
        changed("2027.1"),
        changed("2026-10.1"),
        changed(_330106={"endpoint": "node:7440", "name": "another name"}),
        changed(_330106={"parent": "330200", "formerly": ("330100",)}),
        changed(_330106={"parent": "330000", "formerly": ("330100",)}),
        changed(_000000={"fingerprints": (ANOTHER, OURS)}, _330106={"fingerprints": (ANOTHER,)}),
        BureauTree("2026-11", (*BUREAUS, Bureau("330107", "new", Tier.COUNTY, "330100"))),
    ],
    ids=["the same", "points", "longer", "moved", "another superior", "under the province", "pinned", "one more"],
)
def test_a_tree_may_follow(tree: BureauTree) -> None:
    check_succession(tree, IN_FORCE, OURS)


@pytest.mark.parametrize(
    ("tree", "refusal", "named"),
    [
        (changed("next"), succession.TreeUnnumbered, "next"),
        (changed("2026-10"), succession.TreeNotNewer, "2026-10"),
        (changed("2026-9"), succession.TreeNotNewer, "2026-9"),
        (
            BureauTree("2026-11", (Bureau("000001", "another", Tier.NATIONAL, None),)),
            succession.TreeMovesRoot,
            "000001",
        ),
        (without("330106"), succession.TreeForgetsBureaus, "330106"),
        (changed(_330106={"parent": "110000", "formerly": ("330100",)}), succession.TreeMovesSites, "330106"),
        (changed(_330106={"parent": "330200"}), succession.TreeForgetsSuperiors, "330106"),
        (changed(_000000={"fingerprints": (ANOTHER,)}), succession.TreeLocksOut, "aaaa"),
    ],
    ids=["unnumbered", "the same", "older", "root", "left out", "another province", "no word of it", "locked out"],
)
def test_a_tree_that_does_not_follow_is_refused_in_both_languages(
    tree: BureauTree, refusal: type[Refused], named: str
) -> None:
    with pytest.raises(refusal) as refused:
        check_succession(tree, IN_FORCE, OURS)
    assert named in str(refused.value)
    assert named in refused.value.chinese
    assert refused.value.remedy_chinese


def test_an_earlier_superior_is_not_forgotten_by_a_later_tree() -> None:
    second = changed(_330106={"parent": "330200", "formerly": ("330100",)})
    check_succession(second, IN_FORCE, OURS)
    third = changed("2026-12", _330106={"parent": "330000", "formerly": ("330200",)})
    with pytest.raises(succession.TreeForgetsSuperiors):
        check_succession(third, second, OURS)
    check_succession(changed("2026-12", _330106={"parent": "330000", "formerly": ("330200", "330100")}), second, OURS)


def test_a_refusal_names_a_few_bureaus_and_counts_the_others() -> None:
    many = BureauTree("1", (*BUREAUS, *(Bureau(f"3301{n}", "x", Tier.COUNTY, "330100") for n in range(10, 20))))
    with pytest.raises(succession.TreeForgetsBureaus, match="330110, 330111, 330112, 330113, 330114 and 5 more"):
        check_succession(IN_FORCE, many, OURS)


def test_any_numbered_tree_follows_one_that_is_not_numbered() -> None:
    assert newer(IN_FORCE, changed("test"))
    assert not newer(changed("test"), IN_FORCE)
    check_succession(IN_FORCE, changed("test"), OURS)


def test_whoever_keeps_bureaus_adopts_what_has_them() -> None:
    check_adoption(without("330106", "330200"), IN_FORCE, ["330100"])
    with pytest.raises(succession.TreeForgetsBureaus):
        check_adoption(without("330106"), IN_FORCE, ["330106"])


def test_a_bureau_stands_under_its_superior_and_stood_under_earlier_ones() -> None:
    tree = changed(_330106={"parent": "330200", "formerly": ("330100",)})
    assert [True, True, False] == [tree.is_under("330106", code) for code in ("330200", "330100", "330000")]


@pytest.mark.parametrize("former", ["330106", "330100", "999999"], ids=["itself", "the present one", "unknown"])
def test_an_earlier_superior_is_another_bureau_of_the_tree(former: str) -> None:
    with pytest.raises(UnknownFormerSuperior, match=former):
        changed(_330106={"formerly": (former,)})


ROWS = """# version: 2026-11
gb_code,name,tier,parent,endpoint,desk,fingerprints,formerly
000000,总局,national,,hq:7440,,{fingerprints},
330000,浙江,provincial,000000,{endpoint},,,
330100,杭州,prefecture,330000,,,,
330106,西湖,county,330000,,,,330100
"""


def test_fingerprints_and_earlier_superiors_are_columns_of_the_tree() -> None:
    openssl = ":".join(["AB"] * 32)
    tree = parse_tree(ROWS.format(fingerprints=f"{OURS} {openssl}", endpoint="[fd00::1]:7440"))
    assert (OURS, "ab" * 32) == tree.get("000000").fingerprints
    assert ("330100",) == tree.get("330106").formerly


@pytest.mark.parametrize(
    ("fingerprints", "endpoint", "line"),
    [("abcd", "", 3), (OURS + "0", "", 3), ("", "nowhere", 4), ("", "host:port", 4), ("", "http://host:7440", 4)],
)
def test_a_malformed_fingerprint_or_endpoint_is_named_with_its_line(
    fingerprints: str, endpoint: str, line: int
) -> None:
    with pytest.raises(FactsMalformed) as fault:
        parse_tree(ROWS.format(fingerprints=fingerprints, endpoint=endpoint))
    assert line == fault.value.line
