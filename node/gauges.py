"""How the bureaus of a node stand, looked at from time to time: open cases by stage and light, supervision orders."""

import asyncio
from typing import Final

from prometheus_client import Gauge

from kuaixiang.domain.words import Light, Stage
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop
from node.ledger import queries
from node.ledger.counting import word
from node.office import Office

INTERVAL_SECONDS: Final = 60.0
"""Real time. Lights change at midnight and by acts; a look goes over all open cases of the node's bureaus."""

OPEN: Final = Gauge(
    "kx_cases_open",
    "Open cases at the bureau, by stage and light (in_time, due_soon, overdue, stopped); looked at every minute.",
    ["bureau", "stage", "light"],
)
ORDERS_OPEN: Final = Gauge(
    "kx_orders_open",
    "Supervision orders issued or received here and neither closed nor cancelled; looked at every minute.",
)
ORDERS_OVERDUE: Final = Gauge("kx_orders_overdue", "Those of them that wait for an answer past its deadline.")


class Gauges:
    """Shows how many cases and orders are open at the bureaus of a node. `step` is one look."""

    def __init__(self, office: Office, interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._office = office
        self._shown: set[tuple[str, Stage, Light]] = set()
        self._loop = Loop("gauges", self.step, interval_seconds)

    async def start(self) -> None:
        """Begin."""
        self._loop.start()

    async def stop(self) -> None:
        """Let the look under way end."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Look once; never more to do at once."""
        ledger, now_us = self._office.ledger, to_micros(self._office.place.clock.now())
        found = await asyncio.to_thread(queries.open_cases, ledger.database, ledger.bureaus, now_us)
        # What has been shown once and is none now is 0, not away.
        self._shown |= set(found)
        for key in self._shown:
            bureau, stage, light = key
            OPEN.labels(bureau, word(stage), word(light)).set(found.get(key, 0))
        count, late = await asyncio.to_thread(queries.open_orders, ledger.database, ledger.bureaus, now_us)
        ORDERS_OPEN.set(count)
        ORDERS_OVERDUE.set(late)
        return False
