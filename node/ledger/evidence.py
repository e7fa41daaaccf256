"""What witnesses have seen: heads cosigned of these ledgers and of others', and the entries kept of others'."""

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from kuaixiang.domain.words import LedgerFinding
from kuaixiang.runtime.database import Database
from kuaixiang.wire.chain import GENESIS, link, links
from kuaixiang.wire.v1 import journal_pb2, referral_pb2
from node.ledger import schema
from node.ledger.database import LedgerDatabase, attestation_place
from node.ledger.ledger import KeptSegment, Seen

ENTRIES_READ: Final = 5_000
"""Entries of a chain that are computed at a time: some ten milliseconds."""
_J: Final = schema.JOURNAL.c
_K: Final = schema.WITNESSED_SEGMENTS.c


@dataclass(frozen=True, slots=True)
class Place:
    """An entry's place in a journal, and its hash; position 0 stands before the first."""

    generation: int = 0
    seq: int = 0
    hash: bytes = GENESIS


@dataclass(frozen=True, slots=True)
class Doubt:
    """What stands against a ledger that a bureau witnesses."""

    bureau: str
    peer: str
    finding: LedgerFinding
    known: Place
    told: Place
    since_us: int


@dataclass(frozen=True, slots=True)
class Span:
    """Entries of another ledger that are kept together: `first_seq` names them, `last_seq` is the last that counts."""

    generation: int
    first_seq: int
    last_seq: int


def place_at(database: Database, bureau: str, seq: int) -> Place | None:
    """What this node's own journal has at a position."""
    if seq == 0:
        return Place()
    query = sa.select(_J.generation, _J.seq, _J.hash).where(_J.bureau == bureau, _J.seq == seq)
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else Place(row.generation, row.seq, bytes(row.hash))


def opening_after(database: Database, bureau: str, generation: int) -> tuple[int, bytes] | None:
    """The first entry of a later generation than that: its position and public part; None when there is none."""
    query = (
        sa.select(_J.seq, _J.public)
        .where(_J.bureau == bureau, _J.generation > generation, _J.kind == "generation_opened")
        .order_by(_J.seq)
        .limit(1)
    )
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    return None if row is None else (row.seq, bytes(row.public))


def cosigned(database: Database) -> list[Seen]:
    """The last head of each ledger of this node that each witness has cosigned."""
    return _seen(database, schema.COSIGNED)


def witnessed(database: Database) -> list[Seen]:
    """The last head that each bureau of this node has cosigned of each ledger that it witnesses."""
    return _seen(database, schema.WITNESSED)


def last_witnessed(database: Database, bureau: str) -> Seen | None:
    """The furthest head of a ledger that a bureau of this node has cosigned; None where none has."""
    found = _seen(database, schema.WITNESSED, schema.WITNESSED.c.bureau == bureau)
    return max(found, key=lambda one: (one.generation, one.seq), default=None)


def _seen(database: Database, table: sa.Table, *which: sa.ColumnElement[bool]) -> list[Seen]:
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).where(*which).order_by(table.c.witness, table.c.bureau)).all()
    return [
        Seen(
            row.witness,
            row.bureau,
            row.generation,
            row.seq,
            bytes(row.hash),
            row.stated_at_us,
            row.cosigned_at_us,
            bytes(row.head),
        )
        for row in rows
    ]


def doubts(database: Database) -> list[Doubt]:
    """What stands against ledgers that bureaus of this node witness."""
    table = schema.LEDGER_DOUBTS
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.bureau, table.c.peer)).all()
    return [
        Doubt(
            row.bureau,
            row.peer,
            LedgerFinding(row.finding),
            Place(row.known_generation, row.known_seq, bytes(row.known_hash)),
            Place(row.told_generation, row.told_seq, bytes(row.told_hash)),
            row.since_us,
        )
        for row in rows
    ]


def spans(database: Database, witness: str, bureau: str) -> list[Span]:
    """The kept entries of a ledger, first to last: of a generation only what the next one has not replaced."""
    query = sa.select(_K.generation, _K.first_seq, _K.last_seq).where(_K.witness == witness, _K.bureau == bureau)
    with database.reading() as connection:
        kept = [Span(*row) for row in connection.execute(query)]
    return in_force(kept)


def in_force(kept: Iterable[Span]) -> list[Span]:
    """Those of some spans, cut short, that a later generation has not replaced; first to last."""
    found: list[Span] = []
    end = None
    for span in sorted(kept, key=lambda one: (one.generation, one.first_seq), reverse=True):
        last = span.last_seq if end is None else min(span.last_seq, end)
        if span.first_seq <= last:
            found.append(Span(span.generation, span.first_seq, last))
            end = span.first_seq - 1
    return found[::-1]


def kept_segment(database: Database, witness: str, bureau: str, span: Span) -> journal_pb2.Segment:
    """The entries of a span as they were shown."""
    query = sa.select(_K.segment).where(
        _K.witness == witness, _K.bureau == bureau, _K.generation == span.generation, _K.first_seq == span.first_seq
    )
    with database.reading() as connection:
        data = connection.execute(query).scalar_one()
    segment = journal_pb2.Segment.FromString(zlib.decompress(bytes(data)))
    return first_of(segment, span.last_seq - span.first_seq + 1)


def first_of(segment: journal_pb2.Segment, count: int) -> journal_pb2.Segment:
    """The first entries of a segment."""
    if count >= len(segment.entries):
        return segment
    del segment.entries[count:]
    segment.last_hash = hashes_of(segment)[-1]
    return segment


def after_seq(segment: journal_pb2.Segment, seq: int) -> journal_pb2.Segment:
    """The entries of a segment after a position, which must not be its last."""
    known = seq + 1 - segment.first_seq
    if known <= 0:
        return segment
    cut = journal_pb2.Segment()
    cut.CopyFrom(segment)
    cut.prev_hash = hashes_of(segment)[known - 1]
    cut.first_seq = seq + 1
    del cut.entries[:known]
    return cut


def hashes_of(segment: journal_pb2.Segment) -> list[bytes]:
    """The hashes of a segment's entries, as they follow from what stands before them."""
    sealed = [(entry.private_digest, entry.public) for entry in segment.entries]
    return links(segment.prev_hash, segment.generation, segment.first_seq, sealed)


def hash_at(database: Database, witness: str, bureau: str, found: Sequence[Span], seq: int) -> bytes | None:
    """The hash of a kept entry; `GENESIS` before the first, None for one that is not kept."""
    if seq == 0:
        return GENESIS
    for span in found:
        if span.first_seq <= seq <= span.last_seq:
            return hashes_of(kept_segment(database, witness, bureau, span))[seq - span.first_seq]
    return None


def kept(witness: str, segment: journal_pb2.Segment, at_us: int) -> KeptSegment:
    """A segment as it is kept."""
    return KeptSegment(
        witness,
        segment.bureau,
        segment.generation,
        segment.first_seq,
        segment.first_seq + len(segment.entries) - 1,
        at_us,
        zlib.compress(segment.SerializeToString()),
    )


def receipts(database: Database, bureau: str, case_id: str) -> list[bytes]:
    """The receipts of a case's hand-overs that the bureau has given and got, in the order of the offers."""
    table, given, got = schema.REFERRALS.c, schema.DECISIONS.c, schema.HAND_OVERS.c
    joined = schema.REFERRALS.outerjoin(
        schema.DECISIONS, (given.bureau == table.bureau) & (given.referral_id == table.referral_id)
    ).outerjoin(schema.HAND_OVERS, (got.bureau == table.bureau) & (got.referral_id == table.referral_id))
    query = (
        sa.select(table.outgoing, given.receipt.label("given"), got.receipt.label("got"))
        .select_from(joined)
        .where(table.bureau == bureau, table.case_id == case_id)
        .order_by(table.offered_at_us, table.referral_id)
    )
    with database.reading() as connection:
        kept = [row.got if row.outgoing else row.given for row in connection.execute(query)]
    return [bytes(receipt) for receipt in kept if receipt is not None]


def is_decided(database: Database, bureau: str, receipt_id: str) -> bool:
    """Whether a bureau of ours has given its receipt for something that was offered or said to it."""
    table = schema.DECISIONS.c
    query = sa.select(sa.literal(1)).where(table.bureau == bureau, table.referral_id == receipt_id)
    with database.reading() as connection:
        return connection.execute(query).first() is not None


def attestation(database: LedgerDatabase, bureau: str, receipt_id: str) -> referral_pb2.SignedAttestation | None:
    """The word of a bureau further away that a decision was given for; None where none came. Raises `SealBroken`."""
    table = schema.ATTESTATIONS.c
    query = sa.select(table.sealed).where(table.bureau == bureau, table.receipt_id == receipt_id)
    with database.reading() as connection:
        sealed = connection.execute(query).scalar_one_or_none()
    if sealed is None:
        return None
    opened = database.vault.open(attestation_place(bureau, receipt_id), bytes(sealed))
    return referral_pb2.SignedAttestation.FromString(opened)


def chain_end(database: Database, bureau: str, to_seq: int) -> Place | None:
    """What this node's own journal has at a position, its chain computed anew; None where the chain breaks before."""
    at = Place()
    query = (
        sa.select(_J.seq, _J.generation, _J.public, _J.private_digest, _J.prev_hash, _J.hash)
        .where(_J.bureau == bureau, _J.seq > sa.bindparam("after"), _J.seq <= to_seq)
        .order_by(_J.seq)
        .limit(ENTRIES_READ)
    )
    while at.seq < to_seq:
        with database.reading() as connection:
            rows = connection.execute(query, {"after": at.seq}).all()
        if not rows:
            return None
        for row in rows:
            before, hash_ = bytes(row.prev_hash), bytes(row.hash)
            found = link(at.hash, row.generation, row.seq, bytes(row.private_digest), bytes(row.public))
            if (row.seq, before, hash_) != (at.seq + 1, at.hash, found):
                return None
            at = Place(row.generation, row.seq, hash_)
    return at
