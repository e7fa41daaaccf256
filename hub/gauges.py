"""How the branches of a hub's scope stand, for Prometheus: open cases by light, this month's deadlines due and missed.

A branch is the scope's own bureau, or an immediate subordinate with everything under it: at the national hub there are
37 of them, so that no series is of a single county. The figures are those of the board, read by the same queries.
"""

import asyncio
from collections.abc import Callable
from datetime import datetime
from typing import Final

from hub.lights import LightRow, lights
from hub.measures import met, missed
from hub.metrics import CASES_OPEN, DEADLINES_DUE, DEADLINES_MISSED
from hub.query import Question, Row, figures
from hub.store import Store
from hub.words import Grouping
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.words import ClockKind, Light
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.loops import Loop

INTERVAL_SECONDS: Final = 60.0
"""Real time. What supervisors are told of goes by working days; each look goes over all open cases of the scope."""

_DEADLINES: Final = tuple(measure(kind) for kind in ClockKind for measure in (met, missed))


class Gauges:
    """Shows how the branches of a hub's scope stand. `step` is one look."""

    def __init__(self, store: Store, now: Callable[[], datetime], interval_seconds: float = INTERVAL_SECONDS) -> None:
        self._store = store
        self._now = now
        self._shown: set[str] = set()
        self.loop = Loop("hub-gauges", self.step, interval_seconds)

    async def step(self) -> bool:
        """Look once; never more to do at once."""
        open_cases, deadlines = await asyncio.to_thread(self._read)
        for branch in open_cases:
            for light in Light:
                word = light.name.lower()
                CASES_OPEN.labels(branch.bureau, word).set(getattr(branch, word))
        for row in deadlines:
            for kind in ClockKind:
                late = row.sums.get(missed(kind), 0)
                labels = (row.key, kind.name.lower())
                DEADLINES_DUE.labels(*labels).set(row.sums.get(met(kind), 0) + late)
                DEADLINES_MISSED.labels(*labels).set(late)
        branches = {branch.bureau for branch in open_cases}
        for gone in self._shown - branches:
            # Left the scope by a new tree: whoever has it now shows it.
            for gauge in (CASES_OPEN, DEADLINES_DUE, DEADLINES_MISSED):
                gauge.remove_by_labels({"branch": gone})
        self._shown = branches
        return False

    def _read(self) -> tuple[list[LightRow], list[Row]]:
        tree, scope, now = self._store.tree, self._store.scope, self._now()
        today = now.astimezone(SHANGHAI).date()
        month = Question(scope, today.replace(day=1), today, Grouping.BUREAU, measures=_DEADLINES)
        with self._store.reading() as connection:
            return lights(connection, tree, scope, to_micros(now)), figures(connection, tree, month, to_micros(now))
