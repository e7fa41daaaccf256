"""ReconciliationService: what a bureau's ledger says of its hand-overs with a peer, and comparing the two."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any, Final

from kuaixiang.domain.authority import Subject
from kuaixiang.domain.errors import FieldMalformed, NotAPair
from kuaixiang.domain.labels import Both
from kuaixiang.domain.reconciliation import Difference
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.words import DifferenceKind
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.server import Context, admit, caller_of
from kuaixiang.wire.codec import timestamp
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from kuaixiang.wire.v1 import reconciliation_pb2_grpc
from node.days import Period, day_of, spans_us
from node.ledger import queries
from node.ledger.queries import LastReconciliation, StandingMismatch
from node.office import Office
from node.pairs import digest_messages, period_of, record_messages
from node.reconciler import READ_CASES_MAX, READ_DAYS_MAX, PeerAway, Reconciler, Report, digests_of

RECORDS_AT_ONCE: Final = 500
"""Records of one message: about 100 kB."""
TOLD_MAX: Final = 1_000
"""Differences and mismatches of one answer; of more there are the counts."""


class ReconciliationServicer(reconciliation_pb2_grpc.ReconciliationServiceServicer):
    """Answers ReconciliationService for the bureaus of one node."""

    def __init__(self, office: Office, reconciler: Reconciler) -> None:
        self._office = office
        self._reconciler = reconciler

    async def GetPairDigests(self, request: pb.GetPairDigestsRequest, context: Context) -> pb.GetPairDigestsResponse:
        """The digest of each day of a period on which there were hand-overs between the two.

        Raises `NotThisBureau`, `NotAuthorised`, `NotAPair`, `FieldMalformed`.
        """
        self._admit_pair(context, "GetPairDigests", request.bureau, request.peer)
        period = period_of(request.from_day, request.to_day)
        found = await asyncio.to_thread(digests_of, self._office, request.bureau, request.peer, period)
        return pb.GetPairDigestsResponse(days=digest_messages(found))

    async def ReadPairRecords(
        self, request: pb.ReadPairRecordsRequest, context: Context
    ) -> AsyncIterator[pb.ReadPairRecordsResponse]:
        """The hand-overs of some days and of some cases.

        Raises `NotThisBureau`, `NotAuthorised`, `NotAPair`, `FieldMalformed`.
        """
        self._admit_pair(context, "ReadPairRecords", request.bureau, request.peer)
        _at_most(request.days, "days", READ_DAYS_MAX)
        _at_most(request.case_ids, "case_ids", READ_CASES_MAX)
        days = [day_of(day, "days") for day in request.days]
        for case_id in request.case_ids:
            check_case_id(case_id, "case_ids")
        records = await asyncio.to_thread(
            queries.pair_records,
            self._office.ledger.database,
            request.bureau,
            request.peer,
            spans_us(days),
            request.case_ids,
        )
        for at in range(0, len(records), RECORDS_AT_ONCE):
            yield pb.ReadPairRecordsResponse(records=record_messages(records[at : at + RECORDS_AT_ONCE]))

    async def ReconcileLedgers(
        self, request: pb.ReconcileLedgersRequest, context: Context
    ) -> pb.ReconcileLedgersResponse:
        """Compares now, with one peer or with all; each peer's node does the same, unless it is the one who asks.

        Raises `NotThisBureau`, `NotAuthorised`, `NotAPair`, `FieldMalformed`.
        """
        bureau, peer = request.bureau, request.peer
        if peer:
            self._admit_pair(context, "ReconcileLedgers", bureau, peer)
        else:
            self._office.check_hosted(bureau, "bureau")
            admit(context, "ReconcileLedgers", Subject(bureau=bureau), self._office.place.tree)
        period = self._reconciler.usual_period()
        if request.from_day or request.to_day:
            period = period_of(
                request.from_day or period.from_day.isoformat(), request.to_day or period.to_day.isoformat()
            )
        tree = self._office.place.tree
        peers = [peer] if peer else [code for code in self._reconciler.peers(bureau) if not tree.retired(code)]
        asked_by_peer = peer in caller_of(context).bureaus
        reports = [await self._one(bureau, other, period, both=not asked_by_peer) for other in peers]
        return pb.ReconcileLedgersResponse(reports=[_report(report) for report in reports])

    async def _one(self, bureau: str, peer: str, period: Period, *, both: bool) -> Report:
        compare = self._reconciler.on_both_sides if both else self._reconciler.reconcile
        try:
            return await compare(bureau, peer, period)
        except PeerAway as away:
            return Report(peer, period, away=away.reason)

    async def ListMismatches(self, request: pb.ListMismatchesRequest, context: Context) -> pb.ListMismatchesResponse:
        """What reconciliation has found and what still stands, and when each pair was last compared.

        Raises `NotThisBureau`, `NotAuthorised`.
        """
        self._office.check_hosted(request.bureau, "bureau")
        admit(context, "ListMismatches", Subject(bureau=request.bureau), self._office.place.tree)
        database = self._office.ledger.database
        standing = await asyncio.to_thread(queries.standing_mismatches, database, (request.bureau,))
        last = await asyncio.to_thread(queries.last_reconciliations, database, (request.bureau,))
        return pb.ListMismatchesResponse(
            mismatches=[_standing(one) for one in standing[:TOLD_MAX]],
            last=[_last(one) for one in last],
            standing=len(standing),
        )

    def _admit_pair(self, context: Context, rpc: str, bureau: str, peer: str) -> None:
        self._office.check_hosted(bureau, "bureau")
        admit(context, rpc, Subject(bureau=bureau, parties=frozenset({peer})), self._office.place.tree)
        if peer not in self._reconciler.peers(bureau):
            raise NotAPair(bureau, peer)


def _at_most(values: Iterable[str], field: str, number: int) -> None:
    count = sum(1 for _ in values)
    if count > number:
        raise FieldMalformed(
            field,
            Both(f"names {count}", f"共 {count} 个"),
            Both(f"Ask for at most {number} at a time.", f"一次最多查询 {number} 个。"),
        )


def _report(report: Report) -> pb.PairReport:
    found = report.comparison
    return pb.PairReport(
        peer=report.peer,
        from_day=report.period.from_day.isoformat(),
        to_day=report.period.to_day.isoformat(),
        matched=found.matched,
        pending=found.pending,
        differences=[_difference(one) for one in found.differences[:TOLD_MAX]],
        away=report.away,
        bytes_exchanged=report.bytes_exchanged,
        missing_here=found.count(DifferenceKind.MISSING_HERE),
        missing_there=found.count(DifferenceKind.MISSING_THERE),
        different=found.count(DifferenceKind.DIFFERENT),
    )


def _difference(found: Difference) -> pb.Difference:
    kind: Any = found.kind
    return pb.Difference(
        case_id=found.case_id,
        referral_id=found.referral_id,
        difference=kind,
        fields=[pb.FieldDifference(field=one.field, here=one.here, there=one.there) for one in found.fields],
    )


def _standing(found: StandingMismatch) -> pb.StandingMismatch:
    kind: Any = found.difference
    return pb.StandingMismatch(
        case_id=found.case_id,
        peer=found.peer,
        difference=kind,
        since=timestamp(from_micros(found.since_us)),
        absent=found.absent,
    )


def _last(last: LastReconciliation) -> pb.LastReconciliation:
    return pb.LastReconciliation(
        peer=last.peer,
        at=timestamp(from_micros(last.at_us)),
        from_day=last.from_day,
        to_day=last.to_day,
        matched=last.matched,
        pending=last.pending,
        missing_here=last.missing_here,
        missing_there=last.missing_there,
        different=last.different,
    )
