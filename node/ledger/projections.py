"""What is kept beside the journal for asking: work list, clocks, referrals, orders, deliveries, words. A fold of it.

`write` puts what changed between two states of a case, `write_orders` between two states of a supervision order;
`rebuild` runs the same over the whole journal.
"""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from kuaixiang.domain import events
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.events import Entry
from kuaixiang.domain.orders import ENDED, Order, evolve_order
from kuaixiang.domain.words import ClockKind, Custody, DifferenceKind, Outcome, ReferralState
from kuaixiang.domain.worklist import pile_of
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.wire.codec import decode_entry
from node.ledger import schema
from node.ledger.database import LedgerDatabase
from node.ledger.search import word_rows

if TYPE_CHECKING:
    from node.ledger.ledger import _Statements

ENTRIES_READ: Final = 5_000
"""Entries folded in one transaction of a rebuild."""
HERE, ABSENT = 0, 1
"""Of a row of `mismatches`: whether its case is in this ledger."""


def write(database: Database, make: "_Statements", changes: Iterable[tuple[Case | None, Case]]) -> bool:
    """Puts the rows in which a case after differs from the case before, in the writer's open transaction.

    Whether a peer is owed something of one of the cases, before or after.
    """
    cases: list[tuple[Any, ...]] = []
    conclusions_put: list[tuple[Any, ...]] = []
    conclusions_dropped: list[tuple[Any, ...]] = []
    mismatches_put: list[tuple[Any, ...]] = []
    mismatches_dropped: list[tuple[Any, ...]] = []
    beside = _Beside()
    for before, after in changes:
        if before is after:
            continue
        cases.append(_case_row(after))
        key = (after.bureau, after.case_id)
        beside.clocks(*key, _clocks_of(before) if before else {}, _clocks_of(after))
        beside.deliveries(*key, _owed(before) if before else {}, _owed(after))
        ended = _conclusions(before) if before else {}
        ends = _conclusions(after)
        conclusions_dropped.extend((*key, peer) for peer in ended.keys() - ends.keys())
        conclusions_put.extend((*key, peer, *row) for peer, row in ends.items() if ended.get(peer) != row)
        differed = _mismatches(before) if before else {}
        differs = _mismatches(after)
        mismatches_dropped.extend((key[0], peer, key[1], HERE) for peer in differed.keys() - differs.keys())
        mismatches_put.extend(
            (key[0], peer, key[1], HERE, *row) for peer, row in differs.items() if differed.get(peer) != row
        )
    database.run(make.put_case, cases)
    beside.write(database, make)
    database.run(make.drop_conclusion, conclusions_dropped)
    database.run(make.put_conclusion, conclusions_put)
    database.run(make.drop_mismatch, mismatches_dropped)
    database.run(make.put_mismatch, mismatches_put)
    return beside.owing


def write_notes(database: Database, make: "_Statements", entries: Iterable[Entry]) -> None:
    """Puts the rows of entries that concern no case of this ledger, in the writer's open transaction."""
    absent: dict[tuple[str, str, str, int], tuple[int, int] | None] = {}
    reconciled: list[tuple[Any, ...]] = []
    doubts: dict[tuple[str, str], tuple[Any, ...] | None] = {}
    for entry in entries:
        at_us = to_micros(entry.occurred_at)
        match entry.event:
            case events.AbsentCaseFound() as event:
                absent[entry.bureau, event.peer, entry.case_id, ABSENT] = (int(DifferenceKind.MISSING_HERE), at_us)
            case events.AbsentCaseCleared() as event:
                absent[entry.bureau, event.peer, entry.case_id, ABSENT] = None
            case events.LedgersReconciled() as event:
                counts = (event.matched, event.pending, event.missing_here, event.missing_there, event.different)
                reconciled.append((entry.bureau, event.peer, at_us, event.from_day, event.to_day, *counts))
            case events.LedgerDoubted() as event:
                known = (event.known_generation, event.known_seq, event.known_hash)
                told = (event.told_generation, event.told_seq, event.told_hash)
                doubts[entry.bureau, event.peer] = (int(event.finding), *known, *told, at_us)
            case events.LedgerTrusted() as event:
                doubts[entry.bureau, event.peer] = None
            case _:
                pass
    database.run(make.drop_mismatch, [key for key, row in absent.items() if row is None])
    database.run(make.put_mismatch, [(*key, *row) for key, row in absent.items() if row is not None])
    database.run(make.put_reconciliation, reconciled)
    database.run(make.drop_doubt, [key for key, row in doubts.items() if row is None])
    database.run(make.put_doubt, [(*key, *row) for key, row in doubts.items() if row is not None])


def write_orders(database: Database, make: "_Statements", changes: Iterable[tuple[Order | None, Order]]) -> bool:
    """Puts the rows in which a supervision order after differs from the order before, as `write` does."""
    orders: list[tuple[Any, ...]] = []
    beside = _Beside()
    for before, after in changes:
        if before is after:
            continue
        orders.append(_order_row(after))
        had = _by_duty(before.clocks, stand=False) if before else {}
        beside.clocks(after.bureau, after.order_id, had, _by_duty(after.clocks, stand=False))
        beside.deliveries(after.bureau, after.order_id, _owed_of_order(before) if before else {}, _owed_of_order(after))
    database.run(make.put_order, orders)
    beside.write(database, make)
    return beside.owing


_Clocks = Mapping[tuple[ClockKind, str], tuple[Clock, bool]]
"""The clocks of a subject by kind and department, each with whether it stands."""


def _clocks_of(case: Case) -> _Clocks:
    return _by_duty(case.clocks, stand=case.custody is not Custody.OWNED)


def _by_duty(clocks: Iterable[Clock], *, stand: bool) -> _Clocks:
    return {(clock.kind, clock.department): (clock, stand) for clock in clocks}


@dataclass(slots=True)
class _Beside:
    """Rows of the tables that cases and orders share."""

    clocks_put: list[tuple[Any, ...]] = field(default_factory=list)
    clocks_dropped: list[tuple[Any, ...]] = field(default_factory=list)
    deliveries_put: list[tuple[Any, ...]] = field(default_factory=list)
    deliveries_dropped: list[tuple[Any, ...]] = field(default_factory=list)
    owing: bool = False

    def clocks(self, bureau: str, subject: str, before: "_Clocks", after: "_Clocks") -> None:
        """The clocks in which two states differ."""
        self.clocks_dropped.extend((bureau, subject, *clock) for clock in before.keys() - after.keys())
        self.clocks_put.extend(
            _clock_row(bureau, subject, *clock) for at, clock in after.items() if before.get(at) != clock
        )

    def deliveries(self, bureau: str, subject: str, owed: Mapping[str, int], owes: Mapping[str, int]) -> None:
        """What is owed to peers in which two states differ."""
        if not owed and not owes:
            return
        self.owing = True
        self.deliveries_dropped.extend((bureau, peer, subject) for peer in owed.keys() - owes.keys())
        self.deliveries_put.extend(
            (bureau, peer, subject, since) for peer, since in owes.items() if owed.get(peer) != since
        )

    def write(self, database: Database, make: "_Statements") -> None:
        """Puts and drops the rows."""
        database.run(make.drop_clock, self.clocks_dropped)
        database.run(make.put_clock, self.clocks_put)
        database.run(make.drop_delivery, self.deliveries_dropped)
        database.run(make.put_delivery, self.deliveries_put)


def _owed(case: Case) -> dict[str, int]:
    """Which peers are to be told something about the case, and since when: an offer, or how the case ended.

    What exactly they are told is read from the case when they are told.
    """
    owed = dict.fromkeys(case.awaiting, to_micros(case.conclusion.completed_at)) if case.conclusion else {}
    if case.outgoing is not None:
        # An offer comes first: what else its receiver is to be told waits for the decision.
        owed[case.outgoing.to_bureau] = to_micros(case.outgoing.offered_at)
    return owed


def _conclusions(case: Case) -> dict[str, tuple[Any, ...]]:
    """How the case ended, for each bureau that it was handed over with; nothing while it is open."""
    ended = case.conclusion
    if ended is None or ended.outcome is Outcome.REOPENED:
        return {}
    row = (int(ended.outcome), ended.epoch, ended.round, ended.handled_by, to_micros(ended.completed_at))
    return {peer: (referral_id, *row) for peer, referral_id in case.neighbours}


def _mismatches(case: Case) -> dict[str, tuple[int, int]]:
    return {found.peer: (int(found.difference), to_micros(found.since)) for found in case.mismatches}


def _owed_of_order(order: Order) -> dict[str, int]:
    return {peer: to_micros(since) for peer, since in order.owed.items()}


def _order_row(order: Order) -> tuple[Any, ...]:
    return (
        order.bureau,
        order.order_id,
        order.version,
        int(order.stage),
        int(order.level),
        order.issuer,
        order.final_bureau,
        order.parent_order_id,
        int(order.stage not in ENDED),
        to_micros(order.clock.due_at) if order.clock else schema.NEVER_US,
    )


def _case_row(case: Case) -> tuple[Any, ...]:
    nearest = min(case.clocks, key=lambda clock: clock.due_at, default=None)
    return (
        case.bureau,
        case.case_id,
        case.version,
        int(case.stage),
        int(case.custody),
        case.epoch,
        int(case.category),
        int(case.channel),
        case.department,
        to_micros(case.registered_at),
        case.with_bureau,
        to_micros(nearest.due_at) if nearest else schema.NEVER_US,
        int(nearest.kind) if nearest else 0,
        case.lead_case_id,
        int(pile_of(case)),
    )


def _clock_row(bureau: str, subject: str, clock: Clock, stands: bool) -> tuple[Any, ...]:  # noqa: FBT001 - of a pair
    due_us = to_micros(clock.due_at)
    soon_us = to_micros(clock.soon_at) if clock.soon_at is not None else schema.NEVER_US
    swept = not (clock.overdue or stands)
    sweep_us = due_us if clock.due_soon else min(soon_us, due_us)
    return (
        bureau,
        subject,
        int(clock.kind),
        clock.department,
        to_micros(clock.started_at),
        due_us,
        clock.limit_workdays,
        clock.calendar_version,
        int(clock.provisional),
        int(clock.extended),
        int(clock.overdue),
        soon_us,
        int(clock.due_soon),
        sweep_us if swept else schema.NEVER_US,
        clock.calendar_version if swept else "",
    )


def referral_rows(entry: Entry, case: Case | None) -> list[tuple[Any, ...]]:
    """The rows of the referral an entry is about; `case` as it was before the entry."""
    at = to_micros(entry.occurred_at)
    outgoing = case.outgoing if case else None

    def row(  # noqa: PLR0917 - a row's columns
        referral_id: str,
        peer: str,
        final: str,
        kind: int,
        epoch: int,
        state: ReferralState,
        refusal: int,
        offered_at: datetime,
        *,
        out: bool,
    ) -> list[tuple[Any, ...]]:
        columns = (entry.case_id, int(out), peer, final, kind, epoch, int(state), refusal, at, to_micros(offered_at))
        return [(entry.bureau, referral_id, *columns)]

    match entry.event:
        case events.Offered() as event:
            return row(
                event.referral_id,
                event.to_bureau,
                event.final_bureau,
                event.referral_kind,
                event.offer_epoch,
                ReferralState.OFFERED,
                0,
                entry.occurred_at,
                out=True,
            )
        case (events.OfferWithdrawalAsked() | events.Released() | events.OfferRefused()) as event if outgoing:
            state, refusal = ReferralState.WITHDRAWING, 0
            if isinstance(event, events.Released):
                state = ReferralState.ACCEPTED
            elif isinstance(event, events.OfferRefused):
                state, refusal = ReferralState.REFUSED, int(event.refusal)
            return row(
                event.referral_id,
                outgoing.to_bureau,
                outgoing.final_bureau,
                outgoing.referral_kind,
                outgoing.offer_epoch,
                state,
                refusal,
                outgoing.offered_at,
                out=True,
            )
        case events.Received() as event:
            return row(
                event.referral_id,
                event.from_bureau,
                event.final_bureau,
                event.referral_kind,
                event.epoch,
                ReferralState.ACCEPTED,
                0,
                event.offered_at,
                out=False,
            )
        case events.OfferDeclined() as event:
            return row(
                event.referral_id,
                event.from_bureau,
                entry.bureau,
                0,
                event.offer_epoch,
                ReferralState.REFUSED,
                int(event.refusal),
                event.offered_at,
                out=False,
            )
        case _:
            return []


def attachment_rows(entry: Entry, seq: int) -> list[tuple[Any, ...]]:
    """The files that an entry names as its case's."""
    private = entry.event.private
    if private is None:
        return []
    return [(entry.bureau, entry.case_id, attachment.digest, seq) for attachment in private.attachments]


def numbered_after(numbered: tuple[int, int], event: events.Event) -> tuple[int, int]:
    """The last numbers given to a case and to an order, after an event."""
    cases, orders = numbered
    match event:
        case events.Registered():
            return cases + 1, orders
        case events.OrderIssued():
            return cases, orders + 1
        case events.GenerationOpened() as opened:
            return max(cases, opened.cases_numbered), max(orders, opened.orders_numbered)
        case _:
            return numbered


def rebuild(database: LedgerDatabase, make: "_Statements", bureaus: Iterable[str]) -> int:
    """Empties the projections of the bureaus and folds them from the journal; the number of entries folded.

    Cases that are in the archive are folded too, and go there again.
    """
    folded = 0
    for bureau in bureaus:
        with database.writing.begin():
            for table in schema.PROJECTIONS:
                database.writing.execute(sa.delete(table).where(table.c.bureau == bureau))
        cases: dict[str, Case] = {}
        orders: dict[str, Order] = {}
        seq, numbered = 0, (0, 0)
        while entries := _read(database, bureau, seq):
            before = dict[str, Case | None]()
            orders_before = dict[str, Order | None]()
            referrals: list[tuple[Any, ...]] = []
            references: list[tuple[Any, ...]] = []
            attachments: list[tuple[Any, ...]] = []
            words: list[tuple[Any, ...]] = []
            notes: list[Entry] = []
            for seq, entry in entries:
                if isinstance(entry.event, events.LedgerEvent):
                    notes.append(entry)
                numbered = numbered_after(numbered, entry.event)
                if isinstance(entry.event, events.OrderEvent):
                    orders_before.setdefault(entry.case_id, orders.get(entry.case_id))
                    order = evolve_order(orders.get(entry.case_id), entry)
                    if order is not None:
                        orders[entry.case_id] = order
                    continue
                known = cases.get(entry.case_id)
                before.setdefault(entry.case_id, known)
                referrals.extend(referral_rows(entry, known))
                attachments.extend(attachment_rows(entry, seq))
                words.extend(word_rows(entry, seq, database.vault))
                private = entry.event.private
                if isinstance(entry.event, events.Registered) and private and private.channel_reference:
                    token = database.vault.references(bureau, private.channel_reference)[-1]
                    references.append((bureau, int(entry.channel or 0), token, entry.case_id, seq))
                after = evolve(known, entry)
                if after is not None:
                    cases[entry.case_id] = after
            with database.writing.begin():
                write(database, make, [(old, cases[case_id]) for case_id, old in before.items() if case_id in cases])
                write_orders(
                    database,
                    make,
                    [(old, orders[order_id]) for order_id, old in orders_before.items() if order_id in orders],
                )
                database.run(make.put_referral, referrals)
                database.run(make.add_reference, references)
                database.run(make.put_attachment, attachments)
                database.run(make.add_words, words)
                write_notes(database, make, notes)
            folded += len(entries)
        if seq:
            _put_head(database, make, bureau, seq, numbered)
        if database.archive.is_there:
            database.archive.take_again(bureau)
    return folded


def _put_head(database: Database, make: "_Statements", bureau: str, seq: int, counted: tuple[int, int]) -> None:
    table = schema.JOURNAL
    last = sa.select(table.c.generation, table.c.hash).where(table.c.bureau == bureau, table.c.seq == seq)
    with database.reading() as connection:
        row = connection.execute(last).one()
    with database.writing.begin():
        database.run(make.put_bureau, [(bureau, row.generation, seq, bytes(row.hash), *counted)])


def _read(database: LedgerDatabase, bureau: str, after_seq: int) -> list[tuple[int, Entry]]:
    entries = schema.ENTRIES.c
    query = (
        sa.select(entries.seq, entries.public, entries.sealed)
        .where(entries.bureau == bureau, entries.seq > after_seq)
        .order_by(entries.seq)
        .limit(ENTRIES_READ)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        (seq, decode_entry(bytes(public), database.open_private(bureau, seq, sealed) if sealed is not None else None))
        for seq, public, sealed in rows
    ]
