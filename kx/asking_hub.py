"""Asking a hub: the options that say where it is, one certificate, one channel, its refusals as sentences."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import grpc.aio
import typer
from rich.console import Console

from kuaixiang.runtime.pki import CertificatePaths, PkiError, dns_name
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub
from kx.output import REFUSED_EXIT_CODE, UNREACHABLE_EXIT_CODE

ANSWER_SECONDS_MAX: Final = 30.0

Endpoint = Annotated[str, typer.Option("--hub", envvar="KX_HUB_ENDPOINT", help="Where the hub answers, host:port.")]
Certificates = Annotated[
    Path,
    typer.Option(
        envvar="KX_CERTIFICATES", help="Folder with ca.crt, tls.crt and tls.key, as `kx pki issue` writes it."
    ),
]
HubScope = Annotated[
    str, typer.Option(envvar="KX_HUB_SCOPE", metavar="CODE", help="The scope in the hub's own certificate.")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def call(
    hub: str,
    certificates: Path,
    hub_scope: str,
    ask: Callable[[Any], Awaitable[Any]],
    stub: Callable[[grpc.aio.Channel], Any] = StatisticsServiceStub,
) -> Any:  # noqa: ANN401
    """The answer that `ask` gets of one of the hub's services, `stub`. Raises `typer.Exit` after saying why."""

    async def work() -> object:
        paths = CertificatePaths.in_folder(certificates)
        async with open_channel(hub, dns_name("hub", hub_scope), paths) as channel:
            return await ask(stub(channel))

    try:
        return asyncio.run(work())
    except PkiError as refusal:
        raise refused(str(refusal)) from None
    except grpc.aio.AioRpcError as failure:
        if failure.code() is grpc.StatusCode.UNAVAILABLE:
            raise refused(f"The hub at {hub} does not answer: {failure.details()}.", UNREACHABLE_EXIT_CODE) from None
        raise refused(f"{failure.details()} ({failure.code().name})") from None


def refused(sentence: str, exit_code: int = REFUSED_EXIT_CODE) -> typer.Exit:
    """Say why on standard error; the exit to be raised."""
    Console(stderr=True).print(sentence, style="red", markup=False, soft_wrap=True)
    return typer.Exit(exit_code)
