"""Business time: exact conversions, and one clock that several processes share."""

import subprocess
import sys
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kuaixiang.runtime.clock import (
    ClockFileMalformed,
    ClockFileMissing,
    ClockWouldGoBack,
    FixedClock,
    InstantOutOfRange,
    NaiveInstant,
    SharedClock,
    SharedClockDriver,
    SystemClock,
    clock_from,
    from_micros,
    to_micros,
)

monday = datetime(2026, 3, 2, 1, 0, tzinfo=UTC)


@given(st.datetimes(timezones=st.just(UTC)))
def test_an_instant_survives_the_way_to_microseconds_and_back(instant: datetime) -> None:
    assert instant == from_micros(to_micros(instant))


def test_microseconds_of_an_instant_do_not_depend_on_its_offset() -> None:
    shanghai = monday.astimezone(timezone(timedelta(hours=8)))
    assert to_micros(monday) == to_micros(shanghai)


def test_an_instant_without_an_offset_is_refused() -> None:
    with pytest.raises(NaiveInstant, match="has no offset"):
        to_micros(datetime(2026, 3, 2, 9, 0))  # noqa: DTZ001


def test_microseconds_beyond_the_year_9999_are_refused() -> None:
    with pytest.raises(InstantOutOfRange):
        from_micros(2**62)


def test_the_system_clock_is_aware_and_utc() -> None:
    assert timedelta(0) == SystemClock().now().utcoffset()


def test_a_fixed_clock_stands_still_until_moved() -> None:
    clock = FixedClock(monday)
    assert monday == clock.now()
    assert monday + timedelta(days=1) == clock.advance(timedelta(days=1))
    clock.set(monday)
    assert monday == clock.now()


def test_a_reader_sees_what_the_driver_shows(tmp_path: Path) -> None:
    driver = SharedClockDriver(tmp_path / "clock", monday)
    clock = SharedClock(tmp_path / "clock")
    assert monday == clock.now()
    driver.advance_to(monday + timedelta(days=3))
    assert monday + timedelta(days=3) == clock.now()
    driver.advance(timedelta(microseconds=1))
    assert monday + timedelta(days=3, microseconds=1) == clock.now() == driver.now()


def test_another_process_sees_what_the_driver_shows(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    driver = SharedClockDriver(path, monday)
    program = (
        "import sys; from pathlib import Path; from kuaixiang.runtime.clock import SharedClock\n"
        f"clock = SharedClock(Path({str(path)!r}))\n"
        "for _ in sys.stdin: print(clock.now().isoformat(), flush=True)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as reader:
        try:
            assert reader.stdin is not None
            assert reader.stdout is not None
            for day in range(3):
                expected = driver.advance_to(monday + timedelta(days=day)).isoformat()
                reader.stdin.write("\n")
                reader.stdin.flush()
                assert expected == reader.stdout.readline().strip()
        finally:
            reader.kill()


def test_a_reader_never_sees_a_clock_half_moved(tmp_path: Path) -> None:
    path = tmp_path / "clock"
    SharedClockDriver(path, monday).close()
    program = (
        "import sys, time; from datetime import timedelta; from pathlib import Path\n"
        "from kuaixiang.runtime.clock import SharedClock, SharedClockDriver\n"
        f"path = Path({str(path)!r})\n"
        "driver = SharedClockDriver(path, SharedClock(path).now())\n"
        "ends = time.monotonic() + 1\n"
        "while time.monotonic() < ends: driver.advance(timedelta(microseconds=1))"
    )
    clock = SharedClock(path)
    seen = monday
    with subprocess.Popen([sys.executable, "-c", program]) as writer:
        while writer.poll() is None:
            for _ in range(1_000):
                before, seen = seen, clock.now()
                assert seen >= before


def test_a_shared_clock_never_goes_back(tmp_path: Path) -> None:
    driver = SharedClockDriver(tmp_path / "clock", monday)
    driver.advance_to(monday)
    earlier = monday - timedelta(microseconds=1)
    with pytest.raises(ClockWouldGoBack) as refusal:
        driver.advance_to(earlier)
    assert (monday, earlier) == (refusal.value.now, refusal.value.asked)
    with pytest.raises(ClockWouldGoBack):
        driver.advance(timedelta(microseconds=-1))
    assert monday == driver.now()


def test_a_driver_that_starts_again_takes_its_file_over_but_not_back(tmp_path: Path) -> None:
    SharedClockDriver(tmp_path / "clock", monday).close()
    reader = SharedClock(tmp_path / "clock")
    SharedClockDriver(tmp_path / "clock", monday + timedelta(days=1))
    assert monday + timedelta(days=1) == reader.now()
    with pytest.raises(ClockWouldGoBack):
        SharedClockDriver(tmp_path / "clock", monday)


def test_a_missing_or_malformed_clock_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ClockFileMissing, match="start the driver"):
        SharedClock(tmp_path / "nothing")
    (tmp_path / "short").write_bytes(b"1234")
    with pytest.raises(ClockFileMalformed, match="has 4 bytes"):
        SharedClock(tmp_path / "short")


def test_without_a_file_the_machines_clock_is_used(tmp_path: Path) -> None:
    assert isinstance(clock_from(None), SystemClock)
    SharedClockDriver(tmp_path / "clock", monday)
    assert monday == clock_from(tmp_path / "clock").now()
