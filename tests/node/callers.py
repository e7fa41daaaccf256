"""Callers of the node under test, each with a certificate of the kind and code asked for."""

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import pytest

from kuaixiang.runtime import pki, tls
from kuaixiang.wire.errors import RemoteRefusal, from_call
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc, common_pb2

COUNTY = "110101"
PROVINCE = "110000"
MORNING = datetime(2026, 11, 23, 1, 0, tzinfo=UTC)
"""Monday, nine o'clock in Shanghai."""


class Callers:
    """Opens channels to the node, with certificates issued for the purpose."""

    def __init__(self, port: int, folder: Path) -> None:
        self._port = port
        self._folder = folder
        self._channels: list[grpc.aio.Channel] = []

    def channel(self, kind: pki.Kind = "office", code: str = COUNTY) -> grpc.aio.Channel:
        """A channel whose holder is of that kind and code."""
        out = self._folder / f"{kind}-{code}"
        if not out.exists():
            pki.issue(self._folder / "ca", out, kind, [code])
        channel = tls.open_channel(
            f"127.0.0.1:{self._port}", pki.dns_name("node", COUNTY), pki.CertificatePaths.in_folder(out)
        )
        self._channels.append(channel)
        return channel

    def office(self, code: str = COUNTY) -> Any:
        """CaseService as an officer of that bureau has it."""
        return case_pb2_grpc.CaseServiceStub(self.channel("office", code))

    async def close(self) -> None:
        """Close every channel."""
        for channel in self._channels:
            await channel.close()


def header(who: str, case_id: str = "", **more: Any) -> case_pb2.ActHeader:
    """Who does what: an officer of the county, each role another person unless said."""
    fields: dict[str, Any] = {
        "bureau": COUNTY,
        "case_id": case_id,
        "actor": f"officer-{who.lower()}",
        "role": common_pb2.Role.Value(f"ROLE_{who}"),
        "department": "tax-service",
    }
    return case_pb2.ActHeader(**fields | more)


def registration(**more: Any) -> case_pb2.RegisterCaseRequest:
    """A registration with nothing wrong."""
    fields: dict[str, Any] = {
        "header": header("REGISTRAR"),
        "taxpayer_name": "晨光文具店",
        "contact": "15400001234",
        "text": "小规模纳税人本季度开具的发票如何享受优惠？",
        "category": common_pb2.CATEGORY_POLICY,
        "channel": common_pb2.CHANNEL_COUNTER,
    }
    return case_pb2.RegisterCaseRequest(**fields | more)


async def refusal_of(call: Any) -> RemoteRefusal:
    """What the call is refused with."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await call
    refusal = from_call(caught.value)
    assert refusal is not None, caught.value
    return refusal


async def refused_at_last(call: Callable[[], Any]) -> RemoteRefusal:
    """What a call is refused with once something that is looked at from time to time has been seen."""
    refusal: RemoteRefusal | None = None
    async with asyncio.timeout(60):
        while refusal is None:
            try:
                await call()
                await asyncio.sleep(0.1)
            except grpc.aio.AioRpcError as failure:
                refusal = from_call(failure)
    return refusal
