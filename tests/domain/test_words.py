"""The domain's words and the wire's are the same, by name and number; so are its acts and events."""

import re
from enum import IntEnum

import pytest
from google.protobuf.descriptor import EnumDescriptor

from kuaixiang.domain import acts, events, words
from kuaixiang.domain.acts import Act
from kuaixiang.domain.events import KINDS
from kuaixiang.domain.labels import term
from kuaixiang.domain.lifecycle import ROLES
from kuaixiang.domain.words import Role
from kuaixiang.wire.codec import ACT_OF_REQUEST, event_name
from kuaixiang.wire.v1 import common_pb2, journal_pb2

WORDS = {
    name: value
    for name, value in vars(words).items()
    if isinstance(value, type) and issubclass(value, IntEnum) and value is not IntEnum
}
PEOPLES_ACTS = {kind for kind, roles in ROLES.items() if roles != {Role.SYSTEM}}


def prefix(name: str) -> str:
    return re.sub(r"(?<!^)(?=[A-Z])", "_", name).upper() + "_"


def on_the_wire(enumeration: EnumDescriptor) -> dict[str, int]:
    return {value.name.removeprefix(prefix(enumeration.name)): value.number for value in enumeration.values}


def test_the_wire_has_the_same_enumerations() -> None:
    assert set(WORDS) == set(common_pb2.DESCRIPTOR.enum_types_by_name)


@pytest.mark.parametrize("name", WORDS)
def test_an_enumeration_has_the_names_and_numbers_that_it_has_on_the_wire(name: str) -> None:
    wire = on_the_wire(common_pb2.DESCRIPTOR.enum_types_by_name[name])
    assert {"UNSPECIFIED": 0, **{word.name: int(word) for word in WORDS[name]}} == wire


def test_every_event_is_one_of_the_journals() -> None:
    oneof = journal_pb2.Entry.DESCRIPTOR.oneofs_by_name["event"]
    assert sorted(field.name for field in oneof.fields) == sorted(
        re.sub(r"(?<!^)(?=[A-Z])", "_", kind.__name__).lower() for kind in KINDS
    )


def test_every_event_has_a_name_in_the_journal() -> None:
    bare = {"stage": words.Stage.HANDLING, "epoch": 0}
    assert "became_overdue" == event_name(events.BecameOverdue(**bare))  # type: ignore[arg-type]


def test_every_act_of_a_person_has_one_request() -> None:
    assert PEOPLES_ACTS == set(ACT_OF_REQUEST.values())
    assert len(PEOPLES_ACTS) == len(ACT_OF_REQUEST)


def test_what_peers_and_time_cause_cannot_be_asked_for() -> None:
    every = {kind for kind in vars(acts).values() if isinstance(kind, type) and issubclass(kind, Act) and kind != Act}
    assert {
        acts.Receive,
        acts.AcknowledgeAcceptance,
        acts.AcknowledgeRefusal,
        acts.HearConclusion,
        acts.AcknowledgeConclusion,
        acts.MarkOverdue,
        acts.MarkDueSoon,
        acts.Recompute,
        acts.NoteMismatch,
        acts.CompleteWithLead,
    } == every - set(ACT_OF_REQUEST.values())


def test_categories_are_those_of_the_notice() -> None:
    assert ("政策落实", "执法规范", "纳税服务", "信息化建设", "法律救济", "其他") == tuple(map(term, words.Category))
