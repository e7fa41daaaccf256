"""Live: what a node tells its neighbours over NATS the moment it is so, best effort.

Three things, each of which can also be asked for, or comes by itself later:

- *progress*: how a case goes that other bureaus had too. The bureau that is responsible tells its neighbours of the
  case, and each of them tells its own others, so that it reaches the bureau that registered the case along the way by
  which the case came: provinces do not hear each other, and no bureau hears of a case that it never had. Each step of a
  case is passed on once. `Track` asks along the same way and decides what is so.
- *wake-ups*: this node is there again. Its neighbours' couriers, which may pause for up to a minute, try at once.
- *directives*: there is something new of headquarters here. The subordinates' nodes look at once, then tell theirs.

Nothing waits for any of this. What is lost with a connection is not sent again.
"""

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING, Final

import structlog
from google.protobuf.message import DecodeError, Message
from prometheus_client import Counter

from kuaixiang.domain.case import Case
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.tree import BureauTree
from kuaixiang.domain.words import Custody
from kuaixiang.runtime import tracing
from kuaixiang.runtime.bus import Bus, Handler, Subscription, directive_subject, progress_subject, wake_subject
from kuaixiang.runtime.loops import Loop
from kuaixiang.wire.v1 import case_pb2, live_pb2
from node.office import Office
from node.progress import progress_of

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

LOOK_SECONDS: Final = 1.0
"""How soon a connection that came back is noticed; commits wake by themselves."""
TOLD_AT_ONCE_MAX: Final = 200
"""Cases of one step, so that the others of this event loop get their turn."""

TOLD: Final = Counter(
    "kx_live_told_total", "Best-effort messages to neighbours, by kind and result.", ["kind", "result"]
)
HEARD: Final = Counter(
    "kx_live_heard_total",
    "Best-effort messages from neighbours, by kind and result: kept, old (known already), strange (unreadable, or not "
    "of a neighbour).",
    ["kind", "result"],
)

_log: Final = structlog.get_logger(__name__)

Told = Callable[[str, str], None]
"""Told of a bureau of ours and the neighbour it has heard from."""
Superior = Callable[[str], None]
"""Told of the superior that has something new."""


class Live:
    """Tells and hears for the bureaus of a node by a bus that the caller has started. `start` and `stop`, once each.

    `there` hears which neighbours are there again; `look` which superior has new directives.
    """

    def __init__(self, office: Office, bus: Bus, *, there: Told, look: Superior) -> None:
        self._office = office
        self._bus = bus
        self._own = frozenset(office.ledger.bureaus)
        self._there = there
        self._look = look
        self._epoch = 0
        self._new_directives = False
        self._subscriptions: list[Subscription] = []
        self._event_loop: asyncio.AbstractEventLoop | None = None
        self._loop = Loop("live", self.step, LOOK_SECONDS)

    @property
    def _tree(self) -> BureauTree:
        return self._office.place.tree

    async def start(self) -> None:
        """Begin to hear and to tell."""
        self._event_loop = asyncio.get_running_loop()
        for bureau in self._office.ledger.bureaus:
            site = self._tree.site(bureau)
            for subject, hear in (
                (progress_subject(site, bureau), self._hearing("progress", self._hear_progress)),
                (wake_subject(site, bureau), self._hearing("wake", self._hear_wake)),
                (directive_subject(site, bureau), self._hearing("directive", self._hear_directive)),
            ):
                self._subscriptions.append(await self._bus.subscribe(subject, hear))
        self._office.ledger.writer.after_commit(self._committed)
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        self._event_loop = None
        await self._loop.stop()
        for subscription in self._subscriptions:
            await subscription.close()

    def directives_are_new(self) -> None:
        """The subordinates' nodes are to be told."""
        self._new_directives = True
        self._loop.wake()

    async def step(self) -> bool:
        """Tell what there is to be told; whether there is more. Without a connection it is forgotten."""
        if self._bus.connected and self._epoch != self._bus.epoch:
            self._epoch = self._bus.epoch
            await self._tell_neighbours()
        if self._new_directives:
            self._new_directives = False
            await self._tell_subordinates()
        latest = self._changed()
        for case in latest.values():
            if case.custody is not Custody.RELEASED:
                await self._tell(case, self._progress(case))
        return bool(self._office.ledger.changed)

    # ------------------------------------------------------------ telling

    def _committed(self) -> None:
        """On the writer's thread, after each commit."""
        event_loop = self._event_loop
        if event_loop is not None and self._office.ledger.changed:
            # An event loop that has just been closed has nobody left to wake.
            with contextlib.suppress(RuntimeError):
                event_loop.call_soon_threadsafe(self._loop.wake)

    def _changed(self) -> dict[tuple[str, str], Case]:
        """Cases that have changed, each as it is after its last change."""
        waiting = self._office.ledger.changed
        latest: dict[tuple[str, str], Case] = {}
        while waiting and len(latest) < TOLD_AT_ONCE_MAX:
            case = waiting.popleft()
            latest[case.bureau, case.case_id] = case
        return latest

    def _progress(self, case: Case) -> case_pb2.CaseProgress:
        place = self._office.place
        in_charge = place.staff(case.bureau).kind_of(case.department) if case.department else None
        return progress_of(case, place.clock.now(), in_charge)

    async def _tell(self, case: Case, progress: case_pb2.CaseProgress, heard_from: str = "") -> None:
        """Tell the other bureaus of a case, but the one that told us."""
        notice = live_pb2.ProgressNotice(from_bureau=case.bureau, progress=progress)
        trace = self._trace(case)
        for neighbour, _ in case.neighbours:
            if neighbour != heard_from and neighbour in self._tree:
                subject = progress_subject(self._tree.site(neighbour), neighbour)
                await self._send("progress", subject, notice, () if trace is None else (trace,))

    def _trace(self, case: Case) -> "SpanContext | None":
        """The trace in which what is told came about: of what was heard just now, else of what was written."""
        spans = tracing.spans()
        if spans is None:
            return None
        return spans.here() or self._office.ledger.traces.of(case.bureau, case.case_id)

    async def _tell_neighbours(self) -> None:
        """This node is there again."""
        for bureau in self._office.ledger.bureaus:
            for neighbour in self._tree.neighbours(bureau):
                if neighbour not in self._own:
                    notice = live_pb2.WakeNotice(from_bureau=bureau)
                    await self._send("wake", wake_subject(self._tree.site(neighbour), neighbour), notice)

    async def _tell_subordinates(self) -> None:
        for bureau in self._office.ledger.bureaus:
            for subordinate in self._tree.children(bureau):
                if subordinate not in self._own:
                    notice = live_pb2.DirectiveNotice(from_bureau=bureau)
                    await self._send("directive", directive_subject(self._tree.site(subordinate), subordinate), notice)

    async def _send(self, kind: str, subject: str, notice: Message, traces: "Sequence[SpanContext]" = ()) -> None:
        sent = await self._bus.publish_core(subject, notice.SerializeToString(), traces)
        TOLD.labels(kind, "sent" if sent else "lost").inc()

    # ------------------------------------------------------------ hearing

    def _hearing(self, kind: str, hear: Callable[[str, bytes], Awaitable[bool | None]]) -> Handler:
        async def handle(subject: str, payload: bytes) -> None:
            try:
                kept = await hear(subject.rpartition(".")[2], payload)
            except (DecodeError, Refused):
                kept = None
            result = "strange" if kept is None else "kept" if kept else "old"
            HEARD.labels(kind, result).inc()

        return handle

    async def _hear_progress(self, bureau: str, payload: bytes) -> bool | None:
        """Keep what a neighbour of a case tells of it, and pass it on; whether it was new, None if it cannot be so."""
        notice = live_pb2.ProgressNotice.FromString(payload)
        progress = notice.progress
        case = await self._office.read_case(bureau, progress.case_id)
        neighbours = case.neighbour_bureaus
        if case.outgoing is not None:
            neighbours |= {case.outgoing.to_bureau}  # it has the case; its receipt is still on its way
        if notice.from_bureau not in neighbours or case.custody is Custody.OWNED:
            return None
        if progress.epoch < case.epoch or not self._office.heard.keep(bureau, progress):
            return False
        await self._tell(case, progress, notice.from_bureau)
        return True

    async def _hear_wake(self, bureau: str, payload: bytes) -> bool | None:
        notice = live_pb2.WakeNotice.FromString(payload)
        if notice.from_bureau not in self._tree.neighbours(bureau):
            return None
        self._there(bureau, notice.from_bureau)
        return True

    async def _hear_directive(self, bureau: str, payload: bytes) -> bool | None:
        notice = live_pb2.DirectiveNotice.FromString(payload)
        if self._tree.parent(bureau) != notice.from_bureau:
            return None
        self._look(notice.from_bureau)
        return True
