"""Every ledger of a federation followed as it is written: what a demonstration shows and what its officers wait for.

One stream for each bureau, taken up again from the next journal position when its node has been away.
"""

import asyncio
import contextlib
from collections import Counter, defaultdict, deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from types import TracebackType
from typing import Final, Self

import grpc.aio

from demo.officers import RETRY_SECONDS, Office
from kuaixiang.domain.words import Custody, Stage
from kuaixiang.wire.codec import instant
from kuaixiang.wire.v1 import case_pb2

RECENT_MAX: Final = 200
"""Changes remembered for whoever shows them."""

HAND_OVERS_MAX: Final = 40
"""Hand-overs remembered for whoever shows them: among all changes they may be rare."""

HANDED_OVER: Final = frozenset({"received", "concluded"})
"""What a bureau records when a case, or the result of one, has come to it from a neighbour in the tree."""


@dataclass(frozen=True, slots=True)
class Change:
    """One journal entry of a case, as its bureau's officers see it pass."""

    bureau: str
    seq: int
    case_id: str
    event: str
    stage: Stage
    custody: Custody
    occurred_at: datetime
    actor: str
    other_bureau: str


class NeverSeen(Exception):
    """What was waited for in a ledger did not come about in time."""

    def __init__(self, bureau: str, case_id: str, what: str, seconds: float, last: Change | None) -> None:
        self.bureau = bureau
        self.case_id = case_id
        self.what = what
        self.seconds = seconds
        seen = f"its last entry there is {last.event} ({last.stage.name})" if last else "it is not in that ledger"
        super().__init__(f"case {case_id} at bureau {bureau}: {what} did not happen within {seconds:.0f} s; {seen}")


class Watch:
    """Follows ledgers; as an asynchronous context manager, for the time of the block."""

    def __init__(self, offices: Mapping[str, Office]) -> None:
        self._offices = dict(offices)
        self._last: dict[tuple[str, str], Change] = {}
        self._waiting: defaultdict[tuple[str, str], list[tuple[Callable[[Change], bool], asyncio.Future[Change]]]]
        self._waiting = defaultdict(list)
        self._tasks: list[asyncio.Task[None]] = []
        self.seqs: dict[str, int] = dict.fromkeys(offices, 0)
        """The last journal position seen of each bureau."""
        self.events: Counter[str] = Counter()
        """How often each kind of entry has passed."""
        self.recent: deque[Change] = deque(maxlen=RECENT_MAX)
        self.hand_overs: deque[Change] = deque(maxlen=HAND_OVERS_MAX)
        """The latest changes that are `HANDED_OVER`."""
        self._standing: defaultdict[str, Counter[tuple[Stage, Custody]]] = defaultdict(Counter)

    async def __aenter__(self) -> Self:
        self._tasks = [asyncio.create_task(self._follow(office)) for office in self._offices.values()]
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    @property
    def entries(self) -> int:
        """Journal entries of all bureaus so far."""
        return sum(self.seqs.values())

    def last(self, bureau: str, case_id: str) -> Change | None:
        """The latest entry of a case in a bureau's ledger."""
        return self._last.get((bureau, case_id))

    def stages(self, bureau: str) -> Counter[tuple[Stage, Custody]]:
        """How many cases stand where in a bureau's ledger."""
        return +self._standing[bureau]

    def offered(self) -> list[Change]:
        """Cases whose hand-over has not been decided, as far as their senders know."""
        return [change for change in self._last.values() if change.custody is Custody.OFFERED]

    async def until(
        self, bureau: str, case_id: str, what: str, holds: Callable[[Change], bool], timeout_seconds: float
    ) -> Change:
        """Wait until the latest entry of a case in a ledger is such. Raises `NeverSeen`; `what` says it in words."""
        key = (bureau, case_id)
        last = self._last.get(key)
        if last is not None and holds(last):
            return last
        future: asyncio.Future[Change] = asyncio.get_running_loop().create_future()
        self._waiting[key].append((holds, future))
        try:
            async with asyncio.timeout(timeout_seconds):
                return await future
        except TimeoutError:
            raise NeverSeen(bureau, case_id, what, timeout_seconds, self._last.get(key)) from None

    async def _follow(self, office: Office) -> None:
        bureau = office.bureau
        while True:
            with contextlib.suppress(grpc.aio.AioRpcError):  # the node is away: it is asked again, and tells the rest
                async for message in office.watch(self.seqs[bureau] + 1):
                    self._take(bureau, message)
            await asyncio.sleep(RETRY_SECONDS)

    def _take(self, bureau: str, message: case_pb2.WatchCasesResponse) -> None:
        self.seqs[bureau] = message.seq
        self.events[message.event] += 1
        if not message.stage:
            return  # about the ledger, such as a reconciliation or another calendar, and about no case of it
        change = _change(bureau, message)
        self.recent.append(change)
        if change.event in HANDED_OVER:
            self.hand_overs.append(change)
        if change.event == "offer_declined":
            return  # of a case that need not be in this ledger
        key = (change.bureau, change.case_id)
        before = self._last.get(key)
        if before is not None:
            self._standing[bureau][before.stage, before.custody] -= 1
        self._standing[bureau][change.stage, change.custody] += 1
        self._last[key] = change
        waiting = self._waiting.get(key)
        if waiting:
            still = [(holds, future) for holds, future in waiting if not future.done()]
            for holds, future in still:
                if holds(change):
                    future.set_result(change)
            self._waiting[key] = [(holds, future) for holds, future in still if not future.done()]


def _change(bureau: str, message: case_pb2.WatchCasesResponse) -> Change:
    return Change(
        bureau=bureau,
        seq=message.seq,
        case_id=message.case_id,
        event=message.event,
        stage=Stage(message.stage),
        custody=Custody(message.custody),
        occurred_at=instant(message.occurred_at),
        actor=message.actor,
        other_bureau=message.other_bureau,
    )
