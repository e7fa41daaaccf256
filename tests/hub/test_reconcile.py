"""The hub against its ledgers: every kind of fault is named; which of them the quick comparison sees, and the daily one."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from prometheus_client import REGISTRY
from typer.testing import CliRunner

from demo.journals import MONDAY, Journal
from hub.cells import cell_of
from hub.daily import DailyReconciliation
from hub.ledgers import Ledgers
from hub.reconcile import read_outcomes
from hub.service import Running
from hub.store import TALLIES, Store
from hub.worker import Worker
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.runtime.in_force import InForce
from kuaixiang.wire.v1 import journal_pb2
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kx.hub import app
from tests.hub.federation import Federation
from tests.hub.journals import frozen
from tests.hub.test_service import folded, journal_of

pytestmark = pytest.mark.nats

Fault = Callable[[Journal], Journal]


@pytest.fixture
def federation(federation: Federation) -> Federation:
    """Each bureau has a journal, without entries."""
    federation.ledgers.journals.update((code, Journal(code)) for code in federation.codes)
    return federation


@asynccontextmanager
async def counted(federation: Federation, url: str, *journals: Journal, **more: Any) -> AsyncIterator[Running]:
    """A hub that has folded these journals and asks nobody by itself."""
    async with federation.hub(url, silent_after_seconds=3600, settle_seconds=0.2, **more) as hub:
        async with federation.publishing("110000") as site:
            for journal in journals:
                await site.segment(journal.segment())
        await folded(hub, *journals)
        yield hub


async def found(stub: Any, *, quick: bool) -> set[tuple[str, str]]:
    answer = await stub.Reconcile(pb.ReconcileRequest(quick=quick), timeout=60)
    return {(one.bureau, one.what) for one in answer.mismatches}


Entries = list[journal_pb2.SegmentEntry]


def rewritten(journal: Journal, change: Callable[[Entries], Entries]) -> Journal:
    """The journal with other entries and hashes to match, as somebody makes it who has the whole database."""
    forged = Journal(journal.bureau)
    for entry in change([journal_pb2.SegmentEntry.FromString(one.SerializeToString()) for one in journal.entries]):
        forged.seal(entry.public)
    return forged


def older_copy(journal: Journal) -> Journal:
    return rewritten_to(journal, journal.seq - 7)


def rewritten_to(journal: Journal, seq: int) -> Journal:
    kept = Journal(journal.bureau, entries=journal.entries[:seq], generations=journal.generations[:seq])
    kept.hashes = journal.hashes[: seq + 1]
    return kept


def changed_conclusion(journal: Journal) -> Journal:
    def change(entries: Entries) -> Entries:
        entry = journal_pb2.Entry.FromString(entries[4].public)
        entry.occurred_at_us -= 1
        entries[4].public = entry.SerializeToString()
        return entries

    return rewritten(journal, change)


def lost_conclusion(journal: Journal) -> Journal:
    def change(entries: Entries) -> Entries:
        return [*entries[:4], *entries[5:], entries[-1]]

    return rewritten(journal, change)


def forged_hand_over(journal: Journal) -> Journal:
    forged = Journal(journal.bureau)
    forged.write("forged", "received", from_bureau="110000", referral_id="forged")
    for entry in journal.entries:
        forged.seal(entry.public)
    return forged


@pytest.mark.parametrize(
    ("fault", "what"),
    [
        (older_copy, "head"),
        (changed_conclusion, "hash at seq 21"),
        (lost_conclusion, "hash at seq 21"),
        (forged_hand_over, "hash at seq 21"),
    ],
)
async def test_both_comparisons_name_a_ledger_that_has_become_another(
    federation: Federation, tmp_path: Path, fault: Fault, what: str
) -> None:
    journal, good = journal_of(federation, federation.north[0], 3), journal_of(federation, federation.north[1], 2)
    async with (
        counted(federation, f"sqlite:///{tmp_path / 'hub.db'}", journal, good) as hub,
        federation.statistics(hub.port) as stub,
    ):
        assert set() == await found(stub, quick=True)
        assert set() == await found(stub, quick=False)
        federation.ledgers.journals[journal.bureau] = fault(journal)
        assert (journal.bureau, what) in await found(stub, quick=True)
        assert {journal.bureau} == {bureau for bureau, _ in await found(stub, quick=True)}
        seen = await found(stub, quick=False)
        assert {journal.bureau} == {bureau for bureau, _ in seen}
        assert {"hash at seq 21", what} & {told for _, told in seen}


async def test_an_entry_changed_under_its_old_hash_is_found_by_reading_alone(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with (
        counted(federation, f"sqlite:///{tmp_path / 'hub.db'}", journal) as hub,
        federation.statistics(hub.port) as stub,
    ):
        journal.entries[4].public = journal.entries[3].public
        assert set() == await found(stub, quick=True)
        assert {(journal.bureau, "chain")} == await found(stub, quick=False)


async def test_a_total_of_the_hub_that_does_not_add_up_is_found_by_both(
    federation: Federation, database_url: str
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with counted(federation, database_url, journal):
        pass
    with Store(database_url, federation.tree, "000000") as store, store._database.writing.begin():
        wrong = frozen({cell_of(1, 1, 0, 1): 99})
        store._database.writing.execute(sa.update(TALLIES).where(TALLIES.c.bureau == "110000").values(cells=wrong))
    async with (
        federation.hub(database_url, silent_after_seconds=3600, settle_seconds=0.2) as hub,
        federation.statistics(hub.port) as stub,
    ):
        for quick in (True, False):
            assert {"110000"} == {bureau for bureau, _ in await found(stub, quick=quick)}


async def test_a_ledger_that_goes_on_meanwhile_is_no_mismatch_once_it_is_folded(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with (
        counted(federation, f"sqlite:///{tmp_path / 'hub.db'}", journal) as hub,
        federation.statistics(hub.port) as stub,
    ):
        journal.live("one more")
        assert {(journal.bureau, "head")} == await found(stub, quick=True)
        async with federation.publishing("110000") as site:
            await site.segment(journal.segment(22))
        await folded(hub, journal)
        assert set() == await found(stub, quick=True)


async def test_kx_hub_reconcile_quick_ends_with_one_when_a_ledger_is_away(
    federation: Federation, tmp_path: Path
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with counted(federation, f"sqlite:///{tmp_path / 'hub.db'}", journal) as hub:
        options = ["reconcile", "--quick", "--json", "--hub", f"127.0.0.1:{hub.port}"]
        options += ["--certificates", str(federation.folder / "office")]
        done = await asyncio.to_thread(CliRunner().invoke, app, options)
        assert 0 == done.exit_code, done.output
        told = json.loads(done.stdout.splitlines()[-1])
        assert (True, len(federation.codes), 0) == (
            told["hub_equals_ledgers"],
            told["ledgers_compared"],
            told["entries_compared"],
        )
        del federation.ledgers.journals[journal.bureau]
        done = await asyncio.to_thread(CliRunner().invoke, app, options)
        assert 1 == done.exit_code, done.output
        assert [journal.bureau] == json.loads(done.stdout.splitlines()[-1])["unreachable"]


async def test_every_day_at_the_hour_set_the_hub_compares_itself_and_reads_each_ledger_in_turn(
    federation: Federation, database_url: str
) -> None:
    journal = journal_of(federation, federation.north[0], 3)
    async with counted(federation, database_url, journal):
        pass
    clock = FixedClock(MONDAY)
    ledgers = Ledgers(InForce(federation.tree), federation.paths["hub"])
    with Store(database_url, federation.tree, "000000") as store:
        worker = Worker()
        daily = DailyReconciliation(
            store=store,
            worker=worker,
            ledgers=ledgers,
            now=clock.now,
            settle_seconds=0.0,
            hour=3,
            whole_days=3,
        )
        turns = []
        for number in range(3):
            clock.set(MONDAY + timedelta(days=number))
            turns.append(daily.read_whole_today())
        assert sorted(federation.codes) == sorted(code for turn in turns for code in turn)
        clock.set(MONDAY)
        before = federation.ledgers.reads
        await daily.step()
        assert before == federation.ledgers.reads
        clock.set(datetime(2026, 11, 17, 3, 0, tzinfo=SHANGHAI).astimezone(UTC))
        await daily.step()
        assert len(daily.read_whole_today()) == federation.ledgers.reads - before
        assert 0 == REGISTRY.get_sample_value("kx_hub_reconciliation_mismatches")
        await daily.step()
        assert len(daily.read_whole_today()) == federation.ledgers.reads - before
        journal.live("not folded yet")
        clock.advance(timedelta(days=1))
        # Its head is told and it cannot be read: it has not been compared.
        away = daily.read_whole_today()[0]
        federation.ledgers.unreadable.add(away)
        await daily.step()
        with store.reading() as connection:
            assert [away] == [one.bureau for one in read_outcomes(connection, federation.codes) if one.unreachable]
        federation.ledgers.unreadable.clear()
        clock.advance(timedelta(days=1))
        await daily.step()
        assert 0 == REGISTRY.get_sample_value("kx_hub_reconciliation_mismatches")
        federation.ledgers.journals[journal.bureau] = rewritten_to(journal, 20)
        del federation.ledgers.journals[federation.south[0]]
        clock.advance(timedelta(days=1))
        await daily.step()
        assert 0 < (REGISTRY.get_sample_value("kx_hub_reconciliation_mismatches") or 0)
        assert 1 <= (REGISTRY.get_sample_value("kx_hub_reconciliation_unreachable") or 0)
        assert 0 < (REGISTRY.get_sample_value("kx_hub_reconciliation_last_success_timestamp_seconds") or 0)
        with store.reading() as connection:
            kept = {outcome.bureau: outcome for outcome in read_outcomes(connection, federation.codes)}
        assert set(federation.codes) == set(kept)
        assert {to_micros(clock.now())} == {outcome.at_us for outcome in kept.values()}
        assert kept[journal.bureau].differences > 0
        assert kept[federation.south[0]].unreachable
        await worker.close()
    await ledgers.close()
