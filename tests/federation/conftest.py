"""The federation of these tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest_asyncio

from tests.federation.bureaus import Federation, federation


@pytest_asyncio.fixture
async def bureaus(tmp_path: Path) -> AsyncIterator[Federation]:
    """A small federation, all nodes up."""
    async with federation(tmp_path) as made:
        yield made
