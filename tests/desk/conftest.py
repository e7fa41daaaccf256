"""The federation whose pages are tested, and two bureaus' desks in it."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from kuaixiang.domain.words import Role
from tests.desk.offices import Pages, pages_of
from tests.federation.bureaus import COUNTY, PREFECTURE, Federation, federation


@pytest_asyncio.fixture
async def bureaus(tmp_path: Path) -> AsyncIterator[Federation]:
    """A small federation, all nodes up."""
    async with federation(tmp_path) as made:
        yield made


@pytest_asyncio.fixture
async def superior(bureaus: Federation) -> AsyncIterator[Pages]:
    """The desk of a prefecture, where its supervisor has stepped in."""
    async with pages_of(bureaus, PREFECTURE) as pages:
        await pages.step_in(PREFECTURE, Role.SUPERVISOR)
        yield pages


@pytest_asyncio.fixture
async def county(bureaus: Federation) -> AsyncIterator[Pages]:
    """The desk of a county under it, where tax service has stepped in."""
    async with pages_of(bureaus, COUNTY) as pages:
        await pages.step_in(COUNTY, Role.TAX_SERVICE)
        yield pages
