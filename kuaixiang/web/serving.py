"""Pages over HTTP in the event loop of the service that they belong to."""

import asyncio
import contextlib
import functools
import ipaddress
import socket
import ssl
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final, Protocol

import structlog
import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.runtime import tracing
from kuaixiang.runtime.files import Stamp, stamp_of
from kuaixiang.runtime.limits import DEFAULT_PAGE_LIMITS, PageAllowance, PageLimits
from kuaixiang.runtime.pki import RENEWALS, FileUnreadable
from kuaixiang.runtime.serving import CannotListen
from kuaixiang.web.door import Reach
from kuaixiang.web.traced import Doorkeeper, Traced

GRACE_SECONDS: Final = 1
"""Requests under way at a stop have so long to end; streams are told at once."""
CONNECTIONS_MAX: Final = 1_000
CONNECTIONS_OF_ADDRESS_MAX: Final = 500
"""Half of all: one address cannot close the door. Behind it may be an office of a hundred officers, some tabs each."""
SILENT_OF_ADDRESS_MAX: Final = 100
"""Connections of an address whose head is waited for. A head comes with its connection: who has more of them means no
good, and those that have waited longest go, so that somebody honest behind the same address is still served."""
KEEP_ALIVE_SECONDS: Final = 75
HEAD_SECONDS_MAX: Final = 10.0
"""A browser sends a request's head in one piece when it connects; who has not by then has gone, or means to stay."""
READ_SECONDS_MAX: Final = 60.0
"""A reader that takes nothing of an answer for so long has gone: what waits for it is given up."""


_log: Final = structlog.get_logger(__name__)


class Crowd:
    """The connections of each address, of which none takes all places. For one server, in its event loop."""

    def __init__(self) -> None:
        self._all: Counter[str] = Counter()
        self._silent: dict[str, dict[Patient, None]] = {}

    def come(self, address: str) -> bool:
        """A connection comes; whether there is a place for it. It has to go in either case."""
        self._all[address] += 1
        return self._all[address] <= CONNECTIONS_OF_ADDRESS_MAX

    def go(self, address: str) -> None:
        """It goes."""
        self._all[address] -= 1
        if not self._all[address]:
            del self._all[address]

    def wait(self, address: str, connection: "Patient") -> None:
        """A head is waited for; of too many the one that has waited longest is closed."""
        silent = self._silent.setdefault(address, {})
        silent[connection] = None
        if len(silent) > SILENT_OF_ADDRESS_MAX:
            longest = next(iter(silent))
            del silent[longest]
            longest.transport.abort()

    def heard(self, address: str, connection: "Patient") -> None:
        """It is waited for no longer."""
        silent = self._silent.get(address, {})
        silent.pop(connection, None)
        if not silent:
            self._silent.pop(address, None)


class Patient(H11Protocol):
    """Uvicorn's HTTP with an end to its patience: it waits for ever for a head, and for who does not read.

    `crowd` counts its connections by their addresses; None where all come from the same one, a proxy.
    """

    def __init__(self, *arguments: Any, crowd: Crowd | None = None, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._crowd = crowd
        self._address = ""
        self._head: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is waited for from now on, where the address has a place left."""
        super().connection_made(transport)
        self._address = self.client[0] if self.client else ""
        if self._crowd is not None and not self._crowd.come(self._address):
            self.transport.abort()
        else:
            self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._end_head()
        self._end("_reading")
        if self._crowd is not None:
            self._crowd.go(self._address)
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes while nothing is answered must soon be a whole head, however often a byte of it comes."""
        before: RequestResponseCycle | None = self.cycle
        idle = before is None or before.response_complete
        super().data_received(data)
        if self.cycle is not before:
            self._end_head()
        elif idle and self._head is None:
            self._wait_for_head()

    def pause_writing(self) -> None:
        """The reader is slower than we write."""
        super().pause_writing()
        self._end("_reading")
        self._reading = self.loop.call_later(READ_SECONDS_MAX, self.transport.abort)

    def resume_writing(self) -> None:
        """It has read."""
        super().resume_writing()
        self._end("_reading")

    def _wait_for_head(self) -> None:
        self._head = self.loop.call_later(HEAD_SECONDS_MAX, self.transport.close)
        if self._crowd is not None:
            self._crowd.wait(self._address, self)

    def _end_head(self) -> None:
        self._end("_head")
        if self._crowd is not None:
            self._crowd.heard(self._address, self)

    def _end(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


class PagesCertificate:
    """What browsers are shown: tls.crt and tls.key of a folder, looked at when a connection begins and read if changed.

    A renewal replaces one file after the other: while they do not fit together the last good ones are shown, and the
    reason is logged and counted, once. Raises `FileUnreadable` when made.
    """

    def __init__(self, folder: Path) -> None:
        self._certificate, self._key = folder / "tls.crt", folder / "tls.key"
        self._seen = self._stamp()
        try:
            self._current = self._load()
        except (OSError, ssl.SSLError) as failure:
            raise FileUnreadable(self._certificate, str(failure)) from failure
        self.context = self._current
        """For the server, for good: each connection that begins is given the newest one."""
        self.context.sni_callback = self._begin

    def _begin(self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> None:
        stamp = self._stamp()
        if stamp != self._seen:
            self._seen = stamp
            self._renew()
        connection.context = self._current

    def _renew(self) -> None:
        try:
            self._current = self._load()
        except (OSError, ssl.SSLError) as failure:
            RENEWALS.labels(outcome="refused").inc()
            _log.warning(
                "A changed certificate of the pages cannot be used; the last good one is shown.",
                action="pages.renew_certificate",
                reason=str(failure),
            )
        else:
            RENEWALS.labels(outcome="loaded").inc()
            _log.info(
                "A renewed certificate of the pages is shown.",
                action="pages.renew_certificate",
                certificate=str(self._certificate),
            )

    def _load(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        # A key under a passphrase is refused: nobody is there to be asked for it.
        context.load_cert_chain(self._certificate, self._key, password=lambda: "")
        return context

    def _stamp(self) -> tuple[Stamp | None, Stamp | None]:
        return stamp_of(self._certificate), stamp_of(self._key)


class Served(Doorkeeper, Protocol):
    """What an application that is served here has as `app.state.served`: a `Console`, or the door for channels."""

    allowance: PageAllowance
    """What one caller may ask."""
    reach: Reach
    """From where it is reached."""
    ending: asyncio.Event
    """Set when it is served no longer."""


class _Server(uvicorn.Server):
    """Uvicorn without signal handlers: the service ends when it is told, and ends its pages then."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.up = asyncio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Listen, and say so."""
        await super().startup(sockets)
        self.up.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to the service."""
        yield


def is_loopback(address: str) -> bool:
    """Whether host:port can be reached from this machine alone."""
    host = address.rpartition(":")[0].strip("[]")
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def reach_of(settings: SignInSettings) -> Reach:
    """From where the pages are reached, by the settings."""
    return Reach(
        hosts=frozenset(host.lower() for host in settings.pages_hosts),
        secure=settings.pages_certificates is not None or settings.pages_behind_proxy,
        behind_proxy=settings.pages_behind_proxy,
    )


@contextlib.asynccontextmanager
async def serving_pages(
    app: Starlette, address: str, certificates: Path | None = None, *, limits: PageLimits = DEFAULT_PAGE_LIMITS
) -> AsyncIterator[int]:
    """A `Served` application at host:port, by TLS with the folder's tls.crt and tls.key, during the block; the port.

    Raises `CannotListen`, `FileUnreadable`.
    """
    served: Served = app.state.served
    served.allowance = PageAllowance(limits, time.monotonic)
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as failure:
        listener.close()
        raise CannotListen(address) from failure
    spans = tracing.spans()
    config = uvicorn.Config(
        app if spans is None else Traced(app, spans, served, secure=served.reach.secure),
        log_config=None,
        # Addresses of pages may be remembered by nobody but the browser.
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        http=functools.partial(Patient, crowd=None if served.reach.behind_proxy else Crowd()),  # type: ignore[arg-type]
        ws="none",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # Not left to a header: who asks is what the other end of the connection is, but for a proxy that is set.
        proxy_headers=False,
    )
    config.load()
    if certificates is not None:
        try:
            config.ssl = PagesCertificate(certificates).context
        except FileUnreadable:
            listener.close()
            raise
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.up.wait()
        yield int(listener.getsockname()[1])
    finally:
        served.ending.set()
        server.should_exit = True
        await serving
        listener.close()
