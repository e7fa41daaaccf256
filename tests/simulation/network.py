"""The network between processes: it loses, repeats, delays and reorders, and is cut, as a seed has it.

What becomes of the nth message of a kind from one process to another depends on the seed and on these alone, so that
the rest of a run stays as it is when a step is taken out of it.
"""

import asyncio
import random
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any, Protocol

import grpc
import grpc.aio

from kuaixiang.domain.errors import Refused
from kuaixiang.runtime.bus import Ack, BusUnavailable, NotAcknowledged, SiteUnreachable
from kuaixiang.runtime.writer import WriterStopped
from kuaixiang.wire.errors import to_status
from tests.simulation.loop import SimulatedLoop

DELAY_SECONDS_MAX = 0.05
LATE_SECONDS_MAX = 25.0
"""A late message overtakes a time-out of ten seconds and the repeats after it."""
ACK_WAIT_SECONDS = 15.0
DUPLICATES_KNOWN_SECONDS = 120.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Weather:
    """How bad a network is: shares of messages lost, answers lost, repeated, late."""

    lost: float = 0.0
    answer_lost: float = 0.0
    repeated: float = 0.0
    late: float = 0.0


CALM = Weather()


@dataclass(frozen=True, slots=True)
class Fate:
    """What becomes of a message: the delay of each copy that arrives, and the answer's; None: it is lost."""

    copies: tuple[float, ...]
    answer: float | None


class Away(Exception):
    """Nobody listens there."""


class Caller(Protocol):
    """A process that sends."""

    name: str
    alive: bool


@dataclass
class Network:
    """`loop` is its time. `weather` may change."""

    loop: SimulatedLoop
    seed: int
    weather: Weather = CALM
    cut: set[frozenset[str]] = field(default_factory=set)
    """Pairs of processes that do not hear each other."""
    sent: Counter[tuple[str, str, str]] = field(default_factory=Counter)

    def fate(self, sender: str, receiver: str, what: str) -> Fate:
        nth = self.sent[sender, receiver, what] = self.sent[sender, receiver, what] + 1
        chance, weather = random.Random(f"{self.seed}/{sender}/{receiver}/{what}/{nth}"), self.weather
        copies = 0 if chance.random() < weather.lost else 2 if chance.random() < weather.repeated else 1
        delays = [chance.uniform(0, DELAY_SECONDS_MAX) for _ in range(copies)]
        if delays and chance.random() < weather.late:
            delays[-1] += chance.uniform(1.0, LATE_SECONDS_MAX)
        answer = chance.uniform(0, DELAY_SECONDS_MAX)
        return Fate(tuple(delays), None if chance.random() < weather.answer_lost else answer)

    def is_cut(self, one: str, other: str) -> bool:
        return frozenset({one, other}) in self.cut

    async def call(
        self, sender: Caller, receiver: str, what: str, seconds: float, do: Callable[[], Awaitable[Any]]
    ) -> Any:
        """A call's answer; `do` does it at the other end and may be called twice. Raises `AioRpcError`."""
        answer: asyncio.Future[Any] = self.loop.create_future()
        fate = self.fate(sender.name, receiver, what)
        if not self.is_cut(sender.name, receiver):
            for delay in fate.copies:
                self.loop.call_later(delay, self._arrive, sender, receiver, fate, do, answer)
        expiry = self.loop.call_later(seconds, _settle, answer, failed(grpc.StatusCode.DEADLINE_EXCEEDED))
        try:
            return await answer
        finally:
            expiry.cancel()

    def _arrive(
        self, sender: Caller, receiver: str, fate: Fate, do: Callable[[], Awaitable[Any]], answer: asyncio.Future[Any]
    ) -> None:
        self.loop.spawn(self._serve(sender, receiver, fate, do, answer))

    async def _serve(
        self, sender: Caller, receiver: str, fate: Fate, do: Callable[[], Awaitable[Any]], answer: asyncio.Future[Any]
    ) -> None:
        try:
            outcome = await do()
        except Away:
            outcome = failed(grpc.StatusCode.UNAVAILABLE)
        except Refused as refusal:
            status = to_status(refusal)
            code = next(one for one in grpc.StatusCode if one.value[0] == status.code)
            outcome = failed(code, status.message, status.SerializeToString())
        except WriterStopped:
            outcome = failed(grpc.StatusCode.RESOURCE_EXHAUSTED)
        if fate.answer is not None and not self.is_cut(sender.name, receiver):
            self.loop.call_later(fate.answer, _settle, answer, outcome)


def _settle(answer: asyncio.Future[Any], outcome: Any) -> None:
    if answer.done():
        return
    if isinstance(outcome, Exception):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)


def failed(code: grpc.StatusCode, details: str = "", status: bytes = b"") -> grpc.aio.AioRpcError:
    """A failed call as gRPC's client has it."""
    trailing = grpc.aio.Metadata(*([("grpc-status-details-bin", status)] if status else []))
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing, details=details)


# ---------------------------------------------------------------- the stream of a site


@dataclass(slots=True)
class Stored:
    """A message in the stream; `again_at`: delivered and not acknowledged, it comes again then."""

    subject: str
    data: bytes
    again_at: float = 0.0
    acknowledged: bool = False


class Site:
    """One site's JetStream: what is stored stays until the site's disk is wiped, and is delivered at least once."""

    def __init__(self, network: Network, name: str, *, in_order: bool) -> None:
        self.name = name
        self.in_order = in_order
        self.up = True
        self.epoch = 1
        self._network = network
        self._chance = random.Random(f"{network.seed}/site/{name}")
        self._messages: list[Stored] = []
        self._known: dict[str, float] = {}
        self.came = asyncio.Event()

    def store(self, subject: str, data: bytes, message_id: str) -> Ack:
        now = self._network.loop.now
        known = self._known.get(message_id)
        if known is not None and now - known < DUPLICATES_KNOWN_SECONDS:
            return Ack(0, duplicate=True)
        self._known[message_id] = now
        self._messages.append(Stored(subject, data))
        self.came.set()
        return Ack(len(self._messages), duplicate=False)

    def wipe(self) -> None:
        """Its disk is gone, with all that it had acknowledged."""
        self._messages, self._known = [], {}

    def forget_ids(self) -> None:
        """The window in which repeats are known is over."""
        self._known = {}

    def deliver_again(self) -> None:
        """As if no acknowledgement had come through."""
        for message in self._messages:
            message.again_at, message.acknowledged = 0.0, False
        self.came.set()

    def fetch(self, batch: int) -> list[Stored]:
        now = self._network.loop.now
        due = [one for one in self._messages if not one.acknowledged and one.again_at <= now][:batch]
        for one in due:
            one.again_at = now + ACK_WAIT_SECONDS
        if not self.in_order and self._chance.random() < self._network.weather.repeated:
            self._chance.shuffle(due)
        return due


class SimulatedBus:
    """A process's connection to a site: what publisher and consumer use of `Bus`."""

    def __init__(self, network: Network, process: Caller, site: Site) -> None:
        self._network = network
        self._process = process
        self._site = site

    @property
    def connected(self) -> bool:
        return self._site.up and not self._network.is_cut(self._process.name, self._site.name)

    @property
    def epoch(self) -> int:
        return self._site.epoch

    @property
    def now(self) -> float:
        return self._network.loop.now

    async def wait_connected(self, timeout_seconds: float) -> None:
        await asyncio.sleep(min(timeout_seconds, 1.0))
        if not self.connected:
            raise BusUnavailable(self._process.name)

    async def ensure_stream(self, site: str) -> None:
        if not self.connected:
            raise BusUnavailable(self._process.name)

    async def stream_state(self, domain: str) -> None:
        """There is one as soon as there is a site; what is in it nobody here asks."""
        if not self.connected:
            raise BusUnavailable(self._process.name)

    async def publish_pipelined(
        self, subject: str, payload: bytes, *, message_id: str, timeout_seconds: float = 5.0, traceparent: str = ""
    ) -> asyncio.Future[Ack]:
        if not self.connected:
            raise BusUnavailable(self._process.name)
        loop, answer = self._network.loop, asyncio.get_running_loop().create_future()
        fate = self._network.fate(self._process.name, self._site.name, "publish")
        if self._site.in_order:
            fate = Fate((DELAY_SECONDS_MAX,), DELAY_SECONDS_MAX)

        def arrive() -> None:
            if self.connected:
                ack = self._site.store(subject, payload, message_id)
                if fate.answer is not None:
                    loop.call_later(fate.answer, _settle, answer, ack)

        for delay in fate.copies:
            loop.call_later(delay, arrive)
        loop.call_later(timeout_seconds, _settle, answer, NotAcknowledged(subject, message_id, timeout_seconds))
        return answer

    def durable(self, domain: str, name: str) -> "SimulatedDurable":
        return SimulatedDurable(self, self._network, self._site)


@dataclass(slots=True)
class SimulatedDelivery:
    """What consumers use of `Delivery`."""

    subject: str
    data: bytes
    stored: Stored
    bus: SimulatedBus

    async def ack(self) -> None:
        if not self.bus.connected:
            raise BusUnavailable("hub")
        self.stored.acknowledged = True

    async def in_progress(self) -> None:
        if not self.bus.connected:
            raise BusUnavailable("hub")
        self.stored.again_at = max(self.stored.again_at, self.bus.now + ACK_WAIT_SECONDS)

    async def nak(self, delay_seconds: float = 0.0) -> None:
        self.stored.again_at = 0.0


class SimulatedDurable:
    """What consumers use of `Durable`."""

    def __init__(self, bus: SimulatedBus, network: Network, site: Site) -> None:
        self._bus = bus
        self._network = network
        self._site = site

    async def fetch(self, batch: int, timeout_seconds: float) -> list[SimulatedDelivery]:
        if not self._bus.connected:
            raise SiteUnreachable(self._site.name)
        found = self._site.fetch(batch)
        if not found:
            self._site.came.clear()
            try:
                await asyncio.wait_for(self._site.came.wait(), timeout_seconds)
            except TimeoutError:
                return []
            await asyncio.sleep(DELAY_SECONDS_MAX)
            found = self._site.fetch(batch)
        return [SimulatedDelivery(one.subject, one.data, one, self._bus) for one in found]

    async def close(self) -> None:
        """Nothing to give back."""
