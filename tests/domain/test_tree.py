import csv
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain.tree import (
    AlreadyAtDestination,
    BadBureauCode,
    Bureau,
    BureauCycle,
    BureauTree,
    DuplicateBureau,
    NoRoot,
    OrphanBureau,
    Relation,
    SeveralRoots,
    Tier,
    TierNotBelowParent,
    TreeError,
    UnknownBureau,
)
from kuaixiang.facts import FactsMalformed, load_tree, national_tree, parse_tree

TEXT = """# version: test
gb_code,name,tier,parent,endpoint
000000,总局,national,,127.0.0.1:1
320000,江苏,provincial,000000,
320100,南京,prefecture,320000,
320102,玄武,county,320100,
320104,秦淮,county,320100,
500000,重庆,provincial,000000,
500101,万州,county,500000,
"""
TREE = parse_tree(TEXT)
NATION = national_tree()
CODES = st.sampled_from(list(NATION.bureaus))


def test_the_national_tree_has_every_tier() -> None:
    tiers = [bureau.tier for bureau in NATION.bureaus.values()]

    assert NATION.version == "2026-09"
    assert NATION.root == "000000"
    assert [tiers.count(tier) for tier in Tier] == [1, 36, 328, 2_847]
    assert len(NATION) == 3_212
    assert (
        sum(
            bureau.tier is Tier.COUNTY and NATION.get(bureau.parent or "").tier is Tier.PROVINCIAL
            for bureau in NATION.bureaus.values()
        )
        == 163
    )


def test_the_national_tree_has_37_sites() -> None:
    assert len(NATION.sites()) == 37
    assert NATION.sites()[0] == "000000"


def test_a_tree_is_read_from_its_text() -> None:
    assert TREE.version == "test"
    assert TREE.get("000000") == Bureau("000000", "总局", Tier.NATIONAL, None, "127.0.0.1:1")
    assert TREE.get("320102") == Bureau("320102", "玄武", Tier.COUNTY, "320100")
    assert list(TREE.bureaus) == ["000000", "320000", "320100", "320102", "320104", "500000", "500101"]


def test_a_text_without_endpoints_and_with_the_divisions_word_for_a_prefecture_is_the_same_tree() -> None:
    rows = [row[:4] for row in csv.reader(TEXT.splitlines()[2:])]
    text = "# version: test\ngb_code,name,tier,parent\n" + "\n".join(map(",".join, rows)).replace("prefecture", "city")

    expected = [(bureau.code, bureau.tier, bureau.parent) for bureau in TREE.bureaus.values()]
    assert [(bureau.code, bureau.tier, bureau.parent) for bureau in parse_tree(text).bureaus.values()] == expected


def test_a_tree_may_say_where_desks_are_and_names_an_address_that_is_none() -> None:
    text = "# version: t\ngb_code,name,tier,parent,endpoint,desk\n000000,总局,national,,127.0.0.1:1,{}\n"
    for desk in ("", "http://127.0.0.1:8080", "https://desk.example"):
        assert parse_tree(text.format(desk)).get("000000").desk == desk
    for desk in ("javascript:alert(1)", "127.0.0.1:8080", "http://desk/orders", "http://desk?to=1"):
        with pytest.raises(FactsMalformed) as caught:
            parse_tree(text.format(desk))
        assert f"line 3: the desk is {desk!r}; write http://host:port, or leave it empty" in str(caught.value)


def test_who_is_above_and_below() -> None:
    assert TREE.parent("320102") == "320100"
    assert TREE.parent("000000") is None
    assert TREE.children("320100") == ("320102", "320104")
    assert TREE.ancestors("320102") == ("320100", "320000", "000000")
    assert TREE.ancestors("000000") == ()
    assert TREE.superiors_and_self("500101") == ("500101", "500000", "000000")
    assert TREE.subtree("320000") == ("320000", "320100", "320102", "320104")
    assert TREE.contains("320000", "320102")
    assert TREE.contains("320102", "320102")
    assert not TREE.contains("320102", "320000")
    assert "320102" in TREE
    assert "999999" not in TREE


@pytest.mark.parametrize(
    ("a", "b", "route"),
    [
        ("320102", "320102", ("320102",)),
        ("320102", "320104", ("320102", "320100", "320104")),
        ("320102", "000000", ("320102", "320100", "320000", "000000")),
        ("320000", "320104", ("320000", "320100", "320104")),
        ("320102", "500101", ("320102", "320100", "320000", "000000", "500000", "500101")),
    ],
)
def test_a_case_travels_by_the_tree(a: str, b: str, route: tuple[str, ...]) -> None:
    assert TREE.route(a, b) == route
    assert TREE.route(b, a) == route[::-1]


def test_there_is_no_next_bureau_at_the_destination() -> None:
    assert TREE.next_hop("320102", "500101") == "320100"
    with pytest.raises(AlreadyAtDestination, match="bureau 320102 is the destination itself"):
        TREE.next_hop("320102", "320102")


@pytest.mark.parametrize(
    ("a", "b", "relation"),
    [
        ("320102", "320102", Relation.SELF),
        ("320102", "320100", Relation.PARENT),
        ("320100", "320102", Relation.CHILD),
        ("320102", "000000", Relation.ANCESTOR),
        ("000000", "320102", Relation.DESCENDANT),
        ("320102", "320104", Relation.ELSEWHERE),
    ],
)
def test_what_one_bureau_is_to_another(a: str, b: str, relation: Relation) -> None:
    assert TREE.relation(a, b) is relation


@pytest.mark.parametrize(
    ("code", "site"),
    [("320102", "320000"), ("500000", "500000"), ("000000", "000000")],
)
def test_a_bureau_is_served_by_its_provinces_site(code: str, site: str) -> None:
    assert TREE.site(code) == site


def test_a_bureau_directly_under_headquarters_is_served_by_its_site() -> None:
    tree = BureauTree(
        "t", [Bureau("000000", "总局", Tier.NATIONAL, None), Bureau("110001", "驻京", Tier.COUNTY, "000000")]
    )

    assert tree.site("110001") == "000000"


@pytest.mark.parametrize("call", ["get", "parent", "children", "ancestors", "superiors_and_self", "subtree", "site"])
def test_an_unknown_bureau_is_named(call: str) -> None:
    with pytest.raises(UnknownBureau, match="no bureau of the tree has the code '999999'"):
        getattr(TREE, call)("999999")


@pytest.mark.parametrize("call", ["contains", "lowest_common_superior", "route", "next_hop", "relation"])
@pytest.mark.parametrize("pair", [("999999", "320102"), ("320102", "999999"), ("999999", "999999")])
def test_an_unknown_bureau_of_a_pair_is_named(call: str, pair: tuple[str, str]) -> None:
    with pytest.raises(UnknownBureau):
        getattr(TREE, call)(*pair)


@given(CODES, CODES)
def test_every_route_goes_from_neighbour_to_neighbour_once_over_the_lowest_common_superior(a: str, b: str) -> None:
    route = NATION.route(a, b)

    assert (route[0], route[-1]) == (a, b)
    assert len(set(route)) == len(route)
    assert NATION.lowest_common_superior(a, b) in route
    hops = list(pairwise(route))
    assert {NATION.relation(*hop) for hop in hops} <= {Relation.PARENT, Relation.CHILD}
    assert [NATION.next_hop(hop, b) for hop, _ in hops] == [after for _, after in hops]


@given(CODES, CODES)
def test_relations_mirror_each_other(a: str, b: str) -> None:
    mirror = {
        Relation.SELF: Relation.SELF,
        Relation.PARENT: Relation.CHILD,
        Relation.CHILD: Relation.PARENT,
        Relation.ANCESTOR: Relation.DESCENDANT,
        Relation.DESCENDANT: Relation.ANCESTOR,
        Relation.ELSEWHERE: Relation.ELSEWHERE,
    }

    assert NATION.relation(b, a) is mirror[NATION.relation(a, b)]
    assert NATION.contains(a, b) == (NATION.relation(a, b) in {Relation.SELF, Relation.CHILD, Relation.DESCENDANT})
    assert NATION.contains(a, b) == (b in NATION.subtree(a))


def test_the_tree_is_as_deep_as_it_needs_to_be() -> None:
    chain = [f"32{n:04}" for n in range(200)]
    tree = BureauTree(
        "deep",
        [
            Bureau("000000", "总局", Tier.NATIONAL, None),
            *(
                Bureau(code, "所", Tier.COUNTY, parent)
                for code, parent in zip(chain, ["000000", *chain[:-1]], strict=True)
            ),
        ],
    )

    assert tree.route(chain[-1], "000000") == (*reversed(chain), "000000")


HQ = Bureau("000000", "总局", Tier.NATIONAL, None)


@pytest.mark.parametrize(
    ("bureaus", "error", "codes", "sentence"),
    [
        ([], NoRoot, (), "the tree has no root"),
        ([HQ, Bureau("1100", "北京", Tier.PROVINCIAL, "000000")], BadBureauCode, ("1100",), "'1100' is not 6 digits"),
        (
            [HQ, Bureau("11000٣", "北京", Tier.PROVINCIAL, "000000")],
            BadBureauCode,
            ("11000٣",),
            "is not 6 digits",
        ),
        ([HQ, HQ], DuplicateBureau, ("000000",), "the bureau code 000000 occurs twice"),
        (
            [HQ, Bureau("110000", "北京", Tier.PROVINCIAL, None)],
            SeveralRoots,
            ("000000", "110000"),
            "several roots, bureaus without a superior: 000000, 110000",
        ),
        (
            [HQ, Bureau("110101", "东城", Tier.COUNTY, "110000")],
            OrphanBureau,
            ("110101",),
            "bureau 110101 names the superior '110000', which is not in the tree",
        ),
        (
            [HQ, Bureau("110101", "甲", Tier.COUNTY, "110102"), Bureau("110102", "乙", Tier.COUNTY, "110101")],
            BureauCycle,
            ("110101", "110102"),
            "in a circle: 110101 -> 110102 -> 110101",
        ),
        (
            [Bureau("110101", "甲", Tier.COUNTY, "110102"), Bureau("110102", "乙", Tier.COUNTY, "110102")],
            BureauCycle,
            ("110102",),
            "in a circle: 110102 -> 110102",
        ),
        (
            [HQ, Bureau("110000", "甲", Tier.PROVINCIAL, "000000"), Bureau("120000", "乙", Tier.PROVINCIAL, "110000")],
            TierNotBelowParent,
            ("120000",),
            "bureau 120000 of the provincial tier cannot stand under 110000 of the provincial tier",
        ),
    ],
)
def test_what_is_not_a_tree_is_refused_by_name(
    bureaus: list[Bureau], error: type[TreeError], codes: tuple[str, ...], sentence: str
) -> None:
    with pytest.raises(error) as caught:
        BureauTree("bad", bureaus)

    assert caught.value.codes == codes
    assert sentence in str(caught.value)


@pytest.mark.parametrize(
    ("good", "bad", "sentence"),
    [
        ("# version: test", "", "the version is not named; write a line '# version: ...' above the header"),
        ("gb_code,", "code,", "line 2: the columns are code,name,tier,parent,endpoint; write gb_code,name,tier,parent"),
        ("320102,玄武", "32010X,玄武", "line 6: the bureau code is '32010X'; write 6 digits"),
        ("320102,玄武", "320102,", "line 6: bureau 320102 has no name; write its name"),
        ("玄武,county", "玄武,district", "line 6: the tier is 'district'; write one of national, provincial"),
        ("玄武,county,320100,", "玄武,county", "line 6: the row has 3 fields, not 5"),
        ("320104,秦淮", "320102,秦淮", "line 7: 320102 is listed already on line 6; keep one of them"),
        ("玄武,county,320100", "玄武,county,320900", "line 6: bureau 320102 names the superior '320900'"),
        ("玄武,county,320100", "玄武,provincial,320100", "line 6: bureau 320102 of the provincial tier cannot stand"),
        ("500000,重庆,provincial,000000", "500000,重庆,provincial,", "the tree has several roots"),
    ],
)
def test_a_malformed_tree_is_refused_with_its_line_and_what_to_do(
    good: str, bad: str, sentence: str, tmp_path: Path
) -> None:
    path = tmp_path / "tree.csv"
    path.write_text(TEXT.replace(good, bad), encoding="utf-8")

    with pytest.raises(FactsMalformed) as caught:
        load_tree(path)

    assert sentence in str(caught.value)
    assert str(caught.value).startswith(str(path))


def test_a_tree_cannot_be_changed() -> None:
    with pytest.raises(TypeError):
        TREE.bureaus["999999"] = HQ  # type: ignore[index]
    with pytest.raises(AttributeError):
        TREE.version = "other"  # type: ignore[misc]
