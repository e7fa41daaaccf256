"""Supervision orders between real nodes: three tiers, bad links, restarts, forged and misdirected calls, superiors' view."""

import asyncio
import random
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import grpc
import pytest

from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.events import OrderAnswered
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.order_errors import DerivedOrdersOpen, OrderActNotAllowed
from kuaixiang.domain.orders import ENDED, Order, possible
from kuaixiang.domain.words import Custody, Light, OrderLevel, OrderSide, OrderStage, Role, Telling
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.server import Context
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import case_pb2, supervision_pb2
from node.federation import attestations
from node.federation import courier as courier_module
from node.federation.statements import owed_of_order
from node.ledger import queries
from node.office import Header
from node.supervision import STATEMENT_BYTES_MAX
from node.sweep import Sweep
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    MONDAY,
    NODES,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    Do,
    Federation,
    SeededFault,
    lose_answer,
    until,
)
from tests.node.callers import refusal_of

SALT = bytes(range(16))
WAY = (HEADQUARTERS, PROVINCE, PREFECTURE, COUNTY)
ISSUE = order_acts.IssueOrder(
    final_bureau=COUNTY,
    level=OrderLevel.KEY,
    text="请说明逾期原因并限期办结",
    answer_workdays=3,
    case_ids=("c-1", "c-2"),
)
ACKNOWLEDGE = order_acts.AcknowledgeOrder()
ANSWER = order_acts.AnswerOrder(answer="已办结，逾期因系统故障")
RETURN = order_acts.ReturnAnswer(reason="未附材料", answer_workdays=2)
EXAMPLES: dict[type[OrderAct], OrderAct] = {
    type(act): act
    for act in (ACKNOWLEDGE, ANSWER, order_acts.AcceptAnswer(), RETURN, order_acts.CancelOrder(reason="误发"))
}
ROLE = {order_acts.AcknowledgeOrder: Role.TAX_SERVICE, order_acts.AnswerOrder: Role.TAX_SERVICE}


async def act(bureaus: Federation, bureau: str, order_id: str, what: OrderAct, key: str = "") -> Order:
    role = ROLE.get(type(what), Role.SUPERVISOR)
    header = Header(
        bureau=bureau, case_id=order_id, actor="officer-1", role=role, department="tax-service", request_key=key
    )
    return (await bureaus.office(bureau).orders.perform(header, what)).orders[0]


async def issue(bureaus: Federation, bureau: str = HEADQUARTERS, what: order_acts.IssueOrder = ISSUE) -> str:
    return (await act(bureaus, bureau, "", what)).order_id


def known(bureaus: Federation, bureau: str, order_id: str) -> Order | None:
    return queries.one_order(bureaus.office(bureau).ledger.database, bureau, order_id)


async def reached(bureaus: Federation, bureau: str, order_id: str, stage: OrderStage) -> Order:
    def so() -> Order | None:
        order = known(bureaus, bureau, order_id)
        return order if order is not None and order.stage is stage else None

    return await until(so)


async def everywhere(bureaus: Federation, order_id: str, stage: OrderStage, way: tuple[str, ...] = WAY) -> None:
    """Every ledger on the way is at that stage, and nobody is owed anything."""
    for code in way:
        await reached(bureaus, code, order_id, stage)
        await until(lambda code=code: (o := known(bureaus, code, order_id)) is not None and not o.owed)  # type: ignore[misc]


def events(bureaus: Federation, bureau: str, order_id: str) -> list[str]:
    return [type(item.entry.event).__name__ for item in history(bureaus, bureau, order_id)]


def history(bureaus: Federation, bureau: str, order_id: str) -> list[queries.HistoryEntry]:
    return queries.history(bureaus.office(bureau).ledger.database, bureau, order_id, private=True)


# ---------------------------------------------------------------- end to end


async def test_an_order_goes_from_headquarters_to_a_county_and_its_answer_comes_back(bureaus: Federation) -> None:
    order_id = await issue(bureaus)
    assert "000000-2026-D000001" == order_id
    await everywhere(bureaus, order_id, OrderStage.RECEIVED)
    await act(bureaus, COUNTY, order_id, ACKNOWLEDGE)
    await act(bureaus, COUNTY, order_id, ANSWER)
    await everywhere(bureaus, order_id, OrderStage.ANSWERED)
    await act(bureaus, HEADQUARTERS, order_id, RETURN)
    await everywhere(bureaus, order_id, OrderStage.RETURNED)
    await act(bureaus, COUNTY, order_id, replace(ANSWER, answer="材料已补"))
    await everywhere(bureaus, order_id, OrderStage.ANSWERED)
    await act(bureaus, HEADQUARTERS, order_id, order_acts.AcceptAnswer())
    await everywhere(bureaus, order_id, OrderStage.CLOSED)
    for code in WAY:
        texts = [item.entry.event.private for item in history(bureaus, code, order_id)]
        assert ISSUE.text in {private.text for private in texts if private}
        assert "材料已补" in {private.note for private in texts if private}
    assert [
        "OrderReceived",
        "OrderAcknowledged",
        "OrderAnswered",
        "OrderAnswerReturned",
        "OrderAnswered",
        "OrderClosed",
    ] == [name for name in events(bureaus, COUNTY, order_id) if name != "OrderDelivered"]


async def test_the_same_order_under_the_same_key_is_issued_once(bureaus: Federation) -> None:
    first = await act(bureaus, PREFECTURE, "", replace(ISSUE, final_bureau=COUNTY), key="k-1")
    again = await act(bureaus, PREFECTURE, "", replace(ISSUE, final_bureau=COUNTY), key="k-1")
    other = await act(bureaus, PREFECTURE, "", replace(ISSUE, final_bureau=COUNTY), key="k-2")
    assert (first.order_id, f"{PREFECTURE}-2026-D000002") == (again.order_id, other.order_id)


async def test_a_province_derives_orders_from_one_it_received_and_answers_when_its_own_are_answered(
    bureaus: Federation,
) -> None:
    parent = await issue(bureaus, HEADQUARTERS, replace(ISSUE, final_bureau=PROVINCE))
    await everywhere(bureaus, parent, OrderStage.RECEIVED, (HEADQUARTERS, PROVINCE))
    cascade = order_acts.CascadeOrder(
        to_bureaus=(COUNTY, OTHER_COUNTY), level=OrderLevel.SUPERVISE, text="请报送", answer_workdays=2
    )
    header = Header(
        bureau=PROVINCE, case_id=parent, actor="head", role=Role.SUPERVISOR, department="tax-service", request_key="c"
    )
    desk = bureaus.office(PROVINCE).orders
    with pytest.raises(OrderActNotAllowed, match="supervise cascade"):
        await desk.perform(header, cascade)
    await act(bureaus, PROVINCE, parent, ACKNOWLEDGE)
    done = await desk.perform(header, cascade)
    assert [parent, parent] == [order.parent_order_id for order in done.orders]
    again = await desk.perform(header, cascade)
    assert ([order.order_id for order in done.orders], True) == (
        [order.order_id for order in again.orders],
        again.repeated,
    )
    first, second = (order.order_id for order in done.orders)
    await everywhere(bureaus, first, OrderStage.RECEIVED, (PROVINCE, PREFECTURE, COUNTY))
    await act(bureaus, COUNTY, first, ACKNOWLEDGE)
    await act(bureaus, COUNTY, first, ANSWER)
    await everywhere(bureaus, first, OrderStage.ANSWERED, (PROVINCE, PREFECTURE, COUNTY))
    with pytest.raises(DerivedOrdersOpen, match=second) as refusal:
        await act(bureaus, PROVINCE, parent, ANSWER)
    assert "because" == refusal.value.field
    await act(bureaus, PROVINCE, second, order_acts.CancelOrder(reason="并入另一件"))
    await act(bureaus, PROVINCE, parent, ANSWER)
    await everywhere(bureaus, parent, OrderStage.ANSWERED, (HEADQUARTERS, PROVINCE))


async def test_an_unanswered_order_becomes_overdue_once_in_each_ledger_of_its_way(bureaus: Federation) -> None:
    order_id = await issue(bureaus)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED)
    bureaus.clock.set(MONDAY + timedelta(days=4))
    for _ in range(2):
        for node in bureaus.nodes:
            await Sweep(node.parts.office).step()
    for code in WAY:
        order = known(bureaus, code, order_id)
        assert order is not None
        assert order.clock is not None
        assert order.clock.overdue
        assert 1 == events(bureaus, code, order_id).count("OrderClockNoted")
        assert (1, 1) == queries.open_orders(
            bureaus.office(code).ledger.database, [code], to_micros(bureaus.clock.now())
        ) or code in {PROVINCE, PREFECTURE}


async def test_orders_are_no_cases(bureaus: Federation) -> None:
    order_id = await issue(bureaus, PREFECTURE)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED, (PREFECTURE, COUNTY))
    for code in (PREFECTURE, COUNTY):
        assert None is bureaus.known(code, order_id)
        database = bureaus.office(code).ledger.database
        assert ([], "") == queries.list_cases(database, queries.CaseFilter(bureau=code), 10, "")


# ---------------------------------------------------------------- bad links


async def test_a_repeated_statement_gets_the_first_receipt_word_for_word_and_is_one_order(bureaus: Federation) -> None:
    order_id, message = await unsent(bureaus)
    async with bureaus.supervision(COUNTY, bureaus.node(PREFECTURE).paths) as stub:
        request = sealed(bureaus, PREFECTURE, message)
        receipts = [await stub.DeliverOrder(request, timeout=SECONDS) for _ in range(3)]
    assert 1 == len({receipt.SerializeToString() for receipt in receipts})
    assert 1 == events(bureaus, COUNTY, order_id).count("OrderReceived")


async def test_a_lost_receipt_is_asked_for_again_until_it_arrives(bureaus: Federation) -> None:
    for code in (PREFECTURE, COUNTY):
        bureaus.node(code).link.fault = lose_answer
    order_id = await issue(bureaus, PREFECTURE)
    await reached(bureaus, COUNTY, order_id, OrderStage.RECEIVED)
    assert [COUNTY] == list((await bureaus.office(PREFECTURE).orders.read(PREFECTURE, order_id)).owed)
    for code in (PREFECTURE, COUNTY):
        bureaus.node(code).link.fault = None
    await everywhere(bureaus, order_id, OrderStage.RECEIVED, (PREFECTURE, COUNTY))
    assert 1 == events(bureaus, COUNTY, order_id).count("OrderReceived")
    assert 1 == events(bureaus, PREFECTURE, order_id).count("OrderArrived")


async def test_an_order_for_a_county_that_is_away_waits_over_a_restart_of_the_bureau_between(
    bureaus: Federation,
) -> None:
    await bureaus.node(COUNTY).stop()
    order_id = await issue(bureaus)
    await reached(bureaus, PREFECTURE, order_id, OrderStage.ISSUED)
    await bureaus.node(PREFECTURE).stop()
    await bureaus.node(PREFECTURE).start()
    await act(bureaus, HEADQUARTERS, order_id, order_acts.CancelOrder(reason="误发"))
    await reached(bureaus, PREFECTURE, order_id, OrderStage.CANCELLED)
    other = await issue(bureaus)
    await bureaus.node(COUNTY).start()
    await everywhere(bureaus, order_id, OrderStage.CANCELLED)
    await everywhere(bureaus, other, OrderStage.RECEIVED)


async def test_statements_that_arrive_in_the_wrong_order_leave_the_later_one_standing(bureaus: Federation) -> None:
    order_id, issued = await unsent(bureaus)
    await act(bureaus, PREFECTURE, order_id, order_acts.CancelOrder(reason="误发"))
    cancelled = owed_of_order(history(bureaus, PREFECTURE, order_id), COUNTY)
    assert isinstance(cancelled, supervision_pb2.OrderStatement)
    async with bureaus.supervision(COUNTY, bureaus.node(PREFECTURE).paths) as stub:
        for message in (cancelled, issued):
            await stub.DeliverOrder(sealed(bureaus, PREFECTURE, message), timeout=SECONDS)
    order = known(bureaus, COUNTY, order_id)
    assert order is not None
    assert OrderStage.CANCELLED is order.stage


async def test_a_receipt_that_another_bureau_signed_proves_nothing(bureaus: Federation) -> None:
    stranger = bureaus.node(PROVINCE).seal

    async def sign_anew(do: Do, context: Context) -> object:
        receipt = await do()
        if isinstance(receipt, supervision_pb2.OrderReceipt):
            receipt.signature.CopyFrom(stranger.sign(receipt.record))
        return receipt

    bureaus.node(COUNTY).link.fault = sign_anew
    order_id = await issue(bureaus, PREFECTURE)
    courier = bureaus.node(PREFECTURE).parts.courier
    destination = await until(lambda: courier.destinations.get((PREFECTURE, COUNTY)))
    await until(lambda: order_id in destination.aside)
    order = known(bureaus, PREFECTURE, order_id)
    assert order is not None
    assert 0 == order.told_below


@pytest.mark.slow
@pytest.mark.parametrize("seed", [20190305, 20261124])
async def test_over_a_bad_link_with_restarts_no_order_is_lost_and_all_ledgers_end_alike(
    bureaus: Federation, seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MIN", 0.05)
    monkeypatch.setattr(courier_module, "BACKOFF_SECONDS_MAX", 0.5)
    for index, node in enumerate(bureaus.nodes):
        node.link.fault = SeededFault(seed + index)
    dice = random.Random(seed)
    orders = [await issue(bureaus) for _ in range(12)]

    async def live(order_id: str, chance: random.Random) -> None:
        for _ in range(25):
            await asyncio.sleep(chance.uniform(0.0, 0.3))
            code = chance.choice((HEADQUARTERS, COUNTY))
            try:
                order = known(bureaus, code, order_id) if bureaus.node(code).up else None
                kinds = [kind for kind in possible(order) if kind in EXAMPLES] if order else []
                if kinds and (kinds != [order_acts.CancelOrder] or chance.random() < 0.03):
                    await act(bureaus, code, order_id, EXAMPLES[chance.choice(kinds)])
            except (Refused, AssertionError):
                continue  # the node is being restarted

    async def restart() -> None:
        for _ in range(4):
            await asyncio.sleep(0.5)
            node = dice.choice(bureaus.nodes)
            await node.stop()
            await asyncio.sleep(0.1)
            await node.start()

    await asyncio.gather(*(live(order_id, random.Random(f"{seed} {order_id}")) for order_id in orders), restart())
    for node in bureaus.nodes:
        node.link.fault = None

    def settled(order_id: str) -> bool:
        found = [known(bureaus, code, order_id) for code in WAY]
        alike = {(one.stage, one.statement_step) for one in found if one}
        return all(found) and len(alike) == 1 and not any(one.owed for one in found if one)

    for order_id in orders:
        await until(lambda order_id=order_id: settled(order_id), 60)  # type: ignore[misc]
        for code in WAY:
            told = [item.entry.event for item in history(bureaus, code, order_id)]
            rounds = [event.round for event in told if isinstance(event, OrderAnswered)]
            assert sorted(set(rounds)) == rounds
    stages = {known(bureaus, HEADQUARTERS, order_id).stage for order_id in orders}  # type: ignore[union-attr]
    assert stages & ENDED


# ---------------------------------------------------------------- forged, malformed, misdirected


async def unsent(bureaus: Federation) -> tuple[str, supervision_pb2.OrderStatement]:
    """An order of the prefecture's for the county, not sent."""
    node = bureaus.node(PREFECTURE)
    await node.stop()
    await node.start(deliver=False)
    order_id = await issue(bureaus, PREFECTURE)
    message = owed_of_order(history(bureaus, PREFECTURE, order_id), COUNTY)
    assert isinstance(message, supervision_pb2.OrderStatement)
    return order_id, message


def sealed(
    bureaus: Federation, signer: str, statement: supervision_pb2.OrderStatement
) -> supervision_pb2.DeliverOrderRequest:
    """A statement as its neighbour sends it, with the word of the bureau that it names as the issuer."""
    payload = statement.SerializeToString()
    request = supervision_pb2.DeliverOrderRequest(statement=payload, signature=bureaus.node(signer).seal.sign(payload))
    if statement.issuer in {code for codes in NODES for code in codes}:
        word = attestations.of_statement(statement, SALT)
        request.attestation.CopyFrom(attestations.signed(word, bureaus.node(statement.issuer).seal.sign, SALT))
    return request


def sealed_report(
    bureaus: Federation, signer: str, report: supervision_pb2.OrderReport
) -> supervision_pb2.ReportOrderRequest:
    payload = report.SerializeToString()
    return supervision_pb2.ReportOrderRequest(report=payload, signature=bureaus.node(signer).seal.sign(payload))


async def refused(bureaus: Federation, request: Any, paths: pki.CertificatePaths, at: str = COUNTY) -> RemoteRefusal:
    """The bureau's refusal; its ledger stays as it was."""
    before = bureaus.office(at).ledger.heads[at]
    async with bureaus.supervision(at, paths) as stub:
        deliver = isinstance(request, supervision_pb2.DeliverOrderRequest)
        call: Any = stub.DeliverOrder if deliver else stub.ReportOrder
        refusal = await refusal_of(call(request, timeout=SECONDS))
    assert before == bureaus.office(at).ledger.heads[at]
    return refusal


async def test_an_order_changed_after_it_was_signed_or_signed_by_another_is_refused(bureaus: Federation) -> None:
    _, message = await unsent(bureaus)
    paths = bureaus.node(PREFECTURE).paths
    request = sealed(bureaus, PREFECTURE, message)
    message.text = "另一件事"
    request.statement = message.SerializeToString()
    assert "SignatureNotProven" == (await refused(bureaus, request, paths)).rule
    assert "SignatureNotProven" == (await refused(bureaus, sealed(bureaus, PROVINCE, message), paths)).rule


async def test_nobody_but_the_direct_superiors_node_may_deliver_an_order(bureaus: Federation) -> None:
    _, message = await unsent(bureaus)
    request = sealed(bureaus, PREFECTURE, message)
    others: tuple[tuple[pki.Kind, str], ...] = (("node", PROVINCE), ("office", PREFECTURE), ("hub", HEADQUARTERS))
    for kind, code in others:
        paths = pki.issue(bureaus.authority, bureaus.folder / f"{kind}-{code}", kind, [code])
        refusal = await refused(bureaus, request, paths)
        assert (grpc.StatusCode.PERMISSION_DENIED, "NotAuthorised") == (refusal.code, refusal.rule)
    for superior in (PROVINCE, FAR_PROVINCE, OTHER_COUNTY):
        message.from_bureau = superior
        refusal = await refused(bureaus, sealed(bureaus, superior, message), bureaus.node(superior).paths)
        assert "NotAuthorised" == refusal.rule


async def test_an_order_whose_issuer_is_no_superior_is_refused(bureaus: Federation) -> None:
    _, message = await unsent(bureaus)
    for change in ({"issuer": FAR_PROVINCE}, {"final_bureau": OTHER_COUNTY}, {"issuer": COUNTY}):
        changed = supervision_pb2.OrderStatement()
        changed.CopyFrom(message)
        for name, value in change.items():
            setattr(changed, name, value)
        refusal = await refused(bureaus, sealed(bureaus, PREFECTURE, changed), bureaus.node(PREFECTURE).paths)
        assert (grpc.StatusCode.PERMISSION_DENIED, "OrderMisdirected") == (refusal.code, refusal.rule)


async def test_another_order_of_a_known_number_is_refused_with_an_alarm_and_not_lost(bureaus: Federation) -> None:
    _, message = await unsent(bureaus)
    async with bureaus.supervision(COUNTY, bureaus.node(PREFECTURE).paths) as stub:
        await stub.DeliverOrder(sealed(bureaus, PREFECTURE, message), timeout=SECONDS)
    message.nonce = "another"
    refusal = await refused(bureaus, sealed(bureaus, PREFECTURE, message), bureaus.node(PREFECTURE).paths)
    assert (grpc.StatusCode.ABORTED, "OrderNamesake") == (refusal.code, refusal.rule)


MALFORMED: list[tuple[str, Any, str]] = [
    ("order_id", "", "statement.order_id"),
    ("nonce", "?", "statement.nonce"),
    ("step", 0, "statement.step"),
    ("step", 2_000_000, "statement.step"),
    ("round", 2_000_000, "statement.round"),
    ("stage", 0, "statement.stage"),
    ("stage", 99, "statement.stage"),
    ("level", 0, "statement.level"),
    ("issuer", "Jinan", "statement.issuer"),
    ("final_bureau", "", "statement.final_bureau"),
    ("answer_workdays", 0, "statement.answer_workdays"),
    ("answer_workdays", 251, "statement.answer_workdays"),
    ("text", "", "statement.text"),
    ("text", "长" * 10_001, "statement.text"),
    ("note", "长" * 10_001, "statement.note"),
    ("issued_at_us", 0, "statement.issued_at_us"),
    ("issued_at_us", 2**62, "statement.issued_at_us"),
]


async def test_a_malformed_order_is_refused_naming_the_field(bureaus: Federation) -> None:
    _, message = await unsent(bureaus)
    paths = bureaus.node(PREFECTURE).paths
    for name, value, at_fault in MALFORMED:
        changed = supervision_pb2.OrderStatement()
        changed.CopyFrom(message)
        setattr(changed, name, value)
        refusal = await refused(bureaus, sealed(bureaus, PREFECTURE, changed), paths)
        assert (grpc.StatusCode.INVALID_ARGUMENT, at_fault) == (refusal.code, refusal.field)
        assert refusal.remedy
    for case_ids in (["a case"], [f"c-{number}" for number in range(101)]):
        del message.case_ids[:]
        message.case_ids.extend(case_ids)
        assert "statement.case_ids" == (await refused(bureaus, sealed(bureaus, PREFECTURE, message), paths)).field
    for content in (b"\xff\xff", b"x" * (STATEMENT_BYTES_MAX + 1)):
        request = supervision_pb2.DeliverOrderRequest(
            statement=content, signature=bureaus.node(PREFECTURE).seal.sign(content)
        )
        assert "statement" == (await refused(bureaus, request, paths)).field


async def received(bureaus: Federation) -> supervision_pb2.OrderReport:
    """The county's report on an order of the prefecture's, not sent."""
    order_id = await issue(bureaus, PREFECTURE)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED, (PREFECTURE, COUNTY))
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    await act(bureaus, COUNTY, order_id, ACKNOWLEDGE)
    report = owed_of_order(history(bureaus, COUNTY, order_id), PREFECTURE)
    assert isinstance(report, supervision_pb2.OrderReport)
    return report


async def test_only_the_subordinate_that_has_the_order_reports_on_it(bureaus: Federation) -> None:
    report = await received(bureaus)
    others: tuple[tuple[str, str], ...] = ((OTHER_COUNTY, "OrderMisdirected"), (PROVINCE, "NotAuthorised"))
    for code, rule in others:
        report.from_bureau = code
        request = sealed_report(bureaus, code, report)
        assert rule == (await refused(bureaus, request, bureaus.node(code).paths, PREFECTURE)).rule
    report.from_bureau, report.order_id = COUNTY, f"{PREFECTURE}-2026-D000099"
    request = sealed_report(bureaus, COUNTY, report)
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths, PREFECTURE)
    assert (grpc.StatusCode.NOT_FOUND, "UnknownOrder") == (refusal.code, refusal.rule)


MALFORMED_REPORTS: list[tuple[str, Any, str]] = [
    ("step", 0, "report.step"),
    ("stage", 0, "report.stage"),
    ("received_at_us", 0, "report.received_at_us"),
    ("received_at_us", 2**62, "report.received_at_us"),
    ("due_at_us", 1, "report.due_at_us"),
    ("due_at_us", 2**62, "report.due_at_us"),
    ("due_at_us", to_micros(MONDAY + timedelta(days=400)), "report.due_at_us"),
    ("limit_workdays", 251, "report.limit_workdays"),
    ("calendar_version", "2026.1\0", "report.calendar_version"),
    ("calendar_version", "张三13800000000" * 20, "report.calendar_version"),
    ("acknowledged_at_us", 2**61, "report.acknowledged_at_us"),
    ("answered_at_us", -1, "report.answered_at_us"),
    ("answer", "长" * 10_001, "report.answer"),
    ("because", "长" * 10_001, "report.because"),
]


async def test_a_malformed_report_is_refused_naming_the_field(bureaus: Federation) -> None:
    report = await received(bureaus)
    for name, value, at_fault in MALFORMED_REPORTS:
        changed = supervision_pb2.OrderReport()
        changed.CopyFrom(report)
        setattr(changed, name, value)
        request = sealed_report(bureaus, COUNTY, changed)
        refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths, PREFECTURE)
        assert (grpc.StatusCode.INVALID_ARGUMENT, at_fault) == (refusal.code, refusal.field)


# ---------------------------------------------------------------- superiors look down


async def test_a_superior_sees_a_subordinates_open_cases_by_light_and_nothing_private(bureaus: Federation) -> None:
    fresh = await bureaus.register(COUNTY)
    await bureaus.act(COUNTY, await bureaus.register(COUNTY), acts.Withdraw(reason="已解决"))
    parked = await bureaus.register(COUNTY)
    await bureaus.act(COUNTY, parked, acts.Forward(telling=Telling.TRANSFERRED))
    await bureaus.act(COUNTY, parked, acts.Dispatch(to_department="systems"))
    deferral = acts.Defer(owner="officer-1", review_at=MONDAY + timedelta(days=90), condition="等待系统升级")
    await bureaus.act(COUNTY, parked, deferral, Role.HANDLER)
    referred = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, referred, PREFECTURE)
    await bureaus.reached(COUNTY, referred, Custody.RELEASED)
    bureaus.clock.set(MONDAY + timedelta(days=2))
    later = await bureaus.register(COUNTY)
    office = pki.issue(bureaus.authority, bureaus.folder / "hq-office", "office", [HEADQUARTERS])
    async with bureaus.supervision(HEADQUARTERS, office) as stub:

        async def listed(**more: Any) -> list[tuple[str, int]]:
            request = supervision_pb2.ListSubordinateCasesRequest(bureau=HEADQUARTERS, subordinate=COUNTY, **more)
            found: list[tuple[str, int]] = []
            while True:
                answer = await stub.ListSubordinateCases(request, timeout=SECONDS)
                found += [(one.case.case_id, int(one.light)) for one in answer.cases]
                assert not any(word in str(answer) for word in ("商贸", "13800138000", "税控"))
                request.page_token = answer.next_page_token
                if not request.page_token:
                    return found

        expected = [(fresh, Light.OVERDUE), (later, Light.DUE_SOON), (parked, Light.STOPPED)]
        assert expected == await listed()
        assert expected == await listed(page_size=1)
        assert expected[:1] == await listed(light=Light.OVERDUE)
        assert expected[1:2] == await listed(light=Light.DUE_SOON)
        assert expected[2:] == await listed(light=Light.STOPPED)
        assert [] == await listed(light=Light.IN_TIME)
        assert [] == await listed(extended=True)
        request = supervision_pb2.GetSubordinateCaseRequest(bureau=HEADQUARTERS, subordinate=COUNTY, case_id=fresh)
        one = await stub.GetSubordinateCase(request, timeout=SECONDS)
        assert (fresh, ["registered"]) == (one.found.case.case_id, [item.event for item in one.history])
        assert not any(word in str(one) for word in ("商贸", "13800138000", "税控"))
        request.case_id = "370102-2026-9999999"
        assert "UnknownCase" == (await refusal_of(stub.GetSubordinateCase(request, timeout=SECONDS))).rule
        await bureaus.node(PREFECTURE).stop()
        refusal = await refusal_of(stub.GetSubordinateCase(request, timeout=SECONDS))
        assert (grpc.StatusCode.RESOURCE_EXHAUSTED, "SubordinateUnreachable") == (refusal.code, refusal.rule)


async def test_nobody_but_a_superior_looks_at_a_bureaus_cases(bureaus: Federation) -> None:
    strangers: tuple[tuple[pki.Kind, str, str, str], ...] = (
        ("office", OTHER_COUNTY, COUNTY, "NotAuthorised"),
        ("node", FAR_PROVINCE, COUNTY, "NotAuthorised"),
        ("hub", FAR_PROVINCE, COUNTY, "NotAuthorised"),
        ("office", PREFECTURE, FAR_COUNTY, "NotASubordinate"),
        ("office", PREFECTURE, PROVINCE, "NotASubordinate"),
    )
    for kind, code, subordinate, rule in strangers:
        paths = pki.issue(bureaus.authority, bureaus.folder / f"{kind}-{code}", kind, [code], force=True)
        request = supervision_pb2.ListSubordinateCasesRequest(bureau=PREFECTURE, subordinate=subordinate)
        async with bureaus.supervision(PREFECTURE, paths) as stub:
            assert rule == (await refusal_of(stub.ListSubordinateCases(request, timeout=SECONDS))).rule


# ---------------------------------------------------------------- officers, over gRPC


Call = Callable[[Any], Any]


async def test_officers_issue_acknowledge_answer_and_close_over_grpc(bureaus: Federation) -> None:
    def header(bureau: str, order_id: str, role: Role) -> case_pb2.ActHeader:
        word: Any = role
        return case_pb2.ActHeader(
            bureau=bureau, case_id=order_id, actor="officer-1", role=word, department="tax-service"
        )

    level: Any = OrderLevel.URGE
    offices = {
        code: pki.issue(bureaus.authority, bureaus.folder / f"office-{code}", "office", [code])
        for code in (PREFECTURE, COUNTY)
    }
    async with (
        bureaus.supervision(PREFECTURE, offices[PREFECTURE]) as above,
        bureaus.supervision(COUNTY, offices[COUNTY]) as below,
    ):
        issued = await above.IssueOrder(
            supervision_pb2.IssueOrderRequest(
                header=header(PREFECTURE, "", Role.SUPERVISOR),
                final_bureau=COUNTY,
                level=level,
                text="请抓紧办理",
                answer_workdays=2,
                case_ids=["c-1"],
            ),
            timeout=SECONDS,
        )
        order_id = issued.order.order_id
        await everywhere(bureaus, order_id, OrderStage.RECEIVED, (PREFECTURE, COUNTY))
        await below.AcknowledgeOrder(
            supervision_pb2.AcknowledgeOrderRequest(header=header(COUNTY, order_id, Role.TAX_SERVICE)), timeout=SECONDS
        )
        await below.AnswerOrder(
            supervision_pb2.AnswerOrderRequest(header=header(COUNTY, order_id, Role.HANDLER), answer="已办结"),
            timeout=SECONDS,
        )
        await everywhere(bureaus, order_id, OrderStage.ANSWERED, (PREFECTURE, COUNTY))
        got = await above.GetOrder(
            supervision_pb2.GetOrderRequest(
                bureau=PREFECTURE, order_id=order_id, include_texts=True, include_history=True
            ),
            timeout=SECONDS,
        )
        assert ("请抓紧办理", "已办结") == (got.texts.text, got.texts.answer)
        assert ["order_issued", "order_answered"] == [got.history[0].event, got.history[-1].event]
        assert got.order.answered_at.ToDatetime(tzinfo=SHANGHAI) == MONDAY
        bare = await above.GetOrder(
            supervision_pb2.GetOrderRequest(bureau=PREFECTURE, order_id=order_id, include_history=True),
            timeout=SECONDS,
        )
        assert "请抓紧办理" not in str(bare)
        assert not any(item.note for item in bare.history)
        side: Any = OrderSide.ISSUED
        listed = await above.ListOrders(
            supervision_pb2.ListOrdersRequest(bureau=PREFECTURE, side=side, open=True), timeout=SECONDS
        )
        assert [order_id] == [order.order_id for order in listed.orders]
        stranger = supervision_pb2.ListOrdersRequest(bureau=PREFECTURE)
        assert "NotAuthorised" == (await refusal_of(below.ListOrders(stranger, timeout=SECONDS))).rule
        missing = supervision_pb2.GetOrderRequest(bureau=COUNTY, order_id="x")
        assert "UnknownOrder" == (await refusal_of(below.GetOrder(missing, timeout=SECONDS))).rule
