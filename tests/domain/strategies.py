"""Hypothesis strategies for journal entries, made from the fields of the event classes: a new one is included by itself."""

from dataclasses import fields
from datetime import UTC, datetime
from enum import IntEnum
from types import NoneType, UnionType
from typing import Any, get_args, get_origin, get_type_hints

from hypothesis import strategies as st

from kuaixiang.domain.events import KINDS, Attachment, CaseEvent, ClockChange, Entry, Event, OrderEvent, Private
from kuaixiang.domain.words import Category, Channel, Custody, DepartmentKind, OrderStage, Role, Stage

numbers = st.integers(min_value=0, max_value=2**31 - 1)
texts = st.text(st.characters(codec="utf-8"), max_size=20)
codes = st.sampled_from(["000000", "330000", "330100", "330102"])
# Whole microseconds, from long before any case to long after.
instants = st.datetimes(datetime(1970, 1, 2), datetime(2199, 1, 1), timezones=st.just(UTC))  # noqa: DTZ001 - bounds are naive


def values_of(hint: Any) -> st.SearchStrategy[Any]:
    """Values of a field by its type."""
    if isinstance(hint, UnionType):
        (inner,) = (arm for arm in get_args(hint) if arm is not NoneType)
        return st.none() | values_of(inner)
    if hint is datetime:
        return instants
    if isinstance(hint, type) and issubclass(hint, IntEnum):
        return st.sampled_from(hint)
    if hint is Attachment:
        return st.builds(Attachment, digest=texts, name=texts, media_type=texts, size_bytes=numbers)
    if get_origin(hint) is tuple:
        return st.lists(values_of(get_args(hint)[0]), max_size=3).map(tuple)
    return {str: texts, int: numbers, bool: st.booleans(), bytes: st.binary(max_size=32)}[hint]


privates = st.builds(Private, **{name: values_of(hint) for name, hint in get_type_hints(Private).items()})
clock_changes = st.builds(
    ClockChange,
    **{name: values_of(hint) for name, hint in get_type_hints(ClockChange).items()},
)


def of_kind(kind: type[Event]) -> st.SearchStrategy[Event]:
    """Events of a class, with every header they may have."""
    header: dict[str, st.SearchStrategy[Any]] = {
        "clocks": st.lists(clock_changes, max_size=3).map(tuple),
        "private": st.none() | privates,
    }
    if issubclass(kind, CaseEvent):
        header.update(stage=st.sampled_from(Stage), custody=st.sampled_from(Custody), epoch=numbers)
    if issubclass(kind, OrderEvent):
        header["order_stage"] = st.sampled_from(OrderStage)
    hints = get_type_hints(kind)
    own = {field.name: values_of(hints[field.name]) for field in fields(kind) if field.name not in header}
    return st.builds(kind, **header, **own)


any_event = st.one_of([of_kind(kind) for kind in KINDS])


def entries(found: st.SearchStrategy[Event] = any_event) -> st.SearchStrategy[Entry]:
    """Journal entries of such events."""
    return st.builds(
        Entry,
        bureau=codes,
        case_id=texts,
        version=numbers,
        recorded_at=instants,
        occurred_at=instants,
        actor=texts,
        role=st.sampled_from(Role),
        department=texts,
        category=st.none() | st.sampled_from(Category),
        channel=st.none() | st.sampled_from(Channel),
        event=found,
        department_kind=st.none() | st.sampled_from(DepartmentKind),
    )
