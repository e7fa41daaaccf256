"""A bureau's ledger to publish from, and the hub's side of the stream to see what arrives."""

import asyncio
import itertools
import time
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from demo.sites import Sites
from kuaixiang.domain import acts
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import Category, Channel, Role
from kuaixiang.facts import published_calendar
from kuaixiang.runtime.bus import HEAD_PREFIX, Bus, BusUnavailable, Durable, SiteUnavailable, site_domain
from kuaixiang.runtime.clock import FixedClock
from kuaixiang.runtime.loops import end_tasks
from kuaixiang.wire.chain import GENESIS, links
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from kuaixiang.wire.v1.referral_pb2 import Signature
from node.events.publisher import Publisher
from node.ledger.ledger import Ledger
from node.office import Done, Header, Office, Place

SITE = "110000"
OTHER_SITE = "330000"
MONDAY = datetime(2026, 11, 16, 2, 0, tzinfo=UTC)
CONNECT_SECONDS = 60.0
PATIENCE_SECONDS = 120.0

_numbers = itertools.count(1)


def tree_of(*codes: str) -> BureauTree:
    """Two provinces, and counties right under them by the first two digits of their codes."""
    rows = [
        Bureau("000000", "总局", Tier.NATIONAL, None),
        Bureau(SITE, "北京", Tier.PROVINCIAL, "000000"),
        Bureau(OTHER_SITE, "浙江", Tier.PROVINCIAL, "000000"),
    ]
    counties = [Bureau(code, code, Tier.COUNTY, f"{code[:2]}0000") for code in codes if not code.endswith("0000")]
    return BureauTree("test", [*rows, *counties])


@dataclass
class Desk:
    """A ledger with an office over it."""

    ledger: Ledger
    tree: BureauTree
    clock: FixedClock
    office: Office

    async def register(self, bureau: str, text: str = "希望增加咨询窗口。") -> Done:
        """One case; two journal entries or more come of it over its life, one now."""
        header = Header(bureau=bureau, case_id="", actor="a-1", role=Role.REGISTRAR, department="tax-service")
        act = acts.Register(
            taxpayer_name="示例商贸有限公司",
            contact="15400000000",
            text=text,
            category=Category.SERVICE,
            channel=Channel.COUNTER,
        )
        return await self.office.perform(header, act)

    async def register_many(self, bureau: str, count: int) -> None:
        await asyncio.gather(*(self.register(bureau) for _ in range(count)))

    def seq(self, bureau: str) -> int:
        return self.ledger.heads[bureau].seq


@asynccontextmanager
async def open_desk(url: str, bureaus: Iterable[str]) -> AsyncIterator[Desk]:
    # The node of the site's own bureau is the one that may make the stream.
    codes = tuple(dict.fromkeys([*bureaus, SITE]))
    tree, clock = tree_of(*codes), FixedClock(MONDAY)
    ledger = Ledger(url, codes)
    ledger.start()
    try:
        place = Place(tree, published_calendar(), Rules(), clock)
        yield Desk(ledger, tree, clock, Office(ledger, place, lambda _: Signature()))
    finally:
        await asyncio.to_thread(ledger.close)


@asynccontextmanager
async def publishing(desk: Desk, bus: Bus) -> AsyncIterator[Publisher]:
    publisher = Publisher(desk.ledger, bus, desk.tree, desk.clock)
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def until(condition: Callable[[], bool], what: str) -> None:
    """Waits for it."""
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, what
        await asyncio.sleep(0.005)


@dataclass
class Arrivals:
    """What the national site pulls of some bureaus from a province's stream."""

    bureaus: tuple[str, ...]
    segments: dict[str, list[Segment]] = field(default_factory=dict)
    raw: dict[str, list[bytes]] = field(default_factory=dict)
    heads: dict[str, list[Head]] = field(default_factory=dict)
    arrived_at: dict[tuple[str, int], float] = field(default_factory=dict)

    def reached(self, bureau: str) -> int:
        return max((last_seq(segment) for segment in self.segments.get(bureau, ())), default=0)

    def take(self, subject: str, data: bytes) -> None:
        bureau = subject.rpartition(".")[2]
        if bureau not in self.bureaus:
            return
        if subject.startswith(HEAD_PREFIX):
            self.heads.setdefault(bureau, []).append(Head.FromString(data))
            return
        segment = Segment.FromString(data)
        now = time.perf_counter()
        for seq in range(segment.first_seq, last_seq(segment) + 1):
            self.arrived_at.setdefault((bureau, seq), now)
        self.segments.setdefault(bureau, []).append(segment)
        self.raw.setdefault(bureau, []).append(data)


@asynccontextmanager
async def watching(sites: Sites, bureaus: tuple[str, ...]) -> AsyncIterator[Arrivals]:
    """Pulls a province's stream across its leaf link, in the background."""
    arrivals = Arrivals(bureaus)
    async with Bus(sites.national.hub, name="hub") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        durable = bus.durable(site_domain(SITE), f"t{next(_numbers)}-{bureaus[0]}")
        task = asyncio.create_task(_pull(durable, arrivals))
        try:
            yield arrivals
        finally:
            await end_tasks((task,))


async def _pull(durable: Durable, arrivals: Arrivals) -> None:
    while True:
        try:
            for delivery in await durable.fetch(200, 1.0):
                arrivals.take(delivery.subject, delivery.data)
                await delivery.ack()
        except (SiteUnavailable, BusUnavailable):
            await asyncio.sleep(0.1)


def last_seq(segment: Segment) -> int:
    return segment.first_seq + len(segment.entries) - 1


def verified(segments: list[Segment]) -> tuple[int, bytes]:
    """Folds segments as a hub does; the seq and hash that they reach. Fails on a gap or a broken chain."""
    seq, hash_ = 0, GENESIS
    for segment in segments:
        assert segment.first_seq <= seq + 1, f"a gap before {segment.first_seq}, {seq} was reached"
        hashes = links(
            segment.prev_hash,
            segment.generation,
            segment.first_seq,
            [(entry.private_digest, entry.public) for entry in segment.entries],
        )
        assert segment.last_hash == hashes[-1]
        skip = seq + 1 - segment.first_seq
        if skip >= len(hashes):
            continue
        assert hash_ == (hashes[skip - 1] if skip else segment.prev_hash)
        seq, hash_ = last_seq(segment), hashes[-1]
    return seq, hash_
