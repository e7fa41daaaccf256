"""The departments and officers of a service's bureaus, read again when their file changes, without a restart."""

import asyncio
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import Counter, Gauge

from kuaixiang.domain.staff import UNLISTED, Staff
from kuaixiang.facts import FactsError, load_staff
from kuaixiang.runtime.files import Stamp, stamp_of
from kuaixiang.runtime.loops import Loop

LOOK_SECONDS: Final = 2.0
"""Somebody who has just been added tries at once; a look is one `stat`."""

LISTED: Final = Gauge("kx_staff_officers", "Officers on the list of staff; 0: nobody is held to a role.")
FAILED: Final = Counter("kx_staff_failures_total", "Times the changed list of staff could not be used.")

_log: Final = structlog.get_logger(__name__)


class StaffList:
    """The lists of the bureaus, as their file said when it was last right. `step` is one look at the file.

    `bureaus` must be in it. A file that has become wrong changes nothing: the bureaus go on by the list they had, and
    an alarm can be set on the counter.
    """

    def __init__(self, file: Path | None, bureaus: Sequence[str], look_seconds: float = LOOK_SECONDS) -> None:
        self._file = file
        self._bureaus = tuple(bureaus)
        self._seen: Stamp | None = None
        self._lists: Mapping[str, Staff] = {}
        self._loop = Loop("staff", self.step, look_seconds)
        if file is not None:
            self._seen = stamp_of(file)
            self._take(load_staff(file))

    def of(self, bureau: str) -> Staff:
        """The departments and officers of a bureau now."""
        return self._lists.get(bureau, UNLISTED)

    async def start(self) -> None:
        """Begin to look at the file; nothing to do without one."""
        if self._file is not None:
            self._loop.start()
        else:
            _log.warning("No officers are listed: terminals are believed.", action="staff.unlisted")

    async def stop(self) -> None:
        """End."""
        if self._file is not None:
            await self._loop.stop()

    async def step(self) -> bool:
        """Read the file again if it has changed; there is never more to do at once."""
        if self._file is None:
            return False
        state = await asyncio.to_thread(stamp_of, self._file)
        if state == self._seen:
            return False
        self._seen = state
        try:
            lists = await asyncio.to_thread(load_staff, self._file)
        except FactsError as failure:
            self._wrong(str(failure))
            return False
        missing = [bureau for bureau in self._bureaus if bureau not in lists]
        if missing:
            self._wrong(f"it lists nobody of {', '.join(missing)}")
            return False
        self._take(lists)
        _log.info("The list of staff was read again.", action="staff.reload", bureaus=len(lists))
        return False

    def _take(self, lists: Mapping[str, Staff]) -> None:
        self._lists = lists
        LISTED.set(sum(len(self.of(bureau).officers) for bureau in self._bureaus or lists))

    @staticmethod
    def _wrong(reason: str) -> None:
        FAILED.inc()
        _log.error(
            "The changed list of staff cannot be used; the one before holds.", action="staff.failed", reason=reason
        )
