"""Asking a hub: the options that say where it is, one certificate, one channel, its refusals as sentences."""

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Final

import grpc
import grpc.aio
import typer
from google.protobuf.message import Message

from kuaixiang.domain.labels import Both
from kuaixiang.wire.v1.statistics_pb2_grpc import StatisticsServiceStub
from kx.client import LATER, channel_of, refused_by
from kx.output import FAULT_EXIT_CODE, UNREACHABLE_EXIT_CODE, Failed

ANSWER_SECONDS_MAX: Final = 30.0

AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of tables.")]


def call(
    hub: str,
    certificates: Path,
    hub_scope: str,
    method: str,
    request: Message,
    *,
    seconds: float = ANSWER_SECONDS_MAX,
    stub: Callable[[grpc.aio.Channel], Any] = StatisticsServiceStub,
) -> Any:  # noqa: ANN401
    """The answer of a method of one of the hub's services, `stub`, within so many seconds. Raises `Failed`."""

    async def work() -> object:
        async with channel_of(hub, "hub", hub_scope, certificates) as channel:
            return await getattr(stub(channel), method)(request, timeout=seconds)

    try:
        return asyncio.run(work())
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
