"""What every process of ours does to serve: listen by mutual TLS, be healthy, describe itself, end when told."""

import asyncio
import contextlib
import gc
import signal
import time
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Any, Final

import grpc.aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health import aio as health_aio
from grpc_reflection.v1alpha import reflection

from kuaixiang.runtime import tls
from kuaixiang.runtime.backups import product_version
from kuaixiang.runtime.limits import DEFAULT_LIMITS, CallLimits
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.server import Answering, Gate
from kuaixiang.runtime.trust import Trust

GRACE_SECONDS: Final = 5.0
"""Calls under way at a stop have so long to end."""
VERSION_KEY: Final = "kx-version"
TIME_KEY: Final = "kx-time-us"
"""What an answer to a health check brings besides, as initial metadata: the service's version, and its machine's time
in microseconds since 1970. By them `kx doctor` sees peers that are of another version or whose clock is off."""

CALLS_AT_ONCE_MAX: Final = 8_192
"""Calls and streams of everybody together; each costs some ten kilobytes, so that all of them stay under 100 MB. What a
single caller may have is far less (`CallLimits`)."""

GARBAGE_THRESHOLDS: Final = (100_000, 50, 50)
"""Allocations between two searches for reference cycles. Python's own 700 has a busy writer walk through its cached
cases all the time, and finds next to nothing: our values have no cycles."""


class CannotListen(Exception):
    """The address for gRPC cannot be listened on."""

    def __init__(self, address: str) -> None:
        self.address = address
        super().__init__(f"Cannot listen on {address}: it is in use or not of this machine.")


class _Telling(health_aio.HealthServicer):
    """gRPC's health service, whose answers say of which version the service is and what time it has."""

    async def Check(
        self, request: health_pb2.HealthCheckRequest, context: grpc.aio.ServicerContext[Any, Any]
    ) -> health_pb2.HealthCheckResponse:
        """The health of one service, or of all."""
        told = ((VERSION_KEY, product_version()), (TIME_KEY, str(time.time_ns() // 1_000)))
        await context.send_initial_metadata(told)
        return await super().Check(request, context)


class Health:
    """What whoever looks is told of the health of some services; it may change while they are served."""

    def __init__(self, services: Sequence[str]) -> None:
        self.servicer = _Telling()
        self.serving = False
        self._names = ("", *services)
        self._leaves = False

    async def say(self, *, healthy: bool) -> None:
        """From now on they are healthy, or not."""
        self.serving = healthy and not self._leaves
        status = health_pb2.HealthCheckResponse
        for name in self._names:
            await self.servicer.set(name, status.SERVING if healthy else status.NOT_SERVING)

    async def leave(self, seconds: float) -> None:
        """From now on they are not healthy, whatever is said later; go on answering for so long."""
        self._leaves, self.serving = True, False
        await self.servicer.enter_graceful_shutdown()
        await asyncio.sleep(seconds)


@contextlib.asynccontextmanager
async def serving(
    address: str,
    paths: CertificatePaths,
    services: Sequence[str],
    add: Callable[[grpc.aio.Server], None],
    *,
    trust: Trust,
    reflect: bool,
    health: Health | None = None,
    gate: Gate | None = None,
    limits: CallLimits = DEFAULT_LIMITS,
) -> AsyncIterator[int]:
    """A server of the services that `add` registers, for the time of the block; the port it listens on.

    `services` are their full names, for health and reflection; healthy from the start unless the caller brings what
    says their health. `trust` says whom it does not answer, `gate` knows who has signed in, `limits` are for each
    caller. Raises `CannotListen`, `pki.PkiError`.
    """
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    server = grpc.aio.server(
        interceptors=(Answering(trust, gate, limits),),
        options=tls.SERVER_OPTIONS,
        maximum_concurrent_rpcs=CALLS_AT_ONCE_MAX,
    )
    add(server)
    told = health or Health(services)
    health_pb2_grpc.add_HealthServicer_to_server(told.servicer, server)
    if reflect:
        names = (*services, health_pb2.DESCRIPTOR.services_by_name["Health"].full_name)
        reflection.enable_server_reflection((*names, reflection.SERVICE_NAME), server)
    try:
        port = server.add_secure_port(address, tls.server_credentials(paths))
    except RuntimeError as failure:
        raise CannotListen(address) from failure
    await server.start()
    try:
        if health is None:
            await told.say(healthy=True)
        yield port
    finally:
        await told.leave(0)
        await server.stop(GRACE_SECONDS)


def told_to_stop() -> asyncio.Event:
    """Set when the process is sent SIGTERM or SIGINT."""
    told = asyncio.Event()
    loop = asyncio.get_running_loop()
    for wanted in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(wanted, told.set)
    return told
