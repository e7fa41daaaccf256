"""Fixtures of this folder: one node that serves a county and its province, and callers with certificates."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import SharedClockDriver
from kuaixiang.runtime.settings import read_settings
from node import service
from node.settings import NodeSettings
from tests.node.callers import COUNTY, MORNING, PROVINCE, Callers
from tests.node.gateways import Gateway


@pytest.fixture
def clock(tmp_path: Path) -> SharedClockDriver:
    """The business clock of the node under test, on a Monday morning."""
    return SharedClockDriver(tmp_path / "clock", MORNING)


@pytest.fixture
def settings(tmp_path: Path, database_url: str, clock: SharedClockDriver) -> NodeSettings:
    """Settings of the node under test, with certificates made for it."""
    pki.init_authority(tmp_path / "ca", "test")
    pki.issue(tmp_path / "ca", tmp_path / "node", "node", [COUNTY, PROVINCE])
    assert clock.now() == MORNING
    return read_settings(
        NodeSettings,
        bureaus=(COUNTY, PROVINCE),
        database=database_url,
        listen="127.0.0.1:0",
        metrics_port=0,
        certificates=tmp_path / "node",
        nats_url=None,
        clock=tmp_path / "clock",
        reflection=True,
    )


@pytest.fixture
async def node(settings: NodeSettings) -> AsyncIterator[service.Running]:
    """A node that serves."""
    async with service.running(settings) as running:
        yield running


@pytest.fixture
async def callers(node: service.Running, tmp_path: Path) -> AsyncIterator[Callers]:
    """Who calls it."""
    made = Callers(node.port, tmp_path)
    try:
        yield made
    finally:
        await made.close()


@pytest.fixture
def gateway(node: service.Running, callers: Callers) -> Gateway:
    """The door for channels of a node whose settings have one (`with_gateway`)."""
    return Gateway(node, callers)
