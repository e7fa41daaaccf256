"""A restored ledger goes on honestly: what its witness and its neighbours hold comes back, and a new generation begins."""

import json
import shutil
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio
import sqlalchemy as sa

from kuaixiang.domain import acts
from kuaixiang.domain.events import (
    GenerationOpened,
    LedgerTrusted,
    PrivatePartsLost,
    Registered,
    SnapshotGivenBack,
    SnapshotRestored,
)
from kuaixiang.domain.words import Custody, Role
from kuaixiang.wire.v1 import referral_pb2
from node.federation.cosigner import LedgerRefuted, LedgerUnproven
from node.ledger import callbacks, evidence, queries, schema
from node.ledger.ledger import Callback, Draft, Ledger, Work
from node.restoration import NUMBERS_LEFT_OUT, NotRestored, Restored, restore
from tests.federation.bureaus import until
from tests.federation.nodes import COUNTY, PREFECTURE, TEXT, Nodes, nodes
from tests.federation.test_cosigning import QUICK, copy, cosigned, doubts, in_database, rewritten_from


@pytest_asyncio.fixture
async def pair(tmp_path: Path, _nobody_reads_again: None) -> AsyncIterator[Nodes]:
    """A county and its prefecture, which witnesses its ledger."""
    async with nodes(tmp_path) as made:
        made.settings |= QUICK | {"cosigned_start_seconds": 0}
        await made.start(PREFECTURE)
        made.settings |= QUICK
        await made.start(COUNTY)
        yield made


async def refill(made: Nodes, aside: Path | None = None, *, accept_loss: bool = False) -> Restored:
    (restored,) = await restore(made.settings_of(COUNTY), aside=aside, accept_loss=accept_loss)
    return restored


async def backed_up(made: Nodes) -> Path:
    """A copy of the county's ledger as it is now, with one more case; the node goes on."""
    await made.accept(COUNTY)
    await cosigned(made)
    await made.stop(COUNTY)
    kept = copy(made, COUNTY, "backup.db")
    await made.start(COUNTY)
    return kept


async def put_back(made: Nodes, kept: Path) -> None:
    await made.stop(COUNTY)
    shutil.copy(kept, made.folder / f"{COUNTY}.db")


def text_of(made: Nodes, bureau: str, case_id: str) -> str:
    database = made.up[bureau].office.ledger.database
    case = queries.one_case(database, bureau, case_id)
    assert case is not None
    private = queries.private_of(database, bureau, case_id, case.snapshot_version)
    return private.text if private is not None else ""


@pytest.mark.asyncio
async def test_a_ledger_put_back_to_an_older_copy_is_refilled_and_goes_on_in_a_new_generation(pair: Nodes) -> None:
    kept = await backed_up(pair)
    before = next(entry.case_id for entry in pair.events(COUNTY, Registered))
    alone = await pair.accept(COUNTY)
    shared = await pair.accept(COUNTY)
    await pair.refer(COUNTY, shared, PREFECTURE)
    await until(lambda: (case := pair.case(COUNTY, shared)) is not None and case.custody is Custody.RELEASED)
    whole = await cosigned(pair)
    numbered = pair.up[COUNTY].office.ledger.heads[COUNTY].cases_registered
    await put_back(pair, kept)

    await pair.start(COUNTY)
    with pytest.raises(LedgerRefuted):
        await pair.register(COUNTY)
    await until(lambda: doubts(pair))
    await pair.stop(COUNTY)
    restored = await refill(pair)
    assert (2, 0, 0) == (restored.generation, restored.missing, restored.set_aside)
    assert whole.seq - restored.backup_seq == restored.refilled
    assert {shared: PREFECTURE, alone: ""} == {part.case_id: part.from_bureau for part in restored.private}

    await pair.start(COUNTY)
    for case_id, text in ((before, TEXT), (shared, TEXT), (alone, "")):
        assert text == text_of(pair, COUNTY, case_id)
    after = await pair.accept(COUNTY)
    assert int(after.rsplit("-", 1)[1]) == numbered + NUMBERS_LEFT_OUT + 1
    seen = await cosigned(pair)
    assert 2 == seen.generation
    assert [] == evidence.doubts(pair.up[PREFECTURE].office.ledger.database)
    (trusted,) = pair.events(PREFECTURE, LedgerTrusted)
    assert isinstance(trusted.event, LedgerTrusted)
    assert (2, 0) == (trusted.event.trusted_generation, trusted.event.lost_entries)
    (opened,) = pair.events(COUNTY, GenerationOpened)
    assert isinstance(opened.event, GenerationOpened)
    assert (whole.seq, whole.hash) == (opened.event.cosigned_seq, opened.event.cosigned_hash)
    assert [shared] == [entry.case_id for entry in pair.events(COUNTY, SnapshotRestored)]
    (given,) = pair.events(PREFECTURE, SnapshotGivenBack)
    assert (shared, SnapshotGivenBack(peer=COUNTY)) == (given.case_id, given.event)
    assert alone in {entry.case_id for entry in pair.events(COUNTY, PrivatePartsLost)}


@pytest.mark.asyncio
async def test_a_neighbour_whose_own_ledger_takes_no_entries_gives_back_what_it_has(pair: Nodes) -> None:
    kept = await backed_up(pair)
    shared = await pair.accept(COUNTY)
    await pair.refer(COUNTY, shared, PREFECTURE)
    await until(lambda: (case := pair.case(COUNTY, shared)) is not None and case.custody is Custody.RELEASED)
    await cosigned(pair)
    await put_back(pair, kept)

    pair.up[PREFECTURE].office.ledger.withheld[PREFECTURE] = LedgerUnproven(PREFECTURE, ("370000",))
    restored = await refill(pair)
    assert {shared: PREFECTURE} == {part.case_id: part.from_bureau for part in restored.private}
    assert () == restored.away
    assert [] == pair.events(PREFECTURE, SnapshotGivenBack)


@pytest.mark.asyncio
async def test_of_one_backup_restored_twice_only_one_ledger_takes_acts(pair: Nodes) -> None:
    kept = await backed_up(pair)
    await put_back(pair, kept)
    await refill(pair)
    once = copy(pair, COUNTY, "once.db")
    await put_back(pair, kept)
    await refill(pair)
    # Before the witness has cosigned its generation, it gives no number that the other one could have given.
    await pair.stop(PREFECTURE)
    pair.settings |= {"cosigned_start_seconds": 0}
    await pair.start(COUNTY)
    with pytest.raises(LedgerUnproven):
        await pair.register(COUNTY)
    await pair.start(PREFECTURE)
    await until(lambda: pair.up[COUNTY].office.ledger.withheld == {})
    await pair.accept(COUNTY)
    await put_back(pair, once)
    await pair.start(COUNTY)
    await until(lambda: isinstance(pair.up[COUNTY].office.ledger.withheld.get(COUNTY), LedgerRefuted))
    with pytest.raises(LedgerRefuted):
        await pair.register(COUNTY)


@pytest.mark.asyncio
async def test_what_is_folded_from_a_refilled_ledger_is_what_was_there(pair: Nodes) -> None:
    kept = await backed_up(pair)
    shared = await pair.accept(COUNTY)
    await pair.refer(COUNTY, shared, PREFECTURE)
    await until(lambda: (case := pair.case(COUNTY, shared)) is not None and case.custody is Custody.RELEASED)
    await cosigned(pair)
    ledger = pair.up[COUNTY].office.ledger
    tables = (schema.CASES, schema.CLOCKS, schema.REFERRALS, schema.DELIVERIES)

    def rows(database: object) -> dict[str, list[tuple[object, ...]]]:
        with database.reading() as connection:  # type: ignore[attr-defined]
            # Not which version of itself a case is, for two entries say what came back and what was lost.
            return {
                table.name: sorted(
                    tuple(value for column, value in zip(table.columns, row, strict=True) if column.name != "version")
                    for row in connection.execute(sa.select(table))
                )
                for table in tables
            }

    expected = rows(ledger.database)
    await put_back(pair, kept)
    await refill(pair)
    await pair.start(COUNTY)
    assert expected == rows(pair.up[COUNTY].office.ledger.database)


@pytest.mark.asyncio
async def test_a_receipt_that_was_lost_is_given_again_to_a_peer_that_asks(pair: Nodes) -> None:
    kept = await backed_up(pair)
    case_id = await pair.accept(PREFECTURE)
    await pair.refer(PREFECTURE, case_id, COUNTY)
    await until(lambda: (case := pair.case(COUNTY, case_id)) is not None and case.custody is Custody.OWNED)
    await cosigned(pair)
    database = pair.up[COUNTY].office.ledger.database
    with database.reading() as connection:
        given = connection.execute(sa.select(schema.DECISIONS)).all()
    await put_back(pair, kept)
    await refill(pair)
    await pair.start(COUNTY)
    with pair.up[COUNTY].office.ledger.database.reading() as connection:
        again = connection.execute(sa.select(schema.DECISIONS)).all()
    assert [row.referral_id for row in given] == [row.referral_id for row in again]
    receipts = [pb_receipt(row.receipt) for row in (*given, *again)]
    assert receipts[0] == receipts[1]
    assert TEXT == text_of(pair, COUNTY, case_id)


def pb_receipt(receipt: bytes) -> bytes:
    """What a receipt decides; its signature is another one each time."""
    return referral_pb2.Receipt.FromString(bytes(receipt)).decision


@pytest.mark.asyncio
async def test_acts_recorded_on_an_older_copy_are_set_aside_and_named(pair: Nodes, tmp_path: Path) -> None:
    kept = await backed_up(pair)
    await pair.accept(COUNTY)
    whole = await cosigned(pair)
    await put_back(pair, kept)
    await pair.stop(PREFECTURE)
    pair.settings |= {"cosigned_start_seconds": 0}
    await pair.start(COUNTY)
    forked = await pair.register(COUNTY)
    ledger = pair.up[COUNTY].office.ledger
    owed = Callback("hook", COUNTY, ledger.heads[COUNTY].seq, 1, forked, "taxpayer_told", 0, 0)

    def run(draft: Draft) -> None:
        draft.put_callback(owed)
        draft.put_callback_cursor(owed.sink, COUNTY, owed.seq)

    await ledger.do(Work(run=run, bureau=COUNTY))
    await pair.start(PREFECTURE)
    await until(lambda: pair.up[COUNTY].office.ledger.withheld)
    with pytest.raises(LedgerRefuted, match=r"went on from an older copy|are missing"):
        await pair.register(COUNTY)
    await pair.stop(COUNTY)
    with pytest.raises(NotRestored, match="other ones than those that were cosigned"):
        await refill(pair)
    aside = tmp_path / "aside.jsonl"
    restored = await refill(pair, aside)
    assert restored.set_aside > 0
    assert 0o600 == aside.stat().st_mode & 0o777
    lines = [json.loads(line) for line in aside.read_text("utf-8").splitlines()]
    assert restored.set_aside == len(lines)
    assert (forked, TEXT) == (lines[0]["entry"]["case_id"], lines[0]["private"]["text"])
    await pair.start(COUNTY)
    database = pair.up[COUNTY].office.ledger.database
    assert [] == callbacks.kept(database, COUNTY, sink=owed.sink, dead=None, limit=9)
    assert {COUNTY: lines[0]["seq"] - 1} == callbacks.cursors(database, owed.sink)
    await pair.accept(COUNTY)
    seen = await cosigned(pair)
    assert seen.generation == 2
    assert seen.seq > whole.seq


@pytest.mark.asyncio
async def test_what_nobody_can_give_back_is_named_by_the_new_generation_and_by_the_witness(pair: Nodes) -> None:
    kept = await backed_up(pair)
    await pair.accept(COUNTY)
    whole = await cosigned(pair)
    await put_back(pair, kept)
    await pair.stop(PREFECTURE)
    in_database(pair, PREFECTURE, lambda connection: connection.execute(sa.delete(schema.WITNESSED_SEGMENTS)))
    pair.settings |= {"cosigned_start_seconds": 0}  # its own witness is not there
    await pair.start(PREFECTURE)
    pair.settings |= QUICK
    with pytest.raises(NotRestored, match="cannot give back what is missing"):
        await refill(pair)
    restored = await refill(pair, accept_loss=True)
    assert whole.seq - restored.backup_seq == restored.missing > 0
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    await cosigned(pair)
    (trusted,) = pair.events(PREFECTURE, LedgerTrusted)
    assert isinstance(trusted.event, LedgerTrusted)
    assert restored.missing == trusted.event.lost_entries


@pytest.mark.asyncio
async def test_a_rewritten_ledger_is_mended_from_what_was_cosigned(pair: Nodes, tmp_path: Path) -> None:
    case_id = await pair.accept(COUNTY)
    whole = await cosigned(pair)
    await pair.stop(COUNTY)
    in_database(pair, COUNTY, rewritten_from(2, COUNTY))
    aside = tmp_path / "aside.jsonl"
    restored = await refill(pair, aside)
    assert (whole.seq - 1, whole.seq - 1) == (restored.set_aside, restored.refilled)
    await pair.start(COUNTY)
    assert whole.hash == evidence.place_at(pair.up[COUNTY].office.ledger.database, COUNTY, whole.seq).hash  # type: ignore[union-attr]
    await pair.act(COUNTY, case_id, acts.Complete(result="已办结"), Role.HANDLER)
    await cosigned(pair)


@pytest.mark.asyncio
async def test_an_older_ledger_is_refused_refilled_and_goes_on_over_either_database(
    tmp_path: Path, database_url: str
) -> None:
    async with nodes(tmp_path) as made:
        made.databases[COUNTY] = database_url
        made.settings |= QUICK | {"cosigned_start_seconds": 0, "data_key": tmp_path / "data.key"}
        await made.start(PREFECTURE)
        made.settings |= QUICK
        await made.start(COUNTY)
        await made.accept(COUNTY)
        kept = await cosigned(made)
        await made.accept(COUNTY)
        whole = await cosigned(made)
        await made.stop(COUNTY)
        ledger = Ledger(database_url, (COUNTY,), tmp_path / "data.key")
        try:
            with ledger.database.writing.begin():
                for table in (schema.JOURNAL, schema.PRIVATE, schema.REQUESTS):
                    ledger.database.writing.execute(sa.delete(table).where(table.c.seq > kept.seq))
                ledger.database.writing.execute(sa.delete(schema.COSIGNED))
            ledger.rebuild()
        finally:
            ledger.close()
        await made.start(COUNTY)
        with pytest.raises(LedgerRefuted, match=rf"entries {kept.seq + 1} to {whole.seq} are missing"):
            await made.register(COUNTY)
        await made.stop(COUNTY)
        restored = await refill(made)
        assert (2, whole.seq - kept.seq, 0) == (restored.generation, restored.refilled, restored.missing)
        await made.start(COUNTY)
        await made.accept(COUNTY)
        assert 2 == (await cosigned(made)).generation
