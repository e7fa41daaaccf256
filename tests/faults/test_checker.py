"""The checker sees what it is there for: each rule is broken by hand in a sound history, and says so."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from kuaixiang.domain import events
from kuaixiang.domain.events import ClockChange, Entry, Event
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockAction,
    ClockKind,
    ClockOutcome,
    Custody,
    OrderLevel,
    OrderStage,
    Outcome,
    ReferralKind,
    Refusal,
    Role,
    Stage,
)
from kuaixiang.wire.chain import GENESIS, NO_PRIVATE, links
from kuaixiang.wire.codec import encode_entry
from kuaixiang.wire.v1.journal_pb2 import Entry as Message
from kuaixiang.wire.v1.journal_pb2 import Head, Segment, SegmentEntry
from tests.faults.checker.check import RULES, faults_in
from tests.faults.checker.figures import counted_by_hand
from tests.faults.checker.history import Came, History, HubView, Journal, Operation, Witness

AT = datetime(2026, 9, 21, 1, tzinfo=UTC)
COUNTY, PROVINCE, CASE, ORDER = "110101", "110000", "110101-2026-0000001", "110000-D-2026-0000001"


@dataclass
class Book:
    """A ledger in the making."""

    bureau: str
    entries: list[Entry] = field(default_factory=list)

    def add(self, event: Event, *, actor: str = "system", subject: str = CASE) -> "Book":
        declined = isinstance(event, events.OfferDeclined)
        versions = [one.version for one in self.entries if one.case_id == subject]
        self.entries.append(
            Entry(
                bureau=self.bureau,
                case_id=subject,
                version=0 if declined else max(versions, default=0) + 1,
                recorded_at=AT,
                occurred_at=AT,
                actor=actor,
                role=Role.REGISTRAR,
                department="tax-service",
                category=Category.POLICY,
                channel=Channel.COUNTER,
                event=event,
            )
        )
        return self

    def hash_at(self, seq: int) -> bytes:
        return links(GENESIS, 1, 1, [(NO_PRIVATE, encode_entry(one)) for one in self.entries[:seq]])[-1]

    def journal(self) -> Journal:
        public = [encode_entry(one) for one in self.entries]
        last = self.hash_at(len(public)) if public else GENESIS
        sealed = [SegmentEntry(public=text, private_digest=NO_PRIVATE) for text in public]
        segment = Segment(
            bureau=self.bureau, generation=1, first_seq=1, prev_hash=GENESIS, entries=sealed, last_hash=last
        )
        head = Head(bureau=self.bureau, generation=1, seq=len(public), hash=last)
        return Journal(head, [segment] if public else [])


def registered() -> Event:
    return events.Registered(stage=Stage.REGISTERED, epoch=0, clocks=(clock(ClockAction.STARTED),))


def clock(action: ClockAction, outcome: ClockOutcome | None = None) -> ClockChange:
    return ClockChange(
        kind=ClockKind.FORWARD,
        action=action,
        started_at=AT,
        due_at=AT + timedelta(days=1),
        limit_workdays=1,
        calendar_version="2026",
        outcome=outcome,
    )


def offered(referral_id: str = "r1", *, epoch: int = 0, to_bureau: str = PROVINCE, offer_epoch: int = 0) -> Event:
    return events.Offered(
        stage=Stage.REGISTERED,
        custody=Custody.OFFERED,
        epoch=epoch,
        referral_id=referral_id,
        previous_referral_id="",
        referral_kind=ReferralKind.ESCALATE,
        to_bureau=to_bureau,
        final_bureau=to_bureau,
        path=(COUNTY,),
        offer_epoch=offer_epoch or epoch + 1,
    )


def released(referral_id: str = "r1", *, epoch: int = 1, receipt: tuple[int, bytes] = (0, b"")) -> Event:
    return events.Released(
        stage=Stage.REFERRED,
        clocks=(clock(ClockAction.STOPPED, ClockOutcome.VOID),),
        custody=Custody.RELEASED,
        epoch=epoch,
        referral_id=referral_id,
        to_bureau=PROVINCE,
        referral_kind=ReferralKind.ESCALATE,
        relayed=False,
        receipt_seq=receipt[0],
        receipt_hash=receipt[1],
    )


def received(referral_id: str = "r1", *, epoch: int = 1, from_bureau: str = COUNTY) -> Event:
    return events.Received(
        stage=Stage.FORWARDED,
        epoch=epoch,
        referral_id=referral_id,
        previous_referral_id="",
        referral_kind=ReferralKind.ESCALATE,
        from_bureau=from_bureau,
        final_bureau=PROVINCE,
        path=(COUNTY,),
        origin_bureau=COUNTY,
        registered_at=AT,
        offered_at=AT,
    )


def refused(referral_id: str = "r1") -> Event:
    return events.OfferRefused(
        stage=Stage.REGISTERED, epoch=0, referral_id=referral_id, to_bureau=PROVINCE, refusal=Refusal.CONFLICT
    )


def declined(referral_id: str = "r1") -> Event:
    return events.OfferDeclined(
        stage=Stage.REFERRED,
        custody=Custody.RELEASED,
        epoch=0,
        referral_id=referral_id,
        from_bureau=COUNTY,
        offer_epoch=1,
        refusal=Refusal.WITHDRAWN,
        offered_at=AT,
    )


def withdrawn() -> Event:
    return events.CaseWithdrawn(stage=Stage.WITHDRAWN, epoch=1)


def concluded(outcome: Outcome = Outcome.WITHDRAWN) -> Event:
    return events.Concluded(
        stage=Stage.CONCLUDED,
        custody=Custody.RELEASED,
        epoch=1,
        from_bureau=PROVINCE,
        outcome=outcome,
        round=0,
        handled_by=PROVINCE,
        completed_at=AT,
    )


def delivered() -> Event:
    return events.ConclusionDelivered(
        stage=Stage.WITHDRAWN, epoch=1, to_bureau=COUNTY, outcome=Outcome.WITHDRAWN, round=0
    )


def issued() -> Event:
    return events.OrderIssued(
        order_stage=OrderStage.ISSUED,
        nonce="n",
        level=next(iter(OrderLevel)),
        to_bureau=COUNTY,
        final_bureau=COUNTY,
        case_ids=(),
        answer_workdays=2,
        parent_order_id="",
    )


def order_received() -> Event:
    return events.OrderReceived(
        order_stage=OrderStage.RECEIVED,
        nonce="n",
        level=next(iter(OrderLevel)),
        issuer=PROVINCE,
        from_bureau=PROVINCE,
        to_bureau="",
        final_bureau=COUNTY,
        case_ids=(),
        answer_workdays=2,
        step=1,
        issued_at=AT,
    )


def done(actor: str, seq: int, bureau: str = COUNTY, **more: Any) -> Operation:
    return Operation(actor=actor, bureau=bureau, act="Act", came=Came.OK, case_id=CASE, seq=seq, **more)


def books() -> dict[str, Book]:
    """A case that went up, was withdrawn there, and whose end came back."""
    province = Book(PROVINCE).add(received())
    county = Book(COUNTY).add(registered(), actor="officer-1").add(offered(), actor="officer-2")
    county.add(released(receipt=(1, province.hash_at(1)))).add(concluded())
    province.add(withdrawn(), actor="officer-4").add(delivered())
    return {COUNTY: county, PROVINCE: province}


CALLS = (
    done("officer-1", 1, invoked_at=1, completed_at=2),
    done("officer-2", 2, invoked_at=3, completed_at=4),
    Operation(actor="officer-3", bureau=COUNTY, act="Act", came=Came.REFUSED),
    done("officer-4", 2, PROVINCE),
)


def history(of: Mapping[str, Book], calls: Sequence[Operation] = CALLS, **more: Any) -> History:
    return History(operations=calls, journals={bureau: book.journal() for bureau, book in of.items()}, **more)


def hub_of(of: Mapping[str, Book]) -> HubView:
    counted = {
        bureau: counted_by_hand(Message.FromString(encode_entry(one)) for one in book.entries)
        for bureau, book in of.items()
    }
    marks = {bureau: (1, len(book.entries), book.hash_at(len(book.entries))) for bureau, book in of.items()}
    return HubView(facts=counted, marks=marks, open_cases={})


def test_a_sound_history_has_no_fault() -> None:
    sound = books()
    assert faults_in(history(sound, hub=hub_of(sound))) == []


def replaced(*county: tuple[Event, str], province: Sequence[Event] = ()) -> History:
    """The first acts of the county as they are given; the province's likewise."""
    book, above = Book(COUNTY), Book(PROVINCE)
    for event, actor in county:
        book.add(event, actor=actor)
    for event in province:
        above.add(event)
    return history({COUNTY: book, PROVINCE: above}, CALLS[:3])


FIRST = (registered(), "officer-1")
SECOND = (offered(), "officer-2")

BROKEN: Mapping[str, tuple[str, Callable[[], History]]] = {
    "an act lost": ("answered_acts_are_there_once", lambda: replaced(FIRST)),
    "an act doubled": ("acts_are_done_at_most_once", lambda: replaced(FIRST, SECOND, (refused(), "x"), SECOND)),
    "an act of unknown end doubled": (
        "acts_are_done_at_most_once",
        lambda: replace(
            replaced(FIRST, SECOND, (refused(), "x"), SECOND),
            operations=[Operation(actor="officer-2", bureau=COUNTY, act="Act", came=Came.UNKNOWN)],
        ),
    ),
    "an act in another ledger": (
        "answered_acts_are_there_once",
        lambda: history(books(), [done("officer-4", 2, COUNTY)]),
    ),
    "one act answered as two": (
        "answered_acts_are_there_once",
        lambda: history(books(), [done("officer-1", 1), done("officer-1", 2)]),
    ),
    "a refused act recorded": (
        "refused_acts_are_nowhere",
        lambda: history(books(), [Operation(actor="officer-2", bureau=COUNTY, act="Act", came=Came.REFUSED)]),
    ),
    "the later act first": (
        "answers_come_in_the_order_of_acts",
        lambda: history(
            books(),
            [
                done("officer-1", 1, invoked_at=5, completed_at=6),
                done("officer-2", 2, invoked_at=3, completed_at=4),
            ],
        ),
    ),
    "a number given twice": (
        "numbers_name_one_case",
        lambda: replaced(FIRST, (registered(), "x"), province=[]),
    ),
    "a case that nobody registered": ("numbers_name_one_case", lambda: replaced(province=[received()])),
    "an epoch taken twice": (
        "one_custodian_at_every_moment",
        lambda: replaced(FIRST, SECOND, (refused(), "x"), (received("r2"), "x"), province=[received()]),
    ),
    "an epoch left out": (
        "one_custodian_at_every_moment",
        lambda: replaced(FIRST, SECOND, province=[received(epoch=2)]),
    ),
    "taken from who had it not": (
        "one_custodian_at_every_moment",
        lambda: replaced(FIRST, SECOND, province=[received(from_bureau="110105")]),
    ),
    "taken without an offer": ("one_custodian_at_every_moment", lambda: replaced(FIRST, province=[received("r9")])),
    "acted on while offered": (
        "each_ledger_acts_on_what_it_has",
        lambda: replaced(
            FIRST, SECOND, (events.Forwarded(stage=Stage.FORWARDED, custody=Custody.OFFERED, epoch=0), "x")
        ),
    ),
    "acted on when it was gone": (
        "each_ledger_acts_on_what_it_has",
        lambda: replaced(
            FIRST,
            SECOND,
            (released(), "x"),
            (events.Forwarded(stage=Stage.FORWARDED, epoch=1), "x"),
            province=[received()],
        ),
    ),
    "an epoch that does not rise": (
        "each_ledger_acts_on_what_it_has",
        lambda: replaced(FIRST, SECOND, (released(epoch=0), "x"), province=[received()]),
    ),
    "decided twice": (
        "decisions_are_made_once_and_believed",
        lambda: replaced(FIRST, SECOND, province=[declined(), received()]),
    ),
    "taken back on a time-out": (
        "decisions_are_made_once_and_believed",
        lambda: replaced(FIRST, SECOND, (refused(), "x"), province=[received()]),
    ),
    "let go too early": (
        "decisions_are_made_once_and_believed",
        lambda: replaced(FIRST, SECOND, (released(), "x")),
    ),
    "a receipt for another entry": (
        "decisions_are_made_once_and_believed",
        lambda: replaced(FIRST, SECOND, (released(receipt=(1, b"other")), "x"), province=[received()]),
    ),
    "an offer that nobody decides": ("nobody_waits_unseen", lambda: replaced(FIRST, SECOND)),
    "a conclusion that stays away": (
        "conclusions_reach_every_ledger",
        lambda: replaced(FIRST, SECOND, (released(), "x"), province=[received(), withdrawn(), delivered()]),
    ),
    "two custodians in the end": (
        "conclusions_reach_every_ledger",
        lambda: replaced(FIRST, SECOND, (refused(), "x"), province=[received()]),
    ),
    "a clock that ends twice": (
        "clocks_count_once",
        lambda: replaced(FIRST, SECOND, (released(), "x"), (released(), "x"), province=[received()]),
    ),
    "a clock met and missed": (
        "clocks_count_once",
        lambda: replaced(
            FIRST,
            (
                events.BecameOverdue(stage=Stage.REGISTERED, epoch=0, clocks=(clock(ClockAction.OVERDUE),)),
                "system",
            ),
            (
                events.Forwarded(
                    stage=Stage.FORWARDED, epoch=0, clocks=(clock(ClockAction.STOPPED, ClockOutcome.MET),)
                ),
                "x",
            ),
        ),
    ),
    "an order that never came": (
        "orders_are_the_same_in_every_ledger",
        lambda: history({PROVINCE: Book(PROVINCE).add(issued(), subject=ORDER)}, ()),
    ),
    "an order that nobody issued": (
        "orders_are_the_same_in_every_ledger",
        lambda: history({COUNTY: Book(COUNTY).add(order_received(), subject=ORDER)}, ()),
    ),
    "shown and gone": (
        "witnesses_are_borne_out",
        lambda: history(books(), witnesses=[Witness(bureau=COUNTY, generation=1, seq=5, hash=b"x", by="a head")]),
    ),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_kind_of_damage_is_named_by_its_rule(kind: str) -> None:
    rule, make = BROKEN[kind]
    found = faults_in(make())
    assert any(fault.startswith(f"{rule}: ") for fault in found), found


def test_a_hub_that_counts_twice_or_stands_elsewhere_or_shows_what_is_closed_is_seen() -> None:
    sound = books()
    hub = hub_of(sound)
    twice = Counter(hub.facts[COUNTY]) + Counter(registered=1)
    behind = {**hub.marks, COUNTY: (1, 3, sound[COUNTY].hash_at(3))}
    elsewhere = {**hub.marks, COUNTY: (1, 4, sound[COUNTY].hash_at(3))}
    wrong = {
        f"{COUNTY}: the hub says 2 registered, its journal adds up to 1 at seq 4": replace(
            hub, facts={**hub.facts, COUNTY: twice}
        ),
        f"{COUNTY}: the hub has folded up to seq 3, the journal ends at 4": replace(hub, marks=behind),
        f"{COUNTY}: the hub has folded generation 1 seq 4, which is not its journal's": replace(hub, marks=elsewhere),
        f"{CASE}: the hub shows it open at {PROVINCE}, where it is not": replace(
            hub, open_cases={PROVINCE: frozenset({CASE})}
        ),
        f"{COUNTY}: the hub has quarantined it: a fork": replace(hub, quarantined={COUNTY: "a fork"}),
    }
    for fault, view in wrong.items():
        found = faults_in(history(sound, hub=view))
        assert any(fault in sentence for sentence in found), (fault, found)


def test_a_changed_entry_a_hole_and_a_cut_off_end_are_seen() -> None:
    journals = {bureau: book.journal() for bureau, book in books().items()}
    whole = journals[COUNTY]
    changed = Segment.FromString(whole.segments[0].SerializeToString())
    changed.entries[0].public = changed.entries[1].public
    hole = Segment.FromString(whole.segments[0].SerializeToString())
    hole.first_seq = 2
    broken = {
        "does not verify": replace(whole, segments=[changed]),
        "the chain breaks after seq 0": replace(whole, segments=[hole]),
        "the journal ends at seq 0, its head says 4": replace(whole, segments=[]),
    }
    for fault, journal in broken.items():
        found = faults_in(History(journals={**journals, COUNTY: journal}))
        assert any(fault in sentence for sentence in found), found


def test_what_waits_may_wait_while_its_alarm_says_so() -> None:
    waiting = replace(replaced(FIRST, SECOND), settled=False)
    assert [fault for fault in faults_in(waiting) if "nobody is told" in fault] != []
    assert faults_in(replace(waiting, alarmed=frozenset({(COUNTY, CASE)}))) == []


def test_an_act_that_was_so_already_needs_no_entry_of_its_own() -> None:
    again = done("officer-5", 3)
    assert faults_in(history(books(), [again])) != []
    assert faults_in(history(books(), [replace(again, may_be_so=True)])) == []


def test_every_rule_is_provoked() -> None:
    here = {"chains_verify", "the_hub_says_what_the_journals_add_up_to", "the_hub_stands_where_the_journals_do"}
    assert {rule.__name__ for rule in RULES} == here | {rule for rule, _ in BROKEN.values()}
