"""Reading the ledger: what officers, peers, the courier, the publisher and the sweep ask of it. No query writes."""

import base64
import binascii
import functools
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import sqlalchemy as sa

from kuaixiang.domain.attachments import attachments_in
from kuaixiang.domain.case import Case, Conclusion
from kuaixiang.domain.errors import EntryUnreadable, FieldMalformed
from kuaixiang.domain.events import Attachment, Entry, Private
from kuaixiang.domain.labels import Both
from kuaixiang.domain.lights import CLOSED_STAGES
from kuaixiang.domain.orders import Order
from kuaixiang.domain.reconciliation import PairRecord
from kuaixiang.domain.registration import check_case_id
from kuaixiang.domain.words import (
    Category,
    Channel,
    ClockKind,
    Custody,
    DifferenceKind,
    Light,
    OrderLevel,
    OrderSide,
    OrderStage,
    Outcome,
    ReferralState,
    Refusal,
    Stage,
    WorkTab,
)
from kuaixiang.domain.worklist import TABS, Due, Pile
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.wire.codec import UNREADABLE, decode_entry, decode_private
from kuaixiang.wire.v1 import journal_pb2
from node.ledger import schema, texts
from node.ledger.database import LedgerDatabase
from node.ledger.ledger import FoldedCases, load_cases, load_orders, readable
from node.ledger.search import Asked, search_page

PAGE_SIZE_DEFAULT: Final = 50
PAGE_SIZE_MAX: Final = 500
"""Cases in one answer: about 250 kB."""
COUNTED_MAX: Final = 999
"""Cases of a tab that are counted: an officer needs no exact number beyond it, and a thousand are counted in a
millisecond where a million would take a second."""
LINKED_CASES_MAX: Final = 500
"""Cases that one completion may complete: one transaction of the writer."""
READINGS: Final = ("private_read", "attachment_read", "snapshot_given_back", "private_erased")
"""Events that say who was shown or given what is private of a case, or that it was erased."""
READINGS_MAX: Final = 500
"""Readings shown with a case: about 50 kB, whatever somebody's program asks for a thousand times."""
SEQ_MAX: Final = 2**63 - 1
"""The end of every journal."""
_OF_SEARCH: Final = "search "
"""How the tokens of searches begin, within."""

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
_D: Final = schema.DELIVERIES.c
_OWED: Final = sa.select(_D.bureau, _D.peer, sa.func.count(), sa.func.min(_D.since_us)).group_by(_D.bureau, _D.peer)
_DELIVERIES: Final = (
    sa.select(_D.bureau, _D.peer, _D.case_id, _D.since_us)
    .where(_D.bureau == sa.bindparam("bureau"), _D.peer == sa.bindparam("peer"))
    .order_by(_D.since_us, _D.case_id)
    .limit(sa.bindparam("limit"))
)
"""Made once, both: the courier asks them after every commit."""


_E: Final = schema.ENTRIES.c
_SNAPSHOTS: Final = (
    sa.select(_E.seq, _E.case_id, _E.version, _E.sealed)
    # Not by pairs: SQLite looks those up by no index. Nearly all requests are the first entries of their cases.
    .where(
        _E.bureau == sa.bindparam("bureau"),
        _E.case_id.in_(sa.bindparam("case_ids", expanding=True)),
        _E.version.in_(sa.bindparam("versions", expanding=True)),
        _E.sealed.is_not(None),
    )
)
"""Made once: every page of a work list asks it."""


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
    provisional: bool = False
    due_before_us: int | None = None
    due_soon_at_us: int | None = None
    """Due within one working day at this instant, and not passed."""
    registered_from_us: int | None = None
    registered_before_us: int | None = None
    tab: WorkTab = WorkTab.ALL
    now_us: int = 0
    today_ends_us: int = 0
    """The instant and the end of its day, for tabs that ask when a case is due."""
    pieces: tuple[str, ...] = ()
    """What one entry of a case must have (`node.ledger.search.read_search`); the newest such entry comes first."""
    archived: bool = False
    """Of the cases in the archive, instead of those that are worked with."""

    @property
    def table(self) -> sa.Table:
        """Where such cases are listed."""
        return schema.ARCHIVED_CASES if self.archived else schema.CASES

    @property
    def is_tab(self) -> bool:
        """Whether it asks for a tab, of a department or of all, and nothing else."""
        asked: dict[str, Any] = {name: getattr(self, name) for name in ("department", "tab", "now_us", "today_ends_us")}
        plain = replace(self, stages=tuple(self.stages), custodies=tuple(self.custodies))
        return plain == CaseFilter(bureau=self.bureau, **asked)


@dataclass(frozen=True, slots=True)
class TabCount:
    """How many cases a tab has, `COUNTED_MAX` at most; `more`: it has more than that."""

    tab: WorkTab
    count: int
    more: bool


@dataclass(frozen=True, slots=True)
class HistoryEntry:
    """One journal entry of a case, with its private part where that was asked for and is kept."""

    seq: int
    entry: Entry


@dataclass(frozen=True, slots=True)
class LedgerPlace:
    """Where a case stands in the ledger by time of registration, and its stage as committed."""

    registered_at_us: int
    case_id: str
    stage: int


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
class StandingMismatch:
    """A case about which a peer's ledger tells something else; `absent`: it is not in this bureau's ledger."""

    bureau: str
    peer: str
    case_id: str
    absent: bool
    difference: DifferenceKind
    since_us: int


@dataclass(frozen=True, slots=True)
class LastReconciliation:
    """The last recorded reconciliation of a bureau with a peer, counted in hand-overs."""

    bureau: str
    peer: str
    at_us: int
    from_day: str
    to_day: str
    matched: int
    pending: int
    missing_here: int
    missing_there: int
    different: int


@dataclass(frozen=True, slots=True)
class PeerState:
    """How it went with a peer lately: failures in a row, and when it is to be tried again (real time)."""

    failures: int
    next_attempt_us: int


@dataclass(frozen=True, slots=True)
class Directive:
    """What headquarters has published, as it signed it."""

    kind: int
    subject: str
    published_at_us: int
    directive: bytes
    signature: bytes


def one_case(database: Database, bureau: str, case_id: str) -> Case | None:
    """A case as committed."""
    with database.reading() as connection:
        return readable(load_cases(connection, [(bureau, case_id)]).get((bureau, case_id)))


def history(database: LedgerDatabase, bureau: str, case_id: str, *, private: bool) -> list[HistoryEntry]:
    """The entries of a case, first to last."""
    found = histories(database, bureau, [case_id], private=private).get(case_id, [])
    if isinstance(found, EntryUnreadable):
        raise found
    return found


def is_archived(database: Database, bureau: str, case_id: str) -> bool:
    """Whether a case is in the archive."""
    table = schema.ARCHIVED_CASES
    query = sa.select(sa.exists().where(table.c.bureau == bureau, table.c.case_id == case_id))
    with database.reading() as connection:
        return bool(connection.execute(query).scalar_one())


def histories(
    database: LedgerDatabase, bureau: str, case_ids: Sequence[str], *, private: bool
) -> dict[str, list[HistoryEntry] | EntryUnreadable]:
    """The entries of each case, first to last; of a case whose entries cannot be read, what stands against it."""
    query = (
        sa.select(_E.case_id, _E.seq, _E.public, _E.sealed, _E.version)
        .where(_E.bureau == bureau, _E.case_id.in_(case_ids), _E.version > 0)
        .order_by(_E.case_id, _E.version)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    found: dict[str, list[HistoryEntry] | EntryUnreadable] = {}
    for case_id, entries in itertools.groupby(rows, key=lambda row: row.case_id):
        try:
            found[case_id] = [
                HistoryEntry(
                    row.seq,
                    decode_entry(
                        bytes(row.public),
                        database.open_private(bureau, row.seq, row.sealed)
                        if private and row.sealed is not None
                        else None,
                    ),
                )
                for row in entries
            ]
        except UNREADABLE:
            found[case_id] = EntryUnreadable(bureau, case_id)
    return found


def readings(database: Database, bureau: str, case_id: str) -> list[HistoryEntry]:
    """The latest readings in clear of what is private of a case, first to last."""
    # An expression: in the order of seq itself the database would walk through the whole journal, the newest first, for
    # a case that nobody has read.
    newest = (_J.seq + 0).label("newest")
    query = (
        sa.select(_J.seq, _J.public, newest)
        .where(_J.bureau == bureau, _J.case_id == case_id, _J.version == 0, _J.kind.in_(READINGS))
        .order_by(newest.desc())
        .limit(READINGS_MAX)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [HistoryEntry(row.seq, decode_entry(bytes(row.public))) for row in reversed(rows)]


def in_order_of_registration(
    database: Database, wanted: CaseFilter, after: LedgerPlace | None, limit: int
) -> list[LedgerPlace]:
    """Where the next cases stand in the ledger as it is kept on paper: by the time of their registration."""
    table = schema.KNOWN_CASES
    at, case_id = table.c.registered_at_us, table.c.case_id
    query = sa.select(at, case_id, table.c.stage).where(*_conditions(wanted, table))
    if after is not None:
        query = query.where(
            sa.or_(at > after.registered_at_us, sa.and_(at == after.registered_at_us, case_id > after.case_id))
        )
    with database.reading() as connection:
        rows = connection.execute(query.order_by(at, case_id).limit(limit)).all()
    return [LedgerPlace(*row) for row in rows]


def private_of(database: LedgerDatabase, bureau: str, case_id: str, version: int) -> Private | None:
    """The private part of one entry of a case; None when it has none or it has been erased.

    Raises `EntryUnreadable`.
    """
    query = sa.select(_E.seq, _E.sealed).where(
        _E.bureau == bureau, _E.case_id == case_id, _E.version == version, _E.sealed.is_not(None)
    )
    with database.reading() as connection:
        row = connection.execute(query).one_or_none()
    if row is None:
        return None
    try:
        return decode_private(database.open_private(bureau, row.seq, row.sealed))
    except UNREADABLE:
        raise EntryUnreadable(bureau, case_id) from None


def snapshots(database: LedgerDatabase, bureau: str, cases: Sequence[Case]) -> dict[str, Private]:
    """The private parts that hold the requests of cases, by their numbers; without what is erased or does not open."""
    wanted = {case.case_id: case.snapshot_version for case in cases}
    asked = {"bureau": bureau, "case_ids": list(wanted), "versions": [*{*wanted.values()}]}
    with database.reading() as connection:
        rows = connection.execute(_SNAPSHOTS, asked).all()
    found = {
        row.case_id: texts.private_kept(database, bureau, row.seq, row.sealed)
        for row in rows
        if row.version == wanted[row.case_id]
    }
    return {case_id: private for case_id, private in found.items() if private is not None}


def attachments_of(database: LedgerDatabase, case: Case) -> tuple[Attachment, ...]:
    """The files of a case, as it came here last and as they were attached since. Raises `EntryUnreadable`."""
    known = schema.ATTACHMENTS
    query = sa.select(known.c.seq).where(known.c.bureau == case.bureau, known.c.case_id == case.case_id).distinct()
    entries = (
        sa.select(_E.seq, _E.public, _E.sealed)
        .where(_E.bureau == case.bureau, _E.seq.in_(query), _E.sealed.is_not(None))
        .order_by(_E.seq)
    )
    with database.reading() as connection:
        rows = connection.execute(entries).all()
    try:
        entries_read = [
            decode_entry(bytes(public), database.open_private(case.bureau, seq, sealed)) for seq, public, sealed in rows
        ]
    except UNREADABLE:
        raise EntryUnreadable(case.bureau, case.case_id) from None
    return attachments_in(entries_read, case.snapshot_version)


def ordered_cases(database: Database, bureau: str) -> frozenset[str]:
    """The cases that open supervision orders of the bureau name. Raises `EntryUnreadable`."""
    table = schema.ORDERS
    query = sa.select(table.c.order_id).where(table.c.bureau == bureau, table.c.open == 1)
    with database.reading() as connection:
        keys = [(bureau, order_id) for order_id in connection.execute(query).scalars()]
        found = load_orders(connection, keys)
    orders = (readable(order) for order in found.values())
    return frozenset(case_id for order in orders if order is not None for case_id in order.case_ids)


def cases_of(database: Database, bureau: str, case_ids: Sequence[str]) -> list[Case]:
    """Some cases as committed; without those that cannot be read."""
    with database.reading() as connection:
        found = load_cases(connection, [(bureau, case_id) for case_id in case_ids])
    return [case for case in found.values() if isinstance(case, Case)]


def has_request(database: Database, bureau: str, request_key: str) -> bool:
    """Whether something was done under a caller's key."""
    table = schema.REQUESTS
    query = sa.select(sa.exists().where(table.c.bureau == bureau, table.c.request_key == request_key))
    with database.reading() as connection:
        return bool(connection.execute(query).scalar_one())


def list_cases(
    database: LedgerDatabase,
    wanted: CaseFilter,
    page_size: int,
    page_token: str,
    folded: FoldedCases | None = None,
) -> tuple[list[Case], str]:
    """A page of cases, nearest deadline first, and the token of the next page (empty after the last).

    Of a search, the case with the newest entry that has the words first; a page may then have fewer cases than fit.
    `folded` are cases that are in memory: of these only what the database has in another version is read again.
    """
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    asked = database.vault.tokens_asked(wanted.bureau, wanted.pieces) if wanted.pieces else []
    if wanted.archived and not database.archive.is_there:
        return [], ""
    with database.reading() as connection:
        if asked:
            versions, more = _page_of_search(connection, wanted, asked, size, page_token)
        else:
            versions, more = _page_by_deadline(connection, wanted, size, page_token)
        cases = folded.get(wanted.bureau, versions) if folded else {}
        missing = [(wanted.bureau, case_id) for case_id in versions if case_id not in cases]
        read = load_cases(connection, missing)
    fresh = {case_id: case for (_, case_id), found in read.items() if (case := readable(found)) is not None}
    if folded:
        folded.put(wanted.bureau, fresh)
    cases |= fresh
    return [cases[case_id] for case_id in versions if case_id in cases], more


def _page_by_deadline(
    connection: sa.Connection, wanted: CaseFilter, size: int, page_token: str
) -> tuple[dict[str, int], str]:
    """The versions of a page's cases by their numbers, and the next page's token."""
    values: dict[str, Any] = {"rows_max": size + 1}
    if page_token:
        values["after_due_us"], values["after_case_id"] = read_token(page_token)
    if wanted.is_tab:
        values |= {
            "bureau": wanted.bureau,
            "department": wanted.department,
            "now_us": wanted.now_us,
            "today_ends_us": wanted.today_ends_us,
        }
        query = _page_of_tab(wanted.tab, of_department=bool(wanted.department), deeper=bool(page_token))
    else:
        ranges = _ranges(wanted, of_department=bool(wanted.department))
        query = _page_query(ranges, wanted.table, deeper=bool(page_token))
    rows = connection.execute(query, values).all()
    more = token_of(rows[size - 1].next_due_us, rows[size - 1].case_id) if len(rows) > size else ""
    return {row.case_id: row.version for row in rows[:size]}, more


@functools.cache
def _page_of_tab(tab: WorkTab, *, of_department: bool, deeper: bool) -> sa.Select[Any]:
    """What reads a page of a tab. Made once: making it took four times as long as running it."""
    return _page_query(_bound_ranges(tab, of_department=of_department), schema.CASES, deeper=deeper)


def _page_query(ranges: Sequence[Sequence[sa.ColumnElement[bool]]], table: sa.Table, *, deeper: bool) -> sa.Select[Any]:
    """What reads the first cases of some ranges together, or those after a place, in the order of deadlines."""
    order = (table.c.next_due_us, table.c.case_id)
    place = (sa.bindparam("after_due_us", type_=sa.BigInteger), sa.bindparam("after_case_id", type_=sa.Text))
    after = [sa.tuple_(*order) > sa.tuple_(*place)] if deeper else []
    parts = [
        sa.select(table.c.case_id, table.c.next_due_us, table.c.version)
        .where(*conditions, *after)
        .order_by(*order)
        .limit(sa.bindparam("rows_max"))
        for conditions in ranges
    ]
    if len(parts) == 1:
        return parts[0]
    united = sa.union_all(*(sa.select(part.subquery()) for part in parts)).subquery()
    return sa.select(united).order_by(united.c.next_due_us, united.c.case_id).limit(sa.bindparam("rows_max"))


def _page_of_search(
    connection: sa.Connection, wanted: CaseFilter, asked: Asked, size: int, page_token: str
) -> tuple[dict[str, int], str]:
    """As `_page_by_deadline`, of the cases with what is asked for."""
    before = _read_search_token(page_token) if page_token else None
    conditions = _conditions(wanted, wanted.table)
    found, at = search_page(
        connection, wanted.bureau, asked, before=before, size=size, cases=wanted.table, conditions=conditions
    )
    return found, _search_token(at) if at is not None else ""


def count_work(database: Database, bureau: str, department: str, now_us: int, today_ends_us: int) -> list[TabCount]:
    """How many cases each tab has, of one department where that is given; instants in microseconds."""
    asked = {"bureau": bureau, "department": department, "now_us": now_us, "today_ends_us": today_ends_us}
    with database.reading() as connection:
        row = connection.execute(_counts(of_department=bool(department)), asked).one()
    return [
        TabCount(tab, min(count, COUNTED_MAX), count > COUNTED_MAX) for tab, count in zip(WorkTab, row, strict=True)
    ]


@functools.cache
def _counts(*, of_department: bool) -> sa.Select[Any]:
    """What counts all tabs. Made once: making it took six times as long as running it."""
    counts = []
    for tab in WorkTab:
        ranges = _bound_ranges(tab, of_department=of_department)
        parts = [sa.select(sa.literal(1)).select_from(schema.CASES).where(*part) for part in ranges]
        some = (sa.union_all(*parts) if len(parts) > 1 else parts[0]).limit(COUNTED_MAX + 1).subquery()
        counts.append(sa.select(sa.func.count()).select_from(some).scalar_subquery())
    return sa.select(*counts)


def _bound_ranges(tab: WorkTab, *, of_department: bool) -> list[list[sa.ColumnElement[bool]]]:
    """The ranges of a tab for whatever bureau, department and instants are given when it is asked."""
    bound: dict[str, Any] = {name: sa.bindparam(name) for name in ("bureau", "now_us", "today_ends_us")}
    narrowed = [schema.CASES.c.department == sa.bindparam("department")] if of_department else []
    return [[*part, *narrowed] for part in _ranges(CaseFilter(tab=tab, **bound), of_department=of_department)]


def _ranges(wanted: CaseFilter, *, of_department: bool) -> list[list[sa.ColumnElement[bool]]]:
    """Conditions for the parts that the wanted cases are of: within each an index has them by their deadlines.

    There is one index by pile, one by department and pile, and one of all cases. Of a tab that asks when a case is due
    the last has few others before the end of today.
    """
    table = wanted.table
    conditions, meaning = _conditions(wanted, table), TABS[wanted.tab]
    if not of_department and (meaning.due is not None or wanted.tab is WorkTab.ALL):
        return [conditions]
    return [[*conditions, table.c.pile == int(pile)] for pile in sorted(meaning.piles)]


def _conditions(wanted: CaseFilter, table: sa.Table) -> list[sa.ColumnElement[bool]]:
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
    meaning = TABS[wanted.tab]
    if meaning.piles != frozenset(Pile):
        # As an expression, so that SQLite does not gather piles that it would then have to put in order.
        conditions.append((table.c.pile + 0).in_(sorted(map(int, meaning.piles))))
    match meaning.due:
        case Due.TODAY:
            conditions += [table.c.next_due_us > wanted.now_us, table.c.next_due_us <= wanted.today_ends_us]
        case Due.PASSED:
            conditions.append(table.c.next_due_us <= wanted.now_us)
        case None:
            pass
    if wanted.provisional:
        conditions.append(_has_clock(table, schema.CLOCKS.c.provisional == 1))
    if wanted.due_soon_at_us is not None:
        clock = schema.CLOCKS.c
        conditions += [
            table.c.next_due_us > wanted.due_soon_at_us,
            _has_clock(
                table,
                sa.and_(
                    clock.due_us == table.c.next_due_us,
                    sa.or_(clock.soon_us <= wanted.due_soon_at_us, clock.limit_workdays <= 1),
                ),
            ),
        ]
    if wanted.due_before_us is not None:
        conditions.append(table.c.next_due_us <= wanted.due_before_us)
    if wanted.registered_from_us is not None:
        conditions.append(table.c.registered_at_us >= wanted.registered_from_us)
    if wanted.registered_before_us is not None:
        conditions.append(table.c.registered_at_us < wanted.registered_before_us)
    return conditions


def _has_clock(table: sa.Table, condition: sa.ColumnElement[bool]) -> sa.ColumnElement[bool]:
    """Cases with a running clock that is so."""
    clocks, cases = schema.CLOCKS.c, table.c
    return (
        sa.select(sa.literal(1))
        .select_from(schema.CLOCKS)
        .where(clocks.bureau == cases.bureau, clocks.case_id == cases.case_id, condition)
        .correlate(table)
        .exists()
    )


def linked_cases(database: Database, bureau: str, lead_case_id: str) -> list[str]:
    """The numbers of the cases that are linked to a lead case, first to last."""
    table = schema.KNOWN_CASES
    query = (
        sa.select(table.c.case_id)
        .where(table.c.bureau == bureau, table.c.lead_case_id == lead_case_id)
        .order_by(table.c.case_id)
        .limit(LINKED_CASES_MAX)
    )
    with database.reading() as connection:
        return list(connection.execute(query).scalars())


def token_after(case: Case) -> str:
    """The token of the page that begins after a case, as it stands in the list."""
    nearest = min((to_micros(clock.due_at) for clock in case.clocks), default=schema.NEVER_US)
    return token_of(nearest, case.case_id)


def token_of(due_us: int, case_id: str) -> str:
    """The token of the page of a list that begins after an instant and a number."""
    return base64.urlsafe_b64encode(f"{due_us} {case_id}".encode()).decode()


def _search_token(doc: int) -> str:
    return base64.urlsafe_b64encode(f"{_OF_SEARCH}{doc}".encode()).decode()


def _read_search_token(token: str) -> int:
    try:
        return int(base64.urlsafe_b64decode(token.encode()).decode().removeprefix(_OF_SEARCH))
    except (ValueError, binascii.Error) as fault:
        raise not_a_token() from fault


def not_a_token() -> FieldMalformed:
    """The refusal of a page token that was not given by the page before."""
    return FieldMalformed(
        "page_token",
        Both("is not a token of this list", "不是本列表的翻页标记"),
        Both("Pass the next_page_token of the page before, as it is.", "请原样使用上一页给出的翻页标记。"),
    )


def read_token(token: str) -> tuple[int, str]:
    """What `token_of` was made of; raises `FieldMalformed`."""
    try:
        due, case_id = base64.urlsafe_b64decode(token.encode()).decode().split(" ", 1)
        check_case_id(case_id, "page_token")
        return max(0, min(int(due), schema.NEVER_US)), case_id
    except (ValueError, binascii.Error) as fault:
        raise not_a_token() from fault


def _to_note() -> tuple[sa.Select[Any], tuple[sa.Select[Any], ...]]:
    """What `clocks_to_note` asks: whether there is any such clock, whosever it is, then which, one after the other."""
    clocks = schema.CLOCKS
    now_us: sa.BindParameter[Any] = sa.bindparam("now_us")
    calendar_version: sa.BindParameter[Any] = sa.bindparam("calendar_version")
    reached, ahead = clocks.c.sweep_us <= now_us, clocks.c.due_us > now_us
    version = clocks.c.sweep_calendar
    # Two ranges, which an index answers where it does not answer "another version than". After a calendar was
    # published they hold every open clock, which to put in order for each batch would take long.
    earlier, later = sa.and_(version > "", version < calendar_version), version > calendar_version
    wanted: tuple[tuple[sa.ColumnElement[bool], sa.Column[int] | None], ...] = (
        (sa.and_(reached, clocks.c.due_us <= now_us), clocks.c.due_us),
        (sa.and_(reached, ahead), clocks.c.soon_us),
        (sa.and_(earlier, ahead), None),
        (sa.and_(later, ahead), None),
    )
    # As an expression, so that SQLite does not read every clock of a bureau in the order of the primary key.
    bureau: sa.ColumnElement[str] = sa.literal_column("clocks.bureau || ''", sa.Text)
    of_ours = bureau.in_(sa.bindparam("bureaus", expanding=True))
    subject = (bureau, clocks.c.case_id)
    asked = [
        sa.select(bureau.label("bureau"), clocks.c.case_id).where(condition, of_ours).limit(sa.bindparam("limit"))
        for condition, _ in wanted
    ]
    found = (sa.exists(sa.select(1).select_from(clocks).where(some)) for some in (reached, earlier, later))
    return sa.select(sa.or_(*found)), tuple(
        query.distinct() if order is None else query.group_by(*subject).order_by(sa.func.min(order))
        for query, (_, order) in zip(asked, wanted, strict=True)
    )


_ANY_TO_NOTE, _TO_NOTE = _to_note()
"""Made once, and the first asked before the others: an idle node asks every second, and four questions about a hundred
bureaus were a quarter of what it did."""


def clocks_to_note(
    database: Database, bureaus: Sequence[str], now_us: int, calendar_version: str, limit: int
) -> list[tuple[str, str]]:
    """Whose clocks time or the calendar has changed unrecorded: (bureau, subject), what has passed first.

    A subject is a case, or whatever else has a clock. Clocks of a case that is offered stand, so that it is left out.
    """
    asked = {"bureaus": bureaus, "now_us": now_us, "calendar_version": calendar_version, "limit": limit}
    found: dict[tuple[str, str], None] = {}
    with database.reading() as connection:
        if not connection.execute(_ANY_TO_NOTE, asked).scalar_one():
            return []
        for query in _TO_NOTE:
            found.update(dict.fromkeys((row.bureau, row.case_id) for row in connection.execute(query, asked)))
    return list(found)[:limit]


@dataclass(frozen=True, slots=True, kw_only=True)
class OrderFilter:
    """Which supervision orders are wanted; what is left out does not restrict."""

    bureau: str
    side: OrderSide | None = None
    stages: Sequence[OrderStage] = ()
    level: OrderLevel | None = None
    open: bool = False
    due_before_us: int | None = None


def one_order(database: Database, bureau: str, order_id: str) -> Order | None:
    """A supervision order as committed."""
    with database.reading() as connection:
        return readable(load_orders(connection, [(bureau, order_id)]).get((bureau, order_id)))


def list_orders(database: Database, wanted: OrderFilter, page_size: int, page_token: str) -> tuple[list[Order], str]:
    """A page of supervision orders, nearest deadline first, and the token of the next page (empty after the last)."""
    table = schema.ORDERS
    size = min(page_size or PAGE_SIZE_DEFAULT, PAGE_SIZE_MAX)
    query = sa.select(table.c.order_id, table.c.next_due_us).where(*_order_conditions(wanted))
    if page_token:
        due, order_id = read_token(page_token)
        query = query.where(
            sa.or_(table.c.next_due_us > due, sa.and_(table.c.next_due_us == due, table.c.order_id > order_id))
        )
    query = query.order_by(table.c.next_due_us, table.c.order_id).limit(size + 1)
    with database.reading() as connection:
        rows = connection.execute(query).all()
        keys = [(wanted.bureau, order_id) for order_id, _ in rows[:size]]
        orders = load_orders(connection, keys)
    more = token_of(rows[size - 1].next_due_us, rows[size - 1].order_id) if len(rows) > size else ""
    return [order for key in keys if (order := readable(orders.get(key))) is not None], more


def count_orders(database: Database, wanted: Sequence[OrderFilter]) -> list[int]:
    """How many supervision orders there are by each of some filters, at one instant."""
    table = schema.ORDERS
    counts = [
        sa.select(sa.func.count()).select_from(table).where(*_order_conditions(one)).scalar_subquery() for one in wanted
    ]
    with database.reading() as connection:
        return [int(count) for count in connection.execute(sa.select(*counts)).one()]


def _order_conditions(wanted: OrderFilter) -> list[sa.ColumnElement[bool]]:
    table, bureau = schema.ORDERS, wanted.bureau
    conditions: list[sa.ColumnElement[bool]] = [table.c.bureau == bureau]
    match wanted.side:
        case OrderSide.ISSUED:
            conditions.append(table.c.issuer == bureau)
        case OrderSide.RECEIVED:
            conditions.append(table.c.final_bureau == bureau)
        case OrderSide.RELAYED:
            conditions += [table.c.issuer != bureau, table.c.final_bureau != bureau]
        case None:
            pass
    if wanted.stages:
        conditions.append(table.c.stage.in_([int(stage) for stage in wanted.stages]))
    if wanted.level is not None:
        conditions.append(table.c.level == int(wanted.level))
    if wanted.open:
        conditions.append(table.c.open == 1)
    if wanted.due_before_us is not None:
        conditions.append(table.c.next_due_us <= wanted.due_before_us)
    return conditions


def derived_orders(database: Database, bureau: str, order_ids: Sequence[str]) -> dict[str, list[str]]:
    """The numbers of the orders derived from each of some."""
    table = schema.ORDERS
    query = (
        sa.select(table.c.parent_order_id, table.c.order_id)
        .where(table.c.bureau == bureau, table.c.parent_order_id.in_(order_ids))
        .order_by(table.c.order_id)
    )
    found: dict[str, list[str]] = {}
    with database.reading() as connection:
        for parent, order_id in connection.execute(query):
            found.setdefault(parent, []).append(order_id)
    return found


_C: Final = schema.CASES.c
_K: Final = schema.CLOCKS.c
_LIGHT: Final = sa.case(
    (sa.or_(_C.stage == int(Stage.DEFERRED), _C.next_due_us == schema.NEVER_US), int(Light.STOPPED)),
    (_C.next_due_us <= sa.bindparam("now_us"), int(Light.OVERDUE)),
    (
        sa.exists().where(
            _K.bureau == _C.bureau,
            _K.case_id == _C.case_id,
            sa.or_(_K.soon_us <= sa.bindparam("now_us"), _K.limit_workdays <= 1),
        ),
        int(Light.DUE_SOON),
    ),
    else_=int(Light.IN_TIME),
)
_OPEN_CASES: Final = (
    sa.select(_C.bureau, _C.stage, _LIGHT.label("light"), sa.func.count().label("cases"))
    .where(
        _C.bureau.in_(sa.bindparam("bureaus", expanding=True)),
        # By the piles, which the index has: the ledger's closed cases are far more.
        _C.pile.in_(sorted(map(int, set(Pile) - {Pile.DONE, Pile.ELSEWHERE, Pile.CONCLUDED_ELSEWHERE}))),
        _C.stage.not_in(sorted(map(int, CLOSED_STAGES))),
    )
    .group_by(_C.bureau, _C.stage, sa.text("light"))
)


def open_cases(database: Database, bureaus: Sequence[str], now_us: int) -> dict[tuple[str, Stage, Light], int]:
    """How many open cases lie at the bureaus, by stage and light; those with another bureau are not among them."""
    with database.reading() as connection:
        rows = connection.execute(_OPEN_CASES, {"bureaus": bureaus, "now_us": now_us}).all()
    return {(row.bureau, Stage(row.stage), Light(row.light)): row.cases for row in rows}


_O: Final = schema.ORDERS.c
_OPEN_ORDERS: Final = sa.select(
    sa.func.count(), sa.func.sum(sa.case((_O.next_due_us <= sa.bindparam("now_us"), 1), else_=0))
).where(
    _O.bureau.in_(sa.bindparam("bureaus", expanding=True)),
    _O.open == 1,
    sa.or_(_O.issuer == _O.bureau, _O.final_bureau == _O.bureau),
)


def open_orders(database: Database, bureaus: Sequence[str], now_us: int) -> tuple[int, int]:
    """How many supervision orders the bureaus have issued or received that are open, and how many of them are late."""
    with database.reading() as connection:
        count, overdue = connection.execute(_OPEN_ORDERS, {"bureaus": bureaus, "now_us": now_us}).one()
    return int(count), int(overdue or 0)


def read_segment(
    database: Database, bureau: str, after_seq: int, *, entries_max: int, bytes_max: int, to_seq: int = 0
) -> journal_pb2.Segment | None:
    """The entries after a position, all of one generation, as many as fit; None at the end of the journal."""
    span = {"bureau": bureau, "after_seq": after_seq, "to_seq": to_seq or SEQ_MAX, "entries_max": entries_max}
    with database.reading() as connection:
        rows = connection.execute(_SPAN, span).all()
    return segment_of(bureau, rows, bytes_max)


def segment_of(bureau: str, rows: Sequence[Any], bytes_max: int) -> journal_pb2.Segment | None:
    """Consecutive entries of a journal, under the names of its columns, as many as fit and are of one generation."""
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
    with database.reading() as connection:
        return [Owed(*row) for row in connection.execute(_OWED)]


def deliveries(database: Database, bureau: str, peer: str, limit: int) -> list[Delivery]:
    """What a peer is to be told, oldest first."""
    with database.reading() as connection:
        rows = connection.execute(_DELIVERIES, {"bureau": bureau, "peer": peer, "limit": limit}).all()
    return [Delivery(row.bureau, row.peer, row.case_id, row.since_us) for row in rows]


def directives(database: Database) -> list[Directive]:
    """Everything that headquarters has published, oldest first."""
    table = schema.DIRECTIVES
    with database.reading() as connection:
        rows = connection.execute(sa.select(table).order_by(table.c.published_at_us)).all()
    return [
        Directive(row.kind, row.subject, row.published_at_us, bytes(row.directive), bytes(row.signature))
        for row in rows
    ]


def peer_states(database: Database) -> dict[tuple[str, str], PeerState]:
    """The persisted back-off of every peer, by (bureau, peer)."""
    with database.reading() as connection:
        rows = connection.execute(sa.select(schema.PEERS)).all()
    return {(row.bureau, row.peer): PeerState(row.failures, row.next_attempt_us) for row in rows}


def pair_records(
    database: Database, bureau: str, peer: str, spans_us: Sequence[tuple[int, int]], case_ids: Sequence[str] = ()
) -> list[PairRecord]:
    """Every hand-over with a peer that was offered within the spans, or that is of one of the cases.

    A span is from an instant until before another; there are a few hundred spans and cases at most.
    """
    table = schema.REFERRALS.c
    within = [
        sa.and_(table.offered_at_us >= since_us, table.offered_at_us < until_us) for since_us, until_us in spans_us
    ]
    if case_ids:
        within.append(table.case_id.in_(case_ids))
    return _pair_records(database, bureau, peer, sa.or_(*within)) if within else []


def _pair_records(database: Database, bureau: str, peer: str, which: sa.ColumnElement[bool]) -> list[PairRecord]:
    r, c, d = schema.REFERRALS.c, schema.CONCLUSIONS.c, schema.DELIVERIES.c
    # The conclusion stands on the latest hand-over of the case between the two.
    latest = sa.and_(c.bureau == r.bureau, c.case_id == r.case_id, c.peer == r.peer, c.referral_id == r.referral_id)
    owed = sa.and_(d.bureau == r.bureau, d.peer == r.peer, d.case_id == r.case_id)
    ending = (c.outcome, c.epoch.label("ended_epoch"), c.round, c.handled_by, c.completed_at_us)
    query = (
        sa.select(schema.REFERRALS, *ending, d.since_us)
        .select_from(schema.REFERRALS.outerjoin(schema.CONCLUSIONS, latest).outerjoin(schema.DELIVERIES, owed))
        .where(r.bureau == bureau, r.peer == peer, which)
    )
    with database.reading() as connection:
        return [_pair_record(row) for row in connection.execute(query)]


def _pair_record(row: sa.Row[Any]) -> PairRecord:
    conclusion = None
    if row.outcome is not None:
        conclusion = Conclusion(
            outcome=Outcome(row.outcome),
            epoch=row.ended_epoch,
            round=row.round,
            handled_by=row.handled_by,
            completed_at=from_micros(row.completed_at_us),
        )
    return PairRecord(
        referral_id=row.referral_id,
        case_id=row.case_id,
        epoch=row.epoch,
        from_bureau=row.bureau if row.outgoing else row.peer,
        to_bureau=row.peer if row.outgoing else row.bureau,
        offered_at=from_micros(row.offered_at_us),
        state=ReferralState(row.state),
        refusal=Refusal(row.refusal) if row.refusal else None,
        conclusion=conclusion,
        pending_since=from_micros(row.since_us) if row.since_us is not None else None,
    )


def standing_mismatches(database: Database, bureaus: Sequence[str], peer: str = "") -> list[StandingMismatch]:
    """What reconciliation has found and what still stands, the oldest first; with one peer where that is given."""
    table = schema.MISMATCHES
    query = sa.select(table).where(table.c.bureau.in_(bureaus)).order_by(table.c.since_us, table.c.case_id)
    if peer:
        query = query.where(table.c.peer == peer)
    with database.reading() as connection:
        return [
            StandingMismatch(
                row.bureau, row.peer, row.case_id, bool(row.absent), DifferenceKind(row.difference), row.since_us
            )
            for row in connection.execute(query)
        ]


def last_reconciliations(database: Database, bureaus: Sequence[str]) -> list[LastReconciliation]:
    """The last recorded reconciliation of each pair, by bureau and peer."""
    table = schema.RECONCILIATIONS
    query = sa.select(table).where(table.c.bureau.in_(bureaus)).order_by(table.c.bureau, table.c.peer)
    with database.reading() as connection:
        return [LastReconciliation(*row) for row in connection.execute(query)]
