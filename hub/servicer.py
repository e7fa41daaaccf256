"""StatisticsService: the hub's figures over gRPC, for whoever stands in the line they are of."""

import asyncio
from collections.abc import Callable
from datetime import date
from enum import IntEnum
from typing import Any, Final, Never

import grpc
import grpc.aio
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.timestamp_pb2 import Timestamp
from google.rpc.error_details_pb2 import BadRequest, ErrorInfo
from google.rpc.status_pb2 import Status
from grpc_status.rpc_status import to_status

from hub import query, reconcile
from hub.fold import Mark
from hub.folder import Folder
from hub.ledgers import Ledgers
from hub.query import Grouping, Question, Row
from hub.store import Store
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel
from kuaixiang.runtime.tls import Identity, PeerWithoutCertificate, identity_of_peer
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceServicer

ERROR_DOMAIN: Final = "hub.kuaixiang"

Context = grpc.aio.ServicerContext[Any, Any]


class WrongQuestion(Exception):
    """A request that has no answer: nothing is wrong with the hub."""

    code = grpc.StatusCode.INVALID_ARGUMENT

    def __init__(self, field: str, sentence: str) -> None:
        self.field = field
        super().__init__(sentence)


class NotYours(WrongQuestion):
    """The caller does not stand in the line of the bureau whose figures it asks for."""

    code = grpc.StatusCode.PERMISSION_DENIED

    def __init__(self, scope: str) -> None:
        super().__init__("scope", f"Only bureaus within or above {scope} may read its figures.")


class NotCounted(WrongQuestion):
    """The hub does not count the bureau that is asked for."""

    code = grpc.StatusCode.NOT_FOUND

    def __init__(self, asked: str, scope: str) -> None:
        super().__init__("scope", f"This hub counts {scope} and the bureaus under it; {asked} is not one of them.")


class NoSuchDay(WrongQuestion):
    """A day that is none."""

    def __init__(self, field: str, text: str) -> None:
        super().__init__(field, f"{text!r} is no day; write it as YYYY-MM-DD.")


class EmptyPeriod(WrongQuestion):
    """A period that ends before it begins."""

    def __init__(self, from_day: date, to_day: date) -> None:
        super().__init__("to_day", f"The period ends on {to_day}, before it begins on {from_day}.")


class NoSuchValue(WrongQuestion):
    """A category, channel or grouping that this version does not know."""

    def __init__(self, field: str, value: int) -> None:
        super().__init__(field, f"There is no {field} {value}.")


def may_read(identity: Identity, tree: BureauTree, scope: str) -> bool:
    """Whether a peer may read a scope's figures: it must speak for a bureau within the scope or above it."""
    codes = identity.bureaus | identity.offices | identity.hubs
    return any(code in tree and (tree.contains(scope, code) or tree.contains(code, scope)) for code in codes)


class Statistics(StatisticsServiceServicer):
    """Answers from the database; every read is on a thread of its own."""

    def __init__(
        self,
        *,
        store: Store,
        folder: Folder,
        tree: BureauTree,
        ledgers: Ledgers,
        now_us: Callable[[], int],
        silent_after_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._store = store
        self._folder = folder
        self._tree = tree
        self._ledgers = ledgers
        self._now_us = now_us
        self._silent_after_seconds = silent_after_seconds
        self._settle_seconds = settle_seconds

    def completeness(self, scope: str) -> query.Completeness:
        """How complete the figures of a scope are now."""
        bureaus = self._tree.subtree(scope)
        silent = frozenset(
            bureau for bureau in bureaus if self._folder.silent_seconds(bureau) > self._silent_after_seconds
        )
        return query.completeness(bureaus, self._folder.marks(), silent)

    async def GetFigures(self, request: pb.GetFiguresRequest, context: Context) -> pb.GetFiguresResponse:
        """Figures of a period, grouped."""
        try:
            scope = self._scope(request.scope, context)
            question = _question(request, scope)
        except WrongQuestion as wrong:
            return await _refuse(context, wrong)
        rows = await asyncio.to_thread(self._read, question)
        return pb.GetFiguresResponse(
            rows=[_row(row) for row in rows], completeness=_completeness(self.completeness(scope))
        )

    async def GetCompleteness(self, request: pb.GetCompletenessRequest, context: Context) -> pb.GetCompletenessResponse:
        """Which bureaus have been heard from, and up to where."""
        try:
            scope = self._scope(request.scope, context)
        except WrongQuestion as wrong:
            return await _refuse(context, wrong)
        return pb.GetCompletenessResponse(
            completeness=_completeness(self.completeness(scope)),
            marks=[
                _mark(self._folder.mark(bureau), self._folder.parked_entries(bureau))
                for bureau in self._tree.subtree(scope)
            ],
        )

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        """Compares the hub with every ledger of the scope."""
        try:
            scope = self._scope(request.scope, context)
        except WrongQuestion as wrong:
            return await _refuse(context, wrong)
        report = await reconcile.reconcile(
            store=self._store,
            tree=self._tree,
            ledgers=self._ledgers,
            scope=scope,
            settle_seconds=self._settle_seconds,
        )
        return pb.ReconcileResponse(
            ledgers_compared=report.ledgers_compared,
            entries_compared=report.entries_compared,
            mismatches=[
                pb.Mismatch(bureau=found.bureau, what=found.what, hub=found.hub, ledger=found.ledger)
                for found in report.mismatches
            ],
            unreachable=report.unreachable,
        )

    def _scope(self, asked: str, context: Context) -> str:
        scope = asked or self._store.scope
        if scope not in self._tree or not self._tree.contains(self._store.scope, scope):
            raise NotCounted(scope, self._store.scope)
        try:
            identity = identity_of_peer(context)
        except PeerWithoutCertificate:
            identity = Identity()
        if not may_read(identity, self._tree, scope):
            raise NotYours(scope)
        return scope

    def _read(self, question: Question) -> list[Row]:
        with self._store.reading() as connection:
            return query.figures(connection, self._tree, question, self._now_us())


# ---------------------------------------------------------------- between the wire and ours


def _question(request: pb.GetFiguresRequest, scope: str) -> Question:
    from_day = _day("from_day", request.from_day)
    to_day = _day("to_day", request.to_day)
    if from_day is not None and to_day is not None and to_day < from_day:
        raise EmptyPeriod(from_day, to_day)
    _known("category", Category, request.category or Category.OTHER)
    _known("channel", Channel, request.channel or Channel.OTHER)
    _known("grouping", Grouping, request.grouping)
    return Question(scope, from_day, to_day, Grouping(request.grouping), request.category, request.channel)


def _known(field: str, words: type[IntEnum], value: int) -> None:
    if value not in set(map(int, words)):
        raise NoSuchValue(field, value)


def _day(field: str, text: str) -> date | None:
    if not text:
        return None
    try:
        return date.fromisoformat(text)
    except ValueError:
        raise NoSuchDay(field, text) from None


def _row(row: Row) -> pb.Figures:
    figures = pb.Figures(key=row.key, label=row.label, facts=row.facts, open=row.open, overdue=row.overdue)
    for rate in row.rates:
        figures.rates.add(name=rate.name, numerator=rate.numerator, denominator=rate.denominator)
    for clock in row.clocks:
        figures.clocks.add(
            kind=clock.kind.value,
            met=clock.met,
            missed=clock.missed,
            histogram=clock.histogram,
            p50_workdays=clock.p50_workdays,
            p90_workdays=clock.p90_workdays,
        )
    return figures


def _completeness(found: query.Completeness) -> pb.Completeness:
    return pb.Completeness(
        bureaus_expected=found.bureaus_expected,
        bureaus_heard=found.bureaus_heard,
        bureaus_up_to_date=found.bureaus_up_to_date,
        bureaus_quarantined=found.bureaus_quarantined,
        data_as_of=_instant(found.data_as_of_us),
    )


def _mark(mark: Mark, parked: int) -> pb.BureauMark:
    return pb.BureauMark(
        bureau=mark.bureau,
        generation=mark.generation,
        seq=mark.seq,
        hash=mark.hash,
        announced_seq=mark.announced_seq,
        heard_at=_instant(mark.heard_at_us),
        data_as_of=_instant(mark.data_as_of_us),
        parked_entries=parked,
        quarantine=mark.quarantine,
    )


def _instant(micros: int) -> Timestamp | None:
    """An instant on the wire; none for 0, which stands for never."""
    if not micros:
        return None
    seconds, rest = divmod(micros, 1_000_000)
    return Timestamp(seconds=seconds, nanos=rest * 1_000)


async def _refuse(context: Context, wrong: WrongQuestion) -> Never:
    """End the call with the condition's status and details. The one place where the hub's conditions meet gRPC."""
    details = (
        ErrorInfo(reason=type(wrong).__name__, domain=ERROR_DOMAIN, metadata={"field": wrong.field}),
        BadRequest(field_violations=[BadRequest.FieldViolation(field=wrong.field, description=str(wrong))]),
    )
    packed = [AnyMessage() for _ in details]
    for envelope, detail in zip(packed, details, strict=True):
        envelope.Pack(detail)
    number: int = wrong.code.value[0]
    status = to_status(Status(code=number, message=str(wrong), details=packed))
    await context.abort(status.code, status.details, status.trailing_metadata)
