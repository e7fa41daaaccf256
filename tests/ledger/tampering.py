"""What befalls the database of a ledger that is closed: an older copy is put back, entries are forged or lost.

A forger who has the database can rewrite the journal from some entry on, hashes and all, and fold the projections from
it again: nothing within that ledger then tells of it. Another ledger does.
"""

import shutil
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import sqlalchemy as sa

from kuaixiang.domain.events import Concluded, Entry
from kuaixiang.domain.words import Outcome
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire import chain
from kuaixiang.wire.codec import decode_entry, encode_entry, event_name
from node.ledger import schema
from node.ledger.ledger import Ledger

SIDES = ("", "-wal", "-shm")
"""A SQLite database and what it keeps beside itself."""


def copy_database(url: str, to: Path) -> None:
    """The files of a closed SQLite ledger as they are now."""
    for side in SIDES:
        source = Path(url.removeprefix("sqlite:///") + side)
        if source.exists():
            shutil.copy(source, f"{to}{side}")


def put_back(copy: Path, url: str) -> None:
    """A closed SQLite ledger becomes what it was when it was copied."""
    for side in SIDES:
        target = Path(url.removeprefix("sqlite:///") + side)
        target.unlink(missing_ok=True)
        if Path(f"{copy}{side}").exists():
            shutil.copy(f"{copy}{side}", target)


def rewrite(url: str, bureaus: Sequence[str], bureau: str, change: Callable[[list[Entry]], list[Entry]]) -> None:
    """Rewrites the journal of one bureau as `change` wants it, with versions, hashes and projections to match."""
    ledger = Ledger(url, bureaus)
    try:
        table, private = schema.JOURNAL, schema.PRIVATE
        with ledger.database.reading() as connection:
            rows = connection.execute(sa.select(table).where(table.c.bureau == bureau).order_by(table.c.seq)).all()
            kept = {
                row.seq: ledger.database.open_salted(bureau, row.seq, row.sealed)
                for row in connection.execute(sa.select(private).where(private.c.bureau == bureau))
            }
        entries = [decode_entry(bytes(row.public)) for row in rows]
        parts = {id(entry): kept.get(row.seq) for entry, row in zip(entries, rows, strict=True)}
        head, versions = chain.GENESIS, dict[str, int]()
        with ledger.database.writing.begin():
            for emptied in (table, private):
                ledger.database.writing.execute(sa.delete(emptied).where(emptied.c.bureau == bureau))
            for seq, entry in enumerate(change(entries), start=1):
                version = 0
                if entry.version:
                    version = versions[entry.case_id] = versions.get(entry.case_id, 0) + 1
                public = encode_entry(replace(entry, version=version))
                part = parts.get(id(entry))
                digest = chain.private_digest(*part) if part else chain.NO_PRIVATE
                before, head = head, chain.link(head, 1, seq, digest, public)
                times = (to_micros(entry.recorded_at), to_micros(entry.occurred_at))
                about = (entry.case_id, version, event_name(entry.event), *times, entry.actor)
                ledger.database.writing.execute(
                    sa.insert(table).values((bureau, seq, 1, *about, public, digest, before, head))
                )
                if part:
                    sealed = ledger.database.seal_private(bureau, seq, *part)
                    ledger.database.writing.execute(sa.insert(private).values((bureau, seq, sealed)))
        ledger.rebuild()
    finally:
        ledger.close()


def with_all_withdrawn(entries: list[Entry]) -> list[Entry]:
    """The entries with every case concluded as withdrawn, however it ended."""
    return [
        replace(entry, event=replace(entry.event, outcome=Outcome.WITHDRAWN))
        if isinstance(entry.event, Concluded)
        else entry
        for entry in entries
    ]
