"""The publisher: sends what the node's bureaus commit to the stream of their NATS site, in segments.

Every commit wakes it. It looks at the heads in memory for bureaus that have entries not yet sent, reads those (off the
event loop), and sends each bureau's in order, several segments under way at once. The cursor of a bureau moves only
over segments that the stream has acknowledged without a gap.

It is never in an act's way: it reads by the readers' connections, and while NATS is away it does nothing but look for
the connection. A segment that was not acknowledged is sent again as it was, under the same id, so that the stream knows
the repeat; a bureau's first one alone, at growing intervals, until the stream takes it. The other bureaus go on.

What survives a restart is the cursor as last kept, at most `KEEP_SECONDS` old. What was acknowledged since is sent
again; the stream or the hub's fold passes it over. Heads (generation, seq, hash of a journal's end) follow every
`HEAD_SECONDS` and after each connection, so that a lost tail is seen and a silent bureau is known to be alive.
"""

import asyncio
import contextlib
import math
import time
from collections.abc import Sequence
from typing import Final

import structlog
from prometheus_client import Counter, Gauge, Histogram

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import tracing
from kuaixiang.runtime.bus import (
    Ack,
    Bus,
    BusError,
    BusUnavailable,
    NoStreamForSubject,
    NotPermitted,
    StreamDiffers,
    StreamMissing,
    head_subject,
    site_domain,
)
from kuaixiang.runtime.clock import Clock, to_micros
from kuaixiang.runtime.loops import Loop, doubled
from kuaixiang.runtime.server import NOT_NOW
from kuaixiang.wire.v1.journal_pb2 import Head, Segment
from node.events.tail import Flight, Tail
from node.ledger import queries
from node.ledger.ledger import Draft, Ledger, Work

SEGMENT_ENTRIES_MAX: Final = 500
"""Entries of one message: they share one fsync of JetStream, and a repeat after a lost acknowledgement stays small."""
SEGMENT_BYTES_MAX: Final = 512 * 1024
"""Public parts of one message: with digests and framing (some 25 KB) well below the servers' limit of 1 MiB."""
GATHER_SECONDS: Final = 0.02
"""Pause before a small tail is read: the commits of a busy bureau then share a message and an fsync, and the latency
stays a tenth of the 200 ms that it may be."""
BUREAUS_READ_AT_ONCE: Final = 32
"""Bureaus whose tails one visit to a thread reads: the visit costs more than a short tail."""
IDLE_SECONDS: Final = 1.0
"""How soon a connection that came back is noticed, and that a refused segment's pause is over; commits wake the
publisher by themselves."""
BACKOFF_SECONDS_MIN: Final = 0.2
NOT_PERMITTED_SECONDS: Final = 60.0
"""Before a bureau is tried again that the site's server does not let this node publish for: until somebody has changed
the server's configuration, which takes longer than that."""
BACKOFF_SECONDS_MAX: Final = 5.0
"""After refusals and lost acknowledgements: a stream that is full stays so for minutes, a restarted server not."""
STREAM_SECONDS: Final = 2.0
"""Between two looks for the site's stream, which another node makes: it starts at about the same time."""
HEAD_SECONDS: Final = 30.0
"""The hub takes a bureau for silent after four heads that did not come."""
KEEP_SECONDS: Final = 5.0
"""Cursors are kept by a commit of their own, which at every second was one of three of a node with few acts; what is
repeated after a crash the stream knows by its message ids for two minutes, the hub by its marks for ever."""
SETTLE_SECONDS_MAX: Final = 3.0
"""A stop waits so long for acknowledgements; what is left is sent after the next start."""

PUBLISHED_ENTRIES: Final = Counter("kx_published_entries_total", "Journal entries acknowledged by the site's stream.")
PUBLISHED_SEGMENTS: Final = Counter(
    "kx_published_segments_total", "Segments of journals acknowledged by the site's stream."
)
PUBLISH_FAILURES: Final = Counter(
    "kx_publish_failures_total", "Segments and heads that were refused or not acknowledged in time."
)
UNPUBLISHED: Final = Gauge(
    "kx_journal_unpublished_entries", "Journal entries committed and not yet acknowledged by the site's stream."
)
UNPUBLISHED_AGE: Final = Gauge(
    "kx_journal_unpublished_age_seconds",
    "Real time for which a journal's entries have waited without the stream acknowledging one, of the longest wait.",
)
SEGMENTS_WAITING: Final = Gauge(
    "kx_publish_segments_unacknowledged", "Segments of journals sent to the site's stream and not acknowledged."
)
PUBLISH_SECONDS: Final = Histogram(
    "kx_publish_seconds",
    "Time from reading a segment off the ledger to its acknowledgement, repeats included.",
    buckets=(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.2, 0.5, 1, 5, 30),
)

_log: Final = structlog.get_logger(__name__)


class SeveralSites(Exception):
    """The bureaus of one node are of several NATS sites; a node publishes at one."""

    def __init__(self, sites: tuple[str, ...]) -> None:
        self.sites = sites
        super().__init__(f"The node's bureaus are of the sites {', '.join(sites)}; give each site a node of its own.")


class Publisher:
    """Publishes the journals of a ledger by a bus that the caller has started. `start` and `stop`, once each.

    `clock` dates the heads (business time); pacing is by real time. Reads the cursors. Raises `SeveralSites`,
    `UnknownBureau`.
    """

    def __init__(self, ledger: Ledger, bus: Bus, tree: BureauTree, clock: Clock) -> None:
        sites = tuple(sorted({tree.site(bureau) for bureau in ledger.bureaus}))
        if len(sites) > 1:
            raise SeveralSites(sites)
        self.site = sites[0]
        self._ledger = ledger
        self._bus = bus
        self._clock = clock
        kept = queries.published_seqs(ledger.database)
        self._tails = {
            # Never beyond the journal's end: a restored ledger may have lost what its cursor had counted.
            bureau: Tail(self.site, bureau, min(kept.get(bureau, 0), ledger.heads[bureau].seq))
            for bureau in ledger.bureaus
        }
        # The bus's connection for which the stream is known to be there; 0: make sure first.
        self._epoch = 0
        self._stream_missed_until = 0.0
        self._broken: set[Tail] = set()
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._woken = False
        self._sending = Loop(
            "publisher",
            self.step,
            IDLE_SECONDS,
            backoff_seconds_min=BACKOFF_SECONDS_MIN,
            backoff_seconds_max=BACKOFF_SECONDS_MAX,
        )
        self._heads = Loop("publisher-heads", self.send_heads, HEAD_SECONDS)
        self._keeping = Loop("publisher-cursors", self.keep_cursors, KEEP_SECONDS)

    def start(self) -> None:
        """Begin to publish, from the cursors on, whenever the bus is connected."""
        self._event_loop = asyncio.get_running_loop()
        self._ledger.writer.after_commit(self._committed)
        UNPUBLISHED.set_function(self.unpublished)
        SEGMENTS_WAITING.set_function(lambda: sum(len(tail.flights) for tail in self._tails.values()))
        for loop in (self._sending, self._heads, self._keeping):
            loop.start()

    async def stop(self) -> None:
        """Send what is committed where that works at once, keep the cursors, and end. Before the ledger is closed."""
        for loop in (self._heads, self._sending, self._keeping):
            await loop.stop()
        with contextlib.suppress(BusError, TimeoutError):
            async with asyncio.timeout(SETTLE_SECONDS_MAX):
                while await self.step():
                    pass
                acks = [flight.ack for tail in self._tails.values() for flight in tail.flights if flight.ack]
                if acks:
                    await asyncio.wait(acks)
        self._event_loop = None
        await self.keep_cursors()

    def unpublished(self) -> int:
        """Entries committed and not yet acknowledged by the stream, over all bureaus."""
        heads = self._ledger.heads
        return sum(heads[tail.bureau].seq - tail.acknowledged for tail in self._tails.values())

    def acknowledged(self, bureau: str) -> int:
        """Up to where a bureau's journal is in the stream, without a gap."""
        return self._tails[bureau].acknowledged

    # ------------------------------------------------------------ the steps

    async def step(self) -> bool:
        """Send one segment of each bureau that has entries to send; whether there is more to send at once.

        Nothing while the bus is away, or while the node that makes the site's stream has not. Raises `BusError` when
        the stream cannot be made.
        """
        if not self._bus.connected or time.monotonic() < self._stream_missed_until:
            return False
        try:
            if self._epoch != self._bus.epoch:
                await self._open_stream()
            await self._send_again()
            due = self._due()
            if not due:
                return False
            heads = self._ledger.heads
            if all(heads[tail.bureau].seq - tail.sent < SEGMENT_ENTRIES_MAX for tail in due):
                await asyncio.sleep(GATHER_SECONDS)
            for first in range(0, len(due), BUREAUS_READ_AT_ONCE):
                await self._send_tails(due[first : first + BUREAUS_READ_AT_ONCE])
        except BusUnavailable:
            # The bus connects again by itself; the loop looks for it.
            return False
        except StreamMissing as missing:
            self._stream_missed_until = time.monotonic() + STREAM_SECONDS
            _log.info(
                "The site has no stream yet; nothing is published.", action="publisher.stream", site=missing.domain
            )
            return False
        return bool(self._due())

    async def send_heads(self) -> bool:
        """Send the end of every bureau's journal; never more to do at once.

        Raises `BusError` when the stream refuses one or does not answer.
        """
        if not self._bus.connected or self._epoch != self._bus.epoch:
            return False
        as_of_us = to_micros(self._clock.now())
        stamp = time.time_ns()
        sent: list[asyncio.Future[Ack]] = []
        with contextlib.suppress(BusUnavailable):
            for bureau in self._tails:
                payload = head_of(self._ledger, bureau, as_of_us).SerializeToString()
                subject, message_id = head_subject(self.site, bureau), f"{bureau}.head.{stamp}"
                sent.append(await self._bus.publish_pipelined(subject, payload, message_id=message_id))
        outcomes = await asyncio.gather(*sent, return_exceptions=True)
        failures = [outcome for outcome in outcomes if isinstance(outcome, BaseException)]
        PUBLISH_FAILURES.inc(len(failures))
        for failure in failures:
            if isinstance(failure, NoStreamForSubject):
                self._epoch = 0
            if not isinstance(failure, BusUnavailable):
                raise failure
        return False

    async def keep_cursors(self) -> bool:
        """Remember in the database what is acknowledged, and show how long others wait; never more to do at once."""
        UNPUBLISHED_AGE.set(self._longest_wait())
        moved = [(tail, tail.acknowledged) for tail in self._tails.values() if tail.acknowledged != tail.kept]
        if not moved:
            return False

        def run(draft: Draft) -> None:
            for tail, seq in moved:
                draft.put_cursor(tail.bureau, seq)

        try:
            await self._ledger.do(Work(run=run, bureau=moved[0][0].bureau))
        except NOT_NOW as refusal:
            # Nothing is lost: what was acknowledged since is sent again after a restart, and passed over.
            _log.info("The cursors are not kept now.", action="publisher.cursors", reason=type(refusal).__name__)
            return False
        for tail, seq in moved:
            tail.kept = seq
        return False

    # ------------------------------------------------------------ inside

    def _longest_wait(self) -> float:
        """Seconds for which a journal has had entries to publish and none of them was acknowledged; 0: none waits."""
        now, heads = time.monotonic(), self._ledger.heads
        return max(
            (tail.waits(heads[tail.bureau].seq, now) for tail in self._tails.values()),
            default=0.0,
        )

    def _committed(self) -> None:
        """Wake the sender; on the writer's thread, once for all commits until it is awake."""
        event_loop = self._event_loop
        if event_loop is not None and not self._woken:
            self._woken = True
            event_loop.call_soon_threadsafe(self._wake)

    def _wake(self) -> None:
        # First the flag: the step that follows reads the heads after any commit that found it set.
        self._woken = False
        self._sending.wake()

    def _due(self) -> list[Tail]:
        heads = self._ledger.heads
        return [
            tail
            for tail in self._tails.values()
            if tail.sent < heads[tail.bureau].seq and tail.has_room and tail not in self._broken
        ]

    async def _open_stream(self) -> None:
        """After each connection: make sure that there is a stream, and let the heads follow.

        It is made by the node of the site's own bureau, which alone may; the others wait for it.
        """
        epoch = self._bus.epoch
        try:
            if self.site in self._tails:
                await self._bus.ensure_stream(self.site)
            else:
                await self._bus.stream_state(site_domain(self.site))
        except StreamDiffers as differs:
            # Made otherwise by a person (more replicas, more room): it takes journals all the same.
            _log.warning(
                "The site's stream has settings of its own.",
                action="publisher.stream",
                site=self.site,
                settings=sorted(differs.differences),
            )
        self._epoch = epoch
        self._heads.wake()

    async def _send_tails(self, tails: Sequence[Tail]) -> None:
        """Read one segment of each and send it."""
        read_at = time.monotonic()
        latest = self._ledger.latest
        segments = [
            queries.segment_of(tail.bureau, latest.after(tail.bureau, tail.sent), SEGMENT_BYTES_MAX) for tail in tails
        ]
        behind = [(tail.bureau, tail.sent) for tail, segment in zip(tails, segments, strict=True) if segment is None]
        if behind:
            read = iter(await asyncio.to_thread(self._read, behind))
            segments = [next(read) if segment is None else segment for segment in segments]
        for tail, segment in zip(tails, segments, strict=True):
            # What failed meanwhile goes first, so that a bureau's segments stay in order.
            if segment is not None and tail not in self._broken:
                flight = tail.launch(segment, read_at)
                spans = tracing.spans()
                traces = [] if spans is None else self._ledger.traces.take(tail.bureau, flight.last_seq)
                if spans is not None and traces:
                    flight.traces = spans.publishing(tail.subject, traces, flight.message_id)
                await self._send(tail, flight)

    def _read(self, positions: Sequence[tuple[str, int]]) -> list[Segment | None]:
        return [
            queries.read_segment(
                self._ledger.database,
                bureau,
                after_seq,
                entries_max=SEGMENT_ENTRIES_MAX,
                bytes_max=SEGMENT_BYTES_MAX,
            )
            for bureau, after_seq in positions
        ]

    async def _send_again(self) -> None:
        """Send what failed as it was: of a bureau that is refused, the oldest alone until the stream takes it."""
        now = time.monotonic()
        for tail in [tail for tail in self._broken if now >= tail.retry_at]:
            failed = [flight for flight in tail.flights if flight.failed]
            if tail.failures:
                tail.retry_at = math.inf  # until this one is answered
                failed = failed[:1]
            else:
                self._broken.discard(tail)
            for flight in failed:
                await self._send(tail, flight)

    async def _send(self, tail: Tail, flight: Flight) -> None:
        """Send a segment; what comes of it is taken in when it is known. Raises `BusUnavailable`."""
        flight.ack = None
        try:
            flight.ack = await self._bus.publish_pipelined(
                tail.subject,
                flight.payload,
                message_id=flight.message_id,
                traceparent="" if flight.traces is None else flight.traces.traceparent,
            )
        except BusError as failure:
            self._failed(tail, failure)
            if isinstance(failure, BusUnavailable):
                raise
            return
        flight.ack.add_done_callback(lambda ack: self._answered(tail, flight, ack))

    def _answered(self, tail: Tail, flight: Flight, ack: asyncio.Future[Ack]) -> None:
        """Take in an acknowledgement, or that there is none."""
        failure = asyncio.CancelledError() if ack.cancelled() else ack.exception()
        if failure is not None:
            self._failed(tail, failure)
            return
        PUBLISH_SECONDS.observe(time.monotonic() - flight.read_at)
        for landed in tail.land():
            PUBLISHED_SEGMENTS.inc()
            PUBLISHED_ENTRIES.inc(landed.entries)
            if landed.traces is not None:
                landed.traces.end()
        if tail.failures:
            _log.info("A journal is published again.", action="publisher.resumed", bureau=tail.bureau)
            tail.failures = 0
            tail.retry_at = 0.0
        if tail in self._broken or tail.sent < self._ledger.heads[tail.bureau].seq:
            self._sending.wake()

    def _failed(self, tail: Tail, failure: BaseException) -> None:
        """Remember that a bureau has something to send again, and when."""
        PUBLISH_FAILURES.inc()
        self._broken.add(tail)
        if isinstance(failure, BusUnavailable):
            tail.retry_at = 0.0  # at once when the bus is back, which has a back-off of its own
            return
        if isinstance(failure, NoStreamForSubject):
            self._epoch = 0
        now = time.monotonic()
        if now < tail.retry_at < math.inf:
            return  # one of several that failed together
        if not tail.failures:
            _log.warning(
                "A journal is not published; it is tried again.",
                action="publisher.failed",
                bureau=tail.bureau,
                reason=type(failure).__name__,
                message=str(failure),
            )
        tail.failures += 1
        tail.retry_at = now + (
            NOT_PERMITTED_SECONDS
            if isinstance(failure, NotPermitted)
            else doubled(tail.failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
        )


def head_of(ledger: Ledger, bureau: str, as_of_us: int) -> Head:
    """The end of a bureau's journal as committed, said to be so at an instant read before."""
    head = ledger.heads[bureau]
    return Head(bureau=bureau, generation=head.generation, seq=head.seq, hash=head.hash, as_of_us=as_of_us)
