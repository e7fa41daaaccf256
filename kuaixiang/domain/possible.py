"""Which acts somebody may do now on a case or on a supervision order, asked of the decisions themselves.

So no list of buttons has rules of its own. Each act is tried with something written into every field. What is refused
for who asks, or for how the case or order stands, is not possible; what is refused for a field that was only filled in
for the trial is.
"""

import dataclasses
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import IntEnum
from types import UnionType
from typing import Any, Final, TypeVar, get_args, get_type_hints

from kuaixiang.domain import order_acts, orders
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.events import CaseEvent
from kuaixiang.domain.lifecycle import ROLES, TypeOfAct, possible
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.orders import Order, check_cascade, decide_order

_SOMETHING: Final = "…"
_OF_A_FIELD: Final = (Condition.INVALID, Condition.MISSING)
_A = TypeVar("_A", bound=Act)


# ---------------------------------------------------------------- on a case


def possible_acts(case: Case, context: Context) -> tuple[TypeOfAct, ...]:
    """The acts that the person may do on the case now: first what moves it on, in the order of the lifecycle."""
    return tuple(
        kind for kind in possible(case.stage) if context.role in ROLES[kind] and _is_possible(case, kind, context)
    )


def _is_possible(case: Case, kind: TypeOfAct, context: Context) -> bool:
    department = next((code for code in context.staff.departments if code != case.department), _SOMETHING)
    known = {
        "final_bureau": _somewhere_else(context),
        "assisting_departments": (_SOMETHING,),
        "for_department": next((asked.for_department for asked in case.extensions), ""),
        **dict.fromkeys(("to_department", "lead_department"), department),
    }
    tried, decided = _tried(kind, context, known), list[tuple[CaseEvent, ...]]()
    # An act that would change nothing is none to offer.
    return _refusal(lambda: decided.append(decide(case, tried, context))) is None and all(decided)


def _somewhere_else(context: Context) -> str:
    """A bureau that a case may go to: the superior, or a subordinate of who has none."""
    tree = context.tree
    superior = tree.parent(context.bureau) if context.bureau in tree else None
    return superior or next(iter(_below(context)), context.bureau)


# ---------------------------------------------------------------- on a supervision order


def possible_order_acts(order: Order, context: Context) -> tuple[type[OrderAct], ...]:
    """The acts that the person of the context may do on the order now, in the order of the roles' table."""
    return tuple(
        kind
        for kind, roles in orders.ROLES.items()
        if kind is not order_acts.IssueOrder and context.role in roles and why_not(kind, order, context) is None
    )


def why_not(kind: type[OrderAct], order: Order | None, context: Context) -> Refused | None:
    """Why the person may not do the act now; None when he may. No order: of `IssueOrder`."""
    below = _below(context)[:1]
    known = {"final_bureau": "".join(below), "to_bureaus": below, "case_ids": ()}
    tried = _tried(kind, context, known)

    def ask() -> None:
        if order is not None and isinstance(tried, order_acts.CascadeOrder):
            for derived in check_cascade(order, tried, context):
                decide_order(None, derived, context, parent=order)
        else:
            decide_order(order, tried, context)

    return _refusal(ask)


# ---------------------------------------------------------------- the trial


def _refusal(ask: Callable[[], None]) -> Refused | None:
    """What the trial is refused for, unless that is a field that was only filled in for it."""
    try:
        ask()
    except Refused as refusal:
        of_the_trial = bool(refusal.field) and not refusal.field.startswith("header.")
        return None if of_the_trial or refusal.condition in _OF_A_FIELD else refusal
    return None


def _tried(kind: type[_A], context: Context, known: Mapping[str, Any]) -> _A:
    """The act with something in every field, chosen so that as little as possible of it is at fault."""
    hints = get_type_hints(kind)
    names = (field.name for field in dataclasses.fields(kind))
    return kind(**{name: known[name] if name in known else _value(hints[name], context) for name in names})


def _value(hint: Any, context: Context) -> Any:  # noqa: ANN401 - of whatever type the field is
    if isinstance(hint, UnionType):
        hint = get_args(hint)[0]
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return next(iter(hint))
    known: dict[Any, Any] = {str: _SOMETHING, int: 1, bool: False, bytes: b""}
    return known[hint] if hint in known else context.now + timedelta(days=1)


def _below(context: Context) -> tuple[str, ...]:
    return context.tree.children(context.bureau) if context.bureau in context.tree else ()
