"""Writing tens of thousands of rows of a table at once, as each database does it best.

SQLite runs a one-row statement over them inside one call of its driver; PostgreSQL takes one array for each column.
Keys must differ from row to row.
"""

import json
from collections.abc import Iterable, Sequence
from typing import Any, Final

import sqlalchemy as sa
from sqlalchemy.dialects.postgresql import ARRAY
from sqlalchemy.dialects.postgresql import insert as postgresql_insert
from sqlalchemy.dialects.sqlite import insert as sqlite_insert

ROWS_MAX: Final = 20_000
"""Rows in one statement of PostgreSQL: a few megabytes of parameters."""

Statement = str
"""The driver's own text, compiled once."""


class Bulk:
    """Statements for one connection, which the caller has put into a transaction."""

    def __init__(self, connection: sa.Connection) -> None:
        self._connection = connection
        self._sqlite = connection.dialect.name == "sqlite"
        self._dialect = connection.dialect if self._sqlite else type(connection.dialect)(paramstyle="format")  # type: ignore[call-arg]

    def put(self, table: sa.Table, *, keep: tuple[str, int] | None = None) -> Statement:
        """Adds rows, tuples in the table's column order, or replaces those of the same key.

        `keep` names a column that stays as it is where that value is given for it.
        """
        names = [column.name for column in table.columns]
        keys = [column.name for column in table.primary_key]
        if self._sqlite:
            insert: Any = sqlite_insert(table)
        else:
            insert = postgresql_insert(table).from_select(names, sa.select(*_given(table, names).c))
        changed: dict[str, Any] = {name: insert.excluded[name] for name in names if name not in keys}
        if keep is not None:
            column, value = keep
            given = insert.excluded[column]
            changed[column] = sa.case((given == sa.literal_column(str(value)), table.c[column]), else_=given)
        return self._compile(insert.on_conflict_do_update(index_elements=keys, set_=changed))

    def drop(self, table: sa.Table, *names: str) -> Statement:
        """Deletes rows by these columns, given as tuples in that order."""
        if self._sqlite:
            return self._compile(sa.delete(table).where(*(table.c[name] == sa.bindparam(name) for name in names)))
        given = _given(table, names)
        return self._compile(sa.delete(table).where(*(table.c[name] == given.c[name] for name in names)))

    def find(self, table: sa.Table, fixed: Sequence[str], key: str, *wanted: str) -> Statement:
        """Reads columns of the rows that have these values in the fixed columns and one of many in the key's."""
        column = table.c[key]
        if self._sqlite:
            among: Any = column.in_(sa.select(sa.func.json_each(sa.bindparam("given")).table_valued("value").c.value))
        else:
            among = column == sa.any_(sa.bindparam("given", type_=ARRAY(column.type)))
        fixed_ones = (table.c[name] == sa.bindparam(name) for name in fixed)
        return self._compile(sa.select(column, *(table.c[name] for name in wanted)).where(*fixed_ones, among))

    def found(self, statement: Statement, fixed: tuple[Any, ...], keys: list[str]) -> Iterable[Any]:
        """The rows that a statement of `find` reads."""
        given = json.dumps(keys) if self._sqlite else keys
        return self._connection.exec_driver_sql(statement, (*fixed, given))

    def run(self, statement: Statement, rows: Iterable[tuple[Any, ...]]) -> None:
        """Run a statement over rows."""
        waiting = list(rows)
        if not waiting:
            return
        if self._sqlite:
            self._connection.exec_driver_sql(statement, waiting)
            return
        for start in range(0, len(waiting), ROWS_MAX):
            columns = zip(*waiting[start : start + ROWS_MAX], strict=True)
            self._connection.exec_driver_sql(statement, tuple(list(column) for column in columns))

    def _compile(self, statement: sa.ClauseElement) -> Statement:
        return str(statement.compile(dialect=self._dialect))


def _given(table: sa.Table, names: Iterable[str]) -> sa.TableValuedAlias:
    """The rows as PostgreSQL reads them from one array a column."""
    wanted = list(names)
    arrays = [sa.bindparam(f"given_{name}", type_=ARRAY(table.c[name].type)) for name in wanted]
    columns = [sa.column(name, table.c[name].type) for name in wanted]
    return sa.func.unnest(*arrays).table_valued(*columns, name="given").render_derived()
