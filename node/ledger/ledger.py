"""The ledger of the bureaus of one node: acts in, journal entries out, one transaction for all that wait.

Work runs on the writer's thread (`kuaixiang.runtime.writer`). It reads cases as they will be after the work before it,
decides, and stages entries; a refusal stages nothing. What is staged is written by `executemany` and committed once.
A case is the fold of its entries, and so is a supervision order: either is kept in memory once folded, and read from
the journal when it is not there.
"""

import functools
import itertools
import threading
from collections import OrderedDict, deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Generic, NamedTuple, TypeVar

import sqlalchemy as sa
import structlog

from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.changed import changed
from kuaixiang.domain.desk import Context
from kuaixiang.domain.errors import EntryUnreadable, KeyReused, Refused
from kuaixiang.domain.events import (
    CaseEvent,
    Entry,
    Event,
    GenerationOpened,
    LedgerEvent,
    OfferDeclined,
    OrderEvent,
    Registered,
)
from kuaixiang.domain.orders import Order, evolve_order
from kuaixiang.domain.words import Category, Channel, Stage
from kuaixiang.runtime import tracing
from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.runtime.vault import SealBroken
from kuaixiang.runtime.writer import GroupCommitWriter
from kuaixiang.wire import chain
from kuaixiang.wire.codec import UNREADABLE, decode_entry, encode_entry, encode_private, event_name
from node.ledger import blobs, counting, erasing, projections, schema, sealing
from node.ledger.blobs import Blob
from node.ledger.database import LedgerDatabase, attestation_place, chunk_place, request_place
from node.ledger.erasing import Kept
from node.ledger.latest import Latest
from node.ledger.search import archived_words, word_rows
from node.ledger.traces import Traces, Written

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

CASES_CACHED_MAX: Final = 50_000
"""Folded cases kept in memory: the open cases of a large bureau, about 150 MB. What is written off is not kept."""
CASES_LISTED_MAX: Final = 5_000
"""Folded cases kept for lists beside those: a hundred pages, about 15 MB. Folding one takes several milliseconds."""
ORDERS_CACHED_MAX: Final = 5_000
"""Folded supervision orders kept in memory: a province's open ones."""
FIRST_GENERATION: Final = 1
_CHANCE: Final = Chance()
_log: Final = structlog.get_logger(__name__)

CHANGED_MAX: Final = 10_000
"""Changed cases that wait to be told to other bureaus; of more the oldest are left out: it is best effort."""
CaseKey = tuple[str, str]
"""Bureau and case id."""
OrderKey = tuple[str, str]
"""Bureau and order id."""

T = TypeVar("T", Case, Order)


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a bureau's journal; `seq` 0 and `chain.GENESIS` for an empty one."""

    bureau: str
    generation: int
    seq: int
    hash: bytes
    cases_registered: int
    orders_issued: int = 0


class Seen(NamedTuple):
    """A head that a witness has cosigned, as `cosigned` and `witnessed` keep it: `head` is a CosignedHead."""

    witness: str
    bureau: str
    generation: int
    seq: int
    hash: bytes
    stated_at_us: int
    cosigned_at_us: int
    head: bytes


class KeptSegment(NamedTuple):
    """Entries of another ledger as a witness keeps them: `segment` is a Segment, compressed."""

    witness: str
    bureau: str
    generation: int
    first_seq: int
    last_seq: int
    kept_at_us: int
    segment: bytes


class Callback(NamedTuple):
    """An entry that somebody outside of the federation is to be told of, as `callbacks` keeps it."""

    sink: str
    bureau: str
    seq: int
    generation: int
    case_id: str
    kind: str
    occurred_at_us: int
    since_us: int
    attempts: int = 0
    next_attempt_us: int = 0
    dead: int = 0
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Request:
    """An act done under a caller's key: what the key meant and what came of it."""

    digest: bytes
    case_id: str
    seq: int


@dataclass(frozen=True, slots=True)
class Recorded:
    """The case after an act, and the journal's end after its last entry."""

    case: Case | None
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True)
class RecordedOrder:
    """The order after an act, and the journal's end after its last entry."""

    order: Order | None
    seq: int
    hash: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A piece of work, and what it will look up, so that a batch can look everything up at once."""

    run: Callable[["Draft"], Any]
    bureau: str
    case_id: str = ""
    also: tuple[str, ...] = ()
    """Other cases of the bureau that it looks at."""
    request_key: str = ""
    reference: tuple[Channel, str] | None = None
    referral_id: str = ""
    digests: tuple[str, ...] = ()
    """Files whose content it needs."""
    order_id: str = ""
    """Looked up with the orders derived from it."""


class Ledger:
    """Opens the ledger of `bureaus` in a database; raises what `LedgerDatabase` raises.

    What an older version has left unsealed is sealed before anything else.
    """

    def __init__(self, url: str, bureaus: Sequence[str], key_file: Path | None = None) -> None:
        self.bureaus = tuple(bureaus)
        self.database = LedgerDatabase(url, key_file)
        if self.database.vault.plain:
            sealing.reseal(self.database)
        self.statements = _Statements(self.database)
        self.heads = self._heads()
        self.cache: _Cache[Case] = _Cache(CASES_CACHED_MAX)
        self.orders: _Cache[Order] = _Cache(ORDERS_CACHED_MAX)
        self.folded = FoldedCases(self.cached)
        self.withheld: dict[str, Refused] = {}
        """Bureaus whose journals take no entry, and why: nobody knows yet that they are the latest, or they are not."""
        self.changed: deque[Case] = deque(maxlen=CHANGED_MAX)
        """Cases that other bureaus had too, as committed, for whoever tells those bureaus."""
        self.owing_commits = 0
        """Commits so far with a case or an order of which a peer is owed something, or was, for whoever delivers."""
        self.traces = Traces()
        self.latest = Latest()
        self.writer: GroupCommitWriter[Work] = GroupCommitWriter(
            "ledger", self._begin, Refused, tidy=self.database.fold_log
        )

    def start(self, *, fenced: bool = False) -> None:
        """Begin to take work; fenced: the database ends this process's hold on it when it stands still."""
        counting.begin(self.bureaus)
        if fenced:
            self.database.fence()
        self.writer.start(self.database.pulse if fenced else None)

    def close(self) -> None:
        """Finish what waits and give the database back."""
        self.writer.stop()
        self.database.close()

    async def do(self, work: Work) -> Any:  # noqa: ANN401 - the work's own result
        """The result of the work once it is durable; raises what the work raises, `WriterBusy`, `WriterStopped`."""
        return await self.writer.submit(work)

    def cached(self, bureau: str, case_id: str) -> Case | None:
        """A committed case, where it is in memory."""
        return self.cache.peek((bureau, case_id))

    def cached_order(self, bureau: str, order_id: str) -> Order | None:
        """A committed order, where it is in memory."""
        return self.orders.peek((bureau, order_id))

    def rebuild(self) -> int:
        """Empties the projections and folds them from the journal again; the number of entries folded.

        For a ledger that has not been started.
        """
        folded = projections.rebuild(self.database, self.statements, self.bureaus)
        self.heads = self._heads()
        return folded

    def _begin(self, works: Sequence[Work]) -> "LedgerBatch":
        return LedgerBatch(self, works)

    def _heads(self) -> dict[str, Head]:
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(schema.BUREAUS)).all()
        kept = {
            row.bureau: Head(
                row.bureau, row.generation, row.seq, bytes(row.hash), row.cases_registered, row.orders_issued
            )
            for row in rows
        }
        return {
            bureau: kept.get(bureau, Head(bureau, FIRST_GENERATION, 0, chain.GENESIS, 0)) for bureau in self.bureaus
        }


class _Statements:
    """The writer's statements, compiled once."""

    def __init__(self, database: Database) -> None:
        self.add_entry = database.insert(schema.JOURNAL)
        self.add_private = database.insert(schema.PRIVATE)
        self.add_decision = database.insert(schema.DECISIONS)
        self.add_request = database.insert(schema.REQUESTS)
        self.add_reference = database.insert(schema.REFERENCES)
        self.put_bureau = database.put(schema.BUREAUS)
        self.put_case = database.put(schema.CASES)
        self.put_clock = database.put(schema.CLOCKS)
        self.drop_clock = database.drop(schema.CLOCKS, "bureau", "case_id", "kind", "department")
        self.put_referral = database.put(schema.REFERRALS)
        self.put_order = database.put(schema.ORDERS)
        self.put_delivery = database.put(schema.DELIVERIES)
        self.drop_delivery = database.drop(schema.DELIVERIES, "bureau", "peer", "case_id")
        self.put_conclusion = database.put(schema.CONCLUSIONS)
        self.drop_conclusion = database.drop(schema.CONCLUSIONS, "bureau", "case_id", "peer")
        self.put_mismatch = database.put(schema.MISMATCHES)
        self.drop_mismatch = database.drop(schema.MISMATCHES, "bureau", "peer", "case_id", "absent")
        self.put_reconciliation = database.put(schema.RECONCILIATIONS)
        self.put_attachment = database.put(schema.ATTACHMENTS)
        self.add_words = database.insert(schema.CASE_WORDS)
        self.put_blob = database.put(schema.BLOBS)
        self.put_chunk = database.put(schema.BLOB_CHUNKS)
        self.put_peer = database.put(schema.PEERS)
        self.put_cursor = database.put(schema.CURSORS)
        self.put_callback = database.put(schema.CALLBACKS)
        self.drop_callback = database.drop(schema.CALLBACKS, "sink", "bureau", "seq")
        self.put_callback_cursor = database.put(schema.CALLBACK_CURSORS)
        self.put_directive = database.put(schema.DIRECTIVES)
        self.put_hand_over = database.put(schema.HAND_OVERS)
        self.put_attestation = database.put(schema.ATTESTATIONS)
        self.put_cosigned = database.put(schema.COSIGNED)
        self.put_witnessed = database.put(schema.WITNESSED)
        self.put_witnessed_segment = database.put(schema.WITNESSED_SEGMENTS)
        self.put_doubt = database.put(schema.LEDGER_DOUBTS)
        self.drop_doubt = database.drop(schema.LEDGER_DOUBTS, "bureau", "peer")


class _Cache(Generic[T]):
    """Folded cases or orders, least recently used first. Only the writer's thread changes it."""

    def __init__(self, held_max: int) -> None:
        self._held: OrderedDict[tuple[str, str], T] = OrderedDict()
        self._held_max = held_max

    def get(self, key: tuple[str, str]) -> T | None:
        found = self._held.get(key)
        if found is not None:
            self._held.move_to_end(key)
        return found

    def peek(self, key: tuple[str, str]) -> T | None:
        """Like `get`, from any thread: the order of use stays as it is."""
        return self._held.get(key)

    def put(self, found: Iterable[tuple[tuple[str, str], T]]) -> None:
        for key, one in found:
            self._held[key] = one
            self._held.move_to_end(key)
        while len(self._held) > self._held_max:
            self._held.popitem(last=False)

    def drop(self, keys: Iterable[tuple[str, str]]) -> None:
        """Gives up what is done with: it is folded again should anybody come back to it."""
        for key in keys:
            self._held.pop(key, None)


class FoldedCases:
    """Cases in memory for those who read lists: the writer's, and others that were listed lately. For any thread.

    Whoever asks says which version of each case the database has; no other one is given.
    """

    def __init__(self, written: Callable[[str, str], Case | None]) -> None:
        self._written = written
        self._lock = threading.Lock()
        self._listed: _Cache[Case] = _Cache(CASES_LISTED_MAX)

    def get(self, bureau: str, versions: Mapping[str, int]) -> dict[str, Case]:
        """Those of some cases that are in memory in these versions."""
        found = {case_id: self._written(bureau, case_id) for case_id in versions}
        with self._lock:
            for case_id, version in versions.items():
                case = found[case_id]
                if case is None or case.version != version:
                    found[case_id] = self._listed.get((bureau, case_id))
        return {
            case_id: case for case_id, case in found.items() if case is not None and case.version == versions[case_id]
        }

    def put(self, bureau: str, cases: Mapping[str, Case]) -> None:
        """Keeps cases that were read."""
        with self._lock:
            self._listed.put(((bureau, case_id), case) for case_id, case in cases.items())


class _Rows:
    """Rows to be written, table by table."""

    __slots__ = (
        "attachments",
        "attestations",
        "blobs",
        "callback_cursors",
        "callbacks",
        "callbacks_done",
        "chunks",
        "cosigned",
        "cursors",
        "decisions",
        "directives",
        "dropped",
        "erased",
        "hand_overs",
        "journal",
        "notes",
        "peers",
        "private",
        "references",
        "referrals",
        "requests",
        "witnessed",
        "witnessed_segments",
        "words",
    )

    def __init__(self) -> None:
        self.journal: list[tuple[Any, ...]] = []
        self.private: list[tuple[Any, ...]] = []
        self.referrals: list[tuple[Any, ...]] = []
        self.references: list[tuple[Any, ...]] = []
        self.decisions: list[tuple[Any, ...]] = []
        self.requests: list[tuple[Any, ...]] = []
        self.attachments: list[tuple[Any, ...]] = []
        self.blobs: list[tuple[Any, ...]] = []
        self.chunks: list[tuple[Any, ...]] = []
        self.callbacks: list[tuple[Any, ...]] = []
        self.callbacks_done: list[tuple[str, str, int]] = []
        self.callback_cursors: list[tuple[Any, ...]] = []
        self.dropped: list[str] = []
        self.erased: list[tuple[str, str, Kept]] = []
        self.peers: list[tuple[Any, ...]] = []
        self.cursors: list[tuple[Any, ...]] = []
        self.directives: list[tuple[Any, ...]] = []
        self.notes: list[Entry] = []
        self.words: list[tuple[Any, ...]] = []
        self.hand_overs: list[tuple[Any, ...]] = []
        self.attestations: list[tuple[Any, ...]] = []
        self.cosigned: list[tuple[Any, ...]] = []
        self.witnessed: list[tuple[Any, ...]] = []
        self.witnessed_segments: list[tuple[Any, ...]] = []

    @property
    def empty(self) -> bool:
        """Whether there is nothing to write."""
        return not any(getattr(self, name) for name in _Rows.__slots__)


class LedgerBatch:
    """The work of one transaction."""

    def __init__(self, ledger: Ledger, works: Sequence[Work]) -> None:
        self.ledger = ledger
        self.heads: dict[str, Head] = {}
        self.before: dict[CaseKey, Case | EntryUnreadable | None] = {}
        self.cases: dict[CaseKey, Case] = {}
        self.orders_before: dict[OrderKey, Order | EntryUnreadable | None] = {}
        self.orders: dict[OrderKey, Order] = {}
        self.rows = _Rows()
        self.entries: list[Entry] = []
        self.requests: dict[tuple[str, str], Request] = {}
        self.references: dict[tuple[str, int, str], tuple[str, int]] = {}
        self.receipts: dict[tuple[str, str], bytes] = {}
        self.blobs: dict[str, Blob] = {}
        self.attached: set[tuple[str, str, str]] = set()
        self.traced: list[tuple[Written, SpanContext | None]] = []
        self._look_up(works)

    def do(self, work: Work) -> Any:  # noqa: ANN401 - the work's own result
        """Runs one piece of work; only when it ends well is what it staged part of the batch."""
        draft = Draft(self)
        result = work.run(draft)
        spans = tracing.spans()
        if spans is not None:
            here = spans.here()
            for written in draft.written():
                self.traced.append((written, here))
                if here is not None:
                    spans.say({"kx.bureau": written.bureau, "kx.journal.last_seq": written.last_seq})
        draft.merge()
        return result

    def commit(self) -> None:
        """Writes what was staged, in one durable transaction. Raises what `Database.committing` does."""
        rows = self.rows
        if rows.empty:
            return
        ledger = self.ledger
        run, make = ledger.database.run, ledger.statements
        back = self._words_back()
        with ledger.database.committing():
            run(make.add_entry, rows.journal)
            run(make.add_private, rows.private)
            run(make.add_decision, rows.decisions)
            run(make.add_request, rows.requests)
            run(make.add_reference, rows.references)
            run(make.put_referral, rows.referrals)
            owing = projections.write(
                ledger.database, make, ((readable(self.before[key]), case) for key, case in self.cases.items())
            )
            projections.write_notes(ledger.database, make, rows.notes)
            owing |= projections.write_orders(
                ledger.database,
                make,
                ((readable(self.orders_before[key]), order) for key, order in self.orders.items()),
            )
            run(
                make.put_bureau,
                [
                    (h.bureau, h.generation, h.seq, h.hash, h.cases_registered, h.orders_issued)
                    for h in self.heads.values()
                ],
            )
            run(make.put_peer, rows.peers)
            run(make.put_cursor, rows.cursors)
            run(make.put_callback, rows.callbacks)
            run(make.drop_callback, rows.callbacks_done)
            run(make.put_callback_cursor, rows.callback_cursors)
            run(make.put_directive, rows.directives)
            run(make.put_hand_over, rows.hand_overs)
            run(make.put_attestation, rows.attestations)
            run(make.put_cosigned, rows.cosigned)
            run(make.put_witnessed, rows.witnessed)
            run(make.put_witnessed_segment, rows.witnessed_segments)
            run(make.put_attachment, rows.attachments)
            run(make.add_words, rows.words)
            run(make.add_words, back)
            run(make.put_blob, rows.blobs)
            run(make.put_chunk, rows.chunks)
            blobs.drop(ledger.database.writing, rows.dropped)
            erasing.erase(ledger.database, rows.erased)
        # Before anybody is told of a head: who takes it further asks of which trace it is, and for its entries.
        for written, trace in self.traced:
            ledger.traces.keep(written, trace)
        ledger.latest.keep(rows.journal)
        ledger.owing_commits += owing
        ledger.heads.update(self.heads)
        ledger.cache.put(self.cases.items())
        ledger.cache.drop(key for key, case in self.cases.items() if case.stage is Stage.WRITTEN_OFF)
        ledger.orders.put(self.orders.items())
        ledger.changed.extend(case for case in self.cases.values() if case.neighbours)
        self._count()
        archive = ledger.database.archive
        if rows.erased or archive.erases_again:
            archive.erase()

    def _count(self) -> None:
        try:
            counting.count(self.entries)
        except Exception:  # noqa: BLE001 - what is committed stands, whatever is told of it
            _log.exception("What was committed could not be counted.", action="ledger.count_failed")

    def _words_back(self) -> Sequence[tuple[Any, ...]]:
        """What the cases are found by that come back from the archive: any that something is recorded of."""
        database = self.ledger.database
        if not database.archive.is_there:
            return []
        reopened = [
            key
            for key in self.cases
            if isinstance(before := self.before[key], Case) and before.stage is Stage.WRITTEN_OFF
        ]
        if not reopened:
            return []
        with database.looking() as connection:
            return archived_words(connection, reopened)

    def _look_up(self, works: Sequence[Work]) -> None:
        """Reads what the work will ask for, in one query for each kind of question."""
        keys = {(work.bureau, work.request_key) for work in works if work.request_key}
        references = {(work.bureau, *work.reference) for work in works if work.reference}
        referrals = {(work.bureau, work.referral_id) for work in works if work.referral_id}
        digests = {digest for work in works for digest in work.digests}
        wanted: set[CaseKey] = set()
        for work in works:
            for case_id in filter(None, (work.case_id, *work.also)):
                key = (work.bureau, case_id)
                cached = self.ledger.cache.get(key)
                if cached is None:
                    wanted.add(key)
                else:
                    self.before[key] = cached
        orders = {(work.bureau, work.order_id) for work in works if work.order_id}
        if not (keys or references or referrals or digests or wanted or orders):
            return
        with self.ledger.database.looking() as connection:
            if keys:
                table = schema.REQUESTS
                for row in connection.execute(_of(table, table.c.request_key, keys)):
                    self.requests[row.bureau, row.request_key] = Request(
                        opened_digest(self.ledger.database, row), row.case_id, row.seq
                    )
            if references:
                table = schema.REFERENCES
                vault = self.ledger.database.vault
                tokens = {
                    (bureau, token): reference
                    for bureau, _, reference in references
                    for token in vault.references(bureau, reference)
                }
                # With their channels, which stand before the reference in the key: without them the database would walk
                # through all references that the bureau has ever had, for each batch.
                of_channels = table.c.channel.in_({int(channel) for _, channel, _ in references})
                for row in connection.execute(_of(table, table.c.reference, tokens).where(of_channels)):
                    # Asked for one bureau, a token is of no other.
                    reference = tokens.get((row.bureau, row.reference))
                    if reference is not None:
                        self.references[row.bureau, row.channel, reference] = (row.case_id, row.seq)
            if referrals:
                table = schema.DECISIONS
                for row in connection.execute(_of(table, table.c.referral_id, referrals)):
                    self.receipts[row.bureau, row.referral_id] = bytes(row.receipt)
            if digests:
                self.blobs.update(blobs.find(connection, digests))
                keys_of_cases = {(work.bureau, work.case_id) for work in works if work.digests}
                self.attached.update(blobs.attached(connection, keys_of_cases, digests))
            self.before.update(load_cases(connection, wanted))
            if orders:
                self._look_up_orders(connection, orders)
        for key in wanted:
            self.before.setdefault(key, None)

    def _look_up_orders(self, connection: sa.Connection, orders: set[OrderKey]) -> None:
        """Reads orders and those derived from them."""
        table = schema.ORDERS
        order_ids = [order_id for _, order_id in orders]
        # The table says which are orders at all: a clock's subject is mostly a case, which is not to be folded twice.
        known = connection.execute(
            sa.select(table.c.bureau, table.c.order_id).where(
                table.c.bureau.in_({bureau for bureau, _ in orders}),
                sa.or_(table.c.order_id.in_(order_ids), table.c.parent_order_id.in_(order_ids)),
            )
        )
        wanted: set[OrderKey] = set()
        for row in known:
            key = (row.bureau, row.order_id)
            cached = self.ledger.orders.get(key)
            if cached is None:
                wanted.add(key)
            else:
                self.orders_before[key] = cached
        self.orders_before.update(load_orders(connection, wanted))


def _of(table: sa.Table, column: sa.Column[Any], pairs: Iterable[tuple[str, str]]) -> sa.Select[Any]:
    bureaus = {bureau for bureau, _ in pairs}
    return sa.select(table).where(table.c.bureau.in_(bureaus), column.in_([value for _, value in pairs]))


def opened_digest(database: LedgerDatabase, row: Any) -> bytes:  # noqa: ANN401 - a row of `requests`
    """What a caller's key meant; of one that does not open nothing is known, and no request is equal to it."""
    try:
        return database.vault.open(request_place(row.bureau, row.request_key), row.digest)
    except SealBroken:
        return b""


def load_cases(connection: sa.Connection, keys: Iterable[CaseKey]) -> dict[CaseKey, Case | EntryUnreadable]:
    """Folds cases from the journal; those that are not in it are left out, those that cannot be read say so."""
    return _load(connection, keys, evolve)


def load_orders(connection: sa.Connection, keys: Iterable[OrderKey]) -> dict[OrderKey, Order | EntryUnreadable]:
    """Folds supervision orders from the journal, as `load_cases` does cases."""
    return _load(connection, keys, evolve_order)


def _load(
    connection: sa.Connection, keys: Iterable[tuple[str, str]], fold: Callable[[T | None, Entry], T | None]
) -> dict[tuple[str, str], T | EntryUnreadable]:
    wanted = set(keys)
    if not wanted:
        return {}
    table = schema.JOURNAL
    rows = connection.execute(
        # With the version, by which it is sorted: see `schema.ENTRIES`.
        sa.select(table.c.bureau, table.c.case_id, table.c.public, table.c.version)
        .where(
            table.c.bureau.in_({bureau for bureau, _ in wanted}),
            table.c.case_id.in_({subject for _, subject in wanted}),
            table.c.version > 0,
        )
        .order_by(table.c.bureau, table.c.case_id, table.c.version)
    )
    found: dict[tuple[str, str], T | EntryUnreadable] = {}
    for key, entries in itertools.groupby(rows, key=lambda row: (row.bureau, row.case_id)):
        if key not in wanted:
            continue
        try:
            one = functools.reduce(fold, (decode_entry(bytes(row.public)) for row in entries), None)
        except UNREADABLE:
            # That one case is refused; every other one of the node goes on.
            found[key] = EntryUnreadable(*key)
        else:
            if one is not None:
                found[key] = one
    return found


def readable(found: T | EntryUnreadable | None) -> T | None:
    """The case or order that was folded; raises what stood against it."""
    if isinstance(found, EntryUnreadable):
        raise found
    return found


class Draft:
    """What one piece of work sees and stages."""

    def __init__(self, batch: LedgerBatch) -> None:
        self._batch = batch
        self._heads: dict[str, Head] = {}
        self._cases: dict[CaseKey, Case] = {}
        self._orders: dict[OrderKey, Order] = {}
        self._rows = batch.rows
        self._staged: list[tuple[list[Any], Any]] = []
        """Rows, each with the batch's list that it joins when the work has ended well."""
        self._entries: list[Entry] = []
        self._requests: dict[tuple[str, str], Request] = {}
        self._references: dict[tuple[str, int, str], tuple[str, int]] = {}
        self._receipts: dict[tuple[str, str], bytes] = {}

    # ------------------------------------------------------------ what is so

    def head(self, bureau: str) -> Head:
        """The end of the bureau's journal."""
        return self._heads.get(bureau) or self._batch.heads.get(bureau) or self._batch.ledger.heads[bureau]

    def case(self, bureau: str, case_id: str) -> Case | None:
        """A case that the work announced it would look up, or has changed."""
        key = (bureau, case_id)
        return self._cases.get(key) or self._batch.cases.get(key) or readable(self._batch.before.get(key))

    def order(self, bureau: str, order_id: str) -> Order | None:
        """A supervision order that the work announced it would look up, or has changed."""
        key = (bureau, order_id)
        batch = self._batch
        return self._orders.get(key) or batch.orders.get(key) or readable(batch.orders_before.get(key))

    def derived(self, bureau: str, order_id: str) -> list[Order]:
        """The orders derived from one that the work announced."""
        batch = self._batch
        keys = {*batch.orders_before, *batch.orders, *self._orders}
        found = (self.order(*key) for key in sorted(keys) if key[0] == bureau)
        return [order for order in found if order is not None and order.parent_order_id == order_id]

    def request(self, bureau: str, request_key: str, digest: bytes) -> Request | None:
        """What was done under a caller's key, if there is one; raises `KeyReused` when that was something else."""
        key = (bureau, request_key)
        request = self._requests.get(key) or self._batch.requests.get(key)
        if request is not None and request.digest != digest:
            raise KeyReused(request_key)
        return request

    def reference(self, bureau: str, channel: Channel, reference: str) -> tuple[str, int] | None:
        """The case registered for a channel's own number, and the entry's seq."""
        return self._batch.references.get((bureau, channel, reference))

    def receipt(self, bureau: str, referral_id: str) -> bytes | None:
        """The stored decision on a referral, as it was sent."""
        return self._batch.receipts.get((bureau, referral_id))

    def blob(self, digest: str) -> Blob | None:
        """What is kept of a file that the work announced it would need."""
        return self._batch.blobs.get(digest)

    def is_attached(self, bureau: str, case_id: str, digest: str) -> bool:
        """Whether the case has such a file already."""
        return (bureau, case_id, digest) in self._batch.attached

    # ------------------------------------------------------------ what becomes so

    def _stage(self, rows: list[Any], row: object) -> None:
        self._staged.append((rows, row))

    def record(
        self,
        context: Context,
        case_id: str,
        events: Sequence[CaseEvent],
        *,
        case: Case | None,
        category: Category | None = None,
        channel: Channel | None = None,
    ) -> Recorded:
        """Appends events of a case to the bureau's journal; a new case needs `category` and `channel`."""
        head = self.head(context.bureau)
        category = case.category if case else category
        channel = case.channel if case else channel
        for event in events:
            about_none = isinstance(event, OfferDeclined)
            entry = Entry(
                bureau=context.bureau,
                case_id=case_id,
                version=0 if about_none else (case.version if case else 0) + 1,
                recorded_at=context.now,
                occurred_at=context.occurred_at,
                actor=context.actor,
                role=context.role,
                department=context.department,
                category=category,
                channel=channel,
                event=event,
            )
            before, case = case, evolve(case, entry)
            kind = context.staff.kind_of(case.department) if case is not None and not about_none else None
            if kind is not None:
                entry = changed(entry, department_kind=kind)
            head = self._append(head, entry, before)
        self._heads[context.bureau] = head
        if case is not None:
            self._cases[context.bureau, case_id] = case
        return Recorded(case, head.seq, head.hash)

    def record_order(
        self, context: Context, order_id: str, events: Sequence[OrderEvent], order: Order | None
    ) -> RecordedOrder:
        """Appends events of a supervision order to the bureau's journal."""
        head = self.head(context.bureau)
        for event in events:
            entry = entry_about(context, event, order_id, (order.version if order else 0) + 1)
            head = self._append(head, entry, None)
            order = evolve_order(order, entry)
        self._heads[context.bureau] = head
        if order is not None:
            self._orders[context.bureau, order_id] = order
        return RecordedOrder(order, head.seq, head.hash)

    def open_generation(self, context: Context, event: GenerationOpened) -> Recorded:
        """Goes on in a new generation, of which the event is the first entry."""
        head = self.head(context.bureau)
        self._heads[context.bureau] = replace(head, generation=head.generation + 1)
        return self.note(context, event)

    def note(self, context: Context, event: LedgerEvent, subject: str = "", version: int = 0) -> Recorded:
        """Appends an event that concerns no single case; `subject` and `version` name what it is about, if anything."""
        entry = entry_about(context, event, subject, version)
        head = self._append(self.head(context.bureau), entry, None)
        self._heads[context.bureau] = head
        self._stage(self._rows.notes, entry)
        return Recorded(None, head.seq, head.hash)

    def _append(self, head: Head, entry: Entry, before: Case | None) -> Head:
        """Puts an entry at the journal's end; `before` is its case as it was. Raises why the journal takes none."""
        withheld = self._batch.ledger.withheld.get(entry.bureau)
        if withheld is not None:
            raise withheld.with_traceback(None)
        public = encode_entry(entry)
        seq, digest, rows = head.seq + 1, chain.NO_PRIVATE, self._rows
        private = entry.event.private
        if private is not None:
            payload, salt = encode_private(private), _CHANCE.draw(chain.SALT_BYTES)
            digest = chain.private_digest(salt, payload)
            database = self._batch.ledger.database
            self._stage(rows.private, (entry.bureau, seq, database.seal_private(entry.bureau, seq, salt, payload)))
            if isinstance(entry.event, Registered) and private.channel_reference and entry.channel is not None:
                reference = private.channel_reference
                token = database.vault.references(entry.bureau, reference)[-1]
                self._stage(rows.references, (entry.bureau, int(entry.channel), token, entry.case_id, seq))
                self._references[entry.bureau, int(entry.channel), reference] = (entry.case_id, seq)
        hash_ = chain.link(head.hash, head.generation, seq, digest, public)
        self._stage(
            rows.journal,
            (
                entry.bureau,
                seq,
                head.generation,
                entry.case_id,
                entry.version,
                event_name(entry.event),
                to_micros(entry.recorded_at),
                to_micros(entry.occurred_at),
                entry.actor,
                public,
                digest,
                head.hash,
                hash_,
            ),
        )
        self._entries.append(entry)
        for table, found in (
            (rows.referrals, projections.referral_rows(entry, before)),
            (rows.attachments, projections.attachment_rows(entry, seq)),
            (rows.words, word_rows(entry, seq, self._batch.ledger.database.vault)),
        ):
            for row in found:
                self._stage(table, row)
        numbered = projections.numbered_after((head.cases_registered, head.orders_issued), entry.event)
        return Head(head.bureau, head.generation, seq, hash_, *numbered)

    def keep_request(self, bureau: str, request_key: str, request: Request) -> None:
        """Remembers what was done under a caller's key."""
        self._requests[bureau, request_key] = request
        sealed = self._batch.ledger.database.vault.seal(request_place(bureau, request_key), request.digest)
        self._stage(self._rows.requests, (bureau, request_key, sealed, request.case_id, request.seq))

    def keep_receipt(self, bureau: str, referral_id: str, receipt: bytes) -> None:
        """Remembers a decision, word for word."""
        self._receipts[bureau, referral_id] = receipt
        self._stage(self._rows.decisions, (bureau, referral_id, receipt))

    def put_blob(self, blob: Blob, at: datetime) -> None:
        """Remembers how much of a file is kept, and when that came (real time)."""
        self._stage(
            self._rows.blobs,
            (blob.digest, blob.size_bytes, blob.held_bytes, int(blob.complete), to_micros(at), blob.brought_by),
        )

    def put_chunk(self, digest: str, number: int, data: bytes) -> None:
        """Keeps a piece of a file's content."""
        sealed = self._batch.ledger.database.vault.seal(chunk_place(digest, number), data)
        self._stage(self._rows.chunks, (digest, number, sealed))

    def drop_blob(self, digest: str) -> None:
        """Gives up a file's content, unless it is complete and some case has the file."""
        self._stage(self._rows.dropped, digest)

    def erase(self, bureau: str, case_id: str, kept: Kept) -> None:
        """Deletes what is private of a case."""
        self._stage(self._rows.erased, (bureau, case_id, kept))

    def put_peer(self, bureau: str, peer: str, failures: int, next_attempt_at: datetime) -> None:
        """Remembers when a peer is to be tried again."""
        self._stage(self._rows.peers, (bureau, peer, failures, to_micros(next_attempt_at)))

    def put_cursor(self, bureau: str, published_seq: int) -> None:
        """Remembers up to where the journal has been published."""
        self._stage(self._rows.cursors, (bureau, published_seq))

    def put_callback(self, callback: Callback) -> None:
        """Keeps what somebody outside is to be told, or how it stands with that."""
        self._stage(self._rows.callbacks, callback)

    def drop_callback(self, callback: Callback) -> None:
        """Somebody outside has been told, or is not to be told any more."""
        self._stage(self._rows.callbacks_done, (callback.sink, callback.bureau, callback.seq))

    def put_callback_cursor(self, sink: str, bureau: str, seq: int) -> None:
        """Remembers up to where the journal has been looked through for somebody outside."""
        self._stage(self._rows.callback_cursors, (sink, bureau, seq))

    def put_directive(self, kind: int, subject: str, published_at_us: int, directive: bytes, signature: bytes) -> None:
        """Keeps what headquarters has published, as it signed it."""
        self._stage(self._rows.directives, (kind, subject, published_at_us, directive, signature))

    def put_hand_over(self, bureau: str, referral_id: str, receipt: bytes) -> None:
        """Keeps a receipt that a peer has given."""
        self._stage(self._rows.hand_overs, (bureau, referral_id, receipt))

    def put_attestation(self, bureau: str, receipt_id: str, seq: int, attestation: bytes) -> None:
        """Keeps the word of a bureau further away on which an entry was recorded; nothing where it is empty."""
        if attestation:
            sealed = self._batch.ledger.database.vault.seal(attestation_place(bureau, receipt_id), attestation)
            self._stage(self._rows.attestations, (bureau, receipt_id, seq, sealed))

    def put_cosigned(self, seen: Seen) -> None:
        """Keeps what a witness has cosigned of a ledger of ours."""
        self._stage(self._rows.cosigned, seen)

    def put_witnessed(self, seen: Seen) -> None:
        """Remembers up to where a bureau of ours has cosigned another ledger."""
        self._stage(self._rows.witnessed, seen)

    def put_witnessed_segment(self, kept: KeptSegment) -> None:
        """Keeps entries of a ledger that a bureau of ours witnesses."""
        self._stage(self._rows.witnessed_segments, kept)

    def written(self) -> list[Written]:
        """What entries there are for the journals, bureau by bureau."""
        subjects: dict[str, set[str]] = {}
        for entry in self._entries:
            subjects.setdefault(entry.bureau, set()).add(entry.case_id)
        return [Written(bureau, self._heads[bureau].seq, frozenset(of)) for bureau, of in subjects.items()]

    def merge(self) -> None:
        """Makes what was staged part of the batch."""
        batch = self._batch
        for key in self._cases:
            batch.before.setdefault(key, None)
        for key in self._orders:
            batch.orders_before.setdefault(key, None)
        batch.heads.update(self._heads)
        batch.cases.update(self._cases)
        batch.orders.update(self._orders)
        batch.requests.update(self._requests)
        batch.references.update(self._references)
        batch.receipts.update(self._receipts)
        for rows, row in self._staged:
            rows.append(row)
            if rows is self._rows.attachments:
                batch.attached.add(row[:3])
        batch.entries += self._entries


def entry_about(context: Context, event: Event, subject: str, version: int) -> Entry:
    """An entry that is not a case's own registration: about an order, a directive, or a case that is there already."""
    return Entry(
        bureau=context.bureau,
        case_id=subject,
        version=version,
        recorded_at=context.now,
        occurred_at=context.occurred_at,
        actor=context.actor,
        role=context.role,
        department=context.department,
        category=None,
        channel=None,
        event=event,
    )
