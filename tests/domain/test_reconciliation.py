"""对账, the pure part: which records are the same, what differs in them, and what a message under way excuses."""

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from kuaixiang.domain import acts, errors
from kuaixiang.domain.case import Conclusion
from kuaixiang.domain.reconciliation import (
    Comparison,
    Difference,
    FieldDifference,
    PairRecord,
    by_case,
    canonical,
    compare,
    days_that_differ,
    digests,
    facts,
    persisting,
)
from kuaixiang.domain.words import DifferenceKind, Outcome, ReferralState, Refusal
from tests.domain.story import (
    CALENDAR,
    CASE_ID,
    DAY,
    HANGZHOU,
    HOUR,
    MONDAY,
    SHANGCHENG,
    ZHEJIANG,
    concluded,
    day,
    end_of,
    fed_back,
    handling,
)

HERE, THERE, DIFFERENT = DifferenceKind.MISSING_HERE, DifferenceKind.MISSING_THERE, DifferenceKind.DIFFERENT
ENDED = Conclusion(outcome=Outcome.COMPLETED, epoch=1, round=0, handled_by=HANGZHOU, completed_at=MONDAY + DAY)
RECORD = PairRecord(
    referral_id="r1",
    case_id=CASE_ID,
    epoch=1,
    from_bureau=SHANGCHENG,
    to_bureau=HANGZHOU,
    offered_at=MONDAY,
    state=ReferralState.ACCEPTED,
    conclusion=ENDED,
)
OFFERED = replace(RECORD, state=ReferralState.OFFERED, conclusion=None, pending_since=MONDAY)
NOW = MONDAY + HOUR


def compared(here: list[PairRecord], there: list[PairRecord], now: datetime = NOW) -> Comparison:
    return compare(here, there, now, CALENDAR)


def test_what_both_ledgers_say_alike_matches() -> None:
    others = [RECORD, replace(RECORD, referral_id="r2", conclusion=None)]
    assert Comparison(matched=2) == compared(others, others[::-1])


@pytest.mark.parametrize(
    "change",
    [
        {"case_id": "330102-2026-0000002"},
        {"epoch": 2},
        {"from_bureau": HANGZHOU, "to_bureau": SHANGCHENG},
        {"offered_at": MONDAY + timedelta(microseconds=1)},
        {"state": ReferralState.REFUSED, "refusal": Refusal.LOOP, "conclusion": None},
        {"conclusion": replace(ENDED, outcome=Outcome.WITHDRAWN)},
        {"conclusion": replace(ENDED, epoch=3)},
        {"conclusion": replace(ENDED, round=1)},
        {"conclusion": replace(ENDED, handled_by=ZHEJIANG)},
        {"conclusion": replace(ENDED, completed_at=MONDAY)},
        {"conclusion": None},
    ],
    ids="+".join,
)
def test_whatever_is_told_differently_is_named_and_changes_the_digest(change: dict[str, Any]) -> None:
    other = replace(RECORD, **change)
    (found,) = compared([RECORD], [other]).differences
    mine, theirs = facts(RECORD), facts(other)
    assert tuple(FieldDifference(name, mine[name], theirs[name]) for name in mine if mine[name] != theirs[name])
    assert {told.field for told in found.fields} == {name for name in mine if mine[name] != theirs[name]}
    assert (DIFFERENT, "r1") == (found.kind, found.referral_id)
    assert digests([RECORD], CALENDAR.day_of) != digests([other], CALENDAR.day_of)


def test_a_hand_over_that_one_ledger_lacks_is_missing_there_or_here() -> None:
    assert [Difference(CASE_ID, "r1", THERE)] == compared([RECORD], []).differences
    assert [Difference(CASE_ID, "r1", HERE)] == compared([], [RECORD]).differences


def test_what_a_ledger_has_yet_to_tell_is_no_part_of_the_digest() -> None:
    assert canonical(RECORD) == canonical(replace(RECORD, pending_since=MONDAY))
    assert canonical(OFFERED) == canonical(replace(OFFERED, state=ReferralState.WITHDRAWING))


def test_a_day_is_that_of_the_offer_in_shanghai_and_its_digest_does_not_depend_on_the_order() -> None:
    last, first = end_of(3, 2) - timedelta(microseconds=1), end_of(3, 2)
    records = [replace(RECORD, referral_id=f"r{hour}", offered_at=day(3, 2, hour)) for hour in range(3)]
    records += [replace(RECORD, referral_id="last", offered_at=last), replace(RECORD, offered_at=first)]
    found = digests(records, CALENDAR.day_of)
    assert [("2026-03-02", 4), ("2026-03-03", 1)] == [(str(at), told.records) for at, told in found.items()]
    assert found == digests(records[::-1], CALENDAR.day_of)
    assert [] == days_that_differ(found, found)
    fewer = digests(records[1:], CALENDAR.day_of)
    assert ["2026-03-02"] == [str(at) for at in days_that_differ(found, fewer)]
    assert ["2026-03-02", "2026-03-03"] == [str(at) for at in days_that_differ({}, found)]


def test_texts_that_run_together_are_not_mistaken_for_each_other() -> None:
    one = replace(RECORD, referral_id="r1", case_id="1-case")
    other = replace(RECORD, referral_id="r11", case_id="-case")
    assert canonical(one) != canonical(other)


@pytest.mark.parametrize(
    ("here", "there"),
    [
        ([OFFERED], []),
        ([OFFERED], [replace(RECORD, conclusion=None)]),
        ([OFFERED], [replace(RECORD, state=ReferralState.REFUSED, refusal=Refusal.LOOP, conclusion=None)]),
        # The receiver has handled it before the sender has the receipt.
        ([OFFERED], [replace(RECORD, pending_since=MONDAY)]),
        ([replace(RECORD, conclusion=None)], [replace(RECORD, pending_since=MONDAY)]),
        # Reopened there, and this ledger is still to hear of it.
        ([RECORD], [replace(RECORD, conclusion=None, pending_since=MONDAY)]),
    ],
)
def test_a_message_under_way_makes_a_hand_over_pending_on_either_side(
    here: list[PairRecord], there: list[PairRecord]
) -> None:
    assert Comparison(pending=1) == compared(here, there)
    assert Comparison(pending=1) == compared(there, here)
    assert 1 == len(compared(here, there, MONDAY + 2 * DAY).differences)


def test_what_is_owed_over_a_day_off_is_pending_still() -> None:
    # Thursday noon to Monday morning, with the Friday off: less than a working day.
    owed = replace(OFFERED, pending_since=day(3, 5, 12))
    assert Comparison(pending=1) == compared([owed], [], day(3, 9, 9))
    assert [Difference(CASE_ID, "r1", THERE)] == compared([owed], [], day(3, 9, 13)).differences


@pytest.mark.parametrize(
    ("here", "there"),
    [
        # A receiver does not know of an offer before its sender does.
        ([], [replace(RECORD, pending_since=MONDAY)]),
        # An accepted hand-over is in both ledgers, whatever else is owed.
        ([replace(RECORD, pending_since=MONDAY)], []),
        ([replace(RECORD, pending_since=MONDAY)], [replace(RECORD, epoch=2)]),
        ([replace(RECORD, pending_since=MONDAY)], [replace(RECORD, state=ReferralState.REFUSED)]),
        ([OFFERED], [replace(RECORD, case_id="330102-2026-0000002")]),
    ],
)
def test_a_message_under_way_does_not_excuse_what_it_cannot_have_caused(
    here: list[PairRecord], there: list[PairRecord]
) -> None:
    assert 1 == len(compared(here, there).differences)


def test_of_two_looks_at_moving_ledgers_only_what_both_have_seen_stands() -> None:
    one, other = Difference("c1", "r1", HERE), Difference("c2", "r2", DIFFERENT)
    assert [other] == persisting([one, other], [other, Difference("c1", "r1", DIFFERENT)])


def test_of_a_cases_hand_overs_a_missing_one_says_the_most() -> None:
    found = [Difference("c1", "r1", DIFFERENT), Difference("c1", "r2", HERE), Difference("c2", "r3", DIFFERENT)]
    assert {"c1": HERE, "c2": DIFFERENT} == by_case(found)


def test_a_mismatch_is_noted_once_and_again_when_it_is_another() -> None:
    story = fed_back()
    note = acts.NoteMismatch(peer=HANGZHOU, difference=HERE)
    assert 1 == len(story.do(note))
    assert () == story.do(note)
    assert 1 == len(story.do(replace(note, difference=DIFFERENT)))
    assert [(HANGZHOU, DIFFERENT)] == [(found.peer, found.difference) for found in story.case.mismatches]
    assert 1 == len(story.do(replace(note, difference=None)))
    assert () == story.do(replace(note, difference=None))
    assert () == story.case.mismatches


def test_a_case_is_not_written_off_while_a_mismatch_stands_and_is_once_it_is_gone() -> None:
    story = concluded().then(
        acts.NoteMismatch(peer=HANGZHOU, difference=DIFFERENT), acts.NoteMismatch(peer=ZHEJIANG, difference=HERE)
    )
    with pytest.raises(errors.MismatchStands) as refused:
        story.do(acts.WriteOff())
    assert all(peer in text for peer in (HANGZHOU, ZHEJIANG) for text in (str(refused.value), refused.value.chinese))
    story.do(acts.NoteMismatch(peer=ZHEJIANG, difference=None))
    with pytest.raises(errors.MismatchStands):
        story.do(acts.WriteOff())
    story.then(acts.NoteMismatch(peer=HANGZHOU, difference=None), acts.WriteOff())


def test_noting_a_mismatch_leaves_an_officer_the_time_before_it() -> None:
    story = handling()
    last = story.case.last_at
    story.after(HOUR).do(acts.NoteMismatch(peer=HANGZHOU, difference=DIFFERENT))
    assert last == story.case.last_at
