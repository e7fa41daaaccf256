"""The ledger 台账 as it is kept on paper, one line a case (§四(一), §五(三)): folded from the journal, batch by batch.

A batch holds a bounded number of cases, is read in one view of the database, and is answered before the next is read,
so that a ledger of any length takes the memory of a batch. A case that changes meanwhile shows as it was when its batch
was read.
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

import structlog

from kuaixiang.domain import events
from kuaixiang.domain.case import Case, evolve
from kuaixiang.domain.disclosure import export_for
from kuaixiang.domain.errors import EntryUnreadable
from kuaixiang.domain.events import Entry, LedgerExported
from kuaixiang.domain.words import ClockAction, ClockKind, Disclosure, ReferralState, Stage
from kuaixiang.runtime.clock import from_micros
from kuaixiang.wire.codec import micros_given, timestamp
from kuaixiang.wire.v1 import case_pb2
from node.ledger import queries
from node.ledger.queries import CaseFilter, HistoryEntry, LedgerPlace
from node.office import Header, Office
from node.readings import masked_entry, reader_of, record

PLACES_READ: Final = 20_000
"""Cases whose order is read at a time: there is no index by registration, and a scan for each batch would be slow."""
CASES_READ: Final = 100
"""Cases folded at a time: a thousand entries, one batch of an answer."""
ANSWER_BYTES_MAX: Final = 1 << 20
"""One message; gRPC takes four times as much. A single line is at most about 200 kB."""
OPEN_STAGES: Final = tuple(stage for stage in Stage if stage is not Stage.WRITTEN_OFF)
"""A case leaves the open ledger when it is written off (§五(三))."""
_MOVES: Final = frozenset({ClockAction.STARTED, ClockAction.EXTENDED, ClockAction.RECOMPUTED})

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wanted:
    cases: CaseFilter
    masked: bool
    as_of: datetime


async def export_ledger(
    office: Office, request: case_pb2.ExportLedgerRequest
) -> AsyncIterator[case_pb2.ExportLedgerResponse]:
    """The lines of a bureau's ledger in the order of registration; raises `Refused`.

    An export in clear is recorded before its first line. Who exported how many cases is logged besides, for these lines
    leave the system.
    """
    wanted, reader = _wanted_by(office, request)
    await _record(office, request, wanted, reader)
    yield _answer(wanted, ())
    exported = 0
    after: LedgerPlace | None = None
    while places := await _read_places(office, wanted, after):
        for first in range(0, len(places), CASES_READ):
            rows = await asyncio.to_thread(_rows, office, wanted, places[first : first + CASES_READ])
            for some in _parted(rows):
                yield _answer(wanted, some)
            exported += len(rows)
        after = places[-1]
    _log.info(
        "A ledger was exported.",
        action="ledger.export",
        bureau=request.bureau,
        actor=request.actor,
        role=reader.role.name,
        cases=exported,
        contacts_masked=wanted.masked,
    )


async def ledger_page(
    office: Office, request: case_pb2.ExportLedgerRequest, page_token: str, size: int
) -> tuple[case_pb2.ExportLedgerResponse, str]:
    """The next lines of a bureau's ledger for a page on a screen, and the token of the page after it (empty: none).

    The lines are those of `export_ledger`, and so are the refusals and the record: a page can be printed.
    """
    wanted, reader = _wanted_by(office, request)
    after = LedgerPlace(*queries.read_token(page_token), stage=0) if page_token else None
    await _record(office, request, wanted, reader)
    places = await _read_places(office, wanted, after, size + 1)
    rows = await asyncio.to_thread(_rows, office, wanted, places[:size])
    last = places[size - 1] if len(places) > size else None
    return _answer(wanted, rows), queries.token_of(last.registered_at_us, last.case_id) if last is not None else ""


def _wanted_by(office: Office, request: case_pb2.ExportLedgerRequest) -> tuple[_Wanted, Header]:
    """What is asked for, and by whom; raises `Refused` for somebody who reads no ledger of that bureau."""
    reader = reader_of(office, request)
    wanted = _Wanted(
        cases=CaseFilter(
            bureau=request.bureau,
            stages=OPEN_STAGES if request.open_only else (),
            registered_from_us=micros_given(request, "registered_from"),
            registered_before_us=micros_given(request, "registered_before"),
        ),
        masked=export_for(reader.role) is Disclosure.MASKED,
        as_of=office.place.clock.now(),
    )
    return wanted, reader


async def _record(office: Office, request: case_pb2.ExportLedgerRequest, wanted: _Wanted, reader: Header) -> None:
    """Records a reading in clear; one that is masked is nothing private."""
    if wanted.masked:
        return
    exporting = LedgerExported(
        registered_from=_bound(wanted.cases.registered_from_us),
        registered_before=_bound(wanted.cases.registered_before_us),
        open_only=request.open_only,
    )
    await record(office, reader, exporting)


def _bound(at_us: int | None) -> datetime | None:
    return from_micros(at_us) if at_us is not None else None


async def _read_places(
    office: Office, wanted: _Wanted, after: LedgerPlace | None, limit: int = PLACES_READ
) -> list[LedgerPlace]:
    database = office.ledger.database
    return await asyncio.to_thread(queries.in_order_of_registration, database, wanted.cases, after, limit)


def _answer(wanted: _Wanted, rows: Sequence[case_pb2.LedgerRow]) -> case_pb2.ExportLedgerResponse:
    return case_pb2.ExportLedgerResponse(rows=rows, contacts_masked=wanted.masked, as_of=timestamp(wanted.as_of))


def _parted(rows: Sequence[case_pb2.LedgerRow]) -> Iterator[list[case_pb2.LedgerRow]]:
    """The rows, as many in one message as fit."""
    part: list[case_pb2.LedgerRow] = []
    size = 0
    for row in rows:
        part.append(row)
        size += row.ByteSize()
        if size > ANSWER_BYTES_MAX:
            yield part
            part, size = [], 0
    if part:
        yield part


def _rows(office: Office, wanted: _Wanted, places: Sequence[LedgerPlace]) -> list[case_pb2.LedgerRow]:
    bureau = wanted.cases.bureau
    case_ids = [place.case_id for place in places]
    found = queries.histories(office.ledger.database, bureau, case_ids, private=True)
    rows = []
    for place in places:
        history = found.get(place.case_id, EntryUnreadable(bureau, place.case_id))
        if isinstance(history, EntryUnreadable):
            rows.append(_unreadable(bureau, place))
            continue
        if wanted.masked:
            history = [replace(item, entry=masked_entry(item.entry)) for item in history]
        rows.append(ledger_row(history, wanted.as_of))
    return rows


def _unreadable(bureau: str, place: LedgerPlace) -> case_pb2.LedgerRow:
    """A case that cannot be read is a line too: a ledger that leaves it out would look complete."""
    stage: Any = place.stage
    at = timestamp(from_micros(place.registered_at_us))
    return case_pb2.LedgerRow(
        case_id=place.case_id, origin_bureau=bureau, registered_at=at, stage=stage, unreadable=True
    )


def ledger_row(history: Sequence[HistoryEntry], now: datetime) -> case_pb2.LedgerRow:
    """The line of a case, from all its entries with their private parts."""
    row = case_pb2.LedgerRow()
    due_at: dict[tuple[ClockKind, str], datetime] = {}
    extended: Counter[str] = Counter()
    case: Case | None = None
    for item in history:
        case = evolve(case, item.entry)
        _add(row, item.entry)
        _handling_limits(due_at, item.entry)
        _extensions(extended, item.entry)
    if case is None:
        return row
    words: dict[str, Any] = {
        "category": case.category,
        "channel": case.channel,
        "stage": case.stage,
        "custody": case.custody,
        "telling": case.telling or 0,
        "satisfaction": case.satisfaction or 0,
    }
    state = case_pb2.LedgerRow(
        case_id=case.case_id,
        registered_at=timestamp(case.registered_at),
        origin_bureau=case.origin_bureau,
        due_at=timestamp(max(due_at.values())) if due_at else None,
        extended_workdays=max(extended.values(), default=0),
        extension_pending=bool(case.extensions),
        lead_case_id=case.lead_case_id,
        issue_id=case.issue_id,
        with_bureau=case.with_bureau,
        overdue=any(clock.has_passed(now) for clock in case.clocks),
        **words,
    )
    row.MergeFrom(state)
    return row


def _handling_limits(due_at: dict[tuple[ClockKind, str], datetime], entry: Entry) -> None:
    """The limits of the present handling, whether or not they still run; those of an earlier one are left behind."""
    if isinstance(entry.event, (events.Received, events.JointHandlingStarted)):
        due_at.clear()
    if isinstance(entry.event, events.DispatchReturned):
        # A referred case's handling clock goes on; nothing else is left of what the department had to do.
        stopped = {change.kind for change in entry.event.clocks if change.action is ClockAction.STOPPED}
        for kind, department in list(due_at):
            if kind is ClockKind.JOINT or kind in stopped:
                del due_at[kind, department]
    for change in entry.event.clocks:
        if change.kind not in {ClockKind.HANDLE, ClockKind.JOINT}:
            continue
        if change.action in _MOVES:
            due_at[change.kind, change.department] = change.due_at


def _extensions(extended: Counter[str], entry: Entry) -> None:
    """Working days granted to each department in the present handling."""
    match entry.event:
        case events.ExtensionApproved() as event:
            extended[event.for_department] += event.workdays
        case events.Received() | events.JointHandlingStarted() | events.Reopened():
            extended.clear()
        case _:
            pass


def _add(row: case_pb2.LedgerRow, entry: Entry) -> None:  # noqa: C901, PLR0915 - one flat arm for each event
    """What an entry writes into the line, or strikes from it."""
    event, at = entry.event, timestamp(entry.occurred_at)
    note = event.private.note if event.private is not None else ""
    match event:
        case events.Registered():
            _registration(row, event)
            row.accepting_department, row.accepted_by, row.note = entry.department, entry.actor, note
        case events.Received():
            _registration(row, event)
            _strike_result(row)
            row.ClearField("department")
            del row.assisting_departments[:]
            row.forwarded_at.CopyFrom(at)
            _refer(row, entry, event)
        case events.TaxpayerTold():
            row.told_at.CopyFrom(at)
            row.told = note
        case events.Forwarded():
            row.forwarded_at.CopyFrom(at)
        case events.Dispatched():
            row.department = event.to_department
        case events.DispatchReturned():
            row.ClearField("department")
        case events.AcceptedDirectly():
            row.department = entry.department
        case events.JointHandlingStarted():
            row.department = event.lead_department
            row.assisting_departments[:] = event.assisting_departments
        case events.PartAdded():
            row.assisting_departments.append(event.part_department)
        case events.PartReturned():
            row.assisting_departments[:] = [part for part in row.assisting_departments if part != event.part_department]
        case events.AnsweredOnTheSpot():
            row.department, row.result, row.answered_on_the_spot = entry.department, note, True
            row.completed_at.CopyFrom(at)
            row.fed_back_at.CopyFrom(at)
        case events.Completed():
            row.result = note
            row.completed_at.CopyFrom(at)
        case events.CaseWithdrawn() | events.SentToReconsideration():
            row.result = note
        case events.FeedbackGiven():
            told_by: Any = event.told_by
            row.fed_back_at.CopyFrom(at)
            row.told_by, row.feedback = told_by, note
        case events.FollowedUp():
            row.followed_up_at.CopyFrom(at)
            row.remark = note
        case events.Reopened():
            _strike_result(row)
        case events.Offered():
            _refer(row, entry, event)
        case events.OfferWithdrawalAsked():
            _settle(row, ReferralState.WITHDRAWING)
        case events.Released():
            _settle(row, ReferralState.ACCEPTED)
        case events.OfferRefused():
            _settle(row, ReferralState.REFUSED)
        case events.Concluded():
            row.result = note
            row.completed_at.CopyFrom(timestamp(event.completed_at))
        case events.ConclusionRevoked():
            _strike_result(row)
        case events.WrittenOff():
            row.written_off_at.CopyFrom(at)
        case _:
            pass


def _registration(row: case_pb2.LedgerRow, event: events.Registered | events.Received) -> None:
    private = event.private
    if private is not None:
        row.taxpayer_name, row.taxpayer_number = private.taxpayer_name, private.taxpayer_number
        row.contact, row.text = private.contact, private.text


_RESULT: Final[tuple[Any, ...]] = (
    "result",
    "completed_at",
    "answered_on_the_spot",
    "fed_back_at",
    "told_by",
    "feedback",
    "followed_up_at",
    "remark",
    "written_off_at",
)


def _strike_result(row: case_pb2.LedgerRow) -> None:
    """The case is open again."""
    for column in _RESULT:
        row.ClearField(column)


def _refer(row: case_pb2.LedgerRow, entry: Entry, event: events.Offered | events.Received) -> None:
    if isinstance(event, events.Offered):
        from_bureau, to_bureau, state = entry.bureau, event.to_bureau, ReferralState.OFFERED
    else:
        from_bureau, to_bureau, state = event.from_bureau, entry.bureau, ReferralState.ACCEPTED
    words: dict[str, Any] = {"kind": event.referral_kind, "state": state}
    row.referrals.add(
        from_bureau=from_bureau,
        to_bureau=to_bureau,
        final_bureau=event.final_bureau,
        at=timestamp(entry.occurred_at),
        **words,
    )


def _settle(row: case_pb2.LedgerRow, state: ReferralState) -> None:
    """What became of the offer that is the last referral of the line."""
    if row.referrals:
        decided: Any = state
        row.referrals[-1].state = decided
