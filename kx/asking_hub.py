"""Asking a hub: the options that say where it is, one certificate, one channel, its refusals as sentences."""

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import grpc.aio
import typer

from kuaixiang.domain.labels import Both
from kuaixiang.runtime.pki import CertificatePaths, PkiError, dns_name
from kuaixiang.runtime.tls import open_channel
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub
from kx.client import LATER, refused_by
from kx.output import FAULT_EXIT_CODE, UNREACHABLE_EXIT_CODE, Failed

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
    """The answer that `ask` gets of one of the hub's services, `stub`. Raises `Failed`."""

    async def work() -> object:
        paths = CertificatePaths.in_folder(certificates)
        async with open_channel(hub, dns_name("hub", hub_scope), paths) as channel:
            return await ask(stub(channel))

    try:
        return asyncio.run(work())
    except PkiError as failure:
        said = Both(str(failure), f"证书不能使用：{failure}")
        raise Failed(said, field="--certificates", rule=type(failure).__name__) from failure
    except grpc.aio.AioRpcError as error:
        raise refused_by(error) or _unanswered(error, hub) from error


def _unanswered(error: grpc.aio.AioRpcError, hub: str) -> Failed:
    """What a failed call that is no refusal means to the one who asked."""
    details, code = error.details() or error.code().name, error.code()
    if code is grpc.StatusCode.UNAVAILABLE:
        said = Both(f"The hub at {hub} does not answer: {details}.", f"汇总中心 {hub} 没有应答（{details}）。")
        return Failed(said, exit_code=UNREACHABLE_EXIT_CODE, field="--hub", remedy=LATER, code=code.name)
    said = Both(f"The hub at {hub} failed: {details}", f"汇总中心 {hub} 出现故障：{details}")
    return Failed(said, exit_code=FAULT_EXIT_CODE, remedy=LATER, code=code.name)
