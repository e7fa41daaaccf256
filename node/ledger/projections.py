"""What is kept beside the journal for asking: work list, clocks, referrals, deliveries. A function of the fold.

`write` puts what changed between two states of a case; `rebuild` runs the same over the whole journal.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Final

import sqlalchemy as sa

from kuaixiang.domain import events
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.clocks import Clock
from kuaixiang.domain.events import Entry
from kuaixiang.domain.words import ReferralState
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.wire.codec import decode_entry
from node.ledger import schema

if TYPE_CHECKING:
    from node.ledger.ledger import _Statements

ENTRIES_READ: Final = 5_000
"""Entries folded in one transaction of a rebuild."""


def write(database: Database, make: "_Statements", changes: Iterable[tuple[Case | None, Case]]) -> None:
    """Puts the rows in which a case after differs from the case before, in the writer's open transaction."""
    cases: list[tuple[Any, ...]] = []
    clocks_put: list[tuple[Any, ...]] = []
    clocks_dropped: list[tuple[Any, ...]] = []
    deliveries_put: list[tuple[Any, ...]] = []
    deliveries_dropped: list[tuple[Any, ...]] = []
    for before, after in changes:
        if before is after:
            continue
        key = (after.bureau, after.case_id)
        cases.append(_case_row(after))
        had = {(clock.kind, clock.department): clock for clock in before.clocks} if before else {}
        has = {(clock.kind, clock.department): clock for clock in after.clocks}
        clocks_dropped.extend((*key, *clock) for clock in had.keys() - has.keys())
        clocks_put.extend(_clock_row(after, clock) for at, clock in has.items() if had.get(at) != clock)
        owed = _owed(before) if before else {}
        owes = _owed(after)
        deliveries_dropped.extend((key[0], peer, key[1]) for peer in owed.keys() - owes.keys())
        deliveries_put.extend((key[0], peer, key[1], since) for peer, since in owes.items() if owed.get(peer) != since)
    database.run(make.put_case, cases)
    database.run(make.drop_clock, clocks_dropped)
    database.run(make.put_clock, clocks_put)
    database.run(make.drop_delivery, deliveries_dropped)
    database.run(make.put_delivery, deliveries_put)


def _owed(case: Case) -> dict[str, int]:
    """Which peers are to be told something about the case, and since when: an offer, or how the case ended.

    What exactly they are told is read from the case when they are told.
    """
    owed = dict.fromkeys(case.awaiting, to_micros(case.conclusion.completed_at)) if case.conclusion else {}
    if case.outgoing is not None:
        # An offer comes first: what else its receiver is to be told waits for the decision.
        owed[case.outgoing.to_bureau] = to_micros(case.outgoing.offered_at)
    return owed


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
    )


def _clock_row(case: Case, clock: Clock) -> tuple[Any, ...]:
    return (
        case.bureau,
        case.case_id,
        int(clock.kind),
        clock.department,
        to_micros(clock.started_at),
        to_micros(clock.due_at),
        clock.limit_workdays,
        clock.calendar_version,
        int(clock.provisional),
        int(clock.extended),
        int(clock.overdue),
    )


def referral_rows(entry: Entry, case: Case | None) -> list[tuple[Any, ...]]:
    """The rows of the referral an entry is about; `case` as it was before the entry."""
    at = to_micros(entry.occurred_at)
    outgoing = case.outgoing if case else None

    def row(  # noqa: PLR0917 - a row's columns
        referral_id: str, peer: str, final: str, kind: int, epoch: int, state: ReferralState, refusal: int, *, out: bool
    ) -> list[tuple[Any, ...]]:
        columns = (entry.case_id, int(out), peer, final, kind, epoch, int(state), refusal, at)
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
                out=False,
            )
        case _:
            return []


def rebuild(database: Database, make: "_Statements", bureaus: Iterable[str]) -> int:
    """Empties the projections of the bureaus and folds them from the journal; the number of entries folded."""
    folded = 0
    for bureau in bureaus:
        with database.writing.begin():
            for table in schema.PROJECTIONS:
                database.writing.execute(sa.delete(table).where(table.c.bureau == bureau))
        cases: dict[str, Case] = {}
        seq = registered = 0
        while entries := _read(database, bureau, seq):
            before = dict[str, Case | None]()
            referrals: list[tuple[Any, ...]] = []
            references: list[tuple[Any, ...]] = []
            for seq, entry in entries:
                registered += isinstance(entry.event, events.Registered)
                known = cases.get(entry.case_id)
                before.setdefault(entry.case_id, known)
                referrals.extend(referral_rows(entry, known))
                private = entry.event.private
                if isinstance(entry.event, events.Registered) and private and private.channel_reference:
                    references.append((bureau, int(entry.channel or 0), private.channel_reference, entry.case_id, seq))
                after = evolve(known, entry)
                if after is not None:
                    cases[entry.case_id] = after
            with database.writing.begin():
                write(database, make, [(old, cases[case_id]) for case_id, old in before.items() if case_id in cases])
                database.run(make.put_referral, referrals)
                database.run(make.add_reference, references)
            folded += len(entries)
        if seq:
            _put_head(database, make, bureau, seq, registered)
    return folded


def _put_head(database: Database, make: "_Statements", bureau: str, seq: int, registered: int) -> None:
    table = schema.JOURNAL
    last = sa.select(table.c.generation, table.c.hash).where(table.c.bureau == bureau, table.c.seq == seq)
    with database.writing.begin():
        row = database.writing.execute(last).one()
        database.run(make.put_bureau, [(bureau, row.generation, seq, bytes(row.hash), registered)])


def _read(database: Database, bureau: str, after_seq: int) -> list[tuple[int, Entry]]:
    journal, private = schema.JOURNAL, schema.PRIVATE
    query = (
        sa.select(journal.c.seq, journal.c.public, private.c.payload)
        .select_from(
            journal.outerjoin(private, (private.c.bureau == journal.c.bureau) & (private.c.seq == journal.c.seq))
        )
        .where(journal.c.bureau == bureau, journal.c.seq > after_seq)
        .order_by(journal.c.seq)
        .limit(ENTRIES_READ)
    )
    with database.reading() as connection:
        rows = connection.execute(query).all()
    return [
        (seq, decode_entry(bytes(public), bytes(payload) if payload is not None else None))
        for seq, public, payload in rows
    ]
