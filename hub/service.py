"""The hub's process: pulls, folds, refills, answers; until it is told to stop or its database fails."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass
from typing import Final

import grpc.aio
import structlog

from hub.board.board import Board
from hub.board.people import AT_THE_BOARD
from hub.consumer import Consumer
from hub.daily import DailyReconciliation
from hub.directives import TreeFollower
from hub.folder import Folder
from hub.gauges import Gauges
from hub.issues.servicer import Issues
from hub.ledgers import Ledgers
from hub.metrics import EXPECTED, HEARD, QUARANTINED, RESTORED, UP_TO_DATE
from hub.refill import Refiller
from hub.servicer import Statistics
from hub.settings import HubSettings
from hub.store import Store
from hub.totals import Totals
from hub.words import Lack
from hub.worker import Worker
from kuaixiang.accounts.opening import officers_of
from kuaixiang.accounts.servicer import add_sign_in
from kuaixiang.accounts.staff import StaffList
from kuaixiang.runtime import logs
from kuaixiang.runtime.backups import show_newest
from kuaixiang.runtime.bus import Access, Bus, hub_user
from kuaixiang.runtime.clock import clock_from, to_micros
from kuaixiang.runtime.exposition import Exposition
from kuaixiang.runtime.loops import Loop, Step
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.serving import Health, serving, told_to_stop
from kuaixiang.runtime.tracing import tracing
from kuaixiang.runtime.trust import Trust
from kuaixiang.web.serving import reach_of, serving_pages
from kuaixiang.wire.v1 import issues_pb2, sign_in_pb2, statistics_pb2
from kuaixiang.wire.v1.issues_pb2_grpc import add_IssueServiceServicer_to_server
from kuaixiang.wire.v1.statistics_pb2_grpc import add_StatisticsServiceServicer_to_server

WATCH_SECONDS: Final = 1.0
"""How often the marks are looked over for bureaus that are behind or silent."""

SHOWN_SECONDS: Final = 5.0
"""How often the metrics say how complete the figures are. Of a nation that was a tenth of what its hub did in a busy
hour, done every second; Prometheus asks every fifteen."""

_LOG: Final = structlog.get_logger(__name__)
_SERVICES: Final = (
    statistics_pb2.DESCRIPTOR.services_by_name["StatisticsService"].full_name,
    issues_pb2.DESCRIPTOR.services_by_name["IssueService"].full_name,
    sign_in_pb2.DESCRIPTOR.services_by_name["SignInService"].full_name,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A hub that serves."""

    port: int
    metrics_port: int
    board_port: int
    """Of the board's pages; 0: there are none."""
    folder: Folder
    health: Health
    failed: asyncio.Future[BaseException]
    """Done when the fold or its database has failed: the process must end."""


@contextlib.asynccontextmanager
async def running(settings: HubSettings) -> AsyncIterator[Running]:
    """A hub in this event loop, for the time of the block.

    Raises `DatabaseHeld`, `OtherScope` and the like, `FileUnreadable` for a certificate, `CannotListen`,
    `PortUnavailable`, `ClockFileMissing`.
    """
    clock = clock_from(settings.clock)

    def now_us() -> int:
        return to_micros(clock.now())

    async with contextlib.AsyncExitStack() as stack:
        # Before all that is made: servers and channels ask once whether there are traces.
        stack.enter_context(tracing(settings, "hub", settings.scope))
        store = stack.enter_context(Store(settings.database, settings.load_tree(), settings.scope))
        trust = Trust(settings.certificate_paths, store.trees)
        worker = Worker()
        stack.push_async_callback(worker.close)
        folder = Folder(store=store, now_us=now_us)
        ledgers = Ledgers(store.trees, settings.certificate_paths)
        stack.push_async_callback(ledgers.close)
        statistics = Statistics(
            store=store,
            folder=folder,
            ledgers=ledgers,
            worker=worker,
            now_us=now_us,
            silent_after_seconds=settings.silent_after_seconds,
            settle_seconds=settings.settle_seconds,
        )
        refiller = Refiller(
            folder=folder,
            worker=worker,
            ledgers=ledgers,
            bureaus=lambda: store.tree.subtree(settings.scope),
            refill_after_seconds=settings.refill_after_seconds,
            silent_after_seconds=settings.silent_after_seconds,
        )
        stack.push_async_callback(refiller.stop)
        exposition = Exposition(settings.metrics_host, settings.metrics_port)
        stack.callback(exposition.stop)
        bus = Bus(
            Access(
                url=settings.nats_url.get_secret_value(),
                site=store.tree.site(settings.scope),
                user=hub_user(settings.scope),
                certificates=settings.certificate_paths,
            )
        )
        await stack.enter_async_context(bus)
        sites = settings.followed_sites(store.tree)
        consumer = Consumer(bus=bus, folder=folder, worker=worker, scope=settings.scope, sites=sites)
        stack.push_async_callback(consumer.stop)

        issues = Issues(store=store, worker=worker, ledgers=ledgers, now=clock.now)

        staff = StaffList(settings.staff, ())
        await staff.start()
        stack.push_async_callback(staff.stop)
        officers = await stack.enter_async_context(
            officers_of(
                settings,
                settings.database,
                bureaus=store.tree.subtree(settings.scope),
                staff=staff.of,
                roles=AT_THE_BOARD,
            )
        )
        statistics.signs_in = officers is not None

        def adopted() -> None:
            consumer.follow(settings.followed_sites(store.tree))
            if officers is not None:
                officers.bureaus = frozenset(store.tree.subtree(settings.scope))

        def add(server: grpc.aio.Server) -> None:
            add_sign_in(server, officers, lambda: store.tree)
            add_StatisticsServiceServicer_to_server(statistics, server)
            add_IssueServiceServicer_to_server(issues, server)

        health = Health(_SERVICES)
        port = await stack.enter_async_context(
            serving(
                settings.listen,
                settings.certificate_paths,
                _SERVICES,
                add,
                trust=trust,
                reflect=settings.reflection,
                health=health,
                limits=settings.call_limits,
                gate=officers,
            )
        )
        await health.say(healthy=True)
        board_port = 0
        if settings.board:
            board = Board(
                statistics=statistics,
                trees=store.trees,
                scope=settings.scope,
                now=clock.now,
                demonstration=settings.demonstration,
                officers=officers,
                reach=reach_of(settings),
            )
            board_port = await stack.enter_async_context(
                serving_pages(
                    board.application(), settings.board, settings.pages_certificates, limits=settings.page_limits
                )
            )
        consumer.start()
        await stack.enter_async_context(Loop("hub-refill", refiller.step, WATCH_SECONDS))
        watch = Loop("hub-completeness", _watch(statistics, settings.scope), SHOWN_SECONDS)
        await stack.enter_async_context(watch)
        if settings.totals_seconds:
            totals = Totals(
                store=store,
                completeness=lambda: statistics.completeness(settings.scope),
                folds=lambda: folder.folds,
                now=clock.now,
                tell=bus.publish_core,
                traces=consumer.take_traces,
            )
            await stack.enter_async_context(Loop("hub-totals", totals.step, settings.totals_seconds))
        await stack.enter_async_context(Gauges(store, clock.now).loop)
        daily = DailyReconciliation(
            store=store,
            worker=worker,
            ledgers=ledgers,
            now=clock.now,
            settle_seconds=settings.settle_seconds,
            hour=settings.reconcile_hour,
            whole_days=settings.reconcile_whole_days,
        )
        await stack.enter_async_context(Loop("hub-reconcile", daily.step, WATCH_SECONDS))
        follower = TreeFollower(
            store=store,
            worker=worker,
            ledgers=ledgers,
            seal=Seal(settings.certificate_paths, trust),
            adopted=adopted,
        )
        await stack.enter_async_context(follower)
        _LOG.info(
            "The hub serves.",
            action="hub.start",
            scope=settings.scope,
            port=port,
            metrics_port=exposition.port,
            board_port=board_port,
            sites=len(sites),
            tree_version=store.tree.version,
        )
        yield Running(port, exposition.port, board_port, folder, health, worker.failed)
        _LOG.info("The hub stops.", action="hub.stop", scope=settings.scope)


async def run(settings: HubSettings, ready: Callable[[Running], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises what `running` does, and what ended the fold."""
    told = told_to_stop()
    show_newest(settings.backups, "hub", settings.scope)
    async with running(settings) as hub:
        ready(hub)
        hub.failed.add_done_callback(lambda _: told.set())
        await told.wait()
        await hub.health.leave(0 if hub.failed.done() else settings.drain_seconds)
        if hub.failed.done():
            raise hub.failed.result()


def serve(settings: HubSettings, ready: Callable[[Running], None] = lambda _: None) -> None:
    """The whole process: logs to standard error, then `run`. `ready` is called once it serves."""
    logs.configure("hub", settings.log_level)
    asyncio.run(run(settings, ready))


def _watch(statistics: Statistics, scope: str) -> Step:
    async def step() -> bool:
        found = statistics.completeness(scope)
        EXPECTED.set(found.bureaus_expected)
        HEARD.set(found.bureaus_heard)
        UP_TO_DATE.set(found.bureaus_up_to_date)
        QUARANTINED.set(found.bureaus_quarantined)
        RESTORED.set(sum(lack is Lack.RESTORED for lack in found.missing.values()))
        return False

    return step
