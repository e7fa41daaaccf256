"""Like cases are linked to a lead, whose result completes them; each taxpayer is told by a feedback of its own."""

from dataclasses import replace

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.case import Case
from kuaixiang.domain.words import ClockKind, ClockOutcome, Custody, Stage
from tests.domain.story import (
    FEEDBACK,
    JOINT,
    LEAD_ID,
    REGISTER,
    Story,
    changes,
    completed,
    deferred,
    forwarded,
    handling,
    joint,
    registered,
)

LINK = acts.Link(lead_case_id=LEAD_ID)
WITH_LEAD = acts.CompleteWithLead(lead_case_id=LEAD_ID, result="可以享受减免")


def lead(**facts: object) -> Case:
    """Another case of the same ledger."""
    return replace(handling().case, case_id=LEAD_ID, **facts)  # type: ignore[arg-type]


def linked(begin: Story) -> Story:
    return begin.then(LINK, lead=lead())


@pytest.mark.parametrize("begin", [registered, forwarded, handling, joint, deferred])
def test_a_case_is_linked_as_long_as_it_is_not_completed(begin: type[Story]) -> None:
    assert LEAD_ID == linked(begin()).case.lead_case_id


def test_a_case_can_be_linked_when_it_is_registered() -> None:
    story = Story().then(replace(REGISTER, lead_case_id=LEAD_ID), lead=lead())
    assert (Stage.REGISTERED, LEAD_ID) == (story.case.stage, story.case.lead_case_id)


@pytest.mark.parametrize(
    ("found", "why"),
    [
        (None, "no other case of that number"),
        (lead(lead_case_id="330102-2026-0000009"), "linked to 330102-2026-0000009 itself"),
        (lead(stage=Stage.COMPLETED), "not being handled here"),
        (lead(custody=Custody.RELEASED), "not being handled here"),
    ],
    ids=["unknown", "linked itself", "completed", "elsewhere"],
)
def test_a_lead_is_a_case_that_is_handled_here_and_linked_to_none(found: Case | None, why: str) -> None:
    with pytest.raises(errors.CannotLink, match=why):
        handling().do(LINK, lead=found)


def test_a_case_is_not_linked_to_itself() -> None:
    story = handling()
    with pytest.raises(errors.CannotLink):
        story.do(acts.Link(lead_case_id=story.case.case_id), lead=story.case)


def test_a_lead_is_not_linked_to_another_one() -> None:
    with pytest.raises(errors.CannotLink, match="others are linked to it"):
        handling().do(LINK, lead=lead(), is_lead=True)


def test_a_link_is_undone_with_a_reason() -> None:
    story = linked(handling())
    with pytest.raises(errors.FieldMissing, match="reason"):
        story.do(acts.Unlink(reason=" "))
    assert "" == story.then(acts.Unlink(reason="不是同一事项")).case.lead_case_id


def test_what_is_not_linked_is_not_unlinked() -> None:
    with pytest.raises(errors.NotLinked):
        handling().do(acts.Unlink(reason="不是同一事项"))


@pytest.mark.parametrize("begin", [forwarded, handling])
def test_the_leads_result_completes_a_linked_case_and_its_feedback_is_due(begin: type[Story]) -> None:
    story = linked(begin()).then(WITH_LEAD, department="policy")
    assert (Stage.COMPLETED, "policy") == (story.case.stage, story.case.department)
    assert [ClockKind.FEEDBACK] == [clock.kind for clock in story.case.clocks]
    assert Stage.FED_BACK is story.then(FEEDBACK).case.stage


def test_the_handling_of_a_linked_case_counts_as_done_in_time_and_its_dispatch_does_not_count() -> None:
    story = linked(handling())
    assert [ClockOutcome.MET] == [c.outcome for c in changes(story.do(WITH_LEAD)) if c.outcome is not None]
    waiting = linked(forwarded())
    assert [ClockOutcome.VOID] == [c.outcome for c in changes(waiting.do(WITH_LEAD)) if c.outcome is not None]


def test_a_case_that_the_taxpayer_has_not_been_told_about_is_not_completed_with_its_lead() -> None:
    with pytest.raises(errors.ActNotAllowed):
        linked(registered()).do(WITH_LEAD)


def test_a_case_of_another_lead_is_not_completed() -> None:
    with pytest.raises(errors.NotLinked):
        linked(handling()).do(replace(WITH_LEAD, lead_case_id="330102-2026-0000009"))


def test_who_completed_the_lead_has_handled_the_linked_case_too() -> None:
    story = linked(handling()).then(WITH_LEAD, actor="wang", department="policy").then(FEEDBACK)
    with pytest.raises(errors.SamePerson):
        story.do(acts.FollowUp(satisfaction=1), actor="wang")  # type: ignore[arg-type]


# ---------------------------------------------------------------- parts of a joint handling


def test_an_assisting_department_gives_its_part_back_and_the_others_go_on() -> None:
    story = joint()
    (returned,) = story.do(acts.ReturnDispatch(reason="不属于本部门职责"), department="audit")
    assert isinstance(returned, events.PartReturned)
    assert (Stage.JOINT_HANDLING, ("collection",), 1) == (
        story.case.stage,
        story.case.open_parts,
        story.case.bounces,
    )
    assert {"policy", "collection"} == {clock.department for clock in story.case.clocks}


def test_the_lead_gives_the_whole_case_back() -> None:
    case = joint().then(acts.ReturnDispatch(reason="不属于本部门职责")).case
    assert (Stage.FORWARDED, (), 1) == (case.stage, case.open_parts, case.bounces)


def test_another_department_is_brought_in_with_a_clock_of_its_own() -> None:
    story = joint().then(acts.AddPart(to_department="legal"))
    assert "legal" in story.case.open_parts
    assert 5 == story.clock(ClockKind.JOINT, "legal").limit_workdays


@pytest.mark.parametrize("department", ["policy", "audit"])
def test_a_department_takes_part_once(department: str) -> None:
    with pytest.raises(errors.AlreadyAPart, match=department):
        joint().do(acts.AddPart(to_department=department))


# ---------------------------------------------------------------- common issues


def test_a_case_names_the_common_issue_that_it_is_an_instance_of() -> None:
    assert "GX-2026-0001" == completed().then(acts.LinkIssue(issue_id="GX-2026-0001")).case.issue_id


def test_what_is_no_number_of_an_issue_is_refused_and_not_repeated() -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        handling().do(acts.LinkIssue(issue_id="张三的减免"))
    assert ("issue_id", False) == (refusal.value.field, "张三" in str(refusal.value))


def test_joint_handling_is_not_completed_with_a_lead() -> None:
    with pytest.raises(errors.ActNotAllowed):
        linked(forwarded()).then(JOINT).do(WITH_LEAD)
