"""The newest entries of the journals as they were committed, for the publisher, which sends nearly all of them at once.

To read a few entries off the database again is a visit to a thread and a transaction for each bureau, up to an eighth
of what the nodes of a busy nation did.
"""

import threading
from collections import deque
from collections.abc import Iterable, Sequence
from operator import itemgetter
from typing import Any, Final, NamedTuple

from node.ledger import schema

ENTRIES_MAX: Final = 64
"""Kept of one bureau; whoever is further behind reads the database, where a visit brings hundreds."""


class LatestEntry(NamedTuple):
    """An entry of a journal, under the names of its columns."""

    seq: int
    generation: int
    public: bytes
    private_digest: bytes
    prev_hash: bytes
    hash: bytes


_COLUMNS: Final = [column.name for column in schema.JOURNAL.columns]
_BUREAU: Final = _COLUMNS.index("bureau")
_fields_of: Final = itemgetter(*(_COLUMNS.index(name) for name in LatestEntry._fields))


class Latest:
    """Kept by the writer's thread, asked by the event loop's."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, deque[LatestEntry]] = {}

    def keep(self, rows: Iterable[tuple[Any, ...]]) -> None:
        """Remember rows of the journal that are committed, each bureau's in order."""
        with self._lock:
            for row in rows:
                kept = self._entries.get(row[_BUREAU])
                if kept is None:
                    kept = self._entries[row[_BUREAU]] = deque(maxlen=ENTRIES_MAX)
                kept.append(LatestEntry._make(_fields_of(row)))

    def after(self, bureau: str, seq: int) -> Sequence[LatestEntry]:
        """All entries after a position; none where some of them are not kept. What stands before is given up."""
        with self._lock:
            kept = self._entries.get(bureau)
            while kept and kept[0].seq <= seq:
                kept.popleft()
            if not kept or kept[0].seq != seq + 1:
                return ()
            return list(kept)
