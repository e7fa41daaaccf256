"""Fixtures for every test: the services, chosen as `tests.services` says; and where tests keep what they write."""

import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from tempfile import TemporaryDirectory

import psutil
import pytest
from hypothesis import HealthCheck
from hypothesis import settings as examples

from demo.sites import Sites
from kuaixiang.runtime.bus import Access
from kuaixiang.runtime.database import Database
from tests import services
from tests.templates import from_template

DATABASES = ("sqlite", "postgresql")

# Drawn alike in every run, so that a failure repeats; a busy machine is no fault of an example.
examples.register_profile("suite", derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
examples.load_profile("suite")

MEMORY = Path("/dev/shm")
MEMORY_BYTES_MIN = 6 * 1024**3
"""What must be free, on it and of the machine: two workers' databases and streams come to less than one GiB."""


def _write_to_memory() -> None:
    """Let tests write to memory where there is enough: most of their time they would wait for a disk to be synced.

    What a disk does to a ledger is tested apart, on file systems that lose, fill up and fail (`tests/faults`).
    """
    if "TMPDIR" in os.environ or not os.access(MEMORY, os.W_OK):
        return
    if min(psutil.disk_usage(str(MEMORY)).free, psutil.virtual_memory().available) >= MEMORY_BYTES_MIN:
        os.environ["TMPDIR"] = str(MEMORY)
        tempfile.tempdir = None  # asked for again


def _keep_compiled_code(folder: Path) -> None:
    """Where Python is told to keep no compiled code, each of some hundred processes would compile everything again."""
    if not os.environ.pop("PYTHONDONTWRITEBYTECODE", ""):
        return
    sys.dont_write_bytecode = False
    sys.pycache_prefix = os.environ.setdefault("PYTHONPYCACHEPREFIX", str(folder))


def pytest_configure(config: pytest.Config) -> None:
    """Before workers are started, which are given the environment."""
    _write_to_memory()
    _keep_compiled_code(config.rootpath / "build" / "pycache")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with servers come first: of many short files at the end every worker finds as much as the others."""
    with_servers = {item.path for item in items if item.get_closest_marker("nats") or item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in with_servers)


def pytest_report_header() -> str:
    """Say which services the tests run against."""
    return "services: " + "; ".join(
        str(choice)
        for choice in (
            services.chosen_postgres(),
            services.chosen_nats(),
            services.chosen_nats_sites(),
            services.chosen_browser(),
            services.chosen_monitors(),
        )
    )


@pytest.fixture(scope="session", autouse=True)
def new_databases_are_made_from_a_template() -> Iterator[None]:
    """Migrations are run once for each kind of database."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Database, "_migrate", from_template(Database._migrate))
        yield


@pytest.fixture(scope="session")
def monitors() -> services.Monitors:
    """The programs of Prometheus and Alertmanager."""
    return services.monitors()


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
