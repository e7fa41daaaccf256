"""What is journalled comes back as it was, and its public part has no place for anything private."""

from dataclasses import fields, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import Any

import pytest
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp
from hypothesis import given, settings
from hypothesis import strategies as st

from kuaixiang.domain.errors import FieldMalformed, FieldMissing
from kuaixiang.domain.events import KINDS, Attachment, CaseWithdrawn, Entry, Event, Private
from kuaixiang.domain.words import Category, Channel, Stage
from kuaixiang.wire.codec import (
    ACT_OF_REQUEST,
    act_of,
    decode_entry,
    decode_private,
    encode_entry,
    encode_private,
    enum_of,
    event_name,
    instant,
    instant_of,
    timestamp,
)
from kuaixiang.wire.v1 import case_pb2, journal_pb2
from tests.domain.story import EXAMPLES
from tests.domain.strategies import entries, instants, of_kind, privates

# Every field that an entry's public part may have. It is written by hand: what is added to
# the journal is looked at here, and is either not private or not added.
PUBLIC = {
    "Entry": "bureau case_id version recorded_at_us occurred_at_us actor role department category channel stage custody"
    " epoch clocks department_kind order_stage",
    "ClockChange": "kind action department started_at_us due_at_us limit_workdays calendar_version provisional outcome"
    " elapsed_milli_workdays soon_at_us department_kind",
    "Registered": "competent_bureau",
    "AnsweredOnTheSpot": "",
    "TaxpayerTold": "telling",
    "Forwarded": "",
    "Dispatched": "to_department",
    "DispatchReturned": "bounces",
    "AcceptedDirectly": "",
    "ExtensionAsked": "workdays for_department",
    "ExtensionApproved": "workdays asked_by for_department",
    "ExtensionRefused": "asked_by for_department",
    "ExtensionExplained": "for_department",
    "JointHandlingStarted": "lead_department assisting_departments",
    "PartCompleted": "part_department",
    "Completed": "jointly lead_case_id",
    "PartAdded": "part_department",
    "PartReturned": "part_department bounces",
    "Linked": "lead_case_id",
    "Unlinked": "lead_case_id",
    "IssueLinked": "issue_id",
    "AttachmentAdded": "size_bytes",
    "Ruled": "final_bureau",
    "OverrideAsked": "override",
    "OverrideApproved": "override asked_by",
    "OverrideRefused": "override asked_by",
    "FeedbackGiven": "told_by",
    "FollowedUp": "satisfaction explained",
    "Reopened": "round",
    "CaseWithdrawn": "",
    "Deferred": "owner review_at_us",
    "Resumed": "",
    "SentToReconsideration": "",
    "Offered": "referral_id previous_referral_id referral_kind to_bureau final_bureau path offer_epoch returns"
    " disputants ruled_by",
    "OfferWithdrawalAsked": "referral_id",
    "Released": "referral_id to_bureau referral_kind relayed receipt_seq receipt_hash",
    "OfferRefused": "referral_id to_bureau refusal",
    "Received": "referral_id previous_referral_id referral_kind from_bureau final_bureau path origin_bureau"
    " registered_at_us offered_at_us returns disputants ruled_by attached",
    "OfferDeclined": "referral_id from_bureau offer_epoch refusal offered_at_us",
    "Concluded": "from_bureau outcome round handled_by completed_at_us",
    "ConclusionRevoked": "from_bureau round handled_by",
    "ConclusionDelivered": "to_bureau outcome round",
    "WrittenOff": "",
    "BecameOverdue": "",
    "BecameDueSoon": "",
    "ClocksRecomputed": "",
    "CalendarAdopted": "calendar_version",
    "TreeAdopted": "tree_version digest",
    "DirectivePublished": "directive_kind subject published_at_us digest",
    "LedgersReconciled": "peer from_day to_day matched pending missing_here missing_there different",
    "MismatchFound": "peer difference",
    "MismatchCleared": "peer",
    "AbsentCaseFound": "peer",
    "AbsentCaseCleared": "peer",
    "PrivateRead": "",
    "AttachmentRead": "",
    "SnapshotGivenBack": "peer",
    "LedgerExported": "registered_from_us registered_before_us open_only",
    "LedgerDoubted": "peer finding known_generation known_seq known_hash told_generation told_seq told_hash",
    "LedgerTrusted": "peer trusted_generation opened_seq lost_entries",
    "GenerationOpened": "witness cosigned_generation cosigned_seq cosigned_hash backup_seq set_aside cases_numbered"
    " orders_numbered nonce",
    "SnapshotRestored": "from_bureau",
    "PrivatePartsLost": "entries snapshot",
    "PrivateErased": "retention_years ended_at_us parts files",
    "OrderIssued": "nonce level to_bureau final_bureau case_ids answer_workdays parent_order_id",
    "OrderReceived": "nonce level issuer from_bureau to_bureau final_bureau case_ids answer_workdays step issued_at_us",
    "OrderArrived": "from_bureau step round received_at_us",
    "OrderAcknowledged": "from_bureau step acknowledged_at_us",
    "OrderAnswered": "from_bureau step round answered_at_us late derived_open",
    "OrderAnswerReturned": "from_bureau step round answer_workdays",
    "OrderClosed": "from_bureau step",
    "OrderCancelled": "from_bureau step",
    "OrderDelivered": "to_bureau step receipt_seq receipt_hash",
    "OrderClockNoted": "",
}
MARK = "私密QQ"


def messages_of(message: Descriptor) -> dict[str, Descriptor]:
    """A message and all that it is made of, by name."""
    found = {message.name: message}
    for field in message.fields:
        if field.message_type is not None and field.message_type.name not in found:
            found |= messages_of(field.message_type)
    return found


def test_the_public_part_of_an_entry_has_the_fields_listed_here_and_no_other() -> None:
    entry = journal_pb2.Entry.DESCRIPTOR
    assert {name: sorted(listed.split()) for name, listed in PUBLIC.items()} == {
        name: sorted(field.name for field in message.fields if field.containing_oneof is None)
        for name, message in messages_of(entry).items()
    }


def test_no_public_field_is_called_like_a_private_one() -> None:
    public = {field for listed in PUBLIC.values() for field in listed.split()}
    assert set() == public & {field.name for field in journal_pb2.Private.DESCRIPTOR.fields}


def test_text_that_anybody_may_write_is_in_no_public_field() -> None:
    # Free-form strings of the public part are codes, numbers and names of the system's own making.
    owners = {"actor", "asked_by", "owner"}
    strings = {
        field.name
        for message in messages_of(journal_pb2.Entry.DESCRIPTOR).values()
        for field in message.fields
        if field.type == FieldDescriptor.TYPE_STRING
    }
    codes = {
        "bureau", "case_id", "department", "calendar_version", "competent_bureau", "to_department", "lead_department",
        "assisting_departments", "part_department", "referral_id", "previous_referral_id", "to_bureau", "final_bureau",
        "path", "from_bureau", "origin_bureau", "handled_by", "disputants", "ruled_by",
        "lead_case_id", "issue_id", "for_department", "subject", "nonce", "issuer", "case_ids", "parent_order_id",
        "peer", "from_day", "to_day", "tree_version", "witness",
    }  # fmt: skip
    assert codes | owners == strings


@given(entries(), privates)
def test_the_public_part_is_the_same_whatever_the_private_part_says(entry: Entry, private: Private) -> None:
    one = encode_entry(replace(entry, event=replace(entry.event, private=private)))
    other = encode_entry(replace(entry, event=replace(entry.event, private=None)))
    assert one == other


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_an_entry_comes_back_as_it_was(kind: type[Event]) -> None:
    # What all kinds have in common is drawn some thousand times between them.
    @settings(max_examples=25)
    @given(entries(of_kind(kind)))
    def holds(entry: Entry) -> None:
        private = entry.event.private
        payload = encode_private(private) if private is not None else None
        assert entry == decode_entry(encode_entry(entry), payload)

    holds()


@given(privates)
def test_a_private_part_comes_back_as_it_was(private: Private) -> None:
    assert private == decode_private(encode_private(private))


def test_every_private_field_has_its_place_on_the_wire() -> None:
    assert [field.name for field in fields(Private)] == [field.name for field in journal_pb2.Private.DESCRIPTOR.fields]


@given(entries())
def test_an_entry_without_its_private_part_is_the_entry_without_it(entry: Entry) -> None:
    bare = replace(entry, event=replace(entry.event, private=None))
    assert bare == decode_entry(encode_entry(entry))


@given(entries())
def test_the_events_name_is_the_field_that_holds_it(entry: Entry) -> None:
    assert event_name(entry.event) == journal_pb2.Entry.FromString(encode_entry(entry)).WhichOneof("event")


@given(instants)
def test_an_instant_passes_the_interface_to_the_microsecond(at: datetime) -> None:
    assert at == instant(timestamp(at))


# ---------------------------------------------------------------- requests


def request_for(message: type[Message]) -> Any:
    """A request that asks for the example of its act."""
    act = EXAMPLES[ACT_OF_REQUEST[message]]
    request: Any = message()
    for field in fields(act):
        value = getattr(act, field.name)
        if isinstance(value, datetime):
            getattr(request, field.name).CopyFrom(timestamp(value))
        elif isinstance(value, tuple):
            getattr(request, field.name).extend(value)
        elif value is not None:
            setattr(request, field.name, int(value) if isinstance(value, IntEnum) else value)
    return request


@pytest.mark.parametrize("message", ACT_OF_REQUEST, ids=lambda message: message.DESCRIPTOR.name)
def test_a_request_asks_for_its_act(message: type[Message]) -> None:
    assert EXAMPLES[ACT_OF_REQUEST[message]] == act_of(request_for(message))


@pytest.mark.parametrize("message", ACT_OF_REQUEST, ids=lambda message: message.DESCRIPTOR.name)
def test_every_request_says_who_asks(message: type[Message]) -> None:
    assert case_pb2.ActHeader.DESCRIPTOR is message.DESCRIPTOR.fields_by_name["header"].message_type


def test_a_word_left_out_is_missing() -> None:
    with pytest.raises(FieldMissing) as refusal:
        act_of(case_pb2.RegisterCaseRequest(category=1))  # type: ignore[arg-type]
    assert "channel" == refusal.value.field


def test_a_word_of_a_later_version_is_named() -> None:
    with pytest.raises(FieldMalformed) as refusal:
        enum_of(Category, 99, "category")
    assert "category" == refusal.value.field
    assert "POLICY" in refusal.value.remedy


def test_a_word_that_may_be_left_out_may_be() -> None:
    assert None is act_of(case_pb2.ReferCaseRequest(final_bureau="330100")).telling  # type: ignore[attr-defined]


def test_a_time_left_out_is_missing() -> None:
    with pytest.raises(FieldMissing) as refusal:
        act_of(case_pb2.DeferCaseRequest(owner="policy-7"))
    assert "review_at" == refusal.value.field


@pytest.mark.parametrize("seconds", [2**62, -(2**62), 253_402_300_800])
def test_a_time_that_no_calendar_has_is_named(seconds: int) -> None:
    with pytest.raises(FieldMalformed) as refusal:
        act_of(case_pb2.DeferCaseRequest(review_at=Timestamp(seconds=seconds)))
    assert "review_at" == refusal.value.field


@given(st.integers(-(2**63), 2**63 - 1))
def test_a_peers_time_is_an_instant_or_a_refusal(micros: int) -> None:
    try:
        at = instant_of(micros, "completed_at_us")
    except FieldMalformed:
        return
    assert micros == (at - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def test_a_channel_is_told_by_its_number() -> None:
    assert Channel.HOTLINE is enum_of(Channel, 1, "channel")


@given(st.text(st.characters(codec="utf-8"), max_size=20))
def test_what_is_private_is_not_in_the_public_bytes(text: str) -> None:
    texts: dict[str, Any] = dict.fromkeys((field.name for field in fields(Private)), MARK + text)
    file = Attachment(digest=MARK + text, name=MARK + text, media_type=MARK + text, size_bytes=1)
    private = Private(**texts | {"attachments": (file,)})
    event = CaseWithdrawn(stage=Stage.WITHDRAWN, epoch=0, private=private)
    entry = Entry(
        bureau="330102",
        case_id="330102-2026-0000001",
        version=1,
        recorded_at=datetime(2026, 3, 2, tzinfo=UTC),
        occurred_at=datetime(2026, 3, 2, tzinfo=UTC),
        actor="registrar-1",
        role=1,  # type: ignore[arg-type]
        department="hall",
        category=Category.POLICY,
        channel=Channel.COUNTER,
        event=event,
    )
    assert MARK.encode() not in encode_entry(entry)
