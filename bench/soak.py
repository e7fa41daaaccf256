"""A node's core at work without a pause, in virtual time: `python -m bench.soak --minutes 10`.

Officers register cases and see them through to the write-off, with the sweep, the lists and the counts of their work list
in between, at 20 % of what the core can: the business clock moves on by five times what an act has taken. So that every case
ends, what is open is the same number all the time, and whatever grows is kept by mistake. Told are memory, file handles,
time of a core for an act and the latency of an act in the last tenth of what is counted, each against the first tenth; the
first tenth of the run, which fills pools and caches, is not counted. Ten minutes are some fifty of business time.

`--hours 24` spans so many hours of business time instead, however long it runs: the same work without a pause, with as
many deadlines, days and nights passing by.
"""

import asyncio
import gc
import itertools
import os
import secrets
import statistics
import tempfile
import time
from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from random import Random
from typing import Final

from bench import results
from bench.lives import ORDINARY, QUICK, Steps
from bench.million import BUREAU
from demo.content import fictional_taxpayer, load_requests
from demo.processes import memory_bytes
from kuaixiang.domain import acts
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.words import Role, WorkTab
from kuaixiang.domain.worklist import end_of_today
from kuaixiang.facts import national_tree, published_calendar
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.runtime.serving import GARBAGE_THRESHOLDS
from kuaixiang.wire.v1.referral_pb2 import Signature
from node.ledger import queries
from node.ledger.ledger import Ledger
from node.ledger.queries import CaseFilter
from node.office import Header, Office, Place
from node.sweep import Sweep

BEGIN: Final = datetime(2026, 11, 23, 9, 0, tzinfo=SHANGHAI)
OFFICERS: Final = 64
LOAD: Final = 0.2
MINUTES, SHORT_SECONDS = 10.0, 6.0
ORDINARY_SHARE: Final = 0.3
"""Of all cases, those that go the whole way; the others are answered on the spot."""
SAMPLE_ACTS: Final = 200
ACTS_MIN: Final = 20 * SAMPLE_ACTS
LOOK_ACTS: Final = 1_000
"""Between two looks at the work list, and two steps of the sweep."""
WARM_SHARE: Final = 0.1
"""Of the run, at its begin: pools and caches fill."""


@dataclass(slots=True)
class Sample:
    """What some acts took: latencies in milliseconds, the time of a core in seconds, and what is held after them."""

    latencies: "array[float]" = field(default_factory=lambda: array("f"))
    """Four bytes each: a million of Python's own numbers would be a tenth of the memory that is measured."""
    core_seconds: float = 0.0
    memory_bytes: int = 0
    handles: int = 0


def endless(bureau: str) -> Iterator[tuple[acts.Register, Steps]]:
    """Cases without end, each of which ends."""
    chance, requests = Random(bureau), load_requests()
    # A ledger may have been worked at by this program before.
    run = secrets.token_hex(4)
    for nth, request in enumerate(itertools.cycle(requests)):
        taxpayer = fictional_taxpayer(chance, bureau)
        registration = replace(
            request.registered(taxpayer, f"{run}-{nth}"),
            contact=f"154{nth % 10**8:08}",
            text=f"{request.text}（补充：第{nth}号）",
        )
        yield registration, ORDINARY if chance.random() < ORDINARY_SHARE else QUICK


class Core:
    """The core of a node at work for one bureau. `samples` are what was seen, `done` the acts.

    `pace` is how many seconds of business time a second is; 0: as many as make the load `LOAD`.
    """

    def __init__(self, path: Path, bureau: str, begin: datetime, pace: float = 0.0) -> None:
        self.samples: list[Sample] = []
        self.done = 0
        self.clock = FixedClock(begin)
        self.bureau = bureau
        self.ledger = Ledger(f"sqlite:///{path}", [bureau])
        place = Place(national_tree(), published_calendar(), Rules(), self.clock)
        self._office = Office(self.ledger, place, lambda _: Signature())
        self._sweep = Sweep(self._office)
        self._now = Sample()
        self._core = 0.0
        self._todo = endless(bureau)
        self._ends, self._acts_min = 0.0, 0
        self._pace, self._sampled = pace, time.monotonic()
        self.ledger.start()

    async def work(self, seconds: float, acts_min: int) -> None:
        """Works for so many seconds of real time, and until so many more acts are done."""
        self._ends, self._acts_min = time.monotonic() + seconds, self.done + acts_min
        self._core = time.process_time()
        await asyncio.gather(*(self._officer() for _ in range(OFFICERS)))

    async def _officer(self) -> None:
        while time.monotonic() < self._ends or self.done < self._acts_min:
            (registration, then), case_id = next(self._todo), ""
            for role, act in ((Role.REGISTRAR, registration), *then):
                department = "tax-service" if role is Role.TAX_SERVICE else "hall"
                header = Header(
                    bureau=self.bureau,
                    case_id=case_id,
                    actor=f"{role.name.lower()}-1",
                    role=role,
                    department=department,
                )
                started = time.perf_counter()
                case_id = (await self._office.perform(header, act)).case.case_id
                self._now.latencies.append((time.perf_counter() - started) * 1e3)
                self.done += 1
                if self.done % LOOK_ACTS == 0:
                    await self.look()
                if self.done % SAMPLE_ACTS == 0:
                    self._take_sample()

    async def look(self) -> None:
        """What goes on beside the acts."""
        await self._sweep.step()
        now = self.clock.now()
        now_us, today_ends_us = to_micros(now), to_micros(end_of_today(now))
        database = self.ledger.database
        for tab in WorkTab:
            wanted = CaseFilter(bureau=self.bureau, tab=tab, now_us=now_us, today_ends_us=today_ends_us)
            await asyncio.to_thread(queries.list_cases, database, wanted, 0, "", self.ledger.folded)
        await asyncio.to_thread(queries.count_work, database, self.bureau, "", now_us, today_ends_us)

    def _take_sample(self) -> None:
        sample, self._now = self._now, Sample()
        core = time.process_time()
        sample.core_seconds, self._core = core - self._core, core
        now = time.monotonic()
        took, self._sampled = now - self._sampled, now
        # Business goes on five times as long as the core has worked, where no pace is set.
        self.clock.set(self.clock.now() + timedelta(seconds=took * self._pace or sample.core_seconds / LOAD))
        sample.memory_bytes, sample.handles = (
            memory_bytes(os.getpid(), "Anonymous"),
            sum(1 for _ in Path("/proc/self/fd").iterdir()),
        )
        self.samples.append(sample)


def tenth(samples: list[Sample], nth: int) -> list[Sample]:
    """The samples of a tenth of a run."""
    return samples[len(samples) * nth // 10 : max(len(samples) * (nth + 1) // 10, len(samples) * nth // 10 + 1)]


def rows_of(soak: Core) -> list[results.Row]:
    """The last tenth against the first, after what is not counted."""
    counted = soak.samples[int(len(soak.samples) * WARM_SHARE) :]
    first, last = tenth(counted, 0), tenth(counted, 9)

    def p99(samples: list[Sample]) -> float:
        together = sorted(took for sample in samples for took in sample.latencies)
        return together[int(len(together) * 0.99)]

    figures: dict[str, tuple[Callable[[list[Sample]], float], str, str]] = {
        "memory": (lambda some: statistics.median(one.memory_bytes for one in some) / 1e6, "MB", "≤ 1.05"),
        "file handles": (lambda some: statistics.median(one.handles for one in some), "", "≤ 1"),
        "an act's time of a core": (
            lambda some: statistics.median(one.core_seconds for one in some) / SAMPLE_ACTS * 1e3,
            "ms",
            "≤ 1.1",
        ),
        "an act's latency, p50": (
            lambda some: statistics.median(took for one in some for took in one.latencies),
            "ms",
            "",
        ),
        "an act's latency, p99": (p99, "ms", ""),
    }
    rows = [
        results.Row(name="acts", value=soak.done, unit=""),
        results.Row(name="virtual time", value=(soak.clock.now() - BEGIN).total_seconds() / 3600, unit="h"),
    ]
    for name, (figure, unit, target) in figures.items():
        now, before = figure(last), figure(first)
        rows.append(
            results.Row(name=name, value=now, unit=unit, against="first tenth", ratio=now / before, target=target)
        )
    return rows


def main() -> None:
    """Runs the benchmark and reports it."""
    parser = results.parser(__doc__)
    parser.add_argument("--minutes", type=float, help=f"of real time ({MINUTES:.0f})")
    parser.add_argument("--hours", type=float, default=0.0, help="of business time that the run spans, if not at 20 %%")
    arguments = results.parse(parser)
    seconds = SHORT_SECONDS if arguments.short else (arguments.minutes or MINUTES) * 60
    gc.set_threshold(*GARBAGE_THRESHOLDS)
    with tempfile.TemporaryDirectory() as name:
        soak = Core(Path(name) / "ledger.db", BUREAU, BEGIN, arguments.hours * 3600 / seconds)
        asyncio.run(soak.work(seconds, ACTS_MIN))
        soak.ledger.close()
    results.report("soak", rows_of(soak), arguments)


if __name__ == "__main__":
    main()
