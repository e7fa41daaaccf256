"""What somebody outside of the federation is still to be told, as the ledger keeps it. No query writes."""

from collections.abc import Collection
from typing import Final

import sqlalchemy as sa

from kuaixiang.domain.words import Channel
from kuaixiang.runtime.database import Database
from node.ledger import schema
from node.ledger.ledger import Callback

_K: Final = schema.CALLBACKS.c
_ORDER: Final = (_K.next_attempt_us, _K.bureau, _K.seq)


def new(
    database: Database,
    sink: str,
    bureau: str,
    after: int,
    until: int,
    *,
    kinds: Collection[str],
    channels: Collection[Channel],
    since_us: int,
    limit: int,
) -> list[Callback]:
    """What a part of a journal has to tell a sink, in order: entries of these kinds about cases of these channels."""
    journal, cases = schema.JOURNAL.c, schema.CASES.c
    statement = (
        sa.select(journal.seq, journal.generation, journal.case_id, journal.kind, journal.occurred_at_us)
        .join_from(
            schema.JOURNAL,
            schema.CASES,
            sa.and_(cases.bureau == journal.bureau, cases.case_id == journal.case_id),
        )
        .where(
            journal.bureau == bureau,
            journal.seq > after,
            journal.seq <= until,
            journal.kind.in_(kinds),
            cases.channel.in_([int(channel) for channel in channels]),
        )
        .order_by(journal.seq)
        .limit(limit)
    )
    with database.reading() as connection:
        rows = connection.execute(statement).all()
    return [
        Callback(
            sink, bureau, row.seq, row.generation, row.case_id, row.kind, row.occurred_at_us, since_us, 0, since_us
        )
        for row in rows
    ]


def cursors(database: Database, sink: str) -> dict[str, int]:
    """Up to where each bureau's journal has been looked through for a sink."""
    table = schema.CALLBACK_CURSORS.c
    with database.reading() as connection:
        rows = connection.execute(sa.select(table.bureau, table.seq).where(table.sink == sink)).all()
    return {row.bureau: row.seq for row in rows}


def due(database: Database, sink: str, now_us: int, limit: int) -> list[Callback]:
    """What a sink is to be told now, what has not been tried first: what has failed holds up nothing else."""
    asked = sa.select(schema.CALLBACKS).where(_K.sink == sink, _K.dead == 0).order_by(*_ORDER)
    found = _found(database, asked.where(_K.attempts == 0), limit)
    if len(found) == limit:
        return found
    again = asked.where(_K.attempts > 0, _K.next_attempt_us <= now_us)
    return found + _found(database, again, limit - len(found))


def next_due(database: Database, sink: str, now_us: int) -> int | None:
    """When something is due that is not yet; None where nothing is."""
    asked = sa.select(sa.func.min(_K.next_attempt_us)).where(_K.sink == sink, _K.dead == 0, _K.next_attempt_us > now_us)
    with database.reading() as connection:
        found: int | None = connection.execute(asked).scalar()
    return found


def older(database: Database, sink: str, since_us: int, limit: int) -> list[Callback]:
    """Those of them that have waited since then or longer."""
    asked = sa.select(schema.CALLBACKS).where(_K.sink == sink, _K.dead == 0, _K.since_us <= since_us)
    return _found(database, asked, limit)


def kept(database: Database, bureau: str, *, sink: str, dead: bool | None, limit: int, seq: int = 0) -> list[Callback]:
    """What is still to be told, or was given up, of a bureau; of one sink and one entry, or of all of them."""
    asked = sa.select(schema.CALLBACKS).where(_K.bureau == bureau)
    if sink:
        asked = asked.where(_K.sink == sink)
    if seq:
        asked = asked.where(_K.seq == seq)
    if dead is not None:
        asked = asked.where(_K.dead == int(dead))
    return _found(database, asked.order_by(_K.dead.desc(), _K.since_us, _K.sink, _K.seq), limit)


def counts(database: Database, sink: str) -> tuple[int, int, int]:
    """How many wait, how many were given up, and since when the longest waits (0 for none)."""
    asked = (
        sa.select(_K.dead, sa.func.count().label("number"), sa.func.min(_K.since_us).label("since"))
        .where(_K.sink == sink)
        .group_by(_K.dead)
    )
    with database.reading() as connection:
        found = {row.dead: row for row in connection.execute(asked)}
    waits, dead = found.get(0), found.get(1)
    return (
        waits.number if waits is not None else 0,
        dead.number if dead is not None else 0,
        waits.since if waits is not None else 0,
    )


def _found(database: Database, asked: "sa.Select[tuple[object, ...]]", limit: int) -> list[Callback]:
    with database.reading() as connection:
        rows = connection.execute(asked.limit(limit)).all()
    return [Callback(*(row._mapping[field] for field in Callback._fields)) for row in rows]  # noqa: SLF001 - its API
