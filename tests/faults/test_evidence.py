"""The checker of the fault tests sees what it is there for: each kind of damage, done to sound journals by hand."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kuaixiang.domain import events
from kuaixiang.domain.events import Entry, Event
from kuaixiang.domain.words import Category, Channel, Custody, ReferralKind, Role, Stage
from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, links
from kuaixiang.wire.codec import encode_entry
from kuaixiang.wire.v1.journal_pb2 import Head, Segment, SegmentEntry
from tests.faults.evidence import Answered, Journal, faults_found

AT = datetime(2026, 9, 21, 1, tzinfo=UTC)
COUNTY, PROVINCE, CASE = "110101", "110000", "110101-2026-0000001"
ANSWERED = (Answered(COUNTY, CASE, "officer-1", 1), Answered(COUNTY, CASE, "officer-2", 2))


def entry(bureau: str, version: int, actor: str, event: Event) -> Entry:
    return Entry(
        bureau=bureau,
        case_id=CASE,
        version=version,
        recorded_at=AT,
        occurred_at=AT,
        actor=actor,
        role=Role.REGISTRAR,
        department="tax-service",
        category=Category.POLICY,
        channel=Channel.COUNTER,
        event=event,
    )


def registered(actor: str = "officer-1", version: int = 1) -> Entry:
    return entry(COUNTY, version, actor, events.Registered(stage=Stage.REGISTERED, epoch=0))


def offered() -> Entry:
    offer = events.Offered(
        stage=Stage.REGISTERED,
        custody=Custody.OFFERED,
        epoch=0,
        referral_id="r1",
        previous_referral_id="",
        referral_kind=ReferralKind.ESCALATE,
        to_bureau=PROVINCE,
        final_bureau=PROVINCE,
        path=(COUNTY,),
        offer_epoch=1,
    )
    return entry(COUNTY, 2, "officer-2", offer)


def released() -> Entry:
    event = events.Released(
        stage=Stage.REFERRED,
        custody=Custody.RELEASED,
        epoch=1,
        referral_id="r1",
        to_bureau=PROVINCE,
        referral_kind=ReferralKind.ESCALATE,
        relayed=False,
        receipt_seq=1,
        receipt_hash=b"",
    )
    return entry(COUNTY, 3, "system", event)


def received() -> Entry:
    event = events.Received(
        stage=Stage.FORWARDED,
        epoch=1,
        referral_id="r1",
        previous_referral_id="",
        referral_kind=ReferralKind.ESCALATE,
        from_bureau=COUNTY,
        final_bureau=PROVINCE,
        path=(COUNTY,),
        origin_bureau=COUNTY,
        registered_at=AT,
        offered_at=AT,
    )
    return entry(PROVINCE, 1, "system", event)


def journal(bureau: str, *entries: Entry) -> Journal:
    public = [encode_entry(one) for one in entries]
    last = links(GENESIS, 1, 1, [(NO_PRIVATE, text) for text in public])[-1]
    sealed = [SegmentEntry(public=text, private_digest=NO_PRIVATE) for text in public]
    segment = Segment(bureau=bureau, generation=1, first_seq=1, prev_hash=GENESIS, entries=sealed, last_hash=last)
    return Journal(Head(bureau=bureau, generation=1, seq=len(public), hash=last), [segment])


SOUND = {
    COUNTY: journal(COUNTY, registered(), offered(), released()),
    PROVINCE: journal(PROVINCE, received()),
}


def test_sound_journals_have_no_fault() -> None:
    assert faults_found(SOUND, ANSWERED, ["officer-3"]) == []


@pytest.mark.parametrize(
    ("county", "fault"),
    [
        (journal(COUNTY, offered(), released()), "lost"),
        (journal(COUNTY, registered(), offered(), registered("officer-1", 3)), "registered is there 2 times"),
        (journal(COUNTY, registered(), offered()), "its custodians are ['110000', '110101']"),
        (journal(COUNTY, registered(), offered(), released(), registered("officer-3", 4)), "was refused"),
    ],
    ids=["an act lost", "an act doubled", "two custodians", "a refused act recorded"],
)
def test_damage_to_what_the_journals_say_is_seen(county: Journal, fault: str) -> None:
    found = faults_found({**SOUND, COUNTY: county}, ANSWERED, ["officer-3"])
    assert any(fault in sentence for sentence in found), found


def test_an_act_that_was_so_already_needs_no_entry_of_its_own() -> None:
    again = Answered(COUNTY, CASE, "officer-4", 3)
    assert faults_found(SOUND, [again]) != []
    assert faults_found(SOUND, [replace(again, may_be_so=True)]) == []


def test_a_case_that_nobody_has_is_seen() -> None:
    found = faults_found({COUNTY: SOUND[COUNTY]}, ANSWERED)
    assert found == [f"{CASE}: its custodians are []"]


def test_a_changed_entry_a_hole_and_a_cut_off_end_are_seen() -> None:
    whole = SOUND[COUNTY]
    changed = Segment.FromString(whole.segments[0].SerializeToString())
    changed.entries[0].public = encode_entry(registered("officer-9"))
    hole = Segment.FromString(whole.segments[0].SerializeToString())
    hole.first_seq = 2
    broken = {
        "does not verify": replace(whole, segments=[changed]),
        "the chain breaks after seq 0": replace(whole, segments=[hole]),
        "the journal ends at seq 0, its head says 3": replace(whole, segments=[]),
    }
    for fault, journal_ in broken.items():
        assert any(fault in sentence for sentence in faults_found({**SOUND, COUNTY: journal_}, ()))
