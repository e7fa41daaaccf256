"""Delivery: over links that lose, repeat and delay, to peers that are away or refuse, and across restarts."""

import asyncio
import random
from collections import Counter
from dataclasses import replace
from typing import Any

import grpc
import pytest

from kuaixiang.domain import acts
from kuaixiang.domain.errors import Refused, UnknownCase
from kuaixiang.domain.events import Received
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Channel, Custody, Role, Stage
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.runtime.database import DatabaseSilent
from kuaixiang.runtime.server import Context, TooMuchWaits
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.wire.v1 import referral_pb2
from node.federation import courier as courier_module
from node.federation import offers
from node.federation.server import NodeItself
from node.ledger import evidence, queries
from node.office import Place
from tests.federation.bureaus import (
    BUREAUS,
    COUNTY,
    FAR_COUNTY,
    FAR_PROVINCE,
    MONDAY,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    Do,
    Federation,
    SeededFault,
    lose_answer,
    lose_request,
    sealed,
    until,
)

CASES = 60


async def test_a_repeated_offer_gets_the_first_receipt_word_for_word_and_is_one_case(bureaus: Federation) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    offer = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert isinstance(offer, referral_pb2.Offer)
    async with bureaus.stub(PREFECTURE, node.paths) as stub:
        receipts = [await stub.Offer(sealed(offer, node.seal), timeout=SECONDS) for _ in range(3)]
    assert 1 == len({receipt.SerializeToString() for receipt in receipts})
    assert ["Received"] == bureaus.events(PREFECTURE, case_id)
    again = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert offer == again


async def test_a_lost_receipt_is_asked_for_again_until_it_arrives(bureaus: Federation) -> None:
    receiver = bureaus.node(PREFECTURE)
    receiver.link.fault = lose_answer
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(PREFECTURE, case_id, Custody.OWNED)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody
    receiver.link.fault = None
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert [PREFECTURE] == bureaus.custodians(case_id)
    assert ["Received"] == bureaus.events(PREFECTURE, case_id)


async def test_what_is_for_a_peer_that_is_away_waits_over_a_restart_and_is_delivered_when_it_is_back(
    bureaus: Federation,
) -> None:
    sender, receiver = bureaus.node(COUNTY), bureaus.node(PREFECTURE)
    await receiver.stop()
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: kept_failures(bureaus, COUNTY, PREFECTURE) >= 2)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody
    await sender.stop()
    await sender.start()
    kept = kept_failures(bureaus, COUNTY, PREFECTURE)
    assert kept >= 2
    destination = await until(lambda: sender.parts.courier.destinations.get((COUNTY, PREFECTURE)))
    assert destination.pause.failures >= kept
    await receiver.start()
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert [PREFECTURE] == bureaus.custodians(case_id)
    await until(lambda: kept_failures(bureaus, COUNTY, PREFECTURE) == 0)


async def test_a_peer_that_calls_in_ends_the_pause(bureaus: Federation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MIN", 60.0)
    receiver = bureaus.node(PREFECTURE)
    await receiver.stop()
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: kept_failures(bureaus, COUNTY, PREFECTURE) == 1)
    destination = bureaus.node(COUNTY).parts.courier.destinations[COUNTY, PREFECTURE]
    assert destination.pause.seconds_left() > 30
    await receiver.start()
    monkeypatch.undo()
    other = await bureaus.register(PREFECTURE)
    await bureaus.refer(PREFECTURE, other, COUNTY)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert [COUNTY] == bureaus.custodians(other)


async def test_a_peer_whose_pause_is_over_is_told_of_a_new_case_at_once(bureaus: Federation) -> None:
    courier = bureaus.node(COUNTY).parts.courier
    destination = courier._destination(COUNTY, PREFECTURE)
    destination.pause.failures = 3
    assert not await destination.step()
    assert courier_module.IDLE_SECONDS == destination.loop.interval_seconds
    destination.loop.start()
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)


async def test_a_pause_grows_with_each_failure_to_a_minute_and_not_beyond(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(courier_module, "_REAL", FixedClock(MONDAY))
    pause = courier_module.Pause()
    seconds = []
    for _ in range(40):
        pause.grow()
        seconds.append(pause.seconds_left())
    assert 0.16 <= seconds[0] <= 0.24
    assert 48 <= seconds[-1] <= 72
    pause.clear()
    assert 0 == pause.seconds_left()


def test_a_busy_peer_is_waited_for_up_to_a_minute_and_one_that_is_away_no_longer_than_before() -> None:
    pause = courier_module.Pause()
    waited_for = []
    for _ in range(5):
        waited_for.append(pause.patience)
        pause.learn([], [pause.patience])
    assert [10, 20, 40, 60, 60] == waited_for
    pause.learn([17.0, 25.0, 3.0], [60.0])  # one of many without an answer
    assert pause.patience == 50
    pause.learn([0.02], [])
    assert pause.patience == 10
    pause.learn([], [0.01])
    assert pause.patience == 10


async def test_what_a_busy_peer_needs_more_than_the_first_time_for_is_answered(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "CALL_SECONDS_MIN", 0.1)
    cases, destination = await owing(bureaus, 3)
    destination.pause.patience = 0.1

    async def be_busy(do: Do, context: Context) -> Any:
        await asyncio.sleep(0.3)  # who is waited for no longer than a tenth of a second does nothing
        return await do()

    bureaus.node(PREFECTURE).link.fault = be_busy
    destination.loop.start()
    for case_id in cases:
        await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert destination.pause.patience > 0.3


async def test_bureaus_of_one_node_hand_over_and_conclude_without_a_call_to_themselves(bureaus: Federation) -> None:
    node = bureaus.node(FAR_COUNTY)
    node.link.fault = lose_request
    case_id = await bureaus.register(FAR_COUNTY)
    await bureaus.refer(FAR_COUNTY, case_id, FAR_PROVINCE)
    await bureaus.reached(FAR_COUNTY, case_id, Custody.RELEASED)
    assert [FAR_PROVINCE] == bureaus.custodians(case_id)
    database = node.parts.ledger.database
    kept = [evidence.receipts(database, bureau, case_id) for bureau in (FAR_COUNTY, FAR_PROVINCE)]
    assert [1, 1] == [len(receipts) for receipts in kept]
    for act, role in (
        (acts.Dispatch(to_department="systems"), Role.TAX_SERVICE),
        (acts.Complete(result="已修复"), Role.HANDLER),
        (acts.GiveFeedback(told_by=Channel.HOTLINE, told="已修复"), Role.HANDLER),
    ):
        await bureaus.act(FAR_PROVINCE, case_id, act, role)
    await until(lambda: "Concluded" in bureaus.events(FAR_COUNTY, case_id))


async def test_a_refusal_inside_a_node_stands_as_one_over_a_link_does(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", courier_module.ASIDE_SECONDS_MAX)
    refusals: list[Refused] = [TooMuchWaits(WriterBusy(9)), UnknownCase(FAR_PROVINCE, "x")]

    async def refuse(*_: object) -> object:
        raise refusals[0]

    office = bureaus.office(FAR_PROVINCE)
    decide = office.decide_offer
    monkeypatch.setattr(office, "decide_offer", refuse)
    case_id = await bureaus.register(FAR_COUNTY)
    await bureaus.refer(FAR_COUNTY, case_id, FAR_PROVINCE)
    courier = bureaus.node(FAR_COUNTY).parts.courier
    destination = await until(lambda: courier.destinations.get((FAR_COUNTY, FAR_PROVINCE)))
    await until(lambda: destination.pause.failures > 1)
    assert not destination.aside
    del refusals[0]
    await until(lambda: case_id in destination.aside)
    monkeypatch.setattr(office, "decide_offer", decide)
    destination.aside.clear()
    destination.loop.wake()
    await bureaus.reached(FAR_COUNTY, case_id, Custody.RELEASED)


async def test_a_bureau_that_has_moved_to_another_node_is_told_there(bureaus: Federation) -> None:
    parts = bureaus.node(FAR_COUNTY).parts
    here = parts.links.told(FAR_PROVINCE, FAR_COUNTY)
    assert isinstance(here, NodeItself)
    bureaus_now = {**bureaus.tree.bureaus}
    bureaus_now[FAR_PROVINCE] = replace(bureaus_now[FAR_PROVINCE], endpoint="127.0.0.1:1")
    parts.office.place.trees.adopt(BureauTree("moved", bureaus_now.values()))
    assert not isinstance(parts.links.told(FAR_PROVINCE, FAR_COUNTY), NodeItself)
    assert not isinstance(parts.links.told(PREFECTURE, FAR_COUNTY), NodeItself)


async def test_a_message_that_a_peer_refuses_is_set_aside_and_the_others_go_on(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", courier_module.ASIDE_SECONDS_MAX)
    refused: list[str] = []

    async def refuse_first(do: Do, context: Context) -> object:
        if not refused:
            refused.append("")
            await context.abort(grpc.StatusCode.INVALID_ARGUMENT, "no good")
        return await do()

    bureaus.node(PREFECTURE).link.fault = refuse_first
    first = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, first, PREFECTURE)
    destination = await until(lambda: bureaus.node(COUNTY).parts.courier.destinations.get((COUNTY, PREFECTURE)))
    await until(lambda: first in destination.aside)
    second = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, second, PREFECTURE)
    await bureaus.reached(COUNTY, second, Custody.RELEASED)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, first)).custody
    assert {first} == destination.aside.keys()
    assert 0 == destination.pause.failures
    destination.aside[first] = replace(destination.aside[first], until=0.0)
    destination.loop.wake()
    await bureaus.reached(COUNTY, first, Custody.RELEASED)
    await until(lambda: not destination.aside)


async def test_a_database_that_does_not_answer_sets_no_case_aside(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    node = bureaus.node(COUNTY)
    bureaus.node(PREFECTURE).link.fault = lose_answer
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    destination = await until(lambda: node.parts.courier.destinations.get((COUNTY, PREFECTURE)))
    histories, asked = queries.histories, []

    def silent(*given: Any, **more: Any) -> Any:
        asked.append(given)
        if len(asked) == 1:
            raise DatabaseSilent("ledger", "connection refused")
        return histories(*given, **more)

    monkeypatch.setattr(queries, "histories", silent)
    destination.loop.wake()
    await until(lambda: len(asked) > 1)
    assert {} == destination.aside
    bureaus.node(PREFECTURE).link.fault = None
    destination.loop.wake()
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)


async def test_a_case_set_aside_is_tried_at_once_when_it_has_changed(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "ASIDE_SECONDS_MIN", courier_module.ASIDE_SECONDS_MAX)
    refused: list[str] = []

    async def refuse_first(do: Do, context: Context) -> object:
        if not refused:
            refused.append("")
            await context.abort(grpc.StatusCode.FAILED_PRECONDITION, "not now")
        return await do()

    bureaus.node(PREFECTURE).link.fault = refuse_first
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    destination = await until(lambda: bureaus.node(COUNTY).parts.courier.destinations.get((COUNTY, PREFECTURE)))
    await until(lambda: case_id in destination.aside)
    await bureaus.act(COUNTY, case_id, acts.WithdrawOffer(reason="本级可办"))
    await bureaus.reached(COUNTY, case_id, Custody.OWNED)


async def test_a_receipt_that_another_bureau_signed_settles_nothing(bureaus: Federation) -> None:
    stranger = bureaus.node(PROVINCE).seal

    async def sign_anew(do: Do, context: Context) -> object:
        receipt = await do()
        receipt.signature.CopyFrom(stranger.sign(receipt.decision))
        return receipt

    bureaus.node(PREFECTURE).link.fault = sign_anew
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    destination = await until(lambda: bureaus.node(COUNTY).parts.courier.destinations.get((COUNTY, PREFECTURE)))
    await until(lambda: case_id in destination.aside)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody


async def test_a_receipt_for_another_referral_settles_nothing(bureaus: Federation) -> None:
    seal = bureaus.node(PREFECTURE).seal

    async def answer_otherwise(do: Do, context: Context) -> object:
        decision = referral_pb2.Decision.FromString((await do()).decision)
        decision.referral_id = "0" * 32
        payload = decision.SerializeToString()
        return referral_pb2.Receipt(decision=payload, signature=seal.sign(payload))

    bureaus.node(PREFECTURE).link.fault = answer_otherwise
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    destination = await until(lambda: bureaus.node(COUNTY).parts.courier.destinations.get((COUNTY, PREFECTURE)))
    await until(lambda: case_id in destination.aside)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody


async def test_a_peer_without_an_endpoint_is_counted_and_tried_again(bureaus: Federation) -> None:
    node = bureaus.node(COUNTY)
    await node.stop()
    located = bureaus.tree.bureaus.values()
    without = [replace(bureau, endpoint="" if bureau.code == PREFECTURE else bureau.endpoint) for bureau in located]
    node.place = Place(BureauTree("without", without), bureaus.place.calendar, bureaus.place.rules, bureaus.clock)
    await node.start()
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await until(lambda: kept_failures(bureaus, COUNTY, PREFECTURE) >= 2)
    assert Custody.OFFERED is (await bureaus.case(COUNTY, case_id)).custody


async def test_a_renewed_certificate_is_used_for_the_next_message(bureaus: Federation) -> None:
    node = bureaus.node(COUNTY)
    first = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, first, PREFECTURE)
    await bureaus.reached(COUNTY, first, Custody.RELEASED)
    before = node.parts.links.stub(PREFECTURE)
    pki.issue(bureaus.authority, node.paths.certificate.parent, "node", node.codes, force=True)
    assert before is not node.parts.links.stub(PREFECTURE)
    second = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, second, PREFECTURE)
    await bureaus.reached(COUNTY, second, Custody.RELEASED)


async def test_more_than_a_batch_is_delivered_without_waiting_for_anything_else(bureaus: Federation) -> None:
    node = bureaus.node(OTHER_COUNTY)
    await node.stop()
    await node.start(deliver=False)
    cases = [await bureaus.register(OTHER_COUNTY) for _ in range(courier_module.BATCH_MAX + 10)]
    await asyncio.gather(*(bureaus.refer(OTHER_COUNTY, case_id, PREFECTURE) for case_id in cases))
    await node.parts.courier.start()
    for case_id in cases:
        await bureaus.reached(OTHER_COUNTY, case_id, Custody.RELEASED)
    assert [[PREFECTURE]] * len(cases) == [bureaus.custodians(case_id) for case_id in cases]


async def owing(bureaus: Federation, count: int) -> tuple[list[str], courier_module.Destination]:
    """Cases of which a peer is owed the offer; delivered by steps of the destination."""
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    cases = [await bureaus.register(COUNTY) for _ in range(count)]
    for case_id in cases:
        await bureaus.refer(COUNTY, case_id, PREFECTURE)
    return cases, node.parts.courier._destination(COUNTY, PREFECTURE)


async def test_a_peer_without_an_answer_is_told_one_message_and_twice_as_many_after_each_answer(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MAX", 0.0)
    cases, destination = await owing(bureaus, 12)
    told: list[int] = []

    async def step(*, answered: bool) -> None:
        told.append(0)

        async def count(do: Do, context: Context) -> Any:
            told[-1] += 1
            return await do() if answered else await lose_request(do, context)

        bureaus.node(PREFECTURE).link.fault = count
        await destination.step()

    for _ in range(3):
        await step(answered=False)
    for _ in range(4):
        await step(answered=True)
    assert [12, 1, 1, 1, 2, 4, 5] == told
    for case_id in cases:
        await bureaus.reached(COUNTY, case_id, Custody.RELEASED)


@pytest.mark.parametrize("count", [1, 3])
async def test_messages_that_are_never_answered_hold_up_none_of_the_others(
    bureaus: Federation, monkeypatch: pytest.MonkeyPatch, count: int
) -> None:
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MAX", 0.0)
    cases, destination = await owing(bureaus, 7 + count)
    unlucky, others = cases[:count], cases[count:]

    async def lose_some(do: Do, context: Context) -> Any:
        receipt = await do()
        if referral_pb2.Decision.FromString(receipt.decision).case_id in unlucky:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "too late")
        return receipt

    bureaus.node(PREFECTURE).link.fault = lose_request
    await destination.step()
    bureaus.node(PREFECTURE).link.fault = lose_some
    for _ in range(4 + count):
        await destination.step()
    for case_id in others:
        await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    assert [Custody.OFFERED] * count == [(await bureaus.case(COUNTY, case_id)).custody for case_id in unlucky]


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20190301, 20261123])
async def test_over_a_bad_link_with_restarts_every_case_ends_with_one_custodian_and_none_is_lost(
    bureaus: Federation, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MIN", 0.05)
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MAX", 0.5)
    for index, node in enumerate(bureaus.nodes):
        node.link.fault = SeededFault(seed + index)
    codes = [bureau.code for bureau in BUREAUS]
    dice = random.Random(seed)
    cases = [await bureaus.register(dice.choice(codes)) for _ in range(CASES)]
    restarts = asyncio.create_task(restart_now_and_then(bureaus, dice))
    try:
        await asyncio.gather(*(wander(bureaus, case_id, random.Random(f"{seed} {case_id}")) for case_id in cases))
    finally:
        await restarts
    owners = {case_id: await until(lambda case_id=case_id: settled(bureaus, case_id), 60) for case_id in cases}  # type: ignore[misc]
    accepted = Counter(
        (case_id, item.entry.event.epoch)
        for case_id in cases
        for code in codes
        for item in bureaus.history(code, case_id)
        if isinstance(item.entry.event, Received)
    )
    assert [] == [key for key, times in accepted.items() if times > 1]
    assert len(accepted) > CASES
    for node in bureaus.nodes:
        node.link.fault = None
    for case_id, owner in owners.items():
        await finish(bureaus, owner, case_id)
    for case_id, owner in owners.items():
        for code in codes:
            if code != owner and bureaus.known(code, case_id) is not None:
                await bureaus.reached(code, case_id, Stage.CONCLUDED, Custody.RELEASED)
    for bureau in BUREAUS:
        if bureau.parent is not None:
            await ledgers_agree(bureaus, bureau.code, bureau.parent)


async def ledgers_agree(bureaus: Federation, bureau: str, superior: str) -> None:
    """The two ledgers tell the same of every hand-over, once the last acknowledgements are in."""
    reconciler = bureaus.node(bureau).parts.reconciler
    async with asyncio.timeout(SECONDS):
        while True:
            found = (await reconciler.reconcile(bureau, superior, reconciler.usual_period())).comparison
            assert [] == found.differences
            if not found.pending:
                return
            await asyncio.sleep(0.1)


async def wander(bureaus: Federation, case_id: str, dice: random.Random) -> None:
    """Whoever has the case sends it on, back, or regrets having done so, a few times."""
    codes = [bureau.code for bureau in BUREAUS]
    for _ in range(dice.randint(1, 4)):
        await asyncio.sleep(dice.uniform(0.0, 0.4))
        for code in codes:
            try:
                case = bureaus.known(code, case_id) if bureaus.node(code).up else None
                if case is None:
                    continue
                if case.custody is Custody.OWNED:
                    if case.incoming is not None and dice.random() < 0.3:
                        await bureaus.act(code, case_id, acts.Return(reason="不属本局"))
                    else:
                        await bureaus.refer(code, case_id, dice.choice([other for other in codes if other != code]))
                elif case.custody is Custody.OFFERED and dice.random() < 0.2:
                    await bureaus.act(code, case_id, acts.WithdrawOffer(reason="本级可办"))
            except (Refused, AssertionError):
                continue  # somebody was quicker, or the node is being restarted


async def restart_now_and_then(bureaus: Federation, dice: random.Random) -> None:
    for _ in range(4):
        await asyncio.sleep(0.4)
        node = dice.choice(bureaus.nodes)
        await node.stop()
        await asyncio.sleep(0.1)
        await node.start()


def settled(bureaus: Federation, case_id: str) -> str | None:
    """The one custodian; None while some ledger still waits for a decision."""
    known = [case for bureau in BUREAUS if (case := bureaus.known(bureau.code, case_id)) is not None]
    owners = [case.bureau for case in known if case.custody is Custody.OWNED]
    assert len(owners) <= 1, f"{case_id} is held by {owners}"
    waiting = any(case.custody is Custody.OFFERED for case in known)
    return owners[0] if owners and not waiting else None


async def finish(bureaus: Federation, owner: str, case_id: str) -> None:
    case = await bureaus.case(owner, case_id)
    if case.stage is Stage.REGISTERED:
        await bureaus.act(owner, case_id, acts.Withdraw(reason="纳税人撤回"))
    else:
        await bureaus.handle(owner, case_id)


def kept_failures(bureaus: Federation, bureau: str, peer: str) -> int:
    state = queries.peer_states(bureaus.office(bureau).ledger.database).get((bureau, peer))
    return state.failures if state is not None else 0
