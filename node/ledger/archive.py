"""The archive of a ledger: closed years of its journals, out of what is worked with and read as if they were in it.

Of each bureau the archive has the journal's first entries, up to the end of a year, with their private parts; and of
the cases that are over by then, what they are listed and found by. Beside an SQLite file it is another one
(`<database>.archive`), in PostgreSQL a schema. Readers do not know of it: their connections begin with views that put
database and archive together under the names of the tables, and of a ledger without an archive they read the tables.

Archiving is for a ledger that does not run. Entries and cases are copied and the copies committed; what is on the disk
then is compared with the ledger, row by row, and its chain computed anew up to the entry in the ledger; then one row of
`archives` says that the archive has them; only then they are deleted here. Whoever opens the ledger after an
interruption deletes there what no such row tells of, and here what one does: nothing is lost, and nothing is twice.
A case whose row is here is not archived, whatever the archive has of it: so one that is reopened comes back.

The archive's entries never change. Its private parts end by the same rule as all (`node.retention`): they are hidden in
the transaction that records it, and then deleted there.
"""

import shutil
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from kuaixiang.domain.words import Custody, Stage
from kuaixiang.runtime.database import FREE_BYTES_MIN, Database, DatabaseError
from kuaixiang.wire import chain
from node.ledger import schema

DELETING, DONE = 1, 2
"""How far the archiving of a year has come, once it is counted on: still here too, and gone from here."""
ENTRIES_AT_ONCE: Final = 5_000
"""Entries of one transaction: some 50 ms, and a few megabytes of log."""
CASES_AT_ONCE: Final = 500
"""Cases of one transaction, with the words of their entries."""
ERASE_AGAIN_SECONDS: Final = 60.0
"""After what could not be deleted from the archive is tried again: a backup may read it for minutes."""

_OF_ENTRIES: Final = ((schema.PRIVATE, schema.A_PRIVATE), (schema.JOURNAL, schema.A_JOURNAL))
_OF_CASES: Final = ((schema.CASE_WORDS, schema.A_CASE_WORDS), (schema.CASES, schema.A_CASES))
"""The tables here and there; of two the one that tells of the other comes last."""

_log: Final = structlog.get_logger(__name__)
_ENTRIES_OF: Final = (
    "SELECT {journal}, p.sealed FROM {of}.journal j LEFT JOIN {of}.private p ON p.bureau = j.bureau AND p.seq = j.seq"
)
_NOT_ERASED: Final = (
    " AND NOT EXISTS (SELECT 1 FROM {own}.archive_erasures e WHERE e.bureau = p.bureau AND e.seq = p.seq)"
)
_CASES_OF: Final = "SELECT {cases} FROM {of}.cases c"
_NOT_HERE: Final = " WHERE NOT EXISTS (SELECT 1 FROM {own}.cases h WHERE h.bureau = c.bureau AND h.case_id = c.case_id)"
_VIEWS_ALONE: Final = {
    "entries": (_ENTRIES_OF,),
    "known_cases": (_CASES_OF,),
    "archived_cases": (f"{_CASES_OF} WHERE 1 = 0",),
}
_VIEWS_OF_BOTH: Final = {
    "journal": ("SELECT {journal} FROM {of}.journal j", "SELECT {journal} FROM {of}.journal j"),
    "entries": (_ENTRIES_OF, _ENTRIES_OF + _NOT_ERASED),
    "known_cases": (_CASES_OF, _CASES_OF + _NOT_HERE),
    "archived_cases": (f"{_CASES_OF} WHERE 1 = 0", _CASES_OF + _NOT_HERE),
}
"""What a view selects here, and there."""
_WORDS_SQLITE: Final = (
    """
    CREATE VIRTUAL TABLE {archive}.case_words_index USING fts5(
        words, content='case_words', content_rowid='doc', tokenize='ascii', detail=none, columnsize=0
    )
    """,
    """
    CREATE TRIGGER {archive}.private_erased AFTER DELETE ON private BEGIN
        DELETE FROM case_words WHERE doc = (CAST(old.bureau AS INTEGER) << 40) + old.seq;
    END
    """,
    """
    CREATE TRIGGER {archive}.case_words_added AFTER INSERT ON case_words BEGIN
        INSERT INTO case_words_index (rowid, words) VALUES (new.doc, new.words);
    END
    """,
    """
    CREATE TRIGGER {archive}.case_words_dropped AFTER DELETE ON case_words BEGIN
        INSERT INTO case_words_index (case_words_index, rowid, words) VALUES ('delete', old.doc, old.words);
    END
    """,
)
_WORDS_POSTGRESQL: Final = (
    """
    CREATE INDEX case_words_index ON {archive}.case_words
        USING gin (array_to_tsvector(string_to_array('@' || bureau || ' ' || words, ' ')))
    """,
    """
    CREATE FUNCTION {archive}.drop_case_words() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        DELETE FROM {archive}.case_words WHERE doc = (CAST(old.bureau AS bigint) << 40) + old.seq;
        RETURN NULL;
    END $$
    """,
    """
    CREATE TRIGGER private_erased AFTER DELETE ON {archive}.private
        FOR EACH ROW EXECUTE FUNCTION {archive}.drop_case_words()
    """,
)


class ArchiveMissing(DatabaseError):
    """The archive that belongs to a ledger is not where it was."""

    def __init__(self, archive: str) -> None:
        self.archive = archive
        super().__init__(
            f"The ledger has closed years in the archive {archive}, which is not there."
            " Put it back beside the ledger: it is a part of it, and of its backups."
        )


class ArchiveDiffers(DatabaseError):
    """The archive has something else than the ledger says of it; nothing was deleted."""

    def __init__(self, archive: str, bureau: str, what: str) -> None:
        self.archive, self.bureau = archive, bureau
        super().__init__(
            f"The archive {archive} is not the one of this ledger: of bureau {bureau}, {what}."
            " Put back the one that was made with it, or last copied with it."
        )


class NoRoomToArchive(DatabaseError):
    """The disk has no room for what archiving takes meanwhile; nothing was done."""

    def __init__(self, folder: Path, needed: int, free: int) -> None:
        mebi = 1024 * 1024
        super().__init__(
            f"The disk of {folder} has {free // mebi} MiB free, and archiving may take {needed // mebi} MiB."
            " Make room; with --keep-room it takes half."
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchivedYear:
    """What went to the archive with a year of a bureau."""

    bureau: str
    year: int
    last_seq: int
    entries: int
    cases: int


class Archive:
    """The archive of a ledger's database. Raises `ArchiveMissing`, `ArchiveDiffers` when it is opened.

    But for `is_there` and `holds` all of it is for the writer's thread, or for a ledger that does not run.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        file = database.file
        self._file = Path(f"{file}.archive") if file is not None else None
        self.name = str(self._file or f"{schema.ARCHIVE} of {database.name}")
        self._ends: dict[str, tuple[int, bytes]] = {}
        self._within = False
        self._erases_again_at: float | None = None
        self._own = "main" if file is not None else self._schema_of_postgresql()
        self._recover()
        database.prepare_readers(self._views)

    @property
    def is_there(self) -> bool:
        """Whether anything of the ledger is in it."""
        return bool(self._ends)

    def holds(self, bureau: str, seq: int) -> bool:
        """Whether an entry is in it."""
        return seq <= self.end(bureau)

    @contextmanager
    def within_reach(self, *, wait: bool = True) -> Iterator[None]:
        """Has the writer's connection reach it, as `schema.ARCHIVE`; not to be entered within a transaction.

        `wait`: at the end for whoever reads in it, so that its log can be emptied (`Database.truncate_log`).
        """
        if self._file is None or self._within:
            yield
            return
        with self._database.attached(self._file, schema.ARCHIVE, wait=wait):
            self._within = True
            try:
                yield
            finally:
                self._within = False

    def end(self, bureau: str) -> int:
        """The last entry of a bureau that is in it; 0 when none is."""
        return self._end(bureau)[0]

    # ------------------------------------------------------------ archiving

    def check_room(self, *, compacts: bool) -> None:
        """Whether the disk under an SQLite file has room for a copy of all, and for giving the room back after it.

        Raises `NoRoomToArchive`. PostgreSQL's disk is another machine's to look at.
        """
        file = self._database.file
        if file is None:
            return
        needed = file.stat().st_size * (2 if compacts else 1) + FREE_BYTES_MIN
        free = shutil.disk_usage(file.parent).free
        if free < needed:
            raise NoRoomToArchive(file.parent, needed, free)

    def add(
        self,
        *,
        bureau: str,
        year: int,
        last_seq: int,
        kept: Collection[str],
        now_us: int,
        told: Callable[[int], None] = lambda _: None,
    ) -> ArchivedYear:
        """Archives a bureau's journal up to an entry, and its written-off cases that have none after it.

        `kept` are cases that stay whatever else. `told` is called with how many entries are done. Raises
        `ArchiveDiffers` when the copy is not what was copied.
        """
        first, begin = self._end(bureau)
        hash_ = self._hash_here(bureau, last_seq)
        with self.within_reach():
            self._make()
            self._undo()
            self._copy_entries(bureau, first, last_seq, told)
            cases = self._copy_cases(bureau, last_seq, kept)
        with self.within_reach():
            # Opened anew: what is compared is what the file has.
            self._compare(bureau, (first, begin), (last_seq, hash_))
        row = {"state": DELETING, "last_seq": last_seq, "hash": hash_, "cases": cases, "archived_at_us": now_us}
        self._count_on(bureau, year, row)
        self._ends[bureau] = (last_seq, hash_)
        with self.within_reach():
            self._delete(bureau, year)
        self._database.renew_readers()
        return ArchivedYear(bureau=bureau, year=year, last_seq=last_seq, entries=last_seq - first, cases=cases)

    def take_again(self, bureau: str) -> None:
        """Moves the cases that it has and that were folded here again; for a rebuild."""
        with self.within_reach():
            for case_ids in self._in_both(bureau):
                with self._database.writing.begin():
                    for table, archived in _OF_CASES:
                        self._replace(table, archived, bureau, case_ids)
                self._drop_cases(bureau, case_ids)

    def _copy_entries(self, bureau: str, first: int, last: int, told: Callable[[int], None]) -> None:
        for after in range(first, last, ENTRIES_AT_ONCE):
            to = min(after + ENTRIES_AT_ONCE, last)
            with self._database.committing():
                for table, archived in _OF_ENTRIES:
                    self._copy(table, archived, _between(table, bureau, after, to))
            told(to - first)

    def _copy_cases(self, bureau: str, last_seq: int, kept: Collection[str]) -> int:
        """Copies the cases that are over, and what they are found by; how many."""
        count = 0
        stay = self._at_work(bureau, last_seq) | set(kept)
        cases = schema.CASES.c
        written_off = sa.select(cases.case_id).where(cases.bureau == bureau, cases.stage == int(Stage.WRITTEN_OFF))
        for case_ids in self._some_cases(written_off):
            going = [case_id for case_id in case_ids if case_id not in stay]
            with self._database.committing():
                for table, archived in _OF_CASES:
                    self._replace(table, archived, bureau, going)
            count += len(going)
        return count

    def _count_on(self, bureau: str, year: int, row: dict[str, Any]) -> None:
        """Says that the archive has a year; once more of one that got entries after a clock was set back."""
        archives, run = schema.ARCHIVES, self._database.writing.execute
        of_year = (archives.c.bureau == bureau) & (archives.c.year == year)
        with self._database.committing():
            before = run(sa.select(archives.c.cases).where(of_year)).scalar() or 0
            run(sa.delete(archives).where(of_year))
            run(sa.insert(archives).values(**row | {"cases": before + row["cases"]}, bureau=bureau, year=year))

    def _at_work(self, bureau: str, last_seq: int) -> set[str]:
        """The cases that something goes on with, and those that are linked to one of them."""
        journal, cases = schema.JOURNAL.c, schema.CASES.c
        asked = (
            sa.select(journal.case_id).where(journal.bureau == bureau, journal.seq > last_seq, journal.version > 0),
            *(
                sa.select(table.c.case_id).where(table.c.bureau == bureau)
                for table in (schema.DELIVERIES, schema.MISMATCHES, schema.CLOCKS)
            ),
            sa.select(cases.case_id).where(
                cases.bureau == bureau,
                sa.or_(cases.stage != int(Stage.WRITTEN_OFF), cases.custody == int(Custody.OFFERED)),
            ),
        )
        linked = sa.select(cases.case_id, cases.lead_case_id).where(cases.bureau == bureau, cases.lead_case_id != "")
        with self._database.writing.begin():
            stay = {case_id for query in asked for case_id in self._database.writing.execute(query).scalars()}
            links = [tuple(row) for row in self._database.writing.execute(linked)]
        leads = {lead for case_id, lead in links if case_id in stay or lead in stay}
        return stay | leads | {case_id for case_id, lead in links if lead in leads}

    def _replace(self, table: sa.Table, archived: sa.Table, bureau: str, case_ids: Sequence[str]) -> None:
        """Copies the rows of some cases over those that it may have of them: one that came back goes again."""
        of_them = archived.c.bureau == bureau, archived.c.case_id.in_(case_ids)
        self._database.writing.execute(sa.delete(archived).where(*of_them))
        self._copy(table, archived, (table.c.bureau == bureau, table.c.case_id.in_(case_ids)))

    def _drop_cases(self, bureau: str, case_ids: Sequence[str]) -> None:
        with self._database.writing.begin():
            for table, _ in _OF_CASES:
                of_them = table.c.bureau == bureau, table.c.case_id.in_(case_ids)
                self._database.writing.execute(sa.delete(table).where(*of_them))

    def _copy(self, table: sa.Table, archived: sa.Table, which: Sequence[sa.ColumnElement[bool]]) -> None:
        rows = sa.select(table).where(*which)
        self._database.writing.execute(sa.insert(archived).from_select(list(table.columns.keys()), rows))

    def _compare(self, bureau: str, begin: tuple[int, bytes], end: tuple[int, bytes]) -> None:
        """Holds what was copied to what was to be: every row to its own, and the chain to the ledger's entry."""
        journal = schema.A_JOURNAL.c
        query = (
            sa.select(journal.seq, journal.generation, journal.public, journal.private_digest, journal.hash)
            .where(journal.bureau == bureau, journal.seq > sa.bindparam("after"), journal.seq <= sa.bindparam("to"))
            .order_by(journal.seq)
        )
        at, hash_ = begin
        while at < end[0]:
            after, to = at, min(at + ENTRIES_AT_ONCE, end[0])
            with self._database.writing.begin():
                rows = self._database.writing.execute(query, {"after": after, "to": to}).all()
            for row in rows:
                hash_ = chain.link(hash_, row.generation, row.seq, bytes(row.private_digest), bytes(row.public))
                if row.seq != at + 1 or hash_ != bytes(row.hash):
                    raise ArchiveDiffers(self.name, bureau, f"entry {at + 1} does not continue the chain")
                at = row.seq
            if at != to:
                raise ArchiveDiffers(self.name, bureau, f"entry {at + 1} is missing")
            for table, archived in _OF_ENTRIES:
                self._compare_rows(
                    sa.select(table).where(*_between(table, bureau, after, to)),
                    sa.select(archived).where(*_between(archived, bureau, after, to)),
                    bureau,
                )
        if (at, hash_) != end:
            raise ArchiveDiffers(self.name, bureau, f"entry {at} has another hash")
        for case_ids in self._in_both(bureau):
            for table, archived in _OF_CASES:
                self._compare_rows(
                    sa.select(table).where(table.c.bureau == bureau, table.c.case_id.in_(case_ids)),
                    sa.select(archived).where(archived.c.bureau == bureau, archived.c.case_id.in_(case_ids)),
                    bureau,
                )

    def _compare_rows(self, here: sa.Select[Any], there: sa.Select[Any], bureau: str) -> None:
        with self._database.writing.begin():
            missing = self._database.writing.execute(here.except_(there).limit(1)).first()
        if missing is not None:
            raise ArchiveDiffers(self.name, bureau, "rows are not as they were copied")

    def _in_both(self, bureau: str) -> Iterator[list[str]]:
        """The cases that are here and, in the same version, there, some at a time."""
        here, there = schema.CASES.c, schema.A_CASES.c
        same = (there.bureau == here.bureau) & (there.case_id == here.case_id) & (there.version == here.version)
        return self._some_cases(
            sa.select(here.case_id).select_from(schema.CASES.join(schema.A_CASES, same)).where(here.bureau == bureau)
        )

    def _some_cases(self, query: sa.Select[Any]) -> Iterator[list[str]]:
        """The numbers of cases, some at a time."""
        case_id = schema.CASES.c.case_id
        query = query.where(case_id > sa.bindparam("after")).order_by(case_id).limit(CASES_AT_ONCE)
        after = ""
        while True:
            with self._database.writing.begin():
                case_ids = list(self._database.writing.execute(query, {"after": after}).scalars())
            if not case_ids:
                return
            yield case_ids
            after = case_ids[-1]

    def _delete(self, bureau: str, year: int) -> None:
        """Deletes here what the archive has been said to have."""
        run = self._database.writing.execute
        for case_ids in self._in_both(bureau):
            self._drop_cases(bureau, case_ids)
        last, _ = self._end(bureau)
        for table, _ in _OF_ENTRIES:
            with self._database.writing.begin():
                first = run(sa.select(sa.func.min(table.c.seq)).where(table.c.bureau == bureau)).scalar() or last + 1
            for after in range(first - 1, last, ENTRIES_AT_ONCE):
                with self._database.writing.begin():
                    run(sa.delete(table).where(*_between(table, bureau, after, min(after + ENTRIES_AT_ONCE, last))))
        archives = schema.ARCHIVES
        of_year = (archives.c.bureau == bureau) & (archives.c.year == year)
        self._run(sa.update(archives).where(of_year).values(state=DONE))

    # ------------------------------------------------------------ opening

    def _recover(self) -> None:
        """Undoes or finishes what was interrupted, and holds the archive to what the ledger says of it."""
        with self._database.writing.begin():
            table = schema.ARCHIVES
            query = sa.select(table).order_by(table.c.bureau, table.c.last_seq)
            rows = self._database.writing.execute(query).all()
        if not self._exists():
            if rows:
                raise ArchiveMissing(self.name)
            return
        with self.within_reach():
            if not rows and not self._is_made():
                return
            for row in rows:
                self._check(row)
                self._ends[row.bureau] = (row.last_seq, bytes(row.hash))
            self._undo()
            for row in rows:
                if row.state == DELETING:
                    _log.warning("An archiving is finished.", action="archive.finished", bureau=row.bureau)
                    self._delete(row.bureau, row.year)
        self.erase()

    def _check(self, row: Any) -> None:  # noqa: ANN401 - a row of `archives`
        journal = schema.A_JOURNAL.c
        query = sa.select(journal.hash).where(journal.bureau == row.bureau, journal.seq == row.last_seq)
        counted = sa.select(sa.func.count()).where(journal.bureau == row.bureau, journal.seq <= row.last_seq)
        with self._database.writing.begin():
            found = self._database.writing.execute(query).scalar()
            count = self._database.writing.execute(counted).scalar_one()
        if count != row.last_seq:
            raise ArchiveDiffers(self.name, row.bureau, f"{row.last_seq - count} of {row.last_seq} entries are missing")
        if found is None or bytes(found) != bytes(row.hash):
            raise ArchiveDiffers(self.name, row.bureau, f"entry {row.last_seq} is another one, or missing")

    def _undo(self) -> None:
        """Deletes what the archive has beyond what the ledger says that it has.

        Raises `ArchiveDiffers` where the ledger itself does not have it: then it was not copied from here.
        """
        run, journal = self._database.writing.execute, schema.A_JOURNAL.c
        with self._database.writing.begin():
            bureaus = list(run(sa.select(schema.BUREAUS.c.bureau)).scalars())
            ends = {
                one: run(sa.select(sa.func.max(journal.seq)).where(journal.bureau == one)).scalar() for one in bureaus
            }
        for bureau, end in ends.items():
            last, _ = self._end(bureau)
            if end is None or end <= last:
                continue
            self._check_is_here(bureau, end)
            _log.warning("An archiving that was broken off is undone.", action="archive.undone", bureau=bureau)
            for case_ids in self._in_both(bureau):
                with self._database.writing.begin():
                    for _, table in _OF_CASES:
                        run(sa.delete(table).where(table.c.bureau == bureau, table.c.case_id.in_(case_ids)))
            # The journal's end tells that there is something to be undone, and goes last.
            for _, table in _OF_ENTRIES:
                for to in range(end, last, -ENTRIES_AT_ONCE):
                    with self._database.writing.begin():
                        run(sa.delete(table).where(*_between(table, bureau, max(to - ENTRIES_AT_ONCE, last), to)))

    def _check_is_here(self, bureau: str, seq: int) -> None:
        here, there = schema.JOURNAL.c, schema.A_JOURNAL.c
        same = (here.bureau == there.bureau) & (here.seq == there.seq) & (here.hash == there.hash)
        query = sa.select(
            sa.exists()
            .select_from(schema.JOURNAL.join(schema.A_JOURNAL, same))
            .where(here.bureau == bureau, here.seq == seq)
        )
        with self._database.writing.begin():
            found = self._database.writing.execute(query).scalar_one()
        if not found:
            raise ArchiveDiffers(self.name, bureau, f"entry {seq} is not one of the ledger")

    def _exists(self) -> bool:
        return self._file.exists() if self._file is not None else self._is_made()

    def _is_made(self) -> bool:
        """Whether its tables are there; within reach of the writer's connection."""
        with self._database.writing.begin():
            return sa.inspect(self._database.writing).has_table(schema.JOURNAL.name, schema=schema.ARCHIVE)

    def _make(self) -> None:
        """Makes its tables where they are not there; within reach of the writer's connection."""
        if self._is_made():
            return
        writing = self._database.writing
        with writing.begin():
            if self._file is None:
                writing.exec_driver_sql(f"CREATE SCHEMA IF NOT EXISTS {schema.ARCHIVE}")
            schema.ARCHIVE_METADATA.create_all(writing)
            for statement in _WORDS_SQLITE if self._file is not None else _WORDS_POSTGRESQL:
                writing.exec_driver_sql(statement.format(archive=schema.ARCHIVE))

    # ------------------------------------------------------------ what is private

    @property
    def erases_again(self) -> bool:
        """Whether something could not be deleted from it, and it is time to try again."""
        return self._erases_again_at is not None and time.monotonic() >= self._erases_again_at

    def erase(self) -> None:
        """Deletes from it what the ledger has erased; what it does not take now is for a later call.

        Raises nothing, for what is erased stands in the ledger, and is hidden from every reader.
        """
        try:
            done = self._erase()
        except Exception:  # noqa: BLE001 - whatever it is, an act is not to fail of it that is durable
            _log.exception("What is erased could not be deleted from the archive.", action="archive.erase_failed")
            done = False
        self._erases_again_at = None if done else time.monotonic() + ERASE_AGAIN_SECONDS

    def _erase(self) -> bool:
        """Whether nothing of it is left, nor in the log, which somebody may read just now."""
        erasures, run = schema.ARCHIVE_ERASURES, self._database.writing.execute
        with self._database.writing.begin():
            rows = run(sa.select(erasures)).all()
        if not rows:
            return True
        with self.within_reach(wait=False):
            for bureau in {row.bureau for row in rows}:
                seqs = [row.seq for row in rows if row.bureau == bureau]
                parts = schema.A_PRIVATE
                with self._database.writing.begin():
                    run(sa.delete(parts).where(parts.c.bureau == bureau, parts.c.seq.in_(seqs)))
            if not self._database.truncate_log(schema.ARCHIVE, wait=False):
                _log.info("Of what is erased the archive's log is not empty yet.", action="archive.log_read")
                return False
        for bureau in {row.bureau for row in rows}:
            seqs = [row.seq for row in rows if row.bureau == bureau]
            self._run(sa.delete(erasures).where(erasures.c.bureau == bureau, erasures.c.seq.in_(seqs)))
        return True

    # ------------------------------------------------------------ small

    def _views(self, execute: Callable[..., Any]) -> None:
        """Has a reading connection see the ledger and its archive as one."""
        if self.is_there and self._file is not None:
            execute(f"ATTACH DATABASE ? AS {schema.ARCHIVE}", (str(self._file),))
        columns = {
            "journal": ", ".join(f"j.{column.name}" for column in schema.JOURNAL.columns),
            "cases": ", ".join(f"c.{column.name}" for column in schema.CASES.columns),
        }
        for name, parts in (_VIEWS_OF_BOTH if self.is_there else _VIEWS_ALONE).items():
            selected = [
                part.format(own=self._own, of=of, **columns)
                for part, of in zip(parts, (self._own, schema.ARCHIVE), strict=False)
            ]
            execute(f"CREATE TEMP VIEW {name} AS {' UNION ALL '.join(selected)}")

    def _end(self, bureau: str) -> tuple[int, bytes]:
        """The last entry of a bureau in it, and its hash."""
        return self._ends.get(bureau, (0, chain.GENESIS))

    def _hash_here(self, bureau: str, seq: int) -> bytes:
        journal = schema.JOURNAL.c
        query = sa.select(journal.hash).where(journal.bureau == bureau, journal.seq == seq)
        with self._database.writing.begin():
            return bytes(self._database.writing.execute(query).scalar_one())

    def _schema_of_postgresql(self) -> str:
        with self._database.writing.begin():
            return str(self._database.writing.execute(sa.select(sa.func.current_schema())).scalar_one())

    def _run(self, statement: Any) -> None:  # noqa: ANN401 - any statement that writes
        with self._database.committing():
            self._database.writing.execute(statement)


def _between(table: sa.Table, bureau: str, after: int, to: int) -> tuple[sa.ColumnElement[bool], ...]:
    return table.c.bureau == bureau, table.c.seq > after, table.c.seq <= to
