"""What happened to a channel's cases, read from the journal by the time of recording, in pages."""

from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.events import CaseEvent
from kuaixiang.domain.words import Channel, Stage
from kuaixiang.runtime.database import Database
from kuaixiang.wire.codec import decode_entry
from node.ledger import schema
from node.ledger.queries import PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX, not_a_token
from node.ledger.texts import first_seq_at

ENTRIES_LOOKED_AT_MAX: Final = 2_000
"""Entries of a page, whosever they are: some 10 ms, also where the channel has none among them."""
SEQ_DIGITS_MAX: Final = 18

_J: Final = schema.JOURNAL.c
_C: Final = schema.KNOWN_CASES.c
_PAGE: Final = (
    sa.select(_J.seq, _J.case_id, _J.recorded_at_us, _J.public)
    .join_from(schema.JOURNAL, schema.KNOWN_CASES, sa.and_(_C.bureau == _J.bureau, _C.case_id == _J.case_id))
    .where(
        _J.bureau == sa.bindparam("bureau"),
        _J.seq > sa.bindparam("after_seq"),
        _J.seq <= sa.bindparam("to_seq"),
        # Readings, which leave a case as it was, have none.
        _J.version > 0,
        _C.channel == sa.bindparam("channel"),
    )
    .order_by(_J.seq)
    .limit(sa.bindparam("rows_max"))
)


@dataclass(frozen=True, slots=True)
class Change:
    """An entry of a case, and where it left that."""

    seq: int
    case_id: str
    stage: Stage
    recorded_at_us: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Window:
    """Whose changes, recorded when (microseconds); without an end, up to `head_seq`, the journal's."""

    bureau: str
    channel: Channel
    head_seq: int
    from_us: int | None = None
    before_us: int | None = None


def list_changes(database: Database, window: Window, page_size: int, page_token: str) -> tuple[list[Change], str]:
    """A page of the changes, and the token of the next one; raises `FieldMalformed` for a token that is none."""
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    bureau, head = window.bureau, window.head_seq
    last = head if window.before_us is None else first_seq_at(database, bureau, window.before_us, head) - 1
    if page_token:
        after = _read_token(page_token)
    elif window.from_us is None:
        after = 0
    else:
        after = first_seq_at(database, bureau, window.from_us, head) - 1
    to_seq = min(last, after + ENTRIES_LOOKED_AT_MAX)
    values: dict[str, Any] = {
        "bureau": bureau,
        "channel": window.channel,
        "after_seq": after,
        "to_seq": to_seq,
        "rows_max": size,
    }
    with database.reading() as connection:
        rows = connection.execute(_PAGE, values).all()
    found = []
    for row in rows:
        event = decode_entry(bytes(row.public)).event
        if isinstance(event, CaseEvent):
            found.append(Change(row.seq, row.case_id, event.stage, row.recorded_at_us))
    seen = rows[-1].seq if len(rows) == size else to_seq
    return found, str(seen) if seen < last else ""


def _read_token(token: str) -> int:
    if not (token.isascii() and token.isdigit() and len(token) <= SEQ_DIGITS_MAX):
        raise not_a_token()
    return int(token)
