"""Which trace what was written belongs to, for those who take it further: the courier, the publisher, live.

In memory alone. A column beside what is owed could not be made again from the journal, and in the journal itself a
trace's number would be hashed for ever into what it says nothing about. A trace that a restart cuts off is the price.
"""

import threading
import time
from collections import OrderedDict, deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Final, NamedTuple

if TYPE_CHECKING:
    from opentelemetry.trace import SpanContext

SUBJECTS_MAX: Final = 10_000
"""Cases and orders whose trace is known, some 5 MB; the one written longest ago gives way."""
ENTRIES_MAX: Final = 256
"""Pieces of work of one bureau whose entries are not published: beyond that the site's stream is away."""
SECONDS_MAX: Final = 3_600.0
"""After an hour a trace is not continued: collectors have put it away by then, and a peer that is away for a week would
add a span to it every minute."""


class Written(NamedTuple):
    """What one piece of work has written into one bureau's journal: up to where, and about what."""

    bureau: str
    last_seq: int
    subjects: frozenset[str]


class Traces:
    """Kept by the writer's thread, asked by the event loop's."""

    def __init__(self, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._lock = threading.Lock()
        self._subjects: OrderedDict[tuple[str, str], tuple[SpanContext, float]] = OrderedDict()
        self._entries: dict[str, deque[tuple[int, SpanContext, float]]] = {}

    def keep(self, written: Written, trace: "SpanContext | None") -> None:
        """Remember of which trace it is; of what is of none, what was known of its subjects is over."""
        now = self._monotonic()
        with self._lock:
            for subject in written.subjects:
                self._subjects.pop((written.bureau, subject), None)
                if trace is not None:
                    self._subjects[written.bureau, subject] = (trace, now)
            while len(self._subjects) > SUBJECTS_MAX:
                self._subjects.popitem(last=False)
            if trace is not None:
                waiting = self._entries.setdefault(written.bureau, deque(maxlen=ENTRIES_MAX))
                waiting.append((written.last_seq, trace, now))

    def of(self, bureau: str, subject: str) -> "SpanContext | None":
        """The trace in which a case or an order was last written to, if that was one, and lately."""
        with self._lock:
            trace, at = self._subjects.get((bureau, subject), (None, 0.0))
            if trace is not None and self._monotonic() - at > SECONDS_MAX:
                del self._subjects[bureau, subject]
                return None
            return trace

    def take(self, bureau: str, last_seq: int) -> "list[SpanContext]":
        """The traces of a journal's entries up to a position, once."""
        waiting = self._entries.get(bureau)
        if not waiting:
            return []
        taken: list[SpanContext] = []
        since = self._monotonic() - SECONDS_MAX
        with self._lock:
            while waiting and waiting[0][0] <= last_seq:
                _, trace, at = waiting.popleft()
                if at >= since:
                    taken.append(trace)
        return taken
