"""Group commit: one thread takes all the work that waits, does it, commits once, and only then answers anyone.

While a commit is on its way to the disk, the next batch gathers; so the more callers there are, the more share a
commit. A refusal of one piece of work leaves no trace of it in the batch. A failed commit answers nobody with success:
what the disk has kept is not known, so the writer stops for good and says so, and the process ends and recovers. A
database that takes no writes, which is found before anything is written, answers everybody of the batch with that.
"""

import asyncio
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, Generic, Protocol, TypeVar

import structlog
from prometheus_client import Counter, Histogram

from kuaixiang.runtime import tracing
from kuaixiang.runtime.database import DatabaseNotWritable

if TYPE_CHECKING:
    from kuaixiang.runtime.spans import Waiting, Writing

BATCH_MAX: Final = 512
"""Pieces of work in one transaction: beyond this the rows per commit gain nothing and the first caller waits longer."""
QUEUE_MAX: Final = 20_000
"""Work that may wait: about three seconds' worth. More is refused at once rather than answered too late."""
PULSE_SECONDS: Final = 2.0
"""So often at least the database hears of a writer that was given a pulse."""
LINGER_SECONDS: Final = 0.002
"""A batch waits on while at least one more caller comes in each such time …"""
LINGER_SECONDS_MAX: Final = 0.02
"""… and for so long at most: the time in which an event loop takes in the calls of one full batch."""
EXIT_COMMIT_FAILED: Final = 74
"""The process's exit status after a failed commit (EX_IOERR)."""

_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5)
COMMIT_SECONDS: Final = Histogram(
    "kx_database_commit_seconds",
    "Time from the first statement of a transaction to its durable commit.",
    buckets=_SECONDS,
)
BATCH_SECONDS: Final = Histogram(
    "kx_database_batch_seconds", "Time a batch takes, deciding and committing.", buckets=_SECONDS
)
BATCH_WORKS: Final = Histogram(
    "kx_database_batch_works", "Pieces of work that shared a commit.", buckets=(1, 2, 4, 8, 16, 32, 64, 128, 256, 512)
)
WORKS_FAILED: Final = Counter("kx_database_works_failed_total", "Pieces of work that failed other than by a refusal.")

_log: Final = structlog.get_logger(__name__)

W = TypeVar("W")
W_contra = TypeVar("W_contra", contravariant=True)


class Batch(Protocol[W_contra]):
    """The work of one transaction."""

    def do(self, work: W_contra) -> Any:  # noqa: ANN401 - the work's own result
        """The result of one piece of work; whatever it raises leaves the batch as it was before."""

    def commit(self) -> None:
        """Writes it durably; nothing to do for an empty one. Raises `DatabaseNotWritable`: nothing was written."""


@dataclass(frozen=True, slots=True)
class _Waiting(Generic[W]):
    work: W
    future: asyncio.Future[Any]
    loop: asyncio.AbstractEventLoop
    trace: "Waiting | None" = None


@dataclass(frozen=True, slots=True)
class _Answer:
    future: asyncio.Future[Any]
    result: Any = None
    failure: Exception | None = None


class WriterBusy(Exception):
    """Too much work waits; nothing was done."""

    def __init__(self, waiting: int) -> None:
        self.waiting = waiting
        super().__init__(f"{waiting} acts already wait to be written. Try again in a moment.")


class WriterStopped(Exception):
    """The writer has stopped; whether the work was done is not known until the ledger is opened again."""

    def __init__(self) -> None:
        super().__init__("The ledger is closed. Ask again with the same request key when it is open.")


class GroupCommitWriter(Generic[W]):
    """Does work on its own thread. `begin` makes the batch for pieces of work, which it may look at together.

    `refusals` is what work raises when it is refused: answered to the caller, no fault. A failed commit ends the
    process. `tidy` runs after each commit when everybody has been answered, and all that follows a commit was told.
    """

    def __init__(
        self,
        name: str,
        begin: Callable[[Sequence[W]], Batch[W]],
        refusals: type[Exception],
        tidy: Callable[[], None] = lambda: None,
    ) -> None:
        self._begin = begin
        self._refusals = refusals
        self._waiting: deque[_Waiting[W]] = deque()
        self._wake = threading.Condition()
        self._stopping = False
        self._wanted = 1
        self._after_commit: list[Callable[[], None]] = []
        self._tidy = tidy
        self._pulse: Callable[[], None] | None = None
        self._felt_at = time.monotonic()
        self._thread = threading.Thread(target=self._run, name=f"writer {name}", daemon=True)

    def start(self, pulse: Callable[[], None] | None = None) -> None:
        """Begin to take work.

        `pulse` asks the database whether this writer is still its writer: every `PULSE_SECONDS`, on the writer's
        thread, and before anybody is answered by a batch that took longer. What it raises ends the process as a failed
        commit does.
        """
        self._pulse = pulse
        self._thread.start()

    def stop(self) -> None:
        """Finish what waits, then end; later work is refused."""
        with self._wake:
            self._stopping = True
            self._wake.notify()
        if self._thread.ident is not None:
            self._thread.join()

    def after_commit(self, call: Callable[[], None]) -> None:
        """Have `call` run on the writer's thread after each commit; it must be quick."""
        self._after_commit.append(call)

    def submit(self, work: W) -> asyncio.Future[Any]:
        """The future result of `work`, resolved when it is durable; raises `WriterBusy`, `WriterStopped` at once."""
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Any] = loop.create_future()
        spans = tracing.spans()
        trace = None if spans is None else spans.waiting()
        with self._wake:
            if self._stopping:
                raise WriterStopped
            if len(self._waiting) >= QUEUE_MAX:
                raise WriterBusy(len(self._waiting))
            self._waiting.append(_Waiting(work, future, loop, trace))
            if len(self._waiting) >= self._wanted:
                self._wake.notify()
        return future

    def _run(self) -> None:
        try:
            self._take_turns()
        except Exception:  # noqa: BLE001 - without its thread it would take work for ever and do none
            _log.exception("The writer failed; the process ends and recovers on start.", action="writer.failed")
            os._exit(EXIT_COMMIT_FAILED)

    def _take_turns(self) -> None:
        answered = 0
        while True:
            with self._wake:
                while not self._waiting and not self._stopping and not self._pulse_due():
                    self._wanted = 1
                    self._wake.wait(None if self._pulse is None else PULSE_SECONDS)
                if self._stopping and not self._waiting:
                    return
                self._linger(answered)
                taken = [self._waiting.popleft() for _ in range(min(BATCH_MAX, len(self._waiting)))]
            self._feel()
            if taken:
                self._do(taken)
            answered = len(taken)

    def _pulse_due(self) -> bool:
        return self._pulse is not None and time.monotonic() - self._felt_at >= PULSE_SECONDS

    def _feel(self) -> None:
        """Asks the database where it was not asked for a while, a process that stood still included."""
        if self._pulse is None or not self._pulse_due():
            return
        try:
            self._pulse()
        except Exception:  # noqa: BLE001 - whatever it is, this process may not be the database's writer any more
            _log.exception("The database is not held any more; the process ends.", action="writer.not_held")
            os._exit(EXIT_COMMIT_FAILED)
        self._felt_at = time.monotonic()

    def _linger(self, answered: int) -> None:
        """Waits for the callers just answered to come back, as long as somebody keeps coming.

        Committing at once the few that came first would make the many behind them wait for a commit of their own.
        """
        expected = min(BATCH_MAX, len(self._waiting) + answered)
        ends = time.monotonic() + LINGER_SECONDS_MAX
        came = 0
        while came < len(self._waiting) < expected and time.monotonic() < ends and not self._stopping:
            came = len(self._waiting)
            self._wanted = expected
            self._wake.wait(LINGER_SECONDS)
        self._wanted = 1

    def _do(self, taken: list[_Waiting[W]]) -> None:
        answers: dict[asyncio.AbstractEventLoop, list[_Answer]] = {}
        started = time.perf_counter()
        spans = tracing.spans()
        writing = None if spans is None else spans.writing((waiting.trace for waiting in taken), len(taken))
        try:
            batch = self._begin([waiting.work for waiting in taken])
            for waiting in taken:
                answers.setdefault(waiting.loop, []).append(self._answer(batch, waiting, writing))
            written = time.perf_counter()
            batch.commit()
        except DatabaseNotWritable as unwritable:
            # Nothing is written: the process goes on, reads are answered, and the next batch is tried.
            for told in answers.values():
                told[:] = [replace(one, result=None, failure=one.failure or unwritable) for one in told]
            if writing is not None:
                writing.end(type(unwritable).__name__)
            self._tell(answers)
            return
        except Exception:  # noqa: BLE001 - whatever it is, what the disk kept is unknown
            _log.exception("A commit failed; the process ends and recovers on start.", action="writer.commit_failed")
            os._exit(EXIT_COMMIT_FAILED)
        self._feel()
        COMMIT_SECONDS.observe(time.perf_counter() - written)
        BATCH_SECONDS.observe(time.perf_counter() - started)
        BATCH_WORKS.observe(len(taken))
        if writing is not None:
            writing.end()
        self._tell(answers)
        for call in (*self._after_commit, self._tidy):
            try:
                call()
            except Exception:  # noqa: BLE001 - what is committed stands; the next commit calls again
                _log.exception("What follows a commit failed.", action="writer.after_commit_failed")

    @staticmethod
    def _tell(answers: dict[asyncio.AbstractEventLoop, list[_Answer]]) -> None:
        for loop, resolved in answers.items():
            # A loop that is closed has nobody waiting in it any more.
            with suppress(RuntimeError):
                loop.call_soon_threadsafe(_resolve, resolved)

    def _answer(self, batch: Batch[W], waiting: _Waiting[W], writing: "Writing | None") -> _Answer:
        try:
            if writing is None or waiting.trace is None:
                return _Answer(waiting.future, result=batch.do(waiting.work))
            with writing.act(waiting.trace):
                return _Answer(waiting.future, result=batch.do(waiting.work))
        except self._refusals as refusal:
            return _Answer(waiting.future, failure=refusal)
        except Exception as fault:  # noqa: BLE001 - answered to the caller, counted and logged; the others go on
            WORKS_FAILED.inc()
            _log.exception("A piece of work failed.", action="writer.work_failed")
            return _Answer(waiting.future, failure=fault)


def _resolve(answers: list[_Answer]) -> None:
    for answer in answers:
        if answer.future.done():
            continue  # the caller went away; what it asked is done all the same
        if answer.failure is not None:
            answer.future.set_exception(answer.failure)
        else:
            answer.future.set_result(answer.result)
