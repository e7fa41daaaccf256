"""The node's process: keeps its bureaus' ledgers and answers for them, until it is told to stop."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final, Protocol

import grpc.aio
import structlog
from starlette.applications import Starlette

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.opening import officers_of
from kuaixiang.accounts.servicer import add_sign_in
from kuaixiang.accounts.staff import StaffList
from kuaixiang.runtime import logs
from kuaixiang.runtime.backups import show_newest
from kuaixiang.runtime.bus import Access, Bus, node_user
from kuaixiang.runtime.clock import clock_from
from kuaixiang.runtime.exposition import Exposition
from kuaixiang.runtime.seal import Seal
from kuaixiang.runtime.serving import Health, serving, told_to_stop
from kuaixiang.runtime.tracing import tracing
from kuaixiang.runtime.trust import Trust
from kuaixiang.web.serving import reach_of, serving_pages
from kuaixiang.wire.v1 import (
    callback_pb2,
    callback_pb2_grpc,
    case_pb2,
    case_pb2_grpc,
    cosign_pb2,
    cosign_pb2_grpc,
    directive_pb2,
    directive_pb2_grpc,
    ledger_pb2,
    ledger_pb2_grpc,
    reconciliation_pb2,
    reconciliation_pb2_grpc,
    referral_pb2,
    referral_pb2_grpc,
    sign_in_pb2,
    supervision_pb2,
    supervision_pb2_grpc,
)
from node.attachments import Tidying
from node.callbacks.opening import Outside
from node.callbacks.servicer import CallbackServicer
from node.cases import CaseServicer
from node.channels import gateway, intake, open311, openapi
from node.channels.case_api import ChannelServicer
from node.channels.door import Door
from node.channels.hand_in_api import with_hand_ins
from node.desk.application import application
from node.desk.asking import Services
from node.directives import Directives
from node.duplicates import Duplicates
from node.events.leaf_watch import LeafWatch
from node.events.live import Live
from node.events.publisher import Publisher
from node.federation.client import Links
from node.federation.cosign import CosignServicer
from node.federation.cosigner import Cosigner
from node.federation.courier import Courier
from node.federation.directives import DirectiveServicer, Follower
from node.federation.server import NodeItself, ReferralServicer
from node.fitness import Fitness
from node.gauges import Gauges
from node.journals import LedgerServicer
from node.ledger.ledger import Ledger
from node.office import Office, Place
from node.reconciler import Reconciler
from node.reconciliations import ReconciliationServicer
from node.retention import Retention
from node.settings import NodeSettings
from node.standby import ToldToStop, ledger_of
from node.supervision import SupervisionServicer
from node.sweep import Sweep
from node.witness import Rereader, Witness

NOT_FIT: Final = "the node starts, stops, or takes no acts; its log says why"

_log: Final = structlog.get_logger(__name__)
_SERVICES: Final = (
    case_pb2.DESCRIPTOR.services_by_name["CaseService"].full_name,
    referral_pb2.DESCRIPTOR.services_by_name["ReferralService"].full_name,
    ledger_pb2.DESCRIPTOR.services_by_name["LedgerService"].full_name,
    directive_pb2.DESCRIPTOR.services_by_name["DirectiveService"].full_name,
    reconciliation_pb2.DESCRIPTOR.services_by_name["ReconciliationService"].full_name,
    supervision_pb2.DESCRIPTOR.services_by_name["SupervisionService"].full_name,
    cosign_pb2.DESCRIPTOR.services_by_name["CosignService"].full_name,
    sign_in_pb2.DESCRIPTOR.services_by_name["SignInService"].full_name,
    callback_pb2.DESCRIPTOR.services_by_name["CallbackService"].full_name,
)


@dataclass(frozen=True, slots=True)
class Running:
    """A node that serves."""

    port: int
    metrics_port: int
    office: Office
    health: Health
    desk_port: int = 0
    """Of the web pages; 0 where there are none."""
    gateway_port: int = 0
    """Of the door for channels; 0 where there is none."""


class Chore(Protocol):
    """Something that goes on in the background."""

    def start(self) -> Awaitable[None] | None:
        """Begin."""

    async def stop(self) -> None:
        """End, what is under way included."""


class Chores:
    """Background chores that begin together and end with the node, the last one first."""

    def __init__(self, stack: contextlib.AsyncExitStack) -> None:
        self._stack = stack
        self._waiting: list[Chore] = []

    def add(self, chore: Chore) -> None:
        """Have it begin with the others."""
        self._stack.push_async_callback(chore.stop)
        self._waiting.append(chore)

    async def begin(self) -> None:
        """Begin those that wait."""
        waiting, self._waiting = self._waiting, []
        for chore in waiting:
            begun = chore.start()
            if begun is not None:
                await begun


def add_services(server: grpc.aio.Server, services: Services) -> None:
    """Have the server answer for what the pages ask too, and for journals and directives."""
    office = services.office
    case_pb2_grpc.add_CaseServiceServicer_to_server(services.cases, server)
    referral_pb2_grpc.add_ReferralServiceServicer_to_server(services.referrals, server)
    supervision_pb2_grpc.add_SupervisionServiceServicer_to_server(services.supervision, server)
    journals = LedgerServicer(office.ledger, office.place.trees, office.place.clock)
    ledger_pb2_grpc.add_LedgerServiceServicer_to_server(journals, server)
    directives = DirectiveServicer(office, services.directives)
    directive_pb2_grpc.add_DirectiveServiceServicer_to_server(directives, server)
    reconciliation_pb2_grpc.add_ReconciliationServiceServicer_to_server(services.reconciliations, server)
    cosign_pb2_grpc.add_CosignServiceServicer_to_server(services.witness, server)


def cosigner_of(settings: NodeSettings, office: Office, links: Links, seal: Seal) -> Cosigner:
    """What has the node's journals cosigned."""
    return Cosigner(
        office,
        links,
        seal,
        wait_seconds=settings.cosigned_start_seconds,
        must_be_proven=settings.require_cosigned_start,
        interval_seconds=settings.cosign_seconds,
    )


def _housekeeping(settings: NodeSettings, office: Office, follower: Follower) -> Iterator[Chore]:
    """Chores that only look after the node's own ledgers, or look at how things stand."""
    yield Sweep(office, after=follower.looked)
    yield Tidying(office.attachments)
    yield Retention(office, settings.retention_years)
    yield Gauges(office)
    if settings.nats_monitor:
        place = office.place
        yield LeafWatch(settings.nats_monitor, lambda: place.tree, place.tree.site(settings.bureaus[0]))


@contextlib.asynccontextmanager
async def _pages(
    settings: NodeSettings, services: Services, officers: Officers | None
) -> AsyncIterator[tuple[int, int]]:
    """The officers' pages and the door for channels, for the time of the block, where the settings have them.

    Their ports, 0 for what there is not.
    """
    reach = reach_of(settings)

    async def served(app: Starlette, address: str) -> int:
        serving = serving_pages(app, address, settings.pages_certificates, limits=settings.page_limits)
        return await stack.enter_async_context(serving)

    async with contextlib.AsyncExitStack() as stack:
        desk_port = gateway_port = 0
        if settings.desk:
            pages = application(services, demonstration=settings.demonstration, officers=officers, reach=reach)
            desk_port = await served(pages, settings.desk)
        if settings.gateway and officers is not None:
            door = Door(services, officers, reach, settings.call_limits)
            calls = gateway.calls_of(gateway.SERVICE)
            described = with_hand_ins(openapi.document(gateway.SERVICE, calls))
            as_json = gateway.routes(door, calls, ChannelServicer(services), described)
            app = door.application([*as_json, *intake.routes(door, gateway.Json(calls)), *open311.routes(door)])
            gateway_port = await served(app, settings.gateway)
        yield desk_port, gateway_port


async def _started(settings: NodeSettings, exposition: Exposition, told: asyncio.Event) -> Ledger:
    """The ledger, taking work; raises what `ledger_of` does."""
    ledger = await ledger_of(settings, exposition, told)
    ledger.start(fenced=settings.standby)
    return ledger


@contextlib.asynccontextmanager
async def running(
    settings: NodeSettings, more: Iterable[grpc.GenericRpcHandler] = (), told: asyncio.Event | None = None
) -> AsyncIterator[Running]:
    """A node in this event loop, for the time of the block; `more` are handlers to serve beside its own.

    With `standby` it begins when no other process holds the ledger; `told` ends that waiting, by `ToldToStop`.

    Raises `DatabaseHeld` and the like, `VaultError` for the key of private data, `FileUnreadable` for a certificate,
    `CannotListen`, `PortUnavailable`, `ClockFileMissing`, `UsersFileUnusable`.
    """
    staff = StaffList(settings.staff, settings.bureaus)
    place = Place(settings.load_tree(), settings.load_calendar(), settings.rules, clock_from(settings.clock), staff.of)
    paths = settings.certificate_paths
    async with contextlib.AsyncExitStack() as stack:
        # Before all that is made: servers, channels and the writer ask once whether there are traces.
        stack.enter_context(tracing(settings, "node", settings.bureaus[0]))
        exposition = Exposition(settings.metrics_host, settings.metrics_port)
        stack.callback(exposition.stop)
        health = Health(_SERVICES)
        exposition.unfit = lambda: "" if health.serving else NOT_FIT
        ledger = await _started(settings, exposition, told or asyncio.Event())
        stack.push_async_callback(asyncio.to_thread, ledger.close)
        await staff.start()
        stack.push_async_callback(staff.stop)
        officers = await stack.enter_async_context(
            officers_of(settings, settings.database, bureaus=settings.bureaus, staff=staff.of, fenced=settings.standby)
        )
        trust = Trust(paths, place.trees)
        seal = Seal(paths, trust)
        office = Office(ledger, place, seal.sign)
        directives = Directives(office, seal)
        # They begin when it is known whether the ledgers are the latest; a peer is answered before that.
        chores = Chores(stack)
        bus: Bus | None = None
        if settings.nats_url is not None:
            first = settings.bureaus[0]
            bus = Bus(
                Access(
                    url=settings.nats_url.get_secret_value(),
                    site=place.tree.site(first),
                    user=node_user(first),
                    certificates=paths,
                )
            )
            await stack.enter_async_context(bus)
            chores.add(Publisher(ledger, bus, place.tree, place.clock))
        links = await stack.enter_async_context(Links(place.trees, paths))
        courier = Courier(office, links, seal)
        chores.add(courier)
        follower = Follower(directives, links, place.trees, settings.bureaus)
        chores.add(follower)
        reconciler = Reconciler(office, links, hour=settings.reconcile_hour, days=settings.reconcile_days)
        chores.add(reconciler)
        witness = Witness(office, links, seal)
        cosigner = cosigner_of(settings, office, links, seal)
        stack.push_async_callback(cosigner.stop)
        outside = Outside(settings, office)
        for chore in (Rereader(office, witness), *_housekeeping(settings, office, follower), outside):
            chores.add(chore)
        services = Services(
            office=office,
            cases=CaseServicer(office, Duplicates(ledger, place.clock, settings.duplicates_days)),
            referrals=ReferralServicer(office, links, seal, courier.heard_from),
            supervision=SupervisionServicer(office, links, seal, courier.heard_from),
            reconciliations=ReconciliationServicer(office, reconciler),
            directives=directives,
            witness=CosignServicer(office, witness),
        )

        links.answer_here(NodeItself(services.referrals, settings.bureaus))

        def add(server: grpc.aio.Server) -> None:
            add_services(server, services)
            callback_pb2_grpc.add_CallbackServiceServicer_to_server(CallbackServicer(office, outside), server)
            add_sign_in(server, officers, lambda: place.tree)
            server.add_generic_rpc_handlers(tuple(more))

        port = await stack.enter_async_context(
            serving(
                settings.listen,
                paths,
                _SERVICES,
                add,
                trust=trust,
                reflect=settings.reflection,
                health=health,
                gate=officers,
                limits=settings.call_limits,
            )
        )
        await health.say(healthy=False)
        if bus is not None:
            # Only now: whoever is told that this node is there calls it at once.
            live = Live(office, bus, there=courier.heard_from, look=follower.wake)
            directives.listeners.append(live.directives_are_new)
            chores.add(live)
        fitness = Fitness(health, ledger.database, cosigner)
        chores.add(fitness)
        await cosigner.start()
        await fitness.say()
        await chores.begin()
        desk_port, gateway_port = await stack.enter_async_context(_pages(settings, services, officers))
        _log.info(
            "The node serves.",
            action="node.start",
            bureaus=list(settings.bureaus),
            port=port,
            metrics_port=exposition.port,
            desk_port=desk_port,
            gateway_port=gateway_port,
            tree_version=place.tree.version,
            calendar_version=place.calendar.version,
        )
        yield Running(port, exposition.port, office, health, desk_port, gateway_port)
        _log.info("The node stops.", action="node.stop")


async def run(settings: NodeSettings, ready: Callable[[Running], None] = lambda _: None) -> None:
    """Serve until SIGTERM or SIGINT. Raises what `running` does."""
    told = told_to_stop()
    show_newest(settings.backups, "node", settings.bureaus[0])
    with contextlib.suppress(ToldToStop):
        async with running(settings, told=told) as node:
            ready(node)
            await told.wait()
            # Whoever looks is told first; then what is under way is ended, then what is committed is published.
            _log.info("The node is told to stop.", action="node.drain", seconds=settings.drain_seconds)
            await node.health.leave(settings.drain_seconds)


def serve(settings: NodeSettings, ready: Callable[[Running], None] = lambda _: None) -> None:
    """The whole process: logs to standard error, then `run`. `ready` is called once it serves."""
    logs.configure("node", settings.log_level)
    asyncio.run(run(settings, ready))
