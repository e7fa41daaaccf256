"""Fixtures of this folder: two bureaus with a ledger, the bus of their site, and what arrives at the national one."""

import itertools
from collections.abc import AsyncIterator

import pytest

from demo.sites import Sites
from kuaixiang.runtime.bus import Bus
from tests.events.stage import CONNECT_SECONDS, SITE, Arrivals, Desk, open_desk, watching

_numbers = itertools.count(1)


@pytest.fixture
def bureaus() -> tuple[str, str]:
    """Two bureaus that no other test has: the sites' streams are shared."""
    number = next(_numbers)
    return f"118{number:03d}", f"117{number:03d}"


@pytest.fixture
async def desk(database_url: str, bureaus: tuple[str, str]) -> AsyncIterator[Desk]:
    async with open_desk(database_url, bureaus) as opened:
        yield opened


@pytest.fixture
async def node_bus(nats_sites: Sites) -> AsyncIterator[Bus]:
    async with Bus(nats_sites[SITE].node, name="node") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        yield bus


@pytest.fixture
async def arrivals(nats_sites: Sites, bureaus: tuple[str, str]) -> AsyncIterator[Arrivals]:
    async with watching(nats_sites, bureaus) as watched:
        yield watched
