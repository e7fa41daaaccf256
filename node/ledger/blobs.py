"""The content of the files of cases 附件: kept once by its digest, in pieces of one size, beside the journal.

What is here is not folded from anything. The journal's private parts name a file by its digest; `attachments` says
which case has which, and what no case has is given up after a while.
"""

import hashlib
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog

from kuaixiang.runtime.database import Database
from kuaixiang.runtime.vault import SealBroken
from node.ledger import schema
from node.ledger.database import LedgerDatabase, chunk_place

_log: Final = structlog.get_logger(__name__)
CHUNK_BYTES: Final = 256 * 1024
"""One piece is one transaction's share: an officer's act that comes meanwhile waits for no more than that."""
GARBAGE_MAX: Final = 100
"""Files given up in one go."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Blob:
    """The content of a file, as far as it is kept here. `complete`: all of it, and it has its digest.

    `brought_by` is the bureau whose node brings it, ahead of an offer; empty for what an officer attached.
    """

    digest: str
    size_bytes: int
    held_bytes: int = 0
    complete: bool = False
    brought_by: str = ""

    @property
    def chunks(self) -> int:
        """Pieces that the whole content has."""
        return -(-self.size_bytes // CHUNK_BYTES)


def find(connection: sa.Connection, digests: Collection[str]) -> dict[str, Blob]:
    """What is kept of some files, by digest."""
    table = schema.BLOBS
    rows = connection.execute(sa.select(table).where(table.c.digest.in_(digests)))
    return {
        row.digest: Blob(
            digest=row.digest,
            size_bytes=row.size_bytes,
            held_bytes=row.held_bytes,
            complete=bool(row.complete),
            brought_by=row.brought_by,
        )
        for row in rows
    }


def attached(
    connection: sa.Connection, cases: Collection[tuple[str, str]], digests: Collection[str]
) -> set[tuple[str, str, str]]:
    """Which of some cases has which of some files: (bureau, case id, digest)."""
    table = schema.ATTACHMENTS
    query = sa.select(table.c.bureau, table.c.case_id, table.c.digest).where(
        table.c.bureau.in_({bureau for bureau, _ in cases}),
        table.c.case_id.in_({case_id for _, case_id in cases}),
        table.c.digest.in_(digests),
    )
    return {(bureau, case_id, digest) for bureau, case_id, digest in connection.execute(query)}


def drop(writing: sa.Connection, digests: Iterable[str]) -> None:
    """Gives up the content of files, save what is complete and some case's, in the writer's open transaction."""
    blobs, chunks, attachments = schema.BLOBS, schema.BLOB_CHUNKS, schema.ATTACHMENTS
    for digest in digests:
        used = sa.exists().where(attachments.c.digest == blobs.c.digest)
        writing.execute(sa.delete(blobs).where(blobs.c.digest == digest, sa.or_(blobs.c.complete == 0, ~used)))
        kept = sa.exists().where(blobs.c.digest == chunks.c.digest)
        writing.execute(sa.delete(chunks).where(chunks.c.digest == digest, ~kept))


def blob(database: Database, digest: str) -> Blob | None:
    """What is kept of one file."""
    with database.reading() as connection:
        return find(connection, [digest]).get(digest)


def chunk(database: LedgerDatabase, digest: str, number: int) -> bytes | None:
    """A piece of a file's content, counted from 0; None for one that is not kept, or does not open any more."""
    table = schema.BLOB_CHUNKS
    query = sa.select(table.c.data).where(table.c.digest == digest, table.c.number == number)
    with database.reading() as connection:
        data = connection.execute(query).scalar_one_or_none()
    if data is None:
        return None
    try:
        return database.vault.open(chunk_place(digest, number), data)
    except SealBroken as broken:
        _log.exception("A piece of a file does not open.", action="vault.broken", place=broken.place)
        return None


def hash_of(database: LedgerDatabase, digest: str, chunks: int) -> Any:  # noqa: ANN401 - hashlib's object has no public type
    """SHA-256 over the first pieces of a file as they are kept."""
    found = hashlib.sha256()
    for number in range(chunks):
        found.update(chunk(database, digest, number) or b"")
    return found


def has_attachment(database: Database, bureau: str, case_id: str, digest: str) -> bool:
    """Whether a case has a file."""
    with database.reading() as connection:
        return bool(attached(connection, [(bureau, case_id)], [digest]))


def garbage(database: Database, before_us: int) -> list[str]:
    """Files that no case has and of which nothing has come since, oldest first."""
    blobs, attachments = schema.BLOBS, schema.ATTACHMENTS
    used = sa.exists().where(attachments.c.digest == blobs.c.digest)
    query = (
        sa.select(blobs.c.digest)
        .where(blobs.c.since_us < before_us, ~used)
        .order_by(blobs.c.since_us)
        .limit(GARBAGE_MAX)
    )
    with database.reading() as connection:
        return list(connection.execute(query).scalars())


def undecided_bytes(database: Database, brought_by: str) -> int:
    """How many bytes of files that no case has a bureau's node has begun to bring; they are given up after a day."""
    blobs, attachments = schema.BLOBS, schema.ATTACHMENTS
    used = sa.exists().where(attachments.c.digest == blobs.c.digest)
    query = sa.select(sa.func.sum(blobs.c.size_bytes)).where(blobs.c.brought_by == brought_by, ~used)
    with database.reading() as connection:
        return int(connection.execute(query).scalar() or 0)


def kept(database: Database) -> tuple[int, int]:
    """How many files are kept, and how many bytes of them."""
    table = schema.BLOBS
    with database.reading() as connection:
        count, total = connection.execute(sa.select(sa.func.count(), sa.func.sum(table.c.held_bytes))).one()
    return int(count), int(total or 0)
