"""Frozen values with some fields changed, made where thousands a second are."""

from collections.abc import Callable
from dataclasses import fields
from functools import cache
from operator import attrgetter
from typing import Any, TypeVar

T = TypeVar("T")


def changed(value: T, **changes: Any) -> T:
    """What `dataclasses.replace` gives for a value whose fields are all given to its constructor, in half the time.

    `replace` looks at each field by itself, and a case has forty-five.
    """
    kind: Any = type(value)
    names, values = _fields_of(kind)
    made: T = kind(**{**dict(zip(names, values(value), strict=True)), **changes})
    return made


@cache
def _fields_of(kind: type[Any]) -> tuple[tuple[str, ...], Callable[[Any], tuple[Any, ...]]]:
    names = tuple(field.name for field in fields(kind))
    return names, attrgetter(*names)
