"""The federation of these tests."""

from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from node.witness import Rereader
from tests.federation.bureaus import Federation, federation


@pytest_asyncio.fixture
async def bureaus(tmp_path: Path) -> AsyncIterator[Federation]:
    """A small federation, all nodes up."""
    async with federation(tmp_path) as made:
        yield made


@pytest.fixture
def _nobody_reads_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """No witness reads a ledger again by itself, every five seconds, and finds what a test is about to before it does."""

    async def not_begun(_: Rereader) -> None:
        pass

    monkeypatch.setattr(Rereader, "start", not_begun)
