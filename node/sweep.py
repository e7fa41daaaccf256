"""The sweep: records every deadline of a case or an order that has passed, once, by the business clock."""

import asyncio
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop
from node.ledger import queries
from node.office import Office

INTERVAL_SECONDS: Final = 1.0
"""Real time. A deadline ends at midnight; that it passed is on record a second later."""
BATCH_MAX: Final = 500
"""Cases of one step: one transaction of the writer, so that an officer's act waits for one commit at most."""

ORDERS_OPEN: Final = Gauge(
    "kx_orders_open", "Supervision orders issued or received here and neither closed nor cancelled."
)
ORDERS_OVERDUE: Final = Gauge("kx_orders_overdue", "Those of them that wait for an answer past its deadline.")
RECORDED: Final = Counter("kx_overdue_cases_total", "Cases and orders on which a passed deadline was recorded.")
FAILED: Final = Counter(
    "kx_overdue_failures_total", "Cases and orders on which a passed deadline could not be recorded."
)

_log: Final = structlog.get_logger(__name__)


class Sweep:
    """Looks for passed deadlines in the ledgers of a node. `step` is one batch."""

    def __init__(self, office: Office, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._office = office
        self._loop = Loop("sweep", self.step, interval_seconds)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the step under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Record what has passed, oldest first; whether there may be more."""
        ledger, now = self._office.ledger, self._office.place.clock.now()
        cases = await asyncio.to_thread(
            queries.overdue_cases, ledger.database, ledger.bureaus, to_micros(now), BATCH_MAX
        )
        marks = [self._office.mark_overdue(bureau, case_id) for bureau, case_id in cases]
        recorded = 0
        for (bureau, case_id), result in zip(cases, await asyncio.gather(*marks, return_exceptions=True), strict=True):
            if isinstance(result, BaseException):
                FAILED.inc()
                _log.error(
                    "A passed deadline could not be recorded; it is tried again.",
                    action="sweep.failed",
                    bureau=bureau,
                    case_id=case_id,
                    failure=type(result).__name__,
                )
            else:
                recorded += 1
        RECORDED.inc(recorded)
        count, late = await asyncio.to_thread(queries.open_orders, ledger.database, ledger.bureaus, to_micros(now))
        ORDERS_OPEN.set(count)
        ORDERS_OVERDUE.set(late)
        return recorded > 0 and len(cases) == BATCH_MAX
