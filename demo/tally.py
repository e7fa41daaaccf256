"""An independent check of a federation: nothing lost, nothing twice, and the hub's counts the same as the journals'.

It shares no code with the nodes' projections or with the hub's fold: it reads every journal from its first entry over
LedgerService, asks every bureau for the list of its cases, and counts by itself.
"""

import asyncio
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from demo.officers import HubReader, Office
from kuaixiang.wire.chain import GENESIS, links
from kuaixiang.wire.v1 import common_pb2, journal_pb2, reconciliation_pb2, statistics_pb2

CONCURRENT_MAX: Final = 16
"""Questions under way at a time."""

CASES_AT_ONCE: Final = 500
"""Of a bureau's list of cases, in one answer: the most that a node gives."""

TOLD_MAX: Final = 20
"""Findings told one by one; more of a kind are counted."""

_PLAIN: Final[Mapping[str, tuple[str, ...]]] = {
    "registered": ("registered",),
    "answered_on_the_spot": ("completed", "completed_on_the_spot", "fed_back"),
    "forwarded": ("forwarded",),
    "accepted_directly": ("accepted_directly",),
    "dispatched": ("dispatched",),
    "dispatch_returned": ("dispatch_returned",),
    "part_returned": ("dispatch_returned",),
    "extension_asked": ("extension_asked",),
    "extension_approved": ("extended",),
    "extension_refused": ("extension_refused",),
    "feedback_given": ("fed_back",),
    "reopened": ("reopened",),
    "case_withdrawn": ("withdrawn",),
    "deferred": ("deferred",),
    "resumed": ("resumed",),
    "sent_to_reconsideration": ("to_reconsideration",),
    "received": ("received",),
    "offer_refused": ("offer_refused",),
    "concluded": ("concluded",),
    "written_off": ("written_off",),
    "order_issued": ("orders_issued",),
}
"""Which of the hub's figures one entry of a kind adds to, where the kind alone decides."""

_ORDERS: Final = {
    "order_received": ("orders_received", "to_bureau"),
    "order_acknowledged": ("orders_acknowledged", "from_bureau"),
    "order_answered": ("orders_answered", "from_bureau"),
    "order_answer_returned": ("order_answers_returned", "from_bureau"),
    "order_closed": ("orders_closed", "from_bureau"),
    "order_cancelled": ("orders_cancelled", "from_bureau"),
}
"""Entries that every ledger on a supervision order's way has: counted where nobody else is named in that field."""

_DIRECTIONS: Final = {
    common_pb2.REFERRAL_KIND_ESCALATE: "referred_up",
    common_pb2.REFERRAL_KIND_REFER: "referred_down",
    common_pb2.REFERRAL_KIND_RELAY: "referred_across",
    common_pb2.REFERRAL_KIND_RETURN: "returned_referral",
    common_pb2.REFERRAL_KIND_ARBITRATE: "referred_for_ruling",
}
_ANSWERS: Final = {
    common_pb2.SATISFACTION_SATISFIED: "satisfied",
    common_pb2.SATISFACTION_BASICALLY: "basically_satisfied",
    common_pb2.SATISFACTION_NOT_SATISFIED: "not_satisfied",
    common_pb2.SATISFACTION_NOT_REACHED: "not_reached",
}
_FACTS: Final = frozenset(
    {
        *(fact for facts in _PLAIN.values() for fact in facts),
        *_DIRECTIONS.values(),
        *_ANSWERS.values(),
        *(fact for fact, _ in _ORDERS.values()),
        "relayed",
        "completed_jointly",
        "followed_up",
    }
)


@dataclass(frozen=True, slots=True)
class Journal:
    """One bureau's journal as read, every entry with its position."""

    bureau: str
    entries: tuple[journal_pb2.Entry, ...]
    """The entry at seq n is at n - 1."""
    faults: tuple[str, ...]
    """What is wrong with it: a gap, or a hash that does not follow."""


@dataclass(frozen=True, slots=True)
class Acknowledged:
    """What a bureau answered: this act on this case is in my journal, its last entry at this position."""

    bureau: str
    case_id: str
    seq: int
    act: str


@dataclass(slots=True)
class Tally:
    """What the check found."""

    cases: int = 0
    """Registrations that were acknowledged."""
    journal_entries: int = 0
    referrals: int = 0
    """Hand-overs that a bureau accepted; a case that passes three bureaus on its way counts three."""
    lost: list[str] = field(default_factory=list)
    """Acknowledged cases in no ledger, or with nobody responsible for them."""
    duplicated: list[str] = field(default_factory=list)
    """Cases registered more than once, or with more than one bureau responsible."""
    lost_acts: list[str] = field(default_factory=list)
    """Acknowledged acts that are not in the journal that acknowledged them."""
    broken: list[str] = field(default_factory=list)
    """Journals with a gap or a wrong hash, and referrals that one side's ledger has and the other's has not."""
    different: list[str] = field(default_factory=list)
    """Figures of the hub that are not what the journals add up to."""
    unreconciled: list[str] = field(default_factory=list)
    """Pairs of a superior's and a subordinate's ledger that did not agree, or could not be compared."""
    events: Counter[str] = field(default_factory=Counter)
    """How many entries there are of each kind."""
    reviews_close: int = 0
    """Deferred cases whose review came close."""
    completed_with_lead: int = 0
    """Cases that the result of another one completed (并案)."""
    orders: int = 0
    """Supervision orders issued, those derived from others included."""
    orders_derived: int = 0
    order_answers: int = 0
    order_answers_returned: int = 0
    orders_closed: int = 0
    """Orders whose answer their issuer accepted."""
    written_off: int = 0
    """Cases that are written off in every ledger they are in."""

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, doubled, broken or different."""
        return not any(self._all())

    def hub_equals_ledgers(self, told: statistics_pb2.ReconcileResponse) -> bool:
        """Whether the hub's own reconciliation and this count both found every figure equal."""
        return not told.mismatches and not told.unreachable and not self.different

    def findings(self) -> list[str]:
        """What is wrong, in sentences."""
        told: list[str] = []
        for found in self._all():
            told += found[:TOLD_MAX]
            if len(found) > TOLD_MAX:
                told.append(f"… and {len(found) - TOLD_MAX} more of the kind")
        return told

    def _all(self) -> tuple[list[str], ...]:
        return self.lost, self.duplicated, self.lost_acts, self.broken, self.different, self.unreconciled


async def check(
    offices: Mapping[str, Office],
    hub: HubReader,
    registrations: Mapping[str, str],
    homes: Mapping[str, str],
    acts: Iterable[Acknowledged],
) -> Tally:
    """Hold what was acknowledged against every ledger, and every ledger against the hub.

    `registrations` are the case ids answered, by the key of each registration; `homes` the bureau of each case. A
    journal is forgotten when it has been read, so that a whole nation's fit. Raises NoAnswer, RemoteRefusal.
    """
    tally = Tally(cases=len(set(registrations.values())))
    reading = _Reading(tally, acts)
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def read(office: Office) -> None:
        async with slots:
            journal = await read_journal(office)
            held = {case.case_id: (case.custody, case.stage) async for case in office.cases(page_size=CASES_AT_ONCE)}
            reading.take(journal, held)

    await asyncio.gather(*map(read, offices.values()))
    reading.check_registrations(registrations, homes)
    reading.check_referrals()
    reading.check_owners(homes)
    await _check_hub(hub, reading.counted, tally)
    return tally


async def read_journal(office: Office) -> Journal:
    """A bureau's whole journal, its chain followed. Raises NoAnswer."""
    entries: list[journal_pb2.Entry] = []
    faults: list[str] = []
    end = GENESIS
    for segment in await office.journal():
        if segment.first_seq != len(entries) + 1 or segment.prev_hash != end:
            faults.append(f"the journal of {office.bureau} does not go on at {len(entries) + 1}")
        sealed = [(entry.private_digest, entry.public) for entry in segment.entries]
        end = links(segment.prev_hash, segment.generation, segment.first_seq, sealed)[-1]
        if end != segment.last_hash:
            faults.append(f"the journal of {office.bureau} has another hash at {segment.first_seq + len(sealed) - 1}")
        entries += [journal_pb2.Entry.FromString(entry.public) for entry in segment.entries]
    return Journal(office.bureau, tuple(entries), tuple(faults))


def facts_of(entry: journal_pb2.Entry) -> tuple[str, ...]:
    """The hub's figures that an entry adds one to."""
    kind = str(entry.WhichOneof("event"))
    if kind == "completed":
        return ("completed", "completed_jointly") if entry.completed.jointly else ("completed",)
    if kind == "followed_up":
        return ("followed_up", _ANSWERS[entry.followed_up.satisfaction])
    if kind in _ORDERS:
        fact, elsewhere = _ORDERS[kind]
        return () if getattr(getattr(entry, kind), elsewhere) else (fact,)
    if kind == "released":
        return ("relayed",) if entry.released.relayed else (_DIRECTIONS[entry.released.referral_kind],)
    return _PLAIN.get(kind, ())


async def compare_pairs(offices: Mapping[str, Office], superior_of: Mapping[str, str]) -> list[str]:
    """Have each ledger compared with its superior's (对账), from both sides; what differs, or could not be compared.

    The comparison is the nodes' own. Raises NoAnswer, RemoteRefusal.
    """
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def compare(code: str, above: str) -> list[reconciliation_pb2.PairReport]:
        async with slots:
            return await offices[code].reconcile(above)

    async def count(office: Office) -> int:
        async with slots:
            return await office.mismatches()

    compared = await asyncio.gather(*(compare(code, above) for code, above in superior_of.items()))
    standing = await asyncio.gather(*map(count, offices.values()))
    found = [
        f"the ledgers of {code} and {report.peer} are not compared: {report.away}"
        if report.away
        else f"the ledgers of {code} and {report.peer} differ in {len(report.differences)} hand-overs"
        for code, reports in zip(superior_of, compared, strict=True)
        for report in reports
        if report.away or report.differences
    ]
    return found + [
        f"{count} mismatches stand in the ledger of {code}"
        for code, count in zip(offices, standing, strict=True)
        if count
    ]


class _Reading:
    """What is remembered of the journals that have been read."""

    def __init__(self, tally: Tally, acts: Iterable[Acknowledged]) -> None:
        self._tally = tally
        self._acts: defaultdict[str, list[Acknowledged]] = defaultdict(list)
        for act in acts:
            self._acts[act.bureau].append(act)
        self.counted: dict[str, Counter[str]] = {}
        """How much each bureau's entries add to each of the hub's figures."""
        self._registered: defaultdict[str, list[str]] = defaultdict(list)
        self._released: dict[str, tuple[str, str]] = {}
        """Sender and receiver by referral, as its sender tells it."""
        self._received: dict[str, tuple[str, str]] = {}
        """As its receiver tells it."""
        self._places: defaultdict[str, list[tuple[str, int, int]]] = defaultdict(list)
        """The bureaus whose journals know of a case, with custody and stage that it has in each of these ledgers."""

    def take(self, journal: Journal, held: Mapping[str, tuple[int, int]]) -> None:
        """Count a journal; `held` are custody and stage of each case in the ledger, as its bureau's officers see it."""
        bureau, tally = journal.bureau, self._tally
        tally.broken += journal.faults
        tally.journal_entries += len(journal.entries)
        tally.referrals += sum(entry.HasField("received") for entry in journal.entries)
        self.counted[bureau] = _count(journal.entries)
        for entry in journal.entries:
            _count_deed(entry, tally)
            if entry.HasField("registered"):
                self._registered[entry.case_id].append(bureau)
            elif entry.HasField("released"):
                self._released[entry.released.referral_id] = (bureau, entry.released.to_bureau)
            elif entry.HasField("received"):
                self._received[entry.received.referral_id] = (entry.received.from_bureau, bureau)
        known = {entry.case_id for entry in journal.entries if entry.version and not entry.order_stage}
        for case_id in sorted(known & held.keys()):
            self._places[case_id].append((bureau, *held[case_id]))
        tally.broken += [
            f"case {case_id} is in the {where} of {bureau} alone"
            for where, cases in (("journal", known - held.keys()), ("list of cases", held.keys() - known))
            for case_id in sorted(cases)
        ]
        self._check_acts(journal)

    def _check_acts(self, journal: Journal) -> None:
        entries = journal.entries
        for act in self._acts.pop(journal.bureau, ()):
            if not 0 < act.seq <= len(entries) or entries[act.seq - 1].case_id != act.case_id:
                self._tally.lost_acts.append(
                    f"{act.act} of case {act.case_id}, acknowledged by {act.bureau} at {act.seq}, is not there"
                )

    def check_registrations(self, registrations: Mapping[str, str], homes: Mapping[str, str]) -> None:
        """Each that was acknowledged is in the journal that did so, once, and there is no other."""
        tally, registered = self._tally, self._registered
        answered = set(registrations.values())
        for case_id in sorted(answered):
            at = registered.get(case_id, [])
            if homes[case_id] not in at:
                told = f"bureau {homes[case_id]} acknowledged it and has no registration of it"
                tally.lost.append(f"case {case_id}: {told}")
            if len(at) > 1:
                tally.duplicated.append(f"case {case_id} is registered {len(at)} times: at {', '.join(at)}")
        # Every registration was asked until it was answered: one that nobody was told of has been made twice.
        tally.duplicated += [
            f"case {case_id} of bureau {', '.join(at)} was never acknowledged: a registration done twice"
            for case_id, at in sorted(registered.items())
            if case_id not in answered
        ]
        per_key = Counter(key.removesuffix("-again") for key in registrations)
        tally.duplicated += [
            f"registration {key} made {count} cases" for key, count in sorted(per_key.items()) if count > 1
        ]

    def check_referrals(self) -> None:
        """Both sides of each hand-over: who released has a receiver, who received has a sender."""
        released, received = self._released, self._received
        for referral in sorted(released.keys() | received.keys()):
            if released.get(referral) != received.get(referral):
                sides = f"{released.get(referral, 'nobody')} released, {received.get(referral, 'nobody')} received"
                self._tally.broken.append(f"referral {referral} is not the same in both ledgers: {sides}")

    def check_owners(self, homes: Mapping[str, str]) -> None:
        """Of the bureaus that have a case in their ledgers exactly one is responsible."""
        tally = self._tally
        for case_id in sorted(homes.keys() | self._places.keys()):
            places = self._places.get(case_id, [])
            owners = [bureau for bureau, custody, _ in places if custody != common_pb2.CUSTODY_RELEASED]
            if not places:
                tally.lost.append(f"case {case_id} is in no ledger")
            elif not owners:
                among = ", ".join(bureau for bureau, _, _ in places)
                tally.lost.append(f"nobody is responsible for case {case_id}, in the ledgers of {among}")
            elif len(owners) > 1:
                tally.duplicated.append(
                    f"{len(owners)} bureaus are responsible for case {case_id}: {', '.join(owners)}"
                )
            tally.written_off += bool(places) and all(stage == common_pb2.STAGE_WRITTEN_OFF for _, _, stage in places)


def _count_deed(entry: journal_pb2.Entry, tally: Tally) -> None:
    kind = str(entry.WhichOneof("event"))
    tally.events[kind] += 1
    tally.completed_with_lead += bool(entry.completed.lead_case_id)
    facts = facts_of(entry)
    tally.orders += "orders_issued" in facts
    tally.orders_derived += bool(entry.order_issued.parent_order_id)
    tally.order_answers += "orders_answered" in facts
    tally.order_answers_returned += "order_answers_returned" in facts
    tally.orders_closed += "orders_closed" in facts
    tally.reviews_close += kind == "became_due_soon" and any(
        clock.kind == common_pb2.CLOCK_KIND_REVIEW for clock in entry.clocks
    )


async def _check_hub(hub: HubReader, counted: Mapping[str, Counter[str]], tally: Tally) -> None:
    """The hub's totals against what the journals add up to, for the whole and for each bureau alone."""
    whole: Counter[str] = Counter()
    for one in counted.values():
        whole.update(one)
    total = await hub.figures()
    _compare("the whole", dict(total.rows[0].facts) if total.rows else {}, whole, tally)
    every = await hub.figures(grouping=statistics_pb2.GROUPING_EVERY_BUREAU)
    rows = {row.key: dict(row.facts) for row in every.rows}
    for bureau, counts in counted.items():
        _compare(f"bureau {bureau}", rows.get(bureau, {}), counts, tally)


def _count(entries: Sequence[journal_pb2.Entry]) -> Counter[str]:
    return Counter(fact for entry in entries for fact in facts_of(entry))


def _compare(of: str, told: Mapping[str, int], counted: Mapping[str, int], tally: Tally) -> None:
    for fact in sorted(_FACTS | told.keys()):
        if told.get(fact, 0) != counted.get(fact, 0):
            tally.different.append(
                f"{fact} of {of}: the hub says {told.get(fact, 0)}, the journals add up to {counted.get(fact, 0)}"
            )
