"""Overrides that wait for a second person: each of the two signs in himself, and names nobody else.

Kept in memory: whoever asked before a restart asks again. Nothing is published by asking.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from hub.publishing import Override, OverrideByOne, OverrideUnsigned
from kuaixiang.domain.authority import SignedIn
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.periods import Period
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX, at_most
from kuaixiang.domain.sign_in import NotSignedIn, NotYourself
from kuaixiang.runtime.clock import MICROS_PER_SECOND

HOURS_TO_CONFIRM: Final = 24
"""A working day to find a colleague: what he confirms after that may be about other gaps."""

Key = tuple[str, str]
"""Scope and period."""


class NoOverrideToConfirm(Refused):
    """Nobody has asked for the override that somebody would confirm, or too long ago."""

    condition = Condition.STATE
    field = "override_by"
    remedy = f"The first person asks with a reason, the second confirms within {HOURS_TO_CONFIRM} hours, naming him."
    remedy_chinese = f"请由第一人说明理由提出申请，第二人在 {HOURS_TO_CONFIRM} 小时内注明申请人并确认。"

    def __init__(self, scope: str, period: Period) -> None:
        super().__init__(
            f"Nobody has asked to have incomplete figures of {scope} for {period} published.",
            f"没有待确认的申请：单位 {scope} {period.chinese}数据不完整时发布。",
        )


@dataclass(frozen=True, slots=True)
class Asked:
    """An override that somebody has asked for, until when it may be confirmed."""

    by: str
    reason: str
    until_us: int


class Seconding:
    """The overrides of one hub that wait. For the event loop's thread; `now_us` is business time."""

    def __init__(self, now_us: Callable[[], int]) -> None:
        self._now_us = now_us
        self._asked: dict[Key, Asked] = {}

    def ask(self, officer: SignedIn | None, scope: str, period: Period, override: Override) -> Asked:
        """Whoever has signed in asks, with a reason; a later one takes the place of an earlier one."""
        officer = _himself(officer, override.by, "override_by")
        if override.second.strip():
            raise NotYourself("override_second", officer)
        at_most(override.reason, "override_reason", NOTE_CHARACTERS_MAX)
        now_us = self._now_us()
        self._asked = {key: one for key, one in self._asked.items() if one.until_us > now_us}
        until_us = now_us + HOURS_TO_CONFIRM * 3600 * MICROS_PER_SECOND
        asked = self._asked[scope, str(period)] = Asked(officer.actor, override.reason.strip(), until_us)
        return asked

    def confirm(self, officer: SignedIn | None, scope: str, period: Period, override: Override) -> Override:
        """Another one who has signed in confirms what he names; the override with both names.

        Raises `NoOverrideToConfirm`, `OverrideByOne`, `OverrideUnsigned`, `NotSignedIn`, `NotYourself`.
        """
        officer = _himself(officer, override.second, "override_second")
        if not override.by.strip():
            raise OverrideUnsigned("override_by")
        asked = self._asked.get((scope, str(period)))
        if asked is None or asked.until_us <= self._now_us() or asked.by != override.by.strip():
            raise NoOverrideToConfirm(scope, period)
        if asked.by == officer.actor:
            raise OverrideByOne(officer.actor)
        return Override(asked.by, officer.actor, asked.reason)

    def done(self, scope: str, period: Period) -> None:
        """It has been published: nothing waits any more."""
        self._asked.pop((scope, str(period)), None)


def _himself(officer: SignedIn | None, named: str, field: str) -> SignedIn:
    """Who has signed in, who names himself or nobody; raises `NotSignedIn`, `NotYourself`."""
    if officer is None:
        raise NotSignedIn
    if named.strip() not in {"", officer.actor}:
        raise NotYourself(field, officer)
    return officer
