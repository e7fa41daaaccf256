"""What is offered on a supervision order is what `decide_order` takes, at every stage, in every ledger, in every role."""

import pytest

from kuaixiang.domain import order_acts
from kuaixiang.domain.errors import Refused, RoleNotAllowed
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.order_errors import NoSubordinates, OrderActNotAllowed
from kuaixiang.domain.orders import check_cascade, decide_order
from kuaixiang.domain.possible import possible_order_acts, why_not
from kuaixiang.domain.words import Role
from tests.domain.story import HANGZHOU, MONDAY, SHANGCHENG, ZHEJIANG
from tests.domain.test_orders import ACCEPT, ACKNOWLEDGE, ANSWER, CANCEL, EXAMPLES, ISSUE, RETURN, Ledger, Way, context


def ways() -> dict[str, Way]:
    """An order at each point of its life, as all bureaus on its way have it."""
    return {
        "issued": Way().issue(),
        "received": Way().issue().carry(),
        "acknowledged": Way().issue().carry().receive(ACKNOWLEDGE),
        "answered": Way().issue().carry().receive(ACKNOWLEDGE).receive(ANSWER),
        "returned": Way().issue().carry().receive(ACKNOWLEDGE).receive(ANSWER).rule(RETURN),
        "closed": Way().issue().carry().receive(ACKNOWLEDGE).receive(ANSWER).rule(ACCEPT),
        "cancelled": Way().issue().carry().rule(CANCEL),
    }


def is_taken(ledger: Ledger, act: OrderAct, role: Role) -> bool:
    asked = context(ledger.bureau, act, MONDAY, role)
    below = asked.tree.children(ledger.bureau)
    try:
        if isinstance(act, order_acts.CascadeOrder):
            for derived in check_cascade(
                ledger.known,
                order_acts.CascadeOrder(
                    to_bureaus=below[:1] or ("x",), level=act.level, text=act.text, answer_workdays=1
                ),
                asked,
            ):
                decide_order(None, derived, asked, parent=ledger.known)
        else:
            decide_order(ledger.order, act, asked)
    except Refused:
        return False
    return True


@pytest.mark.parametrize("at", list(ways()))
@pytest.mark.parametrize("role", list(Role))
def test_what_is_offered_is_what_is_taken(at: str, role: Role) -> None:
    for ledger in ways()[at].ledgers.values():
        if ledger.order is None:
            continue
        asked = context(ledger.bureau, ACCEPT, MONDAY, role)
        offered = set(possible_order_acts(ledger.order, asked)) & set(EXAMPLES)
        assert {kind for kind, act in EXAMPLES.items() if is_taken(ledger, act, role)} == offered


def test_why_an_act_is_not_possible_is_said_as_the_decision_says_it() -> None:
    received = Way().issue().carry().receiver.order
    asked = context(SHANGCHENG, ANSWER, MONDAY, Role.HANDLER)
    assert isinstance(why_not(order_acts.AnswerOrder, received, asked), OrderActNotAllowed)
    asked = context(SHANGCHENG, ACKNOWLEDGE, MONDAY, Role.HANDLER)
    assert isinstance(why_not(order_acts.AcknowledgeOrder, received, asked), RoleNotAllowed)


@pytest.mark.parametrize("bureau", [ZHEJIANG, HANGZHOU])
def test_who_has_subordinates_may_issue_in_a_leading_role(bureau: str) -> None:
    assert why_not(order_acts.IssueOrder, None, context(bureau, ISSUE, MONDAY, Role.SUPERVISOR)) is None
    assert why_not(order_acts.IssueOrder, None, context(bureau, ISSUE, MONDAY, Role.HANDLER)) is not None


def test_who_has_none_may_not() -> None:
    refusal = why_not(order_acts.IssueOrder, None, context(SHANGCHENG, ISSUE, MONDAY, Role.SUPERVISOR))
    assert isinstance(refusal, NoSubordinates)
