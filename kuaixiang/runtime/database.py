"""One database with one writer: SQLite in a file by default, PostgreSQL where many bureaus share one.

Whoever opens it for writing holds it alone (a lock file beside an SQLite file, an advisory lock of the session in
PostgreSQL), so that a second process is refused before it reads anything. The writer has one connection; readers have
their own, which cannot write. Commits are durable: `synchronous=FULL`, `synchronous_commit=on`.

In PostgreSQL the lock is held by the very session that commits. Who has lost the lock has lost the session, and cannot
commit any more, whatever it believes: that is all the fencing that a standby needs.
"""

import fcntl
import hashlib
import os
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from itertools import chain
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
import structlog
from alembic import command
from alembic.config import Config
from prometheus_client import Gauge
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from kuaixiang.runtime import tracing
from kuaixiang.runtime.files import sync_folder

BUSY_SECONDS: Final = 10
"""A reader waits this long for a lock of SQLite's own; the one writer never meets another."""
READERS_MAX: Final = 4
"""Reading connections: two cores' worth, twice."""
WRITER_CACHE_KIB: Final = 65_536
CONNECT_SECONDS_MAX: Final = 10
SILENT_SECONDS_MAX: Final = 30
"""A PostgreSQL server that acknowledges nothing for so long is gone: the writer fails, and the process starts anew."""
FENCE_SECONDS: Final = 8
"""PostgreSQL ends a fenced session of which it has heard nothing for so long, and with it the lock and the right to
commit: four pulses of the writer, and half of the 15 s within which a standby is to have taken over."""
LOCK_SECONDS: Final = 0.05
LOCK_SECONDS_MAX: Final = 1.0
"""PostgreSQL gives back what a session held a moment after its process has ended: so long a lock is asked for again."""
READ_SECONDS_MAX: Final = 60
"""A reader's statement that takes longer is ended: it would hold back others."""
ROWS_MAX: Final = 128
"""Rows in one statement: 13 columns of them are far below either database's limit of parameters."""
CHECKPOINT_PAGES: Final = 8_192
"""Pages in the write-ahead log, 32 MiB, with which a commit itself folds it in, whoever waits for it."""
CHECKPOINT_ROWS: Final = 1_500
"""Rows changed after which a writer folds the log in between two batches: some 800 pages, a few milliseconds. Four
times as many kept those who came meanwhile waiting three times as long, and wrote as many pages altogether."""
FREE_BYTES_MIN: Final = 64 * 1024 * 1024
"""Room that the disk under an SQLite file must have before a batch is begun: the write-ahead log grows to 32 MiB, and
the largest batch is some 30 MiB. A write that the disk breaks off half-way would end the process."""

WRITABLE: Final = Gauge(
    "kx_database_writable", "Whether the database takes writes (1), or its disk is full or it is read-only (0)."
)
WRITABLE.set(1)

_log: Final = structlog.get_logger(__name__)


class DatabaseError(Exception):
    """The database cannot be used."""


class DatabaseHeld(DatabaseError):
    """Another process has the database."""

    def __init__(self, service: str, database: str) -> None:
        self.database = database
        super().__init__(f"Another {service} holds the database {database}. Stop it first, or give this one its own.")


class LockLost(DatabaseError):
    """The session that held the database has ended, and with it the lock: another process may hold it by now."""

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(f"The session that held the database {database} has ended.")


class HalfRestored(DatabaseError):
    """Putting a backup back was broken off; what lies there belongs together no more, or not yet."""

    def __init__(self, database: str, aside: str) -> None:
        self.database = database
        super().__init__(
            f"Putting a backup back into the database {database} was broken off. "
            f"Put it back again (kx backup restore); what was there lies in {aside}."
        )


class UnsupportedDatabase(DatabaseError):
    """A database that is neither SQLite in a file nor PostgreSQL."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        super().__init__(f"The database must be SQLite in a file or PostgreSQL, not {backend}.")


class DatabaseUnavailable(DatabaseError):
    """The database cannot be opened."""

    def __init__(self, database: str, reason: str) -> None:
        self.database = database
        self.reason = reason
        super().__init__(f"The database {database} cannot be opened: {reason}.")


class DatabaseSilent(DatabaseError):
    """The database was open and does not answer: it is away, too busy, or its disk cannot be read."""

    def __init__(self, database: str, reason: str) -> None:
        self.database = database
        self.reason = reason
        super().__init__(f"The database {database} does not answer: {reason}.")


class Unwritable(StrEnum):
    """Why a database takes no writes."""

    FULL = "its disk is full"
    READ_ONLY = "it is read-only"


_SQLITE_CODES: Final = {sqlite3.SQLITE_FULL: Unwritable.FULL, sqlite3.SQLITE_READONLY: Unwritable.READ_ONLY}
_POSTGRESQL_CODES: Final = {"53100": Unwritable.FULL, "25006": Unwritable.READ_ONLY}


class DatabaseNotWritable(DatabaseSilent):
    """The database takes no writes now; nothing of what was to be written is in it."""

    def __init__(self, database: str, why: Unwritable) -> None:
        self.why = why
        super().__init__(database, f"{why}, and takes no writes")


class Rows:
    """A statement over many rows, compiled for powers of two of them.

    One statement of 64 rows, not 64 statements: the driver gives the interpreter's lock away at each statement and
    waits for it again, and behind a busy event loop each wait can be milliseconds.
    With `keys`, of rows of the same first columns only the last is written.
    """

    def __init__(self, compiled: Callable[[int], str], *, keys: int) -> None:
        self._compiled = compiled
        self._keys = keys
        self._texts: dict[int, str] = {}

    def over(self, rows: Sequence[tuple[Any, ...]]) -> Iterator[tuple[str, tuple[Any, ...]]]:
        """The statements, with their parameters, that write the rows in their order."""
        if self._keys and len(rows) > 1:
            rows = list({row[: self._keys]: row for row in rows}.values())
        at = 0
        while at < len(rows):
            count = min(ROWS_MAX, 1 << (len(rows) - at).bit_length() - 1)
            text = self._texts.get(count)
            if text is None:
                text = self._texts[count] = self._compiled(count)
            yield text, tuple(chain.from_iterable(rows[at : at + count]))
            at += count


class Database:
    """The database, opened for writing by this process alone and brought up to date.

    `service` names who holds it in messages and in the lock; `migrations` is the folder of the alembic scripts;
    `lock_seconds_max` is for how long PostgreSQL is asked for the lock.
    `writing` is for one thread at a time, `readers` for any. Raises `DatabaseHeld`, `HalfRestored`,
    `UnsupportedDatabase`, `DatabaseUnavailable`.
    """

    def __init__(self, url: str, *, service: str, migrations: Path, lock_seconds_max: float = LOCK_SECONDS_MAX) -> None:
        self._url = sa.make_url(url)
        self._lock_seconds_max = lock_seconds_max
        self._service = service
        self._lock_file: int | None = None
        self._unwritable: Unwritable | None = None
        self._folded_changes = 0
        self._session = 0
        self._fenced = False
        self._closed = False
        self.prepare: Callable[[Callable[..., Any]], None] = lambda _: None
        """What each reading connection begins with (`prepare_readers`)."""
        backend = self._url.get_backend_name()
        self.is_sqlite = backend == "sqlite"
        if backend not in {"sqlite", "postgresql"} or (self.is_sqlite and not self._url.database):
            raise UnsupportedDatabase(backend)
        if self._url.drivername == "postgresql":
            self._url = self._url.set(drivername="postgresql+psycopg")
        self.name = self._url.render_as_string(hide_password=True)
        if self.is_sqlite:
            self._lock_by_file(Path(self._url.database or ""))
        self._writer_engine = _engine(self._url, sqlite=self.is_sqlite, reader=False)
        self.readers = _engine(self._url, sqlite=self.is_sqlite, reader=True)
        self._lookups = _engine(self._url, sqlite=self.is_sqlite, reader=True)
        sa.event.listen(self._writer_engine, "do_connect", self._check_first)
        try:
            self.writing = self._writer_engine.connect()
            if not self.is_sqlite:
                self._lock_by_session()
            self._migrate(migrations)
        except sa.exc.DBAPIError as failure:
            self.close()
            raise DatabaseUnavailable(self.name, str(failure.orig)) from failure
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, failure: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the connections and give the lock back. A reader's that is lent is closed when it is given back."""
        self._closed = True
        self.renew_readers()
        writing = getattr(self, "writing", None)
        if writing is not None:
            writing.close()
        self._writer_engine.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    def fence(self) -> None:
        """Has PostgreSQL end the writer's session when it has heard nothing of it for `FENCE_SECONDS`.

        So also a process that stands still, or a machine that is gone, gives the lock back. From now on `pulse` is to
        be called more often than that, and a session that was lost is not followed by another one, which would write
        without the lock: `LockLost` is raised instead. Nothing to do for SQLite, whose file has one machine.
        """
        if self.is_sqlite:
            return
        milliseconds = FENCE_SECONDS * 1000
        with self.writing.begin():
            for setting in ("idle_session_timeout", "idle_in_transaction_session_timeout", "tcp_user_timeout"):
                self.writing.exec_driver_sql(f"SET {setting} = {milliseconds}")
        self._fenced = True

    def _check_first(self, *_: object) -> None:
        """Before the writer's engine connects."""
        if self._fenced:
            raise LockLost(self.name)

    def pulse(self) -> None:
        """Lets the database hear of the writer; on its thread, not in a transaction.

        Raises `LockLost`, or what the driver does, when the session is not the one that took the lock any more.
        """
        with self.writing.begin():
            session = self.writing.exec_driver_sql("SELECT pg_backend_pid()").scalar_one()
        if session != self._session:
            raise LockLost(self.name)

    # ------------------------------------------------------------ statements, compiled once, run over many tuples

    def insert(self, table: sa.Table) -> "Rows":
        """Adds rows, given as tuples in the table's column order."""
        return Rows(lambda count: self._compile(self._insert(table, count)), keys=0)

    def put(self, table: sa.Table, *, add: str | None = None) -> "Rows":
        """Adds rows or replaces those of the same key (its columns come first); with `add`, adds to that column."""
        keys = [column.name for column in table.primary_key]

        def compiled(count: int) -> str:
            statement = self._insert(table, count)
            changed = (
                {add: table.c[add] + statement.excluded[add]}
                if add
                else {
                    column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys
                }
            )
            return self._compile(statement.on_conflict_do_update(index_elements=keys, set_=changed))

        return Rows(compiled, keys=0 if add else len(keys))

    def drop(self, table: sa.Table, *columns: str) -> "Rows":
        """Deletes rows by the columns named, given as tuples in that order."""

        def compiled(count: int) -> str:
            named = [table.c[name] for name in columns]
            # Not by tuples: SQLite looks those up by no index, and would walk through the table.
            rows = [
                sa.and_(*(column == sa.bindparam(None, type_=column.type, unique=True) for column in named))
                for _ in range(count)
            ]
            return self._compile(sa.delete(table).where(sa.or_(*rows)))

        return Rows(compiled, keys=0)

    def run(self, statement: "Rows", rows: Sequence[tuple[Any, ...]]) -> None:
        """Runs a compiled statement over rows in the writer's open transaction."""
        for text, parameters in statement.over(rows):
            self.writing.exec_driver_sql(text, parameters)

    @contextmanager
    def committing(self) -> Iterator[None]:
        """One durable transaction of the writer.

        Raises `DatabaseNotWritable` while the database takes no writes; then nothing has been written. A commit that
        fails raises what the driver does: what the disk has kept is not known.
        """
        self.check_writable()
        try:
            transaction = self.writing.begin()
            try:
                yield
            except BaseException:
                transaction.rollback()
                raise
        except sa.exc.DBAPIError as failure:
            why = _unwritable(failure)
            if why is None:
                raise
            raise self._found(why) from failure
        transaction.commit()
        self._tell(None)

    def check_writable(self) -> None:
        """Asks the disk under an SQLite file. Raises `DatabaseNotWritable`.

        Of PostgreSQL only a write tells, so that what the last one has told is not looked at here.
        """
        if not self.is_sqlite:
            return
        disk = os.statvfs(Path(self._url.database or "").parent)
        if disk.f_flag & os.ST_RDONLY:
            raise self._found(Unwritable.READ_ONLY)
        if disk.f_bavail * disk.f_frsize < FREE_BYTES_MIN:
            raise self._found(Unwritable.FULL)
        if self._unwritable is not None:
            self._tell(None)

    @property
    def unwritable(self) -> Unwritable | None:
        """Why it took no writes when that was last tried or looked at; None when it did."""
        return self._unwritable

    def _found(self, why: Unwritable) -> DatabaseNotWritable:
        self._tell(why)
        return DatabaseNotWritable(self.name, why)

    def _tell(self, why: Unwritable | None) -> None:
        if why is self._unwritable:
            return
        self._unwritable = why
        WRITABLE.set(why is None)
        if why is None:
            _log.info("The database takes writes again.", action="database.writable")
        else:
            _log.error("The database takes no writes.", action="database.not_writable", reason=why.value)

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A reader's connection with one consistent view. Raises `DatabaseSilent`."""
        spans = tracing.spans()
        if spans is None:
            with self._view(self.readers) as connection:
                yield connection
        else:
            with spans.reading() as span, self._view(self.readers) as connection:
                span.add_event("connected")
                yield connection

    @contextmanager
    def looking(self) -> Iterator[sa.Connection]:
        """The writer's own connection for reading: it never waits for readers to give one back.

        Raises `DatabaseSilent`.
        """
        with self._view(self._lookups) as connection:
            yield connection

    @contextmanager
    def _view(self, engine: sa.Engine) -> Iterator[sa.Connection]:
        pool = engine.pool
        try:
            with engine.connect() as connection, connection.begin():
                yield connection
        except (sa.exc.OperationalError, sa.exc.InterfaceError, sa.exc.TimeoutError) as failure:
            reason = str(getattr(failure, "orig", failure)).strip().partition("\n")[0].rstrip(".")
            raise DatabaseSilent(self.name, reason) from failure
        finally:
            # What was lent when its pool was done away with has been given back to that one, where it would lie open.
            if engine.pool is not pool or self._closed:
                pool.dispose()

    def fold_log(self) -> None:
        """Folds SQLite's write-ahead log in, when enough has been changed since the last time; not in a transaction.

        For a writer whose callers have been answered: left to SQLite, it is part of a commit that they wait for.
        """
        if not self.is_sqlite:
            return
        raw = self._sqlite_writing()
        if raw.total_changes - self._folded_changes >= CHECKPOINT_ROWS:
            self._folded_changes = raw.total_changes
            raw.execute("PRAGMA main.wal_checkpoint(PASSIVE)").fetchall()

    def truncate_log(self, name: str = "", *, wait: bool = True) -> bool:
        """Folds SQLite's write-ahead log in and empties it, so that nothing of what was erased lies on in it.

        `name` is of an attached database, else all are. Whether it is empty: not so while somebody reads what is in it,
        for which it waits `BUSY_SECONDS` at most, or not at all. Not to be called within a transaction.
        """
        if not self.is_sqlite:
            return True
        raw = self._sqlite_writing()
        if not wait:
            raw.execute("PRAGMA busy_timeout = 0")
        try:
            busy, _, _ = raw.execute(f"PRAGMA {name}{'.' if name else ''}wal_checkpoint(TRUNCATE)").fetchone()
        finally:
            raw.execute(f"PRAGMA busy_timeout = {BUSY_SECONDS * 1000}")
        return not busy

    def compact(self) -> None:
        """Gives the room of what was deleted back; not in a transaction. It takes as much room again meanwhile.

        PostgreSQL keeps it for rows to come.
        """
        if self.is_sqlite:
            self._sqlite_writing().execute("VACUUM")
            self.truncate_log()
        else:
            with self._writer_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
                connection.exec_driver_sql("VACUUM (ANALYZE)")

    @property
    def file(self) -> Path | None:
        """The file of an SQLite database."""
        return Path(self._url.database or "") if self.is_sqlite else None

    @contextmanager
    def attached(self, file: Path, name: str, *, wait: bool = True) -> Iterator[None]:
        """Another SQLite file within reach of the writer's connection under a name, made where there is none.

        What is committed to it is as durable as this database; one transaction over both is not one on the disk. Not to
        be entered within a transaction. At the end its write-ahead log is folded in and emptied as `truncate_log` does.
        """
        raw, known = self._sqlite_writing(), file.exists()
        raw.execute(f"ATTACH DATABASE ? AS {name}", (str(file),))
        try:
            raw.execute(f"PRAGMA {name}.journal_mode = WAL")
            raw.execute(f"PRAGMA {name}.synchronous = FULL")
            raw.execute(f"PRAGMA {name}.secure_delete = ON")
            if not known:
                sync_folder(file.parent)
            yield
            self.truncate_log(name, wait=wait)
        finally:
            raw.execute(f"DETACH DATABASE {name}")

    def prepare_readers(self, prepare: Callable[[Callable[..., Any]], None]) -> None:
        """Has each reading connection begin with this, which is given what executes a statement there.

        It may make temporary views: those that SQLite and PostgreSQL look for before they look for tables.
        """
        self.prepare = prepare

        def begin(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute("PRAGMA query_only = OFF" if self.is_sqlite else "SET TRANSACTION READ WRITE")
            prepare(cursor.execute)
            if self.is_sqlite:
                cursor.execute("PRAGMA query_only = ON")
            cursor.close()
            connection.commit()

        for engine in (self.readers, self._lookups):
            sa.event.listen(engine, "connect", begin)
        self.renew_readers()

    def renew_readers(self) -> None:
        """Has reading connections be made anew; those that are lent are closed when they are given back."""
        for engine in (self.readers, self._lookups):
            pool = engine.pool
            engine.dispose()
            # Again, for what was given back while the new pool was made (`_view` sees the new one from here on).
            pool.dispose()

    def _sqlite_writing(self) -> sqlite3.Connection:
        raw = self.writing.connection.driver_connection
        assert isinstance(raw, sqlite3.Connection)  # noqa: S101 - the driver of this dialect
        return raw

    def _insert(self, table: sa.Table, rows: int) -> Any:  # noqa: ANN401 - the dialects' own statement, no common base
        insert = sqlite_insert(table) if self.is_sqlite else postgresql_insert(table)
        return insert.values([{column.name: sa.bindparam(None, unique=True) for column in table.columns}] * rows)

    def _compile(self, statement: sa.ClauseElement) -> str:
        dialect = self._writer_engine.dialect
        positional = dialect if self.is_sqlite else type(dialect)(paramstyle="format")  # type: ignore[call-arg]
        return str(statement.compile(dialect=positional))

    # ------------------------------------------------------------ opening

    def _lock_by_file(self, database: Path) -> None:
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = locked_file(database)
        except OSError as failure:
            raise DatabaseUnavailable(self.name, failure.strerror or str(failure)) from failure
        if self._lock_file is None:
            raise DatabaseHeld(self._service, self.name)
        half = restoration_in(self._lock_file)
        if half is not None:
            os.close(self._lock_file)
            self._lock_file = None
            raise HalfRestored(self.name, half.aside)

    def _lock_by_session(self) -> None:
        key = lock_key(self._service)
        given_up_at = time.monotonic() + self._lock_seconds_max
        while True:
            with self.writing.begin():
                asked = sa.select(sa.func.pg_try_advisory_lock(key), sa.func.pg_backend_pid())
                held, self._session = self.writing.execute(asked).one()
            if held:
                return
            if time.monotonic() > given_up_at:
                raise DatabaseHeld(self._service, self.name)
            time.sleep(LOCK_SECONDS)

    def _migrate(self, scripts: Path) -> None:
        config = Config()
        config.set_main_option("script_location", str(scripts))
        config.set_main_option("path_separator", "newline")
        config.set_main_option("version_locations", str(scripts / "versions"))
        config.attributes["connection"] = self.writing
        with self.writing.begin():
            command.upgrade(config, "head")


def lock_key(service: str) -> int:
    """The key of a service's advisory lock: a database may hold one ledger and one hub, not two of either."""
    return int.from_bytes(hashlib.sha256(f"kuaixiang {service}".encode()).digest()[:7], "big")


def locked_file(database: Path) -> int | None:
    """The lock file beside an SQLite database, held until this descriptor is closed; None: another process holds it.

    Raises `OSError`.
    """
    lock = os.open(database.with_name(f"{database.name}.lock"), os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(lock)
        return None
    return lock


@dataclass(frozen=True, slots=True)
class Restoration:
    """A backup is being put back, and is not there as a whole: kept in the lock file, so that whoever opens reads it.

    `aside` is the name under which what was there lies beside it; `kept` says that it lies there whole.
    """

    aside: str
    kept: bool = False


def restoration_in(lock: int) -> Restoration | None:
    """What a lock file says of a restoration, None of none. Raises `OSError`."""
    said = os.pread(lock, os.fstat(lock).st_size, 0).decode()
    return Restoration(said[1:], kept=said[0] == _KEPT) if said else None


def note_restoration(lock: int, now: Restoration | None) -> None:
    """Has a lock file say so, durably; None: the restoration has ended. Raises `OSError`."""
    if now is None:
        os.ftruncate(lock, 0)
    else:
        # What follows the first byte is the same throughout, so that the step from one to the other is one byte.
        os.pwrite(lock, f"{_KEPT if now.kept else _BEGUN}{now.aside}".encode(), 0)
    os.fsync(lock)


_BEGUN: Final = "-"
_KEPT: Final = "+"


def _unwritable(failure: sa.exc.DBAPIError) -> Unwritable | None:
    """Why a statement was refused, where that is because nothing can be written."""
    cause = failure.orig
    if isinstance(cause, sqlite3.Error):
        return _SQLITE_CODES.get(getattr(cause, "sqlite_errorcode", 0) & 0xFF)
    return _POSTGRESQL_CODES.get(getattr(cause, "sqlstate", "") or "")


def _engine(url: sa.URL, *, sqlite: bool, reader: bool) -> sa.Engine:
    if not sqlite:
        engine = sa.create_engine(
            url,
            pool_size=READERS_MAX,
            max_overflow=0,
            pool_pre_ping=reader,
            connect_args={"connect_timeout": CONNECT_SECONDS_MAX, "tcp_user_timeout": SILENT_SECONDS_MAX * 1000},
        )
        options = (
            f"SET default_transaction_read_only = on; SET statement_timeout = '{READ_SECONDS_MAX}s'"
            if reader
            else "SET synchronous_commit = on"
        )

        @sa.event.listens_for(engine, "connect")
        def _set(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
            cursor = connection.cursor()
            cursor.execute(options)
            cursor.close()
            connection.commit()

        return engine
    engine = sa.create_engine(
        url,
        pool_size=READERS_MAX,
        max_overflow=0,
        # Who reads next gets the connection whose pages and statements are at hand.
        pool_use_lifo=True,
        connect_args={"check_same_thread": False, "timeout": BUSY_SECONDS, "isolation_level": None},
    )

    @sa.event.listens_for(engine, "connect")
    def _pragmas(connection: DBAPIConnection, _record: ConnectionPoolEntry) -> None:
        assert isinstance(connection, sqlite3.Connection)  # noqa: S101 - the driver of this dialect
        if reader:
            # Only the writer checkpoints: two connections doing so can corrupt a WAL database before SQLite 3.51.3.
            connection.execute("PRAGMA query_only = ON")
            connection.execute("PRAGMA wal_autocheckpoint = 0")
        else:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = FULL")
            # What is erased, or replaced by a sealed value, must not lie on in free pages.
            connection.execute("PRAGMA secure_delete = ON")
            connection.execute(f"PRAGMA cache_size = -{WRITER_CACHE_KIB}")
            connection.execute(f"PRAGMA wal_autocheckpoint = {CHECKPOINT_PAGES}")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if reader else "BEGIN IMMEDIATE")

    return engine
