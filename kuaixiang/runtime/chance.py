"""Random bytes in small portions, for salts and ids.

Each draw from the system lets other threads run, and whoever draws waits for them: a writer that draws for every entry
of a batch does so hundreds of times. So the system is asked for a block, which is handed out in portions.
"""

import os
import threading
from typing import Final

BLOCK_BYTES: Final = 4096
"""256 salts: half a batch of the writer."""


class Chance:
    """The system's random bytes, each handed out once. Safe between threads; a process that forks makes its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._block = b""
        self._used = 0

    def draw(self, size: int) -> bytes:
        """`size` random bytes, at most a block."""
        with self._lock:
            if self._used + size > len(self._block):
                self._block, self._used = os.urandom(max(BLOCK_BYTES, size)), 0
            self._used += size
            return self._block[self._used - size : self._used]
