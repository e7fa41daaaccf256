"""Who works in a bureau: an act is done by somebody who is listed, in a role he has, for a department of his."""

import pytest

from kuaixiang.domain import acts, errors
from kuaixiang.domain.staff import UNLISTED, Department, Officer, Staff
from kuaixiang.domain.words import ClockKind, DepartmentKind, Role
from tests.domain.story import COMPLETE, DISPATCH, FORWARD, REGISTER, Story, forwarded, handling, joint

DEPARTMENTS = {
    "window": DepartmentKind.HALL,
    "service": DepartmentKind.TAX_SERVICE,
    "policy": DepartmentKind.POLICY,
    "collection": DepartmentKind.COLLECTION,
}
STAFF = Staff(
    version="2026.1",
    departments={code: Department(code=code, name=code, kind=kind) for code, kind in DEPARTMENTS.items()},
    officers={
        "wang": Officer(
            actor="wang",
            name="",
            roles=frozenset({Role.REGISTRAR}),
            departments=frozenset({"window"}),
        ),
        "li": Officer(
            actor="li",
            name="",
            roles=frozenset({Role.TAX_SERVICE}),
            departments=frozenset({"service"}),
        ),
    },
)


def test_an_officer_on_the_list_acts_in_a_role_and_a_department_of_his() -> None:
    story = Story().then(REGISTER, actor="wang", department="window", staff=STAFF)
    assert "window" == story.case.department


def test_who_is_not_on_the_list_does_nothing() -> None:
    with pytest.raises(errors.UnknownOfficer, match="zhao"):
        Story().do(REGISTER, actor="zhao", department="window", staff=STAFF)


def test_a_role_that_an_officer_does_not_have_is_refused() -> None:
    with pytest.raises(errors.RoleNotHeld) as refusal:
        Story().do(REGISTER, actor="wang", role=Role.TAX_SERVICE, department="window", staff=STAFF)
    assert "The roles of wang are registrar." == refusal.value.remedy


def test_a_department_that_an_officer_does_not_belong_to_is_refused() -> None:
    with pytest.raises(errors.NotInDepartment, match="policy"):
        Story().do(REGISTER, actor="wang", department="policy", staff=STAFF)


def test_a_case_is_dispatched_to_a_department_that_the_bureau_has() -> None:
    with pytest.raises(errors.UnknownDepartment) as refusal:
        forwarded().do(acts.Dispatch(to_department="customs"), actor="li", department="service", staff=STAFF)
    assert ("to_department", "Its departments are window, service, policy, collection.") == (
        refusal.value.field,
        refusal.value.remedy,
    )


@pytest.mark.parametrize(
    "start",
    [
        acts.StartJointHandling(lead_department="customs", assisting_departments=("policy",)),
        acts.StartJointHandling(lead_department="policy", assisting_departments=("customs",)),
    ],
)
def test_joint_handling_names_departments_that_the_bureau_has(start: acts.StartJointHandling) -> None:
    with pytest.raises(errors.UnknownDepartment, match="customs"):
        forwarded().do(start, actor="li", department="service", staff=STAFF)


def test_a_bureau_without_a_list_believes_its_terminals() -> None:
    assert "window" == Story().then(REGISTER, actor="anybody", department="window", staff=UNLISTED).case.department


def test_what_the_system_does_needs_nobody_on_the_list() -> None:
    assert () == forwarded().do(acts.MarkOverdue(), staff=STAFF)


def test_a_handler_is_of_the_department_that_handles_the_case() -> None:
    with pytest.raises(errors.NotInCharge) as refusal:
        handling().do(COMPLETE, department="collection")
    assert "Department collection is not in charge of case 330102-2026-0000001." == str(refusal.value)


def test_in_joint_handling_the_lead_alone_completes_the_case() -> None:
    with pytest.raises(errors.NotInCharge, match="audit"):
        joint().do(COMPLETE, department="audit")


def test_referrals_arrive_at_the_department_for_tax_service() -> None:
    assert ("service", "tax-service") == (STAFF.receiving_department, UNLISTED.receiving_department)


def test_a_joint_clock_says_the_kind_of_its_department() -> None:
    story = forwarded()
    start = acts.StartJointHandling(lead_department="policy", assisting_departments=("collection",))
    story.do(start, actor="li", department="service", staff=STAFF)
    kinds = {clock.department: clock.department_kind for clock in story.case.clocks if clock.kind is ClockKind.JOINT}
    assert {"policy": DepartmentKind.POLICY, "collection": DepartmentKind.COLLECTION} == kinds


def test_the_kind_of_a_department_that_is_gone_is_other() -> None:
    assert DepartmentKind.OTHER is STAFF.kind_of("abolished")


def test_forwarding_by_a_listed_officer_of_another_department_is_refused() -> None:
    with pytest.raises(errors.NotInDepartment):
        Story().then(REGISTER).do(FORWARD, actor="wang", department="service", staff=STAFF)


def test_dispatching_to_a_listed_department_is_done() -> None:
    assert "policy" == forwarded().then(DISPATCH, actor="li", department="service", staff=STAFF).case.department
