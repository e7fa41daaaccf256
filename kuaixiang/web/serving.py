"""Pages over HTTP in the event loop of the service that they belong to."""

import asyncio
import contextlib
import ipaddress
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Final

import uvicorn
from starlette.applications import Starlette

from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.runtime.pki import FileUnreadable
from kuaixiang.runtime.serving import CannotListen
from kuaixiang.web.door import Reach

GRACE_SECONDS: Final = 1
"""Requests under way at a stop have so long to end; streams are told at once."""
CONNECTIONS_MAX: Final = 1_000
KEEP_ALIVE_SECONDS: Final = 75


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
async def serving_pages(app: Starlette, address: str, certificates: Path | None = None) -> AsyncIterator[int]:
    """Pages at host:port, for the time of the block, by TLS with the folder's tls.crt and tls.key; the port.

    Raises `CannotListen`, `FileUnreadable`.
    """
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
        app.state.ending.set()
        server.should_exit = True
        await serving
        listener.close()
