"""StatisticsService: the hub's figures over gRPC, for whoever stands in the line they are of."""

import asyncio
import dataclasses
from collections.abc import Callable, Iterable
from datetime import date
from enum import IntEnum
from typing import Final

import structlog

from hub import messages, publishing, query, reconcile, seconding
from hub.bulletin.contents import MINIMUM_SAMPLE, compose
from hub.bulletin.document import Bulletin, Format
from hub.bulletin.files import as_file
from hub.bulletin.league import League
from hub.bulletin.material import IssueSearch
from hub.bulletin.reading import issue_search, read_league, read_material
from hub.comparison import Compared, compare, whole_period
from hub.editions import Cell, Edition, OverrideAsked
from hub.fold import Mark
from hub.folder import Folder
from hub.ledgers import Ledgers
from hub.lights import LightRow, OpenCase, Wanted, lights, open_cases
from hub.measures import DEFINITIONS
from hub.publishing import Corrections, Override, Publication, end_of
from hub.query import Question
from hub.reconcile import Outcome
from hub.store import Store, latest_edition, override_asked
from hub.words import Grouping
from hub.worker import Worker
from kuaixiang.domain.authority import Subject
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.labels import field_term
from kuaixiang.domain.periods import YEAR_MAX, YEAR_MIN, Period, parse_period
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel, DepartmentKind
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.server import Context, admit, caller_of
from kuaixiang.wire.codec import timestamp
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


class PeriodTwice(Refused):
    """A period and days are given."""

    condition = Condition.INVALID
    field = "period"
    remedy = "Give a period or its days, not both."
    remedy_chinese = "期间与起止日期请只填一项。"

    def __init__(self, period: Period) -> None:
        super().__init__(f"The period {period} is given, and days besides.", f"已填期间 {period}，又填了起止日期。")


class NoSuchValue(Refused):
    """A category, channel, kind of department or grouping that this version does not know."""

    condition = Condition.INVALID
    remedy = "Use one that the description of the service lists."
    remedy_chinese = "请使用接口说明中列出的值。"

    def __init__(self, field: str, value: int) -> None:
        self.field = field
        super().__init__(f"There is no {field} {value}.", f"{field_term(field)}没有 {value} 这一项。")


_LOG: Final = structlog.get_logger(__name__)


def counted_scope(asked: str, hub_scope: str, tree: BureauTree) -> str:
    """The scope asked for, the hub's own by default. Raises `NotCounted`."""
    scope = asked or hub_scope
    if scope not in tree or not tree.contains(hub_scope, scope):
        raise NotCounted(scope, hub_scope)
    return scope


class Statistics(StatisticsServiceServicer):
    """Answers from the database; every read is on a thread of its own."""

    def __init__(
        self,
        *,
        store: Store,
        folder: Folder,
        ledgers: Ledgers,
        worker: Worker,
        now_us: Callable[[], int],
        silent_after_seconds: float,
        settle_seconds: float,
    ) -> None:
        self._store = store
        self._folder = folder
        self._ledgers = ledgers
        self._worker = worker
        self._now_us = now_us
        self._silent_after_seconds = silent_after_seconds
        self._settle_seconds = settle_seconds
        self.signs_in = False
        """Whether officers sign in at this hub: two persons of an override are then two who have."""

    def completeness(self, scope: str, until_us: int = 0) -> query.Completeness:
        """How complete the figures of a scope are now; with `until_us`, up to that instant."""
        tree, marks = self._store.tree, self._folder.marks()
        ended = {
            one
            for one in tree.subtree(scope)
            # What stands under it, and was dissolved with it, hands over by its ledger.
            if tree.dissolved(one) and all(self._has_ended(marks.get(below)) for below in tree.subtree(one))
        }
        bureaus = [bureau for bureau in tree.subtree(scope) if bureau not in ended]
        return query.completeness(bureaus, marks, self._silent(bureaus), until_us)

    def _has_ended(self, mark: Mark | None) -> bool:
        """Whether nothing more is expected of a dissolved bureau: all of it is folded, and nothing of it is open."""
        if mark is None or not mark.heard_at_us or mark.behind or mark.quarantine or mark.restored:
            return False
        return not self._store.has_open(mark.bureau)

    async def GetFigures(self, request: pb.GetFiguresRequest, context: Context) -> pb.GetFiguresResponse:
        """Figures of a period, grouped."""
        scope = self._scope("GetFigures", request.scope, context)
        question = _question(request, scope)
        rows, published = await asyncio.to_thread(self._read, question, compared=request.compare)
        return pb.GetFiguresResponse(
            rows=[messages.compared(row) for row in rows],
            completeness=messages.completeness(self.completeness(scope), self._store.tree),
            published=None if published is None else messages.published(published, self._store.tree),
        )

    async def GetCompleteness(self, request: pb.GetCompletenessRequest, context: Context) -> pb.GetCompletenessResponse:
        """Which bureaus have been heard from, and up to where."""
        scope = self._scope("GetCompleteness", request.scope, context)
        return pb.GetCompletenessResponse(
            completeness=messages.completeness(self.completeness(scope), self._store.tree),
            marks=[
                messages.mark(self._folder.mark(bureau), self._folder.parked_entries(bureau))
                for bureau in self._store.tree.subtree(scope)
            ],
        )

    async def GetLights(self, request: pb.GetLightsRequest, context: Context) -> pb.GetLightsResponse:
        """Open cases now by light."""
        scope = self._scope("GetLights", request.scope, context)
        rows = await asyncio.to_thread(self._read_lights, scope)
        return pb.GetLightsResponse(
            rows=[pb.Lights(**dataclasses.asdict(row)) for row in rows],
            completeness=messages.completeness(self.completeness(scope), self._store.tree),
        )

    async def PublishPeriod(self, request: pb.PublishPeriodRequest, context: Context) -> pb.PublishPeriodResponse:
        """Keeps the figures of a period that is over as an edition."""
        scope = counted_scope(request.scope, self._store.scope, self._store.tree)
        access = admit(context, "PublishPeriod", Subject(bureau=scope), self._store.tree)
        officer = caller_of(context).officer
        period = parse_period(request.period)
        override = Override(request.override_by, request.override_second, request.override_reason)
        if override != Override() and (self.signs_in or officer is not None):
            if override.reason.strip():
                asked = seconding.ask(officer, scope, period, override, self._now_us())
                await self._worker.run(self._store.ask_override, asked)
                _LOG.info(
                    "Somebody asks to have incomplete figures published.",
                    action="hub.override_asked",
                    scope=scope,
                    period=asked.period,
                )
                return pb.PublishPeriodResponse(awaits_second_until=timestamp(from_micros(asked.until_us)))
            known = await asyncio.to_thread(self._asked, scope, period)
            override = seconding.confirm(officer, scope, period, override, asked=known, now_us=self._now_us())
        published_by = str(access) if officer is None else officer.signature
        prepared = await asyncio.to_thread(self._prepare, scope, period, override, published_by)
        edition, is_new = await self._worker.run(self._store.publish, *prepared)
        if is_new:
            _LOG.info(
                "A period was published.",
                action="hub.publish",
                scope=scope,
                period=edition.period,
                edition=edition.edition,
                complete=edition.complete,
            )
        return pb.PublishPeriodResponse(edition=messages.edition(edition, self._store.tree), unchanged=not is_new)

    async def GetCorrections(self, request: pb.GetCorrectionsRequest, context: Context) -> pb.GetCorrectionsResponse:
        """What has changed since the last edition of a period."""
        scope = self._scope("GetCorrections", request.scope, context)
        period = parse_period(request.period)
        found = await asyncio.to_thread(self._corrections, scope, period)
        return pb.GetCorrectionsResponse(
            edition=messages.edition(found.edition, self._store.tree),
            bureaus=[messages.correction(changed, self._store.tree) for changed in found.bureaus],
            grounds=[messages.correction(changed, self._store.tree) for changed in found.grounds],
            definitions=DEFINITIONS,
        )

    async def Reconcile(self, request: pb.ReconcileRequest, context: Context) -> pb.ReconcileResponse:
        """Compares the hub with every ledger of the scope, by its hash alone where that is asked."""
        scope = self._scope("Reconcile", request.scope, context)
        compare = reconcile.reconcile_heads if request.quick else reconcile.reconcile
        report = await compare(
            store=self._store,
            tree=self._store.tree,
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

    async def GetBulletin(self, request: pb.GetBulletinRequest, context: Context) -> pb.GetBulletinResponse:
        """The bulletin of a period, as a file."""
        _known("format", Format, request.format)
        bulletin = await self.bulletin(request, context)
        file = await asyncio.to_thread(as_file, bulletin, Format(request.format))
        return pb.GetBulletinResponse(file_name=file.name, media_type=file.media_type, content=file.content)

    # ------------------------------------------------------------ what this process's pages ask besides

    async def bulletin(self, request: pb.GetBulletinRequest, context: Context) -> Bulletin:
        """The bulletin of a period, as a value; of no format."""
        scope = self._scope("GetBulletin", request.scope, context)
        period = parse_period(request.period)
        marks, silent = self._folder.marks(), self._silent(self._store.tree.subtree(scope))

        def read() -> Bulletin:
            with self._store.reading() as connection:
                material = read_material(
                    connection,
                    tree=self._store.tree,
                    scope=scope,
                    period=period,
                    marks=marks,
                    silent=silent,
                    now_us=self._now_us(),
                    minimum_sample=request.minimum_sample or MINIMUM_SAMPLE,
                )
            return compose(material)

        return await asyncio.to_thread(read)

    async def publication(self, scope: str, period: Period, context: Context) -> Publication:
        """What stands of publishing a period: its last edition, how complete it would be now, and who has asked."""
        counted = counted_scope(scope, self._store.scope, self._store.tree)
        admit(context, "OverseeBoard", Subject(bureau=counted), self._store.tree)

        def read() -> Publication:
            found = self.completeness(counted, end_of(period))
            with self._store.reading() as connection:
                asked = override_asked(connection, counted, str(period))
                edition = latest_edition(connection, counted, str(period))
                changed = (
                    []
                    if edition is None
                    else publishing.corrections(connection, self._store.tree, counted, period).bureaus
                )
            waits = asked is not None and asked.until_us > self._now_us()
            return Publication(edition, changed, found, asked if waits else None)

        return await asyncio.to_thread(read)

    async def league(self, request: pb.GetFiguresRequest, context: Context) -> League:
        """The immediate subordinates of a scope, ranked over the days asked for as the bulletin ranks them."""
        scope = self._scope("GetFigures", request.scope, context)
        question = _question(request, scope)
        marks, silent = self._folder.marks(), self._silent(self._store.tree.subtree(scope))

        def read() -> League:
            with self._store.reading() as connection:
                return read_league(
                    connection,
                    tree=self._store.tree,
                    question=question,
                    marks=marks,
                    silent=silent,
                    now_us=self._now_us(),
                    minimum_sample=MINIMUM_SAMPLE,
                )

        return await asyncio.to_thread(read)

    async def open_cases(self, wanted: Wanted, context: Context) -> list[OpenCase]:
        """Open cases of a scope, public parts alone."""
        scope = counted_scope(wanted.scope, self._store.scope, self._store.tree)
        admit(context, "OverseeBoard", Subject(bureau=scope), self._store.tree)

        def read() -> list[OpenCase]:
            with self._store.reading() as connection:
                return open_cases(
                    connection, self._store.tree, dataclasses.replace(wanted, scope=scope), self._now_us()
                )

        return await asyncio.to_thread(read)

    async def issue_search(self, scope: str, days: tuple[date, date], context: Context) -> IssueSearch | None:
        """What the last search for common issues of these very days has found of a scope; None: there was none."""
        counted = self._scope("GetFigures", scope, context)

        def read() -> IssueSearch | None:
            with self._store.reading() as connection:
                return issue_search(connection, self._store.tree, counted, days)

        return await asyncio.to_thread(read)

    async def outcomes(self, scope: str, context: Context) -> list[Outcome]:
        """What the last daily reconciliation has said of each ledger of a scope; empty before the first."""
        counted = self._scope("Reconcile", scope, context)

        def read() -> list[Outcome]:
            with self._store.reading() as connection:
                return reconcile.read_outcomes(connection, self._store.tree.subtree(counted))

        return await asyncio.to_thread(read)

    def _silent(self, bureaus: Iterable[str]) -> frozenset[str]:
        return frozenset(
            bureau for bureau in bureaus if self._folder.silent_seconds(bureau) > self._silent_after_seconds
        )

    def _scope(self, rpc: str, asked: str, context: Context) -> str:
        scope = counted_scope(asked, self._store.scope, self._store.tree)
        admit(context, rpc, Subject(bureau=scope), self._store.tree)
        return scope

    def _read_lights(self, scope: str) -> list[LightRow]:
        with self._store.reading() as connection:
            return lights(connection, self._store.tree, scope, self._now_us())

    def _read(self, question: Question, *, compared: bool) -> tuple[list[Compared], Corrections | None]:
        with self._store.reading() as connection:
            if compared:
                rows = compare(connection, self._store.tree, question, self._now_us())
            else:
                rows = [Compared(row) for row in query.figures(connection, self._store.tree, question, self._now_us())]
            first, last = question.from_day, question.to_day
            period = None if first is None or last is None else whole_period(first, last)
            if period is None or latest_edition(connection, question.scope, str(period)) is None:
                return rows, None
            return rows, publishing.corrections(connection, self._store.tree, question.scope, period)

    def _prepare(
        self, scope: str, period: Period, override: Override, published_by: str
    ) -> tuple[Edition, dict[Cell, int]]:
        # First the completeness: what is read after it is at least as complete.
        found = self.completeness(scope, end_of(period))
        with self._store.reading() as connection:
            return publishing.prepare(
                connection,
                self._store.tree,
                scope=scope,
                period=period,
                completeness=found,
                override=override,
                published_by=published_by,
                now_us=self._now_us(),
            )

    def _asked(self, scope: str, period: Period) -> OverrideAsked | None:
        with self._store.reading() as connection:
            return override_asked(connection, scope, str(period))

    def _corrections(self, scope: str, period: Period) -> Corrections:
        with self._store.reading() as connection:
            return publishing.corrections(connection, self._store.tree, scope, period)


# ---------------------------------------------------------------- what is asked


def _question(request: pb.GetFiguresRequest, scope: str) -> Question:
    from_day = day_of("from_day", request.from_day)
    to_day = day_of("to_day", request.to_day)
    if request.period:
        period = parse_period(request.period)
        if from_day is not None or to_day is not None:
            raise PeriodTwice(period)
        from_day, to_day = period.first, period.last
    if from_day is not None and to_day is not None and to_day < from_day:
        raise EmptyPeriod(from_day, to_day)
    for field, words, value in (
        ("category", Category, request.category),
        ("channel", Channel, request.channel),
        ("department_kind", DepartmentKind, request.department_kind),
    ):
        _known(field, words, value or words(1))
    _known("grouping", Grouping, request.grouping)
    return Question(
        scope,
        from_day,
        to_day,
        Grouping(request.grouping),
        request.category,
        request.channel,
        request.department_kind,
    )


def _known(field: str, words: type[IntEnum], value: int) -> None:
    if value not in set(map(int, words)):
        raise NoSuchValue(field, value)


def day_of(field: str, text: str) -> date | None:
    """A day as it is written, None for none. Raises `NoSuchDay`."""
    if not text:
        return None
    try:
        day = date.fromisoformat(text)
    except ValueError:
        raise NoSuchDay(field, text) from None
    if not YEAR_MIN <= day.year <= YEAR_MAX:
        raise NoSuchDay(field, text)
    return day
