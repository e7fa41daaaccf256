"""When an act is said to have happened: not in the future, not long ago, not before the case's last act."""

from datetime import timedelta

import pytest

from kuaixiang.domain import acts, errors
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import ClockKind, Outcome
from tests.domain.story import (
    COMPLETE,
    DISPATCH,
    FEEDBACK,
    FOLLOW_UP,
    FORWARD,
    HANGZHOU,
    HOUR,
    MONDAY,
    REGISTER,
    Story,
    day,
    end_of,
    handling,
    received,
    registered,
)

INSTANT = timedelta(microseconds=1)


def test_an_act_lies_not_in_the_future() -> None:
    with pytest.raises(errors.TimeInFuture):
        Story().do(REGISTER, occurred_at=MONDAY + INSTANT)


def test_an_act_may_be_recorded_on_the_next_working_day() -> None:
    story = Story(now=day(3, 3, 23)).then(REGISTER, occurred_at=day(3, 2, 0))
    assert (day(3, 2, 0), end_of(3, 3)) == (story.case.registered_at, story.clock(ClockKind.FORWARD).due_at)


def test_an_act_of_two_working_days_ago_is_recorded_with_the_present_time() -> None:
    with pytest.raises(errors.RecordedTooLate):
        Story(now=day(3, 4, 0)).do(REGISTER, occurred_at=day(3, 2, 23))


def test_days_off_do_not_count_towards_that() -> None:
    # Thursday's act on Monday: the Friday is off.
    assert day(3, 5) == Story(now=day(3, 9)).then(REGISTER, occurred_at=day(3, 5)).case.registered_at


def test_how_far_back_is_a_setting() -> None:
    story = Story(now=day(3, 4), rules=Rules(backdating_workdays_max=2))
    assert day(3, 2) == story.then(REGISTER, occurred_at=day(3, 2)).case.registered_at


def test_an_act_lies_not_before_the_cases_last_one() -> None:
    story = registered().at(MONDAY + 2 * HOUR)
    with pytest.raises(errors.OutOfOrder):
        story.do(FORWARD, occurred_at=MONDAY - INSTANT)
    assert MONDAY == story.then(FORWARD, occurred_at=MONDAY).case.last_at


def test_a_deadline_counts_by_when_it_was_done_not_by_when_it_was_written_down() -> None:
    story = handling().at(day(3, 11, 9))
    found = story.do(COMPLETE, occurred_at=day(3, 10, 17))
    assert "MET" == found[0].clocks[0].outcome.name  # type: ignore[union-attr]


def test_what_a_peer_acknowledged_meanwhile_does_not_stand_in_the_way() -> None:
    story = received().then(DISPATCH, COMPLETE, FEEDBACK).at(MONDAY + 2 * HOUR)
    story.do(acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=0, outcome=Outcome.COMPLETED))
    assert MONDAY + HOUR == story.then(FOLLOW_UP, occurred_at=MONDAY + HOUR).case.last_at


def test_a_refusal_of_the_time_comes_before_every_other() -> None:
    with pytest.raises(errors.TimeInFuture):
        registered().do(COMPLETE, occurred_at=MONDAY + HOUR)
