"""Private data are kept for their term after a case has ended, and for longer where something holds them back."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.case import Case, Mismatch
from kuaixiang.domain.retention import Hold, kept_because, term_began_before, term_ends
from kuaixiang.domain.words import DifferenceKind, Stage
from tests.domain.story import COMPLETE, DISPATCH, FEEDBACK, FORWARD, HANGZHOU, MONDAY, RECONSIDER, REGISTER, Story
from tests.domain.test_decide_ending import WRITE_OFF

YEARS = 5
AFTER = MONDAY + timedelta(days=365 * YEARS + 3)


def written_off() -> Case:
    return Story().then(REGISTER, FORWARD, DISPATCH, COMPLETE, FEEDBACK, WRITE_OFF).case


def test_a_case_is_due_once_its_term_is_over_and_not_a_moment_before() -> None:
    case = written_off()
    ends = term_ends(case.last_at, YEARS)
    assert Hold.TERM is kept_because(case, ends - timedelta(microseconds=1), YEARS, ())
    assert None is kept_because(case, ends, YEARS, ())
    assert Hold.TERM is kept_because(case, ends, YEARS + 1, ())


@pytest.mark.parametrize("stage", sorted(set(Stage) - {Stage.WRITTEN_OFF}))
def test_a_case_that_is_not_written_off_or_open_again_keeps_what_it_has(stage: Stage) -> None:
    assert Hold.OPEN is kept_because(replace(written_off(), stage=stage), AFTER, YEARS, ())


def test_what_else_holds_a_case_back() -> None:
    case = written_off()
    assert Hold.ORDER is kept_because(case, AFTER, YEARS, {case.case_id})
    disputed = replace(case, mismatches=(Mismatch(peer=HANGZHOU, difference=DifferenceKind.DIFFERENT, since=MONDAY),))
    assert Hold.DISPUTE is kept_because(disputed, AFTER, YEARS, ())
    assert Hold.DISPUTE is kept_because(replace(case, awaiting=frozenset({HANGZHOU})), AFTER, YEARS, ())
    reconsidered = Story().then(REGISTER, FORWARD, DISPATCH, RECONSIDER, WRITE_OFF).case
    assert Hold.RECONSIDERATION is kept_because(reconsidered, AFTER, YEARS, ())


@pytest.mark.parametrize(
    ("ended", "years", "last_day"),
    [
        (datetime(2026, 9, 28, 15, 59, tzinfo=UTC), 1, datetime(2027, 9, 28, tzinfo=SHANGHAI)),
        (datetime(2026, 9, 28, 16, 0, tzinfo=UTC), 1, datetime(2027, 9, 29, tzinfo=SHANGHAI)),
        (datetime(2028, 2, 29, 12, tzinfo=SHANGHAI), 1, datetime(2029, 2, 28, tzinfo=SHANGHAI)),
        (datetime(2028, 2, 29, 12, tzinfo=SHANGHAI), 4, datetime(2032, 2, 29, tzinfo=SHANGHAI)),
    ],
)
def test_a_term_ends_with_the_same_day_in_shanghai(ended: datetime, years: int, last_day: datetime) -> None:
    assert last_day + timedelta(days=1) == term_ends(ended, years)
    assert ended <= term_began_before(term_ends(ended, years), years)
