"""One database, one writer: who may open it, what it is opened with, and the statements made for it."""

import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import sqlalchemy as sa

from kuaixiang.runtime.database import (
    CHECKPOINT_ROWS,
    Database,
    DatabaseHeld,
    DatabaseUnavailable,
    LockLost,
    UnsupportedDatabase,
)
from node.ledger.database import MIGRATIONS
from node.ledger.schema import CURSORS, PEERS


def opened(url: str, service: str = "ledger") -> Database:
    return Database(url, service=service, migrations=MIGRATIONS)


@pytest.fixture
def database(database_url: str) -> Iterator[Database]:
    """A database with the ledger's tables."""
    with opened(database_url) as made:
        yield made


def cursors(database: Database) -> list[tuple[str, int]]:
    with database.reading() as connection:
        return [(row.bureau, row.published_seq) for row in connection.execute(sa.select(CURSORS).order_by("bureau"))]


def test_a_database_is_held_by_one(database: Database, database_url: str) -> None:
    with pytest.raises(DatabaseHeld, match="Another ledger holds the database"):
        opened(database_url)


def test_a_closed_database_can_be_opened_again(database_url: str) -> None:
    for _ in range(3):
        opened(database_url).close()


@pytest.mark.parametrize("end", [Database.close, Database.renew_readers])
def test_a_connection_that_is_lent_when_readers_end_is_closed_when_it_is_given_back(
    database: Database, end: Callable[[Database], None]
) -> None:
    with database.reading() as lent:
        driver: Any = lent.connection.driver_connection
        end(database)
        assert [] == lent.execute(sa.select(CURSORS)).all()
    with pytest.raises((sqlite3.ProgrammingError, psycopg.OperationalError), match="closed"):
        driver.execute("SELECT 1")


@pytest.mark.postgres
def test_a_fenced_writer_whose_session_was_ended_writes_nothing_more(fresh_postgres_url: str) -> None:
    with opened(fresh_postgres_url) as database:
        database.fence()
        put = database.put(CURSORS)
        with database.writing.begin():
            session = database.writing.execute(sa.select(sa.func.pg_backend_pid())).scalar_one()
        with database.reading() as connection:
            connection.execute(sa.select(sa.func.pg_terminate_backend(session)))
        for expected in (sa.exc.DBAPIError, LockLost, LockLost):
            with pytest.raises(expected), database.writing.begin():
                database.run(put, [("330102", 7)])
        assert [] == cursors(database)


def test_a_refused_opening_leaves_the_holder_as_it_was(database: Database, database_url: str) -> None:
    with pytest.raises(DatabaseHeld):
        opened(database_url)
    with pytest.raises(DatabaseHeld):
        opened(database_url)
    with database.writing.begin():
        database.run(database.put(CURSORS), [("330102", 7)])
    assert [("330102", 7)] == cursors(database)


def test_a_reader_cannot_write(database: Database) -> None:
    with database.reading() as connection, pytest.raises(sa.exc.DBAPIError, match=r"readonly|read-only"):
        connection.execute(sa.insert(CURSORS).values(bureau="330102", published_seq=1))


def test_a_reader_has_one_consistent_view(database: Database) -> None:
    with database.reading() as connection:
        isolation = "SERIALIZABLE" if database.is_sqlite else "READ COMMITTED"
        assert isolation == connection.get_isolation_level()
        if database.is_sqlite:
            connection.execute(sa.select(CURSORS)).all()
            with database.writing.begin():
                database.run(database.put(CURSORS), [("330102", 7)])
            assert [] == connection.execute(sa.select(CURSORS)).all()
    assert [("330102", 7)][: int(database.is_sqlite)] == cursors(database)


def test_what_is_not_committed_is_not_there(database: Database) -> None:
    with pytest.raises(ZeroDivisionError), database.writing.begin():
        database.run(database.put(CURSORS), [("330102", 7)])
        raise ZeroDivisionError
    assert [] == cursors(database)


@pytest.mark.parametrize("count", [0, 1, 2, 3, 64, 65, 200])
def test_many_rows_are_added_replaced_and_dropped(database: Database, count: int) -> None:
    rows = [(f"{number:06d}", number) for number in range(count)]
    with database.writing.begin():
        database.run(database.insert(CURSORS), rows)
        database.run(database.put(CURSORS), [(bureau, seq + 1) for bureau, seq in rows])
    assert [(bureau, seq + 1) for bureau, seq in rows] == cursors(database)
    with database.writing.begin():
        database.run(database.drop(CURSORS, "bureau"), [(bureau,) for bureau, _ in rows[1:]])
    assert [(bureau, seq + 1) for bureau, seq in rows[:1]] == cursors(database)


def test_of_rows_of_one_key_the_last_stays(database: Database) -> None:
    with database.writing.begin():
        database.run(database.put(CURSORS), [("330102", 1), ("330106", 5), ("330102", 2), ("330102", 3)])
    assert [("330102", 3), ("330106", 5)] == cursors(database)


def test_a_number_can_be_added_to_instead(database: Database) -> None:
    adding = database.put(CURSORS, add="published_seq")
    for amount in (3, 4):
        with database.writing.begin():
            database.run(adding, [("330102", amount)])
    assert [("330102", 7)] == cursors(database)


def test_rows_are_dropped_by_several_columns_together(database: Database) -> None:
    rows = [("330102", "330100", 0, 0), ("330102", "330000", 0, 0), ("330106", "330100", 0, 0)]
    with database.writing.begin():
        database.run(database.put(PEERS), rows)
        database.run(database.drop(PEERS, "bureau", "peer"), [("330102", "330000"), ("330106", "000000")])
    with database.reading() as connection:
        assert [rows[0], rows[2]] == [tuple(row) for row in connection.execute(sa.select(PEERS).order_by("bureau"))]


def test_commits_are_durable(database: Database) -> None:
    with database.writing.begin():
        question = "PRAGMA synchronous" if database.is_sqlite else "SHOW synchronous_commit"
        answer = database.writing.exec_driver_sql(question).scalar_one()
    assert (2 if database.is_sqlite else "on") == answer


def test_sqlite_writes_ahead_and_only_the_writer_checkpoints(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'ledger.db'}") as database, database.reading() as connection:
        assert "wal" == connection.exec_driver_sql("PRAGMA journal_mode").scalar_one()
        assert 0 == connection.exec_driver_sql("PRAGMA wal_autocheckpoint").scalar_one()
        assert 1 == connection.exec_driver_sql("PRAGMA query_only").scalar_one()


def test_the_log_is_folded_in_between_commits_once_enough_has_changed(tmp_path: Path) -> None:
    file = tmp_path / "ledger.db"
    with opened(f"sqlite:///{file}") as database:
        add = database.insert(PEERS)
        database.truncate_log()
        before = file.stat().st_size
        with database.committing():
            database.run(add, [(f"{number:06}", "330100", 0, 0) for number in range(CHECKPOINT_ROWS // 2)])
        database.fold_log()
        assert before == file.stat().st_size
        with database.committing():
            database.run(add, [(f"{number:06}", "330200", 0, 0) for number in range(CHECKPOINT_ROWS // 2)])
        database.fold_log()
        assert before < file.stat().st_size


def test_the_lock_of_sqlite_is_a_file_beside_it_for_its_owner_alone(tmp_path: Path) -> None:
    with opened(f"sqlite:///{tmp_path / 'new' / 'ledger.db'}"):
        assert 0o600 == (tmp_path / "new" / "ledger.db.lock").stat().st_mode & 0o777


def test_a_file_that_is_no_database_is_named(tmp_path: Path) -> None:
    (tmp_path / "ledger.db").write_bytes(b"nothing of the kind" * 100)
    with pytest.raises(DatabaseUnavailable, match="file is not a database"):
        opened(f"sqlite:///{tmp_path / 'ledger.db'}")
    (tmp_path / "ledger.db").unlink()
    opened(f"sqlite:///{tmp_path / 'ledger.db'}").close()


def test_a_folder_that_cannot_be_made_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DatabaseUnavailable, match=r"ledger\.db"):
        opened(f"sqlite:///{tmp_path / 'file' / 'ledger.db'}")


def test_a_server_that_is_not_there_is_named_without_its_password() -> None:
    with pytest.raises(DatabaseUnavailable) as refusal:
        opened("postgresql://kuaixiang:secret@127.0.0.1:1/ledger")
    assert "127.0.0.1" in str(refusal.value)
    assert "secret" not in str(refusal.value)


@pytest.mark.parametrize("url", ["mysql://127.0.0.1/ledger", "sqlite://"])
def test_another_kind_of_database_is_refused(url: str) -> None:
    with pytest.raises(UnsupportedDatabase):
        opened(url)


@pytest.mark.postgres
def test_services_of_different_names_share_a_postgresql(fresh_postgres_url: str) -> None:
    with opened(fresh_postgres_url), opened(fresh_postgres_url, "hub") as hub:
        assert "hub" == hub._service


def test_a_database_of_sqlite_is_an_ordinary_file(tmp_path: Path) -> None:
    path = tmp_path / "ledger.db"
    opened(f"sqlite:///{path}").close()
    with sqlite3.connect(path) as connection:
        names = {name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    connection.close()
    assert {"journal", "private", "ledger_version"} <= names
