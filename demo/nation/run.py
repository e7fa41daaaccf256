"""The whole day: a federation starts, officers work through it, it comes to rest, and every ledger is checked."""

import asyncio
import contextlib
import math
import os
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any, Final

from demo.federation import Federation, child_environment, part_of, require_unused, shared_by_site
from demo.nation import day
from demo.nation.day import FilingDay
from demo.nation.load import CALL_SECONDS, NodeAddress, Orders, Progress, acknowledged
from demo.nation.watching import Sample, Taken, Watched, Watching, draw, require_drawing, taken_by
from demo.processes import ChildProcess
from demo.settling import reconciled, settle
from demo.staff import staff_list
from demo.tally import Acknowledged, Tally, check, compare_pairs
from kuaixiang.domain.tree import BureauTree
from kuaixiang.facts import national_tree
from kuaixiang.runtime import pki
from kuaixiang.wire.v1 import statistics_pb2 as pb

LOOK_SECONDS: Final = 0.25
"""Between two looks at how far registering is; the business clock moves so often."""

SAMPLE_SECONDS: Final = 5.0
"""Between two looks at every process's metrics."""

EVENING_STEP: Final = timedelta(minutes=2)
"""How far the clock moves at each look when all is registered and only acts are left."""

EVENING_WAITING_MAX: Final = 200
"""While more acts than this wait for their turn, it does not move: what is done at 18:00 is not recorded at 20:00."""

SETTLE_SECONDS_MAX: Final = 1_800.0
"""For couriers, sweeps and the hub to come to rest, on two cores after a whole nation's day."""

COSIGN_SECONDS: Final = 900.0
"""Between two showings of a ledger to its witness, of real time: the nation's twelve hours pass in some two, so that
this is an hour or two of the day. In production it is 30 s, in which most bureaus have no entry to show; here every one
of 3,212 would have grown, and 107 heads a second to be cosigned took more of the cores than the officers' acts."""

FEW_NODES_MAX: Final = 16
"""With so many nodes the hub has share enough of the machine; beyond, nodes and officers stand behind it. Not before:
what stands behind does little on a machine that others use, too."""
NICENESS: Final = 10
"""By how much officers do, nodes of most bureaus, and headquarters' own, the witness of most: the machine gives each
process its share, and one part in sixty is too little for hub and NATS sites, for which all of them wait; at 5 the hub
was left behind. In earnest these have machines of their own."""
NICENESS_MAX: Final = 19
"""The machine knows no more (nice(1))."""
SHARE_OF_A_STEP: Final = 1.25
"""By so much the machine's share is less with each further step of niceness (sched(7))."""

FOUND_TOLD_MAX: Final = 50

Tell = Callable[[str], None]


@dataclass(slots=True)
class Simulated:
    """A day that has been simulated and checked."""

    tree: BureauTree
    cases: int
    nodes: int
    sites: int
    seed: int
    progress: Progress
    """Of all processes of officers together."""
    tally: Tally
    reconciliation: pb.ReconcileResponse
    watched: Watched
    at_rest: list[Taken]
    """What each process took before the first case."""
    in_the_end: list[Taken]
    """And when every ledger had come to rest."""
    seconds: dict[str, float] = field(default_factory=dict)
    """Of real time, by part: start, day, settle, midnight; pairs, hub and count are the comparison at the end."""

    @property
    def hub_equals_ledgers(self) -> bool:
        """Whether the hub's own reconciliation and an independent count both found every figure equal."""
        return self.tally.hub_equals_ledgers(self.reconciliation)

    @property
    def sound(self) -> bool:
        """Whether nothing is lost, doubled or different, and every act came about."""
        return self.hub_equals_ledgers and self.tally.sound and not self.progress.faults

    def as_dict(self) -> dict[str, Any]:
        """The figures as plain values, for JSON."""
        tally, seconds, acts = self.tally, self.seconds, self.progress.acts + self.progress.registered
        worked = seconds["day"] + seconds["settle"]
        by_kind: Counter[str] = Counter()
        for one in self.in_the_end:
            by_kind[one.kind] += 1
        return {
            "cases": tally.cases,
            "bureaus": len(self.tree),
            "nodes": self.nodes,
            "sites": self.sites,
            "seed": self.seed,
            "acts": acts,
            "journal_entries": tally.journal_entries,
            "hand_overs": tally.referrals,
            "events": dict(sorted(tally.events.items())),
            "lost": len(tally.lost) + len(tally.lost_acts),
            "duplicated": len(tally.duplicated),
            "broken": len(tally.broken),
            "pairs_that_differ": len(tally.unreconciled),
            "faults": self.progress.faults,
            "retries": self.progress.retries,
            "hub_equals_ledgers": self.hub_equals_ledgers,
            "ledgers_compared": self.reconciliation.ledgers_compared,
            "findings": (tally.findings() + self.progress.told)[:FOUND_TOLD_MAX],
            "seconds": {part: round(value, 1) for part, value in seconds.items()},
            "cases_per_second": round(tally.cases / seconds["day"], 1),
            "acts_per_second": round(acts / seconds["day"], 1),
            "entries_per_second": round(self.watched.samples[-1].committed / worked, 1),
            "backlog_most": {
                what: self.watched.most(what) for what in ("unpublished", "unfolded", "deliveries", "acts_waiting")
            },
            "processes": dict(by_kind),
            "memory_mb": {"at_rest": _memory(self.at_rest), "in_the_end": _memory(self.in_the_end)},
            "cpu_seconds": {
                **_cpu(self.at_rest, self.in_the_end),
                "officers": round(self.progress.cpu_seconds, 1),
            },
            "machine": {"cores": os.cpu_count(), "load_average": [round(load, 1) for load in os.getloadavg()]},
            "taken": [asdict(one) for one in self.in_the_end],
            "samples": [{**asdict(sample), "at": sample.at.isoformat()} for sample in self.watched.samples],
        }


async def simulate(
    directory: Path,
    *,
    cases: int,
    provinces: int,
    seed: int = 1,
    chart: Path | None = None,
    tell: Tell = lambda _: None,
    minutes: float | None = None,
) -> Simulated:
    """Live through the day with so many provinces of the real tree, in `directory`; all of them: the nation.

    `chart` is drawn when the day is over, before anything is compared. `minutes` of real time: after so many nothing
    more is registered, and the day ends with what has come in.

    Raises `DirectoryInUse`, `ChartUnavailable`, `NeverSettled`, `NoAnswer`, and what `Federation.start` does.
    """
    require_unused(directory)
    if chart is not None:
        require_drawing()
    whole = national_tree()
    tree = part_of(whole, day.bureaus_of(whole, day.provinces_of(whole, provinces)))
    crowded = len(shared_by_site(tree)) > FEW_NODES_MAX
    federation = Federation(
        directory,
        tree,
        clock_start=day.OPENS - timedelta(minutes=30),
        staff=staff_list,
        node_settings={"cosign_seconds": COSIGN_SECONDS},
        call_seconds=CALL_SECONDS,
    )
    seconds: dict[str, float] = {}
    tell(f"Starting {len(tree)} bureaus and their NATS sites, the national hub among them…")
    with contextlib.ExitStack() as stack:
        began = time.monotonic()
        async with federation:
            seconds["start"] = time.monotonic() - began
            if crowded:
                # Not before they serve: what stands far behind starts too late beside fifty others that start.
                # And each on one core: its threads take turns all the same, which from core to core costs more.
                cores = os.cpu_count() or 1
                for place, node in enumerate(sorted(federation.nodes, key=lambda one: len(one.codes), reverse=True)):
                    await asyncio.to_thread(node.process.stand_behind, niceness_of(node.codes, tree.root))
                    node.process.keep_to(place % cores)
            at_rest = taken_by(federation)
            tell(
                f"{len(federation.nodes)} nodes and {len(federation.sites.all)} sites serve after "
                f"{seconds['start']:.1f} s and take {_total(at_rest, 'memory_mb'):.0f} MB. "
                f"{day.FILING_DAY} begins: {cases} cases."
            )
            watching = Watching(federation)
            stack.callback(watching.close)
            until = math.inf if minutes is None else time.time() + 60 * minutes
            teams = _teams(federation, cases, seed, until, NICENESS if crowded else 0)
            for team in teams:
                stack.callback(team.process.stop)
            one_day = _Day(federation, FilingDay(tree, cases, seed), teams, watching, tell)
            progress = await _timed(seconds, "day", one_day.live())
            tell(
                f"The day took {seconds['day']:.1f} s: {progress.registered} registered, {progress.acts} acts besides."
            )
            await _timed(seconds, "settle", one_day.come_to_rest())
            federation.clock.advance_to(day.NEXT_DAY)
            tell("Midnight: the sweeps look at every deadline.")
            await _timed(seconds, "midnight", one_day.come_to_rest())
            in_the_end = taken_by(federation)
            if chart is not None:
                title = f"{progress.registered} cases at {len(tree)} bureaus in {len(federation.nodes)} node processes"
                draw(one_day.watched.samples, title, chart)
            tell("Every ledger is compared with its superior's, and read and compared with the hub.")
            answers = [row for team in teams for row in acknowledged(Path(team.orders.acknowledged))]
            reconciliation, tally = await _checked(federation, answers, seconds, tell)
    return Simulated(
        tree=tree,
        cases=cases,
        nodes=len(federation.nodes),
        sites=len(federation.sites.all),
        seed=seed,
        progress=progress,
        tally=tally,
        reconciliation=reconciliation,
        watched=one_day.watched,
        at_rest=at_rest,
        in_the_end=in_the_end,
        seconds=seconds,
    )


def niceness_of(codes: Sequence[str], root: str) -> int:
    """By how much the node of these bureaus stands behind hub and NATS sites: the fewer of them, the further.

    With the same share each, a node of ten bureaus is never without a core and commits every case by itself, while a
    node of a hundred has all that the officers may have under way waiting.
    """
    if root in codes:
        return NICENESS
    behind = math.log(pki.CODES_MAX / len(codes), SHARE_OF_A_STEP)
    return min(NICENESS + round(behind), NICENESS_MAX)


def evening_goes_on(progress: Progress, now: datetime) -> bool:
    """Whether the clock moves on when all is registered: few wait, of all whose turn has come by now.

    Without the latter it ran an hour ahead before officers without a core had told who waits, and 23,000 acts of a
    nation were due at once.
    """
    return progress.waiting < EVENING_WAITING_MAX and progress.woken >= now.timestamp() and now < day.CLOSES


@dataclass(frozen=True, slots=True)
class _Team:
    """A process of officers."""

    orders: Orders
    process: ChildProcess
    niceness: int
    """By how much they stand behind others."""

    def start(self) -> None:
        self.process.start().stand_behind(self.niceness)

    @property
    def progress(self) -> Progress:
        return Progress.read(Path(self.orders.progress))


def _teams(federation: Federation, cases: int, seed: int, until: float, niceness: int) -> list[_Team]:
    """The processes of officers, one for each core, with their orders written, not started."""
    count = os.cpu_count() or 1
    folder = federation.directory / "officers"
    folder.mkdir()
    nodes = [
        NodeAddress(codes=node.codes, endpoint=node.endpoint, terminal=str(node.terminal.certificate.parent))
        for node in federation.nodes
    ]
    teams = []
    for number in range(count):
        orders = Orders(
            tree=str(federation.tree_file),
            clock=str(federation.clock_file),
            nodes=nodes,
            cases=cases,
            seed=seed,
            worker=number,
            workers=count,
            acknowledged=str(folder / f"{number}.acknowledged.tsv"),
            progress=str(folder / f"{number}.progress.json"),
            until=until,
        )
        file = folder / f"{number}.orders.json"
        orders.write(file)
        process = ChildProcess(
            f"officers-{number}",
            [sys.executable, "-m", "demo.nation.load", str(file)],
            log=federation.directory / "logs" / f"officers-{number}.log",
            environment=child_environment(federation.directory),
        )
        teams.append(_Team(orders, process, niceness))
    return teams


class _Day:
    """Moves the clock as far as the officers have come, and looks at what waits."""

    def __init__(
        self, federation: Federation, filing: FilingDay, teams: Sequence[_Team], watching: Watching, tell: Tell
    ) -> None:
        self._federation = federation
        self._filing = filing
        self._teams = teams
        self._watching = watching
        self._tell = tell
        self._told = 0
        self.watched = Watched()

    async def live(self) -> Progress:
        """Until the officers have nothing more to do on this day. Raises `ChildDied`."""
        clock = self._federation.clock
        for team in self._teams:
            await asyncio.to_thread(team.start)
        looking = asyncio.create_task(self._look())
        try:
            while True:
                progress = self._progress()
                if progress.done:
                    break
                self._federation.require_alive()
                for team in self._teams:
                    if not team.progress.done:
                        team.process.require_alive()
                now = clock.now()
                if progress.registered < self._filing.cases and time.time() <= self._teams[0].orders.until:
                    clock.advance_to(max(now, self._filing.time_of(progress.registered)))
                elif evening_goes_on(progress, now):
                    clock.advance_to(min(now + EVENING_STEP, day.CLOSES))
                await asyncio.sleep(LOOK_SECONDS)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)
        clock.advance_to(max(clock.now(), day.CLOSES))
        await self._sample(progress)
        return progress

    async def come_to_rest(self) -> None:
        """Until every ledger has come to rest, nobody is owed anything, and the hub has folded all of it."""
        looking = asyncio.create_task(self._look())
        try:
            await settle(self._federation, timeout_seconds=SETTLE_SECONDS_MAX)
            while (await self._sample(self._progress())).deliveries:
                await settle(self._federation, timeout_seconds=SETTLE_SECONDS_MAX)
        finally:
            looking.cancel()
            await asyncio.gather(looking, return_exceptions=True)

    async def _look(self) -> None:
        while True:
            progress = self._progress()
            sample = await self._sample(progress)
            tenths = 10 * progress.registered // self._filing.cases
            if tenths > self._told:
                self._told = tenths
                self._tell(
                    f"{sample.at:%H:%M}: {progress.registered} cases registered, {progress.acts} acts besides, "
                    f"{sample.committed} entries, of which the hub lacks {sample.unpublished + sample.unfolded}; "
                    f"{sample.deliveries} messages owed to peers; after {sample.seconds:.0f} s."
                )
            await asyncio.sleep(SAMPLE_SECONDS)

    async def _sample(self, progress: Progress) -> Sample:
        sample = await self._watching.look(progress.registered, progress.waiting)
        self.watched.samples.append(sample)
        return sample

    def _progress(self) -> Progress:
        """Of all officers together."""
        parts = [team.progress for team in self._teams]
        return Progress(
            registered=sum(part.registered for part in parts),
            acts=sum(part.acts for part in parts),
            waiting=sum(part.waiting for part in parts),
            travelling=sum(part.travelling for part in parts),
            arrived=sum(part.arrived for part in parts),
            open=sum(part.open for part in parts),
            retries=sum(part.retries for part in parts),
            faults=sum(part.faults for part in parts),
            cpu_seconds=sum(part.cpu_seconds for part in parts),
            told=[told for part in parts for told in part.told],
            woken=min((part.woken for part in parts if not part.done), default=math.inf),
            done=all(part.done for part in parts),
        )


async def _checked(
    federation: Federation, answers: Sequence[tuple[str, Acknowledged]], seconds: dict[str, float], tell: Tell
) -> tuple[pb.ReconcileResponse, Tally]:
    """Each pair of ledgers, the hub's own reconciliation, and our own count of what was acknowledged."""
    tree = federation.tree
    offices = {bureau: federation.office(bureau) for bureau in federation.bureaus}
    superior_of = {bureau: above for bureau in offices if (above := tree.parent(bureau)) is not None}
    unreconciled = await _timed(seconds, "pairs", compare_pairs(offices, superior_of))
    tell(f"{len(superior_of)} pairs of ledgers are compared: {len(unreconciled)} differ; {seconds['pairs']:.0f} s.")
    await settle(federation, timeout_seconds=SETTLE_SECONDS_MAX)
    reconciliation = await _timed(seconds, "hub", reconciled(federation))
    tell(
        f"The hub has read {reconciliation.ledgers_compared} ledgers again, {reconciliation.entries_compared} entries: "
        f"{len(reconciliation.mismatches)} differences, {len(reconciliation.unreachable)} unreachable; "
        f"{seconds['hub']:.0f} s."
    )
    registrations = {key: act.case_id for key, act in answers if act.act == "Register"}
    homes = {act.case_id: act.bureau for _, act in answers if act.act == "Register"}
    counted = check(offices, federation.hub(), registrations, homes, (act for _, act in answers))
    tally = await _timed(seconds, "count", counted)
    tally.unreconciled += unreconciled
    return reconciliation, tally


async def _timed(seconds: dict[str, float], part: str, work: Any) -> Any:  # noqa: ANN401 - whatever it comes to
    began = time.monotonic()
    result = await work
    seconds[part] = time.monotonic() - began
    return result


def _memory(taken: Sequence[Taken]) -> dict[str, float]:
    """Megabytes by kind of process, of all, and of the largest node."""
    found: dict[str, float] = {"all": _total(taken, "memory_mb")}
    for kind in sorted({one.kind for one in taken}):
        found[kind] = _total([one for one in taken if one.kind == kind], "memory_mb")
    found["largest_node"] = max(one.memory_mb for one in taken if one.kind == "node")
    return found


def _cpu(before: Sequence[Taken], after: Sequence[Taken]) -> Mapping[str, float]:
    """Seconds of a core by kind of process, between two looks."""
    was = {one.name: one.cpu_seconds for one in before}
    found: Counter[str] = Counter()
    for one in after:
        found[one.kind] += one.cpu_seconds - was.get(one.name, 0.0)  # type: ignore[assignment]  # a sum of floats
    return {kind: round(value, 1) for kind, value in found.items()}


def _total(taken: Sequence[Taken], what: str) -> float:
    return round(sum(float(getattr(one, what)) for one in taken), 1)
