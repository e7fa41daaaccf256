"""A case that bureaus send to and fro is counted, and past the limit their lowest common superior decides (§二(四))."""

from dataclasses import replace

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.words import ClockKind, Custody, ReferralKind, Role, Stage
from tests.domain.story import (
    DONGCHENG,
    HANGZHOU,
    HEADQUARTERS,
    RECEIVE,
    REFER,
    RETURN,
    SHANGCHENG,
    XIHU,
    ZHEJIANG,
    Story,
    forwarded,
    offer_id,
    received,
)

TWICE = replace(RECEIVE, returns=2, disputants=(HANGZHOU, SHANGCHENG))
RULE = acts.Rule(final_bureau=SHANGCHENG, reason="属地管理")
ASK_RULING = acts.AskRuling(reason="双方职责有争议")


def at_the_superior(bureau: str = HANGZHOU, parties: tuple[str, ...] = (SHANGCHENG, XIHU)) -> Story:
    """A case that bureaus under this one have sent to each other as often as they may."""
    asked = replace(
        RECEIVE,
        from_bureau=SHANGCHENG,
        final_bureau=bureau,
        path=(SHANGCHENG,),
        referral_kind=ReferralKind.ARBITRATE,
        returns=2,
        disputants=parties,
    )
    return Story(bureau=bureau).then(asked)


def test_a_return_counts_itself_and_names_both_bureaus() -> None:
    (offered,) = received().do(RETURN)
    assert isinstance(offered, events.Offered)
    assert (1, (HANGZHOU, SHANGCHENG)) == (offered.returns, offered.disputants)


def test_a_return_that_was_not_accepted_is_not_counted() -> None:
    story = received().then(RETURN)
    story.do(acts.AcknowledgeRefusal(referral_id=offer_id(story), refusal=1))  # type: ignore[arg-type]
    assert 0 == story.case.returns


def test_to_refer_a_case_to_where_it_came_from_is_a_return() -> None:
    (offered,) = received().do(REFER)
    assert isinstance(offered, events.Offered)
    assert (ReferralKind.RETURN, 1) == (offered.referral_kind, offered.returns)


def test_to_refer_a_returned_case_again_is_no_return() -> None:
    story = Story().then(replace(RECEIVE, referral_kind=ReferralKind.RETURN, returns=1, disputants=(HANGZHOU,)))
    (offered,) = story.do(REFER)
    assert isinstance(offered, events.Offered)
    assert (ReferralKind.ESCALATE, 1) == (offered.referral_kind, offered.returns)


def test_a_case_that_comes_back_by_a_way_round_counts_as_returned() -> None:
    story = forwarded().then(replace(REFER, final_bureau=XIHU))
    story.do(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=1, receipt_hash=b""))
    story.do(replace(RECEIVE, offer_epoch=4, path=(XIHU, HANGZHOU), referral_kind=ReferralKind.RELAY))
    assert (1, (SHANGCHENG, XIHU)) == (story.case.returns, story.case.disputants)


def test_a_case_that_is_referred_again_to_the_bureau_that_returned_it_counts_once() -> None:
    story = received().then(RETURN)
    story.do(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=1, receipt_hash=b""))
    story.do(replace(RECEIVE, offer_epoch=3, returns=1, disputants=(HANGZHOU, SHANGCHENG)))
    assert 1 == story.case.returns


def test_no_neighbour_counts_back_what_this_ledger_has_counted() -> None:
    story = received().then(RETURN)
    offer = story.case.outgoing
    assert offer is not None
    story.then(acts.AcknowledgeAcceptance(referral_id=offer.referral_id, receipt_seq=1, receipt_hash=bytes(32)))
    story.do(replace(RECEIVE, referral_id="r9", offer_epoch=3, returns=0, disputants=()))
    assert (1, (HANGZHOU, SHANGCHENG)) == (story.case.returns, story.case.disputants)


def test_nobody_counts_back_while_the_receipt_of_the_return_is_under_way() -> None:
    story = received().then(RETURN)
    story.do(replace(RECEIVE, referral_id="r9", offer_epoch=3, returns=0, disputants=()))
    assert (1, (HANGZHOU, SHANGCHENG)) == (story.case.returns, story.case.disputants)


def test_a_bureau_on_the_way_counts_nothing() -> None:
    story = Story(bureau=HANGZHOU).then(replace(TWICE, from_bureau=ZHEJIANG, path=(ZHEJIANG,)))
    offer = story.entries[-1].event
    assert isinstance(offer, events.Offered)
    assert (2, (HANGZHOU, SHANGCHENG)) == (offer.returns, offer.disputants)


def test_past_the_limit_a_case_is_not_returned_and_the_superior_is_named() -> None:
    story = Story().then(replace(TWICE, disputants=(SHANGCHENG, XIHU), path=(XIHU, HANGZHOU)))
    with pytest.raises(errors.ReturnLimitReached) as refusal:
        story.do(RETURN)
    assert f"Handle it, or ask bureau {HANGZHOU} to decide: ask-ruling." == refusal.value.remedy


def test_past_the_limit_a_case_is_not_referred_to_its_other_party_either() -> None:
    story = Story().then(replace(TWICE, disputants=(SHANGCHENG, XIHU)))
    with pytest.raises(errors.ReturnLimitReached):
        story.do(replace(REFER, final_bureau=XIHU))


def test_past_the_limit_a_case_may_still_go_to_a_bureau_that_has_no_part_in_the_dispute() -> None:
    story = Story().then(replace(TWICE, disputants=(SHANGCHENG, XIHU)))
    assert Custody.OFFERED is story.then(replace(REFER, final_bureau=ZHEJIANG)).case.custody


def test_where_one_party_is_the_superior_of_the_other_it_decides_itself() -> None:
    parties = {"returns": 2, "disputants": (HANGZHOU, SHANGCHENG)}
    came = replace(RECEIVE, from_bureau=SHANGCHENG, final_bureau=HANGZHOU, path=(SHANGCHENG,), **parties)  # type: ignore[arg-type]
    story = Story(bureau=HANGZHOU).then(came)
    with pytest.raises(errors.ReturnLimitReached, match="sent back 2 times") as refusal:
        story.do(RETURN)
    assert "its leader decides" in refusal.value.remedy


@pytest.mark.parametrize(
    ("parties", "superior"), [((SHANGCHENG, XIHU), HANGZHOU), ((SHANGCHENG, DONGCHENG), HEADQUARTERS)]
)
def test_a_ruling_is_asked_of_the_lowest_common_superior(parties: tuple[str, ...], superior: str) -> None:
    story = Story().then(replace(TWICE, disputants=parties))
    (offered,) = story.do(ASK_RULING)
    assert isinstance(offered, events.Offered)
    assert (ReferralKind.ARBITRATE, superior, 2) == (
        offered.referral_kind,
        offered.final_bureau,
        offered.returns,
    )


def test_a_ruling_is_not_asked_for_before_the_limit() -> None:
    with pytest.raises(errors.NotInDispute, match="sent back 0 time"):
        received().do(ASK_RULING)


def test_a_leader_of_the_superior_rules_and_the_case_goes_there_by_the_ruling() -> None:
    ruled, offered = at_the_superior().do(RULE)
    assert isinstance(ruled, events.Ruled)
    assert isinstance(offered, events.Offered)
    assert (SHANGCHENG, SHANGCHENG, HANGZHOU) == (ruled.final_bureau, offered.final_bureau, offered.ruled_by)


@pytest.mark.parametrize("role", [Role.TAX_SERVICE, Role.HANDLER])
def test_a_ruling_is_a_leaders(role: Role) -> None:
    with pytest.raises(errors.RoleNotAllowed):
        at_the_superior().do(RULE, role=role)


def test_a_superior_may_rule_that_it_handles_the_case_itself() -> None:
    story = at_the_superior().then(replace(RULE, final_bureau=HANGZHOU))
    assert (Stage.FORWARDED, Custody.OWNED, HANGZHOU) == (story.case.stage, story.case.custody, story.case.ruled_by)
    assert story.case.clock(ClockKind.HANDLE) is not None


def test_a_ruling_names_a_bureau_under_the_superior() -> None:
    with pytest.raises(errors.NotBelow, match=DONGCHENG):
        at_the_superior().do(replace(RULE, final_bureau=DONGCHENG))


def test_a_bureau_that_is_not_above_all_parties_does_not_rule() -> None:
    with pytest.raises(errors.NothingToRule) as refusal:
        at_the_superior(parties=(SHANGCHENG, DONGCHENG)).do(RULE)
    assert f"Bureau {HEADQUARTERS} is the lowest common superior of them all: ask-ruling." == refusal.value.remedy


def test_there_is_nothing_to_rule_about_a_case_in_no_dispute() -> None:
    with pytest.raises(errors.NotInDispute):
        received().do(RULE)


@pytest.mark.parametrize("act", [RETURN, REFER, ASK_RULING], ids=lambda act: type(act).__name__)
def test_a_ruling_binds(act: acts.Act) -> None:
    story = Story().then(replace(TWICE, ruled_by=HANGZHOU))
    with pytest.raises(errors.RulingBinds, match=HANGZHOU):
        story.do(act)


def test_a_ruling_that_comes_back_to_a_bureau_that_had_the_case_is_no_return() -> None:
    story = forwarded().then(REFER)
    story.do(acts.AcknowledgeAcceptance(referral_id=offer_id(story), receipt_seq=1, receipt_hash=b""))
    story.do(replace(TWICE, offer_epoch=2, ruled_by=HANGZHOU))
    assert (2, HANGZHOU) == (story.case.returns, story.case.ruled_by)
