"""The hub compares itself with its ledgers once a day, at an hour of the business clock, without being asked.

Every day each ledger by the hash at the hub's mark, and some ledgers entry by entry, so that each of them is read whole
once in `whole_days` days.
"""

import time
from collections.abc import Callable
from datetime import datetime
from typing import Final

import structlog

from hub.ledgers import Ledgers
from hub.metrics import RECONCILED_AT, RECONCILIATION_MISMATCHES, RECONCILIATION_UNREACHABLE
from hub.reconcile import Report, compare_whole, keep_outcomes, reconcile_heads
from hub.store import Store
from hub.worker import Worker
from kuaixiang.domain.calendar import SHANGHAI, latest_hour
from kuaixiang.runtime.clock import to_micros

NAMED_MAX: Final = 100
"""Mismatches that are logged one by one; `kx hub reconcile` tells all."""

_log: Final = structlog.get_logger(__name__)


class DailyReconciliation:
    """`step` looks whether the hour has come; `run` compares now. `now` is the business clock's."""

    def __init__(
        self,
        *,
        store: Store,
        worker: Worker,
        ledgers: Ledgers,
        now: Callable[[], datetime],
        settle_seconds: float,
        hour: int,
        whole_days: int,
    ) -> None:
        self._store = store
        self._worker = worker
        self._ledgers = ledgers
        self._now = now
        self._settle_seconds = settle_seconds
        self._hour = hour
        self._whole_days = whole_days
        self._last = now()

    async def step(self) -> bool:
        """Compare if the hour has come since the last time, or since the start; never more to do at once."""
        now = self._now()
        if self._last < latest_hour(now, self._hour):
            await self.run()
            self._last = now
        return False

    async def run(self) -> Report:
        """Compare, show what was found in the metrics and the log, and keep it for the bulletins."""
        store, ledgers, scope = self._store, self._ledgers, self._store.scope
        report = await reconcile_heads(
            store=store, tree=self._store.tree, ledgers=ledgers, scope=scope, settle_seconds=self._settle_seconds
        )
        whole = Report()
        await compare_whole(whole, self.read_whole_today(), store, ledgers, self._settle_seconds)
        known = {(found.bureau, found.what) for found in report.mismatches}
        report.tell(*(found for found in whole.mismatches if (found.bureau, found.what) not in known))
        report.unreachable = sorted({*report.unreachable, *whole.unreachable})
        report.entries_compared = whole.entries_compared
        # To be behind is no disagreement, and has an alarm of its own.
        behind = report.behind | whole.behind
        report.mismatches = [one for one in report.mismatches if not (one.what == "head" and one.bureau in behind)]
        await self._worker.run(keep_outcomes, store, self._store.tree, report, to_micros(self._now()))
        RECONCILIATION_MISMATCHES.set(len(report.mismatches))
        RECONCILIATION_UNREACHABLE.set(len(report.unreachable))
        RECONCILED_AT.set(time.time())
        for found in report.mismatches[:NAMED_MAX]:
            _log.error(
                "The hub and a ledger say different things.",
                action="hub.reconcile.mismatch",
                bureau=found.bureau,
                what=found.what,
                hub=found.hub,
                ledger=found.ledger,
            )
        _log.info(
            "The hub has been compared with its ledgers.",
            action="hub.reconcile",
            scope=scope,
            ledgers=report.ledgers_compared,
            entries=report.entries_compared,
            mismatches=len(report.mismatches),
            behind=len(behind),
            unreachable=len(report.unreachable),
        )
        return report

    def read_whole_today(self) -> list[str]:
        """The ledgers that are read entry by entry today."""
        turn = self._now().astimezone(SHANGHAI).toordinal() % self._whole_days
        return [
            bureau
            for number, bureau in enumerate(self._store.tree.subtree(self._store.scope))
            if number % self._whole_days == turn
        ]
