"""Asking bureaus' ledgers themselves, by gRPC over mutual TLS: the authority for whatever the bus does not bring."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

import grpc
import grpc.aio

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.pki import CertificatePaths, dns_name
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from kuaixiang.wire.v1.ledger_pb2 import GetHeadsRequest, ReadJournalRequest
from kuaixiang.wire.v1.ledger_pb2_grpc import LedgerServiceStub

CHANNELS_MAX: Final = 64
"""Kept open; a channel is for one bureau's name, so that a node answers only for bureaus that its certificate names."""
HEAD_SECONDS_MAX: Final = 5.0
"""A head is one row; a node that needs longer is as good as away."""
READ_SECONDS_MAX: Final = 600.0
"""A whole journal: ten million entries at the fold's own pace."""


class LedgerUnreachable(Exception):
    """A bureau's ledger does not answer, or refuses to."""

    def __init__(self, bureau: str, reason: str) -> None:
        self.bureau = bureau
        self.reason = reason
        super().__init__(f"The ledger of bureau {bureau} cannot be read: {reason}.")


class Ledgers:
    """Every ledger of the tree that has an endpoint. One event loop."""

    def __init__(self, tree: BureauTree, certificates: CertificatePaths) -> None:
        self._tree = tree
        self._certificates = certificates
        self._channels: OrderedDict[str, grpc.aio.Channel] = OrderedDict()
        self._busy: dict[str, int] = {}

    def has(self, bureau: str) -> bool:
        """Whether the tree says where the bureau's ledger is."""
        return bool(self._tree.get(bureau).endpoint)

    async def head(self, bureau: str) -> Head:
        """The end of a bureau's journal. Raises `LedgerUnreachable`."""
        stub = await self._stub(bureau)
        try:
            answer = await stub.GetHeads(GetHeadsRequest(bureaus=[bureau]), timeout=HEAD_SECONDS_MAX)
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(bureau)
        for head in answer.heads:
            if head.bureau == bureau:
                return head
        raise LedgerUnreachable(bureau, "its node knows of no such ledger")

    async def read(self, bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        """A bureau's journal in segments, from a position to another (0: the end). Raises `LedgerUnreachable`."""
        stub = await self._stub(bureau)
        try:
            request = ReadJournalRequest(bureau=bureau, from_seq=from_seq, to_seq=to_seq)
            async for answer in stub.ReadJournal(request, timeout=READ_SECONDS_MAX):
                yield answer.segment
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(bureau)

    async def close(self) -> None:
        """Close every channel."""
        while self._channels:
            _, channel = self._channels.popitem()
            await channel.close()

    async def _stub(self, bureau: str) -> "LedgerServiceStub":
        endpoint = self._tree.get(bureau).endpoint
        if not endpoint:
            raise LedgerUnreachable(bureau, "the tree does not say where it is")
        channel = self._channels.get(bureau)
        if channel is None:
            channel = open_channel(endpoint, dns_name("node", bureau), self._certificates)
            self._channels[bureau] = channel
        self._channels.move_to_end(bureau)
        self._busy[bureau] = self._busy.get(bureau, 0) + 1
        while len(self._channels) > CHANNELS_MAX:
            # Looked for anew after each closing: what was idle before may have been taken up meanwhile.
            idle = next((code for code in self._channels if code not in self._busy), None)
            if idle is None:
                break
            await self._channels.pop(idle).close()
        return LedgerServiceStub(channel)

    def _done(self, bureau: str) -> None:
        left = self._busy.pop(bureau, 1) - 1
        if left:
            self._busy[bureau] = left


def _reason(failure: grpc.aio.AioRpcError) -> str:
    return f"{failure.code().name}, {failure.details() or 'without a word'}"
