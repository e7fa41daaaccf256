"""Registration, telling, forwarding and dispatching (§四(一); SPEC §3)."""

from dataclasses import replace

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.identifiers import make_taxpayer_number
from kuaixiang.domain.words import ClockAction, ClockKind, ClockOutcome, Role, Stage, Telling
from tests.domain.story import (
    ACCEPT,
    CASE_ID,
    DISPATCH,
    FORWARD,
    HANGZHOU,
    HOUR,
    MONDAY,
    REFER,
    REGISTER,
    RETURN,
    SHANGCHENG,
    XIHU,
    Story,
    changes,
    day,
    end_of,
    forwarded,
    handling,
    received,
    registered,
)

XIHU_NUMBER = make_taxpayer_number("330106", 1)


def without(field: str, value: str = " ") -> acts.Register:
    return replace(REGISTER, **{field: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("field", ["taxpayer_name", "contact", "text"])
def test_a_registration_without_a_required_field_names_it_and_stores_nothing(field: str) -> None:
    story = Story()
    with pytest.raises(errors.FieldMissing) as refusal:
        story.do(without(field))
    assert field == refusal.value.field
    assert [] == story.entries


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("contact", "call me"),
        ("taxpayer_number", XIHU_NUMBER[:-1] + "_"),
        ("text", "诉" * 10_001),
        ("text", "a\0b"),
        ("taxpayer_name", "名" * 201),
        ("channel_reference", "r" * 65),
        ("channel_reference", "a\0b"),
        ("place", "p" * 65),
        ("answer", "答" * 10_001),
        ("note", "备" * 10_001),
    ],
)
def test_a_malformed_field_is_named_and_its_value_is_not_repeated(field: str, value: str) -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        Story().do(without(field, value))
    assert field == refusal.value.field
    assert value not in f"{refusal.value} {refusal.value.remedy}"


def test_what_the_officer_adds_to_a_registration_is_private() -> None:
    (event,) = Story().do(without("note", "由原台账转入"))
    assert event.private is not None
    assert "由原台账转入" == event.private.note


def test_text_of_ten_thousand_characters_is_taken() -> None:
    assert Stage.REGISTERED is Story().then(without("text", "诉" * 10_000)).case.stage


@pytest.mark.parametrize(
    ("who", "field"),
    [
        ({"actor": ""}, "header.actor"),
        ({"actor": "张 三"}, "header.actor"),
        ({"department": ""}, "header.department"),
        ({"department": "Tax Service"}, "header.department"),
    ],
)
def test_an_act_says_who_did_it_and_in_which_department(who: dict[str, str], field: str) -> None:
    with pytest.raises(errors.Refused) as refusal:
        Story().do(REGISTER, **who)
    assert field == refusal.value.field


def test_registering_keeps_what_is_private_in_the_private_part() -> None:
    (event,) = Story().do(without("place", "330106"))
    assert event.private is not None
    assert (REGISTER.taxpayer_name, REGISTER.contact, REGISTER.text, "330106") == (
        event.private.taxpayer_name,
        event.private.contact,
        event.private.text,
        event.private.place,
    )


def test_the_bureau_that_the_taxpayer_belongs_to_is_proposed() -> None:
    assert XIHU == Story().then(without("place", XIHU)).case.competent_bureau


def test_no_bureau_is_proposed_when_nothing_tells_of_one() -> None:
    assert "" == registered().case.competent_bureau


def test_registering_starts_a_forward_clock_of_one_working_day() -> None:
    clock = registered().clock(ClockKind.FORWARD)
    assert (1, end_of(3, 3)) == (clock.limit_workdays, clock.due_at)


def test_a_case_answered_at_registration_is_fed_back_at_once() -> None:
    story = Story().then(without("answer", "可以享受减免"))
    assert Stage.FED_BACK is story.case.stage
    assert ["Registered", "AnsweredOnTheSpot"] == [type(entry.event).__name__ for entry in story.entries]
    assert [ClockKind.FOLLOW_UP] == [clock.kind for clock in story.case.clocks]


def test_a_registered_case_can_be_answered_on_the_spot() -> None:
    story = registered()
    events_ = story.do(acts.AnswerOnTheSpot(answer="可以享受减免"))
    assert Stage.FED_BACK is story.case.stage
    assert [
        (ClockKind.FORWARD, ClockAction.STOPPED, ClockOutcome.MET),
        (ClockKind.FOLLOW_UP, ClockAction.STARTED, None),
    ] == [(change.kind, change.action, change.outcome) for change in changes(events_)]


def test_an_answer_on_the_spot_says_something() -> None:
    with pytest.raises(errors.FieldMissing, match="answer"):
        registered().do(acts.AnswerOnTheSpot(answer="  "))


def test_whoever_answered_on_the_spot_counts_as_handler() -> None:
    story = Story().then(without("answer", "可以享受减免"), actor="clerk-7")
    assert frozenset({"clerk-7"}) == story.case.handlers


@pytest.mark.parametrize("act", [FORWARD, ACCEPT, REFER], ids=lambda act: type(act).__name__)
def test_the_telling_is_recorded_before_the_case_leaves_the_desk(act: acts.Act) -> None:
    story = registered()
    first, *_ = story.do(act)
    assert isinstance(first, events.TaxpayerTold)
    assert Stage.REGISTERED is first.stage
    assert story.case.telling is first.telling


def test_a_case_cannot_leave_the_desk_untold() -> None:
    with pytest.raises(errors.NotTold, match=CASE_ID):
        registered().do(replace(REFER, telling=None))


def test_a_taxpayer_who_has_been_told_is_not_told_again() -> None:
    events_ = forwarded().do(replace(REFER, telling=None))
    assert ["Offered"] == [type(event).__name__ for event in events_]


def test_what_was_told_is_private() -> None:
    told, _ = registered().do(FORWARD)
    assert told.private is not None
    assert FORWARD.told == told.private.note


def test_forwarding_stops_the_forward_clock_and_starts_a_dispatch_clock_of_one_working_day() -> None:
    story = registered()
    stopped, started = changes(story.do(FORWARD))
    assert (ClockKind.FORWARD, ClockOutcome.MET) == (stopped.kind, stopped.outcome)
    assert (ClockKind.DISPATCH, 1, end_of(3, 3)) == (started.kind, started.limit_workdays, started.due_at)


def test_forwarding_after_the_working_day_counts_as_missed() -> None:
    story = registered()
    found = changes(story.at(day(3, 4)).do(FORWARD))
    assert [ClockAction.OVERDUE, ClockAction.STOPPED, ClockAction.STARTED] == [change.action for change in found]
    assert ClockOutcome.MISSED is found[1].outcome


def test_direct_acceptance_starts_the_handling_clock_of_five_working_days() -> None:
    story = registered().then(ACCEPT)
    clock = story.clock(ClockKind.HANDLE)
    # Friday is off and the Saturday of the next week is worked: 3, 4, 5, 9, 10 March.
    assert (5, end_of(3, 10)) == (clock.limit_workdays, clock.due_at)
    assert [ClockKind.HANDLE] == [clock.kind for clock in story.case.clocks]


def test_a_directly_accepted_case_is_the_departments_that_accepted_it() -> None:
    story = Story().then(REGISTER, department="collection").then(ACCEPT, department="collection")
    assert "collection" == story.case.department


def test_a_department_that_did_not_register_a_case_does_not_accept_it_directly() -> None:
    with pytest.raises(errors.NotInCharge, match="collection"):
        registered().do(ACCEPT, department="collection")


def test_dispatching_starts_the_handling_clock_at_its_own_time() -> None:
    story = forwarded()
    stopped, started = changes(story.at(day(3, 3)).do(DISPATCH))
    assert (ClockKind.DISPATCH, ClockOutcome.MET) == (stopped.kind, stopped.outcome)
    assert (ClockKind.HANDLE, day(3, 3), end_of(3, 11)) == (started.kind, started.started_at, started.due_at)


def test_a_dispatched_case_is_the_departments_that_it_went_to() -> None:
    assert "policy" == handling().case.department


def test_a_dispatch_names_a_department() -> None:
    with pytest.raises(errors.FieldMalformed) as refusal:
        forwarded().do(acts.Dispatch(to_department="政策科"))
    assert "to_department" == refusal.value.field


def test_dispatching_a_referred_case_does_not_renew_its_handling_clock() -> None:
    story = received().at(day(3, 3)).then(DISPATCH)
    assert MONDAY == story.clock(ClockKind.HANDLE).started_at


def test_a_department_that_returns_a_dispatch_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        handling().do(acts.ReturnDispatch(reason=""))


def test_a_returned_dispatch_goes_back_to_tax_service_with_a_dispatch_clock() -> None:
    story = handling()
    voided, started = changes(story.at(day(3, 3)).do(acts.ReturnDispatch(reason="不属于本部门职责")))
    assert Stage.FORWARDED is story.case.stage
    assert (ClockKind.HANDLE, ClockOutcome.VOID) == (voided.kind, voided.outcome)
    assert (ClockKind.DISPATCH, end_of(3, 4)) == (started.kind, started.due_at)


def test_returning_the_dispatch_of_a_referred_case_does_not_renew_its_handling_clock() -> None:
    story = received().then(DISPATCH)
    before = story.clock(ClockKind.HANDLE)
    story.at(before.due_at - HOUR).then(acts.ReturnDispatch(reason="不属于本部门职责"))
    assert {ClockKind.HANDLE, ClockKind.DISPATCH} == {clock.kind for clock in story.case.clocks}
    assert before == story.then(DISPATCH).clock(ClockKind.HANDLE)


def test_every_return_of_a_dispatch_is_counted() -> None:
    back = acts.ReturnDispatch(reason="不属于本部门职责")
    assert 2 == handling().then(back, DISPATCH, back).case.bounces


def test_a_case_registered_here_cannot_be_returned() -> None:
    with pytest.raises(errors.NotReceived):
        forwarded().do(RETURN)


def test_a_channel_registers_and_does_nothing_else() -> None:
    story = Story().then(REGISTER, role=Role.CHANNEL)
    with pytest.raises(errors.RoleNotAllowed, match="channel"):
        story.do(FORWARD, role=Role.CHANNEL)


def test_an_act_on_a_case_that_is_not_in_the_ledger_is_refused() -> None:
    with pytest.raises(errors.UnknownCase, match=SHANGCHENG):
        Story().do(FORWARD)


def test_a_registration_number_tells_the_competent_bureau() -> None:
    story = Story(bureau=HANGZHOU).then(without("taxpayer_number", XIHU_NUMBER))
    assert XIHU == story.case.competent_bureau


def test_a_case_is_told_which_way_it_takes() -> None:
    assert Telling.TRANSFERRED is forwarded().case.telling
    assert Telling.COMPLICATED is registered().then(ACCEPT).case.telling
