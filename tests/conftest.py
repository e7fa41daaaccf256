"""Fixtures for every test: the services, chosen as `tests.services` says."""

from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest

from demo.sites import Sites
from kuaixiang.runtime.bus import Access
from tests import services

DATABASES = ("sqlite", "postgresql")


def pytest_report_header() -> str:
    """Say which services the tests run against."""
    return "services: " + "; ".join(
        str(choice)
        for choice in (
            services.chosen_postgres(),
            services.chosen_nats(),
            services.chosen_nats_sites(),
            services.chosen_browser(),
        )
    )


@pytest.fixture(scope="session")
def postgres_service() -> Iterator[services.PostgresService]:
    """The PostgreSQL server of this run."""
    with services.running_postgres() as service:
        yield service


@pytest.fixture(scope="session")
def postgres_url(postgres_service: services.PostgresService) -> str:
    """SQLAlchemy URL of a database of the PostgreSQL server, shared by the whole run."""
    return postgres_service.url


@pytest.fixture
def fresh_postgres_url(postgres_service: services.PostgresService) -> Iterator[str]:
    """SQLAlchemy URL of a new PostgreSQL database, removed after the test."""
    with postgres_service.fresh_database() as url:
        yield url


@pytest.fixture(
    params=[pytest.param(name, marks=pytest.mark.postgres) if name == "postgresql" else name for name in DATABASES]
)
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """SQLAlchemy URL of a new database: the test runs once over SQLite and once over PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'ledger.db'}"
    url: str = request.getfixturevalue("fresh_postgres_url")
    return url


@pytest.fixture(scope="session")
def nats_access() -> Iterator[Access]:
    """A single NATS server with JetStream; the domain is hq, which one given by the environment must have too."""
    with services.running_nats() as access:
        yield access


@pytest.fixture(scope="session")
def nats_sites() -> Iterator[Sites]:
    """The national NATS site and two provinces (`tests.services.TEST_PROVINCES`), linked as leaves, for the whole run.

    A test that stops or cuts something restores it. Use names of your own for bureaus and consumers: the streams are
    shared.
    """
    with (
        TemporaryDirectory(prefix="kuaixiang-nats-") as directory,
        services.running_nats_sites(Path(directory)) as sites,
    ):
        yield sites


@pytest.fixture
def own_nats_sites(tmp_path: Path) -> Iterator[Sites]:
    """As `nats_sites`, for one test alone: it does harm to them, or whole nodes publish real bureaus' journals there."""
    with services.running_nats_sites(tmp_path / "nats") as sites:
        yield sites
