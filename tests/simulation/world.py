"""A federation that lives a schedule: three nodes, their site, a hub, officers; and what was seen of it."""

import asyncio
import contextlib
import contextvars
import functools
import itertools
import random
import sys
from collections.abc import Callable, Iterator, MutableMapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Final, Self
from unittest import mock

import sqlalchemy as sa
import structlog

import hub.store
import kuaixiang.runtime.loops
import kuaixiang.runtime.writer
import node.events.publisher
import node.federation.cosigner
import node.federation.courier
import node.ledger.ledger
import node.restoration
from hub.bulk import Bulk
from hub.cells import grounds_of, thawed
from hub.measures import measure_name
from hub.store import ALONE, OPEN_CASES, read_tallies
from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.acts import Act
from kuaixiang.domain.case import Case
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.order_acts import OrderAct
from kuaixiang.domain.tree import Bureau, BureauTree, Tier
from kuaixiang.domain.words import (
    Category,
    Channel,
    Custody,
    OrderLevel,
    OrderStage,
    ReferralKind,
    Role,
    Satisfaction,
    Stage,
    Telling,
)
from kuaixiang.facts import published_calendar
from kuaixiang.runtime.bus import BusError, journal_subject
from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.runtime.database import Database
from kuaixiang.wire import chain
from kuaixiang.wire.v1 import referral_pb2
from kuaixiang.wire.v1.journal_pb2 import Head, Segment, SegmentEntry
from node.ledger import evidence, queries, schema
from node.ledger.database import LedgerDatabase
from node.office import Header, Place
from tests.faults.checker.check import faults_in
from tests.faults.checker.history import Came, History, HubView, Journal, Operation
from tests.simulation.disk import Disk
from tests.simulation.loop import NothingLeft, SimulatedLoop
from tests.simulation.network import CALM, Away, Network, Site
from tests.simulation.processes import (
    Died,
    Doom,
    Hub,
    KeyedSeal,
    Node,
    Process,
    SteppedWriter,
    own,
)
from tests.simulation.schedule import Kind, Schedule, Step

HEADQUARTERS, PROVINCE, COUNTY, NEIGHBOUR = "000000", "110000", "110101", "110105"
BUREAUS: Final = (PROVINCE, COUNTY, NEIGHBOUR)
WITNESSED: Final = (COUNTY, NEIGHBOUR)
"""Whose ledgers the province cosigns, in lives in which one of them is restored."""
TREE: Final = BureauTree(
    "simulated",
    (
        Bureau(HEADQUARTERS, "headquarters", Tier.NATIONAL, None),
        # Only a bureau whose node can be reached is a witness.
        Bureau(PROVINCE, "Beijing", Tier.PROVINCIAL, HEADQUARTERS, endpoint="110000:7000"),
        Bureau(COUNTY, "Dongcheng", Tier.COUNTY, PROVINCE),
        Bureau(NEIGHBOUR, "Chaoyang", Tier.COUNTY, PROVINCE),
    ),
)
MONDAY: Final = datetime(2026, 9, 21, 1, tzinfo=UTC)
HUB_MIGRATIONS: Final = Path(hub.store.__file__).parent / "migrations"
CALENDAR: Final = published_calendar()
CALL_SECONDS: Final = 5.0
ATTEMPTS_MAX: Final = 3
DOWN_SECONDS: Final = (0.1, 6.0)
CUT_SECONDS: Final = (1.0, 20.0)
STALL_SECONDS: Final = (1.0, 15.0)
OLDER_COPY_SECONDS: Final = (1.0, 6.0, 20.0, 38.0)
"""After a ledger went on in a new generation its older copy publishes, before and after the hub has heard of it."""
BACKUP_SECONDS: Final = (2.0, 15.0)
"""So old is the copy that a ledger is put back to."""
COSIGNED_SECONDS_MAX: Final = 60
REST_SECONDS_MIN: Final = 30.0
"""Late messages have come by then."""
REST_SECONDS_MAX: Final = 1_800.0
"""What was set aside is tried again every ten minutes at the longest."""
LOOK_SECONDS: Final = 5.0
SECOND_THOUGHTS: Final = 0.3
"""So many hand-overs are withdrawn at once, while the offer is perhaps still under way."""
Chosen = tuple[str, Role, Act, str]
"""Bureau, role, act, and the case or order that it is about."""


@dataclass(frozen=True, slots=True)
class Lived:
    """What came of a schedule."""

    schedule: Schedule
    faults: list[str]
    history: History | None = None

    @property
    def answered(self) -> int:
        return sum(one.came is Came.OK for one in self.history.operations) if self.history else 0


class Theatre:
    """The disks that lives are lived on, one after the other. Opening and migrating them is most of a short life."""

    def __init__(self) -> None:
        self.disks = {bureau: Disk(LedgerDatabase) for bureau in BUREAUS}
        self.disks["hub"] = Disk(lambda url: Database(url, service="hub", migrations=HUB_MIGRATIONS))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for disk in self.disks.values():
            disk.close()

    def live(self, schedule: Schedule) -> Lived:
        """Lives a schedule from its beginning to its rest, and holds the checker's rules against it."""
        for disk in self.disks.values():
            disk.wipe()
        loop = SimulatedLoop()
        loop.set_task_factory(own)
        world = World(loop, schedule, self.disks)
        with stand_ins(world):
            try:
                loop.run_until_complete(world.live())
            except NothingLeft:
                world.noise.append("the simulation: everybody waits for ever")
            finally:
                world.end()
            try:
                history = world.history()
                faults = faults_in(history) + world.lists_differ(history)
            except Exception as failure:
                return Lived(schedule, [f"what the databases hold cannot be read: {failure!r}"])
        return Lived(schedule, faults + [f"a service failed: {one}" for one in world.noise], history)


class World:
    """One life."""

    def __init__(self, loop: SimulatedLoop, schedule: Schedule, disks: dict[str, Disk]) -> None:
        self.loop = loop
        self.schedule = schedule
        self.clock = FixedClock(MONDAY)
        self.network = Network(loop, schedule.seed, schedule.weather)
        self.site = Site(self.network, PROVINCE, in_order=schedule.in_order)
        self.noise: list[str] = []
        self.operations: list[Operation] = []
        self.cases: list[str] = []
        self.orders: list[tuple[str, str]] = []
        self.forged: set[str] = set()
        self.disks = disks
        self.over = False
        self._ids = itertools.count()
        place = Place(TREE, CALENDAR, Rules(), self.clock)
        self.nodes = {
            bureau: Node(
                loop=loop, network=self.network, bureau=bureau, disk=disks[bureau], place=place, site=self.site
            )
            for bureau in BUREAUS
        }
        self.hub = Hub(loop=loop, network=self.network, disk=disks["hub"], tree=TREE, clock=self.clock, site=self.site)
        self.hub.may_refill = schedule.refill
        self.hub.nodes = self.nodes
        self.processes: tuple[Process, ...] = (*self.nodes.values(), *([self.hub] if schedule.counted else []))
        for one in self.nodes.values():
            one.peers = self.nodes
            one.publishes = schedule.counted
            one.fallen = self._comes_back
        if any(step.kind is Kind.RESTORED for step in schedule.steps):
            for bureau in WITNESSED:
                self.nodes[bureau].cosigned_by = PROVINCE
        self.hub.fallen = self._comes_back
        loop.set_exception_handler(self._unhandled)

    def chance(self, step: Step) -> random.Random:
        return random.Random(f"{self.schedule.seed}/step/{step.number}")

    # ------------------------------------------------------------ a life

    async def live(self) -> None:
        for process in self.processes:
            await self._start(process)
        officers = []
        begun = self.loop.now
        for step in self.schedule.steps:
            await self._until(begun + step.at)
            if step.kind in {Kind.ACT, Kind.ORDER}:
                officers.append(self.loop.create_task(self._act(step)))
            else:
                self._befall(step, self.chance(step))
        await asyncio.gather(*officers)
        await self._rest()

    async def _until(self, at: float) -> None:
        before = self.loop.now
        if at > before:
            await asyncio.sleep(at - before)
            self.clock.advance(timedelta(seconds=at - before))

    async def _rest(self) -> None:
        """Everything is mended (or, in a life that does not settle, one link is not), and comes to rest."""
        self.over = True
        self.network.weather = CALM
        self.network.cut.clear()
        self.site.up = True
        self.site.epoch += 1
        for process in self.processes:
            if not process.alive:
                await self._start(process)
        self._sweep()
        if not self.schedule.settled:
            self.network.cut.add(frozenset({PROVINCE, COUNTY}))
            await asyncio.sleep(REST_SECONDS_MIN)
            return
        begun = self.loop.now
        while self.loop.now < begun + REST_SECONDS_MAX:
            await asyncio.sleep(LOOK_SECONDS)
            self.clock.advance(timedelta(seconds=LOOK_SECONDS))
            for process in self.processes:
                if not process.alive:
                    await self._start(process)
            if self.loop.now >= begun + REST_SECONDS_MIN and self._quiet():
                return

    def _quiet(self) -> bool:
        marks = self.hub.folder.marks() if self.schedule.counted else None
        return all(
            not one.restores
            and not queries.owed_peers(one.disk.database)
            and (marks is None or one.name in self.forged or one.ledger.heads[one.name].seq == _seq(marks, one.name))
            for one in self.nodes.values()
        )

    def end(self) -> None:
        """The power goes everywhere, and what is left of tasks with it."""
        self.over = True
        for process in self.processes:
            process.lose_power()
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        with contextlib.suppress(NothingLeft):
            self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.run_until_complete(asyncio.sleep(0))
        self.loop.close()

    async def _start(self, process: Process) -> None:
        """Starts it, waiting until it has begun, or has died again: a restored ledger writes before it serves."""
        begun = process.run(process.start())
        await asyncio.wait({begun})
        if not begun.cancelled():
            begun.result()

    def _comes_back(self, process: Process) -> None:
        """A process that died starts again after a while, unless it has been started meanwhile."""
        if process.deaths:
            self.noise += [f"{process.name}: {death}" for death in process.deaths]
            process.deaths = []
        self.loop.spawn(self._back(process, DOWN_SECONDS[0]), context=contextvars.Context())

    async def _back(self, process: Process, seconds: float) -> None:
        await asyncio.sleep(seconds)
        if not process.alive:
            await self._start(process)

    def _unhandled(self, loop: Any, context: dict[str, Any]) -> None:
        failure = context.get("exception")
        if not self.over and not isinstance(failure, asyncio.CancelledError):
            self.noise.append(f"{context.get('message')}: {failure!r}")

    def log(self, _: Any, method: str, event: MutableMapping[str, Any]) -> Any:
        """Takes the services' logs: what they call a fault of their own is one."""
        failure = sys.exc_info()[1]
        expected = event.get("action") == "hub.quarantine" or isinstance(failure, BusError)
        if method in {"error", "exception", "critical"} and not expected:
            self.noise.append(f"{event.get('event')} ({event.get('action')})")
        raise structlog.DropEvent

    # ------------------------------------------------------------ what befalls

    def _befall(self, step: Step, chance: random.Random) -> None:
        victim = self.nodes[chance.choice(BUREAUS)]
        kind = step.kind
        match kind:
            case Kind.KILL | Kind.POWER | Kind.REBUILD:
                victim.rebuilds = kind is Kind.REBUILD
                self._fell(victim, chance, power=kind is Kind.POWER)
            case Kind.BEFORE_COMMIT | Kind.AFTER_COMMIT:
                victim.doom = Doom(before=kind is Kind.BEFORE_COMMIT)
            case Kind.STALL:
                victim.stalled_until = self.loop.now + chance.uniform(*STALL_SECONDS)
            case Kind.CUT:
                pair = frozenset(chance.sample((PROVINCE, COUNTY, NEIGHBOUR), 2))
                self.network.cut.add(pair)
                self.loop.call_later(chance.uniform(*CUT_SECONDS), self.network.cut.discard, pair)
            case Kind.CLOCK:
                self.clock.advance(timedelta(hours=chance.choice((1, 8, 24, 24 * 8))))
                self._sweep()
            case Kind.STALE_OFFER:
                self._offer_anew(chance)
            case Kind.HUB_KILL:
                self._fell(self.hub, chance, power=chance.random() < 0.5)
            case Kind.HUB_BEFORE_COMMIT | Kind.HUB_AFTER_COMMIT:
                self.hub.doom = Doom(before=kind is Kind.HUB_BEFORE_COMMIT)
            case Kind.SITE_DOWN:
                self.site.up = False
                self.loop.call_later(chance.uniform(*CUT_SECONDS), self._site_comes_back)
            case Kind.SITE_WIPED:
                self.site.wipe()
            case Kind.AGAIN:
                self.site.deliver_again()
            case Kind.FORGOTTEN:
                self.site.forget_ids()
            case Kind.FORGED:
                segments = victim.segments()
                if segments:
                    self.forged.add(victim.name)
                    self._publish_falsely(segments[-1], prev_hash=sha256(b"forged").digest())
            case Kind.GENERATION:
                segments = victim.segments()
                if segments:
                    self._fell(victim, chance, power=False)
                    victim.opens_generation, victim.rebuilds = True, False
                    self.loop.spawn(self._older_copy(segments[-1]))
            case Kind.RESTORED:
                self.loop.spawn(self._put_back(self.nodes[chance.choice(WITNESSED)], chance))
            case _:
                raise AssertionError(kind)

    def _sweep(self) -> None:
        """The sweeps' steps, where time leaps: asking all the while would be most of a life's cost."""
        if not any(step.kind is Kind.CLOCK for step in self.schedule.steps):
            return
        for one in self.nodes.values():
            if one.serves:
                one.spawn(one.sweep.step())

    def _fell(self, process: Process, chance: random.Random, *, power: bool) -> None:
        if power:
            process.lose_power()
        else:
            process.kill()
        self.loop.spawn(self._back(process, chance.uniform(*DOWN_SECONDS)))

    def _site_comes_back(self) -> None:
        self.site.up = True
        self.site.epoch += 1

    async def _put_back(self, victim: Node, chance: random.Random) -> None:
        """A ledger is copied, works on, and is put back to the copy at a moment when all of it has been cosigned.

        What is recorded after the last cosignature is lost with a disk, and nobody could say that it is not.
        """
        copy = victim.disk.copied()
        await asyncio.sleep(chance.uniform(*BACKUP_SECONDS))
        for _ in range(COSIGNED_SECONDS_MAX):
            if victim.alive and not victim.restores and self._is_cosigned(victim):
                victim.kill()
                victim.disk.put_back(copy)
                victim.restores, victim.rebuilds = True, False
                self.loop.spawn(self._back(victim, chance.uniform(*DOWN_SECONDS)))
                return
            await asyncio.sleep(chance.uniform(0.5, 1.5))

    def _is_cosigned(self, victim: Node) -> bool:
        """Whether it has its witness's answer for the end of its journal."""
        head = _head(victim)
        kept = evidence.cosigned(victim.disk.database)
        return [(head.generation, head.seq, head.hash)] == [(one.generation, one.seq, one.hash) for one in kept]

    async def _older_copy(self, last: Segment) -> None:
        """A copy of a ledger goes on by itself from where that was, in its generation."""
        begun = self.loop.now
        for seconds in OLDER_COPY_SECONDS:
            await asyncio.sleep(begun + seconds - self.loop.now)
            last = self._publish_falsely(last, prev_hash=last.last_hash)

    def _publish_falsely(self, last: Segment, *, prev_hash: bytes) -> Segment:
        """Publishes an entry that goes on from a segment by its place, and from `prev_hash`."""
        seq, public = last.first_seq + len(last.entries), last.entries[-1].public
        false = Segment(
            bureau=last.bureau,
            generation=last.generation,
            first_seq=seq,
            prev_hash=prev_hash,
            entries=[SegmentEntry(public=public, private_digest=bytes(32))],
            last_hash=chain.links(prev_hash, last.generation, seq, [(bytes(32), public)])[-1],
        )
        subject, message_id = journal_subject(PROVINCE, last.bureau), f"false {next(self._ids)}"
        self.site.store(subject, false.SerializeToString(), message_id)
        return false

    def _offer_anew(self, chance: random.Random) -> None:
        """An offer as a ledger restored from an old copy would make it: signed, of an epoch that has been."""
        known = [
            (one, case)
            for one in self.nodes.values()
            if one.alive
            for case_id in self.cases
            if (case := one.ledger.cached(one.name, case_id)) is not None and case.epoch >= 1
        ]
        if not known:
            return
        receiver, case = chance.choice(known)
        sender = PROVINCE if receiver.name != PROVINCE else chance.choice((COUNTY, NEIGHBOUR))
        offer = referral_pb2.Offer(
            referral_id=f"anew-{chance.randrange(10**9)}",
            case_id=case.case_id,
            epoch=chance.randint(1, case.epoch),
            from_bureau=sender,
            to_bureau=receiver.name,
            final_bureau=receiver.name,
            path=[sender],
            referral_kind=int(ReferralKind.REFER if sender == PROVINCE else ReferralKind.ESCALATE),  # type: ignore[arg-type]
            reason="移交",
            snapshot=referral_pb2.Snapshot(
                origin_bureau=case.origin_bureau,
                registered_at_us=to_micros(case.registered_at),
                taxpayer_name="澄筠野百货商行",
                contact="15400001234",
                text="要不要单独缴税？",
                category=int(case.category),  # type: ignore[arg-type]
                channel=int(case.channel),  # type: ignore[arg-type]
            ),
            offered_at_us=to_micros(self.clock.now()),
        )
        payload = offer.SerializeToString()
        request = referral_pb2.OfferRequest(offer=payload, signature=KeyedSeal(sender).sign(payload))

        async def send() -> None:
            with contextlib.suppress(Refused, Away):
                await receiver.answer("referrals", "Offer", request, sender)

        self.loop.spawn(send())

    # ------------------------------------------------------------ officers

    async def _act(self, step: Step) -> None:
        """One act by one officer, and now and then his second thoughts."""
        chance = self.chance(step)
        chosen = self._order_act(chance) if step.kind is Kind.ORDER else self._case_act(chance)
        if chosen is None:
            return
        await self._do(chosen, f"officer-{step.number}", chance)
        bureau, _, act, subject = chosen
        if isinstance(act, (acts.Refer, acts.Return)) and chance.random() < SECOND_THOUGHTS:
            await asyncio.sleep(chance.uniform(0, 1.0))
            back = (bureau, Role.TAX_SERVICE, acts.WithdrawOffer(reason="收回"), subject)
            await self._do(back, f"officer-{step.number}-again", chance)

    async def _do(self, chosen: "Chosen", actor: str, chance: random.Random) -> None:
        """Asks for an act, and again under its key while there is no answer."""
        bureau, role, act, subject = chosen
        key = f"key of {actor}"
        digest = sha256(repr((bureau, actor, act, subject)).encode()).digest()
        department = "goods-services-tax" if role is Role.HANDLER else "tax-service"
        header = Header(
            bureau=bureau,
            case_id=subject,
            actor=actor,
            role=role,
            department=department,
            request_key=key,
            digest=digest,
        )
        restorations = self.nodes[bureau].restorations
        for _ in range(ATTEMPTS_MAX):
            invoked = self.loop.now
            came, case_id, seq = await self._ask(header, act, restorations)
            self.operations.append(
                Operation(
                    actor=actor,
                    bureau=bureau,
                    act=type(act).__name__,
                    came=came,
                    case_id=case_id or subject,
                    seq=seq,
                    invoked_at=invoked,
                    completed_at=self.loop.now,
                    may_be_so=isinstance(act, acts.WithdrawOffer),
                )
            )
            if came is Came.OK and isinstance(act, acts.Register):
                self.cases.append(case_id)
            if came is Came.OK and isinstance(act, order_acts.IssueOrder):
                self.orders.append((bureau, case_id))
            if came is not Came.UNKNOWN:
                return
            await asyncio.sleep(chance.uniform(0.1, 4.0))

    async def _ask(self, header: Header, act: Act, restorations: int) -> tuple[Came, str, int]:
        """One question. A ledger that was restored since the first does not know its key any more: it is not asked again."""
        there = self.nodes[header.bureau]
        fate = self.network.fate("officer", header.bureau, header.actor)
        if not fate.copies:
            await asyncio.sleep(CALL_SECONDS)
            return Came.UNKNOWN, "", 0
        await asyncio.sleep(fate.copies[0])
        if not there.serves or there.restorations != restorations:
            return Came.UNKNOWN, "", 0
        try:
            async with asyncio.timeout(CALL_SECONDS):
                if isinstance(act, OrderAct):
                    issued = await there.within(there.office.orders.perform(header, act))
                    case_id, seq = issued.orders[0].order_id, issued.seq
                else:
                    done = await there.within(there.office.perform(header, act))
                    case_id, seq = done.case.case_id, done.seq
        except Refused:
            return (Came.UNKNOWN if fate.answer is None else Came.REFUSED), "", 0
        except (Away, TimeoutError):
            return Came.UNKNOWN, "", 0
        if fate.answer is None:
            return Came.UNKNOWN, "", 0
        await asyncio.sleep(fate.answer)
        return Came.OK, case_id, seq

    def _case_act(self, chance: random.Random) -> Chosen:
        if not self.cases or chance.random() < 0.2:
            return chance.choice(BUREAUS), Role.REGISTRAR, _register(chance), ""
        case_id = chance.choice(self.cases[-3:])
        seen = {
            one.name: case
            for one in self.nodes.values()
            if one.alive and (case := one.ledger.cached(one.name, case_id)) is not None
        }
        held = [bureau for bureau, case in seen.items() if case.custody is not Custody.RELEASED]
        bureau = chance.choice(held) if held and chance.random() < 0.8 else chance.choice(BUREAUS)
        role, act = _next(bureau, seen.get(bureau), chance)
        return bureau, role, act, case_id

    def _order_act(self, chance: random.Random) -> Chosen | None:
        if not self.orders or chance.random() < 0.4:
            issue = order_acts.IssueOrder(
                final_bureau=chance.choice((COUNTY, NEIGHBOUR)),
                level=next(iter(OrderLevel)),
                text="请说明办理进展",
                answer_workdays=2,
            )
            return PROVINCE, Role.SUPERVISOR, issue, ""
        _, order_id = chance.choice(self.orders)
        seen = [
            (one.name, order)
            for one in self.nodes.values()
            if one.alive and (order := one.ledger.cached_order(one.name, order_id)) is not None
        ]
        if not seen:
            return None
        bureau, order = chance.choice(seen)
        mine: dict[OrderStage, tuple[Role, OrderAct]]
        if order.ends_here:
            mine = {
                OrderStage.RECEIVED: (Role.TAX_SERVICE, order_acts.AcknowledgeOrder()),
                OrderStage.ACKNOWLEDGED: (Role.TAX_SERVICE, order_acts.AnswerOrder(answer="已联系纳税人")),
                OrderStage.RETURNED: (Role.TAX_SERVICE, order_acts.AnswerOrder(answer="已办结")),
            }
        else:
            mine = {
                OrderStage.ANSWERED: (
                    Role.SUPERVISOR,
                    chance.choice(
                        (order_acts.AcceptAnswer(), order_acts.ReturnAnswer(reason="不全", answer_workdays=1))
                    ),
                ),
            }
        role, act = mine.get(order.stage, (Role.SUPERVISOR, order_acts.CancelOrder(reason="不再需要")))
        return bureau, role, act, order_id

    # ------------------------------------------------------------ what was seen

    def history(self) -> History:
        """What clients were answered, and what is on the disks."""
        journals = {bureau: Journal(_head(one), one.segments()) for bureau, one in self.nodes.items()}
        alarmed = {
            (bureau, delivery.case_id)
            for bureau, one in self.nodes.items()
            for peer in BUREAUS
            for delivery in queries.deliveries(one.disk.database, bureau, peer, 1_000)
        }
        return History(
            operations=self.operations,
            journals=journals,
            hub=self._hub_view() if self.schedule.counted else None,
            settled=self.schedule.settled,
            alarmed=frozenset(alarmed),
            suspected=frozenset(self.forged),
        )

    def _hub_view(self) -> HubView:
        marks = self.hub.marks()
        facts: dict[str, dict[str, int]] = {}
        shown: dict[str, set[str]] = {}
        with self.hub.store.reading() as connection:
            for _, bureau, cells in read_tallies(connection, ALONE):
                mine = facts.setdefault(bureau, {})
                for cell, value in thawed(cells).items():
                    name = measure_name(grounds_of(cell)[-1])
                    mine[name] = mine.get(name, 0) + value
            for row in connection.execute(sa.select(OPEN_CASES)):
                shown.setdefault(row.bureau, set()).add(row.case_id)
        return HubView(
            facts=facts,
            marks={bureau: (mark.generation, mark.seq, mark.hash) for bureau, mark in marks.items()},
            quarantined={bureau: mark.quarantine for bureau, mark in marks.items() if mark.quarantine},
            open_cases={bureau: frozenset(known) for bureau, known in shown.items()},
        )

    def lists_differ(self, history: History) -> list[str]:
        """Where a ledger's list of cases is not what its journal folds to."""
        found = []
        for bureau, one in self.nodes.items():
            with one.disk.database.reading() as connection:
                rows = connection.execute(sa.select(schema.CASES)).all()
            listed = {row.case_id: (Stage(row.stage), Custody(row.custody)) for row in rows}
            folded = {
                case_id: (known[bureau].stage, known[bureau].custody)
                for case_id, known in history.cases.items()
                if bureau in known
            }
            found += [
                f"lists: {case_id}: {bureau} lists {listed.get(case_id)}, its journal says {folded.get(case_id)}"
                for case_id in sorted(listed.keys() | folded.keys())
                if listed.get(case_id) != folded.get(case_id)
            ]
        return found


def _seq(marks: Any, bureau: str) -> int:
    return marks[bureau].seq if bureau in marks else 0


def _head(one: Node) -> Head:
    with one.disk.database.reading() as connection:
        rows = connection.execute(sa.select(schema.BUREAUS)).all()
    for row in rows:
        return Head(bureau=row.bureau, generation=row.generation, seq=row.seq, hash=bytes(row.hash))
    return Head(bureau=one.name, generation=1, seq=0, hash=bytes(32))


def _register(chance: random.Random) -> acts.Register:
    return acts.Register(
        taxpayer_name="澄筠野百货商行",
        contact="15400001234",
        text="季度销售额没有超过三十万元，两张专票要不要单独缴税？",
        category=chance.choice(tuple(Category)),
        channel=Channel.COUNTER,
    )


def _next(bureau: str, case: Case | None, chance: random.Random) -> tuple[Role, Act]:
    """Something that may be possible for the case as it is seen."""
    others = [other for other in BUREAUS if other != bureau]
    away = acts.Refer(final_bureau=chance.choice(others), reason="移交", telling=Telling.COMPLICATED)
    back = acts.Return(reason="不属本局")
    if case is None:
        return Role.TAX_SERVICE, away
    if case.custody is Custody.OFFERED and chance.random() < 0.7:
        return Role.TAX_SERVICE, acts.WithdrawOffer(reason="收回")
    gone = acts.Withdraw(reason="不办了")
    choices: dict[Stage, list[tuple[Role, Act]]] = {
        Stage.REGISTERED: [
            (Role.REGISTRAR, acts.Forward(telling=Telling.COMPLICATED)),
            (Role.REGISTRAR, away),
            (Role.REGISTRAR, away),
            (Role.REGISTRAR, acts.AnswerOnTheSpot(answer="不用缴税")),
            (Role.REGISTRAR, gone),
        ],
        Stage.FORWARDED: [
            (Role.TAX_SERVICE, acts.Dispatch(to_department="goods-services-tax")),
            (Role.TAX_SERVICE, away),
            (Role.TAX_SERVICE, away),
            (Role.TAX_SERVICE, back),
            (Role.REGISTRAR, gone),
        ],
        Stage.HANDLING: [
            (Role.HANDLER, acts.Complete(result="不用缴税")),
            (Role.HANDLER, away),
            (Role.HANDLER, back),
        ],
        Stage.COMPLETED: [(Role.HANDLER, acts.GiveFeedback(told_by=Channel.HOTLINE, told="已电话告知"))],
        Stage.FED_BACK: [
            (Role.TAX_SERVICE, acts.FollowUp(satisfaction=Satisfaction.SATISFIED)),
            (Role.TAX_SERVICE, acts.Reopen(reason="仍有疑问")),
            (Role.TAX_SERVICE, acts.WriteOff()),
        ],
    }
    return chance.choice(choices.get(case.stage, [(Role.TAX_SERVICE, acts.WriteOff())]))


# ---------------------------------------------------------------- stand-ins


@contextlib.contextmanager
def stand_ins(world: World) -> Iterator[None]:
    """What reaches for threads, disks, chance and real time by itself finds the world's."""
    loop = world.loop
    drawn = random.Random(f"{world.schedule.seed}/chance")
    numbers = itertools.count()

    def opened(url: str, *_: Any, **__: Any) -> Any:
        return world.disks[url].opened()

    def statements(database: Any) -> Any:
        disk = next(disk for disk in world.disks.values() if disk.database is database)
        if "statements" not in disk.shared:
            disk.shared["statements"] = _STATEMENTS(database)
        return disk.shared["statements"]

    def bulk(connection: sa.Connection) -> Any:
        shared = world.disks["hub"].shared
        if "bulk" not in shared:
            shared["bulk"] = compiling = Bulk(connection)
            for method in ("put", "drop", "find"):
                setattr(compiling, method, functools.cache(getattr(compiling, method)))
        return shared["bulk"]

    def died(status: int) -> None:
        raise Died(f"a commit failed, exit {status}")

    def hexed(size: int) -> str:
        return drawn.randbytes(size).hex()

    time_ = SimpleNamespace(monotonic=loop.time, perf_counter=loop.time, time=loop.time, time_ns=lambda: next(numbers))
    real = SimpleNamespace(now=lambda: MONDAY + timedelta(seconds=loop.now))
    state = random.getstate()
    random.seed(world.schedule.seed)
    configured = structlog.get_config()
    with contextlib.ExitStack() as stack:
        for target, name, stand_in in (
            (node.ledger.ledger, "LedgerDatabase", opened),
            (node.ledger.ledger, "_Statements", statements),
            (node.ledger.ledger, "GroupCommitWriter", SteppedWriter),
            (hub.store, "Database", opened),
            (hub.store, "Bulk", bulk),
            (kuaixiang.runtime.writer, "os", SimpleNamespace(_exit=died)),
            (node.federation.courier, "_REAL", real),
            (node.federation.courier, "time", time_),
            (node.events.publisher, "time", time_),
            # Loops count from the beginning of a life.
            (kuaixiang.runtime.loops, "_BEGAN", 0.0),
            # Commits wake the publisher; looking for a connection every second is most of a quiet life's cost.
            (node.events.publisher, "IDLE_SECONDS", 5.0),
            (node.events.publisher, "KEEP_SECONDS", 10.0),
            (node.federation.courier, "LOOK_SECONDS", 20.0),
            (node.federation.courier, "LOOK_SECONDS_MIN", 0.05),
            (node.federation.cosigner, "time", time_),
            (node.federation.cosigner, "CosignServiceStub", lambda stub: stub),
            (node.restoration, "CosignServiceStub", lambda stub: stub),
            (node.restoration, "secrets", SimpleNamespace(randbelow=drawn.randrange, token_hex=hexed)),
            (Chance, "draw", lambda _, size: drawn.randbytes(size)),
        ):
            stack.enter_context(mock.patch.object(target, name, stand_in))
        structlog.configure(processors=[world.log], cache_logger_on_first_use=False)
        try:
            yield
        finally:
            structlog.configure(**configured)
            random.setstate(state)


_STATEMENTS: Callable[..., Any] = node.ledger.ledger._Statements
