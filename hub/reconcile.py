"""Comparing the hub with every ledger of its scope (§五(三) asks it of ledgers; a figure must stand up to the same).

Each ledger's whole journal is read from its own node, its chain verified, and folded again into tallies that have
nothing in common with the hub's tables. Compared are the hash at the hub's mark, every tally at the mark, the end of
the journal, and within the hub every superior's totals with the sum of the bureaus under it.

The quick comparison (`reconcile_heads`) asks each ledger for the hash at the hub's mark alone. Each hash covers all
that came before it, so that an equal one proves that the hub has folded this very journal; it takes a few hundred bytes
a ledger where the whole comparison takes the journal. What it does not see is what only reading shows: an entry that
was changed in a ledger whose later hashes were left as they were, and tallies that do not follow from what was folded.
"""

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
import structlog

from hub.cells import CELL_BITS, CELL_MASK, Cell, Cells, Days, grounds_of, thawed
from hub.fold import Mark, UnreadableEntry, hashes_of, last_seq, read_entries
from hub.ledgers import Ledgers, LedgerUnreachable
from hub.measures import measure_name
from hub.query import day_text
from hub.store import (
    ALONE,
    ALONE_MONTHLY,
    ALONE_YEARLY,
    MONTHLY,
    RECONCILED,
    WITH_SUBORDINATES,
    YEARLY,
    Store,
    derived,
    read_mark,
    read_tallies,
    superiors_of,
)
from hub.sums import Sums
from hub.words import ground_text
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel, DepartmentKind
from kuaixiang.wire.chain import GENESIS
from kuaixiang.wire.v1.journal_pb2 import Segment

CONCURRENT_MAX: Final = 4
"""Ledgers read at a time; verifying takes the processor, not the network."""
HEADS_CONCURRENT_MAX: Final = 16
"""Heads asked for at a time: a row each."""
MISMATCHES_MAX: Final = 1_000
"""Told one by one; a thousand say no more than that something is very wrong."""
SETTLE_POLL_SECONDS: Final = 0.2

_KEPT: Final = {
    WITH_SUBORDINATES: "with subordinates",
    MONTHLY: "with subordinates, the whole month",
    ALONE_MONTHLY: "the whole month",
    YEARLY: "with subordinates, the whole year",
    ALONE_YEARLY: "the whole year",
}
"""What the hub keeps besides the bureaus' own tallies by day."""

_log: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True)
class Mismatch:
    """Something that the hub and a ledger, or the hub and itself, say differently."""

    bureau: str
    what: str
    hub: str
    ledger: str


@dataclass(slots=True)
class Report:
    """What a reconciliation found."""

    ledgers_compared: int = 0
    entries_compared: int = 0
    mismatches: list[Mismatch] = field(default_factory=list)
    unreachable: list[str] = field(default_factory=list)
    behind: set[str] = field(default_factory=set)
    """Bureaus whose ledgers go on after what the hub has folded, which may agree: a `head` among the mismatches."""

    @property
    def equal(self) -> bool:
        """Whether the hub equals its ledgers: all of them were read, and nothing differs."""
        return not self.mismatches and not self.unreachable

    def tell(self, *mismatches: Mismatch) -> None:
        """Add what differs, up to the bound."""
        self.mismatches.extend(mismatches[: max(0, MISMATCHES_MAX - len(self.mismatches))])


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the last daily comparison has said of one ledger."""

    bureau: str
    at_us: int
    differences: int
    unreachable: bool


class BrokenChain(Exception):
    """A ledger's own answer does not verify."""

    def __init__(self, seq: int, problem: str) -> None:
        self.seq = seq
        self.problem = problem
        super().__init__(f"{problem} at seq {seq}")


class Refold:
    """One ledger's journal, verified and folded from its first entry."""

    def __init__(self, bureau: str, mark: Mark) -> None:
        self._bureau = bureau
        self._mark = mark
        self._generation = 0
        self.seq = 0
        self.hash = GENESIS
        self.hash_at_mark = GENESIS
        self._counts: Counter[int] = Counter()

    def take(self, segment: Segment) -> None:
        """Verify and fold the next segment. Raises `BrokenChain`."""
        first = self.seq + 1
        if segment.bureau != self._bureau:
            raise BrokenChain(first, f"a segment of bureau {segment.bureau}")
        if segment.first_seq != first or not segment.entries:
            raise BrokenChain(first, f"a segment that begins at seq {segment.first_seq}")
        if segment.prev_hash != self.hash or segment.generation < self._generation:
            raise BrokenChain(first, "a chain that does not continue")
        hashes = hashes_of(segment)
        if hashes[-1] != segment.last_hash:
            raise BrokenChain(last_seq(segment), "a hash that does not verify")
        within = self._mark.seq - first + 1
        if 0 < within <= len(hashes):
            self.hash_at_mark = hashes[within - 1]
        if within > 0:
            counted = segment
            if within < len(hashes):
                counted = Segment(bureau=self._bureau, first_seq=first, entries=segment.entries[:within])
            try:
                self._counts.update(read_entries(counted).counts)
            except UnreadableEntry as unreadable:
                raise BrokenChain(unreadable.seq, "an entry that cannot be read") from unreadable
        self._generation, self.hash, self.seq = segment.generation, hashes[-1], last_seq(segment)

    def tallies(self) -> Days:
        """What the entries up to the hub's mark add."""
        found: Days = {}
        for number, count in self._counts.items():
            found.setdefault(number >> CELL_BITS, {})[number & CELL_MASK] = count
        return found


async def reconcile(*, store: Store, tree: BureauTree, ledgers: Ledgers, scope: str, settle_seconds: float) -> Report:
    """Compare the hub with every ledger of a scope; bureaus without an endpoint in the tree are unreachable."""
    report = Report()
    await compare_whole(report, tree.subtree(scope), store, ledgers, settle_seconds)
    return await _with_totals(report, store, tree, scope)


async def reconcile_heads(
    *, store: Store, tree: BureauTree, ledgers: Ledgers, scope: str, settle_seconds: float
) -> Report:
    """Compare the hub's marks with every ledger of a scope, by the hash at each mark alone."""
    report = Report()
    slots = asyncio.Semaphore(HEADS_CONCURRENT_MAX)

    async def one(bureau: str) -> None:
        async with slots:
            await _compare_head(bureau, store, ledgers, settle_seconds, report)

    await asyncio.gather(*(one(bureau) for bureau in tree.subtree(scope)))
    return await _with_totals(report, store, tree, scope)


def keep_outcomes(store: Store, tree: BureauTree, report: Report, at_us: int) -> None:
    """Keep what was found of each ledger of the hub's scope in place of what was, durably. For the writing thread."""
    differences = Counter(found.bureau for found in report.mismatches)
    away = frozenset(report.unreachable)
    rows = [
        {"bureau": bureau, "at_us": at_us, "differences": differences[bureau], "unreachable": int(bureau in away)}
        for bureau in tree.subtree(store.scope)
    ]
    with store.writing() as connection:
        connection.execute(sa.delete(RECONCILED))
        connection.execute(sa.insert(RECONCILED), rows)


def read_outcomes(connection: sa.Connection, bureaus: Sequence[str]) -> list[Outcome]:
    """What was kept of these bureaus, in the order of their codes; nothing before the first daily comparison."""
    wanted = frozenset(bureaus)
    return [
        Outcome(row.bureau, row.at_us, row.differences, bool(row.unreachable))
        for row in connection.execute(sa.select(RECONCILED).order_by(RECONCILED.c.bureau))
        if row.bureau in wanted
    ]


async def compare_whole(
    report: Report, bureaus: Sequence[str], store: Store, ledgers: Ledgers, settle_seconds: float
) -> None:
    """Compare the hub with the whole ledgers of these bureaus, into a report."""
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def one(bureau: str) -> None:
        async with slots:
            await _compare(bureau, store, ledgers, settle_seconds, report)

    await asyncio.gather(*(one(bureau) for bureau in bureaus))


async def _with_totals(report: Report, store: Store, tree: BureauTree, scope: str) -> Report:
    report.tell(*await asyncio.to_thread(_compare_totals, store, tree, scope))
    report.mismatches.sort(key=lambda mismatch: (mismatch.bureau, mismatch.what))
    report.unreachable.sort()
    return report


async def _compare_head(bureau: str, store: Store, ledgers: Ledgers, settle_seconds: float, report: Report) -> None:
    # First the mark: what is folded while the answer is under way is no contradiction to it.
    mark = await asyncio.to_thread(_mark, store, bureau)
    try:
        head = await ledgers.head(bureau)
        if head.seq < mark.seq:
            report.ledgers_compared += 1
            report.tell(Mismatch(bureau, "head", f"seq {mark.seq}", f"seq {head.seq}"))
            return
        found = head.hash if head.seq == mark.seq else await _hash_at(bureau, mark.seq, ledgers)
    except LedgerUnreachable as unreachable:
        _unreachable(bureau, mark.seq, unreachable, report)
        return
    except BrokenChain as broken:
        report.tell(Mismatch(bureau, "chain", f"seq {mark.seq}", str(broken)))
        return
    report.ledgers_compared += 1
    if mark.quarantine:
        report.tell(Mismatch(bureau, "quarantine", mark.quarantine, f"seq {head.seq}"))
    if found != mark.hash:
        report.tell(Mismatch(bureau, f"hash at seq {mark.seq}", mark.hash.hex(), found.hex()))
    await _check_reached(bureau, head.seq, store, settle_seconds, report)


async def _hash_at(bureau: str, seq: int, ledgers: Ledgers) -> bytes:
    """The hash of one entry of a ledger, as its own node answers it. Raises `LedgerUnreachable`, `BrokenChain`."""
    if not seq:
        return GENESIS
    async for segment in ledgers.read(bureau, seq, seq):
        if segment.bureau == bureau and segment.first_seq == seq and len(segment.entries) == 1:
            return hashes_of(segment)[0]
        break
    raise BrokenChain(seq, "no entry, though the journal goes on")


def _unreachable(bureau: str, seq: int, failure: LedgerUnreachable, report: Report) -> None:
    _log.warning(
        "A ledger could not be compared.",
        action="hub.reconcile",
        bureau=bureau,
        seq=seq,
        reason=failure.reason,
    )
    report.unreachable.append(bureau)


async def _compare(bureau: str, store: Store, ledgers: Ledgers, settle_seconds: float, report: Report) -> None:
    mark, mine = await asyncio.to_thread(_own, store, bureau)
    refold = Refold(bureau, mark)
    try:
        async for segment in ledgers.read(bureau, 1):
            await asyncio.to_thread(refold.take, segment)
    except LedgerUnreachable as unreachable:
        _unreachable(bureau, refold.seq, unreachable, report)
        return
    except BrokenChain as broken:
        report.tell(Mismatch(bureau, "chain", f"seq {mark.seq}", str(broken)))
        return
    report.ledgers_compared += 1
    report.entries_compared += refold.seq
    if mark.quarantine:
        report.tell(Mismatch(bureau, "quarantine", mark.quarantine, f"seq {refold.seq}"))
    if refold.hash_at_mark != mark.hash:
        report.tell(Mismatch(bureau, f"hash at seq {mark.seq}", mark.hash.hex(), refold.hash_at_mark.hex()))
    report.tell(*_differences(bureau, mine, refold.tallies()))
    await _check_reached(bureau, refold.seq, store, settle_seconds, report)


async def _check_reached(bureau: str, seq: int, store: Store, settle_seconds: float, report: Report) -> None:
    reached = await _settled(store, bureau, seq, settle_seconds)
    if reached < seq:
        report.behind.add(bureau)
        report.tell(Mismatch(bureau, "head", f"seq {reached}", f"seq {seq}"))


async def _settled(store: Store, bureau: str, seq: int, settle_seconds: float) -> int:
    """Up to where the hub has folded, once it has come as far as the ledger or the time is over."""
    deadline = asyncio.get_running_loop().time() + settle_seconds
    while True:
        reached = (await asyncio.to_thread(_mark, store, bureau)).seq
        if reached >= seq or asyncio.get_running_loop().time() >= deadline:
            return reached
        await asyncio.sleep(SETTLE_POLL_SECONDS)


def _mark(store: Store, bureau: str) -> Mark:
    with store.reading() as connection:
        return read_mark(connection, bureau)


def _own(store: Store, bureau: str) -> tuple[Mark, Days]:
    with store.reading() as connection:
        mark = read_mark(connection, bureau)
        return mark, _tallies(connection, [bureau], ALONE).get(bureau, {})


def _tallies(connection: sa.Connection, bureaus: Sequence[str], reach: int) -> dict[str, Days]:
    found: dict[str, Days] = {}
    for day, bureau, cells in read_tallies(connection, reach, bureaus):
        found.setdefault(bureau, {})[day] = thawed(cells)
    return found


def _compare_totals(store: Store, tree: BureauTree, scope: str) -> list[Mismatch]:
    """Everything that follows from the bureaus' own tallies against what it should be, at one instant."""
    everyone = tree.subtree(scope)
    with store.reading() as connection:
        own = Sums.of_kept(read_tallies(connection, ALONE, everyone))
        kept = {reach: _tallies(connection, everyone, reach) for reach in _KEPT}
    return [
        Mismatch(found.bureau, f"{found.what}, {_KEPT[reach]}", found.hub, found.ledger)
        for reach, sums in derived(own, superiors_of(tree, scope)).items()
        for right in (sums.by_bureau(),)
        for bureau in sorted(right.keys() | kept[reach].keys())
        for found in _differences(bureau, kept[reach].get(bureau, {}), right.get(bureau, {}))
    ]


def _differences(bureau: str, hub: Mapping[int, Cells], ledger: Mapping[int, Cells]) -> list[Mismatch]:
    found = []
    for day in sorted(hub.keys() | ledger.keys()):
        here, there = hub.get(day, {}), ledger.get(day, {})
        if here != there:
            found += [
                Mismatch(bureau, _told(day, cell), str(here.get(cell, 0)), str(there.get(cell, 0)))
                for cell in sorted(here.keys() | there.keys())
                if here.get(cell, 0) != there.get(cell, 0)
            ]
    return found


def _told(day: int, cell: Cell) -> str:
    category, channel, department, measure = grounds_of(cell)
    grounds = "/".join(
        ground_text(kind, number)
        for kind, number in ((Category, category), (Channel, channel), (DepartmentKind, department))
    )
    return f"{measure_name(measure)} {day_text(day)} {grounds}"
