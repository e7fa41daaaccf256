"""The legal working calendar of China, as data with a version (§四(二)).

Weekends and public holidays are off, make-up working days (调休) are on. Outside the published days the calendar
counts Monday to Friday and says so: every such answer is provisional. Nothing here reads a clock.
"""

from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, timezone

SHANGHAI = timezone(timedelta(hours=8))
"""China's legal time. A fixed offset: the country has had no summer time since 1991, before any published day here."""

_DAY = timedelta(days=1)
_EPOCH = datetime(1970, 1, 1, tzinfo=SHANGHAI)
_EPOCH_UTC = _EPOCH.astimezone(UTC)
_EPOCH_ORDINAL = _EPOCH.toordinal()
_WEEK_DAYS = 7
_WEEK_WORKDAYS = 5


class CalendarError(ValueError):
    """Base of every condition under which a calendar cannot be used."""


class HorizonBeforeFirst(CalendarError):
    """A calendar ends before it begins."""

    def __init__(self, first: date, horizon: date) -> None:
        super().__init__(first, horizon)
        self.first = first
        self.horizon = horizon

    def __str__(self) -> str:
        return f"the calendar's horizon {self.horizon} lies before its first day {self.first}"


class DayOutsideCalendar(CalendarError):
    """A listed day lies outside the days the calendar says it publishes."""

    def __init__(self, day: date, first: date, horizon: date) -> None:
        super().__init__(day, first, horizon)
        self.day = day
        self.first = first
        self.horizon = horizon

    def __str__(self) -> str:
        return f"{self.day} is listed but the calendar runs from {self.first} to {self.horizon}"


class DayBothOffAndWork(CalendarError):
    """A day is listed as a day off and as a working day."""

    def __init__(self, day: date) -> None:
        super().__init__(day)
        self.day = day

    def __str__(self) -> str:
        return f"{self.day} is listed both as a day off and as a working day"


class NaiveInstant(CalendarError):
    """An instant came without its offset from UTC, so that its day in Shanghai is unknown."""

    def __init__(self, instant: datetime) -> None:
        super().__init__(instant)
        self.instant = instant

    def __str__(self) -> str:
        return f"the instant {self.instant.isoformat()} has no offset from UTC"


@dataclass(frozen=True, slots=True)
class Deadline:
    """The end of the last working day of a limit, and what it was computed from."""

    due_at: datetime
    """24:00 in Shanghai of `due_day`, as an instant in UTC: the first instant that is too late."""
    due_day: date
    provisional: bool
    """True when a day counted lies outside the published days: a later calendar may move this deadline."""
    calendar_version: str


@dataclass(frozen=True, slots=True)
class WorkingCalendar:
    """Which days are worked, from `first` to `horizon` as published, Monday to Friday elsewhere.

    `off_days` and `work_days` name the days that are published; a day in neither follows its weekday. Lookups and
    additions cost the same for any day and any number of working days: they read a prefix index.
    """

    version: str
    first: date
    horizon: date
    """The last published day."""
    off_days: frozenset[date]
    work_days: frozenset[date]
    _origin: int = field(init=False, repr=False, compare=False)
    """Ordinal of the day before `first`: offset 0 of the index."""
    _span: int = field(init=False, repr=False, compare=False)
    """How many days are published."""
    _counts: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Working days among the first n published days, at n."""
    _ordinals: tuple[int, ...] = field(init=False, repr=False, compare=False)
    """Ordinal of the nth published working day, at n - 1."""

    def __post_init__(self) -> None:
        """Check the facts and build the index.

        Raises:
            HorizonBeforeFirst, DayOutsideCalendar, DayBothOffAndWork.

        """
        if self.horizon < self.first:
            raise HorizonBeforeFirst(self.first, self.horizon)
        for day in sorted(self.off_days | self.work_days):
            if not self.first <= day <= self.horizon:
                raise DayOutsideCalendar(day, self.first, self.horizon)
        for day in sorted(self.off_days & self.work_days):
            raise DayBothOffAndWork(day)
        origin = self.first.toordinal() - 1
        span = self.horizon.toordinal() - origin
        counts = [0]
        ordinals = []
        for ordinal in range(origin + 1, origin + span + 1):
            day = date.fromordinal(ordinal)
            if day in self.work_days or (day not in self.off_days and day.weekday() < _WEEK_WORKDAYS):
                ordinals.append(ordinal)
            counts.append(len(ordinals))
        object.__setattr__(self, "_origin", origin)
        object.__setattr__(self, "_span", span)
        object.__setattr__(self, "_counts", tuple(counts))
        object.__setattr__(self, "_ordinals", tuple(ordinals))

    def is_working(self, day: date) -> bool:
        """Whether the day is worked; Monday to Friday outside the published days (see `is_provisional`)."""
        offset = day.toordinal() - self._origin
        if 0 < offset <= self._span:
            counts = self._counts
            return counts[offset] != counts[offset - 1]
        return day.weekday() < _WEEK_WORKDAYS

    def is_provisional(self, day: date) -> bool:
        """Whether the day lies outside the published days, so that `is_working` only follows the weekday."""
        return not self.first <= day <= self.horizon

    def add_workdays(self, start: date, n: int) -> date:
        """Give the nth working day after `start`, which itself does not count; `start` for 0, backwards for n < 0.

        Raises:
            ValueError: the day would lie outside the years 1 to 9999.

        """
        ordinal = start.toordinal()
        if n > 0:
            return date.fromordinal(self._nth(self._count(ordinal) + n))
        if n < 0:
            return date.fromordinal(self._nth(self._count(ordinal - 1) + n + 1))
        return start

    def deadline(self, started: datetime, workdays: int) -> Deadline:
        """Give the deadline of a limit in working days (§四(二)): the day of `started` in Shanghai does not count.

        Raises:
            NaiveInstant: `started` has no offset.

        """
        start = self.day_of(started)
        due_day = self.add_workdays(start, workdays)
        due_at = self.end_of(due_day)
        provisional = self.is_provisional(start) or self.is_provisional(due_day)
        return Deadline(due_at, due_day, provisional, self.version)

    @staticmethod
    def end_of(day: date) -> datetime:
        """Give 24:00 in Shanghai of a day, as an instant in UTC."""
        return _EPOCH_UTC + timedelta(days=day.toordinal() + 1 - _EPOCH_ORDINAL)

    def workdays_between(self, start: date, end: date) -> int:
        """Count the working days after `start` up to and including `end`; the negative of it when `end` is earlier."""
        return self._count(end.toordinal()) - self._count(start.toordinal())

    def elapsed_workdays(self, start: datetime, end: datetime) -> float:
        """Give the working time from `start` to `end`, in working days of 24 hours each by Shanghai's midnights.

        A day off adds nothing. The negative of it when `end` is earlier.

        Raises:
            NaiveInstant: an instant has no offset.

        """
        return (self._worked(end) - self._worked(start)) / _DAY

    def day_of(self, instant: datetime) -> date:
        """Give the day in Shanghai on which an instant falls.

        Raises:
            NaiveInstant: the instant has no offset.

        """
        return date.fromordinal(_EPOCH_ORDINAL + _since_epoch(instant).days)

    def _worked(self, instant: datetime) -> timedelta:
        """Working time from the index's origin to an instant."""
        since_epoch = _since_epoch(instant)
        day = since_epoch.days
        ordinal = _EPOCH_ORDINAL + day
        before, through = self._count(ordinal - 1), self._count(ordinal)
        return _DAY * before + (since_epoch - _DAY * day) * (through - before)

    def _count(self, ordinal: int) -> int:
        """Working days from `first` up to and including a day; counted backwards, negative, before `first`."""
        offset = ordinal - self._origin
        if offset < 0:
            return _weekdays_to(ordinal) - _weekdays_to(self._origin)
        if offset <= self._span:
            return self._counts[offset]
        return self._counts[-1] + _weekdays_to(ordinal) - _weekdays_to(self._origin + self._span)

    def _nth(self, index: int) -> int:
        """Ordinal of the earliest day at which `_count` reaches an index: the inverse of `_count`."""
        if index < 1:
            return _nth_weekday(_weekdays_to(self._origin) + index)
        if index <= len(self._ordinals):
            return self._ordinals[index - 1]
        return _nth_weekday(_weekdays_to(self._origin + self._span) + index - len(self._ordinals))


def last_day(due_at: datetime) -> date:
    """Give the last day in Shanghai of a deadline, which ends at 24:00 of it."""
    return (due_at - timedelta(microseconds=1)).astimezone(SHANGHAI).date()


def latest_hour(now: datetime, hour: int) -> datetime:
    """Give the last time that it was this hour in Shanghai, `now` included."""
    today = now.astimezone(SHANGHAI).replace(hour=hour, minute=0, second=0, microsecond=0)
    return today if today <= now else today - _DAY


def _since_epoch(instant: datetime) -> timedelta:
    """Time since Shanghai's midnight of 1 January 1970; its `days` count Shanghai's days, also before."""
    if instant.utcoffset() is None:
        raise NaiveInstant(instant)
    # Both in UTC, as nearly all instants are, so that neither is asked for its offset again.
    return instant - _EPOCH_UTC


def _weekdays_to(ordinal: int) -> int:
    """Mondays to Fridays up to and including a day. Ordinal 1 is a Monday."""
    weeks, rest = divmod(ordinal, _WEEK_DAYS)
    return weeks * _WEEK_WORKDAYS + min(rest, _WEEK_WORKDAYS)


def _nth_weekday(n: int) -> int:
    """Ordinal of the nth Monday to Friday since ordinal 1."""
    weeks, rest = divmod(n - 1, _WEEK_WORKDAYS)
    return weeks * _WEEK_DAYS + rest + 1
