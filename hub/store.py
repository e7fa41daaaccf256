"""The hub's database: marks, tallies, open cases, editions. SQLite by default, PostgreSQL for a nation.

One writer, which holds the database for itself. What a batch of entries changes is written in one transaction; messages
are acknowledged after it. A commit that fails ends the process: nobody knows what a disk that reported an error has
kept, and the next start goes on from the marks.

Tallies are kept for each bureau alone (`reach` 0) and, for each bureau with subordinates, for all of them and itself
(`reach` 1), so that any figure of any tier is read and not summed over the tree. Both are kept by month and by year
once more (`reach` 2 and 4, and 3 and 5 for the bureau alone over all grounds), so that a year is not summed over its
days. A row has all that is counted of one bureau and one day, month or year (`hub.cells`); rows of a day lie together,
so that what is written now touches few pages, and so that all bureaus of a year are read in one go. All of it follows
from the bureaus' own rows and the tree: when another tree is adopted, or given at the start, it is summed up anew. When
entries have come to be counted in another way (`hub.measures.DEFINITIONS`), the marks go back to the beginning and
every ledger is folded again.
"""

import dataclasses
import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import sqlalchemy as sa
import structlog

from hub.bulk import Bulk
from hub.editions import Cell, Edition, OverrideAsked
from hub.fold import UNTOLD, Batch, Mark, first_of_month, first_of_year
from hub.measures import DEFINITIONS
from hub.sums import Sums
from kuaixiang.domain.succession import newer
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.database import Database, DatabaseError
from kuaixiang.runtime.directives import Published, show_tree, tree_of
from kuaixiang.runtime.in_force import InForce
from kuaixiang.wire.v1 import directive_pb2

MIGRATIONS: Final = Path(__file__).parent / "migrations"
ALONE: Final = 0
"""Reach of a tally: the bureau by itself."""
WITH_SUBORDINATES: Final = 1
"""Reach of a tally: the bureau and everything under it; kept only where there is something under it."""
MONTHLY: Final = 2
"""Reach of a tally: as before, a whole month under its first day."""
ALONE_MONTHLY: Final = 3
"""Reach of a tally: the bureau by itself, a whole month, over all categories, channels and kinds of departments."""

YEARLY: Final = 4
"""Reach of a tally: the bureau and everything under it, a whole year under its first day."""
ALONE_YEARLY: Final = 5
"""Reach of a tally: the bureau by itself, a whole year, over all categories, channels and kinds of departments."""

LONGER: Final[Mapping[int, tuple[Callable[[int], int], int]]] = {
    MONTHLY: (first_of_month, 31),
    ALONE_MONTHLY: (first_of_month, 31),
    YEARLY: (first_of_year, 366),
    ALONE_YEARLY: (first_of_year, 366),
}
"""Reaches of tallies that stand under the first day of a period: which it is, and days after which another begins."""
_EACH_DAY: Final[tuple[Callable[[int], int], int]] = (int, 1)

DAYS_ASKED_MAX: Final = 31
"""Days (months, years) read by one statement: a month."""
BUREAUS_ASKED_MAX: Final = 500
"""Bureaus named in one statement, since SQLite takes a limited number of parameters; for more all are read."""

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
    sa.Column("restored", sa.Text, nullable=False),
)
PASSED: Final = sa.Table(
    "passed",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("seq", sa.BigInteger, primary_key=True),
    sa.Column("hash", sa.LargeBinary, nullable=False),
)
"""Hashes of entries at which a batch has ended, one in some thousand: what a later generation is held to."""
TALLIES: Final = sa.Table(
    "tallies",
    METADATA,
    sa.Column("reach", sa.SmallInteger, primary_key=True),
    sa.Column("day", sa.Integer, primary_key=True),
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("cells", sa.LargeBinary, nullable=False),
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
    sa.Column("department_kind", sa.SmallInteger, nullable=False),
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
    sa.Column("soon_us", sa.BigInteger, nullable=False),
    sa.Column("extended", sa.SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
EDITIONS: Final = sa.Table(
    "editions",
    METADATA,
    sa.Column("scope", sa.String(6), primary_key=True),
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("edition", sa.Integer, primary_key=True),
    sa.Column("first_day", sa.Integer, nullable=False),
    sa.Column("last_day", sa.Integer, nullable=False),
    sa.Column("published_at_us", sa.BigInteger, nullable=False),
    sa.Column("published_by", sa.Text, nullable=False),
    sa.Column("definitions", sa.Integer, nullable=False),
    sa.Column("tree_version", sa.Text, nullable=False),
    sa.Column("bureaus_expected", sa.Integer, nullable=False),
    sa.Column("bureaus_heard", sa.Integer, nullable=False),
    sa.Column("bureaus_up_to_date", sa.Integer, nullable=False),
    sa.Column("bureaus_quarantined", sa.Integer, nullable=False),
    sa.Column("data_as_of_us", sa.BigInteger, nullable=False),
    sa.Column("missing", sa.Text, nullable=False),
    sa.Column("override_by", sa.Text, nullable=False),
    sa.Column("override_second", sa.Text, nullable=False),
    sa.Column("override_reason", sa.Text, nullable=False),
    sqlite_with_rowid=False,
)
PUBLISHED: Final = sa.Table(
    "published",
    METADATA,
    sa.Column("scope", sa.String(6), primary_key=True),
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("edition", sa.Integer, primary_key=True),
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("reach", sa.SmallInteger, primary_key=True),
    sa.Column("category", sa.SmallInteger, primary_key=True),
    sa.Column("channel", sa.SmallInteger, primary_key=True),
    sa.Column("department_kind", sa.SmallInteger, primary_key=True),
    sa.Column("measure", sa.Integer, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
OVERRIDES_ASKED: Final = sa.Table(
    "overrides_asked",
    METADATA,
    sa.Column("scope", sa.String(6), primary_key=True),
    sa.Column("period", sa.String(10), primary_key=True),
    sa.Column("bureau", sa.String(6), nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("reason", sa.Text, nullable=False),
    sa.Column("asked_at_us", sa.BigInteger, nullable=False),
    sa.Column("until_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
RECONCILED: Final = sa.Table(
    "reconciled",
    METADATA,
    sa.Column("bureau", sa.String(6), primary_key=True),
    sa.Column("at_us", sa.BigInteger, nullable=False),
    sa.Column("differences", sa.Integer, nullable=False),
    sa.Column("unreachable", sa.SmallInteger, nullable=False),
    sqlite_with_rowid=False,
)
PUBLISHED_TREES: Final = sa.Table(
    "published_trees",
    METADATA,
    sa.Column("published_at_us", sa.BigInteger, primary_key=True),
    sa.Column("directive", sa.LargeBinary, nullable=False),
    sa.Column("signature", sa.LargeBinary, nullable=False),
)
"""The newest tree that headquarters has published, as it signed it."""
FACTS: Final = sa.Table(
    "hub_facts",
    METADATA,
    sa.Column("name", sa.Text, primary_key=True),
    sa.Column("value", sa.Text, nullable=False),
)
_SCOPE: Final = "scope"
_SHAPE: Final = "tree"
_DEFINITIONS: Final = "definitions"

_LOG: Final = structlog.get_logger(__name__)


class OtherScope(DatabaseError):
    """The database holds the figures of another scope."""

    def __init__(self, database: str, scope: str, found: str) -> None:
        self.database = database
        self.scope = scope
        self.found = found
        super().__init__(f"The database {database} is of the hub of {found}, not of {scope}. Give this hub its own.")


class Store:
    """The hub's side of its database. Writing is for one thread at a time, `reading` for any.

    The tree in force is the one given, or the one that headquarters has published, if that is newer.

    Opening takes the lock and brings the tables up to date. Raises `OtherScope`, `DatabaseHeld`, `UnsupportedDatabase`,
    `DatabaseUnavailable`; `UnknownBureau` when the scope is not in the tree.
    """

    def __init__(self, url: str, tree: BureauTree, scope: str) -> None:
        self.scope = scope
        self.trees = InForce(tree)
        self.tree_published_at_us = 0
        """Of the published tree that is kept; 0 when there is none."""
        self._superiors = superiors_of(tree, scope)
        self._database = Database(url, service="hub", migrations=MIGRATIONS)
        self._connection = self._database.writing
        self._bulk = bulk = Bulk(self._connection)
        self._put_tally, self._put_mark = map(bulk.put, (TALLIES, MARKS))
        self._put_case, self._put_passed = map(bulk.put, (OPEN_CASES, PASSED))
        self._find_tally = bulk.find(TALLIES, ("reach", "day"), "bureau", "cells")
        self._drop_tally = bulk.drop(TALLIES, "reach", "day", "bureau")
        self._put_clock = bulk.put(OPEN_CLOCKS, keep=("extended", UNTOLD))
        self._put_edition, self._put_published = map(bulk.put, (EDITIONS, PUBLISHED))
        self._drop_case = bulk.drop(OPEN_CASES, "bureau", "case_id")
        self._drop_clock = bulk.drop(OPEN_CLOCKS, "bureau", "case_id", "kind", "department")
        self._drop_clocks = bulk.drop(OPEN_CLOCKS, "bureau", "case_id")
        try:
            self._take_up_tree()
            self._take_over()
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
        self._database.close()

    @contextmanager
    def reading(self) -> Iterator[sa.Connection]:
        """A reader's connection; all that is read by it is of one instant."""
        with self._database.reading() as connection:
            if not self._database.is_sqlite:
                connection.exec_driver_sql("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            yield connection

    @property
    def tree(self) -> BureauTree:
        """The tree in force."""
        return self.trees.value

    # ------------------------------------------------------------ writing

    def adopt(self, tree: BureauTree, published: Published) -> None:
        """Keep a tree as it was published, sum up for the superiors that it names, and put it in force, durably."""
        before, self._superiors = self._superiors, superiors_of(tree, self.scope)
        row = {
            "published_at_us": published.content.published_at_us,
            "directive": published.signed.directive,
            "signature": published.signed.signature.SerializeToString(),
        }
        with self._connection.begin():
            self._connection.execute(sa.delete(PUBLISHED_TREES))
            self._connection.execute(sa.insert(PUBLISHED_TREES), [row])
            if before != self._superiors:
                self._sum_up()
                shape = sa.update(FACTS).where(FACTS.c.name == _SHAPE)
                self._connection.execute(shape.values(value=_shape_of(self._superiors)))
        self.tree_published_at_us = published.content.published_at_us
        self._put_in_force(tree)

    @contextmanager
    def writing(self) -> Iterator[sa.Connection]:
        """The writer's connection, in a transaction that is durable when the block has ended."""
        with self._connection.begin():
            yield self._connection

    def write(self, batch: Batch) -> None:
        """Write what a batch changes, durably, in one transaction; it is on disk when this returns."""
        run = self._bulk.run
        closed: list[tuple[str, str]] = []
        opened: list[tuple[Any, ...]] = []
        stopped: list[tuple[Any, ...]] = []
        running: list[tuple[Any, ...]] = []
        for bureau, changes in batch.changes.items():
            cases = changes.cases
            for case_id, case in cases.items():
                if case is None:
                    closed.append((bureau, case_id))
                else:
                    opened.append((bureau, case_id, *case))
            for key, clock in changes.clocks.items():
                if cases[key[0]] is None:
                    continue
                if clock is None:
                    stopped.append((bureau, *key))
                else:
                    running.append((bureau, *key, *clock))
        own = Sums.of_numbers({bureau: changes.counts for bureau, changes in batch.changes.items()})
        with self._connection.begin():
            self._add_tallies(everything(own, self._superiors))
            run(self._drop_case, closed)
            run(self._drop_clocks, closed)
            run(self._put_case, opened)
            run(self._drop_clock, stopped)
            run(self._put_clock, running)
            self._put_marks(batch.marks.values())
            run(self._put_passed, batch.passed)

    def passed(self, bureau: str) -> dict[int, bytes]:
        """The hashes that are kept of what was folded of a bureau, by position."""
        query = sa.select(PASSED.c.seq, PASSED.c.hash).where(PASSED.c.bureau == bureau)
        with self._connection.begin():
            return {row.seq: bytes(row.hash) for row in self._connection.execute(query)}

    def ahead(self) -> dict[str, tuple[int, bytes]]:
        """Bureaus that are folded again up to an entry that is known already: its position and hash."""
        of_both = PASSED.c.bureau == MARKS.c.bureau
        query = sa.select(PASSED).join(MARKS, of_both).where(PASSED.c.seq > MARKS.c.seq)
        with self._connection.begin():
            return {row.bureau: (row.seq, bytes(row.hash)) for row in self._connection.execute(query)}

    def forget(self, marks: Sequence[Mark], stands: Mapping[str, tuple[int, bytes]]) -> None:
        """Take everything that some bureaus have contributed out again, durably, and set their marks.

        `stands`: position and hash of an entry that a bureau's journal must have when it is folded again.
        """
        bureaus = [mark.bureau for mark in marks]
        with self._connection.begin():
            own = Sums.of_kept(read_tallies(self._connection, ALONE, bureaus))
            self._add_tallies(everything(own.negated(), self._superiors))
            for start in range(0, len(bureaus), BUREAUS_ASKED_MAX):
                some = bureaus[start : start + BUREAUS_ASKED_MAX]
                for table in (OPEN_CASES, OPEN_CLOCKS, PASSED):
                    self._connection.execute(sa.delete(table).where(table.c.bureau.in_(some)))
            self._put_marks(marks)
            self._bulk.run(self._put_passed, [(bureau, *entry) for bureau, entry in stands.items()])

    def has_open(self, bureau: str) -> bool:
        """Whether a bureau's ledger holds cases that are not written off, as far as it was folded."""
        found = sa.select(OPEN_CASES.c.case_id).where(OPEN_CASES.c.bureau == bureau).limit(1)
        with self.reading() as connection:
            return connection.execute(found).first() is not None

    def marks(self) -> dict[str, Mark]:
        """Every bureau's mark that there is."""
        with self._connection.begin():
            return {row.bureau: mark_of(row) for row in self._connection.execute(sa.select(MARKS))}

    def publish(self, edition: Edition, cells: Mapping[Cell, int]) -> tuple[Edition, bool]:
        """Keep an edition, durably, under the next number, or give the last one if it says the same; whether it is new.

        An edition of complete figures is never the same as one that somebody had published in spite of gaps. Whoever
        has asked for an override does not wait any more.
        """
        with self._connection.begin():
            self._drop_asked(edition.scope, edition.period)
            last = latest_edition(self._connection, edition.scope, edition.period)
            if last is not None:
                if last.complete >= edition.complete and cells == read_cells(self._connection, last):
                    return last, False
                edition = replace(edition, edition=last.edition + 1)
            key = (edition.scope, edition.period, edition.edition)
            self._bulk.run(self._put_edition, [tuple(getattr(edition, name) for name in _EDITION_COLUMNS)])
            self._bulk.run(self._put_published, [(*key, *cell, value) for cell, value in sorted(cells.items())])
            return edition, True

    def ask_override(self, asked: OverrideAsked) -> None:
        """Keep that an override is asked for, durably, in the place of what was asked for before."""
        with self._connection.begin():
            self._drop_asked(asked.scope, asked.period)
            self._connection.execute(sa.insert(OVERRIDES_ASKED), [dataclasses.asdict(asked)])

    def _drop_asked(self, scope: str, period: str) -> None:
        of = OVERRIDES_ASKED.c
        self._connection.execute(sa.delete(OVERRIDES_ASKED).where(of.scope == scope, of.period == period))

    def _put_marks(self, marks: Iterable[Mark]) -> None:
        rows = [tuple(getattr(mark, name) for name in _MARK_COLUMNS) for mark in marks]
        self._bulk.run(self._put_mark, rows)

    def _add_tallies(self, levels: Mapping[int, Sums]) -> None:
        """Add to what is kept, by reach."""
        kept: list[tuple[int, int, str, bytes]] = []
        empty: list[tuple[int, int, str]] = []
        for reach, sums in levels.items():
            touched = sums.touched()
            before = [
                (day, bureau, cells)
                for day, bureaus in touched.items()
                for bureau, cells in self._bulk.found(self._find_tally, (reach, day), bureaus)
            ]
            # In the order of the primary key, since neighbours share pages.
            rows = [(reach, *row) for row in sorted(sums.with_kept(before).frozen())]
            kept += rows
            left = {row[1:3] for row in rows}
            empty += [
                (reach, day, bureau)
                for day, bureaus in touched.items()
                for bureau in bureaus
                if (day, bureau) not in left
            ]
        self._bulk.run(self._put_tally, kept)
        self._bulk.run(self._drop_tally, empty)

    # ------------------------------------------------------------ opening

    def _take_up_tree(self) -> None:
        """Go on with the tree that was adopted last, if it is newer than the one given."""
        with self._connection.begin():
            row = self._connection.execute(sa.select(PUBLISHED_TREES)).one_or_none()
        tree = self.tree
        if row is not None:
            kept = directive_pb2.Directive.FromString(bytes(row.directive))
            self.tree_published_at_us = row.published_at_us
            published = tree_of(kept.tree)
            tree = published if newer(published, tree) else tree
            self._superiors = superiors_of(tree, self.scope)
        self._put_in_force(tree)

    def _put_in_force(self, tree: BureauTree) -> None:
        self.trees.adopt(tree)
        show_tree(tree)

    def _take_over(self) -> None:
        """Check that the database is of this scope, and that its tallies are of this tree and these definitions."""
        current = {_SCOPE: self.scope, _SHAPE: _shape_of(self._superiors), _DEFINITIONS: str(DEFINITIONS)}
        with self._connection.begin():
            facts = {row.name: row.value for row in self._connection.execute(sa.select(FACTS))}
            found = facts.get(_SCOPE, self.scope)
            if found != self.scope:
                raise OtherScope(self._database.name, self.scope, found)
            if facts == current:
                return
            if facts and facts.get(_DEFINITIONS) != current[_DEFINITIONS]:
                self._start_over()
            elif facts:
                self._sum_up()
            self._connection.execute(sa.delete(FACTS))
            self._connection.execute(
                sa.insert(FACTS), [{"name": name, "value": value} for name, value in current.items()]
            )

    def _start_over(self) -> None:
        """Drop what was folded by other definitions. How far each journal reaches is kept, so that it is read again.

        Each must still have the entry up to which it had been folded, and what it has lost stands: otherwise whoever
        was found to have rewritten his ledger would be counted by that from the next upgrade on.
        """
        _LOG.warning("Entries are counted in another way now; every ledger is folded again.", action="hub.start_over")
        for table in (TALLIES, OPEN_CASES, OPEN_CLOCKS, PASSED):
            self._connection.execute(sa.delete(table))
        marks = [mark_of(row) for row in self._connection.execute(sa.select(MARKS))]
        self._put_marks(map(self._as_before, marks))
        self._bulk.run(self._put_passed, [(mark.bureau, mark.seq, mark.hash) for mark in marks if mark.seq])

    @staticmethod
    def _as_before(mark: Mark) -> Mark:
        return mark.announce(mark.generation, mark.seq).back_to_the_start(mark.restored)

    def _sum_up(self) -> None:
        """Sum up anew what follows from the bureaus' own rows; those that have left the tree keep theirs, alone.

        A month at a time, so that it is not all in memory at once.
        """
        self._connection.execute(sa.delete(TALLIES).where(TALLIES.c.reach != ALONE))
        for _, days in groupby(days_kept(self._connection, ALONE), first_of_month):
            month = list(days)
            rows = read_tallies(self._connection, ALONE, None, month[0], month[-1])
            own = Sums.of_kept(row for row in rows if row[1] in self._superiors)
            self._add_tallies(derived(own, self._superiors))


_MARK_COLUMNS: Final = tuple(column.name for column in MARKS.columns)
_EDITION_COLUMNS: Final = tuple(column.name for column in EDITIONS.columns)
_CELL_COLUMNS: Final = ("bureau", "reach", "category", "channel", "department_kind", "measure")


def mark_of(row: sa.Row[Any]) -> Mark:
    """A row of the marks' table as the fold's own value."""
    values = dict(row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it
    values["hash"] = bytes(values["hash"])
    return Mark(**values)


def read_mark(connection: sa.Connection, bureau: str) -> Mark:
    """A bureau's committed mark; one at the start where there is none."""
    row = connection.execute(sa.select(MARKS).where(MARKS.c.bureau == bureau)).one_or_none()
    return Mark(bureau) if row is None else mark_of(row)


def derived(own: Sums, superiors: Mapping[str, Sequence[str]]) -> dict[int, Sums]:
    """What is kept besides the bureaus' own tallies, by its reach."""
    totals = own.upwards(superiors)
    months = totals.gathered(first_of_month)
    own_months = own.gathered(first_of_month, grounds=False)
    return {
        WITH_SUBORDINATES: totals,
        MONTHLY: months,
        ALONE_MONTHLY: own_months,
        YEARLY: months.gathered(first_of_year),
        ALONE_YEARLY: own_months.gathered(first_of_year),
    }


def everything(own: Sums, superiors: Mapping[str, Sequence[str]]) -> dict[int, Sums]:
    """All tallies that are kept, the bureaus' own ones first, by their reach."""
    return {ALONE: own, **derived(own, superiors)}


def among(column: sa.ColumnElement[str], bureaus: Collection[str]) -> list[sa.ColumnElement[bool]]:
    """What keeps a statement to these bureaus' rows; nothing where they are too many to name, so that all are read."""
    return [column.in_(bureaus)] if len(bureaus) <= BUREAUS_ASKED_MAX else []


def days_kept(connection: sa.Connection, reach: int, first: int | None = None, last: int | None = None) -> list[int]:
    """The days from `first` to `last` (None: unbounded) of which there are tallies of a reach, in order.

    Each is looked up after the one before: no row between is read.
    """
    bounds = [TALLIES.c.reach == reach]
    if last is not None:
        bounds.append(TALLIES.c.day <= last)
    start = sa.select(sa.func.min(TALLIES.c.day).label("day")).where(
        *bounds, *([] if first is None else [TALLIES.c.day >= first])
    )
    day = start.cte("days", recursive=True)
    following = sa.select(sa.func.min(TALLIES.c.day)).where(*bounds, TALLIES.c.day > day.c.day).scalar_subquery()
    days = day.union_all(sa.select(following).where(day.c.day.is_not(None)))
    return list(connection.scalars(sa.select(days.c.day).where(days.c.day.is_not(None)).order_by(days.c.day)))


def _days(connection: sa.Connection, reach: int, first: int | None, last: int | None) -> Sequence[int]:
    """The days of a reach from `first` to `last` of which there may be tallies: looked up where they are many."""
    first_of, beyond = LONGER.get(reach, _EACH_DAY)
    if first is None or last is None or last - first >= DAYS_ASKED_MAX * beyond:
        return days_kept(connection, reach, first, last)
    days, day = [], first_of(first)
    while day <= last:
        days.append(day)
        day = first_of(day + beyond)
    return days if not days or days[0] >= first else days[1:]


_OF_ALL: Final = (
    sa.select(TALLIES.c.day, TALLIES.c.bureau, TALLIES.c.cells)
    .where(TALLIES.c.reach == sa.bindparam("reach"), TALLIES.c.day.in_(sa.bindparam("days", expanding=True)))
    .order_by(TALLIES.c.day)
)
_OF_SOME: Final = _OF_ALL.where(TALLIES.c.bureau.in_(sa.bindparam("bureaus", expanding=True)))
"""Made once: making a statement takes longer than reading a nation's month by it."""


def read_tallies(
    connection: sa.Connection,
    reach: int,
    bureaus: Sequence[str] | None = None,
    first: int | None = None,
    last: int | None = None,
) -> Iterator[sa.Row[int, str, bytes]]:
    """Tallies of some bureaus (None: all) from `first` to `last`, day by day, as (day, bureau, cells as kept)."""
    days = _days(connection, reach, first, last)
    wanted = None if bureaus is None else frozenset(bureaus)
    for start in range(0, len(days), DAYS_ASKED_MAX):
        some = days[start : start + DAYS_ASKED_MAX]
        if bureaus is not None and len(bureaus) <= BUREAUS_ASKED_MAX:
            yield from connection.execute(_OF_SOME, {"reach": reach, "days": some, "bureaus": bureaus}).all()
            continue
        rows = connection.execute(_OF_ALL, {"reach": reach, "days": some}).all()
        yield from rows if wanted is None else [row for row in rows if row[1] in wanted]


def latest_edition(connection: sa.Connection, scope: str, period: str) -> Edition | None:
    """The last edition of a period, if there is one."""
    row = connection.execute(
        sa.select(EDITIONS)
        .where(EDITIONS.c.scope == scope, EDITIONS.c.period == period)
        .order_by(EDITIONS.c.edition.desc())
        .limit(1)
    ).one_or_none()
    return None if row is None else Edition(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def override_asked(connection: sa.Connection, scope: str, period: str) -> OverrideAsked | None:
    """Who has asked last to have a period's incomplete figures published, if somebody has; perhaps too long ago."""
    of = OVERRIDES_ASKED.c
    row = connection.execute(sa.select(OVERRIDES_ASKED).where(of.scope == scope, of.period == period)).one_or_none()
    return None if row is None else OverrideAsked(**row._mapping)  # noqa: SLF001 - SQLAlchemy's public name for it


def read_cells(connection: sa.Connection, edition: Edition) -> dict[Cell, int]:
    """The figures of an edition."""
    rows = connection.execute(
        sa.select(*(PUBLISHED.c[name] for name in _CELL_COLUMNS), PUBLISHED.c.value).where(
            PUBLISHED.c.scope == edition.scope,
            PUBLISHED.c.period == edition.period,
            PUBLISHED.c.edition == edition.edition,
        )
    )
    return {
        (row.bureau, row.reach, row.category, row.channel, row.department_kind, row.measure): row.value for row in rows
    }


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


def _shape_of(superiors: Mapping[str, Sequence[str]]) -> str:
    text = "\n".join(f"{bureau} {' '.join(line)}" for bureau, line in sorted(superiors.items()))
    return hashlib.sha256(text.encode()).hexdigest()
