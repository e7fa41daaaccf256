"""The ledger's tables.

`journal` and `private` are the truth. `decisions` and `requests` are answers given, kept so that the same question has
the same answer for ever; `directives` are what headquarters has said, in its own bytes, and `attestations` what other
bureaus have. `cases`, `clocks`, `referrals`, `conclusions`, `orders`, `deliveries`, `mismatches`, `reconciliations`,
`attachments`, `case_words`, `ledger_doubts` and the numbers in `bureaus` are projections: changed in the transaction of
the entry they follow from, and made again from the journal by `rebuild`. `blobs` and `blob_chunks` are the content of
the files that private parts name by digest: no projection either, for no journal could make it again. `peers` and
`cursors` remember how far deliveries and publication have come; losing them costs repetitions, which are harmless.
`callbacks` and `callback_cursors` say what channels and taxpayers are still to be told of what has been recorded.
`cosigned`, `witnessed` and `witnessed_segments` are evidence: what others have signed of these ledgers, and what
others' ledgers have shown to these bureaus. `clocks` and `deliveries` are of cases and of supervision orders: `case_id`
is the number of either. `archives` says up to where journals lie in the archive (`node.ledger.archive`), and
`archive_erasures` what is still to be deleted there.

What is read of journal and cases is read through `journal`, `entries`, `known_cases` and `archived_cases`, which for a
reader are views over this database and its archive; what is written is written to the tables.

`private` and `blob_chunks` alone hold what is private, sealed under the key of a file that is not in the database;
`attestations` are sealed for their salts, `case_words` and `channel_references` hold keyed digests of it, and
`requests` sealed ones. `data_keys` says which keys are needed. Whoever deletes a private part, by whatever means, takes
its words with it: the database itself sees to that.

Instants are microseconds since 1970-01-01T00:00Z.
"""

from typing import Final

import sqlalchemy as sa

METADATA: Final = sa.MetaData()

NEVER_US: Final = 2**62
"""A due time after all others, for cases on which no clock runs: so that one index orders the work list."""


def _text(name: str, *, key: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, primary_key=key, nullable=False)


def _number(name: str, *, key: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, primary_key=key, nullable=False)


def _bytes(name: str) -> sa.Column[bytes]:
    return sa.Column(name, sa.LargeBinary, nullable=False)


BUREAUS: Final = sa.Table(
    "bureaus",
    METADATA,
    _text("bureau", key=True),
    _number("generation"),
    _number("seq"),
    _bytes("hash"),
    _number("cases_registered"),
    _number("orders_issued"),
)

JOURNAL: Final = sa.Table(
    "journal",
    METADATA,
    _text("bureau", key=True),
    _number("seq", key=True),
    _number("generation"),
    _text("case_id"),
    _number("version"),
    _text("kind"),
    _number("recorded_at_us"),
    _number("occurred_at_us"),
    _text("actor"),
    _bytes("public"),
    _bytes("private_digest"),
    _bytes("prev_hash"),
    _bytes("hash"),
    sa.Index("journal_by_case", "bureau", "case_id", "version"),
)

PRIVATE: Final = sa.Table(
    "private",
    METADATA,
    _text("bureau", key=True),
    _number("seq", key=True),
    _bytes("sealed"),
)
"""The private parts of entries with their salts, sealed (`kuaixiang.runtime.vault`)."""

DECISIONS: Final = sa.Table(
    "decisions",
    METADATA,
    _text("bureau", key=True),
    _text("referral_id", key=True),
    _bytes("receipt"),
)

HAND_OVERS: Final = sa.Table(
    "hand_overs",
    METADATA,
    _text("bureau", key=True),
    _text("referral_id", key=True),
    _bytes("receipt"),
)
"""Receipts that peers have given of what this bureau handed over to them."""

ATTESTATIONS: Final = sa.Table(
    "attestations",
    METADATA,
    _text("bureau", key=True),
    _text("receipt_id", key=True),
    _number("seq"),
    _bytes("sealed"),
    sa.Index("attestations_by_entry", "bureau", "seq"),
)
"""Words of bureaus further away on which this bureau has recorded something, as they came: each a SignedAttestation,
sealed for its salt. `receipt_id` is that of the decision that was given for it, `seq` the entry it is kept with."""

REQUESTS: Final = sa.Table(
    "requests",
    METADATA,
    _text("bureau", key=True),
    _text("request_key", key=True),
    _bytes("digest"),
    _text("case_id"),
    _number("seq"),
)
"""What callers' keys meant: `digest` of the whole request, which has private data in it, sealed."""

CASES: Final = sa.Table(
    "cases",
    METADATA,
    _text("bureau", key=True),
    _text("case_id", key=True),
    _number("version"),
    _number("stage"),
    _number("custody"),
    _number("epoch"),
    _number("category"),
    _number("channel"),
    _text("department"),
    _number("registered_at_us"),
    _text("with_bureau"),
    _number("next_due_us"),
    _number("next_clock"),
    _text("lead_case_id"),
    _number("pile"),
    sa.Index("cases_by_lead", "bureau", "lead_case_id"),
    sa.Index("cases_by_due", "bureau", "next_due_us", "case_id"),
    sa.Index("cases_by_pile", "bureau", "pile", "next_due_us", "case_id"),
    sa.Index("cases_of_department", "bureau", "department", "pile", "next_due_us", "case_id"),
)
"""The cases of a bureau. `pile` is where each of them lies on its work list (`kuaixiang.domain.worklist`)."""

CASE_WORDS: Final = sa.Table(
    "case_words",
    METADATA,
    # On SQLite the row's own number, which the index of words refers to.
    sa.Column("doc", sa.BigInteger().with_variant(sa.Integer, "sqlite"), primary_key=True, autoincrement=False),
    _text("bureau"),
    _text("case_id"),
    _text("words"),
    sa.Index("case_words_by_case", "bureau", "case_id"),
)
"""What the entries of cases are found by. `doc` is the bureau's code and the entry's seq in one number, `words` the
tokens of the pieces of the entry's private part, separated by spaces (`node.ledger.search`). The database keeps an
index of the words beside it, each of its own kind."""

REFERENCES: Final = sa.Table(
    "channel_references",
    METADATA,
    _text("bureau", key=True),
    _number("channel", key=True),
    _text("reference", key=True),
    _text("case_id"),
    _number("seq"),
)
"""The cases registered under channels' own references; `reference` is a token (`kuaixiang.runtime.vault`)."""

CLOCKS: Final = sa.Table(
    "clocks",
    METADATA,
    _text("bureau", key=True),
    _text("case_id", key=True),
    _number("kind", key=True),
    _text("department", key=True),
    _number("started_at_us"),
    _number("due_us"),
    _number("limit_workdays"),
    _text("calendar_version"),
    _number("provisional"),
    _number("extended"),
    _number("overdue"),
    _number("soon_us"),
    _number("due_soon"),
    _number("sweep_us"),
    _text("sweep_calendar"),
    sa.Index("clocks_by_sweep", "sweep_us"),
    sa.Index("clocks_by_calendar", "sweep_calendar"),
)
"""`sweep_us`: when the sweep has something to record of the clock, `sweep_calendar`: which calendar's it holds for;
`NEVER_US` and empty where its passing is recorded, and while its case is offered, for then it stands. By themselves,
so that PostgreSQL knows how few there are of whatever is looked for."""

REFERRALS: Final = sa.Table(
    "referrals",
    METADATA,
    _text("bureau", key=True),
    _text("referral_id", key=True),
    _text("case_id"),
    _number("outgoing"),
    _text("peer"),
    _text("final_bureau"),
    _number("kind"),
    _number("epoch"),
    _number("state"),
    _number("refusal"),
    _number("at_us"),
    _number("offered_at_us"),
    sa.Index("referrals_by_case", "bureau", "case_id"),
    sa.Index("referrals_by_offer", "bureau", "peer", "offered_at_us"),
)

CONCLUSIONS: Final = sa.Table(
    "conclusions",
    METADATA,
    _text("bureau", key=True),
    _text("case_id", key=True),
    _text("peer", key=True),
    _text("referral_id"),
    _number("outcome"),
    _number("epoch"),
    _number("round"),
    _text("handled_by"),
    _number("completed_at_us"),
)
"""How a case ended, for each bureau that it was handed over with; none for a case that is open."""

ORDERS: Final = sa.Table(
    "orders",
    METADATA,
    _text("bureau", key=True),
    _text("order_id", key=True),
    _number("version"),
    _number("stage"),
    _number("level"),
    _text("issuer"),
    _text("final_bureau"),
    _text("parent_order_id"),
    _number("open"),
    _number("next_due_us"),
    sa.Index("orders_by_due", "bureau", "next_due_us", "order_id"),
    sa.Index("orders_by_parent", "bureau", "parent_order_id"),
)

DELIVERIES: Final = sa.Table(
    "deliveries",
    METADATA,
    _text("bureau", key=True),
    _text("peer", key=True),
    _text("case_id", key=True),
    _number("since_us"),
    sa.Index("deliveries_in_order", "bureau", "peer", "since_us"),
)

MISMATCHES: Final = sa.Table(
    "mismatches",
    METADATA,
    _text("bureau", key=True),
    _text("peer", key=True),
    _text("case_id", key=True),
    _number("absent", key=True),
    _number("difference"),
    _number("since_us"),
)
"""What the last reconciliations found and what still stands; `absent` 1: the case is not in this ledger."""

RECONCILIATIONS: Final = sa.Table(
    "reconciliations",
    METADATA,
    _text("bureau", key=True),
    _text("peer", key=True),
    _number("at_us"),
    _text("from_day"),
    _text("to_day"),
    _number("matched"),
    _number("pending"),
    _number("missing_here"),
    _number("missing_there"),
    _number("different"),
)
"""The last recorded reconciliation with each peer."""
ATTACHMENTS: Final = sa.Table(
    "attachments",
    METADATA,
    _text("bureau", key=True),
    _text("case_id", key=True),
    _text("digest", key=True),
    _number("seq"),
    sa.Index("attachments_by_digest", "digest"),
)
"""Which case of which bureau has which file; `seq` is the last entry that names it."""

BLOBS: Final = sa.Table(
    "blobs",
    METADATA,
    _text("digest", key=True),
    _number("size_bytes"),
    _number("held_bytes"),
    _number("complete"),
    _number("since_us"),
    _text("brought_by"),
)
"""Content that is kept, once for all cases of the node; `since_us` is when some of it came last, in real time, and
`brought_by` which bureau's node brings it ahead of an offer: empty where an officer attached it."""

BLOB_CHUNKS: Final = sa.Table(
    "blob_chunks",
    METADATA,
    _text("digest", key=True),
    _number("number", key=True),
    _bytes("data"),
)
"""The pieces of files' content, sealed."""

DATA_KEYS: Final = sa.Table("data_keys", METADATA, _text("key_id", key=True))
"""The keys, by their ids in hexadecimal digits, under which something here may be sealed; zeros for what is plain."""

PEERS: Final = sa.Table(
    "peers",
    METADATA,
    _text("bureau", key=True),
    _text("peer", key=True),
    _number("failures"),
    _number("next_attempt_us"),
)

CALLBACKS: Final = sa.Table(
    "callbacks",
    METADATA,
    _text("sink", key=True),
    _text("bureau", key=True),
    _number("seq", key=True),
    _number("generation"),
    _text("case_id"),
    _text("kind"),
    _number("occurred_at_us"),
    _number("since_us"),
    _number("attempts"),
    _number("next_attempt_us"),
    _number("dead"),
    _text("failure"),
    sa.Index("callbacks_by_due", "sink", "dead", "next_attempt_us", "bureau", "seq"),
)
"""Entries that somebody outside of the federation is still to be told of (`node.callbacks`): `since_us` and
`next_attempt_us` are in real time; `dead` 1: nobody tries any more, `failure` says why."""

CALLBACK_CURSORS: Final = sa.Table(
    "callback_cursors",
    METADATA,
    _text("sink", key=True),
    _text("bureau", key=True),
    _number("seq"),
)
"""Up to where a journal has been looked through for what each of them is to be told of."""

CURSORS: Final = sa.Table(
    "cursors",
    METADATA,
    _text("bureau", key=True),
    _number("published_seq"),
)

DIRECTIVES: Final = sa.Table(
    "directives",
    METADATA,
    _number("kind", key=True),
    _text("subject", key=True),
    _number("published_at_us", key=True),
    _bytes("directive"),
    _bytes("signature"),
)
"""What headquarters has published, word for word as it signed it."""

COSIGNED: Final = sa.Table(
    "cosigned",
    METADATA,
    _text("witness", key=True),
    _text("bureau", key=True),
    _number("generation"),
    _number("seq"),
    _bytes("hash"),
    _number("stated_at_us"),
    _number("cosigned_at_us"),
    _bytes("head"),
)
"""The last head of each of this node's ledgers that each witness has cosigned; `head` is a CosignedHead."""

WITNESSED: Final = sa.Table(
    "witnessed",
    METADATA,
    _text("witness", key=True),
    _text("bureau", key=True),
    _number("generation"),
    _number("seq"),
    _bytes("hash"),
    _number("stated_at_us"),
    _number("cosigned_at_us"),
    _bytes("head"),
)
"""The last head that a bureau of this node has cosigned of each ledger that it witnesses."""

WITNESSED_SEGMENTS: Final = sa.Table(
    "witnessed_segments",
    METADATA,
    _text("witness", key=True),
    _text("bureau", key=True),
    _number("generation", key=True),
    _number("first_seq", key=True),
    _number("last_seq"),
    _number("kept_at_us"),
    _bytes("segment"),
)
"""The entries of those ledgers as they were shown; `segment` is a Segment, compressed by zlib."""

LEDGER_DOUBTS: Final = sa.Table(
    "ledger_doubts",
    METADATA,
    _text("bureau", key=True),
    _text("peer", key=True),
    _number("finding"),
    _number("known_generation"),
    _number("known_seq"),
    _bytes("known_hash"),
    _number("told_generation"),
    _number("told_seq"),
    _bytes("told_hash"),
    _number("since_us"),
)
"""What stands against a ledger that the bureau witnesses."""

ARCHIVES: Final = sa.Table(
    "archives",
    METADATA,
    _text("bureau", key=True),
    _number("year", key=True),
    _number("state"),
    _number("last_seq"),
    _bytes("hash"),
    _number("cases"),
    _number("archived_at_us"),
)
"""The years of each bureau that were archived; `last_seq` and `hash` are of the last entry that went with that year."""

ARCHIVE_ERASURES: Final = sa.Table(
    "archive_erasures",
    METADATA,
    _text("bureau", key=True),
    _number("seq", key=True),
)
"""Private parts that are erased, and are still to be deleted from the archive: no reader sees them any more."""

ARCHIVE: Final = "ledger_archive"
"""What the archive is called in statements: a file attached to SQLite, a schema of PostgreSQL."""
ARCHIVE_METADATA: Final = sa.MetaData()
A_JOURNAL: Final = JOURNAL.to_metadata(ARCHIVE_METADATA, schema=ARCHIVE)
A_PRIVATE: Final = PRIVATE.to_metadata(ARCHIVE_METADATA, schema=ARCHIVE)
A_CASES: Final = CASES.to_metadata(ARCHIVE_METADATA, schema=ARCHIVE)
A_CASES.indexes.intersection_update(
    {index for index in A_CASES.indexes if index.name in {"cases_by_due", "cases_by_lead"}}
)
A_CASE_WORDS: Final = CASE_WORDS.to_metadata(ARCHIVE_METADATA, schema=ARCHIVE)

_VIEWS: Final = sa.MetaData()
ENTRIES: Final = sa.Table(
    "entries",
    _VIEWS,
    *(sa.Column(column.name, column.type) for column in JOURNAL.columns),
    sa.Column("sealed", sa.LargeBinary),
)
"""For readers: each entry with its private part, where that is kept. Every term of an ORDER BY over it must be among
the columns asked for, else SQLite reads all of it."""
KNOWN_CASES: Final = CASES.to_metadata(_VIEWS, name="known_cases")
"""For readers: the cases, those in the archive included."""
ARCHIVED_CASES: Final = CASES.to_metadata(_VIEWS, name="archived_cases")
"""For readers: the cases in the archive alone."""

PROJECTIONS: Final = (
    CASES,
    REFERENCES,
    CLOCKS,
    REFERRALS,
    ORDERS,
    CONCLUSIONS,
    DELIVERIES,
    MISMATCHES,
    RECONCILIATIONS,
    ATTACHMENTS,
    CASE_WORDS,
    LEDGER_DOUBTS,
)
"""Tables that `rebuild` empties and fills from the journal."""
