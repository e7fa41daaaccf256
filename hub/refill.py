"""Reading from the ledgers what the bus has not brought.

A bureau whose journal is known to reach further than it has been folded, and which has not come on for some seconds, is
read from its own ledger; a bureau that has been silent for some minutes is asked for its head, so that a county that
stopped reporting is noticed and one whose messages were all lost is found. Each bureau has its own back-off.
"""

import asyncio
import time
from collections.abc import Callable, Iterable
from typing import Final

import structlog

from hub.fold import Mark, Poison, hashes_of
from hub.folder import Answer, Folder
from hub.generations import GenerationDenied, Judged, judge
from hub.ledgers import Ledgers, LedgerUnreachable
from hub.metrics import REFILLS
from hub.worker import Together, Worker
from kuaixiang.runtime.loops import doubled, end_tasks
from kuaixiang.wire.v1.journal_pb2 import Head, Segment

CONCURRENT_MAX: Final = 16
"""Ledgers read at a time: many for a site that comes back with all its bureaus, few enough for the fold's thread."""
BATCH_ENTRIES: Final = 5_000
"""Entries of one ledger that are read ahead: what others have read by then is folded with them, in one transaction."""
BACKOFF_SECONDS_MIN: Final = 1.0
BACKOFF_SECONDS_MAX: Final = 60.0

_LOG: Final = structlog.get_logger(__name__)


class Refiller:
    """`step` begins to read every ledger that is due; `refill` reads one; `stop` ends what was begun."""

    def __init__(
        self,
        *,
        folder: Folder,
        worker: Worker,
        ledgers: Ledgers,
        bureaus: Callable[[], Iterable[str]],
        refill_after_seconds: float,
        silent_after_seconds: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._worker = worker
        self._ledgers = ledgers
        self._bureaus = bureaus
        self._refill_after_seconds = refill_after_seconds
        self._silent_after_seconds = silent_after_seconds
        self._monotonic = monotonic
        self._answers = Together(worker, folder.take_answers)
        self._slots = asyncio.Semaphore(CONCURRENT_MAX)
        self._failures: dict[str, int] = {}
        self._not_before: dict[str, float] = {}
        self._running: dict[str, asyncio.Task[None]] = {}
        self._judged: dict[str, tuple[Mark, int, Judged]] = {}
        """Ledgers that are being judged, over one line after the other: against which mark, and which generation."""

    async def step(self) -> bool:
        """Begin to read every ledger that is due and not being read; never more to do at once."""
        wanted = dict.fromkeys((*self._folder.stuck(self._refill_after_seconds), *self._folder.doubted()))
        due = [bureau for bureau in wanted if self._may(bureau)]
        silent = [
            bureau
            for bureau in self._bureaus()
            if bureau not in due
            and self._ledgers.has(bureau)
            and self._folder.silent_seconds(bureau) > self._silent_after_seconds
            and self._may(bureau)
        ]
        for bureau in (*due, *silent):
            task = asyncio.get_running_loop().create_task(self._one(bureau), name=f"refill {bureau}")
            self._running[bureau] = task
        return False

    async def stop(self) -> None:
        """End every read; what was folded stays, what was not is read again."""
        await end_tasks(self._running.values())

    async def refill(self, bureau: str) -> None:
        """Ask a ledger for its head and fold what is missing. Raises `LedgerUnreachable`, `Poison`."""
        # First the mark: what is folded while the answer is under way is no contradiction to it.
        mark = self._folder.mark(bureau)
        head = await self.head(bureau)
        if head.generation > mark.generation and mark.seq and not await self._continues(bureau, head.seq):
            await self._take_generation(bureau, head.generation)
        elif head.generation > mark.generation and mark.quarantine and not self._folder.ahead(bureau):
            await self._worker.run(self._folder.release, bureau)
        elif head.seq < self._folder.ahead(bureau) and not mark.quarantine:
            await self._worker.run(
                self._folder.quarantine,
                bureau,
                f"the journal ends at seq {head.seq}, but the hub had known entry {self._folder.ahead(bureau)} of it",
                head.generation,
            )
        elif (head.generation, head.seq) < (mark.generation, mark.seq) and not mark.quarantine:
            await self._worker.run(
                self._folder.quarantine,
                bureau,
                f"generation {head.generation} of the journal ends at seq {head.seq}, "
                f"but {mark.seq} was folded of generation {mark.generation}",
            )
        await self._worker.run(self._folder.believe, head, mark)
        await self._answers.do(Answer(bureau, head=head))
        if self._folder.mark(bureau).behind and not self._folder.mark(bureau).quarantine:
            await self.read_on(bureau)

    async def head(self, bureau: str) -> Head:
        """Ask a ledger for its head. Raises `LedgerUnreachable`."""
        return await self._ledgers.head(bureau)

    async def read_on(self, bureau: str, head: Head | None = None) -> int:
        """Fold a ledger from the mark to its end, which `head` may tell already; how many entries.

        Raises `LedgerUnreachable`, with what has come folded, and `Poison`.
        """
        folded = 0
        waiting: list[Segment] = []
        count = 0
        try:
            async for segment in self._ledgers.read(bureau, self._folder.mark(bureau).seq + 1):
                waiting.append(segment)
                count += len(segment.entries)
                if count >= BATCH_ENTRIES:
                    folded += await self._answers.do(Answer(bureau, waiting))
                    waiting, count = [], 0
        except LedgerUnreachable:
            # What came before the line broke is kept: over one that always breaks a county would never come on.
            if waiting:
                await self._answers.do(Answer(bureau, waiting))
            raise
        if waiting or head is not None:
            folded += await self._answers.do(Answer(bureau, waiting, head))
        return folded

    async def _continues(self, bureau: str, end: int) -> bool:
        """Whether the ledger still has the entry that the bureau's mark stands at."""
        mark = self._folder.mark(bureau)
        if end < mark.seq:
            return False
        async for segment in self._ledgers.read(bureau, mark.seq, mark.seq):
            return segment.first_seq == mark.seq and hashes_of(segment)[:1] == [mark.hash]
        return False

    async def _take_generation(self, bureau: str, generation: int) -> None:
        """Fold a bureau anew whose ledger was restored, or no more where it was rewritten."""
        passed = await self._worker.run(self._folder.passed, bureau)
        mark = self._folder.mark(bureau)
        judged = self._judging(bureau, mark, generation)
        try:
            lost = await judge(mark, passed, self._ledgers.read(bureau, judged.seq + 1), judged)
        except GenerationDenied as denied:
            del self._judged[bureau]
            await self._worker.run(self._folder.quarantine, bureau, str(denied), generation)
            return
        del self._judged[bureau]
        await self._worker.run(self._folder.forget, bureau, lost.sentence, (lost.stands_to, lost.hash))

    def _judging(self, bureau: str, mark: Mark, generation: int) -> Judged:
        """How far a ledger has been judged already; anew if something else has been folded of it, or it has changed."""
        known = self._judged.get(bureau)
        if known is not None:
            against, of, judged = known
            if (against.generation, against.seq, against.hash, of) == (
                mark.generation,
                mark.seq,
                mark.hash,
                generation,
            ):
                return judged
        self._judged[bureau] = (mark, generation, judged := Judged())
        return judged

    def _reached(self, bureau: str) -> tuple[int, int]:
        """Up to where a ledger has been folded, and judged."""
        judged = self._judged.get(bureau)
        return (self._folder.mark(bureau).seq, 0 if judged is None else judged[2].seq)

    async def _one(self, bureau: str) -> None:
        try:
            async with self._slots:
                await self._attempt(bureau)
        finally:
            del self._running[bureau]

    async def _attempt(self, bureau: str) -> None:
        self._folder.cleared(bureau)
        before = self._reached(bureau)
        try:
            await self.refill(bureau)
        except LedgerUnreachable as unreachable:
            outcome, reason = "unreachable", str(unreachable)
        except Poison as poison:
            outcome, reason = "refused", str(poison)
        except Exception as failure:  # noqa: BLE001 - said below
            # Counted and tried again like the others; if it was the fold's own, the worker ends the hub.
            _LOG.exception("A refill failed.", action="hub.refill", bureau=bureau)
            outcome, reason = "failed", type(failure).__name__
        else:
            REFILLS.labels("done").inc()
            self._failures.pop(bureau, None)
            self._not_before.pop(bureau, None)
            return
        REFILLS.labels(outcome).inc()
        # A line that breaks after it has brought something is asked again soon.
        came = self._reached(bureau) > before
        failures = 1 if came else self._failures.get(bureau, 0) + 1
        self._failures[bureau] = failures
        pause = doubled(failures, BACKOFF_SECONDS_MIN, BACKOFF_SECONDS_MAX)
        self._not_before[bureau] = self._monotonic() + pause
        if failures == 1:
            _LOG.warning("A ledger cannot be read.", action="hub.refill", bureau=bureau, reason=reason)

    def _may(self, bureau: str) -> bool:
        return bureau not in self._running and self._monotonic() >= self._not_before.get(bureau, 0.0)
