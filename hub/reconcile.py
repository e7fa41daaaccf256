"""Comparing the hub with every ledger of its scope (§五(三) asks it of ledgers; a figure must stand up to the same).

Each ledger's whole journal is read from its own node, its chain verified, and folded again into tallies that have
nothing in common with the hub's tables. Compared are the hash at the hub's mark, every tally at the mark, the end of
the journal, and within the hub every superior's totals with the sum of the bureaus under it.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

import sqlalchemy as sa
import structlog

from hub.fold import Mark, Packed, UnreadableEntry, last_seq, merge, pack, read_entries, roll_up, unpack
from hub.ledgers import Ledgers, LedgerUnreachable
from hub.measures import measure_name
from hub.query import day_text, read_marks
from hub.store import ALONE, TALLIES, WITH_SUBORDINATES, Store, superiors_of
from kuaixiang.domain.labels import term_of
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Category, Channel
from kuaixiang.wire.chain import GENESIS, links
from kuaixiang.wire.v1.journal_pb2 import Segment

CONCURRENT_MAX: Final = 4
"""Ledgers read at a time; verifying takes the processor, not the network."""
MISMATCHES_MAX: Final = 1_000
"""Told one by one; a thousand say no more than that something is very wrong."""
SETTLE_POLL_SECONDS: Final = 0.2

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

    @property
    def equal(self) -> bool:
        """Whether the hub equals its ledgers: all of them were read, and nothing differs."""
        return not self.mismatches and not self.unreachable

    def tell(self, *mismatches: Mismatch) -> None:
        """Add what differs, up to the bound."""
        self.mismatches.extend(mismatches[: max(0, MISMATCHES_MAX - len(self.mismatches))])


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
        self.tallies: dict[Packed, int] = {}
        """Up to the hub's mark."""

    def take(self, segment: Segment) -> None:
        """Verify and fold the next segment. Raises `BrokenChain`."""
        first = self.seq + 1
        if segment.bureau != self._bureau:
            raise BrokenChain(first, f"a segment of bureau {segment.bureau}")
        if segment.first_seq != first or not segment.entries:
            raise BrokenChain(first, f"a segment that begins at seq {segment.first_seq}")
        if segment.prev_hash != self.hash or segment.generation < self._generation:
            raise BrokenChain(first, "a chain that does not continue")
        sealed = [(entry.private_digest, entry.public) for entry in segment.entries]
        hashes = links(self.hash, segment.generation, first, sealed)
        if hashes[-1] != segment.last_hash:
            raise BrokenChain(last_seq(segment), "a hash that does not verify")
        within = self._mark.seq - first + 1
        if 0 < within <= len(hashes):
            self.hash_at_mark = hashes[within - 1]
        if within > 0:
            counted = Segment(bureau=self._bureau, first_seq=first, entries=segment.entries[:within])
            try:
                merge(self.tallies, read_entries(counted).tallies)
            except UnreadableEntry as unreadable:
                raise BrokenChain(unreadable.seq, "an entry that cannot be read") from unreadable
        self._generation, self.hash, self.seq = segment.generation, hashes[-1], last_seq(segment)


async def reconcile(*, store: Store, tree: BureauTree, ledgers: Ledgers, scope: str, settle_seconds: float) -> Report:
    """Compare the hub with every ledger of a scope; bureaus without an endpoint in the tree are unreachable."""
    report = Report()
    slots = asyncio.Semaphore(CONCURRENT_MAX)

    async def one(bureau: str) -> None:
        async with slots:
            await _compare(bureau, store, ledgers, settle_seconds, report)

    await asyncio.gather(*(one(bureau) for bureau in tree.subtree(scope)))
    report.tell(*await asyncio.to_thread(_compare_totals, store, tree, scope))
    report.mismatches.sort(key=lambda mismatch: (mismatch.bureau, mismatch.what))
    report.unreachable.sort()
    return report


async def _compare(bureau: str, store: Store, ledgers: Ledgers, settle_seconds: float, report: Report) -> None:
    mark, mine = await asyncio.to_thread(_own, store, bureau)
    refold = Refold(bureau, mark)
    try:
        async for segment in ledgers.read(bureau, 1):
            await asyncio.to_thread(refold.take, segment)
    except LedgerUnreachable as unreachable:
        _log.warning(
            "A ledger could not be compared.",
            action="hub.reconcile",
            bureau=bureau,
            seq=refold.seq,
            reason=unreachable.reason,
        )
        report.unreachable.append(bureau)
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
    report.tell(*_differences(bureau, mine, refold.tallies))
    reached = await _settled(store, bureau, refold.seq, settle_seconds)
    if reached < refold.seq:
        report.tell(Mismatch(bureau, "head", f"seq {reached}", f"seq {refold.seq}"))


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
        return read_marks(connection, [bureau]).get(bureau) or Mark(bureau)


def _own(store: Store, bureau: str) -> tuple[Mark, dict[Packed, int]]:
    with store.reading() as connection:
        mark = read_marks(connection, [bureau]).get(bureau) or Mark(bureau)
        return mark, _tallies(connection, [bureau], ALONE).get(bureau, {})


def _tallies(connection: sa.Connection, bureaus: Sequence[str], reach: int) -> dict[str, dict[Packed, int]]:
    found: dict[str, dict[Packed, int]] = {}
    rows = connection.execution_options(yield_per=10_000).execute(
        sa.select(TALLIES).where(TALLIES.c.reach == reach).where(TALLIES.c.bureau.in_(bureaus))
        if len(bureaus) == 1
        else sa.select(TALLIES).where(TALLIES.c.reach == reach)
    )
    wanted = frozenset(bureaus)
    for bureau, _, day, category, channel, measure, value in rows:
        if bureau in wanted:
            found.setdefault(bureau, {})[pack(day, category, channel, measure)] = value
    return found


def _compare_totals(store: Store, tree: BureauTree, scope: str) -> list[Mismatch]:
    """Every superior's totals against the sum of what the hub holds for the bureaus under it, at one instant."""
    everyone = tree.subtree(scope)
    with store.reading() as connection:
        alone = _tallies(connection, everyone, ALONE)
        totals = _tallies(connection, everyone, WITH_SUBORDINATES)
    summed = roll_up(alone, superiors_of(tree, scope))
    return [
        Mismatch(found.bureau, f"{found.what}, with subordinates", found.hub, found.ledger)
        for superior in sorted(summed.keys() | totals.keys())
        for found in _differences(superior, totals.get(superior, {}), summed.get(superior, {}))
    ]


def _differences(bureau: str, hub: Mapping[Packed, int], ledger: Mapping[Packed, int]) -> list[Mismatch]:
    return [
        Mismatch(bureau, _told(key), str(hub.get(key, 0)), str(ledger.get(key, 0)))
        for key in sorted(hub.keys() | ledger.keys())
        if hub.get(key, 0) != ledger.get(key, 0)
    ]


def _told(key: Packed) -> str:
    day, category, channel, measure = unpack(key)
    grounds = f"{term_of(Category, category)}/{term_of(Channel, channel)}"
    return f"{measure_name(measure)} {day_text(day)} {grounds}"
