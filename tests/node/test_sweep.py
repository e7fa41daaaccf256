"""The sweep records each passed deadline once, at midnight by the business clock."""

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import pytest_asyncio

from kuaixiang.domain import acts
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Category, Channel, Role, Telling
from kuaixiang.facts import published_calendar
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.wire.v1 import referral_pb2
from node import sweep as sweep_module
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place
from node.sweep import Sweep
from tests.federation.bureaus import until

BUREAU = "370102"
MONDAY = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
MIDNIGHT_OF_TUESDAY = datetime(2026, 3, 3, 16, 0, tzinfo=UTC)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MONDAY)


@pytest_asyncio.fixture
async def office(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Office]:
    tree = BureauTree(
        "test", [Bureau("000000", "headquarters", Tier.NATIONAL, None), Bureau(BUREAU, "Lixia", Tier.COUNTY, "000000")]
    )
    ledger = Ledger(f"sqlite:///{tmp_path / 'node.db'}", [BUREAU])
    ledger.start()
    yield Office(ledger, Place(tree, published_calendar(), Rules(), clock), lambda _: referral_pb2.Signature())
    ledger.close()


async def register(office: Office, number: int = 1) -> str:
    act = acts.Register(
        category=Category.POLICY,
        channel=Channel.COUNTER,
        channel_reference=f"ref-{number}",
        taxpayer_name="某某商贸有限公司",
        taxpayer_number="",
        contact="13800138000",
        text="小规模纳税人优惠如何享受？",
        place="",
        answer="",
    )
    return (await office.perform(header("", Role.REGISTRAR), act)).case.case_id


def header(case_id: str, role: Role) -> Header:
    return Header(bureau=BUREAU, case_id=case_id, actor="officer-1", role=role, department="tax-service")


def recorded(office: Office, case_id: str) -> int:
    history = queries.history(office.ledger.database, BUREAU, case_id, private=False)
    return sum(type(item.entry.event).__name__ == "BecameOverdue" for item in history)


async def test_a_deadline_is_not_overdue_before_the_end_of_its_last_day(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY - timedelta(microseconds=1))
    assert not await Sweep(office).step()
    assert 0 == recorded(office, case_id)


async def test_a_passed_deadline_is_recorded_once(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)
    for _ in range(3):
        assert not await sweep.step()
        clock.advance(timedelta(days=1))
    assert 1 == recorded(office, case_id)


async def test_a_case_offered_to_another_bureau_is_not_swept(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    refer = acts.Refer(final_bureau="000000", reason="超出权限", telling=Telling.TRANSFERRED, told="已转上级")
    await office.perform(header(case_id, Role.TAX_SERVICE), refer)
    clock.set(MIDNIGHT_OF_TUESDAY)
    assert not await Sweep(office).step()
    assert 0 == recorded(office, case_id)


async def test_a_step_takes_one_batch_and_says_that_there_is_more(
    office: Office, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "BATCH_MAX", 3)
    cases = [await register(office, number) for number in range(5)]
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)
    assert [True, False] == [await sweep.step(), await sweep.step()]
    assert [1] * 5 == [recorded(office, case_id) for case_id in cases]


async def test_the_loop_sweeps_by_itself(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office, 0.01)
    await sweep.start()
    try:
        await until(lambda: recorded(office, case_id))
    finally:
        await sweep.stop()
    assert 1 == recorded(office, case_id)
