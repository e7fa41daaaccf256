"""Reading the ledger: what officers, peers, the courier, the publisher and the sweep ask of it. No query writes."""

import base64
import binascii
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import Entry, Private
from kuaixiang.domain.labels import Both
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.words import Category, Channel, ClockKind, Custody, Stage
from kuaixiang.runtime.database import Database
from kuaixiang.wire.codec import decode_entry, decode_private
from kuaixiang.wire.v1 import journal_pb2
from node.ledger import schema
from node.ledger.ledger import load_cases, readable

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 500
"""Cases in one answer: about 250 kB."""
LINKED_CASES_MAX: Final = 500
"""Cases that one completion may complete: one transaction of the writer."""
SEQ_MAX: Final = 2**63 - 1
"""The end of every journal."""

_J: Final = schema.JOURNAL.c
_SPAN: Final = (
    sa.select(_J.seq, _J.generation, _J.public, _J.private_digest, _J.prev_hash, _J.hash)
    .where(
        _J.bureau == sa.bindparam("bureau"),
        _J.seq > sa.bindparam("after_seq"),
        _J.seq <= sa.bindparam("to_seq"),
    )
    .order_by(_J.seq)
    .limit(sa.bindparam("entries_max"))
)
"""Made once: the publisher asks it of every bureau with a tail, and making it took thrice as long as running it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CaseFilter:
    """Which cases are wanted; what is left out does not restrict. Instants in microseconds."""

    bureau: str
    stages: Sequence[Stage] = ()
    custodies: Sequence[Custody] = ()
    department: str = ""
    category: Category | None = None
    channel: Channel | None = None
    next_clock: ClockKind | None = None
    due_before_us: int | None = None
    registered_from_us: int | None = None
    registered_before_us: int | None = None


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One journal entry of a case, with its private part where that was asked for and is kept."""

    seq: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class Delivery:
    """A case about which a peer is to be told something, since `since_us`."""

    bureau: str
    peer: str
    case_id: str
    since_us: int


@dataclass(frozen=True, slots=True)
class Owed:
    """What a bureau is to tell a peer: how many messages, the first of them since `since_us`."""

    bureau: str
    peer: str
    messages: int
    since_us: int


@dataclass(frozen=True, slots=True)
class PeerState:
    """How it went with a peer lately: failures in a row, and when it is to be tried again (real time)."""

    failures: int
    next_attempt_us: int


def one_case(database: Database, bureau: str, case_id: str) -> Case | None:
    """A case as committed."""
    with database.reading() as connection:
        return readable(load_cases(connection, [(bureau, case_id)]).get((bureau, case_id)))


def history(database: Database, bureau: str, case_id: str, *, private: bool) -> list[HistoryEntry]:
    """The entries of a case, first to last."""
    journal, parts = schema.JOURNAL, schema.PRIVATE
    query = (
        sa.select(journal.c.seq, journal.c.public, parts.c.payload)
        .select_from(journal.outerjoin(parts, (parts.c.bureau == journal.c.bureau) & (parts.c.seq == journal.c.seq)))
        .where(journal.c.bureau == bureau, journal.c.case_id == case_id, journal.c.version > 0)
        .order_by(journal.c.version)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        HistoryEntry(seq, decode_entry(bytes(public), bytes(payload) if private and payload is not None else None))
        for seq, public, payload in rows
    ]


def private_of(database: Database, bureau: str, case_id: str, version: int) -> Private | None:
    """The private part of one entry of a case; None when it has none or it has been erased."""
    journal, parts = schema.JOURNAL, schema.PRIVATE
    query = (
        sa.select(parts.c.payload)
        .select_from(journal.join(parts, (parts.c.bureau == journal.c.bureau) & (parts.c.seq == journal.c.seq)))
        .where(journal.c.bureau == bureau, journal.c.case_id == case_id, journal.c.version == version)
    )
    with database.reading() as connection:
        payload = connection.execute(query).scalar_one_or_none()
    return decode_private(bytes(payload)) if payload is not None else None


def list_cases(database: Database, wanted: CaseFilter, page_size: int, page_token: str) -> tuple[list[Case], str]:
    """A page of cases, nearest deadline first, and the token of the next page (empty after the last)."""
    table = schema.CASES
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    query = sa.select(table.c.case_id, table.c.next_due_us).where(*_conditions(wanted))
    if page_token:
        due, case_id = _read_token(page_token)
        query = query.where(
            sa.or_(table.c.next_due_us > due, sa.and_(table.c.next_due_us == due, table.c.case_id > case_id))
        )
    query = query.order_by(table.c.next_due_us, table.c.case_id).limit(size + 1)
    with database.reading() as connection:
        rows = connection.execute(query).all()
        keys = [(wanted.bureau, case_id) for case_id, _ in rows[:size]]
        cases = load_cases(connection, keys)
    more = _token(rows[size - 1].next_due_us, rows[size - 1].case_id) if len(rows) > size else ""
    return [case for key in keys if (case := readable(cases.get(key))) is not None], more


def _conditions(wanted: CaseFilter) -> list[sa.ColumnElement[bool]]:
    table = schema.CASES
    conditions: list[sa.ColumnElement[bool]] = [table.c.bureau == wanted.bureau]
    if wanted.stages:
        conditions.append(table.c.stage.in_([int(stage) for stage in wanted.stages]))
    if wanted.custodies:
        conditions.append(table.c.custody.in_([int(custody) for custody in wanted.custodies]))
    equal: tuple[tuple[sa.Column[Any], Any], ...] = (
        (table.c.department, wanted.department or None),
        (table.c.category, wanted.category),
        (table.c.channel, wanted.channel),
        (table.c.next_clock, wanted.next_clock),
    )
    conditions += [column == value for column, value in equal if value is not None]
    if wanted.due_before_us is not None:
        conditions.append(table.c.next_due_us <= wanted.due_before_us)
    if wanted.registered_from_us is not None:
        conditions.append(table.c.registered_at_us >= wanted.registered_from_us)
    if wanted.registered_before_us is not None:
        conditions.append(table.c.registered_at_us < wanted.registered_before_us)
    return conditions


def linked_cases(database: Database, bureau: str, lead_case_id: str) -> list[str]:
    """The numbers of the cases that are linked to a lead case, first to last."""
    table = schema.CASES
    query = (
        sa.select(table.c.case_id)
        .where(table.c.bureau == bureau, table.c.lead_case_id == lead_case_id)
        .order_by(table.c.case_id)
        .limit(LINKED_CASES_MAX)
    )
    with database.reading() as connection:
        return list(connection.execute(query).scalars())


def _token(due_us: int, case_id: str) -> str:
    return base64.urlsafe_b64encode(f"{due_us} {case_id}".encode()).decode()


def _read_token(token: str) -> tuple[int, str]:
    try:
        due, case_id = base64.urlsafe_b64decode(token.encode()).decode().split(" ", 1)
        check_case_id(case_id, "page_token")
        return max(0, min(int(due), schema.NEVER_US)), case_id
    except (ValueError, binascii.Error) as fault:
        raise FieldMalformed(
            "page_token",
            Both("is not a token of this list", "不是本列表的翻页标记"),
            Both("Pass the next_page_token of the page before, as it is.", "请原样使用上一页给出的翻页标记。"),
        ) from fault


def overdue_cases(database: Database, bureaus: Sequence[str], now_us: int, limit: int) -> list[tuple[str, str]]:
    """Owned cases with a deadline that has passed and is not recorded as such: (bureau, case id), oldest first."""
    clocks, cases = schema.CLOCKS, schema.CASES
    query = (
        sa.select(clocks.c.bureau, clocks.c.case_id)
        .select_from(clocks.join(cases, (cases.c.bureau == clocks.c.bureau) & (cases.c.case_id == clocks.c.case_id)))
        .where(
            clocks.c.overdue == 0,
            clocks.c.due_us <= now_us,
            clocks.c.bureau.in_(bureaus),
            cases.c.custody == int(Custody.OWNED),
        )
        .order_by(clocks.c.due_us)
        .limit(limit)
    )
    with database.reading() as connection:
        return list(dict.fromkeys((bureau, case_id) for bureau, case_id in connection.execute(query)))


def read_segment(
    database: Database, bureau: str, after_seq: int, *, entries_max: int, bytes_max: int, to_seq: int = 0
) -> journal_pb2.Segment | None:
    """The entries after a position, all of one generation, as many as fit; None at the end of the journal."""
    span = {"bureau": bureau, "after_seq": after_seq, "to_seq": to_seq or SEQ_MAX, "entries_max": entries_max}
    with database.reading() as connection:
        rows = connection.execute(_SPAN, span).all()
    if not rows:
        return None
    first = rows[0]
    segment = journal_pb2.Segment(
        bureau=bureau, generation=first.generation, first_seq=first.seq, prev_hash=bytes(first.prev_hash)
    )
    size = 0
    for row in rows:
        size += len(row.public)
        if row.generation != first.generation or (segment.entries and size > bytes_max):
            break
        segment.entries.add(public=bytes(row.public), private_digest=bytes(row.private_digest))
        segment.last_hash = bytes(row.hash)
    return segment


def published_seqs(database: Database) -> dict[str, int]:
    """Up to where each bureau's journal has been published."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(schema.CURSORS)).all()
    return {row.bureau: row.published_seq for row in rows}


def owed_peers(database: Database) -> list[Owed]:
    """Who is to be told something."""
    table = schema.DELIVERIES
    query = sa.select(table.c.bureau, table.c.peer, sa.func.count(), sa.func.min(table.c.since_us)).group_by(
        table.c.bureau, table.c.peer
    )
    with database.reading() as connection:
        return [Owed(*row) for row in connection.execute(query)]


def deliveries(database: Database, bureau: str, peer: str, limit: int) -> list[Delivery]:
    """What a peer is to be told, oldest first."""
    table = schema.DELIVERIES
    query = (
        sa.select(table)
        .where(table.c.bureau == bureau, table.c.peer == peer)
        .order_by(table.c.since_us, table.c.case_id)
        .limit(limit)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [Delivery(row.bureau, row.peer, row.case_id, row.since_us) for row in rows]


def peer_states(database: Database) -> dict[tuple[str, str], PeerState]:
    """The persisted back-off of every peer, by (bureau, peer)."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(schema.PEERS)).all()
    return {(row.bureau, row.peer): PeerState(row.failures, row.next_attempt_us) for row in rows}
