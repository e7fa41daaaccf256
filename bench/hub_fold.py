"""How fast the hub folds a backlog durably, against what no hub can do without: `python -m bench.hub_fold`.

The backlog lies in the streams of two provincial sites, real nats-servers with `sync_interval: always`, and is pulled at
the national site. Once it is only fetched, decoded, its chain verified, and acknowledged; once the hub's own consumer
folds it into SQLite (`synchronous=FULL`) or the database given, both in one round. The journals are made beforehand: 200
bureaus of four tiers, cases of seven entries with clocks, categories, channels and departments at random.
"""

import asyncio
import random
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench import results
from demo.journals import MONDAY, Journal
from demo.sites import Sites
from hub.consumer import Consumer
from hub.fold import hashes_of
from hub.folder import Folder, Message
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import DepartmentKind
from kuaixiang.runtime.bus import Bus, hub_user, journal_subject, site_domain
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1.journal_pb2 import Entry, Segment

SITES: Final = ("110000", "210000")
COUNTIES: Final = 100
ENTRIES_PER_CASE: Final = 7
HANDLING_KINDS: Final = tuple(
    map(int, (DepartmentKind.POLICY, DepartmentKind.COLLECTION, DepartmentKind.INFORMATION, DepartmentKind.LEGAL))
)
OPEN_CASES: Final = 40
"""A bureau's cases under way at a time: their entries mingle, so that a batch rarely holds a whole case."""


FETCHED_AT_ONCE: Final = 200
POLL_SECONDS: Final = 0.002
SECONDS_MAX: Final = 600.0


def a_tree() -> BureauTree:
    """Headquarters, provinces, one prefecture each, and their counties."""
    bureaus = [Bureau("000000", "hq", Tier.NATIONAL, None)]
    for top in SITES:
        first = int(top) + 100
        bureaus += [Bureau(top, top, Tier.PROVINCIAL, "000000"), Bureau(str(first), "prefecture", Tier.PREFECTURE, top)]
        bureaus += [Bureau(str(first + county), "county", Tier.COUNTY, str(first)) for county in range(1, COUNTIES - 1)]
    return BureauTree("bench", bureaus)


def messages_of(tree: BureauTree, entries: int, segment_entries: int) -> list[Message]:
    """Journals in segments, the bureaus' ones mingled as a busy day brings them."""
    chance = random.Random(40)
    counties = [bureau.code for bureau in tree.bureaus.values() if bureau.tier is Tier.COUNTY]
    queues: list[list[Message]] = []
    for code in counties:
        journal = Journal(code)
        waiting = [
            journal.life(
                f"{code}-{number:08d}",
                MONDAY + timedelta(days=chance.randrange(5)),
                category=chance.randint(1, 6),
                channel=chance.randint(1, 6),
                kinds=(int(DepartmentKind.HALL), int(DepartmentKind.TAX_SERVICE), chance.choice(HANDLING_KINDS)),
            )
            for number in range(entries // len(counties) // ENTRIES_PER_CASE)
        ]
        under_way: list[Iterator[None]] = []
        while waiting or under_way:
            while waiting and len(under_way) < OPEN_CASES:
                under_way.append(waiting.pop())
            case = chance.choice(under_way)
            if next(case, case) is case:
                under_way.remove(case)
        site = tree.site(code)
        queues.append(
            [
                Message(site, journal_subject(site, code), segment.SerializeToString())
                for segment in journal.segments(size=segment_entries)
            ]
        )
    mingled: list[Message] = []
    while queues:
        queue = chance.choice(queues)
        mingled.append(queue.pop(0))
        if not queue:
            queues.remove(queue)
    return mingled


async def publish(sites: Sites, messages: Sequence[Message], copy: str) -> None:
    """Put a copy of them into the streams of their sites."""
    for code in SITES:
        async with Bus(sites[code].node, name=f"bench-{code}") as bus:
            await bus.wait_connected(SECONDS_MAX)
            await bus.ensure_stream(code)
            await asyncio.gather(
                *[
                    await bus.publish_pipelined(message.subject, message.data, message_id=f"{copy}.{nth}")
                    for nth, message in enumerate(messages)
                    if message.site == code
                ]
            )


async def bare(sites: Sites, entries: int) -> float:
    """Fetch, decode and hash-check everything, and acknowledge it; entries per second."""
    count = 0

    async def pull(bus: Bus, code: str) -> None:
        nonlocal count
        durable = bus.durable(site_domain(code), hub_user("000000"))
        while count < entries:
            for delivery in await durable.fetch(FETCHED_AT_ONCE, 1.0):
                segment = Segment.FromString(delivery.data)
                assert hashes_of(segment)[-1] == segment.last_hash
                for entry in segment.entries:
                    Entry.FromString(entry.public)
                count += len(segment.entries)
                await delivery.ack()

    async with Bus(sites.national.hub, name="bench-bare") as bus:
        await bus.wait_connected(SECONDS_MAX)
        started = time.perf_counter()
        tasks = [asyncio.create_task(pull(bus, code)) for code in SITES]
        while count < entries:
            await asyncio.sleep(POLL_SECONDS)
        seconds = time.perf_counter() - started
        await asyncio.gather(*tasks)
    return entries / seconds


async def fold(sites: Sites, tree: BureauTree, url: str, entries: int) -> float:
    """Let the hub's own consumer fold everything, durably; entries per second."""
    with Store(url, tree, "000000") as store:
        worker = Worker()
        folder = Folder(store=store, now_us=lambda: to_micros(MONDAY))
        async with Bus(sites.national.hub, name="bench-hub") as bus:
            await bus.wait_connected(SECONDS_MAX)
            consumer = Consumer(bus=bus, folder=folder, worker=worker, scope="000000", sites=SITES)
            started = time.perf_counter()
            consumer.start()
            while sum(mark.seq for mark in folder.marks().values()) < entries:
                await asyncio.sleep(POLL_SECONDS)
                assert not worker.failed.done()
            seconds = time.perf_counter() - started
            await consumer.stop()
        await worker.close()
    return entries / seconds


def one_round(tree: BureauTree, messages: Sequence[Message], entries: int, database: str) -> tuple[float, float]:
    """Sites and a hub's database made anew; what is done bare, and the fold."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-")))
        sites = stack.enter_context(Sites(folder / "nats", SITES))
        sites.wait_linked()
        asyncio.run(publish(sites, messages, "first"))
        first = asyncio.run(bare(sites, entries))
        asyncio.run(publish(sites, messages, "second"))
        return first, asyncio.run(fold(sites, tree, database or f"sqlite:///{folder}/hub.db", entries))


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--entries", type=int, help="entries folded in each round (200000)")
    parser.add_argument("--database", default="", help="of PostgreSQL, empty, for one round (SQLite)")
    parser.add_argument("--segment", type=int, default=100, help="entries of a message")
    options = results.parse(parser)
    tree = a_tree()
    messages = messages_of(tree, options.entries or (10_000 if options.short else 200_000), options.segment)
    entries = sum(len(Segment.FromString(message.data).entries) for message in messages)
    rounds = [one_round(tree, messages, entries, options.database) for _ in range(options.rounds)]
    needed, folded = ([one[at] for one in rounds] for at in (0, 1))
    rows = [
        results.Row.of("fetch, decode and hash-check", needed, "entries/s"),
        results.Row.of("fold durably, from the stream", folded, "entries/s", target="≥ 30000"),
        results.Row.of(
            "fold durably, as a share", folded, "entries/s", "fetch, decode and hash-check", needed, "≥ 0.35"
        ),
    ]
    results.report("hub_fold", rows, options)


if __name__ == "__main__":
    main()
