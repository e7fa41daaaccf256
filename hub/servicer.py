"""StatisticsService: the hub's figures over gRPC, for whoever stands in the line they are of."""

import asyncio
from collections.abc import Callable
from datetime import date
from enum import IntEnum

from google.protobuf.timestamp_pb2 import Timestamp

from hub import query, reconcile
from hub.fold import Mark
from hub.folder import Folder
from hub.ledgers import Ledgers
from hub.query import Grouping, Question, Row
from hub.store import Store
from kuaixiang.domain.authority import check_reader
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import field_term
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel
from kuaixiang.runtime.server import Context, caller_of
from kuaixiang.wire.v1 import statistics_pb2 as pb
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceServicer


class NotCounted(Refused):
    """The hub does not count the bureau that is asked for."""

    condition = Condition.MISSING
    field = "scope"

    def __init__(self, asked: str, scope: str) -> None:
        self.remedy = f"This hub counts {scope} and the bureaus under it."
        self.remedy_chinese = f"本汇总中心统计单位 {scope} 及其下级。"
        super().__init__(f"Bureau {asked} is not counted by this hub.", f"本汇总中心不统计单位 {asked}。")


class NoSuchDay(Refused):
    """A day that is none."""

    condition = Condition.INVALID
    remedy = "Write it as YYYY-MM-DD."
    remedy_chinese = "请按“年-月-日”填写，例如 2026-03-31。"

    def __init__(self, field: str, text: str) -> None:
        self.field = field
        super().__init__(f"{field} {text!r} is no day.", f"{field_term(field)}“{text}”不是有效的日期。")


class EmptyPeriod(Refused):
    """A period that ends before it begins."""

    condition = Condition.INVALID
    field = "to_day"
    remedy = "Give the earlier day first."
    remedy_chinese = "请先填写较早的日期。"

    def __init__(self, from_day: date, to_day: date) -> None:
        super().__init__(
            f"The period ends on {to_day}, before it begins on {from_day}.",
            f"结束日期 {to_day} 早于开始日期 {from_day}。",
        )


class NoSuchValue(Refused):
    """A category, channel or grouping that this version does not know."""

    condition = Condition.INVALID
    remedy = "Use one that the description of the service lists."
    remedy_chinese = "请使用接口说明中列出的值。"

    def __init__(self, field: str, value: int) -> None:
        self.field = field
        super().__init__(f"There is no {field} {value}.", f"{field_term(field)}没有 {value} 这一项。")


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
        scope = self._scope(request.scope, context)
        question = _question(request, scope)
        rows = await asyncio.to_thread(self._read, question)
        return pb.GetFiguresResponse(
            rows=[_row(row) for row in rows], completeness=_completeness(self.completeness(scope))
        )

    async def GetCompleteness(self, request: pb.GetCompletenessRequest, context: Context) -> pb.GetCompletenessResponse:
        """Which bureaus have been heard from, and up to where."""
        scope = self._scope(request.scope, context)
        return pb.GetCompletenessResponse(
            completeness=_completeness(self.completeness(scope)),
            marks=[
                _mark(self._folder.mark(bureau), self._folder.parked_entries(bureau))
                for bureau in self._tree.subtree(scope)
            ],
        )

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        """Compares the hub with every ledger of the scope."""
        scope = self._scope(request.scope, context)
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
        check_reader(caller_of(context), scope, self._tree)
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
