"""Journals into the stream and across the leaf link: `python -m bench.publish`.

One process keeps the ledgers of a few bureaus (SQLite, synchronous=FULL) and publishes to its provincial NATS site
(`sync_interval: always`); another pulls at the national site. Measured are: how many waiting entries a second the
site acknowledges, against JetStream's atomic batches of the same bytes; how long after its commit an entry is in the hub's hands, at an even pace and with 64 callers as fast
as they can; and what publishing costs those callers.
"""

import asyncio
import multiprocessing
import statistics
import tempfile
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from bench import batches, results
from demo.sites import Sites
from kuaixiang.domain import acts
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import Category, Channel, Role
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime.bus import JOURNAL_PREFIX, Access, Bus, SiteUnavailable, site_domain
from kuaixiang.runtime.clock import SystemClock
from kuaixiang.wire.v1.journal_pb2 import Segment
from kuaixiang.wire.v1.referral_pb2 import Signature
from node.events.publisher import SEGMENT_BYTES_MAX, SEGMENT_ENTRIES_MAX, Publisher
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.office import Header, Office, Place

SITE = "110000"
BUREAUS = ("110101", "110102", "110105", "110106")
CALLERS = 64
PACE_SECONDS = 0.02
CONNECT_SECONDS = 10.0
SECONDS_MAX = 120.0

Arrivals = dict[tuple[str, int], float]
"""Bureau and seq, and when they came: CLOCK_MONOTONIC, which the machine's processes share."""


def watch(access: Access, pipe: Any) -> None:
    """The hub's process: pulls until told to stop, then tells what came when."""
    asyncio.run(_watch(access, pipe))


async def _watch(access: Access, pipe: Any) -> None:
    arrivals: Arrivals = {}
    async with Bus(access, name="bench-hub") as bus:
        await bus.wait_connected(CONNECT_SECONDS)
        durable = bus.durable(site_domain(SITE), access.user)
        pipe.send("ready")
        while True:
            if pipe.poll():
                wanted = pipe.recv()
                if wanted == "stop":
                    return
                pipe.send({key: at for key, at in arrivals.items() if key[1] > wanted.get(key[0], 0)})
            try:
                deliveries = await durable.fetch(200, 0.2)
            except SiteUnavailable:
                await asyncio.sleep(0.1)
                continue
            for delivery in deliveries:
                now = time.monotonic()
                if delivery.subject.startswith(JOURNAL_PREFIX):
                    segment = Segment.FromString(delivery.data)
                    for nth in range(len(segment.entries)):
                        arrivals.setdefault((segment.bureau, segment.first_seq + nth), now)
                await delivery.ack()


class Desk:
    """The bureaus' side."""

    def __init__(self, folder: Path) -> None:
        self.ledger = Ledger(f"sqlite:///{folder}/node.db", BUREAUS)
        self.ledger.start()
        self.tree, self.clock = national_tree(), SystemClock()
        place = Place(self.tree, published_calendar(), Rules(), self.clock)
        self.office = Office(self.ledger, place, lambda _: Signature())
        self.committed: Arrivals = {}

    async def register(self, bureau: str) -> None:
        header = Header(bureau=bureau, case_id="", actor="bench-1", role=Role.REGISTRAR, department="tax-service")
        act = acts.Register(
            taxpayer_name="示例商贸有限公司",
            contact="15400000000",
            text="办税厅排队时间较长，希望增加咨询窗口并公布高峰时段。" * 5,
            category=Category.SERVICE,
            channel=Channel.COUNTER,
        )
        done = await self.office.perform(header, act)
        self.committed[bureau, done.seq] = time.monotonic()

    async def register_at_once(self, count: int) -> float:
        """So many cases from `CALLERS` callers; cases per second."""

        async def caller(nth: int) -> None:
            for _ in range(count // CALLERS):
                await self.register(BUREAUS[nth % len(BUREAUS)])

        started = time.monotonic()
        await asyncio.gather(*(caller(nth) for nth in range(CALLERS)))
        return count / (time.monotonic() - started)

    async def register_evenly(self, count: int) -> None:
        """So many cases, one every `PACE_SECONDS`."""
        tasks = []
        for nth in range(count):
            tasks.append(asyncio.create_task(self.register(BUREAUS[nth % len(BUREAUS)])))
            await asyncio.sleep(PACE_SECONDS)
        await asyncio.gather(*tasks)

    @property
    def seqs(self) -> dict[str, int]:
        return {bureau: head.seq for bureau, head in self.ledger.heads.items()}


@asynccontextmanager
async def publishing(desk: Desk, bus: Bus) -> AsyncIterator[Publisher]:
    """Publication in this event loop, for the time of the block."""
    publisher = Publisher(desk.ledger, bus, desk.tree, desk.clock)
    publisher.start()
    try:
        yield publisher
    finally:
        await publisher.stop()


async def published(publisher: Publisher) -> None:
    """Waits until nothing is left to publish."""
    async with asyncio.timeout(SECONDS_MAX):
        while publisher.unpublished():
            await asyncio.sleep(0.001)


def public_parts(desk: Desk) -> list[bytes]:
    """What has been published, entry by entry."""
    found: list[bytes] = []
    for bureau in BUREAUS:
        seq = 0
        while segment := queries.read_segment(
            desk.ledger.database, bureau, seq, entries_max=SEGMENT_ENTRIES_MAX, bytes_max=SEGMENT_BYTES_MAX
        ):
            found += [entry.public for entry in segment.entries]
            seq += len(segment.entries)
    return found


async def latencies(desk: Desk, pipe: Any, before: dict[str, int]) -> dict[str, float]:
    """How long what was committed after `before` took to the hub, in milliseconds."""
    wanted = {key: at for key, at in desk.committed.items() if key[1] > before[key[0]]}
    deadline = time.monotonic() + SECONDS_MAX
    while True:
        pipe.send(before)
        arrivals: Arrivals = await asyncio.to_thread(pipe.recv)
        if len(arrivals) >= len(wanted):
            break
        if time.monotonic() > deadline:
            raise TimeoutError(f"{len(arrivals)} of {len(wanted)} entries came")
    took = sorted((arrivals[key] - at) * 1e3 for key, at in wanted.items())
    return {"p50_ms": statistics.median(took), "p99_ms": took[int(len(took) * 0.99)], "max_ms": took[-1]}


async def measure(sites: Sites, pipe: Any, folder: Path, cases: int, evenly: int) -> dict[str, Any]:
    """All figures."""
    desk = Desk(folder)
    figures: dict[str, Any] = {}
    try:
        async with Bus(sites[SITE].node, name="bench-node") as bus:
            await bus.wait_connected(CONNECT_SECONDS)
            await bus.ensure_stream(SITE)
            await asyncio.to_thread(pipe.recv)
            alone = await desk.register_at_once(cases)
            async with publishing(desk, bus) as publisher:
                started = time.monotonic()
                await published(publisher)
                figures["backlog_entries_per_second"] = sum(desk.seqs.values()) / (time.monotonic() - started)
                figures["batches_per_second"] = await batches.rate(await asyncio.to_thread(public_parts, desk))
                before = desk.seqs
                await desk.register_evenly(evenly)
                figures["evenly"] = await latencies(desk, pipe, before)
                before = desk.seqs
                beside = await desk.register_at_once(cases)
                figures["at_once"] = await latencies(desk, pipe, before)
            figures["registered_per_second"] = {"alone": alone, "publishing": beside}
    finally:
        await asyncio.to_thread(desk.ledger.close)
    return figures


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--cases", type=int, help="cases of the backlog, and of the 64 callers (12800)")
    arguments = results.parse(parser)
    cases = arguments.cases or (640 if arguments.short else 12_800)
    found = [one_round(cases, 50 if arguments.short else 500) for _ in range(arguments.rounds)]
    beside = [one["registered_per_second"] for one in found]
    rows = [
        results.Row.of(
            "backlog acknowledged",
            [one["backlog_entries_per_second"] for one in found],
            "entries/s",
            "atomic batches of 100",
            [one["batches_per_second"] for one in found],
            "≥ 0.8",
        ),
        *(
            results.Row.of(f"commit to hub, {what}, {which}", [one[key][f"{which}_ms"] for one in found], "ms")
            for key, what in (("evenly", f"{1 / PACE_SECONDS:.0f} cases/s"), ("at_once", f"{CALLERS} callers"))
            for which in ("p50", "p99", "max")
        ),
        results.Row.of(
            f"registered by {CALLERS} callers while publishing",
            [one["publishing"] for one in beside],
            "1/s",
            "without publishing",
            [one["alone"] for one in beside],
        ),
    ]
    results.report("publish", rows, arguments)


def one_round(cases: int, evenly: int) -> dict[str, Any]:
    """Both sites, a ledger and a hub's process made anew, and all figures."""
    with tempfile.TemporaryDirectory() as name, Sites(Path(name) / "nats", (SITE,)) as sites:
        context = multiprocessing.get_context("spawn")
        ours, theirs = context.Pipe()
        process = context.Process(target=watch, args=(sites.national.hub, theirs), daemon=True)
        process.start()
        try:
            figures = asyncio.run(measure(sites, ours, Path(name), cases, evenly))
            ours.send("stop")
            process.join(10)
        finally:
            process.kill()
    return figures


if __name__ == "__main__":
    main()
