"""Exporting a bureau's ledger to a file that proves itself: `kx node export`, and `kx verify` for whoever gets it.

For the ledger of a node that does not run, or of a copy of its database. The file's form is
`kuaixiang/wire/v1/export.proto`; the bureau signs what the file must be found to be by the node's certificate.
"""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import IO, Any, Final

import sqlalchemy as sa

from kuaixiang.domain.errors import EntryUnreadable
from kuaixiang.domain.events import LedgerExported
from kuaixiang.domain.words import Role
from kuaixiang.runtime import audit, pki, signing
from kuaixiang.runtime.clock import SystemClock, to_micros
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.vault import SealBroken
from kuaixiang.wire.export import FIRST_LINE, write_record
from kuaixiang.wire.v1 import export_pb2, journal_pb2, referral_pb2
from node.ledger import schema
from node.ledger.database import LedgerDatabase, attestation_place
from node.ledger.ledger import Head, Ledger
from node.office import Header
from node.retention import office_of
from node.settings import NodeSettings

DECIDING: Final = ("received", "offer_declined")
"""Events that decide an offer: the bureau has given a receipt by each of them."""
ENTRIES_AT_ONCE: Final = 1_000
"""Entries read at a time, about a megabyte."""


def export_ledger(
    database: LedgerDatabase,
    head: Head,
    file: IO[bytes],
    paths: CertificatePaths,
    *,
    private: bool,
    told: Callable[[int], None] = lambda _: None,
) -> export_pb2.ExportStatement:
    """Writes the ledger of the head's bureau up to the head, with its private parts where they are wanted and kept.

    `told` is given how many entries are written. Raises `PkiError`, and `EntryUnreadable` for a private part that does
    not open.
    """
    cosigned = _cosigned(database, head)
    statement = export_pb2.ExportStatement(
        bureau=head.bureau,
        generation=head.generation,
        seq=head.seq,
        hash=head.hash,
        exported_at_us=to_micros(SystemClock().now()),
        with_private=private,
        private_parts=_private_parts(database, head) if private else 0,
        receipts=_count_receipts(database, head),
        cosigned_heads=sum(map(len, cosigned.values())),
        attestations=_count_attestations(database, head),
        authorities=audit.fingerprints(pki.load(paths).ca_pem),
    )
    payload = statement.SerializeToString(deterministic=True)
    signature = signing.sign(payload, paths)
    file.write(FIRST_LINE)
    write_record(
        file,
        export_pb2.ExportHeader(
            statement=payload,
            signature=referral_pb2.Signature(certificate_der=signature.certificate_der, value=signature.value),
        ),
    )
    for row, receipts, attestations in _rows(database, head):
        entry = export_pb2.ExportedEntry(
            seq=row.seq,
            generation=row.generation,
            public=bytes(row.public),
            private_digest=bytes(row.private_digest),
            hash=bytes(row.hash),
            receipts=receipts,
            cosigned_heads=cosigned.get(row.seq, ()),
            attestations=[_opened(database, head.bureau, one, private=private) for one in attestations],
        )
        if private and row.sealed is not None:
            try:
                salt, part = database.open_salted(head.bureau, row.seq, row.sealed)
            except SealBroken:
                raise EntryUnreadable(head.bureau, row.case_id) from None
            entry.private.salt, entry.private.payload = salt, part
        write_record(file, entry)
        if row.seq % audit.TOLD_EVERY == 0:
            told(row.seq)
    return statement


def _rows(database: LedgerDatabase, head: Head) -> Iterator[tuple[Any, list[bytes], list[Any]]]:
    """The entries, each with the receipts that the bureau gave by it, and the words on which it recorded it."""
    entries = schema.ENTRIES.c
    columns = ("seq", "generation", "case_id", "kind", "public", "private_digest", "hash", "sealed")
    query = (
        sa.select(*(entries[name] for name in columns))
        .where(entries.bureau == head.bureau, entries.seq > sa.bindparam("after"), entries.seq <= head.seq)
        .order_by(entries.seq)
        .limit(ENTRIES_AT_ONCE)
    )
    after = 0
    receipts: dict[int, list[bytes]] = {}
    while True:
        with database.reading() as connection:
            rows = connection.execute(query, {"after": after}).all()
        if not rows:
            return
        for receipt in _receipts(database, head.bureau, rows):
            decision = referral_pb2.Decision.FromString(referral_pb2.Receipt.FromString(receipt).decision)
            receipts.setdefault(decision.seq, []).append(receipt)
        attestations: dict[int, list[Any]] = {}
        for one in _attestations(database, head.bureau, after, rows[-1].seq):
            attestations.setdefault(one.seq, []).append(one)
        for row in rows:
            yield row, receipts.pop(row.seq, []), attestations.pop(row.seq, [])
        after = rows[-1].seq


def _private_parts(database: LedgerDatabase, head: Head) -> int:
    entries = schema.ENTRIES.c
    query = sa.select(sa.func.count()).where(
        entries.bureau == head.bureau, entries.seq <= head.seq, entries.sealed.is_not(None)
    )
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _count_receipts(database: LedgerDatabase, head: Head) -> int:
    journal = schema.JOURNAL
    query = (
        sa.select(journal.c.seq, journal.c.kind, journal.c.public)
        .where(
            journal.c.bureau == head.bureau,
            journal.c.seq > sa.bindparam("after"),
            journal.c.seq <= head.seq,
            journal.c.kind.in_(DECIDING),
        )
        .order_by(journal.c.seq)
        .limit(ENTRIES_AT_ONCE)
    )
    after = count = 0
    while True:
        with database.reading() as connection:
            rows = connection.execute(query, {"after": after}).all()
        if not rows:
            return count
        count += len(_receipts(database, head.bureau, rows))
        after = rows[-1].seq


def _receipts(database: LedgerDatabase, bureau: str, rows: Sequence[Any]) -> list[bytes]:
    """The receipts that the bureau gave for what it decided by some entries; each names that entry, or one after it."""
    table = schema.DECISIONS
    decided = [
        getattr(journal_pb2.Entry.FromString(bytes(row.public)), row.kind).referral_id
        for row in rows
        if row.kind in DECIDING
    ]
    if not decided:
        return []
    query = sa.select(table.c.receipt).where(table.c.bureau == bureau, table.c.referral_id.in_(decided))
    with database.reading() as connection:
        return [bytes(receipt) for receipt in connection.execute(query).scalars()]


def _attestations(database: LedgerDatabase, bureau: str, after: int, last: int) -> Sequence[Any]:
    """The rows of words on which some entries were recorded."""
    table = schema.ATTESTATIONS
    query = sa.select(table).where(table.c.bureau == bureau, table.c.seq > after, table.c.seq <= last)
    with database.reading() as connection:
        return connection.execute(query.order_by(table.c.seq, table.c.receipt_id)).all()


def _count_attestations(database: LedgerDatabase, head: Head) -> int:
    table = schema.ATTESTATIONS
    query = sa.select(sa.func.count()).where(table.c.bureau == head.bureau, table.c.seq <= head.seq)
    with database.reading() as connection:
        return int(connection.execute(query).scalar_one())


def _opened(database: LedgerDatabase, bureau: str, row: Any, *, private: bool) -> bytes:  # noqa: ANN401 - a row
    """A word as it came; without private parts without its salt, under which its texts could be guessed."""
    try:
        opened = database.vault.open(attestation_place(bureau, row.receipt_id), bytes(row.sealed))
    except SealBroken:
        raise EntryUnreadable(bureau, row.receipt_id) from None
    attestation = referral_pb2.SignedAttestation.FromString(opened)
    if not private:
        attestation.ClearField("salt")
    return attestation.SerializeToString()


def _cosigned(database: LedgerDatabase, head: Head) -> dict[int, list[bytes]]:
    """The last head that each witness has cosigned, by the seq of its entry."""
    table = schema.COSIGNED
    query = sa.select(table.c.seq, table.c.head).where(table.c.bureau == head.bureau, table.c.seq <= head.seq)
    found: dict[int, list[bytes]] = {}
    with database.reading() as connection:
        for seq, cosigned in connection.execute(query.order_by(table.c.witness)):
            found.setdefault(seq, []).append(bytes(cosigned))
    return found


def record_export(settings: NodeSettings, ledger: Ledger, bureau: str, actor: str) -> None:
    """Records in the ledger, which does not run, that somebody takes all of it with its private data in clear.

    Raises `Refused`.
    """
    office = office_of(settings, ledger)
    header = Header(bureau=bureau, case_id="", actor=actor, role=Role.SYSTEM, department="operations")
    event = LedgerExported(registered_from=None, registered_before=None, open_only=False)
    ledger.start()
    asyncio.run(office.note(header, lambda draft, context: draft.note(context, event).seq))
