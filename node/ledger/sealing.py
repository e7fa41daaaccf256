"""Sealing a whole ledger under another key, in bounded steps: a key is rotated, or an older version left values plain.

For a ledger that has not been started. Each step is one transaction that seals some rows anew and gives their entries
the words and references of the new key. An interrupted run leaves a ledger that opens as before, since the key file
holds both keys, and the next run goes on; only when nothing is sealed under the old key any more is it forgotten.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.events import Registered
from kuaixiang.runtime.vault import KEY_ID_BYTES, DataKey, Vault
from kuaixiang.wire.codec import UNREADABLE, decode_entry
from node.ledger import schema
from node.ledger.database import LedgerDatabase, attestation_place, chunk_place, private_place, request_place
from node.ledger.search import doc_number, word_rows

PARTS_AT_ONCE: Final = 1_000
"""Private parts, or digests of requests, of one transaction: some 100 ms."""
CHUNKS_AT_ONCE: Final = 16
"""Pieces of files of one transaction: 4 MiB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sealed:
    """A table with a sealed column. `words`: entries are found by its rows; `archived`: it is in the archive."""

    table: sa.Table
    column: str
    place: Callable[[Any], str]
    at_once: int
    words: bool = False
    archived: bool = False


_SEALED: Final = (
    _Sealed(
        table=schema.PRIVATE,
        column="sealed",
        place=lambda row: private_place(row.bureau, row.seq),
        at_once=PARTS_AT_ONCE,
        words=True,
    ),
    _Sealed(
        table=schema.A_PRIVATE,
        column="sealed",
        place=lambda row: private_place(row.bureau, row.seq),
        at_once=PARTS_AT_ONCE,
        words=True,
        archived=True,
    ),
    _Sealed(
        table=schema.REQUESTS,
        column="digest",
        place=lambda row: request_place(row.bureau, row.request_key),
        at_once=PARTS_AT_ONCE,
    ),
    _Sealed(
        table=schema.ATTESTATIONS,
        column="sealed",
        place=lambda row: attestation_place(row.bureau, row.receipt_id),
        at_once=PARTS_AT_ONCE,
    ),
    _Sealed(
        table=schema.BLOB_CHUNKS,
        column="data",
        place=lambda row: chunk_place(row.digest, row.number),
        at_once=CHUNKS_AT_ONCE,
    ),
)


@dataclass(frozen=True, slots=True)
class Resealed:
    """How many values were sealed anew, and how many did not open and were left as they are."""

    values: int
    broken: int


def rotate(database: LedgerDatabase, steps: Callable[[int], None] = lambda _: None) -> Resealed:
    """A new key is made, everything is sealed under it, and the old ones are forgotten.

    After an interrupted run it goes on with the key that was made then. `steps` is told how many values are done.
    Raises `VaultError`.
    """
    if database.key_ids() == {database.vault.key_id}:
        keys = (*database.vault.keys, DataKey.new())
        database.key_file.write(keys)
        database.adopt(Vault(keys))
    return reseal(database, steps)


def reseal(database: LedgerDatabase, steps: Callable[[int], None] = lambda _: None) -> Resealed:
    """Seals everything under the key in use that is sealed under another one or not at all; then forgets those keys.

    What does not open stays as it is, and so do then the old keys. Raises `VaultError`.
    """
    values = broken = 0
    with _all_within_reach(database):
        for kind in _SEALED:
            if kind.archived and not database.archive.is_there:
                continue
            for done, failed in _reseal(database, kind):
                values, broken = values + done, broken + failed
                steps(values)
        others = database.key_ids() - {database.vault.key_id}
        if others and not broken:
            _renew_index(database)
    if not broken:
        database.forget(sorted(others))
        database.vault = Vault([database.vault.current])
        if database.key_file.read() != database.vault.keys:
            database.key_file.write(database.vault.keys)
    return Resealed(values, broken)


def _all_within_reach(database: LedgerDatabase) -> AbstractContextManager[None]:
    return database.archive.within_reach() if database.archive.is_there else nullcontext()


def _reseal(database: LedgerDatabase, kind: _Sealed) -> Iterator[tuple[int, int]]:
    """The steps of one table: how many values each has sealed, and how many did not open."""
    table, place = kind.table, kind.place
    keys = list(table.primary_key)
    at = sa.tuple_(*keys)
    query = sa.select(*keys, table.c[kind.column].label("sealed")).order_by(*keys).limit(kind.at_once)
    update = (
        sa.update(table)
        .where(*(key == sa.bindparam(f"k_{key.name}") for key in keys))
        .values({kind.column: sa.bindparam("new")})
    )
    last: tuple[Any, ...] | None = None
    while True:
        with database.reading() as connection:
            rows = connection.execute(query if last is None else query.where(at > sa.tuple_(*last))).all()
        if not rows:
            return
        last = tuple(rows[-1][:-1])
        changed, found, broken = [], [], 0
        for row in rows:
            if bytes(row.sealed[:KEY_ID_BYTES]) == database.vault.key_id:
                continue
            try:
                value = database.vault.open(place(row), row.sealed)
            except ValueError:
                broken += 1
                continue
            keyed = {f"k_{key.name}": part for key, part in zip(keys, row, strict=False)}
            changed.append({**keyed, "new": database.vault.seal(place(row), value)})
            found.append(row)
        if changed:
            with database.writing.begin():
                database.writing.execute(update, changed)
                if kind.words:
                    _words_anew(database, found)
        yield len(changed), broken


def _words_anew(database: LedgerDatabase, rows: Sequence[Any]) -> None:
    """Gives entries the words and references of the key in use, in the writer's open transaction."""
    journal, references = schema.JOURNAL, schema.REFERENCES
    tables = [schema.CASE_WORDS, *([schema.A_CASE_WORDS] if database.archive.is_there else [])]
    found: dict[sa.Table, list[dict[str, Any]]] = {table: [] for table in tables}
    for bureau in {row.bureau for row in rows}:
        parts = {row.seq: row.sealed for row in rows if row.bureau == bureau}
        docs = [doc_number(bureau, seq) for seq in parts]
        # Where the words of an entry were they are again: here, there, or of a case that came back in both.
        had = {
            table: set(database.writing.execute(sa.select(table.c.doc).where(table.c.doc.in_(docs))).scalars())
            for table in tables
        }
        for table in tables:
            database.writing.execute(sa.delete(table).where(table.c.doc.in_(docs)))
        query = sa.select(journal.c.seq, journal.c.public).where(journal.c.bureau == bureau, journal.c.seq.in_(parts))
        with database.reading() as connection:
            entries = connection.execute(query).all()
        for seq, public in entries:
            try:
                entry = decode_entry(bytes(public), database.open_private(bureau, seq, parts[seq]))
            except UNREADABLE:
                continue
            rows_of_it = word_rows(entry, seq, database.vault)
            for table in [one for one in tables if doc_number(bureau, seq) in had[one]] or tables[:1]:
                found[table].extend(dict(zip(table.columns.keys(), row, strict=True)) for row in rows_of_it)
            private = entry.event.private
            if isinstance(entry.event, Registered) and private and private.channel_reference:
                *old, token = database.vault.references(bureau, private.channel_reference)
                channel = int(entry.channel or 0)
                database.writing.execute(
                    sa.delete(references).where(
                        references.c.bureau == bureau,
                        references.c.channel == channel,
                        references.c.reference.in_([*old, token, private.channel_reference]),
                    )
                )
                database.writing.execute(sa.insert(references).values((bureau, channel, token, entry.case_id, seq)))
    for table, words in found.items():
        if words:
            database.writing.execute(sa.insert(table), words)


def _renew_index(database: LedgerDatabase) -> None:
    """The index of words is made anew, so that words of the old key are in none of its parts, nor in the log."""
    if not database.is_sqlite:
        return
    for of in ("main", *([schema.ARCHIVE] if database.archive.is_there else [])):
        with database.writing.begin():
            database.writing.exec_driver_sql(
                f"INSERT INTO {of}.case_words_index (case_words_index) VALUES ('rebuild')"  # noqa: S608 - a constant
            )
    database.truncate_log()
