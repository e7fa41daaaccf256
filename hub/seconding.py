"""Overrides that take a second person: each of the two signs in himself, and names nobody else.

Pure rules. What is asked for is kept in the hub's database until it is confirmed, or too old; nothing is published by
asking.
"""

from typing import Final

from hub.editions import OverrideAsked
from hub.publishing import Override, OverrideByOne, OverrideUnsigned, PeriodNotOver, end_of
from kuaixiang.domain.authority import SignedIn
from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.domain.periods import Period
from kuaixiang.domain.registration import NOTE_CHARACTERS_MAX, at_most
from kuaixiang.domain.sign_in import NotSignedIn, NotYourself
from kuaixiang.runtime.clock import MICROS_PER_SECOND

HOURS_TO_CONFIRM: Final = 24
"""A working day to find a colleague: what he confirms after that may be about other gaps."""


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


def ask(officer: SignedIn | None, scope: str, period: Period, override: Override, now_us: int) -> OverrideAsked:
    """What whoever has signed in asks for, with a reason; to be kept in the place of an earlier one.

    Raises `PeriodNotOver`, `OverrideUnsigned`, `NotSignedIn`, `NotYourself`, `FieldMalformed`.
    """
    officer = _himself(officer, override.by, "override_by")
    if override.second.strip():
        raise NotYourself("override_second", officer)
    if now_us < end_of(period):
        raise PeriodNotOver(period)
    reason = override.reason.strip()
    if not reason:
        raise OverrideUnsigned("override_reason")
    at_most(reason, "override_reason", NOTE_CHARACTERS_MAX)
    return OverrideAsked(
        scope=scope,
        period=str(period),
        bureau=officer.bureau,
        actor=officer.actor,
        name=officer.name,
        reason=reason,
        asked_at_us=now_us,
        until_us=now_us + HOURS_TO_CONFIRM * 3600 * MICROS_PER_SECOND,
    )


def confirm(
    officer: SignedIn | None,
    scope: str,
    period: Period,
    override: Override,
    *,
    asked: OverrideAsked | None,
    now_us: int,
) -> Override:
    """Another one who has signed in confirms what he names; the override with both names.

    Raises `NoOverrideToConfirm`, `OverrideByOne`, `OverrideUnsigned`, `NotSignedIn`, `NotYourself`.
    """
    officer = _himself(officer, override.second, "override_second")
    if not override.by.strip():
        raise OverrideUnsigned("override_by")
    if asked is None or asked.until_us <= now_us or asked.actor != override.by.strip():
        raise NoOverrideToConfirm(scope, period)
    if officer.is_same(asked.bureau, asked.actor):
        raise OverrideByOne(officer.signature)
    return Override(asker_of(asked).signature, officer.signature, asked.reason)


def asker_of(asked: OverrideAsked) -> SignedIn:
    """Who has asked, as he signs; what he may do is asked of him when he does it."""
    return SignedIn(bureau=asked.bureau, actor=asked.actor, roles=frozenset(), name=asked.name)


def _himself(officer: SignedIn | None, named: str, field: str) -> SignedIn:
    """Who has signed in, who names himself or nobody; raises `NotSignedIn`, `NotYourself`."""
    if officer is None:
        raise NotSignedIn
    if named.strip() not in {"", officer.actor}:
        raise NotYourself(field, officer)
    return officer
