"""Pages over HTTP in the event loop of the service that they belong to."""

import asyncio
import contextlib
import ipaddress
import socket
from collections.abc import AsyncIterator, Iterator
from typing import Final

import uvicorn
from starlette.applications import Starlette

from kuaixiang.runtime.serving import CannotListen

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


@contextlib.asynccontextmanager
async def serving_pages(app: Starlette, address: str) -> AsyncIterator[int]:
    """Pages at host:port, for the time of the block; the port. Raises `CannotListen`."""
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
    )
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
