"""The end of one bureau's journal on its way to the site's stream: what is acknowledged, what is under way."""

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from kuaixiang.runtime.bus import Ack, journal_subject
from kuaixiang.wire.v1.journal_pb2 import Segment

if TYPE_CHECKING:
    from kuaixiang.runtime.spans import Several

SEGMENTS_UNDER_WAY_MAX: Final = 4
"""Unacknowledged segments of one bureau: enough to hide the round trip, few enough that what is committed meanwhile
shares a message instead of making many small ones."""


@dataclass(slots=True, eq=False)
class Flight:
    """One segment as it was sent. Sent again under the same id and with the same bytes until it is acknowledged."""

    message_id: str
    payload: bytes
    last_seq: int
    entries: int
    read_at: float
    ack: asyncio.Future[Ack] | None = None
    traces: "Several | None" = None
    """Those that its entries are of, until it is acknowledged."""

    @property
    def acknowledged(self) -> bool:
        """Whether the stream has it on disk."""
        return self._ended and not self.failed

    @property
    def failed(self) -> bool:
        """Whether it must be sent again."""
        ack = self.ack
        return ack is None or (self._ended and (ack.cancelled() or ack.exception() is not None))

    @property
    def _ended(self) -> bool:
        return self.ack is not None and self.ack.done()


class Tail:
    """Up to where one bureau's journal is acknowledged, sent, and remembered as acknowledged in the database.

    `failures` in a row, other than by a lost connection, and when (monotonic seconds) to try again after them.
    """

    __slots__ = (
        "acknowledged",
        "bureau",
        "failures",
        "flights",
        "kept",
        "retry_at",
        "sent",
        "stood_at",
        "stood_since",
        "subject",
    )

    def __init__(self, site: str, bureau: str, acknowledged: int) -> None:
        self.bureau = bureau
        self.subject = journal_subject(site, bureau)
        self.acknowledged = acknowledged
        self.sent = acknowledged
        self.kept = acknowledged
        self.flights: deque[Flight] = deque()
        self.failures = 0
        self.retry_at = 0.0
        self.stood_at = acknowledged
        self.stood_since: float | None = None

    @property
    def has_room(self) -> bool:
        """Whether another segment may be sent now."""
        return len(self.flights) < SEGMENTS_UNDER_WAY_MAX

    def launch(self, segment: Segment, read_at: float) -> Flight:
        """The next segment, to be sent."""
        flight = flight_of(segment, read_at)
        self.flights.append(flight)
        self.sent = flight.last_seq
        return flight

    def waits(self, end: int, now: float) -> float:
        """For how many seconds, as far as looks have shown, the journal's end has been ahead and nothing has moved."""
        if end <= self.acknowledged:
            self.stood_since = None
            return 0.0
        if self.stood_since is None or self.stood_at != self.acknowledged:
            self.stood_at, self.stood_since = self.acknowledged, now
        return now - self.stood_since

    def land(self) -> list[Flight]:
        """Move on over what is acknowledged without a gap; what was moved over."""
        landed: list[Flight] = []
        while self.flights and self.flights[0].acknowledged:
            landed.append(self.flights.popleft())
            self.acknowledged = landed[-1].last_seq
        return landed


def flight_of(segment: Segment, read_at: float) -> Flight:
    """A segment with its message id, `<bureau>.<generation>.<first>-<last>`: the same entries, the same id."""
    last = segment.first_seq + len(segment.entries) - 1
    message_id = f"{segment.bureau}.{segment.generation}.{segment.first_seq}-{last}"
    return Flight(message_id, segment.SerializeToString(), last, len(segment.entries), read_at)
