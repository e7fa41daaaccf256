"""对账: compares the ledgers of this node with those of their superiors, daily by the business clock, and when asked.

A bureau asks its peer for the digests of its days, and for the records of those days alone on which the digests differ
from its own. Both ledgers go on working meanwhile. So the peer's side is always read before this one: what the peer
knows of a hand-over that this bureau began is then known here too. What still seems to differ is looked at again after
a moment, and only what is seen both times is a difference.

The subordinate begins. When it is through it asks its superior to do the same from its own side: each ledger records
only what its own node has seen.
"""

import asyncio
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import partial
from typing import Final

import grpc.aio
import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain import reconciliation
from kuaixiang.domain.calendar import latest_hour
from kuaixiang.domain.errors import NotAPair, Refused
from kuaixiang.domain.events import AbsentCaseCleared, AbsentCaseFound, LedgersReconciled
from kuaixiang.domain.reconciliation import Comparison, DayDigest, PairRecord, by_case
from kuaixiang.domain.words import DifferenceKind
from kuaixiang.runtime.clock import from_micros
from kuaixiang.runtime.loops import Loop, doubled
from kuaixiang.runtime.pki import PkiError
from kuaixiang.wire.v1 import reconciliation_pb2 as pb
from node.days import Period, spans_us
from node.federation.client import Links, NoEndpoint, failure_of
from node.ledger import queries
from node.ledger.queries import StandingMismatch
from node.office import Office
from node.pairs import digests_told, records_told

INTERVAL_SECONDS: Final = 1.0
"""How often it is looked whether the hour has come; real time."""
CONFIRM_SECONDS: Final = 1.0
"""Between two looks at what seems to differ: a message under way takes less."""
CALL_SECONDS_MAX: Final = 60.0
"""A year of digests is one question to the peer's database; its records of some days are another."""
ASK_SECONDS_MAX: Final = 300.0
"""The peer compares from its own side, with two looks."""
PAIRS_AT_ONCE: Final = 4
"""Pairs compared at a time: a provincial data centre has a hundred, and officers at work."""
NOTES_AT_ONCE: Final = 256
"""Cases noted at a time: half a batch of the writer."""
NAMED_MAX: Final = 100
"""Mismatches that are logged one by one; `kx reconcile --show` counts all that the ledger holds, and lists 1,000."""
READ_DAYS_MAX: Final = 400
READ_CASES_MAX: Final = 400
"""Days and cases of one question."""
PAUSE_SECONDS_MIN: Final = 5.0
PAUSE_SECONDS_MAX: Final = 600.0
"""A superior that does not answer at the hour is asked again, at last every ten minutes."""

RECONCILIATIONS: Final = Counter(
    "kx_reconciliations_total",
    "Comparisons with a peer's ledger, by outcome: equal, different, away, failed.",
    ["outcome"],
)
MISMATCHES: Final = Gauge(
    "kx_reconciliation_mismatches",
    "Cases about which a superior's or subordinate's ledger tells something else, by difference: missing_here, "
    "missing_there, different.",
    ["difference"],
)
OLDEST_AGE: Final = Gauge(
    "kx_reconciliation_oldest_age_seconds",
    "Business time since a bureau of this node was last compared with its superior, of the one longest ago.",
)

_DAY: Final = timedelta(days=1)
_log: Final = structlog.get_logger(__name__)

Pair = tuple[str, str]
"""Bureau and peer."""


class PeerAway(Exception):
    """The peer's ledger cannot be compared now."""

    def __init__(self, peer: str, reason: str) -> None:
        self.peer = peer
        self.reason = reason
        super().__init__(f"The ledger of bureau {peer} cannot be compared now: {reason}.")


@dataclass(slots=True)
class Report:
    """What came of one comparison, as this bureau's node has seen it."""

    peer: str
    period: Period
    comparison: Comparison = field(default_factory=Comparison)
    bytes_exchanged: int = 0
    away: str = ""
    """Why the two could not be compared; else empty."""

    @property
    def equal(self) -> bool:
        """Whether the two ledgers were compared and agree."""
        return not self.away and not self.comparison.differences


@dataclass(slots=True)
class _Look:
    """One look at both ledgers: at a period, and at the cases that stood as different before."""

    days: Comparison
    standing: Comparison
    bytes_exchanged: int = 0


class Reconciler:
    """Compares the ledgers of a node. `step` looks whether a comparison is due; `reconcile` is one comparison."""

    def __init__(self, office: Office, links: Links, *, hour: int, days: int) -> None:
        self._office = office
        self._links = links
        self._hour = hour
        self._days = days
        self._loop = Loop("reconciler", self.step, INTERVAL_SECONDS)
        self._locks: dict[Pair, asyncio.Lock] = {}
        self._slots = asyncio.Semaphore(PAIRS_AT_ONCE)
        self._since = office.place.clock.now()
        self._last: dict[Pair, datetime] = {}
        self._failures: dict[Pair, int] = {}
        self._not_before: dict[Pair, float] = {}

    async def start(self) -> None:
        """Begin. The first comparison of a bureau that has never been compared is at the next hour set."""
        self._since = self._office.place.clock.now()
        kept = await asyncio.to_thread(
            queries.last_reconciliations, self._office.ledger.database, self._office.ledger.bureaus
        )
        self._last = {(one.bureau, one.peer): from_micros(one.at_us) for one in kept}
        await self._show()
        self._loop.start()

    async def stop(self) -> None:
        """Let the comparison under way end."""
        await self._loop.stop()

    # ------------------------------------------------------------ daily

    async def step(self) -> bool:
        """Compare every bureau that is due with its superior, and have the superior do the same."""
        latest = latest_hour(self._office.place.clock.now(), self._hour)
        pairs = self._upwards()
        due = [pair for pair in pairs if self._is_due(pair, latest)]
        if due:
            await asyncio.gather(*(self._daily(pair) for pair in due))
        now = self._office.place.clock.now()
        oldest = min((self._last.get(pair, self._since) for pair in pairs), default=now)
        OLDEST_AGE.set((now - oldest).total_seconds())
        return False

    def _upwards(self) -> list[Pair]:
        tree = self._office.place.tree
        pairs = ((bureau, tree.parent(bureau)) for bureau in self._office.ledger.bureaus)
        withheld = self._office.ledger.withheld
        return [
            (bureau, parent)
            for bureau, parent in pairs
            if parent is not None and tree.get(parent).endpoint and bureau not in withheld
        ]

    def _is_due(self, pair: Pair, latest: datetime) -> bool:
        """Whether a pair has not been compared since that hour last came."""
        return self._last.get(pair, self._since) < latest and time.monotonic() >= self._not_before.get(pair, 0.0)

    async def _daily(self, pair: Pair) -> None:
        bureau, peer = pair
        before = self._last.get(pair)
        async with self._slots:
            try:
                away = (await self.on_both_sides(bureau, peer, self.usual_period())).away
            except PeerAway as failure:
                away = failure.reason
        if not away:
            self._failures.pop(pair, None)
            return
        # What this side has recorded stands; but the pair stays due until both sides have.
        self._last.pop(pair, None)
        if before is not None:
            self._last[pair] = before
        failures = self._failures[pair] = self._failures.get(pair, 0) + 1
        pause = doubled(failures, PAUSE_SECONDS_MIN, PAUSE_SECONDS_MAX)
        self._not_before[pair] = time.monotonic() + pause
        _log.warning(
            "A ledger could not be compared on both sides; it is tried again.",
            action="reconcile.away",
            bureau=bureau,
            peer=peer,
            reason=away,
            pause_seconds=pause,
        )

    def usual_period(self) -> Period:
        """The days up to today that are compared when none are named."""
        today = self._office.place.calendar.day_of(self._office.place.clock.now())
        return Period(today - (self._days - 1) * _DAY, today)

    # ------------------------------------------------------------ one comparison

    def peers(self, bureau: str) -> list[str]:
        """The bureaus whose ledgers share hand-overs with this one's: its superior and its subordinates."""
        return list(self._office.place.tree.neighbours(bureau))

    async def on_both_sides(self, bureau: str, peer: str, period: Period) -> Report:
        """Compare here, then have the peer's node do the same from its side; `away` tells if that was not done.

        Raises what `reconcile` does.
        """
        report = await self.reconcile(bureau, peer, period)
        request = pb.ReconcileLedgersRequest(
            bureau=peer, peer=bureau, from_day=period.from_day.isoformat(), to_day=period.to_day.isoformat()
        )
        try:
            answer = await self._links.reconciliation(peer).ReconcileLedgers(request, timeout=ASK_SECONDS_MAX)
        except grpc.aio.AioRpcError as error:
            report.away = f"its own node did not compare: {failure_of(error).code}"
        else:
            report.away = next(
                (f"it cannot reach this bureau: {told.away}" for told in answer.reports if told.away), ""
            )
        return report

    async def reconcile(self, bureau: str, peer: str, period: Period) -> Report:
        """Compare a bureau's ledger with a peer's and record what came of it.

        Raises `NotThisBureau`, `NotAPair`, `PeerAway`, `WriterBusy`, `WriterStopped`.
        """
        self._office.check_hosted(bureau)
        if peer not in self.peers(bureau):
            raise NotAPair(bureau, peer)
        async with self._locks.setdefault((bureau, peer), asyncio.Lock()):
            try:
                report = await self._reconcile(bureau, peer, period)
            except PeerAway:
                RECONCILIATIONS.labels("away").inc()
                raise
            except BaseException:
                RECONCILIATIONS.labels("failed").inc()
                raise
        RECONCILIATIONS.labels("equal" if report.equal else "different").inc()
        return report

    async def _reconcile(self, bureau: str, peer: str, period: Period) -> Report:
        place, database = self._office.place, self._office.ledger.database
        begun = place.clock.now()
        standing = await asyncio.to_thread(queries.standing_mismatches, database, (bureau,), peer)
        side = _Sides(self._office, self._links, bureau, peer)
        look = await side.look(period, standing)
        if look.days.differences or look.standing.differences:
            first = look
            await asyncio.sleep(CONFIRM_SECONDS)
            look = await side.look(period, standing)
            look.days.differences = reconciliation.persisting(first.days.differences, look.days.differences)
            look.standing.differences = reconciliation.persisting(first.standing.differences, look.standing.differences)
        report = Report(peer, period, look.days, side.bytes_exchanged)
        await self._note(bureau, peer, standing, by_case((*look.days.differences, *look.standing.differences)))
        await self._record(bureau, report)
        self._last[bureau, peer] = begun
        await self._show()
        return report

    async def _note(
        self, bureau: str, peer: str, standing: Sequence[StandingMismatch], found: Mapping[str, DifferenceKind]
    ) -> None:
        """Puts into the journal what is new, and what no longer is so."""
        here = {one.case_id: one.difference for one in standing if not one.absent}
        absent = {one.case_id for one in standing if one.absent}

        async def differs(case_id: str, kind: DifferenceKind) -> None:
            known = await self._office.note_mismatch(bureau, case_id, peer, kind)
            if known and case_id in absent:
                await self._office.record_note(bureau, AbsentCaseCleared(peer=peer), case_id)
            elif not known and case_id not in absent:
                await self._office.record_note(bureau, AbsentCaseFound(peer=peer), case_id)

        async def agrees(case_id: str) -> None:
            if case_id in absent:
                await self._office.record_note(bureau, AbsentCaseCleared(peer=peer), case_id)
            else:
                await self._office.note_mismatch(bureau, case_id, peer, None)

        notes = [partial(differs, case_id, kind) for case_id, kind in found.items() if here.get(case_id) is not kind]
        notes += [partial(agrees, case_id) for case_id in sorted(here.keys() | absent) if case_id not in found]
        for at in range(0, len(notes), NOTES_AT_ONCE):
            under_way = [note() for note in notes[at : at + NOTES_AT_ONCE]]
            for result in await asyncio.gather(*under_way, return_exceptions=True):
                if isinstance(result, Refused):
                    # A case that cannot be read is not written off either.
                    _log.error(
                        "What differs about a case could not be noted on it.",
                        action="reconcile.note",
                        bureau=bureau,
                        peer=peer,
                        rule=result.rule,
                    )
                elif result is not None:
                    raise result
        new = [case_id for case_id, kind in found.items() if here.get(case_id) is not kind and case_id not in absent]
        for case_id in sorted(new)[:NAMED_MAX]:
            _log.error(
                "Two ledgers tell different things about a case.",
                action="reconcile.mismatch",
                bureau=bureau,
                peer=peer,
                case_id=case_id,
                difference=found[case_id].name.lower(),
                new=len(new),
            )

    async def _record(self, bureau: str, report: Report) -> None:
        """Puts the result into the journal: once a day, and whenever it is another."""
        found, period = report.comparison, report.period
        event = LedgersReconciled(
            peer=report.peer,
            from_day=period.from_day.isoformat(),
            to_day=period.to_day.isoformat(),
            matched=found.matched,
            pending=found.pending,
            missing_here=found.count(DifferenceKind.MISSING_HERE),
            missing_there=found.count(DifferenceKind.MISSING_THERE),
            different=found.count(DifferenceKind.DIFFERENT),
        )
        kept = await asyncio.to_thread(queries.last_reconciliations, self._office.ledger.database, (bureau,))
        place = self._office.place
        for last in kept:
            result = (last.matched, last.pending, last.missing_here, last.missing_there, last.different)
            told = (event.matched, event.pending, event.missing_here, event.missing_there, event.different)
            same_days = (last.peer, last.from_day, last.to_day) == (event.peer, event.from_day, event.to_day)
            today = place.calendar.day_of(from_micros(last.at_us)) == place.calendar.day_of(place.clock.now())
            if same_days and today and result == told:
                return
        await self._office.record_note(bureau, event)

    async def _show(self) -> None:
        office = self._office
        standing = await asyncio.to_thread(queries.standing_mismatches, office.ledger.database, office.ledger.bureaus)
        for kind in DifferenceKind:
            MISMATCHES.labels(kind.name.lower()).set(sum(one.difference is kind for one in standing))


class _Sides:
    """Both ledgers of a pair, for one comparison; counts the bytes that go between them."""

    def __init__(self, office: Office, links: Links, bureau: str, peer: str) -> None:
        self._office = office
        self._links = links
        self._bureau = bureau
        self._peer = peer
        self.bytes_exchanged = 0

    async def look(self, period: Period, standing: Iterable[StandingMismatch]) -> _Look:
        """Compare once. Raises `PeerAway`."""
        place = self._office.place
        theirs = await self._digests_there(period)
        mine = await self._digests_here(period)
        days = reconciliation.days_that_differ(mine, theirs)
        now = place.clock.now()
        there = await self._records_there(days, ())
        here = await self._records_here(days, ())
        compared = reconciliation.compare(here, there, now, place.calendar)
        compared.matched += sum(mine[day].records for day in mine.keys() - days)
        case_ids = sorted({one.case_id for one in standing})
        there = await self._records_there((), case_ids)
        here = await self._records_here((), case_ids)
        return _Look(compared, reconciliation.compare(here, there, now, place.calendar))

    async def _digests_here(self, period: Period) -> dict[date, DayDigest]:
        return await asyncio.to_thread(digests_of, self._office, self._bureau, self._peer, period)

    async def _digests_there(self, period: Period) -> dict[date, DayDigest]:
        request = pb.GetPairDigestsRequest(
            bureau=self._peer,
            peer=self._bureau,
            from_day=period.from_day.isoformat(),
            to_day=period.to_day.isoformat(),
        )
        try:
            answer = await self._links.reconciliation(self._peer).GetPairDigests(request, timeout=CALL_SECONDS_MAX)
            self.bytes_exchanged += request.ByteSize() + answer.ByteSize()
            return digests_told(answer.days)
        except (grpc.aio.AioRpcError, NoEndpoint, PkiError, Refused) as failure:
            raise self._away(failure) from failure

    async def _records_here(self, days: Sequence[date], case_ids: Sequence[str]) -> list[PairRecord]:
        found: list[PairRecord] = []
        for some_days, some_cases in _questions(days, case_ids):
            found += await asyncio.to_thread(
                queries.pair_records,
                self._office.ledger.database,
                self._bureau,
                self._peer,
                spans_us(some_days),
                some_cases,
            )
        return found

    async def _records_there(self, days: Sequence[date], case_ids: Sequence[str]) -> list[PairRecord]:
        found: list[PairRecord] = []
        for some_days, some_cases in _questions(days, case_ids):
            request = pb.ReadPairRecordsRequest(
                bureau=self._peer,
                peer=self._bureau,
                days=[day.isoformat() for day in some_days],
                case_ids=some_cases,
            )
            self.bytes_exchanged += request.ByteSize()
            try:
                stub = self._links.reconciliation(self._peer)
                async for answer in stub.ReadPairRecords(request, timeout=CALL_SECONDS_MAX):
                    self.bytes_exchanged += answer.ByteSize()
                    found += records_told(answer.records, self._bureau, self._peer)
            except (grpc.aio.AioRpcError, NoEndpoint, PkiError, Refused) as failure:
                raise self._away(failure) from failure
        return found

    def _away(self, failure: Exception) -> PeerAway:
        reason = failure_of(failure).code if isinstance(failure, grpc.aio.AioRpcError) else str(failure)
        return PeerAway(self._peer, reason)


def _questions(days: Sequence[date], case_ids: Sequence[str]) -> list[tuple[Sequence[date], Sequence[str]]]:
    """Days and cases in as many questions as it takes."""
    return [
        *((days[at : at + READ_DAYS_MAX], ()) for at in range(0, len(days), READ_DAYS_MAX)),
        *(((), case_ids[at : at + READ_CASES_MAX]) for at in range(0, len(case_ids), READ_CASES_MAX)),
    ]


def digests_of(office: Office, bureau: str, peer: str, period: Period) -> dict[date, DayDigest]:
    """What a bureau's ledger says of its hand-overs with a peer, day by day."""
    records = queries.pair_records(office.ledger.database, bureau, peer, [period.span_us])
    return reconciliation.digests(records, office.place.calendar.day_of)
