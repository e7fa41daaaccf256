"""Segments that wait in memory for the entries before them, within bounds.

Nothing is lost when one finds no room: the mark remembers how far the journal reaches, and its ledger is read.
"""

from typing import Final

from kuaixiang.wire.v1.journal_pb2 import Segment

ENTRIES_PER_BUREAU_MAX: Final = 20_000
"""A bureau's whole busy day; what lies behind a longer gap is read from the ledger with it."""
ENTRIES_MAX: Final = 500_000
"""For all bureaus together: some 200 MB."""


class Parking:
    """By bureau and first seq."""

    def __init__(self, per_bureau_max: int = ENTRIES_PER_BUREAU_MAX, entries_max: int = ENTRIES_MAX) -> None:
        self._per_bureau_max = per_bureau_max
        self._entries_max = entries_max
        self._waiting: dict[str, dict[int, Segment]] = {}
        self._counts: dict[str, int] = {}
        self.entries = 0
        """Entries that wait, of all bureaus."""

    def entries_of(self, bureau: str) -> int:
        """Entries of one bureau that wait."""
        return self._counts.get(bureau, 0)

    def put(self, segment: Segment) -> bool:
        """Keep a segment; False when it is kept already or there is no room."""
        bureau, count = segment.bureau, len(segment.entries)
        waiting = self._waiting.setdefault(bureau, {})
        known = waiting.get(segment.first_seq)
        more = count - (len(known.entries) if known is not None else 0)
        mine = self.entries_of(bureau) + more
        if more <= 0 or self.entries + more > self._entries_max or mine > self._per_bureau_max:
            return False
        waiting[segment.first_seq] = segment
        self._count(bureau, more)
        return True

    def take(self, bureau: str, seq: int) -> Segment | None:
        """Give the segment that can be placed once all up to `seq` is folded, if there is one, and let it go."""
        waiting = self._waiting.get(bureau)
        if not waiting:
            return None
        first = min(waiting)
        if first > seq + 1:
            return None
        segment = waiting.pop(first)
        self._count(bureau, -len(segment.entries))
        return segment

    def drop(self, bureau: str) -> None:
        """Keep nothing of a bureau."""
        self._waiting.pop(bureau, None)
        self._count(bureau, -self.entries_of(bureau))

    def _count(self, bureau: str, more: int) -> None:
        self.entries += more
        left = self.entries_of(bureau) + more
        if left:
            self._counts[bureau] = left
        else:
            self._counts.pop(bureau, None)
