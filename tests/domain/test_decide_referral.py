"""Escalating, referring, relaying and returning; who is responsible meanwhile; conclusions (§四(二)3; SPEC §5)."""

from dataclasses import replace

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.acts import Act
from kuaixiang.domain.decide import AFTER_RELEASE
from kuaixiang.domain.words import (
    ClockKind,
    ClockOutcome,
    Custody,
    Outcome,
    ReferralKind,
    Refusal,
    Role,
    Stage,
)
from tests.domain.story import (
    BEIJING,
    COMPLETE,
    DISPATCH,
    DONGCHENG,
    EXAMPLES,
    FEEDBACK,
    FORWARD,
    HANGZHOU,
    HEADQUARTERS,
    RECEIVE,
    REFER,
    REGISTER,
    RETURN,
    SHANGCHENG,
    USUAL_ROLE,
    WITHDRAW,
    XIHU,
    ZHEJIANG,
    Story,
    changes,
    concluded,
    day,
    end_of,
    forwarded,
    handling,
    joint,
    offer_id,
    offered,
    received,
    registered,
    released,
    written_off,
)

CONCLUSION = acts.HearConclusion(
    from_bureau=HANGZHOU,
    referral_id="r1",
    epoch=1,
    round=0,
    outcome=Outcome.COMPLETED,
    handled_by=HANGZHOU,
    completed_at=day(3, 2),
    result="可以享受减免",
)
REOPENED = replace(CONCLUSION, round=1, outcome=Outcome.REOPENED)
RELAYED = replace(
    RECEIVE,
    referral_id="r7",
    referral_kind=ReferralKind.RELAY,
    from_bureau=SHANGCHENG,
    final_bureau=DONGCHENG,
    path=(SHANGCHENG,),
    origin_bureau=SHANGCHENG,
)
PEOPLES_ACTS = [EXAMPLES[kind] for kind in USUAL_ROLE if kind not in {acts.Register, acts.WithdrawOffer}]
"""What people do to a case that is there."""


def accept(story: Story) -> Story:
    return story.then(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=7, receipt_hash=b"h" * 32))


def refuse(story: Story) -> Story:
    return story.then(acts.AcknowledgeRefusal(referral_id=offer_id(story), refusal=Refusal.LOOP))


# ---------------------------------------------------------------- offering


@pytest.mark.parametrize(
    ("bureau", "to", "kind", "next_hop"),
    [
        (SHANGCHENG, HANGZHOU, ReferralKind.ESCALATE, HANGZHOU),
        (SHANGCHENG, HEADQUARTERS, ReferralKind.ESCALATE, HANGZHOU),
        (HANGZHOU, XIHU, ReferralKind.REFER, XIHU),
        (HEADQUARTERS, XIHU, ReferralKind.REFER, ZHEJIANG),
        (SHANGCHENG, XIHU, ReferralKind.RELAY, HANGZHOU),
        (SHANGCHENG, DONGCHENG, ReferralKind.RELAY, HANGZHOU),
        (BEIJING, ZHEJIANG, ReferralKind.RELAY, HEADQUARTERS),
    ],
)
def test_a_referral_goes_by_the_tree_and_is_named_by_its_two_ends(
    bureau: str, to: str, kind: ReferralKind, next_hop: str
) -> None:
    story = Story(bureau=bureau).then(REGISTER, FORWARD)
    (found,) = story.do(replace(REFER, final_bureau=to))
    assert isinstance(found, events.Offered)
    assert (kind, next_hop, to, (bureau,), 1) == (
        found.referral_kind,
        found.to_bureau,
        found.final_bureau,
        found.path,
        found.offer_epoch,
    )


@pytest.mark.parametrize("to", [SHANGCHENG, "999999", ""])
def test_a_case_is_referred_to_another_bureau_of_the_tree(to: str) -> None:
    with pytest.raises(errors.UnknownAddressee):
        forwarded().do(replace(REFER, final_bureau=to))


def test_a_referral_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        forwarded().do(replace(REFER, reason=""))


def test_offering_leaves_the_stage_the_clocks_and_the_epoch_and_freezes_the_case() -> None:
    before = forwarded()
    after = offered()
    assert Custody.OFFERED is after.case.custody
    assert (before.case.stage, before.case.clocks, before.case.epoch) == (
        after.case.stage,
        after.case.clocks,
        after.case.epoch,
    )


@pytest.mark.parametrize("act", PEOPLES_ACTS, ids=lambda act: type(act).__name__)
def test_an_offered_case_is_frozen(act: Act) -> None:
    with pytest.raises(errors.CaseFrozen, match=HANGZHOU):
        offered().do(act)


def test_an_offered_case_does_not_become_overdue() -> None:
    assert () == offered().at(day(3, 20)).do(acts.MarkOverdue())


def test_joint_handling_is_referred_by_its_lead_and_every_departments_clock_stops() -> None:
    story = joint().then(REFER, role=Role.HANDLER, department="policy")
    assert Custody.OFFERED is story.case.custody
    case = accept(story).case
    assert (Stage.REFERRED, (), ()) == (case.stage, case.clocks, case.open_parts)


def test_joint_handling_is_not_an_assisting_departments_to_refer() -> None:
    with pytest.raises(errors.NotInCharge, match="audit"):
        joint().do(REFER, role=Role.HANDLER, department="audit")


# ---------------------------------------------------------------- the receiver's decision


def test_an_accepted_case_is_the_receivers() -> None:
    story = accept(offered())
    assert (Stage.REFERRED, Custody.RELEASED, 1, HANGZHOU, ()) == (
        story.case.stage,
        story.case.custody,
        story.case.epoch,
        story.case.with_bureau,
        story.case.clocks,
    )


def test_the_receipt_is_kept_with_the_release() -> None:
    event = accept(offered()).entries[-1].event
    assert isinstance(event, events.Released)
    assert (7, b"h" * 32, False) == (event.receipt_seq, event.receipt_hash, event.relayed)


def test_the_clocks_stop_when_the_case_was_offered_not_when_the_answer_came() -> None:
    story = offered()
    (change,) = changes(
        story.at(day(3, 20)).do(
            acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=7, receipt_hash=b"")
        )
    )
    assert (ClockKind.DISPATCH, ClockOutcome.VOID, 0) == (change.kind, change.outcome, change.elapsed_milli_workdays)


def test_a_refused_case_stays_ours_with_its_clocks() -> None:
    story = refuse(offered())
    assert (Stage.FORWARDED, Custody.OWNED, 0, None) == (
        story.case.stage,
        story.case.custody,
        story.case.epoch,
        story.case.outgoing,
    )
    assert end_of(3, 3) == story.clock(ClockKind.DISPATCH).due_at


def test_a_refused_case_can_be_offered_again_at_the_same_epoch() -> None:
    story = refuse(offered()).then(REFER)
    assert story.case.outgoing is not None
    assert 1 == story.case.outgoing.offer_epoch


@pytest.mark.parametrize(
    "receipt",
    [
        acts.AcknowledgeAcceptance(referral_id="another", receipt_seq=1, receipt_hash=b""),
        acts.AcknowledgeRefusal(referral_id="another", refusal=Refusal.LOOP),
    ],
    ids=["accepted", "refused"],
)
def test_a_receipt_of_another_referral_changes_nothing(receipt: Act) -> None:
    assert () == offered().do(receipt)


def test_a_repeated_receipt_changes_nothing() -> None:
    story = offered()
    receipt = acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=7, receipt_hash=b"")
    assert () == story.then(receipt).do(receipt)
    assert () == story.do(acts.AcknowledgeRefusal(referral_id=receipt.referral_id, refusal=Refusal.LOOP))


# ---------------------------------------------------------------- no longer responsible


@pytest.mark.parametrize("act", [*PEOPLES_ACTS, acts.WithdrawOffer()], ids=lambda act: type(act).__name__)
def test_who_has_let_a_case_go_is_told_who_has_it(act: Act) -> None:
    story = released()
    if isinstance(act, AFTER_RELEASE):
        with pytest.raises(errors.ActNotAllowed):
            story.do(act)
        return
    with pytest.raises(errors.NotCustodian, match=HANGZHOU):
        story.do(act)


def test_a_released_case_does_not_become_overdue() -> None:
    assert () == released().at(day(3, 20)).do(acts.MarkOverdue())


# ---------------------------------------------------------------- taking an offer back


def test_an_offer_that_is_not_decided_can_be_asked_back_and_stays_undecided() -> None:
    story = offered().then(acts.WithdrawOffer(reason="误报"))
    assert story.case.outgoing is not None
    assert (True, Custody.OFFERED) == (story.case.outgoing.withdrawing, story.case.custody)


def test_asking_it_back_again_changes_nothing() -> None:
    assert () == offered().then(acts.WithdrawOffer()).do(acts.WithdrawOffer())


def test_an_offer_asked_back_may_still_have_been_accepted() -> None:
    assert Custody.RELEASED is accept(offered().then(acts.WithdrawOffer())).case.custody


def test_there_is_nothing_to_ask_back_when_nothing_is_offered() -> None:
    with pytest.raises(errors.NothingOffered):
        forwarded().do(acts.WithdrawOffer())


# ---------------------------------------------------------------- receiving


def test_a_received_case_is_at_tax_service_with_a_clock_to_dispatch_and_one_to_handle() -> None:
    story = received()
    assert (Stage.FORWARDED, Custody.OWNED, 1, "tax-service") == (
        story.case.stage,
        story.case.custody,
        story.case.epoch,
        story.case.department,
    )
    assert [(ClockKind.DISPATCH, 1, end_of(3, 3)), (ClockKind.HANDLE, 5, end_of(3, 10))] == [
        (clock.kind, clock.limit_workdays, clock.due_at) for clock in story.case.clocks
    ]


def test_a_received_case_remembers_where_and_when_it_began() -> None:
    story = received()
    assert (HANGZHOU, RECEIVE.registered_at) == (story.case.origin_bureau, story.case.registered_at)


def test_a_received_case_has_been_told() -> None:
    assert Stage.FORWARDED is received().then(replace(REFER, telling=None)).case.stage


def test_a_case_for_another_bureau_is_passed_on_in_the_same_act_without_clocks() -> None:
    story = Story(bureau=HANGZHOU)
    arrived, onward = story.do(RELAYED)
    assert () == (*arrived.clocks, *onward.clocks)
    assert isinstance(onward, events.Offered)
    assert (ZHEJIANG, DONGCHENG, (SHANGCHENG, HANGZHOU), 2, "r7", ReferralKind.RELAY) == (
        onward.to_bureau,
        onward.final_bureau,
        onward.path,
        onward.offer_epoch,
        onward.previous_referral_id,
        onward.referral_kind,
    )
    assert Custody.OFFERED is story.case.custody


def test_a_bureau_that_only_passes_a_case_on_counts_as_relaying() -> None:
    event = accept(Story(bureau=HANGZHOU).then(RELAYED)).entries[-1].event
    assert isinstance(event, events.Released)
    assert event.relayed


def test_a_bureau_whose_passing_on_was_refused_has_the_case_to_handle_with_clocks() -> None:
    story = refuse(Story(bureau=HANGZHOU).then(RELAYED).at(day(3, 3)))
    assert Custody.OWNED is story.case.custody
    assert [(ClockKind.DISPATCH, day(3, 3)), (ClockKind.HANDLE, day(3, 3))] == [
        (clock.kind, clock.started_at) for clock in story.case.clocks
    ]


def test_a_case_comes_back_at_a_higher_epoch_and_keeps_what_the_ledger_knew() -> None:
    story = released().at(day(3, 9))
    story.do(replace(RECEIVE, referral_kind=ReferralKind.RETURN, offer_epoch=2))
    assert (Stage.FORWARDED, Custody.OWNED, 2, SHANGCHENG) == (
        story.case.stage,
        story.case.custody,
        story.case.epoch,
        story.case.origin_bureau,
    )
    assert day(3, 9) == story.clock(ClockKind.HANDLE).started_at


def test_an_offer_two_epochs_on_proves_that_ours_was_accepted() -> None:
    story = offered()
    found = story.do(replace(RECEIVE, offer_epoch=2))
    assert ["Released", "Received"] == [type(event).__name__ for event in found]
    assert (Custody.OWNED, 2) == (story.case.custody, story.case.epoch)


# ---------------------------------------------------------------- handing back


def test_a_return_goes_back_to_where_the_journey_began() -> None:
    came = replace(RECEIVE, from_bureau=HANGZHOU, path=(DONGCHENG, BEIJING, HEADQUARTERS, ZHEJIANG, HANGZHOU))
    (found,) = Story().then(came).do(RETURN)
    assert isinstance(found, events.Offered)
    assert (ReferralKind.RETURN, HANGZHOU, DONGCHENG, (SHANGCHENG,)) == (
        found.referral_kind,
        found.to_bureau,
        found.final_bureau,
        found.path,
    )


def test_a_return_to_a_bureau_that_the_tree_has_lost_is_refused() -> None:
    with pytest.raises(errors.UnknownAddressee):
        Story().then(replace(RECEIVE, path=("999999", HANGZHOU))).do(RETURN)


def test_a_return_says_why() -> None:
    with pytest.raises(errors.FieldMissing, match="reason"):
        received().do(acts.Return(reason=""))


def test_the_department_that_handles_escalates_and_refers_by_itself() -> None:
    for final_bureau, kind in ((HANGZHOU, ReferralKind.ESCALATE), (XIHU, ReferralKind.RELAY)):
        (offered_,) = handling().do(replace(REFER, final_bureau=final_bureau), role=Role.HANDLER)
        assert isinstance(offered_, events.Offered)
        assert (kind, final_bureau) == (offered_.referral_kind, offered_.final_bureau)


def test_the_department_that_handles_may_return_too() -> None:
    assert Custody.OFFERED is received().then(DISPATCH).then(RETURN, role=Role.HANDLER).case.custody


# ---------------------------------------------------------------- conclusions


def test_a_conclusion_heard_ends_the_case_in_the_ledger_that_referred_it() -> None:
    story = released().then(CONCLUSION)
    assert (Stage.CONCLUDED, Custody.RELEASED, HANGZHOU) == (
        story.case.stage,
        story.case.custody,
        story.case.with_bureau,
    )


def test_a_repeated_conclusion_changes_nothing() -> None:
    assert () == concluded().do(EXAMPLES[acts.HearConclusion])


def test_a_conclusion_of_an_earlier_epoch_changes_nothing() -> None:
    assert () == released().having(epoch=4).do(CONCLUSION)


def test_a_reopening_elsewhere_opens_the_case_here_again() -> None:
    story = released().then(CONCLUSION, REOPENED)
    assert (Stage.REFERRED, 1) == (story.case.stage, story.case.round)


def test_a_late_conclusion_of_the_round_before_changes_nothing() -> None:
    assert () == released().then(REOPENED).do(CONCLUSION)


def test_the_outcome_of_a_round_comes_after_its_reopening() -> None:
    story = released().then(CONCLUSION, REOPENED, replace(CONCLUSION, round=1))
    assert Stage.CONCLUDED is story.case.stage


def test_a_written_off_case_that_was_reopened_elsewhere_is_open_again() -> None:
    story = released().then(CONCLUSION, acts.WriteOff(), REOPENED)
    assert Stage.REFERRED is story.case.stage


def test_a_conclusion_of_a_case_that_is_ours_is_impossible() -> None:
    with pytest.raises(errors.ImpossibleConclusion):
        received().do(CONCLUSION)


def test_a_conclusion_from_a_bureau_that_never_had_the_case_is_impossible() -> None:
    with pytest.raises(errors.ImpossibleConclusion, match=XIHU):
        released().do(replace(CONCLUSION, from_bureau=XIHU))


def test_a_conclusion_proves_that_the_offer_before_it_was_accepted() -> None:
    story = offered()
    assert ["Released", "Concluded"] == [
        type(event).__name__ for event in story.do(replace(CONCLUSION, referral_id=offer_id(story)))
    ]
    assert (Stage.CONCLUDED, None) == (story.case.stage, story.case.outgoing)


def test_a_conclusion_of_another_referral_at_the_offers_epoch_is_of_a_namesake() -> None:
    with pytest.raises(errors.ImpossibleConclusion):
        offered().do(replace(CONCLUSION, referral_id="r9"))


def test_a_conclusion_below_the_offers_epoch_proves_nothing() -> None:
    with pytest.raises(errors.ImpossibleConclusion):
        offered().do(replace(CONCLUSION, epoch=0))


def test_every_neighbour_but_the_teller_is_to_hear_a_conclusion() -> None:
    story = accept(Story(bureau=HANGZHOU).then(RELAYED))
    story.do(replace(CONCLUSION, from_bureau=ZHEJIANG, epoch=2, handled_by=DONGCHENG))
    assert ({SHANGCHENG}, DONGCHENG) == (set(story.case.awaiting), story.case.with_bureau)


def test_an_acknowledged_conclusion_is_no_longer_awaited() -> None:
    story = received().then(DISPATCH, COMPLETE, FEEDBACK)
    acknowledged = acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=0, outcome=Outcome.COMPLETED)
    assert {HANGZHOU} == set(story.case.awaiting)
    assert frozenset() == story.then(acknowledged).case.awaiting
    assert () == story.do(acknowledged)


@pytest.mark.parametrize(
    "stale",
    [
        acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=1, outcome=Outcome.COMPLETED),
        acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=0, round=0, outcome=Outcome.COMPLETED),
        acts.AcknowledgeConclusion(to_bureau=HANGZHOU, epoch=1, round=0, outcome=Outcome.REOPENED),
        acts.AcknowledgeConclusion(to_bureau=XIHU, epoch=1, round=0, outcome=Outcome.COMPLETED),
    ],
    ids=["round", "epoch", "outcome", "bureau"],
)
def test_an_acknowledgement_of_something_else_changes_nothing(stale: Act) -> None:
    story = received().then(DISPATCH, COMPLETE, FEEDBACK)
    assert () == story.do(stale)


@pytest.mark.parametrize("leave", [WITHDRAW, EXAMPLES[acts.SendToReconsideration]], ids=lambda act: type(act).__name__)
def test_a_referred_case_that_ends_otherwise_is_told_too(leave: Act) -> None:
    assert {HANGZHOU} == set(received().then(DISPATCH, leave).case.awaiting)


def test_a_case_that_nobody_else_had_tells_nobody() -> None:
    assert frozenset() == written_off().case.awaiting


@pytest.mark.parametrize("begin", [registered, forwarded, handling])
def test_a_case_can_be_referred_while_nobody_has_a_result(begin: type[Story]) -> None:
    assert Custody.OFFERED is begin().then(REFER).case.custody
