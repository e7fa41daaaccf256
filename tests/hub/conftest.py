"""A hub's store on a bench, and a federation whose ledgers are served."""

from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

from demo.sites import Sites
from tests.hub.bench import Bench
from tests.hub.federation import Federation


@pytest.fixture
def bench(database_url: str) -> Iterator[Bench]:
    opened = Bench(database_url)
    yield opened
    opened.store.close()


@pytest.fixture
async def federation(nats_sites: Sites, tmp_path: Path) -> AsyncIterator[Federation]:
    made = Federation(tmp_path, nats_sites)
    async with made.serving_ledgers():
        yield made
