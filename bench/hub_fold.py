"""How fast the hub folds durably, and how much of that is fetching, decoding and hashing alone. Both in one run.

`python -m bench.hub_fold`. The journals are made beforehand: 200 bureaus of four tiers, cases of seven entries with
clocks, categories, channels and departments at random.
"""

import random
import tempfile
import time
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Final

from bench import results
from hub.fold import hashes_of
from hub.folder import Folder, Message
from hub.store import Store
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import DepartmentKind
from kuaixiang.runtime.bus import journal_subject
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.v1.journal_pb2 import Entry, Segment
from tests.hub.journals import MONDAY, Journal

PROVINCES: Final = 4
COUNTIES: Final = 50
ENTRIES_PER_CASE: Final = 7
HANDLING_KINDS: Final = tuple(
    map(int, (DepartmentKind.POLICY, DepartmentKind.COLLECTION, DepartmentKind.INFORMATION, DepartmentKind.LEGAL))
)
OPEN_CASES: Final = 40
"""A bureau's cases under way at a time: their entries mingle, so that a batch rarely holds a whole case."""


def a_tree() -> BureauTree:
    """Headquarters, provinces, one prefecture each, and their counties."""
    bureaus = [Bureau("000000", "hq", Tier.NATIONAL, None)]
    for province in range(1, PROVINCES + 1):
        top, middle = f"{province}10000", f"{province}10100"
        bureaus += [Bureau(top, top, Tier.PROVINCIAL, "000000"), Bureau(middle, middle, Tier.PREFECTURE, top)]
        bureaus += [
            Bureau(f"{province}{10101 + county}", "county", Tier.COUNTY, middle) for county in range(COUNTIES - 2)
        ]
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


def decode_and_hash(messages: list[Message]) -> int:
    """What no hub can do without: decode every segment and entry and verify the chain."""
    count = 0
    for message in messages:
        segment = Segment.FromString(message.data)
        hashes = hashes_of(segment)
        assert hashes[-1] == segment.last_hash
        for entry in segment.entries:
            Entry.FromString(entry.public)
        count += len(hashes)
    return count


def main() -> None:
    """Run and print."""
    parser = results.parser(__doc__)
    parser.add_argument("--entries", type=int, help="entries folded in each round (200000)")
    parser.add_argument("--database", default="")
    parser.add_argument("--segment", type=int, default=100)
    parser.add_argument("--batch", type=int, default=10_000)
    options = results.parse(parser)
    entries = options.entries or (10_000 if options.short else 200_000)
    tree = a_tree()
    messages = messages_of(tree, entries, options.segment)
    per_batch = max(1, options.batch // options.segment)
    bare: list[float] = []
    folded: list[float] = []
    for _ in range(options.rounds):
        started = time.perf_counter()
        count = decode_and_hash(messages)
        bare.append(count / (time.perf_counter() - started))
        with tempfile.TemporaryDirectory(dir=Path.cwd(), prefix=".bench-") as folder:
            url = options.database or f"sqlite:///{folder}/hub.db"
            with Store(url, tree, "000000") as store:
                folder_ = Folder(store=store, now_us=lambda: to_micros(MONDAY))
                started = time.perf_counter()
                taken = sum(
                    folder_.take(messages[at : at + per_batch]).entries for at in range(0, len(messages), per_batch)
                )
                folded.append(count / (time.perf_counter() - started))
        assert taken == count
    rows = [
        results.Row.of("decode and hash", bare, "entries/s"),
        results.Row.of("fold durably", folded, "entries/s", "decode and hash", bare, "≥ 0.35"),
    ]
    results.report("hub_fold", rows, options)


if __name__ == "__main__":
    main()
