"""The sweep: records what time has done to the clocks, once each, by the business clock.

Of cases and of supervision orders: a deadline of which one working day is left (临期), a deadline that has passed
(逾期), a deadline that another version of the working calendar moves. Each is an entry of the journal, so that nobody
who folds it needs a clock.
"""

import asyncio
import time
from collections import Counter as Tally
from dataclasses import dataclass
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain import acts
from kuaixiang.domain.acts import Act
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop, doubled
from kuaixiang.runtime.server import NOT_NOW
from node.ledger import queries
from node.office import Office

INTERVAL_SECONDS: Final = 1.0
"""Real time. A deadline ends at midnight; that it passed is on record a second later."""
BATCH_MAX: Final = 500
"""Cases and orders of one step, one transaction of the writer: an officer's act waits for one commit at most."""
ASIDE_SECONDS_MIN: Final = 10.0
"""What cannot be recorded is not mended by haste."""
ASIDE_SECONDS_MAX: Final = 3_600.0

_WORD: Final[dict[type[Act], str]] = {
    acts.MarkOverdue: "overdue",
    acts.MarkDueSoon: "due_soon",
    acts.Recompute: "recomputed",
}
RECORDED: Final = Counter(
    "kx_sweep_recorded_total",
    "Cases and orders on which the sweep recorded something, by what: due_soon, overdue, recomputed.",
    ["what"],
)
FAILED: Final = Counter("kx_sweep_failures_total", "Cases and orders whose clocks the sweep could not record.")
SET_ASIDE: Final = Gauge(
    "kx_sweep_set_aside", "Cases and orders whose clocks cannot be recorded; each is tried again at growing intervals."
)

_log: Final = structlog.get_logger(__name__)

Subject = tuple[str, str]
"""Bureau, and what has the clock there."""


@dataclass(frozen=True, slots=True)
class Aside:
    """A subject that could not be recorded: how often, and until when it waits (`time.monotonic`)."""

    failures: int
    until: float


class Sweep:
    """Looks for clocks that time or the calendar has changed in the ledgers of a node. `step` is one batch.

    It begins when `after` is set: when the node knows the calendar, where that takes asking.
    """

    def __init__(
        self, office: Office, interval_seconds: float = INTERVAL_SECONDS, *, after: asyncio.Event | None = None
    ) -> None:
        self.aside: dict[Subject, Aside] = {}
        self._office = office
        self._after = after
        self._loop = Loop("sweep", self.step, interval_seconds)
        for word in _WORD.values():
            RECORDED.labels(word)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the step under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Record a batch of what is to be recorded, in which what has passed comes first; whether there may be more."""
        if self._after is not None and not self._after.is_set():
            return False
        ledger, place = self._office.ledger, self._office.place
        limit = BATCH_MAX + len(self.aside)
        found = await asyncio.to_thread(
            queries.clocks_to_note,
            ledger.database,
            ledger.bureaus,
            to_micros(place.clock.now()),
            place.calendar.version,
            limit,
        )
        if len(found) < limit:
            # All there is: whoever is not in it any more has been mended, or has nothing to record.
            still = set(found)
            self.aside = {subject: aside for subject, aside in self.aside.items() if subject in still}
        batch = [subject for subject in found if not self._is_aside(subject)][:BATCH_MAX]
        results = await asyncio.gather(*(self._office.note_time(*subject) for subject in batch), return_exceptions=True)
        recorded = Tally[str]()
        for subject, result in zip(batch, results, strict=True):
            if isinstance(result, NOT_NOW) or subject[0] in ledger.withheld:
                continue  # that says nothing of the subject: the next step tries again
            if isinstance(result, BaseException):
                self._set_aside(subject, result)
            else:
                self.aside.pop(subject, None)
                recorded.update(_WORD[kind] for kind in result)
        for word, count in recorded.items():
            RECORDED.labels(word).inc(count)
        SET_ASIDE.set(len(self.aside))
        return bool(recorded) and len(batch) == BATCH_MAX

    def _is_aside(self, subject: Subject) -> bool:
        aside = self.aside.get(subject)
        return aside is not None and aside.until > time.monotonic()

    def _set_aside(self, subject: Subject, failure: BaseException) -> None:
        before = self.aside.get(subject)
        failures = before.failures + 1 if before is not None else 1
        pause = doubled(failures, ASIDE_SECONDS_MIN, ASIDE_SECONDS_MAX)
        self.aside[subject] = Aside(failures, time.monotonic() + pause)
        FAILED.inc()
        bureau, case_id = subject
        _log.error(
            "The clocks of a case or an order could not be recorded; it is set aside and tried again later.",
            action="sweep.set_aside",
            bureau=bureau,
            case_id=case_id,
            failure=type(failure).__name__,
            failures=failures,
            pause_seconds=pause,
        )
