"""An offered case is judged by rule at once: by the tree first, then by what the ledger knows of the case."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.domain.custody import Holding, OfferFacts, judge, judge_epoch, judge_route, proves_acceptance
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Custody, Refusal

HEADQUARTERS = "000000"
HEBEI, SHIJIAZHUANG, CHANGAN, XINHUA = "130000", "130100", "130102", "130105"
BEIJING, DONGCHENG = "110000", "110101"
NOWHERE = "990000"
HOPS_MAX = 8

tree = BureauTree(
    "test",
    (
        Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
        Bureau(HEBEI, "Hebei", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(SHIJIAZHUANG, "Shijiazhuang", Tier.PREFECTURE, HEBEI),
        Bureau(CHANGAN, "Chang'an", Tier.COUNTY, SHIJIAZHUANG),
        Bureau(XINHUA, "Xinhua", Tier.COUNTY, SHIJIAZHUANG),
        Bureau(BEIJING, "Beijing", Tier.PROVINCIAL, HEADQUARTERS),
        Bureau(DONGCHENG, "Dongcheng", Tier.COUNTY, BEIJING),
    ),
)
escalation = OfferFacts(
    from_bureau=CHANGAN, to_bureau=SHIJIAZHUANG, final_bureau=SHIJIAZHUANG, path=(CHANGAN,), epoch=1
)
epochs = st.integers(min_value=0, max_value=1_000)
holdings = st.builds(lambda custody, epoch: Holding(custody=custody, epoch=epoch), st.sampled_from(Custody), epochs)


def judged(offer: OfferFacts, holding: Holding | None = None) -> Refusal | None:
    """What the bureau that the offer is addressed to says."""
    return judge(offer, offer.to_bureau, holding, tree, HOPS_MAX)


def held(custody: Custody, epoch: int) -> Holding:
    return Holding(custody=custody, epoch=epoch)


def test_a_superior_accepts_a_case_escalated_to_it() -> None:
    assert None is judged(escalation)


def test_a_subordinate_accepts_a_case_referred_to_it() -> None:
    offer = OfferFacts(from_bureau=SHIJIAZHUANG, to_bureau=XINHUA, final_bureau=XINHUA, path=(SHIJIAZHUANG,), epoch=1)
    assert None is judged(offer)


def test_every_bureau_on_the_way_to_another_province_accepts_the_case_and_relays_it() -> None:
    route = tree.route(CHANGAN, DONGCHENG)
    verdicts = [
        judged(
            OfferFacts(
                from_bureau=route[hop - 1],
                to_bureau=route[hop],
                final_bureau=DONGCHENG,
                path=route[:hop],
                epoch=hop,
            )
        )
        for hop in range(1, len(route))
    ]
    assert [None] * 5 == verdicts


def test_a_ruling_is_believed_on_its_way_down_from_the_superior_that_ruled() -> None:
    route = tree.route(HEADQUARTERS, XINHUA)
    verdicts = [
        judged(
            OfferFacts(
                from_bureau=route[hop - 1],
                to_bureau=route[hop],
                final_bureau=XINHUA,
                path=route[:hop],
                epoch=hop,
                ruled_by=HEADQUARTERS,
            )
        )
        for hop in range(1, len(route))
    ]
    assert [None] * 3 == verdicts


@pytest.mark.parametrize(
    "forged",
    [
        replace(escalation, ruled_by=HEADQUARTERS),
        replace(escalation, ruled_by=CHANGAN),
        replace(escalation, final_bureau=XINHUA, path=(HEADQUARTERS, CHANGAN), ruled_by=HEADQUARTERS),
        replace(
            escalation,
            from_bureau=SHIJIAZHUANG,
            to_bureau=XINHUA,
            final_bureau=XINHUA,
            path=(CHANGAN, SHIJIAZHUANG),
            ruled_by=HEADQUARTERS,
        ),
        replace(
            escalation,
            from_bureau=SHIJIAZHUANG,
            to_bureau=XINHUA,
            final_bureau=XINHUA,
            path=(CHANGAN, SHIJIAZHUANG),
            ruled_by=CHANGAN,
        ),
        replace(
            escalation,
            from_bureau=SHIJIAZHUANG,
            to_bureau=XINHUA,
            final_bureau=XINHUA,
            path=(HEADQUARTERS, HEBEI, HEBEI, SHIJIAZHUANG),
            ruled_by=HEADQUARTERS,
        ),
        replace(
            escalation,
            from_bureau=SHIJIAZHUANG,
            to_bureau=XINHUA,
            final_bureau=XINHUA,
            path=(HEADQUARTERS, SHIJIAZHUANG),
            ruled_by=HEADQUARTERS,
        ),
    ],
    ids=[
        "by a subordinate",
        "by itself",
        "with a false way",
        "relayed",
        "of a sibling",
        "by a longer way",
        "by a shorter way",
    ],
)
def test_a_ruling_that_did_not_come_down_binds_nobody(forged: OfferFacts) -> None:
    assert Refusal.INVALID is judged(forged)


def test_an_offer_for_another_bureau_is_refused_as_wrongly_addressed() -> None:
    assert Refusal.WRONG_ADDRESSEE is judge(escalation, HEBEI, None, tree, HOPS_MAX)


def test_an_offer_from_a_bureau_outside_the_tree_is_refused_as_wrongly_addressed() -> None:
    assert Refusal.WRONG_ADDRESSEE is judged(replace(escalation, from_bureau=NOWHERE, path=(NOWHERE,)))


def test_an_offer_meant_for_a_bureau_outside_the_tree_is_refused_as_wrongly_addressed() -> None:
    assert Refusal.WRONG_ADDRESSEE is judged(replace(escalation, final_bureau=NOWHERE))


@pytest.mark.parametrize(
    "stranger",
    [
        pytest.param(CHANGAN, id="a sibling"),
        pytest.param(HEBEI, id="a superior's superior"),
        pytest.param(BEIJING, id="a bureau of another province"),
        pytest.param(XINHUA, id="the bureau itself"),
    ],
)
def test_an_offer_is_refused_from_any_but_the_superior_and_the_subordinates(stranger: str) -> None:
    offer = OfferFacts(from_bureau=stranger, to_bureau=XINHUA, final_bureau=XINHUA, path=(stranger,), epoch=1)
    assert Refusal.NOT_ADJACENT is judged(offer)


def test_a_case_is_refused_by_a_bureau_that_it_has_passed_on_this_journey() -> None:
    offer = OfferFacts(
        from_bureau=HEBEI, to_bureau=SHIJIAZHUANG, final_bureau=CHANGAN, path=(SHIJIAZHUANG, HEBEI), epoch=2
    )
    assert Refusal.LOOP is judged(offer)


def test_a_return_is_a_journey_of_its_own_and_no_loop() -> None:
    returned = OfferFacts(
        from_bureau=SHIJIAZHUANG, to_bureau=CHANGAN, final_bureau=CHANGAN, path=(SHIJIAZHUANG,), epoch=2
    )
    assert None is judged(returned, held(Custody.RELEASED, 0))


def test_a_case_makes_no_more_hops_than_the_limit() -> None:
    path = (DONGCHENG, BEIJING, HEADQUARTERS)
    offer = OfferFacts(from_bureau=HEADQUARTERS, to_bureau=HEBEI, final_bureau=HEBEI, path=path, epoch=3)
    assert [None, Refusal.TOO_MANY_HOPS] == [judge_route(offer, HEBEI, tree, hops_max) for hops_max in (4, 3)]


def test_a_bureau_refuses_a_case_that_it_would_have_to_relay_back() -> None:
    assert Refusal.WRONG_ADDRESSEE is judged(replace(escalation, final_bureau=CHANGAN))


def test_the_tree_is_looked_at_before_the_epoch() -> None:
    looped = replace(escalation, path=(SHIJIAZHUANG, CHANGAN))
    assert Refusal.LOOP is judged(looped, held(Custody.OWNED, 5))


@given(epochs)
def test_a_case_that_the_ledger_has_never_heard_of_is_accepted_at_any_epoch(epoch: int) -> None:
    assert None is judge_epoch(epoch, None)


@given(holdings, st.integers(min_value=0, max_value=1_000))
def test_an_epoch_that_the_ledger_has_been_at_or_past_is_stale_whoever_has_the_case(
    holding: Holding, behind: int
) -> None:
    assert Refusal.STALE_EPOCH is judge_epoch(holding.epoch - behind, holding)


@given(epochs, st.integers(min_value=1, max_value=1_000))
def test_a_bureau_that_released_a_case_accepts_it_back_at_a_higher_epoch(epoch: int, ahead: int) -> None:
    assert None is judge_epoch(epoch + ahead, held(Custody.RELEASED, epoch))


@given(epochs, st.integers(min_value=1, max_value=1_000))
def test_an_owner_never_accepts_its_own_case(epoch: int, ahead: int) -> None:
    assert Refusal.CONFLICT is judge_epoch(epoch + ahead, held(Custody.OWNED, epoch))


def test_an_offer_one_epoch_above_my_outstanding_one_is_in_conflict_with_it() -> None:
    assert Refusal.CONFLICT is judge_epoch(4, held(Custody.OFFERED, 3))


@given(epochs, st.integers(min_value=2, max_value=1_000))
def test_an_offer_two_or_more_epochs_above_mine_proves_that_my_outstanding_one_was_accepted(
    epoch: int, ahead: int
) -> None:
    assert proves_acceptance(epoch + ahead, epoch)
    assert None is judge_epoch(epoch + ahead, held(Custody.OFFERED, epoch))


@given(epochs, st.integers(min_value=-1_000, max_value=1))
def test_nothing_nearer_than_two_epochs_proves_anything(epoch: int, ahead: int) -> None:
    assert not proves_acceptance(epoch + ahead, epoch)
