"""Nobody rewrites a ledger unseen: a witness cosigns what continues what it has seen, and finds what does not."""

import asyncio
import shutil
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import grpc.aio
import pytest
import pytest_asyncio
import sqlalchemy as sa
from grpc_health.v1 import health_pb2, health_pb2_grpc

from kuaixiang.domain import acts
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import LedgerDoubted, LedgerTrusted
from kuaixiang.domain.words import Category, Channel, LedgerFinding, Role
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire import chain
from kuaixiang.wire.errors import from_call
from kuaixiang.wire.v1 import cosign_pb2 as pb
from kuaixiang.wire.v1 import journal_pb2
from kuaixiang.wire.v1.cosign_pb2_grpc import CosignServiceStub
from node import service
from node.federation.client import Links
from node.federation.cosigner import Cosigner, LedgerRefuted, LedgerUnproven
from node.ledger import evidence, schema
from node.ledger.evidence import Place
from node.ledger.ledger import Ledger, Seen, Work
from node.office import Header
from node.witness import HeadContradicted, HeadUnfollowed, Rereader, StatementOvertaken, Witness
from tests.federation.bureaus import SECONDS, until
from tests.federation.nodes import COUNTY, FAR_PROVINCE, HEADQUARTERS, PREFECTURE, PROVINCE, Nodes, nodes

QUICK = {"cosigned_start_seconds": SECONDS, "cosign_seconds": 0.1}
"""A start ends as soon as its witness has answered; without that answer it would take acts that are to be refused."""


@pytest_asyncio.fixture
async def pair(tmp_path: Path, _nobody_reads_again: None) -> AsyncIterator[Nodes]:
    """A county and its prefecture, which witnesses its ledger."""
    async with nodes(tmp_path) as made:
        made.settings |= QUICK | {"cosigned_start_seconds": 0}
        await made.start(PREFECTURE)
        made.settings |= QUICK
        await made.start(COUNTY)
        yield made


def seen(made: Nodes, witness: str = PREFECTURE, bureau: str = COUNTY) -> Seen | None:
    """What the witness has cosigned of the ledger."""
    found = evidence.witnessed(made.up[witness].office.ledger.database)
    return next((one for one in found if (one.witness, one.bureau) == (witness, bureau)), None)


async def cosigned(made: Nodes, witness: str = PREFECTURE, bureau: str = COUNTY) -> Seen:
    """What the witness has cosigned, once that is the whole ledger."""
    ledger = made.up[bureau].office.ledger

    def whole() -> Seen | None:
        found = seen(made, witness, bureau)
        return found if found is not None and found.seq == ledger.heads[bureau].seq else None

    return await until(whole)


def doubts(made: Nodes, witness: str = PREFECTURE) -> list[LedgerDoubted]:
    return [entry.event for entry in made.events(witness, LedgerDoubted)]  # type: ignore[misc]


def in_database(made: Nodes, bureau: str, change: Callable[[sa.Connection], Any]) -> None:
    """Somebody changes the database of a stopped node."""
    settings = made.settings_of(bureau)
    ledger = Ledger(settings.database, (bureau,), settings.data_key)
    try:
        with ledger.database.writing.begin():
            change(ledger.database.writing)
    finally:
        ledger.close()


def copy(made: Nodes, bureau: str, name: str) -> Path:
    kept = made.folder / name
    shutil.copy(made.folder / f"{bureau}.db", kept)
    return kept


def rewritten_from(first: int, bureau: str) -> Callable[[sa.Connection], None]:
    """The actor of an entry is another, and every hash from there on is made to fit."""

    def change(connection: sa.Connection) -> None:
        table = schema.JOURNAL
        rows = connection.execute(sa.select(table).where(table.c.bureau == bureau).order_by(table.c.seq)).all()
        before = rows[first - 2].hash if first > 1 else chain.GENESIS
        for row in rows[first - 1 :]:
            public = bytes(row.public)
            if row.seq == first:
                assert b"officer-1" in public
                public = public.replace(b"officer-1", b"officer-9")
            after = chain.link(bytes(before), row.generation, row.seq, bytes(row.private_digest), public)
            connection.execute(
                sa.update(table)
                .where(table.c.bureau == bureau, table.c.seq == row.seq)
                .values(public=public, prev_hash=bytes(before), hash=after)
            )
            before = after
        connection.execute(sa.update(schema.BUREAUS).where(schema.BUREAUS.c.bureau == bureau).values(hash=before))
        connection.execute(sa.delete(schema.COSIGNED))

    return change


@pytest.mark.asyncio
async def test_a_ledger_that_grows_is_cosigned_by_its_superior_and_both_keep_it(pair: Nodes) -> None:
    for _ in range(3):
        await pair.accept(COUNTY)
    witnessed = await cosigned(pair)
    ledger = pair.up[COUNTY].office.ledger
    assert ledger.heads[COUNTY].hash == witnessed.hash
    (kept,) = await until(lambda: [one for one in evidence.cosigned(ledger.database) if one.seq == witnessed.seq])
    assert (kept.hash, kept.generation) == (witnessed.hash, witnessed.generation)
    assert [] == doubts(pair)


@pytest.mark.asyncio
async def test_what_all_witnesses_have_cosigned_in_a_round_is_written_down_in_one_commit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with nodes(tmp_path) as made:
        made.settings |= {"cosign_seconds": 3_600}
        await made.start(HEADQUARTERS, PROVINCE, FAR_PROVINCE)
        office, paths = made.up[HEADQUARTERS].office, made.certificate("node", HEADQUARTERS)
        async with Links(office.place.trees, paths) as links:
            cosigner = Cosigner(office, links, Seal(paths), wait_seconds=0)
            await cosigner.step()
            await made.accept(HEADQUARTERS)
            works: list[Work] = []
            submit = office.ledger.writer.submit

            def submitted(work: Work) -> asyncio.Future[Any]:
                works.append(work)
                return submit(work)

            monkeypatch.setattr(office.ledger.writer, "submit", submitted)
            await cosigner.step()
        end = office.ledger.heads[HEADQUARTERS].seq
        kept = {one.witness: one.seq for one in evidence.cosigned(office.ledger.database)}
        assert {PROVINCE: end, FAR_PROVINCE: end} == kept
        # The node's other chores write too, when they have something to.
        assert 1 == len([work for work in works if work.run.__qualname__.startswith(Cosigner.__name__)])


@pytest.mark.asyncio
async def test_an_honest_restart_finds_nothing(pair: Nodes) -> None:
    await pair.accept(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    await cosigned(pair)
    assert [] == doubts(pair)


@pytest.mark.asyncio
async def test_an_older_copy_takes_no_acts_and_its_witness_records_it(pair: Nodes) -> None:
    case_id = await pair.register(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)
    older = copy(pair, COUNTY, "older.db")
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    last = await cosigned(pair)
    await pair.stop(COUNTY)
    shutil.copy(older, pair.folder / f"{COUNTY}.db")

    await pair.start(COUNTY)
    end = pair.up[COUNTY].office.ledger.heads[COUNTY].seq
    assert end < last.seq
    with pytest.raises(LedgerRefuted, match=rf"entries {end + 1} to {last.seq} are missing"):
        await pair.register(COUNTY)
    with pytest.raises(LedgerRefuted):
        await pair.act(COUNTY, case_id, acts.Withdraw(reason="撤回"), Role.REGISTRAR)
    (doubt,) = await until(lambda: doubts(pair))
    assert (LedgerFinding.SHORTER, last.seq, last.hash, end) == (
        doubt.finding,
        doubt.known_seq,
        doubt.known_hash,
        doubt.told_seq,
    )


@pytest.mark.asyncio
async def test_the_newest_copy_put_back_is_trusted_again_by_itself(pair: Nodes) -> None:
    await pair.register(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)
    older = copy(pair, COUNTY, "older.db")
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)
    newest = copy(pair, COUNTY, "newest.db")
    shutil.copy(older, pair.folder / f"{COUNTY}.db")
    await pair.start(COUNTY)
    await until(lambda: doubts(pair))
    await pair.stop(COUNTY)
    shutil.copy(newest, pair.folder / f"{COUNTY}.db")
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    await cosigned(pair)
    assert await until(lambda: pair.events(PREFECTURE, LedgerTrusted))
    assert [] == evidence.doubts(pair.up[PREFECTURE].office.ledger.database)


@pytest.mark.asyncio
async def test_an_entry_rewritten_in_the_database_is_named_by_its_witness(pair: Nodes) -> None:
    for _ in range(3):
        await pair.accept(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)
    in_database(pair, COUNTY, rewritten_from(3, COUNTY))
    await pair.start(COUNTY)
    with pytest.raises(LedgerRefuted):
        await pair.register(COUNTY)
    (doubt,) = await until(lambda: doubts(pair))
    assert (LedgerFinding.REWRITTEN, 3) == (doubt.finding, doubt.known_seq)
    assert doubt.known_hash != doubt.told_hash


@pytest.mark.asyncio
async def test_an_entry_changed_behind_the_nodes_back_is_found_by_reading_the_ledger_again(pair: Nodes) -> None:
    for _ in range(2):
        await pair.accept(COUNTY)
    await cosigned(pair)
    await pair.stop(COUNTY)

    def change(connection: sa.Connection) -> None:
        # Its hash is left as it was, and so are all after it: neither head nor cosignature differ.
        table = schema.JOURNAL
        public = bytes(connection.execute(sa.select(table.c.public).where(table.c.seq == 2)).scalar_one())
        changed = public.replace(b"officer-1", b"officer-9")
        connection.execute(sa.update(table).where(table.c.seq == 2).values(public=changed))

    in_database(pair, COUNTY, change)
    await pair.start(COUNTY)
    await pair.accept(COUNTY)
    await cosigned(pair)
    office = pair.up[PREFECTURE].office
    paths = pair.certificate("node", PREFECTURE)
    async with Links(office.place.trees, paths) as links:
        witness = Witness(office, links, Seal(paths))
        # That it has also been seen too short is no reason not to look.
        await witness.record(
            (PREFECTURE, COUNTY), LedgerFinding.SHORTER, Place(1, 4, bytes(32)), Place(1, 1, bytes(32))
        )
        rereader = Rereader(office, witness)
        for _ in range(20):
            await rereader.step()
    assert [(LedgerFinding.SHORTER, 4), (LedgerFinding.REWRITTEN, 2)] == [
        (doubt.finding, doubt.known_seq) for doubt in doubts(pair)
    ]


@pytest.mark.asyncio
async def test_of_two_nodes_on_copies_of_one_ledger_the_second_to_be_seen_takes_no_more_acts(pair: Nodes) -> None:
    await pair.accept(COUNTY)
    shared = await cosigned(pair)
    await pair.stop(COUNTY)
    pair.databases[COUNTY] = f"sqlite:///{copy(pair, COUNTY, 'twin.db')}"
    shutil.copy(pair.folder / f"{COUNTY}.db.key", pair.folder / "twin.db.key")
    twin_settings = pair.settings_of(COUNTY).model_copy(update={"listen": "127.0.0.1:0"})
    del pair.databases[COUNTY]
    await pair.start(COUNTY)
    async with service.running(twin_settings) as twin:
        await pair.accept(COUNTY)
        await cosigned(pair)
        header = Header(bureau=COUNTY, case_id="", actor="twin-1", role=Role.REGISTRAR, department="tax-service")
        with pytest.raises(LedgerRefuted):
            await until_refused(twin, header)
        (doubt,) = await until(lambda: doubts(pair))
        assert LedgerFinding.REWRITTEN is doubt.finding or LedgerFinding.SHORTER is doubt.finding
        assert doubt.known_seq > shared.seq
    await pair.accept(COUNTY)
    await cosigned(pair)


async def until_refused(twin: service.Running, header: Header) -> None:
    """The twin registers case after case until it is found out."""
    act = acts.Register(
        taxpayer_name="晨光文具店",
        contact="15400001234",
        text="发票",
        category=Category.SYSTEMS,
        channel=Channel.COUNTER,
    )
    async with asyncio.timeout(SECONDS):
        while True:
            await twin.office.perform(header, act)
            await asyncio.sleep(0.1)


@pytest.mark.asyncio
async def test_a_journal_that_was_cut_off_is_found_without_asking_anybody(pair: Nodes) -> None:
    for _ in range(3):
        await pair.accept(COUNTY)
    last = await cosigned(pair)
    await pair.stop(COUNTY, PREFECTURE)

    def cut(connection: sa.Connection) -> None:
        table = schema.JOURNAL
        connection.execute(sa.delete(table).where(table.c.seq > last.seq - 2))
        (hash_,) = connection.execute(sa.select(table.c.hash).where(table.c.seq == last.seq - 2)).one()
        connection.execute(sa.update(schema.BUREAUS).values(seq=last.seq - 2, hash=hash_))

    in_database(pair, COUNTY, cut)
    await pair.start(COUNTY)
    with pytest.raises(LedgerRefuted, match=rf"entries {last.seq - 1} to {last.seq} are missing"):
        await pair.register(COUNTY)


class Shower:
    """Shows a made-up journal to a witness, as the county's node would."""

    def __init__(self, made: Nodes) -> None:
        self.made = made
        self.seal = Seal(made.certificate("node", COUNTY))
        self.at = 1_700_000_000_000_000

    def segment(
        self, first: int, publics: list[bytes], before: bytes = chain.GENESIS, generation: int = 1
    ) -> journal_pb2.Segment:
        sealed = [(chain.NO_PRIVATE, public) for public in publics]
        return journal_pb2.Segment(
            bureau=COUNTY,
            generation=generation,
            first_seq=first,
            prev_hash=before,
            entries=[journal_pb2.SegmentEntry(public=public, private_digest=digest) for digest, public in sealed],
            last_hash=chain.links(before, generation, first, sealed)[-1],
        )

    async def show(self, segment: journal_pb2.Segment, *, at: int = 0, bare: bool = False) -> pb.CosignHeadResponse:
        self.at += 1
        stated = pb.HeadStatement(
            bureau=COUNTY,
            generation=segment.generation,
            seq=segment.first_seq + len(segment.entries) - 1,
            hash=segment.last_hash,
            witness=PREFECTURE,
            stated_at_us=at or self.at,
        ).SerializeToString()
        request = pb.CosignHeadRequest(
            statement=stated, signature=self.seal.sign(stated), segment=None if bare else segment
        )
        async with self.made.channel(PREFECTURE, "node", COUNTY) as channel:
            return await CosignServiceStub(channel).CosignHead(request, timeout=60)

    async def refused(self, segment: journal_pb2.Segment, **more: Any) -> str:
        with pytest.raises(grpc.aio.AioRpcError) as refusal:
            await self.show(segment, **more)
        found = from_call(refusal.value)
        assert found is not None
        return found.rule


@pytest.mark.asyncio
async def test_a_witness_cosigns_only_what_continues_what_it_has_seen(tmp_path: Path) -> None:
    async with nodes(tmp_path) as made:
        await made.start(PREFECTURE)
        shower = Shower(made)
        first = shower.segment(1, [b"a", b"b", b"c"])
        assert HeadUnfollowed.__name__ == await shower.refused(shower.segment(2, [b"b"], before=bytes(32)))
        await shower.show(first)
        await shower.show(first, bare=True)
        assert StatementOvertaken.__name__ == await shower.refused(first, at=shower.at - 1)
        second = shower.segment(4, [b"d"], before=first.last_hash)
        await shower.show(second)
        assert HeadUnfollowed.__name__ == await shower.refused(shower.segment(6, [b"f"], before=second.last_hash))
        for contradiction in (
            first,
            shower.segment(4, [b"x"], before=first.last_hash),
            shower.segment(4, [b"x", b"y"], before=first.last_hash),
            shower.segment(5, [b"e"], before=bytes(32)),
            shower.segment(5, [b"e"], before=second.last_hash, generation=2),
        ):
            assert HeadContradicted.__name__ == await shower.refused(contradiction)
        await shower.show(shower.segment(4, [b"d", b"e"], before=first.last_hash))
        forged = shower.segment(6, [b"f"])
        forged.last_hash = bytes(32)
        assert FieldMalformed.__name__ == await shower.refused(forged)
        found = seen(made)
        assert found is not None
        assert (1, 5) == (found.generation, found.seq)


@pytest.mark.asyncio
async def test_what_stands_against_a_ledger_is_recorded_once_and_gives_way_to_nothing_lesser(tmp_path: Path) -> None:
    async with nodes(tmp_path) as made:
        await made.start(PREFECTURE)
        shower = Shower(made)
        first = shower.segment(1, [b"a", b"b", b"c"])
        await shower.show(first)
        rewritten = shower.segment(1, [b"a", b"b", b"x"])
        for shown in (*(shower.segment(1, [b"a", b"b"][:count]) for count in (2, 1, 2)), rewritten, rewritten):
            assert HeadContradicted.__name__ == await shower.refused(shown)
        assert HeadContradicted.__name__ == await shower.refused(shower.segment(1, [b"a"]))
        assert [LedgerFinding.SHORTER, LedgerFinding.REWRITTEN] == [one.finding for one in doubts(made)]
        await shower.show(shower.segment(4, [b"d"], before=first.last_hash))
        (standing,) = evidence.doubts(made.up[PREFECTURE].office.ledger.database)
        assert LedgerFinding.REWRITTEN is standing.finding


@pytest.mark.asyncio
async def test_what_a_witness_says_it_has_cosigned_needs_the_bureaus_own_signature(pair: Nodes) -> None:
    await pair.accept(COUNTY)
    last = await cosigned(pair)
    await pair.stop(COUNTY)
    table = schema.WITNESSED
    lie = pb.CosignedHead.FromString(last.head)
    stated = pb.HeadStatement.FromString(lie.statement)
    stated.seq += 5
    lie.statement = stated.SerializeToString()
    lie.signature.CopyFrom(Seal(pair.certificate("node", PREFECTURE)).sign(lie.statement))
    await pair.stop(PREFECTURE)
    in_database(pair, PREFECTURE, lambda it: it.execute(sa.update(table).values(head=lie.SerializeToString())))
    pair.settings |= {"cosigned_start_seconds": 0}
    await pair.start(PREFECTURE, COUNTY)
    await pair.register(COUNTY)
    assert [] == doubts(pair)


@pytest.mark.asyncio
async def test_a_ledger_that_must_be_proven_waits_for_its_witness(tmp_path: Path) -> None:
    async with nodes(tmp_path) as made:
        made.settings |= {"cosigned_start_seconds": 0, "cosign_seconds": 0.1, "require_cosigned_start": True}
        await made.start(COUNTY)
        with pytest.raises(LedgerUnproven):
            await made.register(COUNTY)
        assert not await healthy(made, COUNTY)
        made.settings |= {"require_cosigned_start": False}
        await made.start(PREFECTURE)
        await until(lambda: not made.up[COUNTY].office.ledger.withheld)
        await made.register(COUNTY)
        assert await healthy(made, COUNTY)


async def healthy(made: Nodes, bureau: str) -> bool:
    async with made.channel(bureau, "node", bureau) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest(), timeout=60)
    return bool(answer.status == health_pb2.HealthCheckResponse.SERVING)


@pytest.mark.asyncio
async def test_a_witness_that_is_away_stops_nothing(pair: Nodes) -> None:
    await pair.stop(PREFECTURE)
    for _ in range(3):
        await pair.accept(COUNTY)
    pair.settings |= {"cosigned_start_seconds": 0}
    await pair.start(PREFECTURE)
    await cosigned(pair)
