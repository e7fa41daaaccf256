"""The processes of a simulated federation: real nodes and a real hub, on simulated disk, network, threads and time.

Real are the office, the ledger with its batches and statements, the writer's own step, the courier and its
destinations, the servicers, the publisher, the sweep, the hub's consumer, folder, store and refiller. Stand-ins are: the
writer's thread (a timer calls its step), gRPC's transport (the messages are serialized), NATS, TLS, and the signatures,
which are keyed hashes here: not to be forged either, and forty times as fast.
"""

import asyncio
import contextvars
import hmac
import inspect
import random
from collections.abc import AsyncIterator, Callable, Coroutine, Sequence
from dataclasses import dataclass
from typing import Any

from hub.consumer import Consumer
from hub.fold import Mark
from hub.folder import Folder
from hub.ledgers import LedgerUnreachable
from hub.refill import Refiller
from hub.store import Store
from kuaixiang.domain.authority import Caller
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.events import GenerationOpened
from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import signing
from kuaixiang.runtime.clock import FixedClock, to_micros
from kuaixiang.runtime.seal import SignatureNotProven
from kuaixiang.runtime.server import Inside
from kuaixiang.runtime.writer import BATCH_MAX, Batch, GroupCommitWriter
from kuaixiang.wire.v1 import referral_pb2
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from kuaixiang.wire.v1.ledger_pb2 import ReadJournalRequest
from node.events.publisher import Publisher
from node.federation.cosign import CosignServicer
from node.federation.cosigner import Cosigner
from node.federation.courier import Courier
from node.federation.server import ReferralServicer
from node.journals import LedgerServicer
from node.ledger import queries
from node.ledger.ledger import Ledger, Work
from node.office import Office, Place
from node.restoration import NotRestored, Restoration
from node.supervision import SupervisionServicer
from node.sweep import Sweep
from node.witness import Witness
from tests.simulation.disk import Disk
from tests.simulation.loop import SimulatedLoop
from tests.simulation.network import Away, Network, SimulatedBus, Site

OWNER: contextvars.ContextVar["Process | None"] = contextvars.ContextVar("owner", default=None)
"""Whose task this is: it dies with that process."""
WRITE_SECONDS_MAX = 0.02
"""From a piece of work's arrival to the batch that takes it."""
DYING_SECONDS_MAX = 0.5
"""A commit hangs so long before its process is dead, and neither has returned nor failed."""
REFILL_SECONDS = 2.0
SILENT_SECONDS = 60.0
COSIGN_SECONDS = 3.0
UNPROVEN_SECONDS = 2.0
"""A ledger whose witness does not answer takes acts after so long."""


class Died(BaseException):
    """The process is no more, in the middle of what it did."""


class Process:
    """Something that runs, is killed, and starts again on the same disk. `lives` counts its starts."""

    def __init__(self, loop: SimulatedLoop, network: Network, name: str, disk: Disk) -> None:
        self.loop = loop
        self.network = network
        self.name = name
        self.disk = disk
        self.alive = False
        self.lives = 0
        self.tasks: dict[asyncio.Task[Any], None] = {}
        """In the order in which they were made: a set's would be another each time."""
        self.deaths: list[str] = []
        """Why it ended by itself."""

    def run(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        """A task of this process in its present life."""
        context = contextvars.copy_context()
        context.run(OWNER.set, self)
        return self.loop.create_task(work, context=context)

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """A task of this process that nobody waits for."""
        _ = self.run(work)

    def kill(self) -> None:
        """It stops where it stands."""
        self.alive = False
        tasks, self.tasks = self.tasks, {}
        for task in tasks:
            task.cancel()

    def lose_power(self) -> None:
        self.kill()
        self.disk.lose_power()

    async def start(self) -> None:
        raise NotImplementedError


def own(loop: asyncio.AbstractEventLoop, work: Any, **more: Any) -> asyncio.Task[Any]:
    """Makes a task and lets it belong to the process whose task made it."""
    task = asyncio.Task(work, loop=loop, **more)
    context = more.get("context")
    owner = OWNER.get() if context is None else context.get(OWNER)
    if owner is not None:
        owner.tasks[task] = None
        task.add_done_callback(lambda done: owner.tasks.pop(done, None))
    return task


# ---------------------------------------------------------------- a node


@dataclass(slots=True)
class Doom:
    """A death that waits for the writer: before or after the commit of its next batch."""

    before: bool


class _Doomed:
    """A batch in whose commit the process dies."""

    def __init__(self, batch: Batch[Work], doom: Doom) -> None:
        self._batch = batch
        self._doom = doom

    def do(self, work: Work) -> Any:
        return self._batch.do(work)

    def commit(self) -> None:
        if self._doom.before:
            raise Died
        self._batch.commit()
        raise Died


class SteppedWriter(GroupCommitWriter[Work]):
    """The writer without its thread: a timer of the simulation takes some of what waits, and does it as it would."""

    def __init__(
        self,
        name: str,
        begin: Callable[[Sequence[Work]], Batch[Work]],
        refusals: type[Exception],
        tidy: Callable[[], None],
    ) -> None:
        super().__init__(name, self._begin_here, refusals, tidy)
        self._begin_really = begin
        owner = OWNER.get()
        assert isinstance(owner, Node)
        self._node = owner
        self._life = owner.lives
        self._ahead = False
        self._stuck = False

    def start(self, pulse: Callable[[], None] | None = None) -> None:
        """Nothing runs by itself."""

    def stop(self) -> None:
        self._stopping = True

    def submit(self, work: Work) -> asyncio.Future[Any]:
        if not self._here:
            raise asyncio.CancelledError
        future = super().submit(work)
        self._come()
        return future

    @property
    def _here(self) -> bool:
        return self._node.alive and self._node.lives == self._life

    def _come(self) -> None:
        if self._ahead or self._stuck or not self._waiting:
            return
        self._ahead = True
        node = self._node
        wait = max(node.stalled_until - node.loop.now, 0.0) + node.chance.uniform(0, WRITE_SECONDS_MAX)
        node.loop.call_later(wait, self._step)

    def _step(self) -> None:
        self._ahead = False
        if not self._here:
            return
        # Small batches, so that much happens between two of them.
        count = min(BATCH_MAX, len(self._waiting), self._node.chance.choice((1, 2, 3, BATCH_MAX)))
        taken = [self._waiting.popleft() for _ in range(count)]
        try:
            self._do(taken)
        except Died as died:
            # The writer hangs in its commit; what else the process does goes on until it is dead.
            self._stuck = True
            node = self._node
            node.loop.call_later(node.chance.uniform(0, DYING_SECONDS_MAX), self._dead, died)
        else:
            self._come()

    def _dead(self, died: Died) -> None:
        if self._here:
            self._node.fell(died)

    def _begin_here(self, works: Sequence[Work]) -> Batch[Work]:
        batch, doom = self._begin_really(works), self._node.doom
        if doom is None:
            return batch
        self._node.doom = None
        return _Doomed(batch, doom)


class KeyedSeal:
    """Signatures as keyed hashes: whoever has a bureau's key signs for it, and nobody else."""

    def __init__(self, bureau: str) -> None:
        self._bureau = bureau

    def sign(self, payload: bytes) -> referral_pb2.Signature:
        return referral_pb2.Signature(certificate_der=self._bureau.encode(), value=_keyed(self._bureau, payload))

    def check(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        if signature.certificate_der != bureau.encode() or signature.value != _keyed(bureau, payload):
            raise SignatureNotProven(bureau, signing.SignatureRefused("it is another's", "签名不符"))

    check_kept = check

    @staticmethod
    def renewed(_: bytes, signature: referral_pb2.Signature) -> referral_pb2.Signature:
        """Keys stay as they are here."""
        return signature


def _keyed(bureau: str, payload: bytes) -> bytes:
    return hmac.digest(f"key of {bureau}".encode(), payload, "sha256")


LOST_SECONDS_MAX = 30.0
"""However long a call may take, gRPC notices within so long that its connection is lost."""
STREAMS = frozenset({"ReadWitnessed", "ReadJournal"})
"""Calls that are answered in several messages; here all of them come at once."""


class _Stub:
    """A peer's service: each method is a call through the network to whoever is the peer at that moment."""

    def __init__(self, node: "Node", peer: str, service: str) -> None:
        self._node = node
        self._peer = peer
        self._service = service

    def __getattr__(self, method: str) -> Callable[..., Any]:
        node, peer = self._node, self._peer

        async def call(request: Any, timeout: float) -> Any:
            payload, kind = request.SerializeToString(), type(request)

            async def do() -> Any:
                there = node.peers.get(peer)
                if there is None or not there.alive:
                    raise Away
                return await there.answer(self._service, method, kind.FromString(payload), node.name)

            return await node.network.call(node, peer, method, min(timeout, LOST_SECONDS_MAX), do)

        async def stream(request: Any, timeout: float) -> AsyncIterator[Any]:
            for one in await call(request, timeout):
                yield one

        return stream if method in STREAMS else call


class SimulatedLinks:
    """What the courier and the servicers use of `Links`."""

    def __init__(self, node: "Node") -> None:
        self._node = node

    def stub(self, peer: str) -> Any:
        return _Stub(self._node, peer, "referrals")

    def told(self, peer: str, by: str) -> Any:
        return self.stub(peer)

    def supervision(self, peer: str) -> Any:
        return _Stub(self._node, peer, "supervision")

    def channel(self, peer: str) -> Any:
        """What `CosignServiceStub` is made of: here it is that."""
        return _Stub(self._node, peer, "cosign")


async def _all_of(answers: AsyncIterator[Any]) -> list[Any]:
    return [answer async for answer in answers]


def _looked_at(task: asyncio.Task[Any]) -> None:
    """Who asked may have gone away; the answer is not an accident for that."""
    if not task.cancelled():
        task.exception()


class Node(Process):
    """A node that keeps one bureau's ledger."""

    def __init__(
        self, *, loop: SimulatedLoop, network: Network, bureau: str, disk: Disk, place: Place, site: Site
    ) -> None:
        super().__init__(loop, network, bureau, disk)
        self.place = place
        self.site = site
        self.peers: dict[str, Node] = {}
        self.chance = random.Random(f"{network.seed}/node/{bureau}")
        self.doom: Doom | None = None
        self.stalled_until = 0.0
        self.rebuilds = False
        self.opens_generation = False
        self.restores = False
        self.restorations = 0
        """How often it went on in a new generation, without the keys that callers had used since its backup."""
        self.cosigned_by = ""
        """Its witness; empty in a life without any."""
        self.publishes = True
        self.fallen: Callable[[Node], None] = lambda _: None
        self.ledger: Ledger
        self.office: Office
        self.courier: Courier
        self.publisher: Publisher
        self.sweep: Sweep
        self._services: dict[str, Any] = {}

    async def start(self) -> None:
        """Opens the ledger and begins; within a task of this process (`run`)."""
        self.lives += 1
        self.alive = True
        self._services = {}
        seal: Any = KeyedSeal(self.name)
        links: Any = SimulatedLinks(self)
        if self.restores:
            await self._restore(links, seal)
        self.ledger = ledger = Ledger(self.name, [self.name])
        if self.rebuilds:
            self.rebuilds = False
            ledger.rebuild()
        ledger.start()
        self.office = office = Office(ledger, self.place, seal.sign)
        if self.opens_generation:
            await self._open_generation()
        self.courier = courier = Courier(office, links, seal)
        tree, clock = self.place.tree, self.place.clock
        self._services = {
            "referrals": ReferralServicer(office, links, seal, courier.heard_from),
            "supervision": SupervisionServicer(office, links, seal, courier.heard_from),
            "ledger": LedgerServicer(ledger, self.place.trees, clock),
            "cosign": CosignServicer(office, Witness(office, links, seal)),
        }
        cosigner = None
        if self.cosigned_by:
            cosigner = Cosigner(office, links, seal, wait_seconds=UNPROVEN_SECONDS, interval_seconds=COSIGN_SECONDS)
        bus: Any = SimulatedBus(self.network, self, self.site)
        self.publisher = Publisher(ledger, bus, tree, clock)
        if self.publishes:
            self.publisher.start()
        self.sweep = Sweep(office)
        await courier.start()
        if cosigner is not None:
            await cosigner.start()

    async def _restore(self, links: Any, seal: Any) -> None:
        """What `kx node refill` does, as often as it takes until its witness answers."""
        ledger = Ledger(self.name, [self.name])
        office = Office(ledger, self.place, seal.sign)
        while self.restores:
            try:
                await Restoration(office, links, seal).run()
            except NotRestored:
                await asyncio.sleep(REFILL_SECONDS)
            else:
                self.restores = False
                self.restorations += 1

    async def _open_generation(self) -> None:
        """What restoring a ledger that nobody witnesses does at the least."""
        head = self.ledger.heads[self.name]
        event = GenerationOpened(
            witness="",
            cosigned_generation=0,
            cosigned_seq=0,
            cosigned_hash=bytes(32),
            backup_seq=head.seq,
            set_aside=0,
            cases_numbered=head.cases_registered,
            orders_numbered=head.orders_issued,
        )
        context = self.office.system_context(self.name)
        await self.ledger.do(Work(run=lambda draft: draft.open_generation(context, event), bureau=self.name))
        self.opens_generation = False

    def fell(self, death: Died) -> None:
        """It died by itself, in its writer."""
        if death.args:
            self.deaths.append(str(death.args[0]))
        self.kill()
        self.fallen(self)

    async def answer(self, service: str, method: str, request: Any, caller: str) -> Any:
        """A peer's call, as a task of this process; raises what the servicer raises, `Away` when it dies meanwhile."""
        if not self.serves:
            raise Away
        answer = getattr(self._services[service], method)(request, Inside(Caller(bureaus=frozenset({caller}))))
        return await self.within(_all_of(answer) if inspect.isasyncgen(answer) else answer)

    async def within(self, work: Coroutine[Any, Any, Any]) -> Any:
        """Does something as this process does it; raises `Away` when the process ends before it is done."""
        task = self.run(work)
        task.add_done_callback(_looked_at)
        await asyncio.wait({task})
        if task.cancelled() or not self.alive:
            raise Away
        return task.result()

    @property
    def serves(self) -> bool:
        """Whether it has opened its ledger, which one that is being restored has not."""
        return self.alive and bool(self._services)

    def serve_journal(self) -> LedgerServicer:
        servicer = self._services["ledger"]
        assert isinstance(servicer, LedgerServicer)
        return servicer

    def segments(self) -> list[Segment]:
        """The whole journal as the database has it."""
        found: list[Segment] = []
        after = 0
        while True:
            segment = queries.read_segment(self.disk.database, self.name, after, entries_max=10_000, bytes_max=1 << 30)
            if segment is None:
                return found
            found.append(segment)
            after = segment.first_seq + len(segment.entries) - 1


# ---------------------------------------------------------------- the hub


class _Worker:
    """What the hub uses of `Worker`: the one thread is the loop's own turn."""

    def __init__(self, hub_: "Hub") -> None:
        self._hub = hub_
        self._lock = asyncio.Lock()

    async def run(self, work: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        async with self._lock:
            await asyncio.sleep(self._hub.chance.uniform(0, WRITE_SECONDS_MAX))
            try:
                return work(*args, **kwargs)
            except Died as died:
                await asyncio.sleep(self._hub.chance.uniform(0, DYING_SECONDS_MAX))
                self._hub.fell(died)
                raise asyncio.CancelledError from None


class _DoomedStore(Store):
    """A store in whose write the process may die."""

    hub_: "Hub"

    def write(self, batch: Any) -> None:
        doom, self.hub_.doom = self.hub_.doom, None
        if doom is not None and doom.before:
            raise Died
        super().write(batch)
        if doom is not None:
            raise Died


class _Ledgers:
    """What the refiller uses of `Ledgers`: the nodes' own servicers through the network."""

    def __init__(self, hub_: "Hub") -> None:
        self._hub = hub_

    def has(self, bureau: str) -> bool:
        return bureau in self._hub.nodes

    async def head(self, bureau: str) -> Head:
        node = self._node(bureau)
        await asyncio.sleep(self._hub.chance.uniform(0, WRITE_SECONDS_MAX))
        head = node.ledger.heads[bureau]
        return Head(bureau=bureau, generation=head.generation, seq=head.seq, hash=head.hash)

    async def read(self, bureau: str, from_seq: int, to_seq: int = 0) -> AsyncIterator[Segment]:
        node = self._node(bureau)
        await asyncio.sleep(self._hub.chance.uniform(0, WRITE_SECONDS_MAX))
        context: Any = Inside(Caller(hubs=frozenset({self._hub.scope})))
        request = ReadJournalRequest(bureau=bureau, from_seq=from_seq, to_seq=to_seq)
        try:
            async for response in self._node(bureau).serve_journal().ReadJournal(request, context):
                if not node.alive:
                    raise LedgerUnreachable(bureau, "its node has ended")
                yield response.segment
        except Refused as refusal:
            raise LedgerUnreachable(bureau, str(refusal)) from refusal

    def _node(self, bureau: str) -> Node:
        node = self._hub.nodes[bureau]
        if not node.serves or not self._hub.may_refill or self._hub.network.is_cut(self._hub.name, bureau):
            raise LedgerUnreachable(bureau, "it is away")
        return node


class Hub(Process):
    """The hub of a scope. `may_refill`: it reaches the ledgers themselves."""

    def __init__(
        self, *, loop: SimulatedLoop, network: Network, disk: Disk, tree: BureauTree, clock: FixedClock, site: Site
    ) -> None:
        super().__init__(loop, network, "hub", disk)
        self.tree = tree
        self.clock = clock
        self.site = site
        self.scope = site.name
        self.nodes: dict[str, Node] = {}
        self.chance = random.Random(f"{network.seed}/hub")
        self.may_refill = True
        self.doom: Doom | None = None
        self.fallen: Callable[[Hub], None] = lambda _: None
        self.store: Store
        self.folder: Folder

    async def start(self) -> None:
        self.lives += 1
        self.alive = True
        store = _DoomedStore(self.name, self.tree, self.scope)
        store.hub_ = self
        self.store = store
        self.folder = Folder(store=store, now_us=lambda: to_micros(self.clock.now()), monotonic=self.loop.time)
        worker: Any = _Worker(self)
        bus: Any = SimulatedBus(self.network, self, self.site)
        consumer = Consumer(bus=bus, folder=self.folder, worker=worker, scope=self.scope, sites=[self.site.name])
        links: Any = _Ledgers(self)
        refiller = Refiller(
            folder=self.folder,
            worker=worker,
            ledgers=links,
            bureaus=lambda: tuple(self.nodes),
            refill_after_seconds=REFILL_SECONDS,
            silent_after_seconds=SILENT_SECONDS,
            monotonic=self.loop.time,
        )
        consumer.start()
        self.spawn(self._refill(refiller))

    async def _refill(self, refiller: Refiller) -> None:
        while True:
            await asyncio.sleep(REFILL_SECONDS)
            await refiller.step()

    def fell(self, death: Died) -> None:
        if death.args:
            self.deaths.append(str(death.args[0]))
        self.kill()
        self.fallen(self)

    def marks(self) -> dict[str, Mark]:
        return self.store.marks()
