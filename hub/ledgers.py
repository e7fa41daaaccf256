"""Asking bureaus' ledgers themselves, by gRPC over mutual TLS: the authority for whatever the bus does not bring.

The ledger of a retired bureau, whose node has been stopped for good, is asked for at its nearest superior that has a
node: it has cosigned that ledger and kept its entries.
"""

from collections import OrderedDict
from collections.abc import AsyncIterator, Sequence
from datetime import date
from typing import Final

import grpc
import grpc.aio

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.channels import Channels
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.wire.v1.common_pb2 import DIRECTIVE_KIND_TREE
from kuaixiang.wire.v1.directive_pb2 import ReadDirectivesRequest, SignedDirective
from kuaixiang.wire.v1.directive_pb2_grpc import DirectiveServiceStub
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from kuaixiang.wire.v1.ledger_pb2 import (
    CaseTerms,
    GetHeadsRequest,
    ReadJournalRequest,
    ReadMaskedTextsRequest,
    ReadTermsRequest,
)
from kuaixiang.wire.v1.ledger_pb2_grpc import LedgerServiceStub

CHANNELS_MAX: Final = 64
"""Kept open; a channel is for one bureau's name, so that a node answers only for bureaus that its certificate names."""
HEAD_SECONDS_MAX: Final = 5.0
"""A head is one row; a node that needs longer is as good as away."""
READ_SECONDS_MAX: Final = 600.0
"""A whole journal: ten million entries at the fold's own pace."""
TREE_SECONDS_MAX: Final = 10.0
"""A megabyte at most, over a provincial line."""
TEXTS_AT_ONCE: Final = 20
"""Masked texts that a ledger tells at a time."""
TEXTS_SECONDS_MAX: Final = 10.0
"""They are masked when they are asked for, a millisecond each."""


class LedgerUnreachable(Exception):
    """A bureau's ledger does not answer, or refuses to."""

    def __init__(self, bureau: str, reason: str) -> None:
        self.bureau = bureau
        self.reason = reason
        super().__init__(f"The ledger of bureau {bureau} cannot be read: {reason}.")


class Ledgers:
    """Every ledger of the tree that has an endpoint. One event loop."""

    def __init__(self, trees: InForce[BureauTree], certificates: CertificatePaths) -> None:
        self._trees = trees
        self._channels = Channels(certificates)
        self._used: OrderedDict[str, None] = OrderedDict()
        """Bureaus that there are channels to, the one that was asked least lately first."""
        self._busy: dict[str, int] = {}

    def has(self, bureau: str) -> bool:
        """Whether the tree says where the bureau's ledger is."""
        return bool(self._keeper(bureau)[1])

    async def head(self, bureau: str) -> Head:
        """The end of a bureau's journal. Raises `LedgerUnreachable`."""
        keeper, stub = await self._stub(bureau)
        try:
            answer = await stub.GetHeads(GetHeadsRequest(bureaus=[bureau]), timeout=HEAD_SECONDS_MAX)
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(keeper)
        for head in answer.heads:
            if head.bureau == bureau:
                return head
        raise LedgerUnreachable(bureau, "its node knows of no such ledger")

    async def read(self, bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        """A bureau's journal in segments, from a position to another (0: the end). Raises `LedgerUnreachable`."""
        keeper, stub = await self._stub(bureau)
        try:
            request = ReadJournalRequest(bureau=bureau, from_seq=from_seq, to_seq=to_seq)
            async for answer in stub.ReadJournal(request, timeout=READ_SECONDS_MAX):
                yield answer.segment
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(keeper)

    async def terms(self, bureau: str, from_day: date, to_day: date, one_of: int) -> AsyncIterator[CaseTerms]:
        """The masked key terms of the requests that a bureau registered in a period. Raises `LedgerUnreachable`."""
        keeper, stub = await self._stub(bureau)
        try:
            request = ReadTermsRequest(
                bureau=bureau, from_day=from_day.isoformat(), to_day=to_day.isoformat(), one_of=one_of
            )
            async for answer in stub.ReadTerms(request, timeout=READ_SECONDS_MAX):
                for case in answer.cases:
                    yield case
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(keeper)

    async def masked_texts(self, bureau: str, case_ids: Sequence[str]) -> dict[str, str]:
        """The masked beginning of the texts of a bureau's cases, by case. Raises `LedgerUnreachable`."""
        found: dict[str, str] = {}
        keeper, stub = await self._stub(bureau)
        try:
            for start in range(0, len(case_ids), TEXTS_AT_ONCE):
                request = ReadMaskedTextsRequest(bureau=bureau, case_ids=case_ids[start : start + TEXTS_AT_ONCE])
                answer = await stub.ReadMaskedTexts(request, timeout=TEXTS_SECONDS_MAX)
                found.update((one.case_id, one.text) for one in answer.texts)
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(keeper)
        return found

    async def trees(self, bureau: str, published_at_us: int) -> list[SignedDirective]:
        """The tree that a bureau's node has of headquarters, if published after that. Raises `LedgerUnreachable`."""
        keeper, channel = await self._channel(bureau)
        stub = DirectiveServiceStub(channel)
        request = ReadDirectivesRequest(bureau=bureau, kinds=[DIRECTIVE_KIND_TREE])
        request.have.add(kind=DIRECTIVE_KIND_TREE, published_at_us=published_at_us)
        try:
            answer = await stub.ReadDirectives(request, timeout=TREE_SECONDS_MAX)
        except grpc.aio.AioRpcError as failure:
            raise LedgerUnreachable(bureau, _reason(failure)) from failure
        finally:
            self._done(keeper)
        return list(answer.directives)

    async def close(self) -> None:
        """Close every channel."""
        self._used.clear()
        await self._channels.close()

    async def _stub(self, bureau: str) -> tuple[str, LedgerServiceStub]:
        """What to ask of a bureau's ledger, and whose node answers: `_done` with it. Raises `LedgerUnreachable`."""
        keeper, channel = await self._channel(bureau)
        return keeper, LedgerServiceStub(channel)

    def _keeper(self, bureau: str) -> tuple[str, str]:
        """Whose node answers for a bureau's ledger, and where; an empty endpoint where the tree does not say."""
        tree = self._trees.value
        if not tree.retired(bureau):
            return bureau, tree.get(bureau).endpoint
        above = ((code, tree.get(code).endpoint) for code in tree.ancestors(bureau))
        return next((one for one in above if one[1]), (bureau, ""))

    async def _channel(self, bureau: str) -> tuple[str, grpc.aio.Channel]:
        """The channel to whoever answers for a bureau's ledger, and whose node that is. Raises `LedgerUnreachable`."""
        keeper, endpoint = self._keeper(bureau)
        if not endpoint:
            raise LedgerUnreachable(bureau, "the tree does not say where it is")
        channel = self._channels.channel(keeper, endpoint)
        self._used[keeper] = None
        self._used.move_to_end(keeper)
        self._busy[keeper] = self._busy.get(keeper, 0) + 1
        while len(self._used) > CHANNELS_MAX:
            # Looked for anew after each closing: what was idle before may have been taken up meanwhile.
            idle = next((code for code in self._used if code not in self._busy), None)
            if idle is None:
                break
            del self._used[idle]
            await self._channels.drop(idle)
        return keeper, channel

    def _done(self, bureau: str) -> None:
        left = self._busy.pop(bureau, 1) - 1
        if left:
            self._busy[bureau] = left


def _reason(failure: grpc.aio.AioRpcError) -> str:
    return f"{failure.code().name}, {failure.details() or 'without a word'}"
