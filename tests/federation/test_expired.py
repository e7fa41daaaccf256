"""A certificate that has expired: nobody connects, nothing is lost, and a renewal mends it without a restart."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import grpc
import grpc.aio
import pytest
import pytest_asyncio
from prometheus_client import REGISTRY

from kuaixiang.domain.words import Custody
from kuaixiang.runtime import pki
from kuaixiang.wire.v1 import case_pb2, case_pb2_grpc
from tests.federation.nodes import COUNTY, PREFECTURE, Nodes, nodes

SECONDS_MAX = 120.0
"""With the pauses between two attempts, which grow while a busy machine comes to nothing else."""


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Nodes]:
    """A prefecture and a county, none of them up, under an authority that is some years old."""
    async with nodes(tmp_path) as made:
        shutil.rmtree(tmp_path / "authority")
        pki.init_authority(tmp_path / "authority", "test", valid_from=datetime.now(UTC) - timedelta(days=1000))
        yield made


def issue(pair: Nodes, code: str, *, begun_days_ago: int, days: int) -> None:
    begun = datetime.now(UTC) - timedelta(days=begun_days_ago)
    pki.issue(
        pair.folder / "authority", pair.folder / f"node-{code}", "node", [code], days, valid_from=begun, force=True
    )


async def custody(pair: Nodes, case_id: str, expected: Custody) -> None:
    async with asyncio.timeout(SECONDS_MAX):
        while (case := pair.case(COUNTY, case_id)) is None or case.custody is not expected:
            await asyncio.sleep(0.05)


@pytest.mark.parametrize("expired", [COUNTY, PREFECTURE], ids=["ours", "the-peers"])
async def test_what_is_for_a_peer_waits_while_a_certificate_has_expired_and_goes_out_after_its_renewal(
    pair: Nodes, expired: str
) -> None:
    issue(pair, expired, begun_days_ago=400, days=397)
    await pair.start(PREFECTURE, COUNTY)
    case_id = await pair.register(COUNTY)
    await pair.refer(COUNTY, case_id, PREFECTURE)
    async with asyncio.timeout(SECONDS_MAX):
        while not REGISTRY.get_sample_value("kx_peers_unreachable"):
            await asyncio.sleep(0.05)
    await custody(pair, case_id, Custody.OFFERED)
    assert pair.case(PREFECTURE, case_id) is None
    issue(pair, expired, begun_days_ago=0, days=397)
    await custody(pair, case_id, Custody.RELEASED)
    received = pair.case(PREFECTURE, case_id)
    assert received is not None
    assert Custody.OWNED is received.custody


async def test_terminals_do_not_connect_to_a_node_whose_certificate_has_expired_and_it_says_when_it_did(
    pair: Nodes, caplog: pytest.LogCaptureFixture
) -> None:
    issue(pair, COUNTY, begun_days_ago=400, days=397)
    await pair.start(COUNTY)
    request = case_pb2.ListCasesRequest(bureau=COUNTY)
    async with pair.channel(COUNTY, "office", COUNTY) as channel:
        with pytest.raises(grpc.aio.AioRpcError) as raised:
            await case_pb2_grpc.CaseServiceStub(channel).ListCases(request, timeout=60)
    assert grpc.StatusCode.UNAVAILABLE == raised.value.code()
    assert "certificate has expired" in str(raised.value.details())
    expires = REGISTRY.get_sample_value("kx_certificate_expires_timestamp_seconds")
    assert expires is not None
    assert timedelta(days=2) < datetime.now(UTC) - datetime.fromtimestamp(expires, UTC) < timedelta(days=4)
    issue(pair, COUNTY, begun_days_ago=0, days=397)
    async with pair.channel(COUNTY, "office", COUNTY) as channel:
        assert [] == list((await case_pb2_grpc.CaseServiceStub(channel).ListCases(request, timeout=60)).cases)
