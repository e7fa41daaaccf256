"""Feedback, follow-up, reopening and write-off (§四(三), §四(四), §五(三))."""

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.handling import in_sample
from kuaixiang.domain.words import Channel, ClockKind, ClockOutcome, Custody, Outcome, Satisfaction, Stage
from tests.domain.story import (
    COMPLETE,
    DISPATCH,
    FEEDBACK,
    FOLLOW_UP,
    HANGZHOU,
    MONDAY,
    REGISTER,
    REOPEN,
    Story,
    changes,
    completed,
    concluded,
    day,
    end_of,
    fed_back,
    followed_up,
    handling,
    received,
    reconsidered,
    released,
    withdrawn,
    written_off,
)

WRITE_OFF = acts.WriteOff()
UNHAPPY = acts.FollowUp(satisfaction=Satisfaction.NOT_SATISFIED)
HEARD = acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=0, outcome=Outcome.COMPLETED)


def test_feedback_stops_its_clock_and_starts_the_follow_up_clock() -> None:
    story = completed().at(day(3, 3))
    stopped, started = changes(story.do(FEEDBACK))
    assert (ClockKind.FEEDBACK, ClockOutcome.MET) == (stopped.kind, stopped.outcome)
    assert (ClockKind.FOLLOW_UP, Rules().follow_up_workdays) == (started.kind, started.limit_workdays)


def test_feedback_after_one_working_day_is_missed() -> None:
    story = completed().at(end_of(3, 3))
    assert ClockOutcome.MISSED is changes(story.do(FEEDBACK))[1].outcome


def test_feedback_says_what_was_told_and_how() -> None:
    (found,) = completed().do(FEEDBACK)
    assert isinstance(found, events.FeedbackGiven)
    assert (Channel.HOTLINE, FEEDBACK.told) == (found.told_by, found.private.note if found.private else "")
    with pytest.raises(errors.FieldMissing, match="told"):
        completed().do(acts.GiveFeedback(told_by=Channel.HOTLINE, told=""))


def test_feedback_needs_a_completed_case() -> None:
    with pytest.raises(errors.ActNotAllowed):
        handling().do(FEEDBACK)


def test_the_department_that_completed_the_case_gives_the_feedback() -> None:
    with pytest.raises(errors.NotInCharge) as refusal:
        completed().do(FEEDBACK, department="collection")
    assert "policy" in refusal.value.remedy


def test_a_follow_up_is_recorded_within_its_period() -> None:
    story = fed_back()
    (change,) = changes(story.do(FOLLOW_UP))
    assert (ClockKind.FOLLOW_UP, ClockOutcome.MET) == (change.kind, change.outcome)
    assert (Stage.FOLLOWED_UP, Satisfaction.SATISFIED, ()) == (
        story.case.stage,
        story.case.satisfaction,
        story.case.clocks,
    )


def test_the_follow_up_period_is_a_setting() -> None:
    story = completed()
    story.rules = Rules(follow_up_workdays=3)
    assert end_of(3, 5) == story.then(FEEDBACK).clock(ClockKind.FOLLOW_UP).due_at


def test_only_the_share_that_is_set_is_to_be_followed_up() -> None:
    story = completed()
    story.rules = Rules(follow_up_sample_percent=0)
    assert () == story.then(FEEDBACK).case.clocks
    drawn = [sum(in_sample(f"330102-2026-{number:07}", share) for number in range(1000)) for share in (0, 30, 100)]
    assert [0, 316, 1000] == drawn


def test_who_is_outside_the_sample_may_be_called_all_the_same() -> None:
    story = completed()
    story.rules = Rules(follow_up_sample_percent=0)
    assert Stage.FOLLOWED_UP is story.then(FEEDBACK, FOLLOW_UP).case.stage


def test_whoever_completed_the_case_does_not_follow_it_up() -> None:
    story = handling().then(COMPLETE, actor="wang").then(FEEDBACK, actor="li")
    with pytest.raises(errors.SamePerson, match="wang"):
        story.do(FOLLOW_UP, actor="wang")


def test_whoever_gave_the_feedback_does_not_follow_it_up() -> None:
    story = handling().then(COMPLETE, actor="wang").then(FEEDBACK, actor="li")
    with pytest.raises(errors.SamePerson, match="li"):
        story.do(FOLLOW_UP, actor="li")


def test_whoever_answered_on_the_spot_does_not_follow_it_up() -> None:
    story = Story().then(
        acts.Register(
            taxpayer_name=REGISTER.taxpayer_name,
            contact=REGISTER.contact,
            text=REGISTER.text,
            category=REGISTER.category,
            channel=REGISTER.channel,
            answer="可以享受减免",
        ),
        actor="zhao",
    )
    with pytest.raises(errors.SamePerson, match="zhao"):
        story.do(FOLLOW_UP, actor="zhao")
    assert Stage.FOLLOWED_UP is story.then(FOLLOW_UP, actor="qian").case.stage


def test_who_was_not_reached_is_called_again() -> None:
    story = fed_back().then(acts.FollowUp(satisfaction=Satisfaction.NOT_REACHED), FOLLOW_UP)
    assert Satisfaction.SATISFIED is story.case.satisfaction


def test_a_reopened_case_is_handled_again_with_clocks_of_its_own() -> None:
    story = followed_up().at(day(3, 16)).then(REOPEN)
    clock = story.clock(ClockKind.HANDLE)
    assert (Stage.HANDLING, 1, None, day(3, 16)) == (
        story.case.stage,
        story.case.round,
        story.case.satisfaction,
        clock.started_at,
    )


def test_reopening_before_the_follow_up_voids_its_clock() -> None:
    stopped, started = changes(fed_back().do(REOPEN))
    assert (ClockKind.FOLLOW_UP, ClockOutcome.VOID) == (stopped.kind, stopped.outcome)
    assert ClockKind.HANDLE is started.kind


def test_every_reopening_is_counted() -> None:
    assert 2 == followed_up().then(REOPEN, COMPLETE, FEEDBACK, REOPEN).case.round


def test_a_reopening_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        followed_up().do(acts.Reopen(reason=""))


def test_a_case_that_is_fed_back_can_be_written_off() -> None:
    story = fed_back().then(WRITE_OFF)
    assert (Stage.WRITTEN_OFF, ()) == (story.case.stage, story.case.clocks)


def test_a_follow_up_clock_that_still_ran_is_void_when_the_case_is_written_off() -> None:
    (change,) = changes(fed_back().do(WRITE_OFF))
    assert (ClockKind.FOLLOW_UP, ClockOutcome.VOID) == (change.kind, change.outcome)


def test_a_case_that_is_not_fed_back_is_not_written_off() -> None:
    with pytest.raises(errors.ActNotAllowed):
        completed().do(WRITE_OFF)


def test_what_was_withdrawn_or_went_to_reconsideration_can_be_written_off() -> None:
    assert Stage.WRITTEN_OFF is withdrawn().then(WRITE_OFF).case.stage
    assert Stage.WRITTEN_OFF is reconsidered().then(WRITE_OFF).case.stage


def test_a_dissatisfaction_that_nothing_explains_bars_the_write_off() -> None:
    with pytest.raises(errors.DissatisfactionOpen):
        fed_back().then(UNHAPPY).do(WRITE_OFF)


def test_a_remark_explains_a_dissatisfaction() -> None:
    explained = acts.FollowUp(satisfaction=Satisfaction.NOT_SATISFIED, remark="政策如此，已再次解释")
    assert Stage.WRITTEN_OFF is fed_back().then(explained, WRITE_OFF).case.stage


def test_a_blank_remark_explains_nothing() -> None:
    blank = acts.FollowUp(satisfaction=Satisfaction.NOT_SATISFIED, remark="  ")
    with pytest.raises(errors.DissatisfactionOpen):
        fed_back().then(blank).do(WRITE_OFF)


def test_reopening_answers_a_dissatisfaction() -> None:
    assert Stage.WRITTEN_OFF is fed_back().then(UNHAPPY, REOPEN, COMPLETE, FEEDBACK, WRITE_OFF).case.stage


def test_a_referred_case_is_written_off_when_the_other_ledger_has_its_conclusion() -> None:
    story = received().then(DISPATCH, COMPLETE, FEEDBACK)
    with pytest.raises(errors.LedgersDisagree, match=HANGZHOU):
        story.do(WRITE_OFF)
    assert Stage.WRITTEN_OFF is story.then(HEARD, WRITE_OFF).case.stage


def test_the_ledger_that_referred_a_case_writes_it_off_when_it_has_heard_the_conclusion() -> None:
    story = concluded().then(WRITE_OFF)
    assert (Stage.WRITTEN_OFF, Custody.RELEASED) == (story.case.stage, story.case.custody)


def test_a_referred_case_without_a_conclusion_is_not_written_off() -> None:
    with pytest.raises(errors.ActNotAllowed):
        released().do(WRITE_OFF)


def test_a_written_off_case_is_closed() -> None:
    with pytest.raises(errors.ActNotAllowed) as refusal:
        written_off().do(REOPEN)
    assert "Nothing can be done with it in this ledger." == refusal.value.remedy


def test_the_time_of_the_conclusion_is_that_of_the_feedback() -> None:
    story = completed().at(day(3, 3)).then(FEEDBACK)
    assert story.case.conclusion is not None
    assert (Outcome.COMPLETED, day(3, 3)) == (story.case.conclusion.outcome, story.case.conclusion.completed_at)
    assert MONDAY < day(3, 3)


def test_a_call_that_reached_nobody_does_not_undo_a_dissatisfaction() -> None:
    nobody = acts.FollowUp(satisfaction=Satisfaction.NOT_REACHED)
    with pytest.raises(errors.DissatisfactionOpen):
        fed_back().then(UNHAPPY, nobody).do(WRITE_OFF)
