"""LedgerService over mutual TLS: who may read a journal, and that it is the one that was published."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import grpc
import grpc.aio
import pytest

from kuaixiang.runtime import pki, tls
from kuaixiang.runtime.bus import Bus
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.server import Answering
from kuaixiang.runtime.trust import Trust
from kuaixiang.wire.errors import RemoteRefusal, from_call
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from kuaixiang.wire.v1.ledger_pb2 import GetHeadsRequest, ReadJournalRequest
from kuaixiang.wire.v1.ledger_pb2_grpc import (
    LedgerServiceStub,
    add_LedgerServiceServicer_to_server,
)
from node import journals
from node.journals import LedgerServicer
from tests.events.stage import MONDAY, OTHER_SITE, Arrivals, Desk, publishing, until, verified

SECONDS = 60


@dataclass(frozen=True)
class Node:
    """A node that serves the bureaus of a desk, and the authority of its federation."""

    port: int
    host: str
    folder: Path

    @asynccontextmanager
    async def asked_by(self, kind: pki.Kind, code: str) -> AsyncIterator[LedgerServiceStub]:
        paths = pki.issue(self.folder / "ca", self.folder / f"{kind}-{code}", kind, [code])
        name = pki.dns_name("node", self.host)
        async with tls.open_channel(f"127.0.0.1:{self.port}", name, paths) as channel:
            yield LedgerServiceStub(channel)


@pytest.fixture
async def node(desk: Desk, tmp_path: Path, bureaus: tuple[str, str]) -> AsyncIterator[Node]:
    pki.init_authority(tmp_path / "ca", "Test federation")
    paths = pki.issue(tmp_path / "ca", tmp_path / "node", "node", bureaus)
    server = grpc.aio.server(interceptors=(Answering(Trust(paths)),), options=tls.SERVER_OPTIONS)
    add_LedgerServiceServicer_to_server(LedgerServicer(desk.ledger, InForce(desk.tree), desk.clock), server)
    port = server.add_secure_port("127.0.0.1:0", tls.server_credentials(paths))
    await server.start()
    try:
        yield Node(port, bureaus[0], tmp_path)
    finally:
        await server.stop(None)


async def read(stub: LedgerServiceStub, bureau: str, from_seq: int = 0, to_seq: int = 0) -> list[Segment]:
    request = ReadJournalRequest(bureau=bureau, from_seq=from_seq, to_seq=to_seq)
    return [answer.segment async for answer in stub.ReadJournal(request, timeout=SECONDS)]


async def refusal(stub: LedgerServiceStub, bureau: str) -> RemoteRefusal:
    with pytest.raises(grpc.aio.AioRpcError) as raised:
        await read(stub, bureau)
    refused = from_call(raised.value)
    assert refused is not None
    return refused


@pytest.mark.nats
async def test_a_journal_reads_byte_for_byte_as_it_was_published(
    desk: Desk, node_bus: Bus, arrivals: Arrivals, bureaus: tuple[str, str], node: Node
) -> None:
    bureau = bureaus[0]
    async with publishing(desk, node_bus):
        await desk.register_many(bureau, 700)
        await until(lambda: arrivals.reached(bureau) == 700, "all arrives")
    async with node.asked_by("hub", "000000") as stub:
        for sent, segment in zip(arrivals.raw[bureau], arrivals.segments[bureau], strict=True):
            last = segment.first_seq + len(segment.entries) - 1
            assert [sent] == [read.SerializeToString() for read in await read(stub, bureau, segment.first_seq, last)]


async def test_a_journal_is_read_from_its_first_entry_to_its_end_in_bounded_messages(
    desk: Desk, bureaus: tuple[str, str], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    bureau = bureaus[0]
    await desk.register_many(bureau, 1100)
    async with node.asked_by("hub", "000000") as stub:
        segments = await read(stub, bureau)
        assert [500, 500, 100] == [len(segment.entries) for segment in segments]
        head = desk.ledger.heads[bureau]
        assert (head.seq, head.hash) == verified(segments)
        monkeypatch.setattr(journals, "SEGMENT_BYTES_MAX", 10_000)
        small = await read(stub, bureau)
        assert (head.seq, head.hash) == verified(small)
        assert all(sum(len(entry.public) for entry in segment.entries) <= 10_000 for segment in small)
        assert len(small) > len(segments)


async def test_a_part_of_a_journal_is_read_by_its_positions(desk: Desk, bureaus: tuple[str, str], node: Node) -> None:
    bureau = bureaus[0]
    await desk.register_many(bureau, 10)
    async with node.asked_by("hub", "000000") as stub:
        (part,) = await read(stub, bureau, 4, 6)
        assert (4, 3) == (part.first_seq, len(part.entries))
        (rest,) = await read(stub, bureau, 8)
        assert (8, 3) == (rest.first_seq, len(rest.entries))
        assert part.entries[0].public == (await read(stub, bureau, 1))[0].entries[3].public
        for from_seq, to_seq in ((11, 0), (2**64 - 1, 0), (5, 4)):
            assert [] == await read(stub, bureau, from_seq, to_seq)
        assert 10 == verified(await read(stub, bureau, 0, 2**64 - 1))[0]


@pytest.mark.parametrize("kind", ["node", "office", "hub"])
async def test_the_bureau_itself_and_whoever_is_above_it_may_read_its_journal(
    desk: Desk, bureaus: tuple[str, str], node: Node, kind: pki.Kind
) -> None:
    bureau = bureaus[0]
    await desk.register(bureau)
    for code in (bureau, desk.tree.parent(bureau), "000000"):
        assert code is not None
        async with node.asked_by(kind, code) as stub:
            assert 1 == len(await read(stub, bureau))


@pytest.mark.parametrize("kind", ["node", "office", "hub"])
async def test_strangers_may_not_read_a_journal(
    desk: Desk, bureaus: tuple[str, str], node: Node, kind: pki.Kind
) -> None:
    bureau, neighbour = bureaus
    await desk.register(bureau)
    for code in (neighbour, OTHER_SITE):
        async with node.asked_by(kind, code) as stub:
            refused = await refusal(stub, bureau)
            assert (grpc.StatusCode.PERMISSION_DENIED, "NotAuthorised") == (refused.code, refused.rule)
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await stub.GetHeads(GetHeadsRequest(bureaus=[bureau]), timeout=SECONDS)
            assert grpc.StatusCode.PERMISSION_DENIED == raised.value.code()


async def test_a_bureau_that_is_not_hosted_is_named_in_the_refusal(
    desk: Desk, bureaus: tuple[str, str], node: Node
) -> None:
    async with node.asked_by("hub", "000000") as stub:
        for unknown in ("330000", "", "不存在"):
            refused = await refusal(stub, unknown)
            assert (grpc.StatusCode.NOT_FOUND, "NotThisBureau") == (refused.code, refused.rule)
            assert "bureau" == refused.field
            assert bureaus[0] in refused.remedy.english


async def test_heads_are_those_asked_for_or_all_that_the_caller_may_read(
    desk: Desk, bureaus: tuple[str, str], node: Node
) -> None:
    first, second = bureaus
    await desk.register_many(first, 3)
    expected = [
        Head(bureau=b, generation=1, seq=h.seq, hash=h.hash, as_of_us=to_micros(MONDAY))
        for b, h in desk.ledger.heads.items()
    ]
    assert [3, 0, 0] == [head.seq for head in expected]
    async with node.asked_by("hub", "000000") as stub:
        assert expected == list((await stub.GetHeads(GetHeadsRequest(), timeout=SECONDS)).heads)
        assert expected[1:2] == list((await stub.GetHeads(GetHeadsRequest(bureaus=[second]), timeout=SECONDS)).heads)
    async with node.asked_by("office", second) as stub:
        assert expected[1:2] == list((await stub.GetHeads(GetHeadsRequest(), timeout=SECONDS)).heads)
    async with node.asked_by("hub", OTHER_SITE) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await stub.GetHeads(GetHeadsRequest(), timeout=SECONDS)
        assert grpc.StatusCode.PERMISSION_DENIED == raised.value.code()


async def test_a_read_ends_where_the_journal_ended_when_it_was_asked_for(
    desk: Desk, bureaus: tuple[str, str], node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    bureau = bureaus[0]
    await desk.register_many(bureau, 30)
    monkeypatch.setattr(journals, "SEGMENT_ENTRIES_MAX", 10)
    async with node.asked_by("hub", "000000") as stub:
        reached = 0
        async for answer in stub.ReadJournal(ReadJournalRequest(bureau=bureau), timeout=SECONDS):
            reached += len(answer.segment.entries)
            await desk.register_many(bureau, 5)
        assert 30 == reached
