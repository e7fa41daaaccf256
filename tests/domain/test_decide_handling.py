"""Handling, joint handling, deferral, reconsideration and withdrawal (§四(二))."""

from dataclasses import replace
from datetime import UTC, datetime

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Outcome, Role, Stage
from tests.domain.story import (
    ASK,
    COMPLETE,
    DAY,
    DEFER,
    DISPATCH,
    EXAMPLES,
    FEEDBACK,
    JOINT,
    MONDAY,
    RECONSIDER,
    REOPEN,
    WITHDRAW,
    Story,
    changes,
    completed,
    day,
    deferred,
    end_of,
    fed_back,
    forwarded,
    handling,
    joint,
    received,
    reconsidered,
    registered,
    withdrawn,
)

PART = acts.CompletePart(result="已提出意见")


def outcomes(found: tuple[events.Event, ...]) -> dict[ClockKind, ClockOutcome]:
    """How each clock that stopped counts."""
    return {change.kind: change.outcome for change in changes(found) if change.outcome is not None}


def test_completing_in_time_meets_the_handling_clock_and_starts_a_feedback_clock_of_one_working_day() -> None:
    story = handling().at(day(3, 10, 23))
    found = story.do(COMPLETE)
    assert {ClockKind.HANDLE: ClockOutcome.MET} == outcomes(found)
    assert (1, end_of(3, 11)) == (
        story.clock(ClockKind.FEEDBACK).limit_workdays,
        story.clock(ClockKind.FEEDBACK).due_at,
    )


def test_completing_at_the_end_of_the_last_day_is_too_late() -> None:
    assert {ClockKind.HANDLE: ClockOutcome.MISSED} == outcomes(handling().at(end_of(3, 10)).do(COMPLETE))


def test_a_miss_is_counted_once_when_it_was_recorded_before() -> None:
    story = handling().at(end_of(3, 10)).then(acts.MarkOverdue())
    assert [ClockAction.STOPPED, ClockAction.STARTED] == [change.action for change in changes(story.do(COMPLETE))]


def test_a_case_is_completed_with_a_result() -> None:
    with pytest.raises(errors.FieldMissing, match="result"):
        handling().do(acts.Complete(result=""))


def test_whoever_completes_has_handled_the_case() -> None:
    assert frozenset({"wang"}) == handling().then(COMPLETE, actor="wang").case.handlers


# ---------------------------------------------------------------- joint handling


def test_joint_handling_gives_every_department_a_clock_of_five_working_days() -> None:
    story = joint()
    assert [("policy", 5, end_of(3, 10)), ("collection", 5, end_of(3, 10)), ("audit", 5, end_of(3, 10))] == [
        (clock.department, clock.limit_workdays, clock.due_at) for clock in story.case.clocks
    ]


def test_joint_handling_meets_the_dispatch_clock() -> None:
    assert {ClockKind.DISPATCH: ClockOutcome.MET} == outcomes(forwarded().do(JOINT))


def test_joint_handling_replaces_the_handling_clock_that_ran() -> None:
    assert {ClockKind.HANDLE: ClockOutcome.VOID} == outcomes(handling().do(JOINT))


def test_joint_handling_of_a_referred_case_replaces_both_clocks_of_its_segment() -> None:
    assert {ClockKind.DISPATCH: ClockOutcome.MET, ClockKind.HANDLE: ClockOutcome.VOID} == outcomes(received().do(JOINT))


def test_joint_handling_takes_at_least_two_departments() -> None:
    with pytest.raises(errors.FieldMissing, match="assisting_departments"):
        forwarded().do(replace(JOINT, assisting_departments=()))


@pytest.mark.parametrize("assisting", [("audit", "audit"), ("policy",), ("审计",)])
def test_joint_handling_names_each_department_once_and_rightly(assisting: tuple[str, ...]) -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        forwarded().do(replace(JOINT, assisting_departments=assisting))
    assert "assisting_departments" == refusal.value.field


def test_a_part_that_is_done_meets_the_clock_of_its_department_alone() -> None:
    story = joint()
    found = changes(story.do(PART, department="audit"))
    assert [("audit", ClockOutcome.MET)] == [(change.department, change.outcome) for change in found]
    assert ("collection",) == story.case.open_parts


def test_a_part_that_is_late_is_missed_and_the_others_are_not() -> None:
    story = joint().at(day(3, 10)).then(PART, department="collection").at(day(3, 11))
    assert [ClockAction.OVERDUE, ClockAction.STOPPED] == [c.action for c in changes(story.do(PART, department="audit"))]


def test_a_department_without_an_open_part_has_none_to_complete() -> None:
    with pytest.raises(errors.NotAPart, match="hall"):
        joint().do(PART, department="hall")


def test_a_part_is_completed_once() -> None:
    with pytest.raises(errors.NotAPart):
        joint().then(PART, department="audit").do(PART, department="audit")


def test_a_case_handled_jointly_is_not_complete_before_every_part_is() -> None:
    story = joint().then(PART, department="audit")
    with pytest.raises(errors.PartsOpen, match="collection"):
        story.do(COMPLETE)


def test_a_case_handled_jointly_is_complete_when_all_parts_are() -> None:
    story = joint().then(PART, department="audit").then(PART, department="collection")
    found = story.do(COMPLETE)
    assert isinstance(found[0], events.Completed)
    assert found[0].jointly
    assert {ClockKind.JOINT: ClockOutcome.MET} == outcomes(found)
    assert [ClockKind.FEEDBACK] == [clock.kind for clock in story.case.clocks]


def test_whoever_completed_a_part_has_handled_the_case() -> None:
    story = joint().then(PART, department="audit", actor="li")
    assert "li" in story.case.handlers


# ---------------------------------------------------------------- deferral


def test_a_deferred_case_leaves_the_on_time_rate() -> None:
    story = handling()
    assert {ClockKind.HANDLE: ClockOutcome.VOID} == outcomes(story.do(DEFER))
    assert [ClockKind.REVIEW] == [clock.kind for clock in story.case.clocks]


def test_the_review_of_a_deferred_case_is_due_at_the_end_of_its_day() -> None:
    story = handling().then(replace(DEFER, review_at=day(3, 20, 9)))
    assert end_of(3, 20) == story.clock(ClockKind.REVIEW).due_at


def test_a_deferred_case_that_is_looked_at_again_in_time_may_stay_deferred() -> None:
    story = handling().then(replace(DEFER, review_at=day(3, 20))).at(day(3, 19))
    found = story.do(replace(DEFER, review_at=day(4, 20)))
    assert {ClockKind.REVIEW: ClockOutcome.MET} == outcomes(found)
    assert (Stage.DEFERRED, end_of(4, 20)) == (story.case.stage, story.clock(ClockKind.REVIEW).due_at)


def test_resuming_is_the_review_and_starts_the_handling_anew() -> None:
    story = deferred().at(day(4, 1))
    assert {ClockKind.REVIEW: ClockOutcome.MET} == outcomes(story.do(acts.Resume()))
    assert [ClockKind.HANDLE] == [clock.kind for clock in story.case.clocks]


def test_joint_handling_may_be_deferred_and_is_then_its_leads_alone() -> None:
    case = joint().then(DEFER).case
    assert (Stage.DEFERRED, "policy", (), "") == (case.stage, case.department, case.open_parts, case.lead_department)


def test_a_case_that_was_late_when_it_was_deferred_stays_missed() -> None:
    assert {ClockKind.HANDLE: ClockOutcome.MISSED} == outcomes(handling().at(day(3, 11)).do(DEFER))


def test_a_deferred_case_has_an_owner_a_review_date_and_a_condition() -> None:
    (found,) = handling().do(DEFER)
    assert isinstance(found, events.Deferred)
    assert (DEFER.owner, DEFER.review_at, DEFER.condition) == (
        found.owner,
        found.review_at,
        found.private.note if found.private else "",
    )


@pytest.mark.parametrize(
    ("field", "value"), [("owner", ""), ("condition", " "), ("review_at", MONDAY), ("review_at", MONDAY - DAY)]
)
def test_a_deferral_without_them_is_refused(field: str, value: object) -> None:
    with pytest.raises(errors.Refused) as refusal:
        handling().do(replace(DEFER, **{field: value}))  # type: ignore[arg-type]
    assert field == refusal.value.field


def test_a_resumed_case_is_handled_with_a_new_clock() -> None:
    story = deferred().at(day(4, 1)).then(acts.Resume())
    clock = story.clock(ClockKind.HANDLE)
    assert (Stage.HANDLING, day(4, 1), 5) == (story.case.stage, clock.started_at, clock.limit_workdays)


def test_parking_a_case_again_and_again_gives_no_more_working_days() -> None:
    story = deferred().at(day(4, 1)).then(acts.Resume())
    story.at(day(4, 3)).then(replace(DEFER, review_at=day(4, 20))).at(day(4, 20)).then(acts.Resume())
    assert (3, end_of(4, 23)) == (story.clock(ClockKind.HANDLE).limit_workdays, story.clock(ClockKind.HANDLE).due_at)
    story.at(day(4, 23)).then(replace(DEFER, review_at=day(5, 6))).at(day(5, 6)).then(acts.Resume())
    assert (0, end_of(5, 6)) == (story.clock(ClockKind.HANDLE).limit_workdays, story.clock(ClockKind.HANDLE).due_at)


def test_a_case_that_was_late_when_it_was_parked_again_has_nothing_left() -> None:
    story = deferred().at(day(4, 1)).then(acts.Resume())
    story.at(day(4, 13)).then(replace(DEFER, review_at=day(5, 6))).then(acts.Resume())
    assert 0 == story.clock(ClockKind.HANDLE).limit_workdays


def test_a_reopened_case_that_is_parked_is_resumed_with_a_new_clock() -> None:
    story = handling().then(DEFER, acts.Resume(), COMPLETE, FEEDBACK, REOPEN, DEFER, acts.Resume())
    assert 5 == story.clock(ClockKind.HANDLE).limit_workdays


@pytest.mark.parametrize("review_at", [MONDAY + 367 * DAY, datetime(9999, 12, 31, 23, tzinfo=UTC)])
def test_a_deferred_case_is_not_put_out_of_sight(review_at: datetime) -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        handling().do(replace(DEFER, review_at=review_at))
    assert "review_at" == refusal.value.field


# ---------------------------------------------------------------- other ways out


@pytest.mark.parametrize("begin", [forwarded, handling, joint, deferred])
def test_a_case_that_goes_to_reconsideration_stops_every_clock_and_keeps_its_reference(begin: type[Story]) -> None:
    story = begin()
    (found,) = story.do(RECONSIDER, department=story.case.department)
    assert (Stage.RECONSIDERATION, ()) == (story.case.stage, story.case.clocks)
    assert RECONSIDER.reference == (found.private.note if found.private else "")
    assert story.case.conclusion is not None
    assert Outcome.RECONSIDERATION is story.case.conclusion.outcome


def test_reconsideration_has_a_reference() -> None:
    with pytest.raises(errors.FieldMissing, match="reference"):
        handling().do(acts.SendToReconsideration(reference=""))


@pytest.mark.parametrize("begin", [registered, forwarded, handling, joint, deferred])
def test_the_taxpayer_may_withdraw_until_there_is_a_result(begin: type[Story]) -> None:
    story = begin().then(WITHDRAW)
    assert (Stage.WITHDRAWN, ()) == (story.case.stage, story.case.clocks)


@pytest.mark.parametrize("begin", [completed, fed_back, withdrawn, reconsidered])
def test_what_is_over_is_not_withdrawn(begin: type[Story]) -> None:
    with pytest.raises(errors.ActNotAllowed):
        begin().do(WITHDRAW)


def test_a_withdrawal_is_neither_met_nor_missed() -> None:
    assert {ClockKind.HANDLE: ClockOutcome.VOID} == outcomes(handling().do(WITHDRAW))


def test_a_withdrawal_after_the_deadline_leaves_the_miss() -> None:
    assert {ClockKind.HANDLE: ClockOutcome.MISSED} == outcomes(handling().at(day(3, 11)).do(WITHDRAW))


# ---------------------------------------------------------------- overdue


def test_a_passed_deadline_is_recorded_once() -> None:
    story = handling().at(end_of(3, 10))
    (found,) = story.do(acts.MarkOverdue())
    assert [(ClockKind.HANDLE, ClockAction.OVERDUE)] == [(change.kind, change.action) for change in found.clocks]
    assert () == story.do(acts.MarkOverdue())


def test_nothing_is_overdue_before_the_deadline() -> None:
    assert () == handling().at(day(3, 10, 23)).do(acts.MarkOverdue())


def test_all_deadlines_that_passed_are_recorded_together() -> None:
    found = changes(joint().at(end_of(3, 10)).do(acts.MarkOverdue()))
    assert ["policy", "collection", "audit"] == [change.department for change in found]


def test_recording_a_miss_leaves_the_case_where_it_is() -> None:
    story = handling().at(end_of(3, 10)).then(acts.MarkOverdue())
    assert (Stage.HANDLING, True) == (story.case.stage, story.clock(ClockKind.HANDLE).overdue)


def test_what_was_done_before_a_miss_was_recorded_may_still_be_written_down() -> None:
    story = handling().at(day(3, 11, 9)).then(acts.MarkOverdue())
    found = story.do(COMPLETE, occurred_at=day(3, 11, 8))
    assert {ClockKind.HANDLE: ClockOutcome.MISSED} == outcomes(found)


def test_a_dispatch_that_was_late_and_its_handling_are_counted_apart() -> None:
    story = forwarded().at(day(3, 4))
    assert {ClockKind.DISPATCH: ClockOutcome.MISSED} == outcomes(story.do(DISPATCH))
    assert {ClockKind.HANDLE: ClockOutcome.MET} == outcomes(story.do(COMPLETE))


@pytest.mark.parametrize("kind", [type(ASK), acts.Complete, acts.Defer], ids=lambda kind: kind.__name__)
def test_tax_service_does_not_do_the_departments_work(kind: type[acts.Act]) -> None:
    with pytest.raises(errors.RoleNotAllowed):
        handling().do(EXAMPLES[kind], role=Role.TAX_SERVICE)
