import pytest

from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.jurisdiction import bureau_for_division, competent_bureau
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.facts import national_tree

NATION = national_tree()


@pytest.mark.parametrize(
    ("division", "bureau"),
    [
        ("110101", "110101"),  # a county with a bureau of its own
        ("110100", "110000"),  # the municipality's districts as a whole
        ("320199", "320100"),  # a development zone: its prefecture
        ("320000", "320000"),  # registered with the province
        ("429099", "420000"),  # counties directly under a province have no prefecture
        ("440300", "440300"),  # independent planning status: a provincial bureau at a prefecture's code
        ("440399", "440300"),
        ("440303", "440303"),
        ("100000", None),  # registered with the national authority
        ("710000", None),
        ("000000", None),
        ("11010", None),
        ("北京市朝阳区", None),
        ("", None),
    ],
)
def test_a_division_belongs_to_the_nearest_bureau(division: str, bureau: str | None) -> None:
    assert bureau_for_division(NATION, division) == bureau


@pytest.mark.parametrize(
    ("number_division", "place", "bureau"),
    [
        ("110101", None, "110101"),
        (None, "110105", "110105"),
        ("110000", "110105", "110105"),  # the place is finer than the number
        ("110105", "110000", "110105"),  # the number is finer than the place
        ("110105", "110101", "110105"),  # they disagree: the number decides
        ("110105", "320102", "110105"),
        ("100000", "320102", "320102"),  # the number leads nowhere
        ("110105", "南京", "110105"),
        (None, "南京", None),
        (None, None, None),
    ],
)
def test_the_number_decides_and_the_place_refines(
    number_division: str | None, place: str | None, bureau: str | None
) -> None:
    number = None if number_division is None else make_taxpayer_number(number_division, 7)

    assert competent_bureau(NATION, number, place) == bureau


@pytest.mark.parametrize("number", ["", "91", "91110101", "91ABCDEF000000000X", "911101010000000000000000"])
def test_a_number_of_another_form_is_taken_as_not_given(number: str) -> None:
    assert competent_bureau(NATION, number, None) is None
    assert competent_bureau(NATION, number, "320102") == "320102"


def test_a_province_outside_the_tree_has_no_bureau() -> None:
    tree = BureauTree(
        "t", [Bureau("000000", "总局", Tier.NATIONAL, None), Bureau("320000", "江苏", Tier.PROVINCIAL, "000000")]
    )

    assert competent_bureau(tree, make_taxpayer_number("320102", 1), None) == "320000"
    assert competent_bureau(tree, make_taxpayer_number("110101", 1), None) is None
