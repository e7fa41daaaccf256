"""A hub's store on a bench, and a federation whose ledgers are served."""

import sys
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
import structlog

from demo.sites import Sites
from tests.hub.bench import Bench
from tests.hub.federation import Federation


@pytest.fixture(autouse=True)
def _logs_are_no_commands_output() -> Iterator[None]:
    """A hub in this process goes on writing its log while a command runs in a thread, whose output `sys.stdout` is then."""
    kept = sys.stdout
    structlog.configure(logger_factory=lambda *_: structlog.PrintLogger(kept))
    yield
    structlog.reset_defaults()


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
