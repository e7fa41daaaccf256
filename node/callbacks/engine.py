"""The engine of deliveries to the outside: a loop for each sink; a step looks, delivers a batch, and records it."""

import asyncio
import random
import time
from collections.abc import Collection, Mapping, Sequence
from datetime import timedelta
from typing import Final, Protocol

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain.words import Channel
from kuaixiang.runtime.clock import SystemClock, to_micros
from kuaixiang.runtime.loops import Loop, doubled
from node.ledger import callbacks
from node.ledger.ledger import Callback, Draft, Work
from node.office import Office

LOOK_SECONDS: Final = 0.5
"""How long an entry waits to be seen: the heads in memory are compared, which costs nothing."""
ENTRIES_MAX: Final = 500
"""Looked through at a time; a transaction of the writer."""
BATCH_MAX: Final = 8
"""Deliveries under way to one sink: a slow receiver is not flooded when it comes back."""
BACKOFF_SECONDS_MIN: Final = 5.0
"""Most failures are a receiver restarting."""
BACKOFF_SECONDS_MAX: Final = 3_600.0
SPREAD: Final = 0.2
"""Share by which each pause is moved at random, so that bureaus do not return to one receiver in step."""
SCAN_MAX: Final = 10_000
"""Entries after which a cursor is kept though they told nothing: looking through them again takes a moment."""
GIVEN_UP_MAX: Final = 500
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

    `final`: no attempt will ever succeed. `receiver_away`: it says nothing of this one; others would fail likewise.
    `wait_seconds`: how long the receiver has asked to be left alone.
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
        found = [one for (kind, _), one in self._of.items() if kind == sink.kind]
        PENDING.labels(sink.kind).set(sum(waits for waits, _, _ in found))
        DEAD.labels(sink.kind).set(sum(dead for _, dead, _ in found))
        since = min((since for waits, _, since in found if waits), default=0)
        OLDEST.labels(sink.kind).set(max(time.time() - since / 1e6, 0.0) if since else 0.0)


class Callbacks:
    """Tells one sink what the journals say. `step` is one look and one batch."""

    def __init__(self, office: Office, sink: Sink, hours_max: float, totals: Totals) -> None:
        self.sink = sink
        self._totals = totals
        self._office = office
        self._hours_max = hours_max
        self._cursors: dict[str, int] | None = None
        self._kept: dict[str, int] = {}
        self._failures = 0
        self._pause_until = 0.0
        self._due_at = 0.0
        self._loop = Loop("callbacks", self.step, LOOK_SECONDS)

    def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the batch under way end; one that is cut off is delivered again."""
        await self._loop.stop()
        await self.sink.close()

    def look_again(self) -> None:
        """Somebody wants it tried now."""
        self._due_at = self._pause_until = 0.0
        self._failures = 0
        self._loop.wake()

    async def step(self) -> bool:
        """Look through what is new, then deliver a batch of what is due; whether there may be more at once."""
        if self._cursors is None:
            await self._open()
        looked = False
        for bureau in self.sink.bureaus:
            looked |= await self._look(bureau)
        now = time.time()
        if now < max(self._pause_until, 0.0 if looked else self._due_at):
            return looked
        return await self._deliver() or looked

    async def _open(self) -> None:
        ledger = self._office.ledger
        known = await asyncio.to_thread(callbacks.cursors, ledger.database, self.sink.name)
        # Of what was recorded before anybody wanted to be told nobody is told.
        new = {bureau: ledger.heads[bureau].seq for bureau in self.sink.bureaus if bureau not in known}
        if new:

            def run(draft: Draft) -> None:
                for bureau, seq in new.items():
                    draft.put_callback_cursor(self.sink.name, bureau, seq)

            await ledger.do(Work(run=run, bureau=self.sink.bureaus[0]))
        self._cursors = known | new
        self._kept = dict(self._cursors)
        await self._measure()

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

    async def _deliver(self) -> bool:
        ledger = self._office.ledger
        # One alone, while nobody knows whether the receiver is there.
        limit = 1 if self._failures else BATCH_MAX
        waiting = await asyncio.to_thread(callbacks.waiting, ledger.database, self.sink.name, limit)
        now = time.time()
        due = [callback for callback in waiting if callback.next_attempt_us <= now * 1e6]
        if not due:
            self._due_at = waiting[0].next_attempt_us / 1e6 if waiting else float("inf")
            await self._measure()
            return False
        results = await asyncio.gather(*(self._attempt(callback) for callback in due))
        away = [failure for failure in results if failure is not None and failure.receiver_away]
        if away:
            self._failures += 1
            self._pause_until = time.time() + max(_backoff(self._failures), *(one.wait_seconds for one in away))
        elif None in results:
            self._failures = 0
        await self._record(due, results)
        self._due_at = 0.0
        await self._measure()
        return not away

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
            pause = max(_backoff(attempts), failure.wait_seconds)
            # While the receiver is away it is the receiver's pause that grows: when it is back nothing waits longer.
            next_at = self._pause_until if failure.receiver_away else now.timestamp() + pause
            dead = failure.final or callback.since_us <= oldest_us
            again.append(
                callback._replace(
                    attempts=attempts, next_attempt_us=int(next_at * 1e6), dead=int(dead), failure=failure.reason
                )
            )
        given_up: list[Callback] = []
        if any(failure is not None and failure.receiver_away for failure in results):
            ledger = self._office.ledger
            late = await asyncio.to_thread(callbacks.older, ledger.database, self.sink.name, oldest_us, GIVEN_UP_MAX)
            tried = {(callback.bureau, callback.seq) for callback in due}
            reason = next(failure.reason for failure in results if failure is not None)
            given_up = [
                callback._replace(dead=1, failure=callback.failure or reason)
                for callback in late
                if (callback.bureau, callback.seq) not in tried
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
        database = self._office.ledger.database
        self._totals.put(self.sink, await asyncio.to_thread(callbacks.counts, database, self.sink.name))


def _backoff(failures: int) -> float:
    pause = doubled(failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
    return pause * random.uniform(1 - SPREAD, 1 + SPREAD)  # noqa: S311 - pacing, no secret
