"""An office with its desks, over each database."""

from collections.abc import Iterator

import pytest

from tests.ledger.bureaus import Desks, desks


@pytest.fixture
def opened(database_url: str) -> Iterator[Desks]:
    """An office over a new ledger."""
    with desks(database_url) as office:
        yield office
