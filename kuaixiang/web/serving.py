"""Pages over HTTP in the event loop of the service that they belong to."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, Final

import uvicorn
from starlette.applications import Starlette
from uvicorn.protocols.http.h11_impl import H11Protocol, RequestResponseCycle

from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.runtime.limits import DEFAULT_PAGE_LIMITS, PageAllowance, PageLimits
from kuaixiang.runtime.pki import FileUnreadable
from kuaixiang.runtime.serving import CannotListen
from kuaixiang.web.console import Console
from kuaixiang.web.door import Reach

GRACE_SECONDS: Final = 1
"""Requests under way at a stop have so long to end; streams are told at once."""
CONNECTIONS_MAX: Final = 1_000
KEEP_ALIVE_SECONDS: Final = 75
HEAD_SECONDS_MAX: Final = 10.0
"""A browser sends a request's head in one piece when it connects; who has not by then has gone, or means to stay."""
READ_SECONDS_MAX: Final = 60.0
"""A reader that takes nothing of an answer for so long has gone: what waits for it is given up."""


class Patient(H11Protocol):
    """Uvicorn's HTTP with an end to its patience: it waits for ever for a head, and for who does not read."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._head: asyncio.TimerHandle | None = None
        self._reading: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """A head is waited for from now on."""
        super().connection_made(transport)
        self._wait_for_head()

    def connection_lost(self, exc: Exception | None) -> None:
        """Nothing is waited for any more."""
        self._end("_head")
        self._end("_reading")
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """What comes while nothing is answered must soon be a whole head, however often a byte of it comes."""
        before: RequestResponseCycle | None = self.cycle
        idle = before is None or before.response_complete
        super().data_received(data)
        if self.cycle is not before:
            self._end("_head")
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

    def _end(self, name: str) -> None:
        timer = getattr(self, name)
        if timer is not None:
            timer.cancel()
            setattr(self, name, None)


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
    """A `Console`'s pages at host:port, by TLS with the folder's tls.crt and tls.key, during the block; the port.

    Raises `CannotListen`, `FileUnreadable`.
    """
    console: Console = app.state.console
    console.allowance = PageAllowance(limits, time.monotonic)
    host, _, port = address.rpartition(":")
    listener = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host.strip("[]"), int(port)))
    except OSError as failure:
        listener.close()
        raise CannotListen(address) from failure
    config = uvicorn.Config(
        app,
        log_config=None,
        # Addresses of pages may be remembered by nobody but the browser.
        access_log=False,
        server_header=False,
        date_header=False,
        lifespan="off",
        http=Patient,
        ws="none",
        limit_concurrency=CONNECTIONS_MAX,
        timeout_keep_alive=KEEP_ALIVE_SECONDS,
        timeout_graceful_shutdown=GRACE_SECONDS,
        # Not left to a header: who asks is what the other end of the connection is, but for a proxy that is set.
        proxy_headers=False,
        ssl_certfile=certificates / "tls.crt" if certificates is not None else None,
        ssl_keyfile=certificates / "tls.key" if certificates is not None else None,
    )
    try:
        config.load()
    except (OSError, ssl.SSLError) as failure:
        listener.close()
        raise FileUnreadable(Path(str(config.ssl_certfile)), str(failure)) from failure
    server = _Server(config)
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    try:
        await server.up.wait()
        yield int(listener.getsockname()[1])
    finally:
        console.ending.set()
        server.should_exit = True
        await serving
        listener.close()
