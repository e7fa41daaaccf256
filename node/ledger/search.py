"""Finding cases by words: what the entries of a ledger are found by, and looking for it.

Each entry of a case with a private part is one document: the registration with what it says, a later one with its note.
Its pieces (`kuaixiang.text.finding`) stand in `case_words`, written in the transaction of the entry: not themselves but
tokens of them (`kuaixiang.runtime.vault`), so that the index finds what is asked for and cannot be read. The database
keeps its own index of them by triggers: FTS5 on SQLite, GIN over `tsvector` on PostgreSQL. Both get what was
cut here, so that they find the same.

A document's number begins with its bureau's code: looking in one bureau is looking in a range of numbers, and the
newest come first without sorting, so that a word that is everywhere costs no more than a page of it.
"""

from collections.abc import Collection, Sequence
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.events import CaseEvent, Entry, OfferDeclined, Received, Registered
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.vault import Vault
from kuaixiang.text.finding import number_pieces, pieces_asked, pieces_of
from node.ledger import schema

SEARCH_CHARACTERS_MAX: Final = 200
"""What somebody types to find a case; a longer text is compared with others by `FindDuplicates`."""
HITS_READ_MAX: Final = 2_000
"""Entries looked at for one page: some 10 ms. What else restricts may pass over all of them; the next page goes on."""
SEQ_BITS: Final = 40
"""Bits of a document's number for the entry's seq: a bureau's journal has fewer than 10^12 entries."""

Asked = Sequence[Sequence[str]]
"""What an entry must have to be found: all the tokens of one of these, which are of one key each."""

_QUOTE: Final = "'"
_DOC: Final = schema.CASE_WORDS.c.doc
_CASE_ID: Final = schema.CASE_WORDS.c.case_id
_SQLITE: Final = (
    # CROSS JOIN: the index of words leads, whatever the planner believes.
    "SELECT f.rowid AS doc, w.case_id FROM {of}case_words_index f CROSS JOIN {of}case_words w ON w.doc = f.rowid"
    " WHERE f.case_words_index MATCH :asked AND f.rowid >= :first AND f.rowid < :before"
    " ORDER BY f.rowid DESC LIMIT :hits"
)
_POSTGRESQL: Final = (
    "SELECT doc, case_id FROM {of}case_words"
    " WHERE array_to_tsvector(string_to_array('@' || bureau || ' ' || words, ' ')) @@ CAST(:asked AS tsquery)"
    " AND doc >= :first AND doc < :before ORDER BY doc DESC LIMIT :hits"
)


def _hits(dialect: str, cases: sa.Table) -> sa.CTE:
    """The newest entries that have all the pieces, of those before a document: of the archive where its cases are."""
    of = f"{schema.ARCHIVE}." if cases is schema.ARCHIVED_CASES else ""
    text = _SQLITE if dialect == "sqlite" else _POSTGRESQL
    return sa.text(text.format(of=of)).columns(_DOC, _CASE_ID).cte("hits")


def doc_number(bureau: str, seq: int) -> int:
    """The number of an entry's document."""
    return (int(bureau) << SEQ_BITS) + seq


def word_rows(entry: Entry, seq: int, vault: Vault) -> list[tuple[Any, ...]]:
    """What an entry is found by; nothing for one that is of no case or has nothing private."""
    event = entry.event
    private = event.private
    if private is None or not isinstance(event, CaseEvent) or isinstance(event, OfferDeclined):
        return []
    if isinstance(event, (Registered, Received)):
        # A contact written in groups is also found by its digits.
        digits = "".join(filter(str.isdigit, private.contact))
        said = (private.taxpayer_name, private.taxpayer_number, private.contact, digits, private.text)
        pieces = pieces_of(*said, private.place, private.channel_reference, private.note)
        pieces += number_pieces(entry.case_id)
    else:
        pieces = pieces_of(private.note)
    if not pieces:
        return []
    return [(doc_number(entry.bureau, seq), entry.bureau, entry.case_id, " ".join(vault.tokens(entry.bureau, pieces)))]


def archived_words(connection: sa.Connection, cases: Collection[tuple[str, str]]) -> list[tuple[Any, ...]]:
    """What those of some cases (bureau, case id) are found by that are in the archive, as rows of `case_words`."""
    words, archived = schema.A_CASE_WORDS, schema.ARCHIVED_CASES
    of_both = (archived.c.bureau == words.c.bureau) & (archived.c.case_id == words.c.case_id)
    query = (
        sa.select(words)
        .select_from(words.join(archived, of_both))
        .where(
            words.c.bureau.in_({bureau for bureau, _ in cases}), words.c.case_id.in_({case_id for _, case_id in cases})
        )
    )
    return [tuple(row) for row in connection.execute(query) if (row.bureau, row.case_id) in cases]


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


def found_before(
    connection: sa.Connection,
    bureau: str,
    asked: Asked,
    case_ids: Collection[str],
    *,
    table: sa.Table,
    from_doc: int,
) -> set[str]:
    """Which of the cases have what is asked for in an entry from a document on: an earlier page has shown them."""
    query = sa.select(table.c.case_id, table.c.words).where(
        table.c.bureau == bureau, table.c.case_id.in_(case_ids), table.c.doc >= from_doc
    )
    wanted = [set(tokens) for tokens in asked]
    return {
        case_id
        for case_id, words in connection.execute(query)
        if any(tokens <= set(words.split(" ")) for tokens in wanted)
    }


def search_page(
    connection: sa.Connection,
    bureau: str,
    asked: Asked,
    *,
    before: int | None,
    size: int,
    cases: sa.Table,
    conditions: Sequence[sa.ColumnElement[bool]],
) -> tuple[dict[str, int], int | None]:
    """A page of cases with what is asked for in one entry, the newest such entry first, and where the next page begins.

    The cases are told with their versions. `cases` is where they are listed, here or in the archive, and `conditions`
    on it say which are wanted at all. No case is on two pages. After `HITS_READ_MAX` entries a page ends with what it
    has; the next page's place is None after the last one.
    """
    found: dict[str, int] = {}
    words = schema.A_CASE_WORDS if cases is schema.ARCHIVED_CASES else schema.CASE_WORDS
    at, read, limit = before, 0, size + 1
    while read < HITS_READ_MAX:
        wanted, oldest, hits = _look(
            connection, bureau, asked, cases=cases, conditions=conditions, before=at, limit=limit
        )
        case_ids = {row.case_id for row in wanted}
        shown = found_before(connection, bureau, asked, case_ids, table=words, from_doc=before) if before else set()
        for row in wanted:
            if row.case_id not in shown and row.case_id not in found:
                if len(found) == size:
                    return found, at
                found[row.case_id] = row.version
            at = row.doc
        if hits < limit:
            return found, None
        at = oldest
        read += hits
        limit = min(limit * 4, HITS_READ_MAX - read)
    return found, at


def _look(
    connection: sa.Connection,
    bureau: str,
    asked: Asked,
    *,
    cases: sa.Table,
    conditions: Sequence[sa.ColumnElement[bool]],
    before: int | None,
    limit: int,
) -> tuple[list[Any], int, int]:
    """Which of the next entries with what is asked for are of wanted cases; the oldest of all, and how many."""
    hits = _hits(connection.dialect.name, cases)
    first, end = doc_number(bureau, 0), doc_number(bureau, 1 << SEQ_BITS)
    # Tokens are letters and digits alone: within quotes no database takes them for anything else.
    if connection.dialect.name == "sqlite":
        text = _any(asked, '"', " AND ", " OR ")
    else:
        text = f"'@{bureau}' & ({_any(asked, _QUOTE, ' & ', ' | ')})"
    of_both = (cases.c.bureau == bureau) & (cases.c.case_id == hits.c.case_id)
    wanted = (
        sa.select(hits.c.doc, cases.c.case_id, cases.c.version)
        .select_from(hits.join(cases, of_both))
        .where(*conditions)
    )
    # The last row tells of all that was looked at.
    looked_at = sa.select(sa.func.min(hits.c.doc), sa.literal(""), sa.func.count())
    span = {"asked": text, "first": first, "before": end if before is None else min(max(before, first), end)}
    rows = list(connection.execute(wanted.union_all(looked_at), {**span, "hits": limit}))
    (summary,) = [row for row in rows if not row.case_id]
    newest_first = sorted((row for row in rows if row.case_id), key=lambda row: -row.doc)
    return newest_first, summary.doc or first, summary.version


def _any(asked: Asked, quote: str, also: str, either: str) -> str:
    """What is asked for, in the signs of a database."""
    return either.join(f"({also.join(f'{quote}{token}{quote}' for token in tokens)})" for tokens in asked)
