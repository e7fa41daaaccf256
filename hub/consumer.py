"""Pulling every site's stream and folding what comes, in batches; acknowledging after the commit.

Each site has its own puller, so that one that is cut off holds up nobody. All of them fill one queue; the fold takes
whatever lies there, up to a bound, writes it in one transaction, and only then acknowledges it. A crash in between
brings the messages again, and the marks make them duplicates. What has been pulled long ago and still waits is said to
be in progress, so that a machine that folds slowly is not sent it once more.
"""

import asyncio
import contextlib
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import structlog

from hub.folder import Folder, Message
from hub.worker import Worker
from kuaixiang.runtime import tracing
from kuaixiang.runtime.bus import (
    ACK_WAIT_SECONDS,
    Bus,
    BusError,
    BusUnavailable,
    Delivery,
    Durable,
    SiteUnavailable,
    hub_user,
    site_domain,
)
from kuaixiang.runtime.loops import end_tasks

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

FETCH_MESSAGES_MAX: Final = 200
"""Messages of one pull, far below what one consumer may have under way."""
BATCH_BYTES_MAX: Final = 12 * 1024 * 1024
"""Of the messages of one transaction, some 70,000 entries: a bureau's day is then written once for many of its entries,
and a commit still comes every second or two. Whoever is not behind has a few entries in each."""
QUEUED_MAX: Final = 8
"""Pulls that wait for the fold, or one of each site where there are more: while one batch is written the next ones come
in."""
REST_SECONDS_MAX: Final = 0.1
"""Where nothing piles up the fold rests after a batch for as long as it took, and so long at most: what comes meanwhile
shares a transaction, of which a few entries cost as much as many. A national figure may be a second late."""
PROGRESS_SECONDS: Final = ACK_WAIT_SECONDS / 3
"""How often the sites are told of what is held: once too few is then no harm."""
FETCH_SECONDS: Final = 5.0
RETRY_SECONDS: Final = 1.0
"""Pause after a site did not answer: its leaf link takes two seconds to come back."""

_LOG: Final = structlog.get_logger(__name__)


@dataclass(frozen=True, slots=True, eq=False)
class Pulled:
    """What one pull has brought, until it is acknowledged."""

    site: str
    deliveries: list[Delivery]
    size: int
    """Bytes of its messages."""


class Consumer:
    """Pulls the streams of some sites for the hub of a scope and folds them. `start` and `stop`, once each."""

    def __init__(self, *, bus: Bus, folder: Folder, worker: Worker, scope: str, sites: Sequence[str]) -> None:
        self._bus = bus
        self._folder = folder
        self._worker = worker
        self._scope = scope
        self._durables: dict[str, Durable] = {}
        self._queue: asyncio.Queue[Pulled] = asyncio.Queue(max(QUEUED_MAX, len(sites)))
        self._rest_seconds = 0.0
        self._held: set[Pulled] = set()
        """Not acknowledged, whether they wait or are being folded."""
        self._tasks: list[asyncio.Task[None]] = []
        self._sites = sites
        self._traces: deque[SpanContext] = deque(maxlen=tracing.TRACES_OF_MESSAGE_MAX)
        """Whose entries have been folded and that nobody has taken yet: as many as a message of totals continues."""

    def start(self) -> None:
        """Begin to pull and fold."""
        self._tasks.append(asyncio.get_running_loop().create_task(self._fold(), name="fold"))
        self._tasks.append(asyncio.get_running_loop().create_task(self._tell_progress(), name="progress"))
        self.follow(self._sites)

    def follow(self, sites: Sequence[str]) -> None:
        """Pull these sites too, those that are not pulled already."""
        for site in sites:
            if site not in self._durables:
                durable = self._durables[site] = self._bus.durable(site_domain(site), hub_user(self._scope))
                pulling = self._pull(site, durable)
                self._tasks.append(asyncio.get_running_loop().create_task(pulling, name=f"pull {site}"))

    async def stop(self) -> None:
        """Stop; a batch that is being written is finished, what waits is given back."""
        await end_tasks(self._tasks)
        with contextlib.suppress(BusError):
            while not self._queue.empty():
                for delivery in self._queue.get_nowait().deliveries:
                    await delivery.nak()
        for durable in self._durables.values():
            await durable.close()

    async def step(self) -> int:
        """Fold what has been pulled, at least one pull, and acknowledge it; how many messages."""
        pulled = [await self._queue.get()]
        size = pulled[0].size
        while size < BATCH_BYTES_MAX and not self._queue.empty():
            pulled.append(self._queue.get_nowait())
            size += pulled[-1].size
        messages = [Message(one.site, delivery.subject, delivery.data) for one in pulled for delivery in one.deliveries]
        spans = tracing.spans()
        folding = None
        if spans is not None:
            folding = spans.processing(
                (delivery.subject, delivery.traceparent) for one in pulled for delivery in one.deliveries
            )
        began = time.monotonic()
        await self._worker.run(self._folder.take, messages)
        self._rest_seconds = min(time.monotonic() - began, REST_SECONDS_MAX) if size < BATCH_BYTES_MAX else 0.0
        if folding is not None:
            folding.end()
            self._traces.extend(folding.contexts)
        for one in pulled:
            self._held.remove(one)
            for delivery in one.deliveries:
                try:
                    await delivery.ack()
                except BusError:
                    # Not acknowledged: it comes again and is a duplicate.
                    break
        return len(messages)

    def take_traces(self) -> "list[SpanContext]":
        """The traces whose entries have been folded since the last time; of more than are kept, the latest."""
        taken = list(self._traces)
        self._traces.clear()
        return taken

    def held(self) -> list[Pulled]:
        """What is not acknowledged."""
        return list(self._held)

    async def tell_progress(self, known: Sequence[Pulled]) -> None:
        """Tell the sites that what was known to be held, and still is, is being dealt with."""
        for one in known:
            if one not in self._held:
                continue
            with contextlib.suppress(BusError):  # it comes again and is a duplicate
                for delivery in one.deliveries:
                    await delivery.in_progress()

    async def _tell_progress(self) -> None:
        while True:
            known = self.held()
            await asyncio.sleep(PROGRESS_SECONDS)
            await self.tell_progress(known)

    async def _fold(self) -> None:
        while True:
            try:
                await self.step()
                await asyncio.sleep(self._rest_seconds)
            except Exception:  # noqa: BLE001 - the worker has kept it, and the service ends for it
                _LOG.exception("The fold failed; the hub stops.", action="hub.fold")
                return

    async def _pull(self, site: str, durable: Durable) -> None:
        away = False
        while True:
            try:
                deliveries = await durable.fetch(FETCH_MESSAGES_MAX, FETCH_SECONDS)
            except BusError as failure:
                if not away and not isinstance(failure, BusUnavailable):
                    _LOG.warning(
                        "A site cannot be pulled.",
                        action="hub.pull",
                        site=site,
                        condition=type(failure).__name__,
                        expected=isinstance(failure, SiteUnavailable),
                    )
                away = away or not isinstance(failure, BusUnavailable)
                await self._pause(failure)
                continue
            if away:
                _LOG.info("A site is pulled again.", action="hub.pull", site=site)
            away = False
            if deliveries:
                pulled = Pulled(site, deliveries, sum(len(delivery.data) for delivery in deliveries))
                self._held.add(pulled)
                await self._queue.put(pulled)

    async def _pause(self, failure: BusError) -> None:
        """Wait before a site is pulled again; for the connection, which tells of itself, no longer than it takes."""
        if isinstance(failure, BusUnavailable):
            with contextlib.suppress(BusUnavailable):
                await self._bus.wait_connected(FETCH_SECONDS)
        else:
            await asyncio.sleep(RETRY_SECONDS)
