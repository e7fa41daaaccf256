"""A database that outlives the process using it, and forgets what was not synced when the power goes.

It is the real `Database` over SQLite in a memory file system, opened once and given to each incarnation of its owner. A
killed process loses its open transaction. A loss of power keeps what was committed, as SQLite promises it for
`synchronous=FULL`; if the connection was not opened so, everything since the process's start is gone.
"""

import sqlite3
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import sqlalchemy as sa

from kuaixiang.runtime.database import Database

MEMORY = Path("/dev/shm")
FULL = 2
"""`PRAGMA synchronous`: a commit has returned from its fsync."""


class Disk:
    """The disk of one process that uses one database, which `make` opens by its URL, and which stays open."""

    def __init__(self, make: Callable[[str], Database]) -> None:
        self._folder = tempfile.TemporaryDirectory(
            prefix="kx-simulated-", dir=MEMORY if MEMORY.is_dir() else None, ignore_cleanup_errors=True
        )
        self.database = make(f"sqlite:///{self._folder.name}/it.db")
        self._really_close = self.database.close
        self._reader = sa.create_engine(
            f"sqlite:///{self._folder.name}/it.db",
            poolclass=sa.StaticPool,
            connect_args={"isolation_level": None, "check_same_thread": False},
        )
        self._reads = self._reader.connect()
        self.database.prepare(self._reads.exec_driver_sql)
        self._reads.exec_driver_sql("PRAGMA query_only = ON")
        self._reads.exec_driver_sql("PRAGMA wal_autocheckpoint = 0")
        # The process ends; the disk stays.
        setattr(self.database, "close", lambda: None)  # noqa: B010 - a method of this one object
        setattr(self.database, "_view", self._view)  # noqa: B010 - likewise
        self.shared: dict[str, Any] = {}
        """What is compiled once for this database, by whom."""
        self._empty = self._copy()
        self._synced: sqlite3.Connection | None = None
        (level,) = self._raw().execute("PRAGMA synchronous").fetchone()
        self._promises = level >= FULL

    @contextmanager
    def _view(self, _: sa.Engine) -> Iterator[sa.Connection]:
        """A reader's connection. Nothing is written while one reads here, so that what it sees is of one instant anyway.

        It stays open, and no transaction is begun for each reading: that would be a tenth of a life's cost.
        """
        yield self._reads

    def close(self) -> None:
        self._reads.close()
        self._reader.dispose()
        self._really_close()
        self._folder.cleanup()

    def wipe(self) -> None:
        """As new."""
        self._synced = None
        self._empty.backup(self._raw())

    def opened(self) -> Database:
        """A process opens it."""
        self._synced = None if self._promises else self._copy()
        return self.database

    def copied(self) -> sqlite3.Connection:
        """A backup, as it is now."""
        return self._copy()

    def put_back(self, copy: sqlite3.Connection) -> None:
        """As it was when it was copied."""
        copy.backup(self._raw())

    def lose_power(self) -> None:
        """What was not synced is gone."""
        if self._synced is not None:
            self._synced.backup(self._raw())

    def _copy(self) -> sqlite3.Connection:
        copy = sqlite3.connect(":memory:")
        self._raw().backup(copy)
        return copy

    def _raw(self) -> sqlite3.Connection:
        raw = self.database.writing.connection.dbapi_connection
        assert isinstance(raw, sqlite3.Connection)
        return raw
