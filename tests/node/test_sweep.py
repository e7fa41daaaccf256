"""The sweep records what time and the calendar do to clocks, once each, by the business clock, virtual or real."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Category, Channel, ClockKind, Role, Telling
from kuaixiang.facts import published_calendar
from kuaixiang.runtime.clock import Clock, FixedClock, SystemClock, to_micros
from kuaixiang.runtime.writer import WriterBusy
from kuaixiang.wire.v1 import common_pb2, referral_pb2
from node import sweep as sweep_module
from node.federation.cosigner import LedgerUnproven
from node.ledger import queries, schema
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place
from node.sweep import Sweep
from tests.federation.bureaus import until

BUREAU = "370102"
MONDAY = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)
MIDNIGHT_OF_TUESDAY = datetime(2026, 3, 3, 16, 0, tzinfo=UTC)
# Accepted on Monday the 2nd, due at the end of Monday the 9th; one working day is left from the end of Friday on.
MIDNIGHT_OF_FRIDAY = datetime(2026, 3, 6, 16, 0, tzinfo=UTC)
MIDNIGHT_OF_MONDAY = datetime(2026, 3, 9, 16, 0, tzinfo=UTC)
AMENDED = replace(published_calendar(), version="2026.2", off_days=published_calendar().off_days | {date(2026, 3, 5)})

SATURDAY_WORKED = replace(
    published_calendar(), version="2026.3", work_days=published_calendar().work_days | {date(2026, 3, 7)}
)


@pytest.fixture
def clock() -> FixedClock:
    return FixedClock(MONDAY)


def office_over(url: str, clock: Clock) -> Office:
    tree = BureauTree(
        "test", [Bureau("000000", "headquarters", Tier.NATIONAL, None), Bureau(BUREAU, "Lixia", Tier.COUNTY, "000000")]
    )
    ledger = Ledger(url, [BUREAU])
    ledger.start()
    return Office(ledger, Place(tree, published_calendar(), Rules(), clock), lambda _: referral_pb2.Signature())


@pytest_asyncio.fixture
async def office(tmp_path: Path, clock: FixedClock) -> AsyncIterator[Office]:
    made = office_over(f"sqlite:///{tmp_path / 'node.db'}", clock)
    yield made
    made.ledger.close()


@pytest_asyncio.fixture
async def either(database_url: str, clock: FixedClock) -> AsyncIterator[Office]:
    """An office over either database."""
    made = office_over(database_url, clock)
    yield made
    made.ledger.close()


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


async def accept(office: Office, number: int = 1) -> str:
    """A case with five working days from Monday on."""
    case_id = await register(office, number)
    await do(office, case_id, acts.AcceptDirectly(telling=Telling.COMPLICATED, told="情况复杂"), Role.HANDLER)
    return case_id


async def do(office: Office, case_id: str, act: Act, role: Role) -> None:
    await office.perform(header(case_id, role), act)


def header(case_id: str, role: Role) -> Header:
    return Header(bureau=BUREAU, case_id=case_id, actor="officer-1", role=role, department="tax-service")


def recorded(office: Office, case_id: str, event: str = "BecameOverdue") -> int:
    return events(office, case_id).count(event)


def events(office: Office, case_id: str) -> list[str]:
    history = queries.history(office.ledger.database, BUREAU, case_id, private=False)
    return [type(item.entry.event).__name__ for item in history]


async def sweep_to_the_end(sweep: Sweep) -> None:
    while await sweep.step():
        pass


async def test_a_deadline_is_not_overdue_before_the_end_of_its_last_day(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY - timedelta(microseconds=1))
    assert not await Sweep(office).step()
    assert 0 == recorded(office, case_id)


async def test_a_passed_deadline_is_recorded_once(either: Office, clock: FixedClock) -> None:
    case_id = await register(either)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(either)
    for _ in range(3):
        assert not await sweep.step()
        clock.advance(timedelta(days=1))
    assert 1 == recorded(either, case_id)


async def test_that_one_working_day_is_left_is_recorded_once(either: Office, clock: FixedClock) -> None:
    case_id = await accept(either)
    sweep = Sweep(either)
    clock.set(MIDNIGHT_OF_FRIDAY - timedelta(microseconds=1))
    await sweep.step()
    assert 0 == recorded(either, case_id, "BecameDueSoon")
    clock.set(MIDNIGHT_OF_FRIDAY)
    for _ in range(3):
        await sweep.step()
        clock.advance(timedelta(hours=20))
    assert 1 == recorded(either, case_id, "BecameDueSoon")


async def test_a_clock_that_jumps_over_the_last_day_records_what_it_finds(office: Office, clock: FixedClock) -> None:
    case_id = await accept(office)
    clock.set(MIDNIGHT_OF_MONDAY)
    await sweep_to_the_end(Sweep(office))
    assert ["BecameOverdue"] == events(office, case_id)[-1:]
    assert 0 == recorded(office, case_id, "BecameDueSoon")


async def test_another_calendar_has_the_open_deadlines_computed_again_once(either: Office, clock: FixedClock) -> None:
    case_ids = [await accept(either, number) for number in range(3)]
    either.place.in_force.adopt(AMENDED)
    sweep = Sweep(either)
    for _ in range(3):
        await sweep.step()
    assert [1, 1, 1] == [recorded(either, case_id, "ClocksRecomputed") for case_id in case_ids]
    case = await either.read_case(BUREAU, case_ids[0])
    moved = case.clock(ClockKind.HANDLE)
    assert moved is not None
    assert (MIDNIGHT_OF_MONDAY + timedelta(days=1), "2026.2") == (moved.due_at, moved.calendar_version)
    assert clock.now() == MONDAY


async def test_several_changes_of_a_case_get_one_entry_for_each_kind(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    joint = acts.StartJointHandling(lead_department="policy", assisting_departments=("collection", "legal"))
    await do(office, case_id, acts.Forward(telling=Telling.COMPLICATED, told="情况复杂"), Role.REGISTRAR)
    await do(office, case_id, joint, Role.TAX_SERVICE)
    office.place.in_force.adopt(SATURDAY_WORKED)
    clock.set(MIDNIGHT_OF_FRIDAY)
    await sweep_to_the_end(Sweep(office))
    assert ["ClocksRecomputed", "BecameDueSoon"] == events(office, case_id)[-2:]
    clock.advance(timedelta(days=1))
    await sweep_to_the_end(Sweep(office))
    assert 1 == recorded(office, case_id)


async def test_what_had_passed_before_the_calendar_changed_was_missed(office: Office, clock: FixedClock) -> None:
    case_id = await accept(office)
    clock.set(MIDNIGHT_OF_MONDAY)
    office.place.in_force.adopt(AMENDED)
    await sweep_to_the_end(Sweep(office))
    assert (1, 0) == (recorded(office, case_id), recorded(office, case_id, "ClocksRecomputed"))


async def test_a_case_offered_to_another_bureau_is_not_swept(either: Office, clock: FixedClock) -> None:
    case_id = await accept(either)
    refer = acts.Refer(final_bureau="000000", reason="超出权限", telling=None, told="")
    await do(either, case_id, refer, Role.TAX_SERVICE)
    either.place.in_force.adopt(AMENDED)
    before = events(either, case_id)
    for at in (MIDNIGHT_OF_FRIDAY, MIDNIGHT_OF_MONDAY + timedelta(days=3)):
        clock.set(at)
        assert not await Sweep(either).step()
    assert before == events(either, case_id)
    with either.ledger.database.reading() as connection:
        swept = connection.execute(sa.select(schema.CLOCKS.c.sweep_us, schema.CLOCKS.c.sweep_calendar)).all()
    assert {(schema.NEVER_US, "")} == {tuple(row) for row in swept}
    case = await either.read_case(BUREAU, case_id)
    assert case.outgoing is not None
    declined = referral_pb2.Decision(
        referral_id=case.outgoing.referral_id,
        case_id=case_id,
        refusal=common_pb2.REFUSAL_TOO_MANY_HOPS,
        bureau="000000",
    )
    await either.settle(BUREAU, declined)
    await sweep_to_the_end(Sweep(either))
    assert 1 == recorded(either, case_id)


def asked_of(office: Office, now_us: int) -> list[str]:
    """What a look for clocks asks SQLite, and how it searches: the searches of clocks of each statement."""
    with office.ledger.database.reading() as connection:
        raw = connection.connection.driver_connection
        assert raw is not None
        asked: list[str] = []
        raw.set_trace_callback(asked.append)
    queries.clocks_to_note(office.ledger.database, [BUREAU], now_us, published_calendar().version, 5)
    raw.set_trace_callback(None)
    looks = [statement for statement in asked if "FROM clocks" in statement]
    plans = [[str(row[3]) for row in raw.execute(f"EXPLAIN QUERY PLAN {look}")] for look in looks]
    return [
        "; ".join(plan.replace("COVERING ", "") for plan in of_one if plan.startswith(("SEARCH clocks", "SCAN clocks")))
        for of_one in plans
    ]


ANY_CLOCK = (
    "SEARCH clocks USING INDEX clocks_by_sweep (sweep_us<?); "
    "SEARCH clocks USING INDEX clocks_by_calendar (sweep_calendar>? AND sweep_calendar<?); "
    "SEARCH clocks USING INDEX clocks_by_calendar (sweep_calendar>?)"
)


async def test_what_is_offered_costs_the_sweep_no_look_however_much_of_it_waits(
    office: Office, clock: FixedClock
) -> None:
    await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    assert [
        ANY_CLOCK,
        "SEARCH clocks USING INDEX clocks_by_sweep (sweep_us<?)",
        "SEARCH clocks USING INDEX clocks_by_sweep (sweep_us<?)",
        "SEARCH clocks USING INDEX clocks_by_calendar (sweep_calendar>? AND sweep_calendar<?)",
        "SEARCH clocks USING INDEX clocks_by_calendar (sweep_calendar>?)",
    ] == asked_of(office, to_micros(clock.now()))


async def test_while_no_clock_has_run_out_the_sweep_asks_one_question(office: Office, clock: FixedClock) -> None:
    await register(office)
    assert [ANY_CLOCK] == asked_of(office, to_micros(clock.now()))


async def test_a_step_takes_one_batch_and_says_that_there_is_more(
    office: Office, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "BATCH_MAX", 3)
    cases = [await register(office, number) for number in range(5)]
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)
    assert [True, False] == [await sweep.step(), await sweep.step()]
    assert [1] * 5 == [recorded(office, case_id) for case_id in cases]


async def test_a_case_that_cannot_be_recorded_is_set_aside_and_holds_up_no_other(
    office: Office, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweep_module, "BATCH_MAX", 1)
    poison, good = [await register(office, number) for number in range(2)]
    journal = schema.JOURNAL
    with office.ledger.database.writing.begin():
        office.ledger.database.writing.execute(
            sa.update(journal).where(journal.c.case_id == poison).values(public=b"\xff")
        )
    office.ledger.cache._held.clear()
    asked: list[str] = []
    note_time = office.note_time

    async def note(bureau: str, subject: str) -> Any:
        asked.append(subject)
        return await note_time(bureau, subject)

    monkeypatch.setattr(office, "note_time", note)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)
    for _ in range(5):
        await sweep.step()
    assert ([poison, good], {(BUREAU, poison)}) == (asked, set(sweep.aside))
    assert 1 == recorded(office, good)


async def test_a_busy_ledger_sets_nothing_aside(
    office: Office, clock: FixedClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)

    async def busy(_bureau: str, _subject: str) -> Any:
        raise WriterBusy(1)

    with monkeypatch.context() as patched:
        patched.setattr(office, "note_time", busy)
        assert not await sweep.step()
    assert {} == sweep.aside
    await sweep.step()
    assert 1 == recorded(office, case_id)


async def test_a_ledger_that_takes_no_acts_yet_has_nothing_set_aside(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    sweep = Sweep(office)
    office.ledger.withheld[BUREAU] = LedgerUnproven(BUREAU, ("370100",))
    assert not await sweep.step()
    assert ({}, 0) == (sweep.aside, recorded(office, case_id))
    del office.ledger.withheld[BUREAU]
    await sweep.step()
    assert 1 == recorded(office, case_id)


async def test_the_sweep_waits_until_the_node_knows_the_calendar(office: Office, clock: FixedClock) -> None:
    case_id = await register(office)
    clock.set(MIDNIGHT_OF_TUESDAY)
    known = asyncio.Event()
    sweep = Sweep(office, after=known)
    assert not await sweep.step()
    assert 0 == recorded(office, case_id)
    known.set()
    await sweep.step()
    assert 1 == recorded(office, case_id)


async def test_a_clock_whose_subject_is_no_case_is_asked_of_the_office_too(office: Office, clock: FixedClock) -> None:
    row = {
        "bureau": BUREAU,
        "case_id": "order-1",
        "kind": int(ClockKind.ORDER),
        "department": "",
        "started_at_us": 1,
        "due_us": 2,
        "limit_workdays": 3,
        "calendar_version": published_calendar().version,
        "provisional": 0,
        "extended": 0,
        "overdue": 0,
        "soon_us": 1,
        "due_soon": 0,
        "sweep_us": 1,
        "sweep_calendar": published_calendar().version,
    }
    with office.ledger.database.writing.begin():
        office.ledger.database.writing.execute(sa.insert(schema.CLOCKS).values(**row))
    found = queries.clocks_to_note(office.ledger.database, [BUREAU], 10, published_calendar().version, 5)
    assert [(BUREAU, "order-1")] == found
    assert clock.now() == MONDAY


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


async def test_on_the_machines_own_clock_another_calendar_moves_what_is_open(tmp_path: Path) -> None:
    office = office_over(f"sqlite:///{tmp_path / 'real.db'}", SystemClock())
    try:
        case_id = await accept(office)
        office.place.in_force.adopt(everyday(published_calendar().day_of(SystemClock().now())))
        await sweep_to_the_end(Sweep(office))
        case = await office.read_case(BUREAU, case_id)
        (clock,) = case.clocks
        assert ("everyday", timedelta(days=5)) == (
            clock.calendar_version,
            clock.due_at - published_calendar().end_of(published_calendar().day_of(clock.started_at)),
        )
    finally:
        office.ledger.close()


def everyday(first: date) -> WorkingCalendar:
    """A calendar without a day off around that day."""
    days = [first + timedelta(days=offset) for offset in range(-2, 60)]
    return WorkingCalendar("everyday", days[0], days[-1], frozenset(), frozenset(days))


async def test_a_clock_that_is_set_back_stops_no_act_and_no_time_runs_backwards_in_a_case(
    office: Office, clock: FixedClock
) -> None:
    clock.set(MONDAY + timedelta(hours=3))
    ahead = await accept(office)
    clock.set(MONDAY)
    await do(office, ahead, acts.Complete(result="可以享受"), Role.HANDLER)
    await accept(office, 2)
    history = queries.history(office.ledger.database, BUREAU, ahead, private=False)
    times = [item.entry.occurred_at for item in history]
    assert sorted(times) == times
    assert MONDAY + timedelta(hours=3) == times[-1]
