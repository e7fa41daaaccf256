"""An office with its desks, over each database."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.ledger.bureaus import Desks, desks


@pytest.fixture
def opened(database_url: str) -> Iterator[Desks]:
    """An office over a new ledger."""
    with desks(database_url) as office:
        yield office


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return tmp_path / "keys" / "data.key"


@pytest.fixture
def kept(database_url: str, key_file: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The URL of a database whose key file is the one of this test."""
    monkeypatch.setattr("node.ledger.database.default_key_file", lambda _: key_file)
    return database_url
