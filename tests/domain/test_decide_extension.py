"""Extension: before the deadline, for a reason, once, up to ten working days, by the right leader (§四(二)1-2)."""

from dataclasses import replace
from datetime import timedelta

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.staff import Department, Officer, Staff
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, DepartmentKind, Role, Stage
from tests.domain.story import (
    ACCEPT,
    ASK,
    COMPLETE,
    DEFER,
    DISPATCH,
    FEEDBACK,
    JOINT,
    REOPEN,
    Story,
    changes,
    day,
    end_of,
    fed_back,
    handling,
    joint,
    registered,
)

APPROVE = acts.ApproveExtension()
REFUSE = acts.RefuseExtension(reason="可以按期办结")
DUE = end_of(3, 10)
"""Of a case handled since Monday 2 March: 3, 4, 5, 9, 10, the 6th being off."""
BUREAU_HEAD = {"role": Role.BUREAU_HEAD}


def test_asking_changes_no_clock_and_is_pending_until_it_is_decided() -> None:
    story = handling()
    (asked,) = story.do(ASK)
    assert () == asked.clocks
    (pending,) = story.case.extensions
    assert (5, "handler-1", "") == (pending.workdays, pending.asked_by, pending.for_department)


def test_asking_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        handling().do(replace(ASK, reason=""))


@pytest.mark.parametrize("workdays", [0, -1, 251, 2**32 - 1])
def test_asking_names_a_number_of_days_that_can_be(workdays: int) -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        joint().do(replace(ASK, workdays=workdays))
    assert "workdays" == refusal.value.field


def test_a_handler_alone_asks() -> None:
    with pytest.raises(errors.RoleNotAllowed):
        handling().do(ASK, role=Role.TAX_SERVICE)


def test_asking_is_possible_until_the_last_instant_before_the_deadline() -> None:
    story = handling().at(DUE - timedelta(microseconds=1)).then(ASK)
    assert story.case.extensions


def test_asking_at_the_deadline_is_too_late() -> None:
    with pytest.raises(errors.ExtensionTooLate):
        handling().at(DUE).do(ASK)


def test_asking_is_too_late_once_the_case_is_overdue() -> None:
    story = handling().at(DUE).then(acts.MarkOverdue())
    with pytest.raises(errors.ExtensionTooLate):
        story.do(ASK, occurred_at=DUE - timedelta(hours=1))


def test_an_extension_to_ten_working_days_in_all_can_be_asked_for() -> None:
    assert 5 == ASK.workdays
    assert handling().then(ASK).case.extensions


def test_an_extension_past_ten_working_days_in_all_is_refused() -> None:
    with pytest.raises(errors.ExtensionTooLong) as refusal:
        handling().do(replace(ASK, workdays=6))
    assert "Ask for at most 5 working day(s)." == refusal.value.remedy


def test_a_pending_request_is_not_asked_again() -> None:
    with pytest.raises(errors.ExtensionPending):
        handling().then(ASK).do(ASK)


def test_an_extension_is_given_once() -> None:
    story = handling().then(replace(ASK, workdays=1), APPROVE)
    with pytest.raises(errors.ExtensionOnce):
        story.do(replace(ASK, workdays=1))


def test_after_a_refusal_one_may_ask_again() -> None:
    assert handling().then(ASK, REFUSE, ASK).case.extensions


def test_the_deputy_head_in_charge_approves() -> None:
    story = handling().then(ASK)
    (change,) = changes(story.do(APPROVE, role=Role.DEPUTY_HEAD))
    # Ten working days from 2 March: the worked Saturday the 14th counts.
    assert (ClockKind.HANDLE, ClockAction.EXTENDED, 10, end_of(3, 16)) == (
        change.kind,
        change.action,
        change.limit_workdays,
        change.due_at,
    )
    clock = story.clock(ClockKind.HANDLE)
    assert (True, end_of(3, 16)) == (clock.extended, clock.due_at)


def test_the_approval_names_who_asked_and_for_how_long() -> None:
    (approved,) = handling().then(ASK).do(APPROVE)
    assert isinstance(approved, events.ExtensionApproved)
    assert (5, "handler-1") == (approved.workdays, approved.asked_by)


@pytest.mark.parametrize("decision", [APPROVE, REFUSE], ids=["approve", "refuse"])
def test_the_bureau_head_does_not_decide_for_the_deputy_head_in_charge(decision: acts.Act) -> None:
    with pytest.raises(errors.RoleNotAllowed, match="bureau-head"):
        handling().then(ASK).do(decision, **BUREAU_HEAD)


@pytest.mark.parametrize("decision", [APPROVE, REFUSE], ids=["approve", "refuse"])
def test_whoever_asked_does_not_decide(decision: acts.Act) -> None:
    with pytest.raises(errors.SamePerson, match="zhang"):
        handling().then(ASK, actor="zhang").do(decision, actor="zhang")


@pytest.mark.parametrize("decision", [APPROVE, REFUSE], ids=["approve", "refuse"])
def test_there_is_nothing_to_decide_when_nobody_asked(decision: acts.Act) -> None:
    with pytest.raises(errors.NoExtensionAsked):
        handling().do(decision)


def test_a_refusal_is_recorded_with_its_reason_and_moves_no_deadline() -> None:
    story = handling().then(ASK)
    (refused,) = story.do(REFUSE)
    assert isinstance(refused, events.ExtensionRefused)
    assert ("handler-1", REFUSE.reason) == (refused.asked_by, refused.private.note if refused.private else "")
    clock = story.clock(ClockKind.HANDLE)
    assert ((), False, DUE) == (story.case.extensions, clock.extended, clock.due_at)


def test_a_refusal_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        handling().then(ASK).do(replace(REFUSE, reason=""))


@pytest.mark.parametrize("swept", [True, False], ids=["recorded as overdue", "not recorded yet"])
def test_a_decision_after_the_deadline_saves_nothing_whether_or_not_the_miss_is_recorded(*, swept: bool) -> None:
    story = handling().then(ASK).at(DUE)
    if swept:
        story.then(acts.MarkOverdue())
    with pytest.raises(errors.ExtensionTooLate):
        story.do(APPROVE)
    assert Stage.HANDLING is story.then(REFUSE).case.stage


def test_completing_ends_a_pending_request() -> None:
    assert () == handling().then(ASK, COMPLETE).case.extensions


def test_returning_a_dispatch_ends_a_pending_request() -> None:
    assert () == handling().then(ASK, acts.ReturnDispatch(reason="不属于本部门职责")).case.extensions


def test_deferring_ends_a_pending_request() -> None:
    assert () == handling().then(ASK, DEFER).case.extensions


def test_an_extended_case_completed_in_the_added_days_is_met() -> None:
    story = handling().then(ASK, APPROVE).at(day(3, 16))
    assert () == story.do(acts.MarkOverdue())
    assert ClockOutcome.MET is changes(story.do(COMPLETE))[0].outcome


def test_a_directly_accepted_case_can_be_extended() -> None:
    story = registered().then(ACCEPT).then(ASK, department="hall").then(APPROVE)
    assert story.clock(ClockKind.HANDLE).extended


def test_a_reopened_case_may_be_extended_again() -> None:
    story = handling().then(ASK, APPROVE, COMPLETE, FEEDBACK, REOPEN, ASK)
    assert story.case.extensions


# ---------------------------------------------------------------- joint handling


def test_in_joint_handling_the_bureau_head_approves() -> None:
    story = joint().then(ASK)
    (change,) = changes(story.do(APPROVE, **BUREAU_HEAD))
    assert (ClockKind.JOINT, ClockAction.EXTENDED, "policy", 10) == (
        change.kind,
        change.action,
        change.department,
        change.limit_workdays,
    )


def test_in_joint_handling_each_department_has_an_extension_of_its_own() -> None:
    story = joint().then(replace(ASK, workdays=2)).then(replace(ASK, workdays=3), department="audit")
    story.do(acts.ApproveExtension(for_department="audit"), **BUREAU_HEAD)
    assert [("policy", 2)] == [(asked.for_department, asked.workdays) for asked in story.case.extensions]
    limits = {clock.department: clock.limit_workdays for clock in story.case.clocks}
    assert {"policy": 5, "collection": 5, "audit": 8} == limits


def test_where_several_departments_have_asked_the_head_says_whose_request_he_decides() -> None:
    story = joint().then(ASK).then(ASK, department="audit")
    with pytest.raises(errors.FieldMissing, match="policy, audit") as refusal:
        story.do(APPROVE, **BUREAU_HEAD)
    assert "for_department" == refusal.value.field


def test_the_taxpayer_is_told_why_joint_handling_takes_longer_before_the_part_is_done() -> None:
    story = joint().then(ASK, department="audit")
    story.do(APPROVE, **BUREAU_HEAD)
    done = acts.CompletePart(result="已提出意见")
    with pytest.raises(errors.ExtensionNotExplained):
        story.do(done, department="audit")
    story.do(acts.ExplainExtension(told="需要核实数据"), department="audit")
    assert "audit" not in story.then(done, department="audit").case.open_parts


def test_the_lead_too_explains_its_extension_before_it_completes() -> None:
    story = joint().then(ASK)
    story.do(APPROVE, **BUREAU_HEAD)
    for department in ("audit", "collection"):
        story.do(acts.CompletePart(result="已提出意见"), department=department)
    with pytest.raises(errors.ExtensionNotExplained):
        story.do(COMPLETE)
    assert Stage.COMPLETED is story.then(acts.ExplainExtension(told="需要核实数据"), COMPLETE).case.stage


def test_an_extension_is_explained_once() -> None:
    story = joint().then(ASK)
    story.do(APPROVE, **BUREAU_HEAD)
    story.do(acts.ExplainExtension(told="需要核实数据"))
    with pytest.raises(errors.NothingToExplain):
        story.do(acts.ExplainExtension(told="需要核实数据"))


def test_the_deputy_head_decides_for_the_departments_he_is_in_charge_of() -> None:
    head = Officer(
        actor="li",
        name="",
        roles=frozenset({Role.DEPUTY_HEAD}),
        departments=frozenset({"leaders"}),
        oversees=frozenset({"collection"}),
    )
    departments = {
        code: Department(code=code, name=code, kind=DepartmentKind.OTHER)
        for code in ("policy", "collection", "leaders")
    }
    staff = Staff(version="1", departments=departments, officers={"li": head})
    with pytest.raises(errors.NotOverseeing, match="policy"):
        handling().then(ASK).do(APPROVE, actor="li", staff=staff)


def test_in_joint_handling_the_deputy_head_does_not_approve() -> None:
    with pytest.raises(errors.RoleNotAllowed, match="deputy-head"):
        joint().then(ASK).do(APPROVE)


def test_the_notice_sets_no_limit_to_the_extension_of_joint_handling() -> None:
    story = joint().then(replace(ASK, workdays=30))
    story.do(APPROVE, **BUREAU_HEAD)
    assert 35 == story.clock(ClockKind.JOINT, "policy").limit_workdays


def test_a_setting_may_limit_the_extension_of_joint_handling() -> None:
    story = joint()
    story.rules = Rules(joint_workdays_total_max=15)
    with pytest.raises(errors.ExtensionTooLong):
        story.do(replace(ASK, workdays=11))
    assert story.then(replace(ASK, workdays=10)).case.extensions


def test_a_part_that_is_done_is_not_extended() -> None:
    story = joint().then(acts.CompletePart(result="已提出意见"), department="audit").then(ASK)
    with pytest.raises(errors.NotInCharge):
        story.do(ASK, department="audit")


def test_joint_handling_after_an_extension_has_one_of_its_own() -> None:
    story = handling().then(ASK, APPROVE, JOINT)
    assert not any(clock.extended for clock in story.case.clocks)
    assert story.then(ASK).case.extensions


def test_a_second_dispatch_does_not_give_a_second_extension() -> None:
    story = handling().then(ASK, APPROVE, acts.ReturnDispatch(reason="不属于本部门职责"), DISPATCH)
    with pytest.raises(errors.ExtensionOnce):
        story.do(ASK)


def test_a_case_that_is_fed_back_cannot_be_extended() -> None:
    story: Story = fed_back()
    with pytest.raises(errors.ActNotAllowed):
        story.do(ASK)
