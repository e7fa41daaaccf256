"""A value with some fields changed is what the standard library makes of it."""

from dataclasses import fields, replace
from datetime import UTC, datetime
from typing import Any

import pytest

from kuaixiang.domain.case import Case
from kuaixiang.domain.changed import changed, maker
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import Category, Channel, Custody, Stage

AT = datetime(2026, 11, 25, 2, 0, tzinfo=UTC)
CASE = Case(
    bureau="110101",
    case_id="110101-2026-0000001",
    version=3,
    stage=Stage.HANDLING,
    custody=Custody.OWNED,
    epoch=1,
    category=Category.SERVICE,
    channel=Channel.COUNTER,
    department="hall",
    origin_bureau="110101",
    registered_at=AT,
    last_at=AT,
    open_parts=("policy",),
    handlers=frozenset({"H01"}),
)


def test_what_is_changed_is_what_replace_would_have_made() -> None:
    changes: dict[str, Any] = {"version": 4, "stage": Stage.COMPLETED, "handlers": frozenset({"H01", "H02"})}
    assert changed(CASE, **changes) == replace(CASE, **changes)
    assert changed(CASE) == CASE


def test_what_was_changed_stays_as_it_was() -> None:
    before = replace(CASE)
    changed(CASE, version=4)
    assert before == CASE


def test_a_field_that_there_is_not_is_no_change() -> None:
    with pytest.raises(KeyError):
        changed(CASE, colour="blue")


@pytest.mark.parametrize("kind", [Case, Entry])
def test_what_is_changed_so_is_nothing_but_its_fields(kind: Any) -> None:
    assert [] == [field.name for field in fields(kind) if not field.init]
    assert not hasattr(kind, "__post_init__")
    assert "__slots__" in vars(kind)


def test_what_is_made_of_all_fields_is_what_the_constructor_would_have_made() -> None:
    values = [getattr(CASE, field.name) for field in fields(CASE)]
    assert CASE == maker(Case)(*values)
    with pytest.raises(ValueError, match="zip"):
        maker(Case)(*values[:-1])
