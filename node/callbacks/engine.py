"""The engine of deliveries to the outside: a loop for each sink looks, begins what is due, records what has ended.

A receiver that is away and one that refuses a single delivery answer alike. What tells them apart is how others fare: a
delivery that fails is tried again after a pause of its own, which grows by its own tries, and holds up nothing. Only
when another one fails too, and none has got through between, the receiver is taken to be away. Then one delivery at a
time asks it, those first that have not been tried, and the pause between grows with each of these that fails; what had
failed before says little, and never makes it longer. Whatever gets through ends that.
"""

import asyncio
import contextlib
import random
import time
from collections.abc import AsyncIterator, Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from typing import Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain.words import Channel
from kuaixiang.runtime.clock import SystemClock, to_micros
from kuaixiang.runtime.loops import STOP_SECONDS_MAX, Loop, doubled, end_tasks
from node.ledger import callbacks
from node.ledger.ledger import Callback, Draft, Work
from node.office import Office

LOOK_SECONDS: Final = 0.5
"""How long an entry waits to be seen: the heads in memory are compared, which costs nothing."""
ENTRIES_MAX: Final = 500
"""Looked through at a time; a transaction of the writer."""
UNDER_WAY_MAX: Final = 8
"""Deliveries under way to one sink: a slow receiver is not flooded when it comes back."""
DOUBT_OF_TRIED_MAX: Final = 2
"""As far as failures of deliveries that had failed before let the receiver be taken for away: they may be at fault
themselves, and then must not hold up those to come. By then one at a time asks it, a shortest pause between."""
BACKOFF_SECONDS_MIN: Final = 5.0
"""Most failures are a receiver restarting."""
BACKOFF_SECONDS_MAX: Final = 3_600.0
SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that bureaus do not return to one receiver in step."""
SCAN_MAX: Final = 10_000
"""Entries after which a cursor is kept though they told nothing: looking through them again takes a moment."""
GIVEN_UP_MAX: Final = 500
MEASURE_SECONDS: Final = 5.0
"""Between two counts of what waits, oftener than which nobody scrapes."""
HOUR_SECONDS: Final = 3_600

DELIVERED: Final = Counter(
    "kx_callbacks_total",
    "Attempts to tell somebody outside, by kind of sink (hook, notifier) and result: delivered, failed, given_up.",
    ["kind", "result"],
)
PENDING: Final = Gauge("kx_callbacks_pending", "Deliveries to the outside that wait, by kind of sink.", ["kind"])
DEAD: Final = Gauge(
    "kx_callbacks_dead", "Deliveries to the outside that were given up and wait for somebody's word, by kind.", ["kind"]
)
OLDEST: Final = Gauge(
    "kx_callback_oldest_age_seconds",
    "How long the longest waiting delivery to the outside has waited, by kind.",
    ["kind"],
)

_REAL: Final = SystemClock()
_log: Final = structlog.get_logger(__name__)


class NotDelivered(Exception):
    """A delivery failed. `reason` names why in a few words, without private data.

    `final`: no attempt will ever succeed. `receiver_away`: others may fail likewise, so that it may not be this one.
    `wait_seconds`: how long the receiver has asked not to be sent this one again; where it may be away, anything.
    """

    def __init__(
        self, reason: str, *, final: bool = False, receiver_away: bool = False, wait_seconds: float = 0.0
    ) -> None:
        super().__init__(reason)
        self.reason = reason
        self.final = final
        self.receiver_away = receiver_away
        self.wait_seconds = wait_seconds


class Sink(Protocol):
    """Where deliveries go."""

    kind: str
    """hook or notifier."""
    name: str
    """By which its rows are known."""
    bureaus: tuple[str, ...]
    channels: frozenset[Channel]
    """Whose cases it is told of."""
    kinds: Mapping[str, str]
    """Kinds of entries, and what each is called outside."""

    async def deliver(self, callback: Callback) -> None:
        """Tells it; raises `NotDelivered`."""
        ...

    async def close(self) -> None:
        """Gives up what it holds."""
        ...


class Totals:
    """How many deliveries wait and were given up, over all sinks of a kind."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, str], tuple[int, int, int]] = {}

    def put(self, sink: Sink, counted: tuple[int, int, int]) -> None:
        """A sink's own: waiting, given up, since when the longest waits."""
        self._of[sink.kind, sink.name] = counted
        self._tell(sink.kind)

    def drop(self, sink: Sink) -> None:
        """Nobody tells it anything any more."""
        self._of.pop((sink.kind, sink.name), None)
        self._tell(sink.kind)

    def _tell(self, kind: str) -> None:
        found = [one for (of, _), one in self._of.items() if of == kind]
        PENDING.labels(kind).set(sum(waits for waits, _, _ in found))
        DEAD.labels(kind).set(sum(dead for _, dead, _ in found))
        since = min((since for waits, _, since in found if waits), default=0)
        OLDEST.labels(kind).set(max(time.time() - since / 1e6, 0.0) if since else 0.0)


@dataclass(frozen=True, slots=True)
class _Flight:
    """A delivery under way, and what was thought of its receiver when it began."""

    callback: Callback
    doubt: int


class Callbacks:
    """Tells one sink what the journals say. `step` is one look; what it begins goes on beside it."""

    def __init__(self, office: Office, sink: Sink, hours_max: float, totals: Totals) -> None:
        self.sink = sink
        self._totals = totals
        self._office = office
        self._hours_max = hours_max
        self._cursors: dict[str, int] | None = None
        self._kept: dict[str, int] = {}
        self._under_way: dict[asyncio.Task[NotDelivered | None], _Flight] = {}
        self._alone = asyncio.Lock()
        # How many have failed one after the other of which each says something new of the receiver.
        self._doubt = 0
        self._pause_until = 0.0
        self._quiet_until = 0.0
        self._due_at = 0.0
        self._measured_at = 0.0
        self._loop = Loop("callbacks", self.step, LOOK_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let what is under way end; what is cut off is delivered again."""
        await self._loop.stop()
        if self._under_way:
            await asyncio.wait(self._under_way, timeout=STOP_SECONDS_MAX)
            try:
                async with self._alone:
                    await self._land()
            except Exception:  # noqa: BLE001 - whatever it is, the node ends; at least once is what was promised
                _log.exception("What was delivered at the end is delivered again.", action="callback.fault")
            await end_tasks(self._under_way)
        await self._keep()
        await self.sink.close()

    async def _keep(self) -> None:
        """Keeps up to where was looked: who comes after this one may be told of more kinds, and of none from before."""
        behind = {bureau: seq for bureau, seq in (self._cursors or {}).items() if seq > self._kept[bureau]}
        try:
            await self._put_cursors(behind)
        except Exception:  # noqa: BLE001 - as above
            _log.exception("What was looked through at the end is looked through again.", action="callback.fault")

    async def _put_cursors(self, until: Mapping[str, int]) -> None:
        """Records up to where bureaus' journals were looked through."""
        if not until:
            return

        def run(draft: Draft) -> None:
            for bureau, seq in until.items():
                draft.put_callback_cursor(self.sink.name, bureau, seq)

        await self._office.ledger.do(Work(run=run, bureau=self.sink.bureaus[0]))

    @contextlib.asynccontextmanager
    async def still(self) -> AsyncIterator[frozenset[tuple[str, int]]]:
        """Nothing begins and nothing is recorded during the block, which may change rows but those under way: these.

        What somebody reads there is so until he has written: no row comes back that a delivery has just done away with.
        """
        async with self._alone:
            yield frozenset(key_of(flight.callback) for flight in self._under_way.values())

    def look_again(self) -> None:
        """Somebody wants it tried now."""
        self._due_at = self._pause_until = self._quiet_until = 0.0
        self._doubt = 0
        # What is under way was begun when more was held against the receiver, and says nothing of it as it is now.
        self._under_way = {task: _Flight(flight.callback, 0) for task, flight in self._under_way.items()}
        self._loop.wake()

    async def step(self) -> bool:
        """Look through what is new, record what has ended, begin what is due; whether there may be more at once."""
        if self._cursors is None:
            await self._open()
        looked = False
        for bureau in self.sink.bureaus:
            looked |= await self._look(bureau)
        async with self._alone:
            ended = await self._land()
            if looked or ended:
                self._due_at = 0.0
            await self._send()
        await self._measure()
        return looked or ended

    async def _open(self) -> None:
        ledger = self._office.ledger
        known = await asyncio.to_thread(callbacks.cursors, ledger.database, self.sink.name)
        # Of what was recorded before anybody wanted to be told nobody is told.
        new = {bureau: ledger.heads[bureau].seq for bureau in self.sink.bureaus if bureau not in known}
        await self._put_cursors(new)
        self._cursors = known | new
        self._kept = dict(self._cursors)

    async def _look(self, bureau: str) -> bool:
        """Looks through a bureau's new entries; whether any of them is to be told."""
        assert self._cursors is not None  # noqa: S101 - opened before
        ledger, sink = self._office.ledger, self.sink
        after, until = self._cursors[bureau], ledger.heads[bureau].seq
        if until <= after:
            return False
        found = await asyncio.to_thread(
            callbacks.new,
            ledger.database,
            sink.name,
            bureau,
            after,
            until,
            kinds=tuple(sink.kinds),
            channels=sink.channels,
            since_us=to_micros(_REAL.now()),
            limit=ENTRIES_MAX,
        )
        if len(found) == ENTRIES_MAX:
            until = found[-1].seq
        if found or until - self._kept[bureau] >= SCAN_MAX:

            def run(draft: Draft) -> None:
                for callback in found:
                    draft.put_callback(callback)
                draft.put_callback_cursor(sink.name, bureau, until)

            await ledger.do(Work(run=run, bureau=bureau))
            self._kept[bureau] = until
        self._cursors[bureau] = until
        return bool(found)

    async def _send(self) -> None:
        """Begins what is due, as much as may be under way."""
        now = time.time()
        if now < max(self._pause_until, self._quiet_until, self._due_at):
            return
        # One alone, while nobody knows whether the receiver is there.
        room = (1 if self._doubt else UNDER_WAY_MAX) - len(self._under_way)
        if room <= 0:
            return
        database, sink, now_us = self._office.ledger.database, self.sink.name, int(now * 1e6)
        flying = {key_of(flight.callback) for flight in self._under_way.values()}
        found = await asyncio.to_thread(callbacks.due, database, sink, now_us, room + len(flying))
        begun = [callback for callback in found if key_of(callback) not in flying][:room]
        for callback in begun:
            task = asyncio.get_running_loop().create_task(self._attempt(callback), name=f"callback {sink}")
            self._under_way[task] = _Flight(callback, self._doubt)
            task.add_done_callback(lambda _: self._loop.wake())
        if len(begun) < room:
            due_us = await asyncio.to_thread(callbacks.next_due, database, sink, now_us)
            self._due_at = due_us / 1e6 if due_us is not None else float("inf")

    async def _land(self) -> bool:
        """Records what has ended; whether anything has."""
        ended = [(flight, task.result()) for task, flight in self._under_way.items() if task.done()]
        if not ended:
            return False
        self._judge(ended)
        await self._record([flight.callback for flight, _ in ended], [failure for _, failure in ended])
        landed = {key_of(flight.callback) for flight, _ in ended}
        self._under_way = {
            task: flight for task, flight in self._under_way.items() if key_of(flight.callback) not in landed
        }
        return True

    def _judge(self, ended: Collection[tuple[_Flight, NotDelivered | None]]) -> None:
        """What deliveries that have ended say of the receiver; saying it twice changes nothing."""
        now = time.time()
        for flight, failure in ended:
            if failure is None or not failure.receiver_away:
                continue
            # Those that were under way together say it once.
            doubt = flight.doubt + 1
            self._doubt = max(self._doubt, min(doubt, DOUBT_OF_TRIED_MAX) if flight.callback.attempts else doubt)
            if self._doubt > 1:
                self._pause_until = now + _backoff(self._doubt - 1)
            self._quiet_until = max(self._quiet_until, now + failure.wait_seconds)
        if any(failure is None for _, failure in ended):
            self._doubt, self._pause_until = 0, 0.0

    async def _attempt(self, callback: Callback) -> NotDelivered | None:
        try:
            await self.sink.deliver(callback)
        except NotDelivered as failure:
            return failure
        except Exception:  # noqa: BLE001 - a fault of ours with one delivery must not hold up the others
            _log.exception(
                "A delivery to the outside failed by a fault of this service.",
                action="callback.fault",
                sink=self.sink.name,
                bureau=callback.bureau,
                case_id=callback.case_id,
            )
            return NotDelivered("fault")
        return None

    async def _record(self, due: Sequence[Callback], results: Sequence[NotDelivered | None]) -> None:
        now = _REAL.now()
        oldest_us = to_micros(now - timedelta(hours=self._hours_max))
        done = [callback for callback, failure in zip(due, results, strict=True) if failure is None]
        again: list[Callback] = []
        for callback, failure in zip(due, results, strict=True):
            if failure is None:
                continue
            attempts = callback.attempts + 1
            next_at = now.timestamp() + max(_backoff(attempts), failure.wait_seconds)
            dead = failure.final or callback.since_us <= oldest_us
            again.append(
                callback._replace(
                    attempts=attempts, next_attempt_us=int(next_at * 1e6), dead=int(dead), failure=failure.reason
                )
            )
        given_up: list[Callback] = []
        if self._doubt > 1:
            # Not each of those that wait asks a receiver that is away, to be given up.
            ledger = self._office.ledger
            late = await asyncio.to_thread(callbacks.older, ledger.database, self.sink.name, oldest_us, GIVEN_UP_MAX)
            flying = {key_of(flight.callback) for flight in self._under_way.values()}
            reason = next((one.failure for one in again), "")
            given_up = [
                callback._replace(dead=1, failure=callback.failure or reason)
                for callback in late
                if key_of(callback) not in flying
            ]

        def run(draft: Draft) -> None:
            for callback in done:
                draft.drop_callback(callback)
            for callback in (*again, *given_up):
                draft.put_callback(callback)

        await self._office.ledger.do(Work(run=run, bureau=self.sink.bureaus[0]))
        self._tell(done, (*again, *given_up))

    def _tell(self, done: Collection[Callback], failed: Collection[Callback]) -> None:
        kind = self.sink.kind
        DELIVERED.labels(kind, "delivered").inc(len(done))
        for callback in failed:
            DELIVERED.labels(kind, "given_up" if callback.dead else "failed").inc()
            tell = _log.error if callback.dead else _log.warning
            tell(
                "A delivery to the outside was given up." if callback.dead else "A delivery to the outside waits.",
                action="callback.given_up" if callback.dead else "callback.failed",
                sink=self.sink.name,
                bureau=callback.bureau,
                case_id=callback.case_id,
                attempts=callback.attempts,
                reason=callback.failure,
            )

    async def _measure(self) -> None:
        if time.monotonic() < self._measured_at + MEASURE_SECONDS:
            return
        database = self._office.ledger.database
        self._totals.put(self.sink, await asyncio.to_thread(callbacks.counts, database, self.sink.name))
        self._measured_at = time.monotonic()


def key_of(callback: Callback) -> tuple[str, int]:
    """Which of a sink's deliveries it is."""
    return callback.bureau, callback.seq


def _backoff(failures: int) -> float:
    pause = doubled(failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
    return pause * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing, no secret
