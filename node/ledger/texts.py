"""The texts of a ledger's registrations, read from the private parts as they are now: an erased one is not there."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa
import structlog

from kuaixiang.domain.events import Private
from kuaixiang.domain.words import Category, Stage
from kuaixiang.runtime.database import Database
from kuaixiang.runtime.vault import SealBroken
from kuaixiang.wire.codec import decode_private
from kuaixiang.wire.v1 import journal_pb2
from node.ledger import schema
from node.ledger.database import LedgerDatabase

_log: Final = structlog.get_logger(__name__)
REGISTERED: Final = "registered"
RECEIVED: Final = "received"
"""Events whose private part is a whole request: of the bureau's own taxpayers, and of those referred to it."""

_J: Final = schema.JOURNAL.c
_E: Final = schema.ENTRIES.c
_TEXTS: Final = sa.select(
    _E.seq, _E.case_id, _E.kind, _E.occurred_at_us, _E.recorded_at_us, _E.public, _E.sealed
).where(_E.sealed.is_not(None))


@dataclass(frozen=True, slots=True)
class Registration:
    """A request as it came into a ledger. Instants in microseconds."""

    seq: int
    case_id: str
    kind: str
    occurred_at_us: int
    recorded_at_us: int
    category: Category
    private: Private


def first_seq_at(database: Database, bureau: str, at_us: int, end_seq: int) -> int:
    """The first position whose entry was recorded at an instant or later; one after the end when there is none.

    Positions are recorded in the order of time, but for a clock that was set back; so it is found by halving.
    """
    query = sa.select(_J.recorded_at_us).where(_J.bureau == bureau, _J.seq == sa.bindparam("seq"))
    low, high = 1, end_seq + 1
    with database.reading() as connection:
        while low < high:
            middle = (low + high) // 2
            if connection.execute(query, {"seq": middle}).scalar_one() < at_us:
                low = middle + 1
            else:
                high = middle
    return low


def registrations(
    database: LedgerDatabase, bureau: str, after_seq: int, limit: int, kinds: Collection[str] = (REGISTERED, RECEIVED)
) -> list[Registration]:
    """The registrations after a position, first to last, those of which the text is kept."""
    query = _TEXTS.where(_E.bureau == bureau, _E.seq > after_seq, _E.kind.in_(kinds)).order_by(_E.seq).limit(limit)
    return _read(database, bureau, query)


def registrations_at(database: LedgerDatabase, bureau: str, seqs: Sequence[int]) -> list[Registration]:
    """The registrations at some positions."""
    return _read(database, bureau, _TEXTS.where(_E.bureau == bureau, _E.seq.in_(seqs))) if seqs else []


def registrations_of(database: LedgerDatabase, bureau: str, case_ids: Sequence[str]) -> list[Registration]:
    """The registrations of some cases."""
    kinds = (REGISTERED, RECEIVED)
    query = _TEXTS.where(_E.bureau == bureau, _E.case_id.in_(case_ids), _E.kind.in_(kinds)).order_by(_E.seq)
    return _read(database, bureau, query) if case_ids else []


def stages_of(database: Database, bureau: str, case_ids: Sequence[str]) -> dict[str, Stage]:
    """Where cases stand in the ledger."""
    table = schema.KNOWN_CASES
    query = sa.select(table.c.case_id, table.c.stage).where(table.c.bureau == bureau, table.c.case_id.in_(case_ids))
    with database.reading() as connection:
        return {row.case_id: Stage(row.stage) for row in connection.execute(query)}


def _read(database: LedgerDatabase, bureau: str, query: sa.Select[Any]) -> list[Registration]:
    with database.reading() as connection:
        rows = connection.execute(query).all()
    found = [
        Registration(
            seq,
            case_id,
            kind,
            occurred_at_us,
            recorded_at_us,
            Category(journal_pb2.Entry.FromString(bytes(public)).category),
            private,
        )
        for seq, case_id, kind, occurred_at_us, recorded_at_us, public, sealed in rows
        if (private := private_kept(database, bureau, seq, sealed)) is not None
    ]
    return [registration for registration in found if registration.private.text]


def private_kept(database: LedgerDatabase, bureau: str, seq: int, sealed: bytes) -> Private | None:
    """A private part for those who read many; None, with a line in the log, for one that does not open."""
    try:
        return decode_private(database.open_private(bureau, seq, sealed))
    except SealBroken as broken:
        _log.exception("A private part does not open.", action="vault.broken", place=broken.place)
        return None
