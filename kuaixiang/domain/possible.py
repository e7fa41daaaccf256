"""Which acts somebody may do on a case now, asked of `decide` itself, so that no list of buttons has rules of its own.

Each act is tried with something written into every field. What is refused for who asks, or for how the case stands, is
not possible; what is refused for a field that was only filled in for the trial is.
"""

import dataclasses
from datetime import timedelta
from enum import IntEnum
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.decide import decide
from kuaixiang.domain.desk import Context
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.lifecycle import ROLES, TypeOfAct

_SOMETHING: Final = "…"
_OF_A_FIELD: Final = (Condition.INVALID, Condition.MISSING)


def possible_acts(case: Case, context: Context) -> tuple[TypeOfAct, ...]:
    """The acts that the person of the context may do on the case now, in the order of the roles' table."""
    return tuple(
        kind
        for kind, roles in ROLES.items()
        if kind is not acts.Register and context.role in roles and _is_possible(case, kind, context)
    )


def _is_possible(case: Case, kind: TypeOfAct, context: Context) -> bool:
    try:
        return bool(decide(case, _tried(kind, case, context), context))
    except Refused as refusal:
        of_the_trial = bool(refusal.field) and not refusal.field.startswith("header.")
        return of_the_trial or refusal.condition in _OF_A_FIELD


def _tried(kind: TypeOfAct, case: Case, context: Context) -> Act:
    """The act with something in every field, chosen so that as little as possible of it is at fault."""
    hints = get_type_hints(kind)
    values = {field.name: _value(hints[field.name], field.name, case, context) for field in dataclasses.fields(kind)}
    return kind(**values)


def _value(hint: Any, name: str, case: Case, context: Context) -> Any:  # noqa: ANN401 - of whatever type the field is
    if isinstance(hint, UnionType):
        hint = get_args(hint)[0]
    if name == "final_bureau":
        return _somewhere_else(context)
    if name == "for_department":
        return next((asked.for_department for asked in case.extensions), "")
    if name in {"to_department", "lead_department"}:
        return next((code for code in context.staff.departments if code != case.department), _SOMETHING)
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return next(iter(hint))
    known: dict[Any, Any] = {str: _SOMETHING, int: 1, bool: False, bytes: b""}
    if hint in known:
        return known[hint]
    return (_SOMETHING,) if name == "assisting_departments" else context.now + timedelta(days=1)


def _somewhere_else(context: Context) -> str:
    """A bureau that a case may go to: the superior, or a subordinate of who has none."""
    tree = context.tree
    superior = tree.parent(context.bureau) if context.bureau in tree else None
    return superior or next(iter(tree.children(context.bureau)), context.bureau)
