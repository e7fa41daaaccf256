"""Bureaus that an officer types: found by code and name, refused with the names that he may have meant."""

import pytest

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.facts import national_tree
from node.desk.showing import bureau_named

TREE = national_tree()


@pytest.mark.parametrize(
    ("typed", "code"),
    [
        ("330100", "330100"),
        (" 330100 ", "330100"),
        ("330100 国家税务总局杭州市税务局", "330100"),
        ("330100 杭州市", "330100"),
        ("国家税务总局杭州市税务局", "330100"),
        ("杭州市", "330100"),
    ],
)
def test_a_bureau_is_known_by_its_code_by_its_name_or_by_both(typed: str, code: str) -> None:
    assert code == bureau_named(TREE, typed, "final_bureau")


@pytest.mark.parametrize(
    ("typed", "near"),
    [("杭州", "330100 国家税务总局杭州市税务局"), ("杭洲市", "330100 国家税务总局杭州市税务局"), ("西湖区", "330106")],
)
def test_what_is_no_bureau_or_several_is_refused_with_the_near_names(typed: str, near: str) -> None:
    with pytest.raises(FieldMalformed) as refused:
        bureau_named(TREE, typed, "final_bureau")
    assert near in refused.value.remedy
    assert near in refused.value.remedy_chinese


@pytest.mark.parametrize("typed", ["999999", "qqqq", "330100 别处", "", " "])
def test_what_is_like_no_bureau_is_refused_by_the_field(typed: str) -> None:
    with pytest.raises(FieldMalformed) as refused:
        bureau_named(TREE, typed, "final_bureau")
    assert "final_bureau" == refused.value.field
    assert "may be" not in refused.value.remedy
