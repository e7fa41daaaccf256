"""The forms of acts, made from the acts themselves: a field of an act is a field of its form.

How a field is filled in (a line, a text, a department, a bureau …) follows from its type and its name, which mean the
same in every act.
"""

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from datetime import date, datetime, time
from enum import Enum, IntEnum
from types import UnionType
from typing import Any, Final, get_args, get_type_hints

from starlette.datastructures import FormData

from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.labels import Both
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX, TEXT_CHARACTERS_MAX
from kuaixiang.wire.codec import ACT_OF_REQUEST, timestamp


class Kind(Enum):
    """How a field is filled in."""

    LINE = "line"
    TEXT = "text"
    NUMBER = "number"
    DAY = "day"
    TRUTH = "truth"
    WORD = "word"
    DEPARTMENT = "department"
    DEPARTMENTS = "departments"
    BUREAU = "bureau"
    BUREAUS = "bureaus"
    CASES = "cases"
    ISSUE = "issue"


_TEXTS: Final = frozenset({"reason", "note", "answer", "told", "result", "condition", "remark", "text", "because"})
_BY_NAME: Final[Mapping[str, Kind]] = {
    "to_department": Kind.DEPARTMENT,
    "lead_department": Kind.DEPARTMENT,
    "for_department": Kind.DEPARTMENT,
    "assisting_departments": Kind.DEPARTMENTS,
    "final_bureau": Kind.BUREAU,
    "to_bureaus": Kind.BUREAUS,
    "case_ids": Kind.CASES,
    "issue_id": Kind.ISSUE,
}
_BY_TYPE: Final[Mapping[Any, Kind]] = {int: Kind.NUMBER, bool: Kind.TRUTH, datetime: Kind.DAY}
DIGITS_MAX: Final = 10
_HOUR_OF_A_DAY: Final = time(9)
"""A day that is filled in means its morning: reviews come up when the office opens."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    """One field of a form. `needed`: an act without it is refused always; others depend on the case."""

    name: str
    kind: Kind
    needed: bool
    words: tuple[IntEnum, ...] = ()
    characters_max: int = 0


def fields_of(act: type[Act] | type[OrderAct]) -> tuple[Field, ...]:
    """The fields of an act's form, in the act's own order."""
    hints = get_type_hints(act)
    return tuple(_field(field, hints[field.name]) for field in dataclasses.fields(act))


def _field(field: "dataclasses.Field[Any]", hint: Any) -> Field:  # noqa: ANN401 - a type
    optional = isinstance(hint, UnionType)
    inner = get_args(hint)[0] if optional else hint
    needed = field.default is dataclasses.MISSING and not optional
    name = field.name
    if isinstance(inner, type) and issubclass(inner, IntEnum):
        return Field(name=name, kind=Kind.WORD, needed=needed, words=tuple(inner))
    kind = _BY_NAME.get(name) or _BY_TYPE.get(inner) or (Kind.TEXT if name in _TEXTS else Kind.LINE)
    longest = TEXT_CHARACTERS_MAX if name in {"text", "answer", "told", "result"} else NOTE_CHARACTERS_MAX
    return Field(name=name, kind=kind, needed=needed and kind is not Kind.CASES, characters_max=longest)


def filled_in(fields: Sequence[Field], form: FormData) -> dict[str, Any]:
    """What a form says, as the act's request takes it. Raises `FieldMalformed`."""
    return {field.name: _READERS[field.kind](field, form) for field in fields if _is_given(field, form)}


def _is_given(field: Field, form: FormData) -> bool:
    return any(str(value).strip() for value in form.getlist(field.name))


def _one(field: Field, form: FormData) -> str:
    # Browsers send lines as CR LF; what is stored should not depend on where it was typed. Of a choice with a line
    # beside it the one that is filled in counts.
    written = (str(value).replace("\r\n", "\n").strip() for value in form.getlist(field.name))
    return next(filter(None, written), "")


def _number(field: Field, form: FormData) -> int:
    written = _one(field, form)
    if not (written.isascii() and written.isdigit() and len(written) <= DIGITS_MAX and int(written) < 1 << 31):
        raise FieldMalformed(
            field.name,
            Both("is no whole number", "不是整数"),
            Both("Give a whole number.", "请填写整数。"),
        )
    return int(written)


def _day(field: Field, form: FormData) -> Any:  # noqa: ANN401 - protobuf's own type
    try:
        day = date.fromisoformat(_one(field, form))
    except ValueError:
        raise FieldMalformed(
            field.name,
            Both("is no day", "不是有效的日期"),
            Both("Write it as YYYY-MM-DD.", "请按“年-月-日”填写。"),
        ) from None
    return timestamp(datetime.combine(day, _HOUR_OF_A_DAY, SHANGHAI))


def _several(field: Field, form: FormData) -> list[str]:
    return [part for value in form.getlist(field.name) for part in str(value).split() if part]


_READERS: Final[Mapping[Kind, Callable[[Field, FormData], Any]]] = {
    Kind.LINE: _one,
    Kind.TEXT: _one,
    Kind.NUMBER: _number,
    Kind.DAY: _day,
    Kind.TRUTH: lambda _field, _form: True,
    Kind.WORD: _number,
    Kind.DEPARTMENT: _one,
    Kind.DEPARTMENTS: _several,
    Kind.BUREAU: _one,
    Kind.BUREAUS: _several,
    Kind.CASES: _several,
    Kind.ISSUE: _one,
}

ACTS: Final[Mapping[str, type[Act]]] = {act.__name__: act for act in ACT_OF_REQUEST.values()}
"""The acts of people, by the name that addresses of pages have."""
