"""CosignService: what a bureau of ours says as witness of other ledgers, and gives back to one that has lost some."""

import asyncio
from collections.abc import AsyncIterator
from datetime import date
from typing import Any, Final

import structlog

from kuaixiang.domain.authority import Subject
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import SnapshotGivenBack
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import check_case_id
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.server import Context, admit
from kuaixiang.wire.codec import encode_private, timestamp
from kuaixiang.wire.v1 import cosign_pb2 as pb
from kuaixiang.wire.v1 import cosign_pb2_grpc, journal_pb2
from node.ledger import evidence, queries
from node.ledger.evidence import Doubt
from node.ledger.ledger import Seen
from node.office import Office
from node.witness import Witness, statement_of

CASES_MAX: Final = 100
"""Cases of one answer: a text of 10,000 characters each is a few megabytes at the very most."""

_log: Final = structlog.get_logger(__name__)


class CosignServicer(cosign_pb2_grpc.CosignServiceServicer):
    """Answers CosignService for the bureaus of one node."""

    def __init__(self, office: Office, witness: Witness) -> None:
        self._office = office
        self._witness = witness
        self._given_on = date.min
        self._given = set[tuple[str, str, str]]()
        """Bureau, peer and case of what was given back on that day."""

    async def CosignHead(self, request: pb.CosignHeadRequest, context: Context) -> pb.CosignHeadResponse:
        """The witness's signature of a head that continues what it has seen.

        Raises `NotAuthorised`, `NotThisBureau` and what `Witness.cosign` does.
        """
        stated = statement_of(request.statement)
        self._check(context, "CosignHead", stated.bureau, stated.witness)
        return await self._witness.cosign(request)

    async def GetCosigned(self, request: pb.GetCosignedRequest, context: Context) -> pb.GetCosignedResponse:
        """What the witness has cosigned last of the caller's ledger. Raises `NotAuthorised`, `NotThisBureau`."""
        self._check(context, "GetCosigned", request.bureau, request.witness)
        seen = self._witness.seen(request.witness, request.bureau)
        return pb.GetCosignedResponse(head=pb.CosignedHead.FromString(seen.head) if seen is not None else None)

    async def ReadWitnessed(
        self, request: pb.ReadWitnessedRequest, context: Context
    ) -> AsyncIterator[pb.ReadWitnessedResponse]:
        """The entries that the witness has kept of the caller's ledger. Raises `NotAuthorised`, `NotThisBureau`."""
        self._check(context, "ReadWitnessed", request.bureau, request.witness)
        database = self._office.ledger.database
        pair = (request.witness, request.bureau)
        for span in await asyncio.to_thread(evidence.spans, database, *pair):
            if span.last_seq < request.from_seq:
                continue
            segment = await asyncio.to_thread(evidence.kept_segment, database, *pair, span)
            yield pb.ReadWitnessedResponse(segment=evidence.after_seq(segment, max(request.from_seq, 1) - 1))

    async def ListWitnessed(self, request: pb.ListWitnessedRequest, context: Context) -> pb.ListWitnessedResponse:
        """The ledgers that the bureau witnesses. Raises `NotAuthorised`, `NotThisBureau`."""
        admit(context, "ListWitnessed", Subject(bureau=request.bureau), self._office.place.tree)
        self._office.check_hosted(request.bureau, "bureau")
        found = self._witness.all_seen(request.bureau)
        return pb.ListWitnessedResponse(ledgers=[_ledger(seen, doubt) for seen, doubt in found])

    async def ReadHandedOver(self, request: pb.ReadHandedOverRequest, context: Context) -> pb.ReadHandedOverResponse:
        """What is private of cases that the two bureaus have handed over, as far as it is kept here.

        Raises `NotAuthorised`, `NotThisBureau`, `FieldMalformed`.
        """
        subject = Subject(bureau=request.bureau, speaker=request.peer)
        admit(context, "ReadHandedOver", subject, self._office.place.tree)
        self._office.check_hosted(request.bureau, "bureau")
        if len(request.case_ids) > CASES_MAX:
            raise FieldMalformed(
                "case_ids",
                Both(f"names {len(request.case_ids)}", f"共 {len(request.case_ids)} 个"),
                Both(f"Ask for at most {CASES_MAX} at a time.", f"一次最多查询 {CASES_MAX} 个。"),
            )
        for case_id in request.case_ids:
            check_case_id(case_id, "case_ids")
        found = await asyncio.to_thread(self._handed_over, request.bureau, request.peer, list(request.case_ids))
        await self._record_given(request.bureau, request.peer, [case.case_id for case in found])
        return pb.ReadHandedOverResponse(cases=found)

    async def _record_given(self, bureau: str, peer: str, case_ids: list[str]) -> None:
        withheld = self._office.ledger.withheld.get(bureau)
        if withheld is not None:
            # Two that come from backups at once must not lose for good what the other one has.
            _log.warning(
                "A peer is given back what is private of cases without an entry, for the ledger takes none.",
                action="cosign.given_unrecorded",
                bureau=bureau,
                peer=peer,
                cases=len(case_ids),
                reason=type(withheld).__name__,
            )
            return
        today = self._office.place.clock.now().date()
        if today != self._given_on:
            self._given_on, self._given = today, set()
        for case_id in case_ids:
            given = (bureau, peer, case_id)
            if given not in self._given:
                await self._office.record_note(bureau, SnapshotGivenBack(peer=peer), case_id)
                self._given.add(given)

    def _handed_over(self, bureau: str, peer: str, case_ids: list[str]) -> list[pb.HandedOverCase]:
        database = self._office.ledger.database
        cases = [queries.one_case(database, bureau, case_id) for case_id in case_ids]
        shared = [case for case in cases if case is not None and peer in case.neighbour_bureaus]
        snapshots = queries.snapshots(database, bureau, shared)
        return [
            pb.HandedOverCase(case_id=case_id, private=journal_pb2.Private.FromString(encode_private(private)))
            for case_id, private in snapshots.items()
        ]

    def _check(self, context: Context, rpc: str, bureau: str, witness: str) -> None:
        admit(context, rpc, Subject(bureau=witness, speaker=bureau), self._office.place.tree)
        self._office.check_hosted(witness, "witness")


def _ledger(seen: Seen, doubt: Doubt | None) -> pb.WitnessedLedger:
    told = pb.WitnessedLedger(
        bureau=seen.bureau,
        generation=seen.generation,
        seq=seen.seq,
        hash=seen.hash,
        cosigned_at=timestamp(from_micros(seen.cosigned_at_us)),
    )
    if doubt is not None:
        finding: Any = doubt.finding
        told.doubt.CopyFrom(
            pb.LedgerDoubt(
                finding=finding,
                known_generation=doubt.known.generation,
                known_seq=doubt.known.seq,
                known_hash=doubt.known.hash,
                told_generation=doubt.told.generation,
                told_seq=doubt.told.seq,
                told_hash=doubt.told.hash,
                since=timestamp(from_micros(doubt.since_us)),
            )
        )
    return told
