"""The fold: total, a function of the entries alone, and open to journals of other rules."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain import acts, events
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import Outcome
from tests.domain.story import (
    COMPLETE,
    DISPATCH,
    FEEDBACK,
    HANGZHOU,
    MONDAY,
    RECEIVE,
    REFER,
    REOPEN,
    XIHU,
    Story,
    fed_back,
    handling,
    offer_id,
    received,
    registered,
    released,
)
from tests.domain.strategies import entries


def fold(journal: list[Entry]) -> Case | None:
    case: Case | None = None
    for entry in journal:
        case = evolve(case, entry)
    return case


def accepted(story: Story) -> Story:
    return story.then(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=1, receipt_hash=b""))


@given(st.lists(entries(), max_size=6))
def test_any_entries_in_any_order_give_a_case(journal: list[Entry]) -> None:
    case = fold(journal)
    counted = [
        (entry, entry.event)
        for entry in journal
        if isinstance(entry.event, events.CaseEvent) and not isinstance(entry.event, events.OfferDeclined)
    ]
    assert (case is None) == (not counted)
    if case is not None:
        last, event = counted[-1]
        assert (last.version, event.stage, event.custody, event.epoch) == (
            case.version,
            case.stage,
            case.custody,
            case.epoch,
        )


def test_the_entries_of_a_life_give_the_case_it_led_to() -> None:
    story = fed_back().then(REOPEN, COMPLETE, FEEDBACK)
    assert story.case == fold(story.entries)


def test_the_private_part_makes_no_difference_to_a_case() -> None:
    story = fed_back()
    public = [replace(entry, event=replace(entry.event, private=None)) for entry in story.entries]
    assert story.case == fold(public)


def test_a_case_begins_where_and_when_it_was_registered() -> None:
    case = registered().case
    assert (case.bureau, MONDAY, case.bureau, 1) == (
        case.origin_bureau,
        case.registered_at,
        case.with_bureau,
        case.version,
    )


def test_a_declined_offer_belongs_to_no_case() -> None:
    story = handling()
    declined = events.OfferDeclined(
        stage=story.case.stage,
        epoch=0,
        referral_id="r1",
        from_bureau=HANGZHOU,
        offer_epoch=0,
        refusal=5,  # type: ignore[arg-type]
        offered_at=MONDAY,
    )
    entry = replace(story.entries[-1], version=0, event=declined)
    assert story.case == evolve(story.case, entry)
    assert None is evolve(None, entry)


def test_the_entry_that_holds_what_a_receiver_needs_is_the_last_arrival() -> None:
    story = released()
    versions = story.case.version
    story.do(replace(RECEIVE, offer_epoch=2))
    assert versions + 1 == story.case.snapshot_version


def test_neighbours_are_the_bureaus_of_every_hand_over_each_with_its_latest_referral() -> None:
    story = received().then(REFER)
    sent = offer_id(story)
    assert ((HANGZHOU, sent),) == accepted(story).case.neighbours


def test_a_reopening_stays_to_be_told_when_the_case_is_handed_on() -> None:
    story = received().then(DISPATCH, COMPLETE, FEEDBACK)
    story = story.then(REOPEN, replace(REFER, final_bureau=XIHU))
    assert story.case.outgoing is not None
    story.having(outgoing=replace(story.case.outgoing, to_bureau=XIHU))
    case = accepted(story).case
    assert case.conclusion is not None
    assert (Outcome.REOPENED, {HANGZHOU}) == (case.conclusion.outcome, set(case.awaiting))


def test_a_case_that_comes_back_after_its_end_was_told_is_told_to_be_open() -> None:
    story = accepted(Story().then(RECEIVE).then(replace(REFER, final_bureau=HANGZHOU)))
    told = acts.HearConclusion(
        from_bureau=HANGZHOU,
        referral_id="r1",
        epoch=2,
        round=0,
        outcome=Outcome.COMPLETED,
        handled_by=HANGZHOU,
        completed_at=MONDAY,
    )
    story.then(told).having(neighbours=((XIHU, "r9"), (HANGZHOU, "r1")))
    story.do(replace(RECEIVE, offer_epoch=3))
    assert story.case.conclusion is not None
    assert (Outcome.REOPENED, 3, {XIHU}) == (
        story.case.conclusion.outcome,
        story.case.conclusion.epoch,
        set(story.case.awaiting),
    )


def test_a_new_segment_begins_with_nothing_of_the_last_ones_handling() -> None:
    story = accepted(handling().then(acts.AskExtension(workdays=2, reason="需要核实"), acts.ApproveExtension(), REFER))
    story.do(replace(RECEIVE, offer_epoch=2))
    case = story.case
    assert (False, (), "", (), None, None) == (
        case.extended,
        case.extensions,
        case.lead_department,
        case.open_parts,
        case.satisfaction,
        case.conclusion,
    )


def test_handlers_are_remembered_over_every_segment() -> None:
    story = received().then(DISPATCH).then(COMPLETE, actor="wang").then(FEEDBACK, REOPEN, REFER)
    story = accepted(story)
    story.do(replace(RECEIVE, offer_epoch=3))
    assert "wang" in story.case.handlers
