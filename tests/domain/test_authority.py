"""Who may ask what of a bureau: each question for each relation in the tree; denied unless allowed."""

from collections.abc import Callable

import pytest

from kuaixiang.domain import authority
from kuaixiang.domain.authority import Caller, NotAuthorised
from tests.domain.story import BEIJING, DONGCHENG, HANGZHOU, HEADQUARTERS, SHANGCHENG, TREE, XIHU, ZHEJIANG

NOWHERE = "990000"
WHO = {
    "self": HANGZHOU,
    "parent": ZHEJIANG,
    "ancestor": HEADQUARTERS,
    "child": SHANGCHENG,
    "sibling": BEIJING,
    "elsewhere": DONGCHENG,
    "unknown": NOWHERE,
}
KINDS: dict[str, Callable[[str], Caller]] = {
    "node": lambda code: Caller(bureaus=frozenset({code})),
    "office": lambda code: Caller(offices=frozenset({code})),
    "hub": lambda code: Caller(hubs=frozenset({code})),
}

# What a certificate of a kind, for a bureau of a relation, may ask of Hangzhou.
# fmt: off
ALLOWED = """
         relation   officer supervisor reader peer  order   report pair
node     self          x        x        x     .       .        .    x
node     parent        .        x        x     x       x        .    x
node     ancestor      .        x        x     .       .        .    x
node     child         .        .        x     x       .        x    x
node     sibling       .        .        .     .       .        .    .
node     elsewhere     .        .        .     .       .        .    .
node     unknown       .        .        .     .       .        .    .
office   self          x        x        x     .       .        .    x
office   parent        .        x        x     .       .        .    x
office   ancestor      .        x        x     .       .        .    x
office   child         .        .        x     .       .        .    .
office   sibling       .        .        .     .       .        .    .
office   elsewhere     .        .        .     .       .        .    .
office   unknown       .        .        .     .       .        .    .
hub      self          .        x        x     .       .        .    x
hub      parent        .        x        x     .       .        .    x
hub      ancestor      .        x        x     .       .        .    x
hub      child         .        .        x     .       .        .    .
hub      sibling       .        .        .     .       .        .    .
hub      elsewhere     .        .        .     .       .        .    .
hub      unknown       .        .        .     .       .        .    .
"""
# fmt: on
ROWS = [line.split() for line in ALLOWED.strip().splitlines()[1:]]


def answer(check: Callable[[], None]) -> str:
    try:
        check()
    except NotAuthorised:
        return "."
    return "x"


@pytest.mark.parametrize("row", ROWS, ids=lambda row: f"{row[0]} of {row[1]}")
def test_a_certificate_allows_what_the_table_says(row: list[str]) -> None:
    kind, relation, *expected = row
    code = WHO[relation]
    caller = KINDS[kind](code)
    assert expected == [
        answer(lambda: authority.check_officer(caller, HANGZHOU)),
        answer(lambda: authority.check_supervisor(caller, HANGZHOU, TREE)),
        answer(lambda: authority.check_reader(caller, HANGZHOU, TREE)),
        answer(lambda: authority.check_peer(caller, code, HANGZHOU, TREE)),
        answer(lambda: authority.check_order_from_superior(caller, code, HANGZHOU, TREE)),
        answer(lambda: authority.check_report_from_subordinate(caller, code, HANGZHOU, TREE)),
        answer(lambda: authority.check_pair(caller, HANGZHOU, code, TREE)),
    ]


def test_the_table_has_every_kind_and_relation() -> None:
    assert [(kind, relation) for kind in KINDS for relation in WHO] == [(row[0], row[1]) for row in ROWS]


def test_nobody_may_do_anything_without_a_name() -> None:
    nobody = Caller()
    assert list(".......") == [
        answer(lambda: authority.check_officer(nobody, HANGZHOU)),
        answer(lambda: authority.check_supervisor(nobody, HANGZHOU, TREE)),
        answer(lambda: authority.check_reader(nobody, HANGZHOU, TREE)),
        answer(lambda: authority.check_peer(nobody, ZHEJIANG, HANGZHOU, TREE)),
        answer(lambda: authority.check_order_from_superior(nobody, ZHEJIANG, HANGZHOU, TREE)),
        answer(lambda: authority.check_report_from_subordinate(nobody, SHANGCHENG, HANGZHOU, TREE)),
        answer(lambda: authority.check_pair(nobody, HANGZHOU, ZHEJIANG, TREE)),
    ]


def test_nobody_speaks_for_another_bureau() -> None:
    for check in (authority.check_peer, authority.check_order_from_superior):
        with pytest.raises(NotAuthorised, match=ZHEJIANG):
            check(Caller(bureaus=frozenset({SHANGCHENG})), ZHEJIANG, HANGZHOU, TREE)


def test_a_node_of_several_bureaus_speaks_for_each_of_them() -> None:
    both = Caller(bureaus=frozenset({SHANGCHENG, XIHU}))
    authority.check_peer(both, XIHU, HANGZHOU, TREE)
    authority.check_officer(both, SHANGCHENG)


def test_a_bureau_that_is_not_in_the_tree_is_nobodys_to_read() -> None:
    with pytest.raises(NotAuthorised):
        authority.check_supervisor(Caller(hubs=frozenset({HEADQUARTERS})), NOWHERE, TREE)


def test_figures_of_a_scope_that_is_not_in_the_tree_are_refused() -> None:
    with pytest.raises(NotAuthorised):
        authority.check_reader(Caller(hubs=frozenset({HEADQUARTERS})), NOWHERE, TREE)


def test_the_refusal_names_the_bureau_and_the_certificate_to_use() -> None:
    with pytest.raises(NotAuthorised) as refusal:
        authority.check_officer(Caller(), HANGZHOU)
    assert HANGZHOU in str(refusal.value)
    assert f"Use a certificate for an office of bureau {HANGZHOU}." == refusal.value.remedy
