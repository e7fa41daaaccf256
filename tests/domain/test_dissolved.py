"""A bureau that has been dissolved takes nothing new: its successor does. What it has, it ends or hands over."""

from dataclasses import replace

import pytest

from kuaixiang.domain import errors, events
from kuaixiang.domain.jurisdiction import competent_bureau
from kuaixiang.domain.tree import Bureau, BureauTree, Tier, UnderDissolved, UnknownSuccessor
from kuaixiang.facts import FactsMalformed, parse_tree
from tests.domain.story import FORWARD, HANGZHOU, REFER, REGISTER, SHANGCHENG, TREE, Story

SUCCESSOR = "330103"


def tree(of: str = SHANGCHENG, successor: str = SUCCESSOR) -> BureauTree:
    heir = Bureau(SUCCESSOR, "new", Tier.COUNTY, HANGZHOU)
    bureaus = (*(one for one in TREE.bureaus.values() if one.code != SUCCESSOR), heir)
    return BureauTree("2027-1", (replace(one, successor=successor) if one.code == of else one for one in bureaus))


def test_a_dissolved_bureau_registers_nothing_and_names_its_successor() -> None:
    with pytest.raises(errors.BureauDissolved) as refused:
        Story(bureau=SHANGCHENG).do(REGISTER, tree=tree())
    assert (SHANGCHENG, SUCCESSOR) == (refused.value.bureau, refused.value.successor)
    assert SUCCESSOR in refused.value.remedy


def test_a_dissolved_bureau_refers_what_it_has_to_its_successor() -> None:
    story = Story(bureau=SHANGCHENG).then(REGISTER, FORWARD)
    (offered,) = story.do(replace(REFER, final_bureau=SUCCESSOR), tree=tree())
    assert isinstance(offered, events.Offered)
    assert (HANGZHOU, SUCCESSOR) == (offered.to_bureau, offered.final_bureau)


def test_nothing_is_referred_to_a_dissolved_bureau() -> None:
    story = Story(bureau=HANGZHOU).then(REGISTER, FORWARD)
    with pytest.raises(errors.BureauDissolved):
        story.do(replace(REFER, final_bureau=SHANGCHENG), tree=tree())


def test_for_a_taxpayer_of_a_dissolved_bureau_its_successor_is_proposed() -> None:
    assert (SHANGCHENG, SUCCESSOR) == (
        competent_bureau(TREE, None, SHANGCHENG),
        competent_bureau(tree(), None, SHANGCHENG),
    )


@pytest.mark.parametrize(
    ("of", "successor"),
    [(SHANGCHENG, "999999"), (SHANGCHENG, SHANGCHENG), (TREE.root, SHANGCHENG)],
)
def test_a_successor_is_another_bureau_of_the_tree_and_the_root_has_none(of: str, successor: str) -> None:
    with pytest.raises(UnknownSuccessor, match=f"bureau {of} cannot have '{successor}' as its successor"):
        tree(of, successor)


def test_whoever_stands_under_a_bureau_that_is_dissolved_is_dissolved_too_or_stands_elsewhere() -> None:
    def after(**of: Bureau) -> BureauTree:
        return BureauTree("2027-1", [of.get(f"b{one.code}", one) for one in TREE.bureaus.values()])

    below = TREE.children(HANGZHOU)
    other = next(one for one in TREE.bureaus if one != HANGZHOU and one not in below and one != TREE.root)
    ended = {f"b{HANGZHOU}": replace(TREE.get(HANGZHOU), successor=other)}
    with pytest.raises(UnderDissolved, match=HANGZHOU):
        after(**ended)
    after(**ended, **{f"b{code}": replace(TREE.get(code), successor=other) for code in below})


@pytest.mark.parametrize(
    ("successor", "endpoint", "retired"),
    [(SUCCESSOR, "", True), (SUCCESSOR, "one.example:7440", False), ("", "", False)],
)
def test_a_bureau_is_retired_when_it_is_dissolved_and_has_no_node(successor: str, endpoint: str, retired: bool) -> None:
    county = replace(tree().get(SHANGCHENG), successor=successor, endpoint=endpoint)
    after = BureauTree("2027-2", (county if one.code == SHANGCHENG else one for one in tree().bureaus.values()))
    assert retired is after.retired(SHANGCHENG)


def test_a_successor_that_was_dissolved_too_is_named_with_its_line() -> None:
    text = """# version: 2027-1
gb_code,name,tier,parent,endpoint,desk,fingerprints,formerly,successor
000000,headquarters,national,,,,,,
330000,Zhejiang,provincial,000000,,,,,
330105,Gongshu,county,330000,,,,,330106
330106,Xihu,county,330000,,,,,330108
330108,Binjiang,county,330000,,,,,
"""
    with pytest.raises(FactsMalformed, match="line 5"):
        parse_tree(text)
    found = parse_tree(
        text.replace("330105,Gongshu,county,330000,,,,,330106", "330105,Gongshu,county,330000,,,,,330108")
    )
    assert found.dissolved("330105")
    assert not found.dissolved("330108")
