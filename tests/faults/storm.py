"""A storm: a federation at work while everything happens to it at once, and what is left of it looked at afterwards.

``python -m tests.faults.storm --kills 250 --partitions 50`` (see `machines.PRIVATE` for what it must be started under).
Services are on machines of their own; they and the NATS servers die by ``kill -9`` at random instants, also while they
start; lines between them drop, reset and lose; meanwhile others stand still, clocks leap, stores are wiped. Who is
restarted, and how soon, is like a service manager's. When it is over, everything is mended and must come right by itself.

The seed decides what is done to whom; what coincides with what is up to the machine.
"""

import argparse
import asyncio
import contextlib
import functools
import json
import os
import random
import shutil
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import asdict, dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from pathlib import Path
from typing import Any, Self

from demo.federation import DATABASE_SIDES, Database, Federation, part_of, service_name, with_endpoints
from demo.mishaps import caught_up
from demo.officers import NoAnswer
from demo.processes import ChildDied, ChildNotRunning, ChildProcess, ProcessError
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.facts import national_tree
from kuaixiang.runtime import pki
from kuaixiang.runtime.bus import Access, Bus, BusError, journal_subject, node_user
from kuaixiang.runtime.writer import EXIT_COMMIT_FAILED
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import statistics_pb2
from tests.faults.checker.check import faults_in
from tests.faults.checker.history import Came, History, HubView, Journal
from tests.faults.forgetful import Mount, mounted
from tests.faults.machines import DROP, LOSE, OWN, RESET, SHARED, TEMPORARY, Cut, Machines, run
from tests.faults.meddler import Meddler
from tests.faults.town import QUIET_SECONDS_MAX, Town, hub_view, journals_of, quiet
from tests.faults.warm import UNDER_LIBFIU, Nursery, WarmChild

MONDAY = datetime(2026, 9, 21, 9, tzinfo=SHANGHAI)
HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR = BUREAUS = ("000000", "110000", "110101", "110105")
HUB = "hub-000000"
CLERKS = 14
CLERK_PAUSE_SECONDS_MAX = 0.25
"""Fourteen officers who pause so: the machine is to be busy with dying and starting, and some acts are always under way."""
POWER_CUTS = 0.6
"""The share of deaths in which the disk's cache is lost too, where there are such disks."""
FULL_DISK = "768m"
"""Room for the databases and their logs, or the NATS stores, of a storm."""
FAKETIME = "/usr/$LIB/faketime/libfaketime.so.1"
"""What faketime(1) has a program load."""
KEEPER_SECONDS = 0.1
"""How often it is looked at who has ended by itself."""
KEEPER_PATIENCE_SECONDS = 1.0
"""What has ended sooner after its start is left for so long: a manager of services does not start it all the time."""
AFTERMATH_SECONDS = 10.0
"""A service may notice only so much later that its database was away."""
ALIVE_SECONDS = (0.05, 4.0)
"""How old a service is, at least, when it is killed: some are killed before they serve, others in the middle of work."""
DOWN_SECONDS_MAX = 0.4
OUTAGE_SECONDS = (0.3, 3.0)
LONG_OUTAGE_SECONDS = (5.0, 12.0)
"""One outage in ten: longer than a line's own patience."""
FAULT_ACTIONS = ("rpc.fault", "web.fault", "delivery.fault", "attachment.fault", "writer.after_commit_failed")
"""Whatever befalls a service, it never says these of itself."""
REPORT = "report.json"
"""In the directory of a storm."""
LOOKS_MAX = 10
"""Until nothing has been recorded during one."""
CALM_SECONDS_MAX = 300.0
"""Until everything serves again."""


class Flavour(StrEnum):
    """What the services keep their data on."""

    SQLITE = "sqlite"
    """On disks that are full at times, and answer with I/O errors."""
    POWER = "power"
    """SQLite and the NATS stores on disks that forget at a power cut what was not synced."""
    POSTGRESQL = "postgresql"
    """A PostgreSQL server that is killed, too."""


@dataclass(frozen=True, slots=True)
class Plan:
    """How hard it storms."""

    flavour: Flavour
    seed: int
    kills: int
    partitions: int
    mishaps: int
    seconds_between_kills: float
    meddled: int
    """1: what bureaus say to each other goes through peers that meddle (`tests.faults.meddler`)."""

    @property
    def arguments(self) -> list[str]:
        """As the command line takes it."""
        return [word for name, value in asdict(self).items() for word in (f"--{name.replace('_', '-')}", str(value))]


@dataclass(slots=True)
class Report:
    """What happened."""

    plan: dict[str, Any]
    faults: dict[str, int] = field(default_factory=dict)
    answered: int = 0
    refused: int = 0
    unknown: int = 0
    cases: int = 0
    travelled: int = 0
    """Cases that are in several ledgers."""
    entries: int = 0
    storm_seconds: float = 0.0
    mending_seconds: float = 0.0
    found: list[str] = field(default_factory=list)
    """What the checker refutes, and what nobody can explain; empty when all is well."""

    def count(self, fault: str, times: int = 1) -> None:
        """One more of this kind, or several."""
        self.faults[fault] = self.faults.get(fault, 0) + times


class StormFederation(Federation):
    """A federation whose services are forked, each on a machine of its own."""

    def __init__(
        self, directory: Path, tree: BureauTree, machines: Machines, database: Database, chance: random.Random | None
    ) -> None:
        self.machines = machines
        self._nurseries: dict[bool, Nursery] = {}
        super().__init__(
            directory,
            tree,
            placement=[(bureau,) for bureau in BUREAUS],
            database=database,
            clock_start=MONDAY,
            hosts=machines.address,
            shared_host=SHARED,
            # A node that waits longer for its witnesses, who die as often as it does, would take no acts at all.
            node_settings={"cosigned_start_seconds": 1, "cosign_seconds": 2},
        )
        self.meddlers: dict[str, Meddler] = {}
        if chance is not None:
            for bureau in BUREAUS:
                self.meddlers[bureau] = Meddler(self, bureau, SHARED, random.Random(chance.random()))
            ports = {bureau: meddler.port for bureau, meddler in self.meddlers.items()}
            self.tree = with_endpoints(self.tree, ports, hosts=dict.fromkeys(ports, SHARED))

    def door(self, bureau: str) -> tuple[str, int]:
        """Where other bureaus and the hub reach it: the address, and the port where the address is not its alone."""
        meddler = self.meddlers.get(bureau)
        return (SHARED, meddler.port) if meddler else (self.node(bureau).host, 0)

    async def start(self) -> Self:
        await super().start()
        for meddler in self.meddlers.values():
            await meddler.start()
        return self

    def _process(self, name: str, command: Sequence[str]) -> ChildProcess:
        return WarmChild(
            name,
            command,
            log=self.directory / "logs" / f"{name}.log",
            environment=self._environment,
            nursery=self._nursery,
            network=self.machines.network(name),
        )

    def _nursery(self, under_libfiu: bool) -> Nursery:
        if under_libfiu not in self._nurseries:
            # Its first child is its own: the modules' compiled code comes from the federation's directory.
            log = self.directory / "logs" / "nursery.log"
            nursery = Nursery(self._environment, log, UNDER_LIBFIU if under_libfiu else ())
            self._nurseries[under_libfiu] = nursery.__enter__()
        return self._nurseries[under_libfiu]

    async def stop(self) -> None:
        for meddler in self.meddlers.values():
            await meddler.stop()
        await super().stop()
        while self._nurseries:
            _, nursery = self._nurseries.popitem()
            nursery.__exit__(None, None, None)


class Patient:
    """A process of the federation that may be killed, with what starts it again. `lock`: somebody is at it."""

    def __init__(self, name: str, process: ChildProcess, start: Callable[[], object]) -> None:
        self.name = name
        self.process = process
        self.lock = asyncio.Lock()
        self.excused_until = 0.0
        """Up to then it may end by itself."""
        self.started = time.monotonic()
        self.cut_power: Callable[[str, float], None] | None = None
        """What its disk forgets, by a seed and the share of unsynced pages that have reached it all the same."""
        self._start = start

    @property
    def free(self) -> bool:
        """Whether nobody is at it and it runs."""
        return not self.lock.locked() and self.process.alive

    @property
    def age_seconds(self) -> float:
        """Since it was started last."""
        return time.monotonic() - self.started

    async def start(self) -> None:
        """Start it, not waiting until it serves. What ends again at once is the keeper's affair.

        As PostgreSQL does while processes of the one that was killed still hold its memory.
        """
        with contextlib.suppress(ProcessError):
            await asyncio.to_thread(self._start)
        self.started = time.monotonic()

    async def kill(self) -> None:
        """Kill -9."""
        with contextlib.suppress(ChildNotRunning):  # it has ended by itself in this moment: it is killed all the same
            await asyncio.to_thread(self.process.kill)

    async def live_under(self, *prefix: str) -> None:
        """Start it as a program of its own under another one, for this one life."""
        assert isinstance(self.process, WarmChild)
        self.process.prefix = prefix
        await self.start()

    async def live_failing(self, calls: str, probability: float) -> None:
        """Start it, and for this one life let calls fail; `calls` is libfiu's name of them."""
        assert isinstance(self.process, WarmChild)
        self.process.failing = (calls, probability)
        await self.start()


class Storm:
    """Does the harm, and undoes it."""

    def __init__(self, federation: StormFederation, plan: Plan, report: Report) -> None:
        self._federation = federation
        self._plan = plan
        self._report = report
        self._machines = federation.machines
        self._killed = 0
        self._partitioned = 0
        self._link_lock = asyncio.Lock()
        sites = federation.sites
        self.services = [
            Patient(service.name, service.process, service.process.start) for service in federation.services
        ]
        self.buses = [Patient(site.domain, site.process, functools.partial(sites._launch, site)) for site in sites.all]
        self.patients = [*self.services, *self.buses]
        self.postgres: Patient | None = None
        if federation._postgres is not None:
            server = federation._postgres
            self.postgres = Patient("postgres", server.process, server.process.start)
            self.patients.append(self.postgres)
        self._mishaps: list[Callable[[random.Random], Awaitable[str]]] = [
            self._freeze,
            self._freeze,
            self._slow,
            self._clock_leaps,
            self._week_without_link,
            self._bus_wiped,
            self._hub_wiped,
            self._process_clock_leaps,
            self._published_again,
            self._certificate_renewed,
        ]
        if plan.flavour is Flavour.SQLITE:
            self._mishaps += [self._databases_full, self._buses_full, self._disk_errors, self._disk_errors]
        self._keeper = asyncio.create_task(self._keep())
        self._keeper.add_done_callback(self._nobody_keeps)

    async def rage(self) -> None:
        """Until as much has been done as was planned."""
        async with asyncio.TaskGroup() as group:
            for number in range(2):
                group.create_task(self._killing(random.Random(f"{self._plan.seed} kills {number}")))
            for number in range(3):
                group.create_task(self._parting(random.Random(f"{self._plan.seed} partitions {number}")))
            group.create_task(self._happening(random.Random(f"{self._plan.seed} mishaps")))

    async def calm(self) -> None:
        """Wait until all that was started again serves; raises ChildNotReady for what does not."""
        if self._federation._postgres is not None:
            server = self._federation._postgres
            await asyncio.to_thread(server.process.wait_ready, server._answers)
        for site in self._federation.sites.all:
            healthy = functools.partial(getattr, site, "healthy")
            await asyncio.to_thread(site.process.wait_ready, healthy, CALM_SECONDS_MAX)
        await asyncio.to_thread(self._federation.sites.wait_linked, None, CALM_SECONDS_MAX)
        deadline = time.monotonic() + CALM_SECONDS_MAX
        for service in self._federation.services:
            while True:
                try:
                    await self._federation.wait_serving(service, CALM_SECONDS_MAX)
                except ChildDied:
                    if time.monotonic() > deadline:
                        raise
                    await asyncio.sleep(KEEPER_PATIENCE_SECONDS)
                else:
                    break

    async def close(self) -> None:
        """Nobody is started again from now on."""
        self._keeper.cancel()
        await asyncio.gather(self._keeper, return_exceptions=True)

    # ------------------------------------------------------------ who keeps them alive

    async def _keep(self) -> None:
        while True:
            for patient in self.patients:
                if (
                    not patient.lock.locked()
                    and not patient.process.alive
                    and patient.age_seconds > KEEPER_PATIENCE_SECONDS
                ):
                    async with patient.lock:
                        self._look_why(patient)
                        await patient.start()
            await asyncio.sleep(KEEPER_SECONDS)

    def _nobody_keeps(self, keeper: asyncio.Task[None]) -> None:
        """It was told to end; or it has failed, and there is nobody left to be killed."""
        failure = None if keeper.cancelled() else keeper.exception()
        if failure is not None:
            self._report.found.append(f"the keeper failed: {failure!r}")
            self._killed = self._plan.kills

    def _look_why(self, patient: Patient) -> None:
        """A process has ended that nobody has killed."""
        status = patient.process.returncode
        if time.monotonic() < patient.excused_until or self._database_is_away:
            self._report.count(f"ended by itself with status {status}, as it should")
            return
        self._report.found.append(f"{patient.name} ended with status {status}: {last_words(patient.process)}")

    @property
    def _database_is_away(self) -> bool:
        return self.postgres is not None and not self.postgres.free

    # ------------------------------------------------------------ kills

    async def _killing(self, chance: random.Random) -> None:
        while self._killed < self._plan.kills:
            await asyncio.sleep(chance.expovariate(0.5 / self._plan.seconds_between_kills))
            least = chance.uniform(*ALIVE_SECONDS)
            kind = chance.random()
            if kind < 0.05 and self.postgres is not None:
                among = [self.postgres]
            elif kind < 0.6:
                among = self.services
            else:
                among = self.buses
            victims = [one for one in among if one.free and one.age_seconds >= least]
            if victims and self._killed < self._plan.kills:
                self._killed += 1
                await self._kill(chance.choice(victims), chance)

    async def _kill(self, victim: Patient, chance: random.Random) -> None:
        async with victim.lock:
            await victim.kill()
            if victim.cut_power is not None and chance.random() < POWER_CUTS:
                reached = chance.choice([0.0, 0.0, 0.5, 0.9])
                await asyncio.to_thread(victim.cut_power, f"{self._plan.seed} {self._killed}", reached)
                self._report.count(f"power cut of {_kind(victim)}")
            else:
                self._report.count(f"kill -9 of {_kind(victim)}")
            await asyncio.sleep(chance.uniform(0, DOWN_SECONDS_MAX))
            await victim.start()
            if victim is self.postgres:
                for service in self.services:
                    service.excused_until = time.monotonic() + AFTERMATH_SECONDS

    # ------------------------------------------------------------ partitions

    async def _parting(self, chance: random.Random) -> None:
        duration = self._plan.kills * self._plan.seconds_between_kills
        while self._partitioned < self._plan.partitions:
            await asyncio.sleep(chance.expovariate(self._plan.partitions / duration / 3))
            if self._partitioned >= self._plan.partitions:
                break
            self._partitioned += 1
            seconds = chance.uniform(*(LONG_OUTAGE_SECONDS if chance.random() < 0.1 else OUTAGE_SECONDS))
            if chance.random() < 0.1:
                self._report.count("partition: leaf link")
                async with self._link_cut():
                    await asyncio.sleep(seconds)
                continue
            told, cuts = self._outage(chance)
            self._report.count(f"partition: {told}")
            await asyncio.to_thread(self._machines.cut, *cuts)
            try:
                await asyncio.sleep(seconds)
            finally:
                await asyncio.to_thread(self._machines.mend, *cuts)

    def _outage(self, chance: random.Random) -> tuple[str, list[Cut]]:
        nodes = [service_name("node", [bureau]) for bureau in BUREAUS]
        how = chance.choice([DROP, DROP, RESET, LOSE])
        word = {DROP: "dropping", RESET: "resetting", LOSE: "losing"}[how]
        one_way = chance.random() < 0.25
        at, bus = self._machines.address, {site.code: site.port for site in self._federation.sites.all}

        def apart(first: str, second: str) -> list[Cut]:
            """Two services, of which the second is a node."""
            cuts = [Cut(at[first], *self._to(second, how, one_way))]
            if first != HUB and not one_way:
                cuts.append(Cut(at[second], *self._to(first, how, one_way)))
            return cuts

        kind = chance.random()
        if kind < 0.4:
            first, second = chance.sample(nodes, 2)
            return f"two nodes, {word}", apart(first, second)
        if kind < 0.55:
            alone = chance.choice(nodes)
            return f"one node alone, {word}", [
                one for other in (*nodes, HUB) if other != alone for one in apart(other, alone)
            ]
        if kind < 0.65:
            some = set(chance.sample(nodes, 2))
            return f"in halves, {word}", [
                one for a in (*nodes, HUB) if a not in some for b in sorted(some) for one in apart(a, b)
            ]
        if kind < 0.8:
            bureau = chance.choice(BUREAUS)
            port = bus[HEADQUARTERS if bureau == HEADQUARTERS else PROVINCE]
            return f"node and NATS, {word}", [Cut(at[service_name("node", [bureau])], SHARED, how, port, one_way)]
        if kind < 0.9:
            return f"hub and NATS, {word}", [Cut(at[HUB], SHARED, how, bus[HEADQUARTERS], one_way)]
        return f"hub and nodes, {word}", [one for node in nodes for one in apart(HUB, node)]

    def _to(self, node: str, how: str, one_way: bool) -> tuple[str, str, int, bool]:
        """A node's side of a cut."""
        host, port = self._federation.door(node.partition("-")[2])
        return host, how, port, one_way

    @contextlib.asynccontextmanager
    async def _link_cut(self) -> AsyncIterator[None]:
        """The leaf link of the province is down; others that cut it meanwhile wait."""
        sites = self._federation.sites
        async with self._link_lock:
            await asyncio.to_thread(sites.cut_link, PROVINCE)
            try:
                yield
            finally:
                await asyncio.to_thread(sites.restore_link, PROVINCE)

    # ------------------------------------------------------------ mishaps

    async def _happening(self, chance: random.Random) -> None:
        duration = self._plan.kills * self._plan.seconds_between_kills
        # Each of them once before any of them twice.
        order: list[Callable[[random.Random], Awaitable[str]]] = []
        for _ in range(self._plan.mishaps):
            if not order:
                order = chance.sample(self._mishaps, len(self._mishaps))
            await asyncio.sleep(chance.expovariate(self._plan.mishaps / duration))
            self._report.count(await order.pop()(chance))

    async def _freeze(self, chance: random.Random) -> str:
        victims = [one for one in [*self.services, *self.buses] if one.free]
        if not victims:
            return "nobody to freeze"
        victim = chance.choice(victims)
        async with victim.lock:
            try:
                victim.process.pause()
                await asyncio.sleep(chance.uniform(0.5, 3))
                victim.process.resume()
            except ChildNotRunning:
                pass  # it ended by itself; the keeper looks why
        return f"SIGSTOP of {_kind(victim)}"

    async def _slow(self, chance: random.Random) -> str:
        name = chance.choice(list(self._machines.address))
        await asyncio.to_thread(self._machines.slow, name, chance.choice([16, 64, 256]))
        await asyncio.sleep(chance.uniform(1, 5))
        await asyncio.to_thread(self._machines.slow, name, 0)
        return "slow line"

    async def _clock_leaps(self, chance: random.Random) -> str:
        self._federation.clock.advance(timedelta(hours=chance.choice([1, 8, 24])))
        return "business clock leaps"

    async def _week_without_link(self, chance: random.Random) -> str:
        async with self._link_cut():
            for _ in range(7):
                await asyncio.sleep(chance.uniform(0.3, 0.8))
                self._federation.clock.advance(timedelta(days=1))
        return "leaf link down for a week"

    async def _bus_wiped(self, chance: random.Random) -> str:
        victim = chance.choice(self.buses)
        site = next(site for site in self._federation.sites.all if site.domain == victim.name)
        async with victim.lock:
            await victim.kill()
            await asyncio.to_thread(shutil.rmtree, site.conf.store, ignore_errors=True)
            await victim.start()
        return "NATS storage wiped"

    async def _hub_wiped(self, chance: random.Random) -> str:
        victim = next(one for one in self.services if one.name == HUB)
        async with victim.lock:
            await victim.kill()
            if self._federation._postgres is None:
                file = self._federation.database_file(HUB)
                for side in DATABASE_SIDES:
                    file.with_name(file.name + side).unlink(missing_ok=True)
            else:
                await asyncio.to_thread(self._drop_database, HUB.replace("-", "_"))
            await victim.start()
        return "hub database wiped"

    async def _process_clock_leaps(self, chance: random.Random) -> str:
        victim = self._some_service(chance)
        if victim is None:
            return "nobody whose clock could leap"
        async with victim.lock:
            await victim.kill()
            hours = chance.choice([-30, -2, 2, 30, 100])
            # Not by the command of that name: it stays the parent, and would be what is killed.
            preload = (f"LD_PRELOAD={FAKETIME}", f"FAKETIME={hours:+d}h", "FAKETIME_DONT_FAKE_MONOTONIC=1")
            await victim.live_under("env", *preload)
        return "process clock leaps"

    async def _published_again(self, chance: random.Random) -> str:
        """Segments come as they come from a publisher whose acknowledgements were lost longer than repeats are known."""
        bureau = chance.choice(BUREAUS)
        office, site = self._federation.office(bureau), self._federation.tree.site(bureau)
        paths = pki.CertificatePaths.in_folder(self._federation.certificates("node", bureau))
        access = Access(url=self._federation.sites[site].url, site=site, user=node_user(bureau), certificates=paths)
        try:
            segments = await office.journal(chance.randint(1, max(1, (await office.head()).seq)))
            async with Bus(access) as bus:
                await bus.wait_connected(OUTAGE_SECONDS[1])
                acks = [
                    await bus.publish_pipelined(
                        journal_subject(site, bureau),
                        segment.SerializeToString(),
                        message_id=f"again {chance.random()}",
                    )
                    for segment in segments
                ]
                await asyncio.gather(*acks)
        except (BusError, NoAnswer, RemoteRefusal):
            return "segments again: nobody there"
        return "segments again after the duplicate window"

    async def _certificate_renewed(self, chance: random.Random) -> str:
        victim = chance.choice(self.services)
        # Nobody starts it meanwhile: between the two files, the key is not that of the certificate.
        async with victim.lock:
            kind: pki.Kind = "hub" if victim.name == HUB else "node"
            codes = [victim.name.removeprefix(f"{kind}-")]
            await asyncio.to_thread(self._federation.issue_certificate, kind, codes)
        return "certificate renewed"

    async def _disk_errors(self, chance: random.Random) -> str:
        victim = self._some_service(chance)
        if victim is None:
            return "nobody whose disk could fail"
        async with victim.lock:
            await victim.kill()
            probability = chance.choice([0.002, 0.02, 0.2])
            # What SQLite alone calls: sockets and logs are written otherwise.
            calls = chance.choice(["posix/io/sync/*", "posix/io/rw/pwrite*", "posix/io/sync/*"])
            victim.excused_until = time.monotonic() + 3600
            await victim.live_failing(calls, probability)
            lived = asyncio.get_running_loop().time() + chance.uniform(4, 8)
            while victim.process.alive and asyncio.get_running_loop().time() < lived:
                await asyncio.sleep(KEEPER_SECONDS)
            if victim.process.alive:
                await victim.kill()
                told = "disk with I/O errors, survived"
            else:
                told = f"disk with I/O errors, ended with status {victim.process.returncode}"
                if victim.process.returncode not in {EXIT_COMMIT_FAILED, 1}:
                    self._report.found.append(f"{victim.name}: {told}: {last_words(victim.process)}")
            await victim.start()
            victim.excused_until = 0.0
        return told

    async def _databases_full(self, chance: random.Random) -> str:
        for service in self.services:
            service.excused_until = time.monotonic() + 3600
        async with self._full(self._federation.directory / "databases", chance):
            await asyncio.sleep(chance.uniform(1, 4))
        for service in self.services:
            service.excused_until = time.monotonic() + AFTERMATH_SECONDS
        return "disk full: databases"

    async def _buses_full(self, chance: random.Random) -> str:
        async with self._full(self._federation.directory / "nats", chance):
            await asyncio.sleep(chance.uniform(1, 4))
        # A nats-server that has met a full disk wants to be started again.
        for bus in self.buses:
            async with bus.lock:
                await bus.kill()
                await bus.start()
        return "disk full: NATS stores"

    @contextlib.asynccontextmanager
    async def _full(self, disk: Path, chance: random.Random) -> AsyncIterator[None]:
        """Nothing is left on the disk, but for a few blocks."""
        ballast = disk / "ballast"
        left = os.statvfs(disk)
        size = max(0, left.f_bavail * left.f_frsize - chance.choice([0, 0, 16, 200, 1000]) * 1024)
        with ballast.open("wb") as file, contextlib.suppress(OSError):
            os.posix_fallocate(file.fileno(), 0, size)
        try:
            yield
        finally:
            ballast.unlink()

    def _some_service(self, chance: random.Random) -> Patient | None:
        free = [one for one in self.services if one.free]
        return chance.choice(free) if free else None

    def _drop_database(self, name: str) -> None:
        assert self._federation._postgres is not None
        for _ in range(50):
            # The server itself may be down just now.
            with contextlib.suppress(Exception), self._federation._postgres._connect() as connection:
                connection.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)'.encode())
                connection.execute(f'CREATE DATABASE "{name}"'.encode())
                return
            time.sleep(0.2)
        raise AssertionError(f"{name} could not be wiped")


def last_words(process: ChildProcess) -> str:
    """The end of its log, on a line."""
    return process.log_tail(1)[:500]


def _kind(patient: Patient) -> str:
    word = patient.name.partition("-")[0]
    return word if word in {"node", "hub", "postgres"} else "nats-server"


@dataclass(frozen=True, slots=True)
class Seen:
    """What one look at a federation has shown."""

    owed: list[str]
    journals: dict[str, Journal]
    listed: dict[str, dict[str, tuple[Stage, Custody]]]
    hub: HubView
    reconciled: statistics_pb2.ReconcileResponse


async def see(federation: Federation) -> Seen:
    """Everything, once nothing is owed and the hub has caught up, or should have."""
    owed = await quiet(federation)
    journals = await journals_of(federation)
    listed = {
        bureau: {
            case.case_id: (Stage(case.stage), Custody(case.custody)) async for case in federation.office(bureau).cases()
        }
        for bureau in federation.bureaus
    }
    with contextlib.suppress(ProcessError):  # what the hub lacks is in the reconciliation, by name
        await caught_up(
            federation, {bureau: journal.head.seq for bureau, journal in journals.items()}, QUIET_SECONDS_MAX
        )
    reconciled = await federation.hub().reconcile()
    return Seen(owed, journals, listed, await hub_view(federation), reconciled)


async def of_one_moment(federation: Federation, seen: Seen) -> bool:
    """Whether nothing has been recorded since, such as what time does to clocks."""
    heads = {bureau: (await federation.office(bureau).head()).seq for bureau in seen.journals}
    return heads == {bureau: journal.head.seq for bureau, journal in seen.journals.items()}


async def look(federation: Federation, town: Town, report: Report) -> None:
    """Everything that must hold, into the report."""
    seen = await see(federation)
    for _ in range(LOOKS_MAX):
        if await of_one_moment(federation, seen):
            break
        seen = await see(federation)
    journals, reconciled = seen.journals, seen.reconciled
    history = History(operations=town.operations, journals=journals, hub=seen.hub)
    came = town.count()
    report.answered, report.refused, report.unknown = came[Came.OK], came[Came.REFUSED], came[Came.UNKNOWN]
    report.cases = len(history.cases)
    report.travelled = sum(len(known) > 1 for known in history.cases.values())
    report.entries = sum(journal.head.seq for journal in journals.values())
    report.found += seen.owed
    report.found += faults_in(history)
    for bureau in federation.bureaus:
        by_journal = {
            case_id: (known[bureau].stage, known[bureau].custody)
            for case_id, known in history.cases.items()
            if bureau in known
        }
        if by_journal != seen.listed[bureau]:
            report.found.append(f"{bureau}: its list of cases is not the fold of its journal")
    report.found += [f"hub: {mismatch}" for mismatch in reconciled.mismatches]
    if (reconciled.ledgers_compared, list(reconciled.unreachable)) != (len(federation.bureaus), []):
        report.found.append(f"hub: compared {reconciled.ledgers_compared}, not {list(reconciled.unreachable)}")
    report.found += faults_logged(federation.directory / "logs")


def faults_logged(logs: Path) -> list[str]:
    """What services say went wrong by their own fault."""
    return [
        f"{log.name}: {line[:600]}"
        for log in sorted(logs.glob("*.log"))
        for line in log.read_text("utf-8", errors="replace").splitlines()
        if any(f'"action": "{action}"' in line for action in FAULT_ACTIONS)
    ]


def prepare_disks(
    stack: contextlib.AsyncExitStack, federation: StormFederation, flavour: Flavour
) -> dict[str, Callable[[str, float], None]]:
    """What databases and NATS stores are on; what cuts the power of each process, by its name."""
    places = [federation.directory / "databases", *(Path(site.conf.store) for site in federation.sites.all)]
    (federation.directory / "logs").mkdir(parents=True)
    if flavour is Flavour.SQLITE:
        for place in (places[0], federation.directory / "nats"):
            place.mkdir()
            run("mount", "-t", "tmpfs", "-o", f"mode=755,size={FULL_DISK}", "tmpfs", str(place))
    if flavour is not Flavour.POWER:
        return {}
    mounts = [
        stack.enter_context(mounted(place, OWN / "backing" / place.name, federation.directory / "logs" / "disks.log"))
        for place in places
    ]

    def cut(mount: Mount, prefix: str) -> Callable[[str, float], None]:
        return lambda seed, reached: mount.cut(prefix, seed, reached)

    services = [service_name("node", [bureau]) for bureau in federation.bureaus]
    return {name: cut(mounts[0], f"/{name}.db") for name in (*services, HUB)} | {
        site.domain: cut(mount, "/") for site, mount in zip(federation.sites.all, mounts[1:], strict=True)
    }


def keep_evidence(live: Path, directory: Path, report: Report) -> None:
    """The logs, and the databases where something was found."""
    for name in ("logs", "databases") if report.found or not report.entries else ("logs",):
        if (live / name).exists():
            shutil.copytree(live / name, directory / name, dirs_exist_ok=True)


async def weather(directory: Path, plan: Plan) -> Report:
    """One storm, and what came of it."""
    report = Report(asdict(plan))
    machines = Machines([*(service_name("node", [bureau]) for bureau in BUREAUS), HUB])
    await asyncio.to_thread(machines.build)
    # In memory: what a disk forgets is the forgetful file system's part, and others may keep this machine's disk busy.
    tempfile.tempdir = str(TEMPORARY)
    live = OWN / "storm"
    database = Database.POSTGRESQL if plan.flavour is Flavour.POSTGRESQL else Database.SQLITE
    tree = part_of(national_tree(), [COUNTY, NEIGHBOUR])
    async with contextlib.AsyncExitStack() as stack:
        stack.callback(keep_evidence, live, directory, report)
        federation = StormFederation(
            live, tree, machines, database, random.Random(f"{plan.seed} meddlers") if plan.meddled else None
        )
        disks = await asyncio.to_thread(prepare_disks, stack, federation, plan.flavour)
        await stack.enter_async_context(federation)
        town = Town(federation, random.Random(f"{plan.seed} town"), CLERK_PAUSE_SECONDS_MAX)
        clerks = [asyncio.create_task(town.clerk()) for _ in range(CLERKS)]
        storm = Storm(federation, plan, report)
        stack.push_async_callback(storm.close)
        for patient in [*storm.services, *storm.buses]:
            if patient.name in disks:
                patient.cut_power = disks[patient.name]
        begun = time.monotonic()
        try:
            await storm.rage()
        finally:
            report.storm_seconds = time.monotonic() - begun
            for meddler in federation.meddlers.values():
                meddler.quiet = True
                for told, count in meddler.done.items():
                    report.count(f"peer: {told}", count)
            begun = time.monotonic()
            await storm.calm()
            town.over = True
            outcomes = await asyncio.gather(*clerks, return_exceptions=True)
        report.found += [f"a terminal failed: {outcome!r}" for outcome in outcomes if outcome is not None]
        await look(federation, town, report)
        report.mending_seconds = time.monotonic() - begun
    return report


def main(arguments: Sequence[str]) -> int:
    """Print the report as JSON; status 1 when something was found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--flavour", type=Flavour, default=Flavour.SQLITE)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1, 10**9))
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--partitions", type=int, default=10)
    parser.add_argument("--mishaps", type=int, default=7)
    parser.add_argument("--seconds-between-kills", type=float, default=1.0)
    parser.add_argument("--meddled", type=int, choices=[0, 1], default=0)
    parser.add_argument("--directory", type=Path, help="where everything is kept; by default removed when all is well")
    asked = vars(parser.parse_args(arguments))
    directory = asked.pop("directory")
    kept = directory or Path(tempfile.mkdtemp(prefix="kuaixiang-storm-"))
    report = asyncio.run(weather(kept, Plan(**asked)))
    told = json.dumps(asdict(report), ensure_ascii=False, indent=1)
    (kept / REPORT).write_text(told, encoding="utf-8")
    print(told)
    if directory is None and not report.found:
        shutil.rmtree(kept)
    elif report.found:
        print(f"logs and ledgers are in {kept}", file=sys.stderr)
    return 1 if report.found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
