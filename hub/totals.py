"""What other systems hear of a hub: its figures of the current month, as JSON on NATS.

Best effort, as everything on the bus that is no journal: a message says all there is to say, so that whoever missed one
has the next. It holds counts and nothing of a case, a taxpayer or an officer (`docs/asyncapi.yaml` describes it).
"""

import asyncio
import json
import time
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from hub.query import Completeness, Question, Row, figures
from hub.store import Store
from hub.words import Grouping
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.domain.periods import Period, PeriodKind, period_of
from kuaixiang.runtime.bus import totals_subject
from kuaixiang.runtime.clock import from_micros, to_micros
from kuaixiang.runtime.tracing import TRACES_OF_MESSAGE_MAX

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

REPEAT_SECONDS: Final = 60.0
"""Figures that have not changed are told so often all the same: who has just come knows them after a minute."""


class Totals:
    """`step` reads the figures if they may have changed, and tells them if they have. `now` is the business clock's.

    `folds` counts what has been folded, `tell` gets the subject, the message and the traces that led to it, `traces`
    gives those. `monotonic` gives real seconds.
    """

    def __init__(
        self,
        *,
        store: Store,
        completeness: Callable[[], Completeness],
        folds: Callable[[], int],
        now: Callable[[], datetime],
        tell: Callable[[str, bytes, "Sequence[SpanContext]"], Awaitable[bool]],
        traces: "Callable[[], Sequence[SpanContext]]" = tuple,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store = store
        self._completeness = completeness
        self._folds = folds
        self._now = now
        self._tell = tell
        self._traces = traces
        self._waiting: deque[SpanContext] = deque(maxlen=TRACES_OF_MESSAGE_MAX)
        """That wait for the next message: as many as one continues."""
        self._monotonic = monotonic
        self._told: dict[str, Any] = {}
        self._told_at = 0.0
        self._seen: tuple[object, ...] = ()

    async def step(self) -> bool:
        """Tell what has changed, and what has not once a minute; never more to do at once.

        Nothing is read while nothing was folded: what time alone has made overdue is in the minute's message.
        """
        now, again = self._now(), self._monotonic() - self._told_at >= REPEAT_SECONDS
        # Before the figures are read: what was folded by then, and what is of these traces, is in them.
        self._waiting.extend(self._traces())
        known = self._completeness()
        month = period_of(now.astimezone(SHANGHAI).date(), PeriodKind.MONTH)
        seen = (self._folds(), self._store.tree.version, month, replace(known, missing={}))
        if seen == self._seen and not again:
            return False
        found = await asyncio.to_thread(self._read, now, month, known)
        if found != self._told or again:
            message = {**found, "told_at": _text(now)}
            payload = json.dumps(message, ensure_ascii=False).encode()
            if not await self._tell(totals_subject(self._store.scope), payload, tuple(self._waiting)):
                return False
            self._waiting.clear()
            self._told, self._told_at = found, self._monotonic()
        self._seen = seen
        return False

    def _read(self, now: datetime, month: Period, known: Completeness) -> dict[str, Any]:
        store = self._store
        question = Question(store.scope, month.first, month.last, Grouping.BUREAU)
        with store.reading() as connection:
            subordinates = figures(connection, store.tree, question, to_micros(now))
        # Every figure that is told is a sum: the scope's own row is among them, so that they add up to the total.
        sums = Counter[int]()
        for row in subordinates:
            sums.update(row.sums)
        total = Row(
            sums=sums,
            open=sum(row.open for row in subordinates),
            overdue=sum(row.overdue for row in subordinates),
        )
        return {
            "scope": store.scope,
            "name": store.tree.bureaus[store.scope].name,
            "period": str(month),
            "completeness": {
                "bureaus_expected": known.bureaus_expected,
                "bureaus_heard": known.bureaus_heard,
                "bureaus_up_to_date": known.bureaus_up_to_date,
                "bureaus_quarantined": known.bureaus_quarantined,
                "data_as_of": _text(from_micros(known.data_as_of_us)) if known.data_as_of_us else None,
            },
            "total": _counted(total),
            "subordinates": [{"bureau": row.key, "name": row.label, **_counted(row)} for row in subordinates],
        }


def _counted(row: Row) -> dict[str, Any]:
    return {"facts": row.facts, "open": row.open, "overdue": row.overdue}


def _text(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
