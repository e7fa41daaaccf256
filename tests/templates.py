"""Databases that are new are made by the statements that the migrations ran on the first one of their kind.

To run all migrations again for each of some thousand databases takes fifty milliseconds of a core every time, most of
it to compile the same statements. The first of each kind in a process goes the product's way, and so does every database
that holds something already.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.runtime.database import Database

Statements = list[tuple[str, Any]]
Migrate = Callable[[Database, Path], None]

_ASIDE: Final = ("SELECT", "PRAGMA", "SHOW", "BEGIN")
"""How statements begin that make nothing: they read, or open the transaction."""

_made: Final[dict[tuple[Path, bool], Statements]] = {}


def from_template(migrate: Migrate) -> Migrate:
    """The product's way to bring a database up to date, with a shorter one for those that are empty."""

    def shorter(database: Database, scripts: Path) -> None:
        kind = (scripts, database.is_sqlite)
        if not _is_empty(database):
            migrate(database, scripts)
        elif kind in _made:
            with database.writing.begin():
                for statement, parameters in _made[kind]:
                    database.writing.exec_driver_sql(statement, parameters)
        else:
            with _listening(database.writing) as statements:
                migrate(database, scripts)
            _made[kind] = statements

    return shorter


def _is_empty(database: Database) -> bool:
    tables = (
        "SELECT count(*) FROM sqlite_master"
        if database.is_sqlite
        else "SELECT count(*) FROM pg_class WHERE relnamespace = 'public'::regnamespace"
    )
    with database.writing.begin():
        return bool(database.writing.exec_driver_sql(tables).scalar() == 0)


@contextmanager
def _listening(connection: sa.Connection) -> Iterator[Statements]:
    statements: Statements = []

    def heard(_connection: sa.Connection, _cursor: object, statement: str, parameters: Any, *_: object) -> None:
        if not statement.lstrip().startswith(_ASIDE):
            statements.append((statement, parameters))

    sa.event.listen(connection, "before_cursor_execute", heard)
    try:
        yield statements
    finally:
        sa.event.remove(connection, "before_cursor_execute", heard)
