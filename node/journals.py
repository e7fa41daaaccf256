"""LedgerService: a bureau's journal, public parts only, for its superiors and the hubs above it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Final

from kuaixiang.domain.authority import Caller, NotAuthorised, check_supervisor
from kuaixiang.domain.errors import NotThisBureau
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.clock import Clock, to_micros
from kuaixiang.runtime.server import Context, caller_of
from kuaixiang.wire.v1 import ledger_pb2, ledger_pb2_grpc
from node.events.publisher import SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX, head_of
from node.ledger import queries
from node.ledger.ledger import Ledger

FIRST_SEQ: Final = 1


class LedgerServicer(ledger_pb2_grpc.LedgerServiceServicer):
    """Answers LedgerService for the bureaus of one node; `clock` dates the heads."""

    def __init__(self, ledger: Ledger, tree: BureauTree, clock: Clock) -> None:
        self._ledger = ledger
        self._tree = tree
        self._clock = clock

    async def ReadJournal(
        self, request: ledger_pb2.ReadJournalRequest, context: Context
    ) -> AsyncIterator[ledger_pb2.ReadJournalResponse]:
        """Entries from a position on, in segments, up to another or the end as it is now.

        Raises `NotThisBureau`, `NotAuthorised`.
        """
        self._check(caller_of(context), request.bureau)
        end = self._ledger.heads[request.bureau].seq
        last = min(request.to_seq or end, end)
        after = max(request.from_seq, FIRST_SEQ) - 1
        while after < last:
            segment = await asyncio.to_thread(
                queries.read_segment,
                self._ledger.database,
                request.bureau,
                after,
                entries_max=SEGMENT_ENTRIES_MAX,
                bytes_max=SEGMENT_BYTES_MAX,
                to_seq=last,
            )
            if segment is None:
                return
            after = segment.first_seq + len(segment.entries) - 1
            yield ledger_pb2.ReadJournalResponse(segment=segment)

    async def GetHeads(self, request: ledger_pb2.GetHeadsRequest, context: Context) -> ledger_pb2.GetHeadsResponse:
        """The ends of the journals asked for; of all that the caller may read when none is named.

        Raises `NotThisBureau`, `NotAuthorised`.
        """
        caller = caller_of(context)
        for bureau in request.bureaus:
            self._check(caller, bureau)
        bureaus = tuple(request.bureaus) or tuple(b for b in self._ledger.bureaus if self._may(caller, b))
        as_of_us = to_micros(self._clock.now())
        return ledger_pb2.GetHeadsResponse(heads=[head_of(self._ledger, bureau, as_of_us) for bureau in bureaus])

    def _check(self, caller: Caller, bureau: str) -> None:
        if bureau not in self._ledger.heads:
            refusal = NotThisBureau(bureau, self._ledger.bureaus)
            refusal.field = "bureau"  # these requests have no header
            raise refusal
        check_supervisor(caller, bureau, self._tree)

    def _may(self, caller: Caller, bureau: str) -> bool:
        try:
            check_supervisor(caller, bureau, self._tree)
        except NotAuthorised:
            return False
        return True
