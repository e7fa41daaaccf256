"""The ledger of the bureaus of one node: acts in, journal entries out, one transaction for all that wait.

Work runs on the writer's thread (`kuaixiang.runtime.writer`). It reads cases as they will be after the work before it,
decides, and stages entries; a refusal stages nothing. What is staged is written by `executemany` and committed once.
A case is the fold of its entries: it is kept in memory once folded, and read from the journal when it is not there.
"""

import functools
import itertools
from collections import OrderedDict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
from google.protobuf.message import DecodeError

from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.desk import Context
from kuaixiang.domain.errors import EntryUnreadable, Refused
from kuaixiang.domain.events import CaseEvent, Entry, LedgerEvent, OfferDeclined, Registered
from kuaixiang.domain.words import Category, Channel
from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.runtime.writer import GroupCommitWriter
from kuaixiang.wire import chain
from kuaixiang.wire.codec import decode_entry, encode_entry, encode_private, event_name
from node.ledger import projections, schema

CASES_CACHED_MAX: Final = 50_000
"""Folded cases kept in memory: the open cases of a large bureau, about 150 MB."""
MIGRATIONS: Final = Path(__file__).parent / "migrations"
FIRST_GENERATION: Final = 1
_CHANCE: Final = Chance()

CaseKey = tuple[str, str]
"""Bureau and case id."""


@dataclass(frozen=True, slots=True)
class Head:
    """The end of a bureau's journal; `seq` 0 and `chain.GENESIS` for an empty one."""

    bureau: str
    generation: int
    seq: int
    hash: bytes
    cases_registered: int


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


class Ledger:
    """Opens the ledger of `bureaus` in a database; raises what `Database` raises."""

    def __init__(self, url: str, bureaus: Sequence[str]) -> None:
        self.bureaus = tuple(bureaus)
        self.database = Database(url, service="ledger", migrations=MIGRATIONS)
        self.statements = _Statements(self.database)
        self.heads = self._heads()
        self.cache = _Cache()
        self.writer: GroupCommitWriter[Work] = GroupCommitWriter("ledger", self._begin, Refused)

    def start(self) -> None:
        """Begin to take work."""
        self.writer.start()

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
            row.bureau: Head(row.bureau, row.generation, row.seq, bytes(row.hash), row.cases_registered) for row in rows
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
        self.put_delivery = database.put(schema.DELIVERIES)
        self.drop_delivery = database.drop(schema.DELIVERIES, "bureau", "peer", "case_id")
        self.put_peer = database.put(schema.PEERS)
        self.put_cursor = database.put(schema.CURSORS)


class _Cache:
    """Folded cases, least recently used first. Only the writer's thread changes it."""

    def __init__(self) -> None:
        self._cases: OrderedDict[CaseKey, Case] = OrderedDict()

    def get(self, key: CaseKey) -> Case | None:
        case = self._cases.get(key)
        if case is not None:
            self._cases.move_to_end(key)
        return case

    def peek(self, key: CaseKey) -> Case | None:
        """Like `get`, from any thread: the order of use stays as it is."""
        return self._cases.get(key)

    def put(self, cases: Iterable[tuple[CaseKey, Case]]) -> None:
        for key, case in cases:
            self._cases[key] = case
            self._cases.move_to_end(key)
        while len(self._cases) > CASES_CACHED_MAX:
            self._cases.popitem(last=False)


class _Rows:
    """Rows to be written, table by table."""

    __slots__ = ("cursors", "decisions", "journal", "peers", "private", "references", "referrals", "requests")

    def __init__(self) -> None:
        self.journal: list[tuple[Any, ...]] = []
        self.private: list[tuple[Any, ...]] = []
        self.referrals: list[tuple[Any, ...]] = []
        self.references: list[tuple[Any, ...]] = []
        self.decisions: list[tuple[Any, ...]] = []
        self.requests: list[tuple[Any, ...]] = []
        self.peers: list[tuple[Any, ...]] = []
        self.cursors: list[tuple[Any, ...]] = []

    def add(self, other: "_Rows") -> None:
        for name in _Rows.__slots__:
            getattr(self, name).extend(getattr(other, name))


class LedgerBatch:
    """The work of one transaction."""

    def __init__(self, ledger: Ledger, works: Sequence[Work]) -> None:
        self.ledger = ledger
        self.heads: dict[str, Head] = {}
        self.before: dict[CaseKey, Case | EntryUnreadable | None] = {}
        self.cases: dict[CaseKey, Case] = {}
        self.rows = _Rows()
        self.requests: dict[tuple[str, str], Request] = {}
        self.references: dict[tuple[str, int, str], tuple[str, int]] = {}
        self.receipts: dict[tuple[str, str], bytes] = {}
        self._look_up(works)

    def do(self, work: Work) -> Any:  # noqa: ANN401 - the work's own result
        """Runs one piece of work; only when it ends well is what it staged part of the batch."""
        draft = Draft(self)
        result = work.run(draft)
        draft.merge()
        return result

    def commit(self) -> None:
        """Writes what was staged, in one durable transaction."""
        rows = self.rows
        if not (rows.journal or rows.peers or rows.cursors or rows.requests):
            return
        ledger = self.ledger
        run, make = ledger.database.run, ledger.statements
        with ledger.database.writing.begin():
            run(make.add_entry, rows.journal)
            run(make.add_private, rows.private)
            run(make.add_decision, rows.decisions)
            run(make.add_request, rows.requests)
            run(make.add_reference, rows.references)
            run(make.put_referral, rows.referrals)
            projections.write(
                ledger.database, make, ((readable(self.before[key]), case) for key, case in self.cases.items())
            )
            run(
                make.put_bureau,
                [(h.bureau, h.generation, h.seq, h.hash, h.cases_registered) for h in self.heads.values()],
            )
            run(make.put_peer, rows.peers)
            run(make.put_cursor, rows.cursors)
        ledger.heads.update(self.heads)
        ledger.cache.put(self.cases.items())

    def _look_up(self, works: Sequence[Work]) -> None:
        """Reads what the work will ask for, in one query for each kind of question."""
        keys = {(work.bureau, work.request_key) for work in works if work.request_key}
        references = {(work.bureau, *work.reference) for work in works if work.reference}
        referrals = {(work.bureau, work.referral_id) for work in works if work.referral_id}
        wanted: set[CaseKey] = set()
        for work in works:
            for case_id in filter(None, (work.case_id, *work.also)):
                key = (work.bureau, case_id)
                cached = self.ledger.cache.get(key)
                if cached is None:
                    wanted.add(key)
                else:
                    self.before[key] = cached
        if not (keys or references or referrals or wanted):
            return
        with self.ledger.database.looking() as connection:
            if keys:
                table = schema.REQUESTS
                for row in connection.execute(_of(table, table.c.request_key, keys)):
                    self.requests[row.bureau, row.request_key] = Request(bytes(row.digest), row.case_id, row.seq)
            if references:
                table = schema.REFERENCES
                pairs = {(bureau, reference) for bureau, _, reference in references}
                for row in connection.execute(_of(table, table.c.reference, pairs)):
                    self.references[row.bureau, row.channel, row.reference] = (row.case_id, row.seq)
            if referrals:
                table = schema.DECISIONS
                for row in connection.execute(_of(table, table.c.referral_id, referrals)):
                    self.receipts[row.bureau, row.referral_id] = bytes(row.receipt)
            self.before.update(load_cases(connection, wanted))
        for key in wanted:
            self.before.setdefault(key, None)


def _of(table: sa.Table, column: sa.Column[Any], pairs: Iterable[tuple[str, str]]) -> sa.Select[Any]:
    bureaus = {bureau for bureau, _ in pairs}
    return sa.select(table).where(table.c.bureau.in_(bureaus), column.in_([value for _, value in pairs]))


def load_cases(connection: sa.Connection, keys: Iterable[CaseKey]) -> dict[CaseKey, Case | EntryUnreadable]:
    """Folds cases from the journal; those that are not in it are left out, those that cannot be read say so."""
    wanted = set(keys)
    if not wanted:
        return {}
    table = schema.JOURNAL
    rows = connection.execute(
        sa.select(table.c.bureau, table.c.case_id, table.c.public)
        .where(
            table.c.bureau.in_({bureau for bureau, _ in wanted}),
            table.c.case_id.in_({case_id for _, case_id in wanted}),
            table.c.version > 0,
        )
        .order_by(table.c.bureau, table.c.case_id, table.c.version)
    )
    cases: dict[CaseKey, Case | EntryUnreadable] = {}
    for key, entries in itertools.groupby(rows, key=lambda row: (row.bureau, row.case_id)):
        if key not in wanted:
            continue
        try:
            case = functools.reduce(evolve, (decode_entry(bytes(row.public)) for row in entries), None)
        except (DecodeError, LookupError, ValueError):
            # That one case is refused; every other one of the node goes on.
            cases[key] = EntryUnreadable(*key)
        else:
            if case is not None:
                cases[key] = case
    return cases


def readable(found: Case | EntryUnreadable | None) -> Case | None:
    """The case that was folded; raises what stood against it."""
    if isinstance(found, EntryUnreadable):
        raise found
    return found


class Draft:
    """What one piece of work sees and stages."""

    def __init__(self, batch: LedgerBatch) -> None:
        self._batch = batch
        self._heads: dict[str, Head] = {}
        self._cases: dict[CaseKey, Case] = {}
        self._rows = _Rows()
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

    def request(self, bureau: str, request_key: str) -> Request | None:
        """What was done under a caller's key."""
        key = (bureau, request_key)
        return self._requests.get(key) or self._batch.requests.get(key)

    def reference(self, bureau: str, channel: Channel, reference: str) -> tuple[str, int] | None:
        """The case registered for a channel's own number, and the entry's seq."""
        return self._batch.references.get((bureau, channel, reference))

    def receipt(self, bureau: str, referral_id: str) -> bytes | None:
        """The stored decision on a referral, as it was sent."""
        return self._batch.receipts.get((bureau, referral_id))

    # ------------------------------------------------------------ what becomes so

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
            if case is not None and not about_none:
                entry = replace(entry, department_kind=context.staff.kind_of(case.department))
            head = self._append(head, entry, before)
        self._heads[context.bureau] = head
        if case is not None:
            self._cases[context.bureau, case_id] = case
        return Recorded(case, head.seq, head.hash)

    def note(self, context: Context, event: LedgerEvent, subject: str = "", version: int = 0) -> Recorded:
        """Appends an event that concerns no single case; `subject` and `version` name what it is about, if anything."""
        entry = Entry(
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
        head = self._append(self.head(context.bureau), entry, None)
        self._heads[context.bureau] = head
        return Recorded(None, head.seq, head.hash)

    def _append(self, head: Head, entry: Entry, before: Case | None) -> Head:
        """Puts an entry at the journal's end; `before` is its case as it was."""
        public = encode_entry(entry)
        seq, digest, rows = head.seq + 1, chain.NO_PRIVATE, self._rows
        private = entry.event.private
        if private is not None:
            payload, salt = encode_private(private), _CHANCE.draw(chain.SALT_BYTES)
            digest = chain.private_digest(salt, payload)
            rows.private.append((entry.bureau, seq, salt, payload))
            if isinstance(entry.event, Registered) and private.channel_reference and entry.channel is not None:
                reference = (entry.bureau, int(entry.channel), private.channel_reference)
                rows.references.append((*reference, entry.case_id, seq))
                self._references[reference] = (entry.case_id, seq)
        hash_ = chain.link(head.hash, head.generation, seq, digest, public)
        rows.journal.append(
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
            )
        )
        rows.referrals.extend(projections.referral_rows(entry, before))
        registered = head.cases_registered + isinstance(entry.event, Registered)
        return Head(head.bureau, head.generation, seq, hash_, registered)

    def keep_request(self, bureau: str, request_key: str, request: Request) -> None:
        """Remembers what was done under a caller's key."""
        self._requests[bureau, request_key] = request
        self._rows.requests.append((bureau, request_key, request.digest, request.case_id, request.seq))

    def keep_receipt(self, bureau: str, referral_id: str, receipt: bytes) -> None:
        """Remembers a decision, word for word."""
        self._receipts[bureau, referral_id] = receipt
        self._rows.decisions.append((bureau, referral_id, receipt))

    def put_peer(self, bureau: str, peer: str, failures: int, next_attempt_at: datetime) -> None:
        """Remembers when a peer is to be tried again."""
        self._rows.peers.append((bureau, peer, failures, to_micros(next_attempt_at)))

    def put_cursor(self, bureau: str, published_seq: int) -> None:
        """Remembers up to where the journal has been published."""
        self._rows.cursors.append((bureau, published_seq))

    def merge(self) -> None:
        """Makes what was staged part of the batch."""
        batch = self._batch
        for key in self._cases:
            batch.before.setdefault(key, None)
        batch.heads.update(self._heads)
        batch.cases.update(self._cases)
        batch.requests.update(self._requests)
        batch.references.update(self._references)
        batch.receipts.update(self._receipts)
        batch.rows.add(self._rows)
