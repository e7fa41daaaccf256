"""A rule is set aside for a case by two people together, and the journal says by whom."""

import pytest

from kuaixiang.domain import acts, errors, events
from kuaixiang.domain.words import Custody, DifferenceKind, Override, Role, Stage
from tests.domain.story import COMPLETE, DAY, DISPATCH, FEEDBACK, HANGZHOU, REOPEN, Story, concluded, fed_back, received

ASK = acts.AskOverride(override=Override.LEDGERS_DISAGREE, reason="对方单位已撤并")
APPROVE, REFUSE, WRITE_OFF = acts.ApproveOverride(), acts.RefuseOverride(reason="应先核对"), acts.WriteOff()


def unheard() -> Story:
    """A case whose end another bureau has not acknowledged."""
    return received().then(DISPATCH, COMPLETE, FEEDBACK)


def test_a_case_that_another_ledger_has_not_acknowledged_is_not_written_off() -> None:
    with pytest.raises(errors.LedgersDisagree, match=HANGZHOU):
        unheard().do(WRITE_OFF)


def test_two_people_together_write_it_off_all_the_same() -> None:
    story = unheard().then(ASK, APPROVE, WRITE_OFF)
    assert Stage.WRITTEN_OFF is story.case.stage


def test_two_people_together_set_aside_a_peers_ledger_that_never_agrees() -> None:
    story = fed_back().then(acts.NoteMismatch(peer=HANGZHOU, difference=DifferenceKind.DIFFERENT))
    story.then(ASK, APPROVE, WRITE_OFF)
    assert Stage.WRITTEN_OFF is story.case.stage


def test_the_approval_names_who_asked() -> None:
    (approved,) = unheard().then(ASK).do(APPROVE)
    assert isinstance(approved, events.OverrideApproved)
    assert "tax_service-1" == approved.asked_by


@pytest.mark.parametrize("decision", [APPROVE, REFUSE], ids=["approve", "refuse"])
def test_whoever_asked_does_not_decide(decision: acts.Act) -> None:
    with pytest.raises(errors.SamePerson, match="zhang"):
        unheard().then(ASK, actor="zhang").do(decision, actor="zhang")


def test_an_override_is_not_approved_by_tax_service() -> None:
    with pytest.raises(errors.RoleNotAllowed):
        unheard().then(ASK).do(APPROVE, role=Role.TAX_SERVICE)


def test_a_refused_override_lifts_nothing() -> None:
    story = unheard().then(ASK, REFUSE)
    with pytest.raises(errors.LedgersDisagree):
        story.do(WRITE_OFF)


@pytest.mark.parametrize("decision", [APPROVE, REFUSE], ids=["approve", "refuse"])
def test_there_is_nothing_to_decide_when_nobody_asked(decision: acts.Act) -> None:
    with pytest.raises(errors.NoOverrideAsked):
        unheard().do(decision)


def test_a_pending_override_is_not_asked_for_again() -> None:
    with pytest.raises(errors.OverridePending):
        unheard().then(ASK).do(ASK)


def test_where_no_rule_stands_against_a_case_none_is_set_aside() -> None:
    with pytest.raises(errors.NothingToOverride):
        fed_back().do(ASK)


def test_an_override_ends_with_the_round_it_was_given_for() -> None:
    story = unheard().then(ASK, APPROVE, REOPEN)
    assert frozenset() == story.case.overridden


def test_a_ledger_that_only_heard_the_end_may_be_overridden_too_and_holds_the_case_as_before() -> None:
    story = concluded().having(awaiting=frozenset({HANGZHOU}))
    story.then(ASK, APPROVE)
    assert Custody.RELEASED is story.case.custody
    assert Stage.WRITTEN_OFF is story.then(WRITE_OFF).case.stage


def test_an_override_that_nobody_decided_in_a_week_is_asked_for_anew() -> None:
    story = unheard().then(ASK).after(9 * DAY)
    with pytest.raises(errors.OverrideLapsed):
        story.do(APPROVE)
    story.then(ASK, APPROVE, WRITE_OFF)
    assert Stage.WRITTEN_OFF is story.case.stage
