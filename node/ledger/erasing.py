"""Erasing what is private of a case: its private parts with their words, what it is found by, and files of its own.

What stays is the journal, whose chain holds the digests; that a request was made under a key, without what it said; and
files that another case of the node has too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import sqlalchemy as sa

from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import EntryUnreadable
from kuaixiang.domain.words import Channel, Stage
from kuaixiang.wire.codec import UNREADABLE, decode_private
from node.ledger import blobs, schema
from node.ledger.database import LedgerDatabase, request_place
from node.ledger.search import doc_number

CASES_AT_ONCE: Final = 200
"""Cases looked at in one query: some 10 ms."""


@dataclass(frozen=True, slots=True)
class Kept:
    """What is kept of a case at a version of it: the entries with a private part, and what else there is of them."""

    version: int
    seqs: tuple[int, ...]
    digests: tuple[str, ...]
    """Files that no other case has."""
    references: tuple[str, ...]
    """Tokens of the channel's own reference."""
    request_keys: tuple[str, ...]


def candidates(
    database: LedgerDatabase, bureau: str, after: str, registered_before_us: int
) -> tuple[list[str], str | None]:
    """The next written-off cases of which something private is kept, and where to go on; None at the end.

    Only such as were registered before an instant.
    """
    cases, entries = schema.KNOWN_CASES, schema.ENTRIES.c
    kept = sa.exists(
        sa.select(sa.literal(1)).where(
            entries.bureau == cases.c.bureau, entries.case_id == cases.c.case_id, entries.sealed.is_not(None)
        )
    )
    query = (
        sa.select(cases.c.case_id, kept)
        .where(
            cases.c.bureau == bureau,
            cases.c.case_id > after,
            cases.c.stage == int(Stage.WRITTEN_OFF),
            cases.c.registered_at_us < registered_before_us,
        )
        .order_by(cases.c.case_id)
        .limit(CASES_AT_ONCE)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    more = rows[-1][0] if len(rows) == CASES_AT_ONCE else None
    return [case_id for case_id, something in rows if something], more


def kept_of(database: LedgerDatabase, bureau: str, cases: Sequence[Case]) -> dict[str, Kept]:
    """What is private of some cases and still here, by their numbers. Raises `EntryUnreadable`."""
    entries, files, requests = schema.ENTRIES.c, schema.ATTACHMENTS, schema.REQUESTS
    case_ids = [case.case_id for case in cases]
    sealed = (
        sa.select(entries.case_id, entries.seq, entries.sealed)
        .where(entries.bureau == bureau, entries.case_id.in_(case_ids), entries.sealed.is_not(None))
        .order_by(entries.seq)
    )
    other = files.alias()
    shared = sa.exists().where(
        other.c.digest == files.c.digest, sa.or_(other.c.bureau != bureau, other.c.case_id != files.c.case_id)
    )
    own = sa.select(files.c.case_id, files.c.digest).where(
        files.c.bureau == bureau, files.c.case_id.in_(case_ids), ~shared
    )
    with database.reading() as connection:
        found = connection.execute(sealed).all()
        digests = connection.execute(own.order_by(files.c.digest)).all()
        # One walk through the table for all the cases: it has no index by case, which each act would pay for.
        asked = sa.select(requests.c.case_id, requests.c.request_key).where(
            requests.c.bureau == bureau, requests.c.case_id.in_(case_ids)
        )
        keys = connection.execute(asked).all()
    references: dict[str, set[str]] = {}
    for row in found:
        try:
            reference = decode_private(database.open_private(bureau, row.seq, row.sealed)).channel_reference
        except UNREADABLE:
            raise EntryUnreadable(bureau, row.case_id) from None
        if reference:
            references.setdefault(row.case_id, set()).update(database.vault.references(bureau, reference))
    return {
        case.case_id: Kept(
            case.version,
            tuple(row.seq for row in found if row.case_id == case.case_id),
            tuple(row.digest for row in digests if row.case_id == case.case_id),
            tuple(sorted(references.get(case.case_id, ()))),
            tuple(row.request_key for row in keys if row.case_id == case.case_id),
        )
        for case in cases
    }


def erase(database: LedgerDatabase, erased: Sequence[tuple[str, str, Kept]]) -> None:
    """Deletes what is kept of cases (bureau, case id), in the writer's open transaction.

    What is in the archive is hidden by it from every reader, and deleted there after it (`Archive.erase`).
    """
    parts, files, references, requests = schema.PRIVATE, schema.ATTACHMENTS, schema.REFERENCES, schema.REQUESTS
    words = schema.CASE_WORDS
    run = database.writing.execute
    for bureau, case_id, kept in erased:
        # The words go with the private parts: the database sees to that.
        run(sa.delete(parts).where(parts.c.bureau == bureau, parts.c.seq.in_(kept.seqs)))
        archived = [seq for seq in kept.seqs if database.archive.holds(bureau, seq)]
        if archived:
            # Of a case that was open when its entries were archived the words are here.
            run(sa.delete(words).where(words.c.doc.in_([doc_number(bureau, seq) for seq in archived])))
            run(sa.insert(schema.ARCHIVE_ERASURES), [{"bureau": bureau, "seq": seq} for seq in archived])
        if kept.references:
            run(
                sa.delete(references).where(
                    references.c.bureau == bureau,
                    references.c.channel.in_([int(channel) for channel in Channel]),
                    references.c.reference.in_(kept.references),
                    references.c.case_id == case_id,
                )
            )
        run(sa.delete(files).where(files.c.bureau == bureau, files.c.case_id == case_id))
        for request_key in kept.request_keys:
            nothing = database.vault.seal(request_place(bureau, request_key), b"")
            of_key = (requests.c.bureau == bureau) & (requests.c.request_key == request_key)
            run(sa.update(requests).where(of_key).values(digest=nothing))
        blobs.drop(database.writing, kept.digests)
