"""Referrals between real nodes: up, down, across, back; and how the case ended, through every ledger on the way."""

from typing import Any

import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import LedgersDisagree
from kuaixiang.domain.events import Concluded, Released
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import (
    Channel,
    ClockKind,
    Custody,
    Outcome,
    ReferralKind,
    ReferralState,
    Refusal,
    Role,
    Satisfaction,
    Stage,
)
from kuaixiang.wire.v1 import referral_pb2
from node.federation import offers
from node.ledger import schema
from node.office import Place
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    TEXT,
    Federation,
    lose_request,
    sealed,
    until,
)

RELAY = (COUNTY, PREFECTURE, PROVINCE, HEADQUARTERS, FAR_PROVINCE, FAR_COUNTY)
FEEDBACK = acts.GiveFeedback(told="已电话告知", told_by=Channel.HOTLINE)


async def test_a_case_escalated_is_the_superiors_once_it_has_accepted(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    sent = await bureaus.reached(COUNTY, case_id, Custody.RELEASED, Stage.REFERRED)
    held = await bureaus.case(PREFECTURE, case_id)
    assert [PREFECTURE] == bureaus.custodians(case_id)
    assert (1, 1, PREFECTURE) == (sent.epoch, held.epoch, sent.with_bureau)
    assert (Stage.FORWARDED, COUNTY) == (held.stage, held.origin_bureau)
    assert sent.registered_at == held.registered_at
    assert {ClockKind.DISPATCH, ClockKind.HANDLE} == {clock.kind for clock in held.clocks}
    private = bureaus.history(PREFECTURE, case_id)[0].entry.event.private
    assert private is not None
    assert (TEXT, "超出本级权限") == (private.text, private.note)


async def test_the_sender_keeps_where_and_by_which_hash_its_offer_was_accepted(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    released = bureaus.history(COUNTY, case_id)[-1].entry.event
    assert isinstance(released, Released)
    head = bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
    assert (head.seq, head.hash) == (released.receipt_seq, released.receipt_hash)


async def test_a_case_is_referred_down_to_a_subordinate(bureaus: Federation) -> None:
    case_id = await bureaus.register(PREFECTURE)
    await bureaus.refer(PREFECTURE, case_id, OTHER_COUNTY)
    await bureaus.reached(OTHER_COUNTY, case_id, Custody.OWNED)
    await bureaus.reached(PREFECTURE, case_id, Custody.RELEASED)
    assert [OTHER_COUNTY] == bureaus.custodians(case_id)


async def test_a_bureau_of_the_same_node_is_reached_like_any_other(bureaus: Federation) -> None:
    case_id = await bureaus.register(FAR_PROVINCE)
    await bureaus.refer(FAR_PROVINCE, case_id, FAR_COUNTY)
    await bureaus.reached(FAR_PROVINCE, case_id, Custody.RELEASED)
    assert [FAR_COUNTY] == bureaus.custodians(case_id)


async def test_a_case_for_another_province_is_relayed_by_every_bureau_between(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    assert [FAR_COUNTY] == bureaus.custodians(case_id)
    cases = [await bureaus.case(code, case_id) for code in RELAY]
    assert [1, 2, 3, 4, 5, 5] == [case.epoch for case in cases]
    for code in RELAY[1:-1]:
        assert ["Received", "Offered", "Released"] == bureaus.events(code, case_id)
        assert () == (await bureaus.case(code, case_id)).clocks
    kinds = [item.entry.event.referral_kind for item in bureaus.history(FAR_COUNTY, case_id)]  # type: ignore[attr-defined]
    assert [ReferralKind.RELAY] == kinds


async def test_a_case_returned_goes_back_to_where_its_journey_began(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    await bureaus.act(FAR_COUNTY, case_id, acts.Return(reason="纳税人不在本区"))
    await bureaus.reached(COUNTY, case_id, Custody.OWNED, Stage.FORWARDED)
    for code in RELAY[1:]:
        await bureaus.reached(code, case_id, Custody.RELEASED)
    assert [COUNTY] == bureaus.custodians(case_id)
    assert 10 == (await bureaus.case(COUNTY, case_id)).epoch


async def test_a_conclusion_flows_back_to_every_ledger_and_each_is_written_off(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    bureaus.node(HEADQUARTERS).link.fault = lose_request
    await bureaus.handle(FAR_COUNTY, case_id)
    await bureaus.reached(FAR_PROVINCE, case_id, Stage.CONCLUDED)
    with pytest.raises(LedgersDisagree):
        await bureaus.write_off(FAR_PROVINCE, case_id)
    bureaus.node(HEADQUARTERS).link.fault = None
    for code in RELAY[:-1]:
        heard = await bureaus.reached(code, case_id, Stage.CONCLUDED)
        assert FAR_COUNTY == heard.with_bureau
    concluded = bureaus.history(COUNTY, case_id)[-1].entry.event
    assert isinstance(concluded, Concluded)
    assert concluded.private is not None
    assert (Outcome.COMPLETED, FAR_COUNTY, "税控设备已更换") == (
        concluded.outcome,
        concluded.handled_by,
        concluded.private.note,
    )
    for code in RELAY:
        await until(lambda code=code: nothing_awaited(bureaus.known(code, case_id)))  # type: ignore[misc]
        assert Stage.WRITTEN_OFF is (await bureaus.write_off(code, case_id)).stage


async def test_a_case_cannot_be_written_off_before_the_other_ledger_has_its_conclusion(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    await bureaus.node(COUNTY).stop()
    await bureaus.handle(PREFECTURE, case_id)
    with pytest.raises(LedgersDisagree):
        await bureaus.write_off(PREFECTURE, case_id)
    await bureaus.node(COUNTY).start()
    await bureaus.reached(COUNTY, case_id, Stage.CONCLUDED)
    await until(lambda: nothing_awaited(bureaus.known(PREFECTURE, case_id)))
    await bureaus.write_off(PREFECTURE, case_id)
    await bureaus.write_off(COUNTY, case_id)


async def test_a_case_reopened_after_it_was_written_off_above_is_open_there_again(bureaus: Federation) -> None:
    case_id = await bureaus.register(PREFECTURE)
    await bureaus.refer(PREFECTURE, case_id, COUNTY)
    await bureaus.reached(PREFECTURE, case_id, Custody.RELEASED)
    await bureaus.handle(COUNTY, case_id)
    await bureaus.reached(PREFECTURE, case_id, Stage.CONCLUDED)
    await bureaus.write_off(PREFECTURE, case_id)
    follow_up = acts.FollowUp(satisfaction=Satisfaction.NOT_SATISFIED, remark="")
    await bureaus.act(COUNTY, case_id, follow_up)
    await bureaus.act(COUNTY, case_id, acts.Reopen(reason="纳税人不满意"))
    await bureaus.reached(PREFECTURE, case_id, Stage.REFERRED)
    assert "ConclusionRevoked" == bureaus.events(PREFECTURE, case_id)[-1]
    await bureaus.complete(COUNTY, case_id, "再次更换")
    await bureaus.act(COUNTY, case_id, FEEDBACK, Role.HANDLER, "handler-1")
    await bureaus.reached(PREFECTURE, case_id, Stage.CONCLUDED)
    private = bureaus.history(PREFECTURE, case_id)[-1].entry.event.private
    assert private is not None
    assert "再次更换" == private.note


async def test_a_receiver_with_another_edition_of_the_tree_refuses_and_the_sender_has_the_case_again(
    bureaus: Federation,
) -> None:
    node = bureaus.node(PREFECTURE)
    await node.stop()
    known = [bureau for code, bureau in bureaus.tree.bureaus.items() if code != FAR_COUNTY]
    node.place = Place(BureauTree("older", known), bureaus.place.calendar, bureaus.place.rules, bureaus.clock)
    await node.start()
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, FAR_COUNTY)
    await until(lambda: bureaus.events(COUNTY, case_id)[-1] == "OfferRefused")
    assert [COUNTY] == bureaus.custodians(case_id)
    row = referral(bureaus, COUNTY, case_id)
    assert (ReferralState.REFUSED, Refusal.WRONG_ADDRESSEE) == (row.state, row.refusal)


async def test_a_relaying_bureau_whose_offer_is_refused_handles_the_case_under_clocks_of_its_own(
    bureaus: Federation,
) -> None:
    node = bureaus.node(PREFECTURE)
    await node.stop()
    known = [bureau for code, bureau in bureaus.tree.bureaus.items() if code != COUNTY]
    node.place = Place(BureauTree("older", known), bureaus.place.calendar, bureaus.place.rules, bureaus.clock)
    await node.start()
    case_id = await bureaus.register(HEADQUARTERS)
    await bureaus.refer(HEADQUARTERS, case_id, COUNTY)
    await bureaus.reached(PROVINCE, case_id, Custody.OWNED)
    held = await until(lambda: bureaus.known(PROVINCE, case_id))
    assert [PROVINCE] == bureaus.custodians(case_id)
    assert {ClockKind.DISPATCH, ClockKind.HANDLE} == {clock.kind for clock in held.clocks}


async def test_an_offer_not_yet_delivered_is_withdrawn_and_a_late_copy_of_it_cannot_revive_it(
    bureaus: Federation,
) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    offer = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert isinstance(offer, referral_pb2.Offer)
    await bureaus.act(COUNTY, case_id, acts.WithdrawOffer(reason="纳税人补充了材料，本级可办"))
    await node.parts.courier.start()
    await until(lambda: bureaus.events(COUNTY, case_id)[-1] == "OfferRefused")
    assert [COUNTY] == bureaus.custodians(case_id)
    assert Refusal.WITHDRAWN == referral(bureaus, COUNTY, case_id).refusal
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        late = await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    assert not referral_pb2.Decision.FromString(late.decision).accepted
    assert bureaus.known(PREFECTURE, case_id) is None
    assert [COUNTY] == bureaus.custodians(case_id)


@pytest.mark.parametrize("accepted", [True, False])
async def test_an_offer_whose_request_was_lost_with_a_disk_is_settled_all_the_same(
    bureaus: Federation, accepted: bool
) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    offer = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert isinstance(offer, referral_pb2.Offer)
    if accepted:
        async with bureaus.stub(PREFECTURE, node.paths) as stub:
            await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    writing = bureaus.office(COUNTY).ledger.database.writing
    with writing.begin():
        writing.execute(sa.delete(schema.PRIVATE))
    await node.parts.courier.start()
    settled, custodian = ("Released", PREFECTURE) if accepted else ("OfferRefused", COUNTY)
    await until(lambda: bureaus.events(COUNTY, case_id)[-1] == settled)
    assert [custodian] == bureaus.custodians(case_id)


async def relayed(bureaus: Federation) -> str:
    """A case that went from a county of one province to a county of another."""
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, FAR_COUNTY)
    for code in RELAY[:-1]:
        await bureaus.reached(code, case_id, Custody.RELEASED)
    return case_id


def nothing_awaited(case: Case | None) -> bool:
    return case is not None and not case.awaiting


def referral(bureaus: Federation, bureau: str, case_id: str) -> sa.Row[Any]:
    """The only referral of a case in a ledger."""
    with bureaus.office(bureau).ledger.database.reading() as connection:
        table = schema.REFERRALS
        query = sa.select(table).where(table.c.bureau == bureau, table.c.case_id == case_id)
        return connection.execute(query).one()
