"""Supervision orders in the ledger, over both databases: numbered, folded, listed, swept, rebuilt; no cases."""

import asyncio
from dataclasses import replace
from random import Random
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY

from kuaixiang.domain import order_acts
from kuaixiang.domain.errors import FieldMalformed, KeyReused, VersionConflict
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.order_errors import UnknownOrder
from kuaixiang.domain.orders import ENDED, Order, possible
from kuaixiang.domain.words import OrderLevel, OrderSide, OrderStage, Role
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.wire.v1 import supervision_pb2
from node.federation.statements import WordingErased, owed_of_order
from node.gauges import Gauges
from node.ledger import ledger as ledger_module
from node.ledger import queries, schema
from node.ledger.ledger import load_orders
from node.ledger.queries import OrderFilter
from node.office import Header
from node.orders import OrdersDone
from tests.domain.story import DAY, HANGZHOU, HOUR, MONDAY, SHANGCHENG, XIHU, ZHEJIANG, day, end_of
from tests.ledger.bureaus import BUREAUS, Desks, check_journal, desks, table_rows

ISSUE = order_acts.IssueOrder(
    final_bureau=SHANGCHENG, level=OrderLevel.SUPERVISE, text="请说明逾期原因", answer_workdays=3, case_ids=("c-1",)
)
ANSWER = order_acts.AnswerOrder(answer="已经办结")
ACTS: tuple[OrderAct, ...] = (
    order_acts.AcknowledgeOrder(note="已收悉"),
    ANSWER,
    order_acts.AcceptAnswer(),
    order_acts.ReturnAnswer(reason="不完整", answer_workdays=2),
    order_acts.CancelOrder(reason="误发"),
)
TEXTS = ("请说明逾期原因", "已经办结", "已收悉", "不完整", "误发")


async def perform(opened: Desks, bureau: str, act: OrderAct, order_id: str = "", **more: Any) -> OrdersDone:
    receivers = isinstance(act, (order_acts.AcknowledgeOrder, order_acts.AnswerOrder))
    role = Role.TAX_SERVICE if receivers else Role.SUPERVISOR
    plain = {"bureau": bureau, "case_id": order_id, "actor": "officer-1", "role": role, "department": "tax-service"}
    return await opened.office.orders.perform(Header(**{**plain, **more}), act)


async def issue(opened: Desks, bureau: str = ZHEJIANG, act: order_acts.IssueOrder = ISSUE) -> str:
    return (await perform(opened, bureau, act)).orders[0].order_id


async def carry(opened: Desks) -> None:
    """All that bureaus owe each other about orders is told, whoever owes it."""
    desk = opened.office.orders
    while owing := queries.owed_peers(opened.database):
        for one in owing:
            for delivery in queries.deliveries(opened.database, one.bureau, one.peer, 10):
                history = queries.history(opened.database, one.bureau, delivery.case_id, private=True)
                message = owed_of_order(history, one.peer)
                assert message is not None
                if isinstance(message, supervision_pb2.OrderStatement):
                    receipt = await desk.hear_statement(message)
                else:
                    receipt = await desk.hear_report(message)
                record = supervision_pb2.OrderRecord.FromString(supervision_pb2.OrderReceipt.FromString(receipt).record)
                await desk.note_delivery(one.bureau, one.peer, record)


async def live(opened: Desks, seed: int, steps: int) -> list[str]:
    """Random acts on a few orders, with all that is said of them."""
    chance = Random(seed)
    orders = [await issue(opened) for _ in range(4)]
    for _ in range(steps):
        order_id, bureau = chance.choice(orders), chance.choice((ZHEJIANG, SHANGCHENG))
        order = queries.one_order(opened.database, bureau, order_id)
        kinds = possible(order) if order is not None else ()
        act = chance.choice(ACTS)
        if type(act) in kinds and (not isinstance(act, order_acts.CancelOrder) or chance.random() < 0.1):
            await perform(opened, bureau, act, order_id)
        if chance.random() < 0.4:
            await carry(opened)
        if chance.random() < 0.2:
            opened.clock.advance(chance.choice((HOUR, DAY)))
            for found in opened.to_note():
                await opened.office.note_time(*found)
    return orders


def orders_of(opened: Desks, order_ids: list[str]) -> dict[tuple[str, str], Order | None]:
    return {
        (bureau, order_id): queries.one_order(opened.database, bureau, order_id)
        for bureau in BUREAUS
        for order_id in order_ids
    }


async def test_orders_are_numbered_one_after_the_other_also_when_several_are_issued_at_once(opened: Desks) -> None:
    found = await asyncio.gather(*(issue(opened) for _ in range(6)), issue(opened, HANGZHOU))
    assert [f"{ZHEJIANG}-2026-D{number:06d}" for number in range(1, 7)] == sorted(found[:6])
    assert f"{HANGZHOU}-2026-D000001" == found[6]


async def test_a_refused_order_takes_no_number(opened: Desks) -> None:
    with pytest.raises(FieldMalformed):
        await issue(opened, act=replace(ISSUE, answer_workdays=0))
    assert f"{ZHEJIANG}-2026-D000001" == await issue(opened)


async def test_every_journal_holds_its_chain_and_orders_are_no_cases(opened: Desks) -> None:
    orders = await live(opened, 1, 80)
    for bureau in BUREAUS:
        check_journal(opened.database, bureau)
    assert [] == table_rows(opened.database, schema.CASES)
    for order_id in orders:
        assert None is queries.one_case(opened.database, ZHEJIANG, order_id)
    assert len([order for order in orders_of(opened, orders).values() if order]) == 3 * len(orders)


async def test_rebuilding_gives_the_same_rows_and_numbers(database_url: str) -> None:
    clock = FixedClock(MONDAY)
    with desks(database_url, clock=clock) as first:
        await first.register()
        orders = await live(first, 2, 80)
        await issue(first)
        before, known = first.rows(*schema.PROJECTIONS, schema.BUREAUS), orders_of(first, orders)
        assert before["orders"]
        assert before["deliveries"]
    second = Desks(database_url, clock=clock)
    try:
        second.ledger.rebuild()
        assert before == second.rows(*schema.PROJECTIONS, schema.BUREAUS)
    finally:
        second.ledger.close()
    with desks(database_url, clock=clock) as third:
        assert known == orders_of(third, orders)
        assert f"{ZHEJIANG}-2026-D000006" == await issue(third)


async def test_an_order_folded_from_the_journal_is_the_cached_one_and_a_cache_that_forgets_makes_no_difference(
    opened: Desks, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened.ledger.orders._held_max = 1
    assert ledger_module.ORDERS_CACHED_MAX > 1
    orders = await live(opened, 3, 60)
    with opened.database.reading() as connection:
        loaded = load_orders(connection, [(bureau, one) for bureau in BUREAUS for one in orders])
    for key, order in loaded.items():
        assert order == await opened.office.orders.read(*key)


async def test_what_is_private_is_in_the_private_table_alone(opened: Desks) -> None:
    order_id = await issue(opened)
    await carry(opened)
    for act in ACTS[:2]:
        await perform(opened, SHANGCHENG, act, order_id)
    await carry(opened)
    await perform(opened, ZHEJIANG, ACTS[3], order_id)
    # Receipts hold numbers and hashes.
    for table in set(schema.METADATA.sorted_tables) - {schema.PRIVATE}:
        content = b"".join(
            bytes(value) if isinstance(value, (bytes, memoryview)) else str(value).encode()
            for row in table_rows(opened.database, table)
            for value in row
        )
        assert not any(text.encode() in content for text in TEXTS), table.name


async def test_an_order_whose_wording_was_erased_is_set_aside_and_not_told_empty(opened: Desks) -> None:
    order_id = await issue(opened)
    with opened.database.writing.begin():
        opened.database.writing.execute(sa.delete(schema.PRIVATE))
    with pytest.raises(WordingErased, match=order_id):
        owed_of_order(queries.history(opened.database, ZHEJIANG, order_id, private=True), HANGZHOU)


async def test_a_repeated_message_gets_the_kept_receipt_after_a_restart_too(database_url: str) -> None:
    clock = FixedClock(MONDAY)
    with desks(database_url, clock=clock) as first:
        order_id = await issue(first)
        message = owed_of_order(queries.history(first.database, ZHEJIANG, order_id, private=True), HANGZHOU)
        assert isinstance(message, supervision_pb2.OrderStatement)
        receipt = await first.office.orders.hear_statement(message)
        heads = first.ledger.heads[HANGZHOU]
    with desks(database_url, clock=clock) as second:
        assert receipt == await second.office.orders.hear_statement(message)
        assert heads == second.ledger.heads[HANGZHOU]


async def test_an_older_message_heard_late_is_acknowledged_for_good_and_changes_nothing(opened: Desks) -> None:
    order_id = await issue(opened)
    issued = owed_of_order(queries.history(opened.database, ZHEJIANG, order_id, private=True), HANGZHOU)
    assert isinstance(issued, supervision_pb2.OrderStatement)
    await perform(opened, ZHEJIANG, ACTS[4], order_id)
    await carry(opened)
    head = opened.ledger.heads[HANGZHOU]
    receipts = [await opened.office.orders.hear_statement(issued) for _ in range(2)]
    assert head == opened.ledger.heads[HANGZHOU]
    assert 1 == len(set(receipts))


async def test_lists_page_by_nearest_deadline_and_filters_mean_what_they_say(opened: Desks) -> None:
    for number in range(7):
        level = list(OrderLevel)[number % 3]
        await issue(opened, act=replace(ISSUE, answer_workdays=1 + number % 4, level=level))
        opened.clock.advance(HOUR)
    await issue(opened, HANGZHOU)
    await carry(opened)
    await perform(opened, ZHEJIANG, ACTS[4], f"{ZHEJIANG}-2026-D000001")
    await carry(opened)

    def listed(bureau: str = ZHEJIANG, size: int = 500, **wanted: Any) -> list[Order]:
        found, token = queries.list_orders(opened.database, OrderFilter(bureau=bureau, **wanted), size, "")
        while token:
            more, token = queries.list_orders(opened.database, OrderFilter(bureau=bureau, **wanted), size, token)
            found += more
        return found

    every = listed()
    assert 7 == len(every)
    dues = [order.clock.due_at if order.clock else end_of(12, 31) for order in every]
    assert sorted(dues) == dues
    for size in (1, 2, 7):
        assert every == listed(size=size)
    assert every[:6] == listed(open=True)
    assert [order for order in every if order.level is OrderLevel.KEY] == listed(level=OrderLevel.KEY)
    assert every[6:] == listed(stages=[OrderStage.CANCELLED])
    assert [order for order in every[:6] if order.clock and order.clock.due_at <= end_of(3, 3)] == listed(
        due_before_us=to_micros(end_of(3, 3))
    )
    sides = {side: len(listed(HANGZHOU, side=side)) for side in OrderSide}
    assert {OrderSide.ISSUED: 1, OrderSide.RECEIVED: 0, OrderSide.RELAYED: 7} == sides
    assert 8 == len(listed(SHANGCHENG, side=OrderSide.RECEIVED))
    with pytest.raises(FieldMalformed):
        queries.list_orders(opened.database, OrderFilter(bureau=ZHEJIANG), 5, "?")


async def test_a_passed_deadline_of_an_order_is_found_until_it_is_recorded_and_counts_as_late(opened: Desks) -> None:
    order_id = await issue(opened)
    await carry(opened)
    assert (1, 0) == queries.open_orders(opened.database, [SHANGCHENG], to_micros(MONDAY))
    opened.clock.set(day(3, 10))
    now = to_micros(opened.clock.now())
    found = opened.to_note()
    assert {(ZHEJIANG, order_id), (HANGZHOU, order_id), (SHANGCHENG, order_id)} == set(found)
    for one in found:
        await opened.office.note_time(*one)
    assert [] == opened.to_note()
    assert (2, 2) == queries.open_orders(opened.database, BUREAUS, now)
    assert await Gauges(opened.office).step() is False
    shown = {name: REGISTRY.get_sample_value(name) for name in ("kx_orders_open", "kx_orders_overdue")}
    assert {"kx_orders_open": 2, "kx_orders_overdue": 2} == shown


async def test_a_key_an_expected_version_and_an_unknown_number_are_held_to(opened: Desks) -> None:
    first = await perform(opened, ZHEJIANG, ISSUE, request_key="k", digest=b"1")
    again = await perform(opened, ZHEJIANG, ISSUE, request_key="k", digest=b"1")
    assert (first.orders, first.seq, True) == (again.orders, again.seq, again.repeated)
    with pytest.raises(KeyReused):
        await perform(opened, ZHEJIANG, ISSUE, request_key="k", digest=b"2")
    with pytest.raises(VersionConflict):
        await perform(opened, ZHEJIANG, ACTS[4], first.orders[0].order_id, expected_version=7)
    with pytest.raises(UnknownOrder):
        await perform(opened, ZHEJIANG, ACTS[4], f"{ZHEJIANG}-2026-D000099")
    with pytest.raises(UnknownOrder):
        await opened.office.orders.read(XIHU, first.orders[0].order_id)


async def test_a_cascade_is_all_or_nothing_and_its_orders_know_their_parent(opened: Desks) -> None:
    parent = await issue(opened, act=replace(ISSUE, final_bureau=HANGZHOU))
    await carry(opened)
    await perform(opened, HANGZHOU, ACTS[0], parent)
    cascade = order_acts.CascadeOrder(
        to_bureaus=(SHANGCHENG, ZHEJIANG), level=OrderLevel.URGE, text="请报送", answer_workdays=1
    )
    head = opened.ledger.heads[HANGZHOU]
    with pytest.raises(Exception, match=ZHEJIANG):
        await perform(opened, HANGZHOU, cascade, parent, role=Role.BUREAU_HEAD)
    assert head == opened.ledger.heads[HANGZHOU]
    done = await perform(opened, HANGZHOU, replace(cascade, to_bureaus=(SHANGCHENG, XIHU)), parent)
    derived = [order.order_id for order in done.orders]
    assert {parent: derived} == queries.derived_orders(opened.database, HANGZHOU, [parent])
    await carry(opened)
    assert OrderStage.RECEIVED is (await opened.office.orders.read(XIHU, derived[1])).stage
    for code, order_id in zip((SHANGCHENG, XIHU), derived, strict=True):
        for act in ACTS[:2]:
            await perform(opened, code, act, order_id)
    await carry(opened)
    # What was derived is looked up afresh, whatever the cache has kept.
    opened.ledger.orders._held.clear()
    await perform(opened, HANGZHOU, ANSWER, parent)
    await carry(opened)
    assert OrderStage.ANSWERED is (await opened.office.orders.read(ZHEJIANG, parent)).stage
    assert OrderStage.ANSWERED not in ENDED
