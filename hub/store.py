"""The hub's database: marks, tallies, open cases. SQLite by default, PostgreSQL for a nation.

One writer. It holds the database for itself (a lock file beside an SQLite file, an advisory lock of its own session in
PostgreSQL), so that a second hub on the same database is refused before it reads anything. What a batch of entries
changes is written in one transaction; a message is acknowledged after it. A commit that fails ends the process: nobody
knows what a disk that reported an error has kept, and the next start reads it from the marks.

Tallies are kept for each bureau alone (`reach` 0) and, for each bureau with subordinates, for all of them and itself
(`reach` 1), so that any figure of any tier is read and not summed over the tree. The totals follow from the bureaus'
own rows and the tree: when the tree has changed they are summed up anew at the start.
"""

import fcntl
import hashlib
import os
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
from alembic import command
from alembic.config import Config
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert
from sqlalchemy.engine.interfaces import DBAPIConnection
from sqlalchemy.pool import ConnectionPoolEntry

from hub.fold import Batch, Mark, Packed, roll_up, unpack
from kuaixiang.domain.tree import BureauTree

ALONE: Final = 0
"""Reach of a tally: the bureau by itself."""
WITH_SUBORDINATES: Final = 1
"""Reach of a tally: the bureau and everything under it; kept only where there is something under it."""

BUSY_SECONDS: Final = 10
"""A reader waits this long for a lock of SQLite's own; the one writer never meets another."""
READERS_MAX: Final = 4
ROWS_READ: Final = 10_000
"""Rows taken at a time where a whole table is gone through."""
_LOCK_ID: Final = int.from_bytes(hashlib.sha256(b"kuaixiang hub").digest()[:7], "big")
"""Key of PostgreSQL's advisory lock: the same for every hub, since a database holds one hub."""

METADATA: Final = sa.MetaData()

MARKS: Final = sa.Table(
    "marks",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("generation", sa.BigInteger, nullable=False),
    sa.Column("seq", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary, nullable=False),
    sa.Column("data_as_of_us", sa.BigInteger, nullable=False),
    sa.Column("heard_at_us", sa.BigInteger, nullable=False),
    sa.Column("announced_generation", sa.BigInteger, nullable=False),
    sa.Column("announced_seq", sa.BigInteger, nullable=False),
    sa.Column("quarantine", sa.Text, nullable=False),
)
TALLIES: Final = sa.Table(
    "tallies",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("reach", sa.SmallInteger, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("category", sa.SmallInteger, primary_key=True),
    sa.Column("channel", sa.SmallInteger, primary_key=True),
    sa.Column("measure", sa.Integer, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
OPEN_CASES: Final = sa.Table(
    "open_cases",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("stage", sa.SmallInteger, nullable=False),
    sa.Column("custody", sa.SmallInteger, nullable=False),
    sa.Column("category", sa.SmallInteger, nullable=False),
    sa.Column("channel", sa.SmallInteger, nullable=False),
    sa.Column("last_act_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
OPEN_CLOCKS: Final = sa.Table(
    "open_clocks",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("case_id", sa.Text, primary_key=True),
    sa.Column("kind", sa.SmallInteger, primary_key=True),
    sa.Column("department", sa.Text, primary_key=True),
    sa.Column("due_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
FACTS: Final = sa.Table(
    "hub_facts",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_SCOPE: Final = "scope"
_SHAPE: Final = "tree"


class StoreError(Exception):
    """The hub's database cannot be used."""


class AnotherHubRuns(StoreError):
    """Another process holds the database."""

    def __init__(self, database: str) -> None:
        self.database = database
        super().__init__(f"Another hub holds the database {database}. Stop it first, or give this one its own.")


class OtherScope(StoreError):
    """The database holds the figures of another scope."""

    def __init__(self, database: str, scope: str, found: str) -> None:
        self.database = database
        self.scope = scope
        self.found = found
        super().__init__(f"The database {database} is of the hub of {found}, not of {scope}. Give this hub its own.")


class UnsupportedDatabase(StoreError):
    """A database that is neither SQLite nor PostgreSQL."""

    def __init__(self, backend: str) -> None:
        self.backend = backend
        super().__init__(f"The hub's database must be SQLite in a file or PostgreSQL, not {backend}.")


class DatabaseUnavailable(StoreError):
    """The database cannot be opened."""

    def __init__(self, database: str, reason: str) -> None:
        self.database = database
        self.reason = reason
        super().__init__(f"The database {database} cannot be opened: {reason}.")


class Store:
    """The writer's side of the database, for one thread at a time; `engine` is the readers'.

    Opening takes the lock, brings the tables up to date and reads the marks. Raises `AnotherHubRuns`, `OtherScope`,
    `UnsupportedDatabase`, `DatabaseUnavailable`.
    """

    def __init__(self, url: str, tree: BureauTree, scope: str) -> None:
        self._url = sa.make_url(url)
        self.name = self._url.render_as_string(hide_password=True)
        self.scope = scope
        self._lock_file: int | None = None
        backend = self._url.get_backend_name()
        if backend not in {"sqlite", "postgresql"} or (backend == "sqlite" and not self._url.database):
            raise UnsupportedDatabase(backend)
        self._sqlite = backend == "sqlite"
        if not self._sqlite and self._url.drivername == "postgresql":
            self._url = self._url.set(drivername="postgresql+psycopg")
        self._superiors = superiors_of(tree, scope)
        if self._sqlite:
            self._lock_by_file(Path(self._url.database or ""))
        writing = _engine(self._url, sqlite=self._sqlite, reader=False)
        self._writing = writing
        self.engine = _engine(self._url, sqlite=self._sqlite, reader=True)
        try:
            self._connection = writing.connect()
            self._statements = _statements(writing.dialect, sqlite=self._sqlite)
            if not self._sqlite:
                self._lock_by_session()
            self._migrate()
            self._take_over(tree)
        except sa.exc.OperationalError as failure:
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
        """Close the connections and give the lock back."""
        self.engine.dispose()
        connection = getattr(self, "_connection", None)
        if connection is not None:
            connection.close()
        self._writing.dispose()
        if self._lock_file is not None:
            os.close(self._lock_file)
            self._lock_file = None

    # ------------------------------------------------------------ writing

    def write(self, batch: Batch) -> None:
        """Write what a batch changes, durably, in one transaction; it is on disk when this returns."""
        with self._connection.begin():
            self._add_tallies(batch.tallies)
            cases = batch.cases
            self._run("drop_case", [key for key, case in cases.items() if case is None])
            self._run("drop_clocks", [key for key, case in cases.items() if case is None])
            self._run(
                "put_case",
                [
                    (*key, case.stage, case.custody, case.category, case.channel, case.last_act_us)
                    for key, case in cases.items()
                    if case is not None
                ],
            )
            closed = {key for key, case in cases.items() if case is None}
            clocks = {key: due for key, due in batch.clocks.items() if (key[0], key[1]) not in closed}
            self._run("drop_clock", [key for key, due in clocks.items() if due is None])
            self._run("put_clock", [(*key, due) for key, due in clocks.items() if due is not None])
            self._put_marks(batch.marks.values())

    def forget(self, mark: Mark) -> None:
        """Take everything that one bureau has contributed out again, durably, and set its mark."""
        with self._connection.begin():
            own: dict[Packed, int] = {}
            rows = self._connection.execute(
                sa.select(
                    TALLIES.c.day, TALLIES.c.category, TALLIES.c.channel, TALLIES.c.measure, TALLIES.c.value
                ).where(TALLIES.c.bureau == mark.bureau, TALLIES.c.reach == ALONE)
            )
            for day, category, channel, measure, value in rows:
                own[day << 24 | category << 20 | channel << 16 | measure] = -value
            self._add_tallies({mark.bureau: own})
            self._connection.execute(
                sa.delete(TALLIES).where(
                    TALLIES.c.bureau.in_([mark.bureau, *self._superiors[mark.bureau]]), TALLIES.c.value == 0
                )
            )
            for table in (OPEN_CASES, OPEN_CLOCKS):
                self._connection.execute(sa.delete(table).where(table.c.bureau == mark.bureau))
            self._put_marks([mark])

    def marks(self) -> dict[str, Mark]:
        """Every bureau's mark that there is."""
        with self._connection.begin():
            return {row.bureau: Mark(**_row(row)) for row in self._connection.execute(sa.select(MARKS))}

    def _put_marks(self, marks: Iterable[Mark]) -> None:
        self._run("put_mark", [tuple(getattr(mark, name) for name in _MARK_COLUMNS) for mark in marks])

    def _add_tallies(self, own: Mapping[str, Mapping[Packed, int]]) -> None:
        rows = [
            (bureau, ALONE, *unpack(key), value) for bureau, tallies in own.items() for key, value in tallies.items()
        ]
        rows += [
            (bureau, WITH_SUBORDINATES, *unpack(key), value)
            for bureau, tallies in roll_up(own, self._superiors).items()
            for key, value in tallies.items()
        ]
        # In the order of the primary key: neighbours share pages, and two writers of a page never wait in a circle.
        rows.sort()
        self._run("add_tally", rows)

    def _run(self, name: str, rows: Sequence[tuple[Any, ...]]) -> None:
        if not rows:
            return
        self._connection.exec_driver_sql(self._statements[name], list(rows))

    # ------------------------------------------------------------ opening

    def _lock_by_file(self, database: Path) -> None:
        path = database.with_name(f"{database.name}.lock")
        try:
            database.parent.mkdir(parents=True, exist_ok=True)
            self._lock_file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        except OSError as failure:
            raise DatabaseUnavailable(self.name, failure.strerror or str(failure)) from failure
        try:
            fcntl.flock(self._lock_file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._lock_file)
            self._lock_file = None
            raise AnotherHubRuns(self.name) from None

    def _lock_by_session(self) -> None:
        with self._connection.begin():
            held = self._connection.execute(sa.select(sa.func.pg_try_advisory_lock(_LOCK_ID))).scalar_one()
        if not held:
            raise AnotherHubRuns(self.name)

    def _migrate(self) -> None:
        config = Config()
        config.set_main_option("script_location", str(Path(__file__).parent / "migrations").replace("%", "%%"))
        config.set_main_option("path_separator", "os")
        config.attributes["connection"] = self._connection
        with self._connection.begin():
            command.upgrade(config, "head")

    def _take_over(self, tree: BureauTree) -> None:
        """Check that the database is of this scope; sum the totals up anew when the tree is not the one they are of."""
        shape = _shape_of(self._superiors)
        with self._connection.begin():
            facts = {row.name: row.value for row in self._connection.execute(sa.select(FACTS))}
            found = facts.get(_SCOPE, self.scope)
            if found != self.scope:
                raise OtherScope(self.name, self.scope, found)
            if facts.get(_SHAPE) == shape:
                return
            if facts:
                self._sum_up()
            self._connection.execute(sa.delete(FACTS))
            self._connection.execute(
                sa.insert(FACTS), [{"name": _SCOPE, "value": self.scope}, {"name": _SHAPE, "value": shape}]
            )

    def _sum_up(self) -> None:
        """Sum the totals up from the bureaus' own rows; bureaus that are no longer in the tree keep theirs, alone."""
        self._connection.execute(sa.delete(TALLIES).where(TALLIES.c.reach == WITH_SUBORDINATES))
        totals: dict[tuple[Any, ...], int] = {}
        rows = self._connection.execute(sa.select(TALLIES).where(TALLIES.c.reach == ALONE))
        for part in rows.partitions(ROWS_READ):
            for bureau, _, *key, value in part:
                for superior in self._superiors.get(bureau, ()):
                    at = (superior, WITH_SUBORDINATES, *key)
                    totals[at] = totals.get(at, 0) + value
        self._run("add_tally", [(*key, value) for key, value in sorted(totals.items())])


_MARK_COLUMNS: Final = tuple(column.name for column in MARKS.columns)


def mark_of(row: sa.Row[Any]) -> Mark:
    """A row of the marks' table as the fold's own value."""
    return Mark(**_row(row))


def superiors_of(tree: BureauTree, scope: str) -> dict[str, tuple[str, ...]]:
    """For each bureau of a scope, whose totals it counts in: those of its superiors there, and its own if it is one.

    Raises `UnknownBureau` when the scope is not in the tree.
    """
    found: dict[str, tuple[str, ...]] = {}
    for bureau in tree.subtree(scope):
        line = tree.superiors_and_self(bureau)
        within = line[: line.index(scope) + 1]
        found[bureau] = within if tree.children(bureau) else within[1:]
    return found


def _row(row: sa.Row[Any]) -> dict[str, Any]:
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values["hash"] = bytes(values["hash"])
    return values


def _shape_of(superiors: Mapping[str, Sequence[str]]) -> str:
    text = "\n".join(f"{bureau} {' '.join(line)}" for bureau, line in sorted(superiors.items()))
    return hashlib.sha256(text.encode()).hexdigest()


def _engine(url: sa.URL, *, sqlite: bool, reader: bool) -> sa.Engine:
    if not sqlite:
        engine = sa.create_engine(url, pool_size=READERS_MAX, max_overflow=0, pool_pre_ping=reader)
        options = "SET default_transaction_read_only = on" if reader else "SET synchronous_commit = on"

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
            connection.execute("PRAGMA cache_size = -65536")
            connection.execute("PRAGMA wal_autocheckpoint = 8192")

    @sa.event.listens_for(engine, "begin")
    def _begin(connection: sa.Connection) -> None:
        connection.exec_driver_sql("BEGIN" if reader else "BEGIN IMMEDIATE")

    return engine


def _statements(dialect: sa.Dialect, *, sqlite: bool) -> dict[str, str]:
    """The writer's statements, compiled once, run over many tuples: keys or columns in table order."""
    positional = dialect if sqlite else type(dialect)(paramstyle="format")  # type: ignore[call-arg]
    insert = sqlite_insert if sqlite else postgresql_insert

    def put(table: sa.Table, *, add: str | None = None) -> str:
        keys = [column.name for column in table.primary_key]
        statement = insert(table)
        changed = (
            {add: table.c[add] + statement.excluded[add]}
            if add
            else {column.name: statement.excluded[column.name] for column in table.columns if column.name not in keys}
        )
        return str(statement.on_conflict_do_update(index_elements=keys, set_=changed).compile(dialect=positional))

    def drop(table: sa.Table, *columns: str) -> str:
        statement = sa.delete(table).where(*(table.c[name] == sa.bindparam(name) for name in columns))
        return str(statement.compile(dialect=positional))

    return {
        "add_tally": put(TALLIES, add="value"),
        "put_mark": put(MARKS),
        "put_case": put(OPEN_CASES),
        "drop_case": drop(OPEN_CASES, "bureau", "case_id"),
        "put_clock": put(OPEN_CLOCKS),
        "drop_clock": drop(OPEN_CLOCKS, "bureau", "case_id", "kind", "department"),
        "drop_clocks": drop(OPEN_CLOCKS, "bureau", "case_id"),
    }
