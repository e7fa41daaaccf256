"""Reading the times of a log, strictly: a time that cannot be told is a named condition, never a guess."""

import datetime as dt
from dataclasses import dataclass
from zoneinfo import ZoneInfo

ISO = "iso"


class TimeCondition(ValueError):
    """A time that a log gives and that cannot be used."""


class NoTime(TimeCondition):
    """The column is empty."""

    def __init__(self, column: str) -> None:
        super().__init__(f"{column} is empty")
        self.column = column


class UnreadableTime(TimeCondition):
    """The text is not a time of the log's format."""

    def __init__(self, column: str, text: str, expected: str) -> None:
        super().__init__(f"{column} is {text!r}, not a time of the form {expected!r}")
        self.column = column
        self.text = text
        self.expected = expected


class NoSuchLocalTime(TimeCondition):
    """The clocks of the zone were put forward over this time of day."""

    def __init__(self, column: str, text: str, zone: str) -> None:
        super().__init__(f"{column} is {text!r}, which no clock in {zone} ever showed")
        self.column = column
        self.text = text
        self.zone = zone


class ImplausibleTime(TimeCondition):
    """The time lies outside the years that the log can be about."""

    def __init__(self, column: str, at: dt.datetime, earliest: dt.datetime, latest: dt.datetime) -> None:
        super().__init__(f"{column} is {at.isoformat()}, outside {earliest.isoformat()} to {latest.isoformat()}")
        self.column = column
        self.at = at
        self.earliest = earliest
        self.latest = latest


@dataclass(frozen=True, slots=True)
class TimeRule:
    """How a log writes its times.

    Attributes:
        format: `iso` (ISO 8601), or a pattern of `strptime`.
        zone: the zone of times that carry no offset of their own; without it such a time is unreadable. An hour that
            the zone's clocks showed twice is taken as the first of the two.
        earliest: the first instant that the log can be about.
        latest: the end of what the log can be about, not included.
    """

    format: str
    zone: ZoneInfo | None
    earliest: dt.datetime
    latest: dt.datetime

    def read(self, column: str, text: str) -> dt.datetime:
        """The instant in UTC.

        Raises:
            TimeCondition: one of this module's, naming the column.
        """
        if not text:
            raise NoTime(column)
        local = self._parse(column, text)
        if local.tzinfo is None:
            if self.zone is None:
                raise UnreadableTime(column, text, "a time with its offset")
            at = local.replace(tzinfo=self.zone).astimezone(dt.UTC)
            if at.astimezone(self.zone).replace(tzinfo=None) != local:
                raise NoSuchLocalTime(column, text, self.zone.key)
        else:
            at = local.astimezone(dt.UTC)
        if not self.earliest <= at < self.latest:
            raise ImplausibleTime(column, at, self.earliest, self.latest)
        return at

    def read_if_any(self, column: str, text: str) -> dt.datetime | None:
        """The instant in UTC, None for an empty text; raises as `read` does."""
        return self.read(column, text) if text else None

    def _parse(self, column: str, text: str) -> dt.datetime:
        try:
            if self.format == ISO:
                return dt.datetime.fromisoformat(text)
            return dt.datetime.strptime(text, self.format)  # noqa: DTZ007 (the zone is put on by the caller)
        except (ValueError, OverflowError) as error:
            raise UnreadableTime(column, text, self.format) from error
