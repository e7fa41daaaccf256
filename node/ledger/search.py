"""Finding cases by words: what the entries of a ledger are found by, and looking for it.

Each entry of a case with a private part is one document: the registration with what it says, a later one with its note.
Its pieces (`kuaixiang.text.finding`) stand in `case_words`, written in the transaction of the entry. The database keeps
its own index of them by triggers: FTS5 on SQLite, GIN over `tsvector` on PostgreSQL. Both get pieces that were cut
here, so that they find the same; on SQLite by the tokenizer `ascii`, which leaves every piece whole, where `unicode61`
would cut one with a character newer than its tables in two.

A document's number begins with its bureau's code: looking in one bureau is looking in a range of numbers, and the
newest come first without sorting, so that a word that is everywhere costs no more than a page of it.
"""

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import CaseEvent, Entry, OfferDeclined, Received, Registered
from kuaixiang.domain.labels import Both
from kuaixiang.text.finding import number_pieces, pieces_asked, pieces_of
from kuaixiang.wire.codec import UNREADABLE, decode_entry
from node.ledger import schema

SEARCH_CHARACTERS_MAX: Final = 200
"""What somebody types to find a case; a longer text is compared with others by `FindDuplicates`."""
HITS_READ_MAX: Final = 5_000
"""Entries looked at for one page: some 20 ms. What else restricts may pass over all of them; the next page goes on."""
SEQ_BITS: Final = 40
"""Bits of a document's number for the entry's seq: a bureau's journal has fewer than 10^12 entries."""
ENTRIES_READ: Final = 5_000
"""Entries of an older ledger whose words are taken at a time."""

_NEWEST_SQLITE: Final = sa.text(
    # CROSS JOIN: the index of words leads, whatever the planner believes.
    "SELECT f.rowid AS doc, w.case_id FROM case_words_index f CROSS JOIN case_words w ON w.doc = f.rowid"
    " WHERE f.case_words_index MATCH :wanted AND f.rowid >= :first AND f.rowid < :before ORDER BY f.rowid DESC LIMIT :hits"
)
_NEWEST_POSTGRESQL: Final = sa.text(
    "SELECT doc, case_id FROM case_words"
    " WHERE array_to_tsvector(string_to_array('@' || bureau || ' ' || words, ' ')) @@ CAST(:wanted AS tsquery)"
    " AND doc < :before ORDER BY doc DESC LIMIT :hits"
)


@dataclass(frozen=True, slots=True)
class Hit:
    """An entry of a case that has all the words."""

    doc: int
    case_id: str


def doc_number(bureau: str, seq: int) -> int:
    """The number of an entry's document."""
    return (int(bureau) << SEQ_BITS) + seq


def word_rows(entry: Entry, seq: int) -> list[tuple[Any, ...]]:
    """What an entry is found by; nothing for one that is of no case or has nothing private."""
    event = entry.event
    private = event.private
    if private is None or not isinstance(event, CaseEvent) or isinstance(event, OfferDeclined):
        return []
    pieces = pieces_of(private.note)
    if isinstance(event, (Registered, Received)):
        # A contact written in groups is also found by its digits.
        digits = "".join(filter(str.isdigit, private.contact))
        said = (private.taxpayer_name, private.taxpayer_number, private.contact, digits, private.text)
        pieces = pieces_of(*said, private.place, private.channel_reference, private.note)
        pieces = tuple(dict.fromkeys((*pieces, *number_pieces(entry.case_id))))
    return [(doc_number(entry.bureau, seq), entry.bureau, entry.case_id, " ".join(pieces))] if pieces else []


def read_search(search: str) -> tuple[str, ...]:
    """The pieces to look for; none for an empty search. Raises `FieldMalformed` where there is nothing to look for."""
    if len(search) > SEARCH_CHARACTERS_MAX:
        raise FieldMalformed(
            "search",
            Both(f"has {len(search)} characters", f"共 {len(search)} 个字，超过上限"),
            Both(
                f"Give a few words, at most {SEARCH_CHARACTERS_MAX} characters.",
                f"请输入几个关键词，最多 {SEARCH_CHARACTERS_MAX} 个字。",
            ),
        )
    pieces = pieces_asked(search)
    if search and not pieces:
        raise FieldMalformed(
            "search",
            Both("has no word to look for", "中没有可以查找的词"),
            Both(
                "Give at least two Chinese characters in a row, or a word, a number or a case's number.",
                "请输入至少两个相连的汉字，或者单词、号码、诉求编号。",
            ),
        )
    return pieces


def newest_hits(
    connection: sa.Connection, bureau: str, pieces: Sequence[str], before: int | None, limit: int
) -> list[Hit]:
    """The newest entries of the bureau that have all the pieces, of those before a document."""
    first, end = doc_number(bureau, 0), doc_number(bureau, 1 << SEQ_BITS)
    span = {"before": end if before is None else min(max(before, first), end), "hits": limit}
    # Pieces are letters and digits alone: within quotes no database takes them for anything else.
    if connection.dialect.name == "sqlite":
        wanted = " ".join(f'"{piece}"' for piece in pieces)
        rows = connection.execute(_NEWEST_SQLITE, {"wanted": wanted, "first": first, **span})
    else:
        wanted = " & ".join(f"'{piece}'" for piece in (f"@{bureau}", *pieces))
        rows = connection.execute(_NEWEST_POSTGRESQL, {"wanted": wanted, **span})
    return [Hit(*row) for row in rows]


def found_before(
    connection: sa.Connection, bureau: str, pieces: Sequence[str], case_ids: Collection[str], from_doc: int
) -> set[str]:
    """Which of the cases have all the pieces in an entry from a document on: an earlier page has shown them."""
    table = schema.CASE_WORDS
    query = sa.select(table.c.case_id, table.c.words).where(
        table.c.bureau == bureau, table.c.case_id.in_(case_ids), table.c.doc >= from_doc
    )
    wanted = set(pieces)
    return {case_id for case_id, words in connection.execute(query) if wanted <= set(words.split(" "))}


def search_page(
    connection: sa.Connection,
    bureau: str,
    pieces: Sequence[str],
    *,
    before: int | None,
    size: int,
    among: Callable[[Sequence[str]], Collection[str]],
) -> tuple[list[str], int | None]:
    """A page of cases with all the pieces in one entry, the newest such entry first, and where the next page begins.

    `among` tells which of some cases are wanted at all. No case is on two pages. After `HITS_READ_MAX` entries a page
    ends with what it has; the place of the next page is None after the last one.
    """
    found: dict[str, None] = {}
    at, read, limit = before, 0, size + 1
    while read < HITS_READ_MAX:
        hits = newest_hits(connection, bureau, pieces, at, limit)
        wanted = set(among([hit.case_id for hit in hits])) if hits else set()
        if before is not None and wanted:
            wanted -= found_before(connection, bureau, pieces, wanted, before)
        for hit in hits:
            if hit.case_id in wanted and hit.case_id not in found:
                if len(found) == size:
                    return list(found), at
                found[hit.case_id] = None
            at = hit.doc
        if len(hits) < limit:
            return list(found), None
        read += len(hits)
        limit = min(limit * 4, HITS_READ_MAX - read)
    return list(found), at


def fill(connection: sa.Connection) -> None:
    """Takes the words of all entries of a ledger that had no table for them yet; one that cannot be read has none."""
    journal, parts = schema.JOURNAL, schema.PRIVATE
    of_both = (parts.c.bureau == journal.c.bureau) & (parts.c.seq == journal.c.seq)
    place = sa.tuple_(parts.c.bureau, parts.c.seq)
    query = (
        sa.select(parts.c.bureau, parts.c.seq, journal.c.public, parts.c.payload)
        .select_from(parts.join(journal, of_both))
        .order_by(parts.c.bureau, parts.c.seq)
        .limit(ENTRIES_READ)
    )
    after = ("", 0)
    columns = schema.CASE_WORDS.columns.keys()
    while entries := connection.execute(query.where(place > after)).all():
        rows = [row for entry in entries for row in _old_rows(entry.seq, entry.public, entry.payload)]
        if rows:
            made = [dict(zip(columns, row, strict=True)) for row in rows]
            connection.execute(sa.insert(schema.CASE_WORDS), made)
        after = (entries[-1].bureau, entries[-1].seq)


def _old_rows(seq: int, public: bytes, payload: bytes) -> list[tuple[Any, ...]]:
    try:
        return word_rows(decode_entry(bytes(public), bytes(payload)), seq)
    except UNREADABLE:
        return []
