"""The custody protocol holds in every reachable state of a small world, and every broken variant of it fails.

What the world may do (loss, repeats, delay, reordering, crashes) is said in `custody_model`.
"""

import re
from dataclasses import fields, replace

import pytest

from kuaixiang.domain.custody import Holding, judge_epoch
from kuaixiang.domain.words import Custody, Refusal
from tests.domain.custody_model import CONTAINMENT, PROMISES, Exploration, Fault, Judge, Rules, World, explore

# Enough to see that the search did not end before it began; the worlds themselves are larger.
STATES_MIN = 100_000
DEEP_STATES_MIN = 10_000

two_offers = World(offers_max=2)
deep = World(offers_max=6, keeps_messages=True)


def judge_without(refusal: Refusal) -> Judge:
    def judge(epoch: int, holding: Holding | None) -> Refusal | None:
        judged = judge_epoch(epoch, holding)
        return None if judged is refusal else judged

    return judge


def judge_without_proof(epoch: int, holding: Holding | None) -> Refusal | None:
    if holding is not None and holding.custody is Custody.OFFERED:
        return judge_epoch(epoch, holding) or Refusal.CONFLICT
    return judge_epoch(epoch, holding)


def judge_without_stale(epoch: int, holding: Holding | None) -> Refusal | None:
    if holding is not None and epoch <= holding.epoch:
        return judge_epoch(holding.epoch + 1, holding)
    return judge_epoch(epoch, holding)


def accept_anything(epoch: int, holding: Holding | None) -> Refusal | None:
    return None


@pytest.fixture(scope="module")
def exhaustive() -> Exploration:
    return explore()


def test_one_bureau_is_responsible_in_every_state_and_every_offer_can_still_be_settled(
    exhaustive: Exploration, capsys: pytest.CaptureFixture[str]
) -> None:
    with capsys.disabled():
        print(f"\ncustody, three bureaus: {exhaustive}")
    assert None is exhaustive.fault, exhaustive
    assert exhaustive.states > STATES_MIN


def test_the_search_passes_through_every_kind_of_step_and_three_successive_handovers(exhaustive: Exploration) -> None:
    kinds = {re.sub(r" \d+", "", step) for step in exhaustive.happened}
    expected = {
        "offers to",
        "sends the offer",
        "sends a withdrawal",
        "accepts referral",
        "refuses referral by the tree's rules",
        "refuses referral as withdrawn",
        "hears referral again",
        "answers referral",
        "hears that referral was accepted",
        "hears that referral was refused",
        "crashes",
        "(the network loses everything)",
    }
    assert expected == kinds
    assert exhaustive.handovers_most == 3


def test_six_successive_handovers_are_as_sound_as_three(capsys: pytest.CaptureFixture[str]) -> None:
    explored = explore(world=deep)
    with capsys.disabled():
        print(f"\ncustody, three bureaus, messages kept for ever: {explored}")
    assert None is explored.fault, explored
    assert explored.states > DEEP_STATES_MIN
    assert explored.handovers_most == 6


def test_a_network_that_keeps_every_message_shows_the_same_histories_as_one_that_may_lose_them() -> None:
    keeping = World(offers_max=two_offers.offers_max, keeps_messages=True)
    assert explore(world=two_offers).histories == explore(world=keeping).histories


def test_it_does_not_matter_whether_a_released_record_counts_its_last_handover() -> None:
    explored = explore(Rules(released_step=1), deep)
    assert None is explored.fault, explored


def test_a_conclusion_of_a_later_epoch_proves_that_an_outstanding_offer_was_accepted() -> None:
    explored = explore(Rules(released_step=1), replace(deep, tells_conclusions=True))
    assert None is explored.fault, explored
    assert "hears of a conclusion at epoch 6" in explored.happened


def test_a_conclusion_of_the_epoch_of_an_outstanding_offers_own_case_proves_nothing() -> None:
    rules = Rules(conclusion_proves=0)
    assert Fault.NO_OWNER is explore(rules, replace(deep, tells_conclusions=True)).fault


BROKEN = {
    "a sender takes back on a time-out": (Rules(never_takes_back=False), {Fault.TWO_OWNERS}),
    "a withdrawal leaves no tombstone": (Rules(withdrawal_leaves_tombstone=False), {Fault.TWO_OWNERS}),
    "a repeated offer is decided anew": (Rules(stores_decisions=False), {Fault.TWO_OWNERS}),
    "a repeated offer is decided anew and the epochs are not looked at": (
        Rules(stores_decisions=False, judge=accept_anything),
        {Fault.TWO_OWNERS, Fault.EPOCH_TWICE, Fault.EPOCH_FELL, Fault.OWNED_RECORD_REPLACED},
    ),
    "a repeat is passed over in silence": (
        Rules(answers_repeats=False),
        {Fault.OWNER_UNREACHABLE, Fault.DECISION_UNREACHABLE},
    ),
    "an offer is sent once only": (Rules(resends=False), {Fault.OWNER_UNREACHABLE, Fault.DECISION_UNREACHABLE}),
    "an offer leaves before it is committed": (Rules(commits_before_sending=False), {Fault.TWO_OWNERS}),
    "a receipt leaves before the decision is committed": (Rules(commits_before_answering=False), {Fault.NO_OWNER}),
    "a sender lets go when it sends": (Rules(releases_on_receipt=False), {Fault.NO_OWNER}),
    "a receipt decides whatever offer is outstanding": (
        Rules(matches_receipt_to_referral=False),
        {Fault.TWO_OWNERS, Fault.NO_OWNER},
    ),
    "a hand-over does not raise the epoch": (
        Rules(epoch_step=0),
        {Fault.EPOCH_TWICE, Fault.RIGHTFUL_OFFER_REFUSED},
    ),
    "an offer that proves an acceptance is refused": (
        Rules(judge=judge_without_proof),
        {Fault.RIGHTFUL_OFFER_REFUSED},
    ),
}


@pytest.mark.parametrize(
    ("rules", "fault"),
    [
        pytest.param(rules, fault, id=f"{name}: {fault.value}")
        for name, (rules, faults) in BROKEN.items()
        for fault in sorted(faults, key=lambda fault: fault.name)
    ],
)
def test_a_broken_rule_is_caught(rules: Rules, fault: Fault) -> None:
    # That a state cannot be reached any more is known at the end of a search only, so that its world is smaller.
    world = two_offers if fault in {Fault.OWNER_UNREACHABLE, Fault.DECISION_UNREACHABLE} else World()
    assert fault is explore(rules, world, frozenset({fault})).fault


def test_every_rule_of_the_model_is_broken_by_some_variant() -> None:
    broken = {
        rule.name for rule in fields(Rules) for rules, _ in BROKEN.values() if getattr(rules, rule.name) != rule.default
    }
    # The two others have tests of their own: one does not matter, the other concerns what is told afterwards.
    assert {rule.name for rule in fields(Rules)} - {"released_step", "conclusion_proves"} == broken


def test_the_way_to_a_fault_is_told_step_by_step() -> None:
    assert explore(Rules(never_takes_back=False)).story == (
        "bureau 0 offers to 1",
        "bureau 0 sends the offer",
        "bureau 0 takes back on a time-out",
        "bureau 1 accepts referral 0",
    )


def test_without_the_proof_rule_nothing_is_lost_but_rightful_offers_are_refused() -> None:
    rules = Rules(judge=judge_without_proof)
    explored = explore(rules, deep, PROMISES - {Fault.RIGHTFUL_OFFER_REFUSED})
    assert None is explored.fault, explored


# While every peer follows the protocol no offer that is stale or in conflict ever comes undecided (the exhaustive search
# proves it: RIGHTFUL_OFFER_REFUSED is among its faults, and it counts every refusal by epoch). The two rules are there
# for a peer that does not, for instance one restored from an old copy of its ledger: here, senders that take back.
FAULTY_SENDERS = World(offers_max=4, keeps_messages=True)


def test_faulty_senders_cannot_replace_what_a_bureau_owns_nor_bring_an_old_epoch_back() -> None:
    explored = explore(Rules(never_takes_back=False), FAULTY_SENDERS, CONTAINMENT)
    assert None is explored.fault, explored


@pytest.mark.parametrize(
    ("judge", "fault"),
    [
        pytest.param(judge_without_stale, Fault.EPOCH_FELL, id="stale epochs are accepted"),
        pytest.param(judge_without(Refusal.CONFLICT), Fault.OWNED_RECORD_REPLACED, id="an owner accepts"),
    ],
)
def test_faulty_senders_do_harm_where_the_epoch_rule_is_broken(judge: Judge, fault: Fault) -> None:
    assert fault is explore(Rules(never_takes_back=False, judge=judge), FAULTY_SENDERS, CONTAINMENT).fault
