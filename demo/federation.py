"""A whole federation on one machine, from its certificates to its end.

Any tree of bureaus in any number of real node processes, with NATS sites, hubs, and a business clock that is moved by
whoever drives it. Used by ``kx demo``, ``kx replay``, tests and benchmarks::

    async with Federation(directory, tree, clock_start=monday) as federation:
        office = federation.office("110101")
        await office.do(registrar, acts.Register(...), key="case-1")

Everything lies under `directory`: authority, certificates, keys, settings, databases, JetStream stores, logs.
Certificates are valid both now and at the clock's start, because gRPC and signatures look at the machine's own time.
"""

import asyncio
import contextlib
import hashlib
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType, TracebackType
from typing import Final, Self

import grpc.aio

from demo.officers import CALL_SECONDS_MAX, HubReader, Office, serving
from demo.postgres import Postgres
from demo.processes import ChildDied, ChildNotReady, ChildProcess, ProcessError, free_port
from demo.sites import Sites
from kuaixiang.domain.tree import BureauTree, Tier
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.loops import end_tasks
from kuaixiang.runtime.tls import open_channel

READY_SECONDS_MAX: Final = 120.0
"""A node is ready in about a second when it starts alone; a dozen start together on a small, busy machine."""

STARTING_AT_ONCE_MAX: Final = 12
"""Services that start at the same time: each takes two seconds of a core. Where all 57 of the nation begin at once on
two cores, the first is as late as the last, and all ask for superiors that are not there yet."""

COSIGN_SECONDS: Final = 1.0
"""A demonstration's fortnight takes under a minute: what its superiors have not seen for half a minute is days."""
COSIGNED_START_SECONDS: Final = 2.0
"""Superiors are killed on purpose; whoever starts meanwhile does not wait long for them."""
PROBE_SECONDS: Final = 0.25
"""One question to a service that may not listen yet; between two of them its process is looked at."""

STOP_SECONDS_MAX: Final = 60.0
"""A service ends its calls within five seconds, on a busy machine within some more; afterwards it is killed."""

CERTIFICATE_DAYS_AHEAD: Final = 60
"""How long after its start a federation's certificates serve."""

DATABASE_SIDES: Final = ("", "-wal", "-shm")
"""A SQLite database, and what it keeps beside itself."""

RECONNECT_MS_MAX: Final = 500
"""An officer's terminal looks for a node that went away this often; between nodes it is ten seconds."""

LOOPBACK: Final = "127.0.0.1"
"""Where everything listens, unless the services are on machines of their own."""

TIER_WORDS: Final = {
    Tier.NATIONAL: "national",
    Tier.PROVINCIAL: "provincial",
    Tier.PREFECTURE: "prefecture",
    Tier.COUNTY: "county",
}


class Database(StrEnum):
    """What the ledgers and the hubs keep their rows in."""

    SQLITE = "sqlite"
    POSTGRESQL = "postgresql"
    """A server of the federation's own, whose data are removed when it stops."""


class State(StrEnum):
    """Whether a bureau's node is there for others."""

    UP = "up"
    DOWN = "down"
    CUT_OFF = "cut off"
    """It runs, and the link of its province's NATS site is cut."""


class DirectoryInUse(ProcessError):
    """The directory holds something, perhaps the ledgers of another federation."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        super().__init__(f"the directory {directory} is not empty: give one that is, or that does not exist")


def require_unused(directory: Path) -> None:
    """Raises `DirectoryInUse` unless the directory is empty or does not exist."""
    if directory.exists() and any(directory.iterdir()):
        raise DirectoryInUse(directory)


class NotHosted(ProcessError):
    """A bureau that no node of this federation keeps the ledger of."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"no node of this federation hosts bureau {code}")


class NoSuchHub(ProcessError):
    """A scope that no hub of this federation has."""

    def __init__(self, scope: str, known: Sequence[str]) -> None:
        self.scope = scope
        super().__init__(f"no hub counts {scope}; there is one for {', '.join(known) or 'nothing'}")


@dataclass(slots=True)
class Service:
    """One process of the federation that answers gRPC: a node, or a hub."""

    name: str
    codes: tuple[str, ...]
    """The bureaus whose ledgers a node keeps; a hub's scope."""
    kind: pki.Kind
    host: str
    port: int
    metrics_port: int
    config: Path
    terminal: pki.CertificatePaths
    """The certificate that clients of this process show: that of its bureaus' officers."""
    process: ChildProcess
    pages_url: str = ""
    """Where the desk of a node or the board of a hub is served; empty where it has no pages."""
    down: bool = False
    """Killed or stopped on purpose."""
    channel: grpc.aio.Channel | None = field(default=None, repr=False)

    @property
    def endpoint(self) -> str:
        """host:port for gRPC."""
        return f"{self.host}:{self.port}"

    @property
    def metrics_url(self) -> str:
        """Where /metrics answers."""
        return f"http://{self.host}:{self.metrics_port}/metrics"


class Federation:
    """The processes of a federation, from their certificates to their end.

    `placement` says which bureaus share a node process; by default those of a site do, as in a provincial data centre.
    A bureau in no group has no ledger here. `clock_start` None: the machine's clock. `staff` writes the list of
    departments and officers of some bureaus, one for each node; without it terminals are believed. `hubs` are the
    scopes to count; by default the root's. `node_settings` and `hub_settings` win over the settings made here.
    `compiled_by`: another federation on this machine, whose compiled code this one's children use. With `pages` each
    node serves its desk and each hub its board, on this machine's own address and without a password. `hosts`: the
    address of each service, by its name, that is on a machine of its own; what they share, NATS and PostgreSQL, is
    then at `shared_host`. `call_seconds`: how long an office waits for one answer.

    Not for two event loops; as an asynchronous context manager it is started and stopped.
    """

    def __init__(
        self,
        directory: Path,
        tree: BureauTree,
        *,
        placement: Sequence[Sequence[str]] | None = None,
        database: Database = Database.SQLITE,
        clock_start: datetime | None = None,
        staff: Callable[[Sequence[str]], str] | None = None,
        hubs: Sequence[str] | None = None,
        node_settings: Mapping[str, object] | None = None,
        hub_settings: Mapping[str, object] | None = None,
        compiled_by: "Federation | None" = None,
        pages: bool = False,
        hosts: Mapping[str, str] = MappingProxyType({}),
        shared_host: str = LOOPBACK,
        call_seconds: float = CALL_SECONDS_MAX,
    ) -> None:
        self._call_seconds = call_seconds
        self.directory = directory.absolute()
        self._placement = [tuple(group) for group in placement] if placement is not None else shared_by_site(tree)
        self._pages = pages
        self._ports = {code: port for group in self._placement for port in [free_port()] for code in group}
        # A node's desk serves all its bureaus.
        self._desk_ports = {code: free_port() for code in {group[0] for group in self._placement}} if pages else {}
        self._hosts = dict(hosts)
        self._shared_host = shared_host
        of_bureau = {code: self._host("node", group) for group in self._placement for code in group}
        self.tree = with_endpoints(tree, self._ports, self._desks(), of_bureau)
        self.database = database
        self._clock_start = clock_start
        self._staff = staff
        self._environment = child_environment(compiled_by.directory if compiled_by else self.directory)
        self._hub_scopes = tuple(hubs) if hubs is not None else (tree.root,)
        self._node_settings = dict(node_settings or {})
        self._hub_settings = dict(hub_settings or {})
        self._cut_off: set[str] = set()
        self.nodes: tuple[Service, ...] = ()
        self.hubs: tuple[Service, ...] = ()
        self._node_of: dict[str, Service] = {}
        self._offices: dict[str, Office] = {}
        self._readers: dict[str, HubReader] = {}
        self._clock: SharedClockDriver | None = None
        self._postgres: Postgres | None = None
        self.sites = Sites(
            self.directory / "nats",
            [code for code in tree.sites() if code != tree.root],
            nodes=_by_site(tree, self._placement),
            hubs={
                site: [scope for (scope,) in scopes]
                for site, scopes in _by_site(tree, [(scope,) for scope in self._hub_scopes]).items()
            },
            authority=self.authority,
            certificates=self.directory / "certificates",
            host=shared_host,
        )

    async def __aenter__(self) -> Self:
        return await self.start()

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.stop()

    # ------------------------------------------------------------ life

    async def start(self) -> Self:
        """Start everything and wait until it serves.

        Raises what `Sites.start`, `Postgres.start` and `pki.issue` do, `ChildDied`, `ChildNotReady`.
        """
        try:
            self.directory.mkdir(parents=True, exist_ok=True)
            if self._clock_start is not None:
                self._clock = SharedClockDriver(self.clock_file, self._clock_start)
            self.tree_file.write_text(tree_text(self.tree), encoding="utf-8")
            await asyncio.to_thread(self._issue_certificates)
            together: list[Awaitable[object]] = [asyncio.to_thread(self.sites.start)]
            if self._environment.get("PYTHONPYCACHEPREFIX", "") == str(self.directory / "pycache"):
                together.append(asyncio.to_thread(self._compile))
            if self.database is Database.POSTGRESQL:
                # A place of its own: PostgreSQL does not run as root, and a temporary directory is its owner's alone.
                self._postgres = Postgres(host=self._shared_host)
                together.append(asyncio.to_thread(self._postgres.start))
            await _all(together)
            self.nodes = tuple([await asyncio.to_thread(self._node, group) for group in self._placement])
            self._node_of = {code: node for node in self.nodes for code in node.codes}
            self.hubs = tuple([await asyncio.to_thread(self._hub, scope) for scope in self._hub_scopes])
            slots = asyncio.Semaphore(STARTING_AT_ONCE_MAX)
            # Superiors stand first, so that whoever asks them what they have cosigned finds them there.
            await _all(self._start_within(slots, service) for service in self.services)
        except BaseException:
            await self.stop()
            raise
        return self

    async def stop(self) -> None:
        """Close every channel and stop every process, the sites last."""
        for service in self.services:
            await _close(service)
        self._offices.clear()
        self._readers.clear()
        if self.services:
            # All at once: the loop's own threads would stop six after six.
            with ThreadPoolExecutor(len(self.services), thread_name_prefix="federation-stop") as threads:
                stop = asyncio.get_running_loop().run_in_executor
                await asyncio.gather(
                    *(stop(threads, service.process.stop, STOP_SECONDS_MAX) for service in self.services)
                )
        await asyncio.to_thread(self.sites.stop)
        if self._postgres is not None:
            await asyncio.to_thread(self._postgres.stop)
        if self._clock is not None:
            self._clock.close()
            self._clock = None

    @property
    def services(self) -> tuple[Service, ...]:
        """Every process that answers gRPC, the nodes first."""
        return (*self.nodes, *self.hubs)

    def require_alive(self) -> None:
        """Raises ChildDied for a process that has ended and was not meant to."""
        for service in self.services:
            if not service.down:
                service.process.require_alive()
        for site in self.sites.all:
            site.process.require_alive()

    async def wait_serving(self, service: Service, timeout_seconds: float = READY_SECONDS_MAX) -> None:
        """Wait until a process answers its health check. Raises ChildDied, ChildNotReady."""
        deadline = time.monotonic() + timeout_seconds
        while not await serving(self._channel(service), PROBE_SECONDS):
            service.process.require_alive()
            if time.monotonic() >= deadline:
                raise ChildNotReady(service.name, timeout_seconds, service.process.log, service.process.log_tail())

    # ------------------------------------------------------------ faults

    def node(self, bureau: str) -> Service:
        """The node that keeps a bureau's ledger. Raises NotHosted."""
        try:
            return self._node_of[bureau]
        except KeyError:
            raise NotHosted(bureau) from None

    async def kill_node(self, bureau: str) -> Service:
        """End the node of a bureau without warning (kill -9)."""
        node = self.node(bureau)
        node.down = True
        await asyncio.to_thread(node.process.kill)
        return node

    async def stop_node(self, bureau: str) -> Service:
        """Stop the node of a bureau in order."""
        node = self.node(bureau)
        node.down = True
        await asyncio.to_thread(node.process.stop, STOP_SECONDS_MAX)
        return node

    async def restart_node(self, bureau: str) -> Service:
        """Start the node of a bureau again, with its ledger and its port, and wait until it serves."""
        node = self.node(bureau)
        if node.process.alive:
            await self.stop_node(bureau)
        await self._start_again(node)
        return node

    async def kill_hub(self, scope: str) -> Service:
        """End a hub without warning (kill -9). Raises NoSuchHub."""
        hub = self._hub_service(scope)
        hub.down = True
        await asyncio.to_thread(hub.process.kill)
        return hub

    async def restart_hub(self, scope: str) -> Service:
        """Start a hub again, with what it had folded, and wait until it serves. Raises NoSuchHub."""
        hub = self._hub_service(scope)
        if hub.process.alive:
            hub.down = True
            await asyncio.to_thread(hub.process.stop, STOP_SECONDS_MAX)
        await self._start_again(hub)
        return hub

    async def keep_alive(self, tell: Callable[[str], None]) -> None:
        """Start again whatever ends, as a service manager does, until this is cancelled; `tell` hears of it.

        A service that is down on purpose stays down.
        """
        while True:
            for service in self.services:
                if service.down or service.process.alive:
                    continue
                tell(f"{service.name} has ended with status {service.process.returncode}; it is started again.")
                with contextlib.suppress(ChildNotReady, ChildDied):  # it is looked at again in a moment
                    await self._start_again(service)
                    tell(f"{service.name} serves again.")
            await asyncio.sleep(PROBE_SECONDS)

    async def _start_within(self, slots: asyncio.Semaphore, service: Service) -> None:
        async with slots:
            service.process.start()
            await self.wait_serving(service)

    async def _start_again(self, service: Service) -> None:
        await asyncio.to_thread(service.process.start)
        await self.wait_serving(service)
        service.down = False

    def state(self, bureau: str) -> State:
        """Whether the node of a bureau runs, and whether its province is cut off. Raises NotHosted."""
        node = self.node(bureau)
        if node.down or not node.process.alive:
            return State.DOWN
        return State.CUT_OFF if self.is_cut_off(self.tree.site(bureau)) else State.UP

    def is_cut_off(self, site: str) -> bool:
        """Whether the link of a province's NATS site is cut; of one that is being restored it is until it is up."""
        return site in self._cut_off

    async def cut_link(self, site: str) -> None:
        """Cut a province's NATS site off from the national one. Raises NoSuchSite, NoLink."""
        await asyncio.to_thread(self.sites.cut_link, site)
        self._cut_off.add(site)

    async def restore_link(self, site: str) -> None:
        """Let a province's NATS site dial the national one again, and wait until it has. Raises LinkNotUp."""
        await asyncio.to_thread(self.sites.restore_link, site)
        await asyncio.to_thread(self.sites.wait_linked, site)
        self._cut_off.discard(site)

    # ------------------------------------------------------------ clients and clock

    def office(self, bureau: str) -> Office:
        """The office of a bureau; the same one every time. Raises NotHosted."""
        office = self._offices.get(bureau)
        if office is None:
            channel = self._channel(self.node(bureau))
            office = self._offices[bureau] = Office(bureau, channel, call_seconds=self._call_seconds)
        return office

    def hub(self, scope: str | None = None) -> HubReader:
        """The reader of a hub, by default of the first one. Raises NoSuchHub."""
        wanted = scope if scope is not None else next(iter(self._hub_scopes), "")
        reader = self._readers.get(wanted)
        if reader is None:
            reader = self._readers[wanted] = HubReader(wanted, self._channel(self._hub_service(wanted)))
        return reader

    @property
    def clock(self) -> SharedClockDriver:
        """The business clock of every process of the federation; there is none on the machine's own time."""
        assert self._clock is not None  # noqa: S101 - the caller gave `clock_start` and has started the federation
        return self._clock

    @property
    def bureaus(self) -> tuple[str, ...]:
        """The bureaus that have a ledger here, each superior before its subordinates."""
        return tuple(code for code in self.tree.subtree(self.tree.root) if code in self._ports)

    # ------------------------------------------------------------ places

    def staff_file(self, bureau: str) -> Path:
        """The departments and officers that the node of a bureau reads, where there is a list. Raises NotHosted."""
        return self._staff_file(self.node(bureau).codes)

    @property
    def tree_file(self) -> Path:
        """The tree with the endpoints of its nodes."""
        return self.directory / "tree.csv"

    @property
    def clock_file(self) -> Path:
        """The shared business clock."""
        return self.directory / "clock"

    @property
    def authority(self) -> Path:
        """The folder of the federation's certificate authority."""
        return self.directory / "authority"

    def database_file(self, service_name: str) -> Path:
        """The SQLite database of a service; there is none where the rows are in PostgreSQL."""
        return self.directory / "databases" / f"{service_name}.db"

    @property
    def keys(self) -> Path:
        """The folder of the nodes' keys of private data, apart from their databases."""
        return self.directory / "keys"

    def certificates(self, kind: pki.Kind, name: str) -> Path:
        """The folder of a process's or a terminal's certificate; of a shared node the first bureau's code names it."""
        return self.directory / "certificates" / f"{kind}-{name}"

    # ------------------------------------------------------------ inside

    def _compile(self) -> None:
        """Fill the cache of compiled code once, before all start together and each does it for itself."""
        log = self.directory / "logs" / "compile.log"
        command = [sys.executable, "-c", "import hub.service, node.service"]
        with ChildProcess("compile", command, log=log, environment=self._environment) as process:
            process.start().wait(READY_SECONDS_MAX)

    def pinned_tree(self, version: str, more: Mapping[str, Sequence[str]] = MappingProxyType({})) -> BureauTree:
        """The tree under another version, with the fingerprints of the nodes' certificates as they are; `more` of some.

        Raises `pki.PkiError`.
        """
        pinned: dict[str, tuple[str, ...]] = {}
        for group in self._placement:
            der = pki.load(pki.CertificatePaths.in_folder(self.certificates("node", group[0]))).certificate_der
            pinned |= {code: (hashlib.sha256(der).hexdigest(), *more.get(code, ())) for code in group}
        bureaus = (replace(one, fingerprints=pinned.get(one.code, ())) for one in self.tree.bureaus.values())
        return BureauTree(version, bureaus)

    def issue_certificate(self, kind: pki.Kind, codes: Sequence[str], hosts: Sequence[str] = ()) -> None:
        """A new key and certificate in the folder of a process or a terminal; who runs takes them up by itself.

        Raises `pki.PkiError`.
        """
        now = datetime.now(UTC)
        begins = min(now, self._clock_start or now) - timedelta(days=1)
        ends = max(now, self._clock_start or now) + timedelta(days=CERTIFICATE_DAYS_AHEAD)
        days = (ends - begins).days
        if not pki.AuthorityPaths.in_folder(self.authority).certificate.exists():
            pki.init_authority(self.authority, "Kuaixiang on one machine", days=days + 1, valid_from=begins)
        folder = self.certificates(kind, codes[0])
        pki.issue(self.authority, folder, kind, codes, days, hosts=hosts, valid_from=begins, force=True)

    def _issue_certificates(self) -> None:
        issue = self.issue_certificate
        for group in self._placement:
            issue("node", group)
            issue("office", group)
        for site in self.sites.all:
            issue("nats", [site.code], [LOOPBACK])
        for scope in self._hub_scopes:
            issue("hub", [scope])
            if not any(group[0] == scope for group in self._placement):
                issue("office", [scope])

    def _node(self, group: tuple[str, ...]) -> Service:
        settings: dict[str, object] = {
            "bureaus": list(group),
            "nats_url": self.sites[self.tree.site(group[0])].url,
            "nats_monitor": self._monitor(group[0]),
            "certificates": str(self.certificates("node", group[0])),
            "data_key": str(self.keys / f"node-{group[0]}.key"),
            "listen": f"{self._host('node', group)}:{self._ports[group[0]]}",
            "cosign_seconds": COSIGN_SECONDS,
            "cosigned_start_seconds": COSIGNED_START_SECONDS,
        }
        if self._staff is not None:
            listed = self._staff_file(group)
            listed.parent.mkdir(parents=True, exist_ok=True)
            listed.write_text(self._staff(group), encoding="utf-8")
            settings["staff"] = str(listed)
        return self._service(
            "node", group, settings | self._pages_at("desk", self._desk_ports.get(group[0])) | self._node_settings
        )

    def _monitor(self, code: str) -> str:
        """Where the node of a site's own bureau watches the site's links; empty for others, and on other machines."""
        return self.sites[code].monitor_url if self.tree.site(code) == code and not self._hosts else ""

    def _staff_file(self, codes: Sequence[str]) -> Path:
        return self.directory / "staff" / f"{service_name('node', codes)}.toml"

    def _hub(self, scope: str) -> Service:
        site = self.sites[self.tree.site(scope)]
        settings: dict[str, object] = {
            "scope": scope,
            "nats_url": site.url,
            "certificates": str(self.certificates("hub", scope)),
            "listen": f"{self._host('hub', (scope,))}:{free_port()}",
        }
        return self._service("hub", (scope,), settings | self._pages_at("board", free_port()) | self._hub_settings)

    def _desks(self) -> dict[str, str]:
        """Where each bureau's officers work."""
        if not self._pages:
            return {}
        return {code: f"http://127.0.0.1:{self._desk_ports[group[0]]}" for group in self._placement for code in group}

    def _pages_at(self, setting: str, port: int | None) -> dict[str, object]:
        """The settings by which a service has pages."""
        return {setting: f"127.0.0.1:{port}", "demonstration": True} if self._pages else {}

    def _service(self, kind: pki.Kind, codes: tuple[str, ...], settings: Mapping[str, object]) -> Service:
        name = service_name(kind, codes)
        metrics_port = free_port()
        config = self.directory / "settings" / f"{name}.toml"
        database = self._database_url(name)
        common: dict[str, object] = {
            "tree": str(self.tree_file),
            "database": database,
            "metrics_host": self._host(kind, codes),
            "metrics_port": metrics_port,
            "reflection": True,
        }
        if self._clock_start is not None:
            common["clock"] = str(self.clock_file)
        config.parent.mkdir(parents=True, exist_ok=True)
        config.touch(mode=0o600)  # it holds the password of the database
        config.write_text(toml_text({**common, **settings}), encoding="utf-8")
        pages = settings.get("desk") or settings.get("board")
        return Service(
            name=name,
            codes=codes,
            kind=kind,
            host=self._host(kind, codes),
            port=int(str(settings["listen"]).rpartition(":")[2]),
            metrics_port=metrics_port,
            config=config,
            terminal=pki.CertificatePaths.in_folder(self.certificates("office", codes[0])),
            process=self._process(name, [sys.executable, "-m", "demo.serve", kind, str(config)]),
            pages_url=f"http://{pages}" if pages else "",
        )

    def _process(self, name: str, command: Sequence[str]) -> ChildProcess:
        """The process of a service, not started."""
        log = self.directory / "logs" / f"{name}.log"
        return ChildProcess(name, command, log=log, environment=self._environment)

    def _host(self, kind: pki.Kind, codes: Sequence[str]) -> str:
        return self._hosts.get(service_name(kind, codes), LOOPBACK)

    def _database_url(self, name: str) -> str:
        if self._postgres is None:
            file = self.database_file(name)
            file.parent.mkdir(parents=True, exist_ok=True)
            return f"sqlite:///{file}"
        return self._postgres.create_database(name.replace("-", "_"))

    def _hub_service(self, scope: str) -> Service:
        for hub in self.hubs:
            if hub.codes == (scope,):
                return hub
        raise NoSuchHub(scope, self._hub_scopes)

    def _channel(self, service: Service) -> grpc.aio.Channel:
        if service.channel is None:
            service.channel = terminal_channel(service.kind, service.codes[0], service.endpoint, service.terminal)
        return service.channel


def terminal_channel(kind: pki.Kind, code: str, endpoint: str, terminal: pki.CertificatePaths) -> grpc.aio.Channel:
    """A terminal's channel to the service of that kind whose first bureau it is. Raises `FileUnreadable`."""
    options = (("grpc.max_reconnect_backoff_ms", RECONNECT_MS_MAX),)
    return open_channel(endpoint, pki.dns_name(kind, code), terminal, options)


def service_name(kind: pki.Kind, codes: Sequence[str]) -> str:
    """What a service is called: its settings, its log and its database are named so."""
    return f"{kind}-{codes[0]}"


def shared_by_site(tree: BureauTree) -> list[tuple[str, ...]]:
    """One node process for the bureaus of a site, several where a certificate could not name them all."""
    by_site: dict[str, list[str]] = {}
    for code in tree.subtree(tree.root):
        by_site.setdefault(tree.site(code), []).append(code)
    return [
        tuple(codes[start : start + pki.CODES_MAX])
        for codes in by_site.values()
        for start in range(0, len(codes), pki.CODES_MAX)
    ]


def _by_site(tree: BureauTree, groups: Iterable[tuple[str, ...]]) -> dict[str, list[tuple[str, ...]]]:
    """Groups of bureaus by the site of their first."""
    found: dict[str, list[tuple[str, ...]]] = {}
    for group in groups:
        found.setdefault(tree.site(group[0]), []).append(group)
    return found


def with_endpoints(
    tree: BureauTree,
    ports: Mapping[str, int],
    desks: Mapping[str, str] = MappingProxyType({}),
    hosts: Mapping[str, str] = MappingProxyType({}),
) -> BureauTree:
    """The tree with the addresses of the nodes and desks, on this machine but for `hosts`; without a port: none."""
    return BureauTree(
        tree.version,
        [
            replace(
                bureau,
                endpoint=f"{hosts.get(bureau.code, LOOPBACK)}:{ports[bureau.code]}" if bureau.code in ports else "",
                desk=desks.get(bureau.code, ""),
            )
            for bureau in tree.bureaus.values()
        ],
    )


def part_of(tree: BureauTree, codes: Iterable[str]) -> BureauTree:
    """The tree of these bureaus and all their superiors alone."""
    wanted = {above for code in codes for above in tree.superiors_and_self(code)}
    return BureauTree(f"{tree.version}-part", [bureau for bureau in tree.bureaus.values() if bureau.code in wanted])


def tree_text(tree: BureauTree) -> str:
    """The tree in the form that `kuaixiang.facts.load_tree` reads."""
    lines = [f"# version: {tree.version}", "gb_code,name,tier,parent,endpoint,desk,fingerprints,formerly"]
    # A node of an earlier release knows this column not: it is written where it is needed.
    ended = any(one.successor for one in tree.bureaus.values())
    lines[1] += ",successor" if ended else ""
    lines += [
        ",".join(
            (
                one.code,
                _cell(one.name),
                TIER_WORDS[one.tier],
                one.parent or "",
                one.endpoint,
                one.desk,
                " ".join(one.fingerprints),
                " ".join(one.formerly),
                *((one.successor,) if ended else ()),
            )
        )
        for one in tree.bureaus.values()
    ]
    return "\n".join(lines) + "\n"


def _cell(text: str) -> str:
    """A field of a CSV row, quoted where it must be."""
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"') else text


def toml_text(settings: Mapping[str, object]) -> str:
    """Settings as TOML: texts, numbers, truth values and lists of them, which it writes as JSON does."""
    return "".join(f"{name} = {json.dumps(value, ensure_ascii=False)}\n" for name, value in settings.items())


def child_environment(directory: Path) -> dict[str, str]:
    """The harness's environment without settings of ours, which would win over a child's own file.

    Where Python is told to keep no compiled code, the children keep theirs in the federation's directory: to compile
    everything again takes each of them three times as long to start.
    """
    environment = {name: value for name, value in os.environ.items() if not name.upper().startswith("KX_")}
    if environment.pop("PYTHONDONTWRITEBYTECODE", ""):
        environment.setdefault("PYTHONPYCACHEPREFIX", str(directory / "pycache"))
    return environment


async def _all(tasks: Iterable[Awaitable[object]]) -> None:
    """Wait for all; when one fails the others are ended before its error goes on."""
    started = [asyncio.ensure_future(task) for task in tasks]
    try:
        await asyncio.gather(*started)
    finally:
        await end_tasks(started)


async def _close(service: Service) -> None:
    if service.channel is not None:
        with contextlib.suppress(asyncio.CancelledError):
            await service.channel.close()
        service.channel = None
