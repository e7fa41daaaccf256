"""Where business time comes from.

Everything that decides a deadline or dates an act asks a `Clock`. Pacing (back-off, sleeps, time-outs) never does: it
uses real time, so that a virtual clock that jumps a week cannot make a loop spin or hang.

A `SharedClock` is one little-endian int64 of microseconds since the Unix epoch in a file that every process of a
demonstration or a replay maps; one `SharedClockDriver` moves it, forwards only.
"""

import mmap
import os
import struct
import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Protocol

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
MICROS_PER_SECOND = 1_000_000
SECONDS_PER_DAY = 86_400

# "<q" is copied by one eight-byte memcpy on little-endian machines. At the start of a page it is aligned, so that one
# process never sees half of another's write. Written by assignment to a slice: `pack_into` sets the bytes to zero
# first, and others would now and then see 1970.
_CELL = struct.Struct("<q")


class ClockError(Exception):
    """A business clock cannot be read or moved."""


class NaiveInstant(ClockError):
    """An instant without an offset was given where an aware one is needed."""

    def __init__(self, instant: datetime) -> None:
        self.instant = instant
        super().__init__(f"The instant {instant.isoformat()} has no offset; give an aware one (UTC).")


class InstantOutOfRange(ClockError):
    """A number of microseconds names no instant between the years 1 and 9999."""

    def __init__(self, micros: int) -> None:
        self.micros = micros
        super().__init__(f"{micros} microseconds since 1970 is no instant between the years 1 and 9999.")


class ClockWouldGoBack(ClockError):
    """A shared clock was asked to show an earlier instant than it shows now."""

    def __init__(self, now: datetime, asked: datetime) -> None:
        self.now = now
        self.asked = asked
        super().__init__(f"The clock shows {now.isoformat()} and cannot go back to {asked.isoformat()}.")


class ClockFileMissing(ClockError):
    """The file of a shared clock does not exist."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"There is no clock file at {path}; start the driver of the clock first.")


class ClockFileMalformed(ClockError):
    """The file of a shared clock is not eight bytes long."""

    def __init__(self, path: Path, size_bytes: int) -> None:
        self.path = path
        self.size_bytes = size_bytes
        super().__init__(f"The clock file {path} has {size_bytes} bytes; it must have {_CELL.size}.")


def to_micros(instant: datetime) -> int:
    """Microseconds since the Unix epoch, exact. Raises `NaiveInstant`."""
    if instant.tzinfo is None:
        raise NaiveInstant(instant)
    since = instant - EPOCH
    return (since.days * SECONDS_PER_DAY + since.seconds) * MICROS_PER_SECOND + since.microseconds


def from_micros(micros: int) -> datetime:
    """The aware UTC instant of that many microseconds since the Unix epoch, exact. Raises `InstantOutOfRange`."""
    try:
        return EPOCH + timedelta(0, 0, micros)
    except OverflowError:
        raise InstantOutOfRange(micros) from None


class Clock(Protocol):
    """Business time."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        ...


class SystemClock:
    """The machine's own clock."""

    def now(self) -> datetime:
        """The present instant, aware, UTC."""
        return datetime.now(UTC)


class FixedClock:
    """A clock that stands still until it is set; for tests and for folding a recorded history."""

    def __init__(self, instant: datetime) -> None:
        self._instant = from_micros(to_micros(instant))

    def now(self) -> datetime:
        """The instant it was set to, UTC."""
        return self._instant

    def set(self, instant: datetime) -> None:
        """Show another instant, earlier or later. Raises `NaiveInstant`."""
        self._instant = from_micros(to_micros(instant))

    def advance(self, by: timedelta) -> datetime:
        """Move by that much and return the new instant."""
        self._instant += by
        return self._instant


class SharedClock:
    """Reads the instant that a `SharedClockDriver`, usually of another process, has written.

    Raises `ClockFileMissing` and `ClockFileMalformed` when opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._cell = _map(path, mmap.ACCESS_READ)

    def now(self) -> datetime:
        """The instant in the file, UTC."""
        return from_micros(_CELL.unpack_from(self._cell)[0])

    def close(self) -> None:
        """Unmap the file."""
        self._cell.close()


class SharedClockDriver:
    """The one who moves a shared clock; forwards only, safe between threads of one process.

    The file is made when it is absent, whole from the first instant it is visible. A file that is there is taken over
    and moved on to `start`; raises `ClockWouldGoBack` when it shows a later instant.
    """

    def __init__(self, path: Path, start: datetime) -> None:
        self.path = path
        self._lock = threading.Lock()
        if not path.exists():
            draft = path.with_name(f"{path.name}.{os.getpid()}.new")
            draft.write_bytes(_CELL.pack(to_micros(start)))
            draft.replace(path)
        self._cell = _map(path, mmap.ACCESS_WRITE)
        try:
            self.advance_to(start)
        except ClockWouldGoBack:
            self._cell.close()
            raise

    def now(self) -> datetime:
        """The instant in the file, UTC."""
        return from_micros(_CELL.unpack_from(self._cell)[0])

    def advance_to(self, instant: datetime) -> datetime:
        """Show that instant to every process. The same instant again is allowed. Raises `ClockWouldGoBack`."""
        micros = to_micros(instant)
        with self._lock:
            shown = _CELL.unpack_from(self._cell)[0]
            if micros < shown:
                raise ClockWouldGoBack(from_micros(shown), instant)
            self._cell[: _CELL.size] = _CELL.pack(micros)
        return from_micros(micros)

    def advance(self, by: timedelta) -> datetime:
        """Move on by that much and return the new instant. Raises `ClockWouldGoBack` when it is negative."""
        with self._lock:
            shown = from_micros(_CELL.unpack_from(self._cell)[0])
            if by < timedelta(0):
                raise ClockWouldGoBack(shown, shown + by)
            self._cell[: _CELL.size] = _CELL.pack(to_micros(shown + by))
        return shown + by

    def close(self) -> None:
        """Unmap the file. It stays, and readers go on showing its last instant."""
        self._cell.close()


def clock_from(path: Path | None) -> Clock:
    """The shared clock of that file, or the machine's own clock when there is none."""
    return SystemClock() if path is None else SharedClock(path)


def _map(path: Path, access: int) -> mmap.mmap:
    try:
        descriptor = os.open(path, os.O_RDWR if access == mmap.ACCESS_WRITE else os.O_RDONLY)
    except FileNotFoundError:
        raise ClockFileMissing(path) from None
    try:
        size_bytes = os.fstat(descriptor).st_size
        if size_bytes != _CELL.size:
            raise ClockFileMalformed(path, size_bytes)
        return mmap.mmap(descriptor, _CELL.size, access=access)
    finally:
        os.close(descriptor)
