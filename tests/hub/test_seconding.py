"""Incomplete figures are published by two persons who have signed in, each of whom names himself."""

from datetime import UTC, datetime, timedelta

import pytest

from hub import seconding
from hub.editions import OverrideAsked
from hub.publishing import Override, OverrideByOne, OverrideUnsigned, PeriodNotOver
from hub.seconding import NoOverrideToConfirm
from kuaixiang.domain.authority import SignedIn
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.sign_in import NotSignedIn, NotYourself
from kuaixiang.domain.words import Role
from kuaixiang.runtime.clock import to_micros

SCOPE, NOVEMBER = "110000", parse_period("2026-11")
ZHANG, LI = (
    SignedIn(bureau=SCOPE, actor=actor, roles=frozenset({Role.SUPERVISOR}), name=name)
    for actor, name in (("zhang", "张三"), ("li", ""))
)
NAMESAKE = SignedIn(bureau="000000", actor="zhang", roles=ZHANG.roles)
"""Another bureau's officer of the same number."""
ASKING, CONFIRMING = Override("", "", "上级要求当日通报"), Override("zhang", "", "")


class Hub:
    """What waits at a hub, and its business time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 12, 3, 2, tzinfo=UTC)
        self.asked: OverrideAsked | None = None

    def ask(self, officer: SignedIn | None, override: Override) -> None:
        self.asked = seconding.ask(officer, SCOPE, NOVEMBER, override, to_micros(self.now))

    def confirm(self, officer: SignedIn | None, override: Override) -> Override:
        return seconding.confirm(officer, SCOPE, NOVEMBER, override, asked=self.asked, now_us=to_micros(self.now))


@pytest.fixture
def hub() -> Hub:
    return Hub()


def test_one_asks_with_a_reason_and_another_confirms(hub: Hub) -> None:
    with pytest.raises(NoOverrideToConfirm):
        hub.confirm(LI, CONFIRMING)
    hub.ask(ZHANG, ASKING)
    assert Override("张三 (110000 zhang)", "110000 li", "上级要求当日通报") == hub.confirm(LI, CONFIRMING)


def test_nobody_confirms_what_he_has_asked_for_himself(hub: Hub) -> None:
    hub.ask(ZHANG, ASKING)
    with pytest.raises(OverrideByOne):
        hub.confirm(ZHANG, CONFIRMING)


def test_the_same_number_in_two_bureaus_is_two_persons(hub: Hub) -> None:
    hub.ask(ZHANG, ASKING)
    assert "000000 zhang" == hub.confirm(NAMESAKE, CONFIRMING).second


def test_nobody_signs_for_somebody_else(hub: Hub) -> None:
    for override in (Override("li", "", "因"), Override("", "li", "因")):
        with pytest.raises(NotYourself):
            hub.ask(ZHANG, override)
    hub.ask(ZHANG, ASKING)
    with pytest.raises(NotYourself):
        hub.confirm(LI, Override("zhang", "wang", ""))
    with pytest.raises(NoOverrideToConfirm):
        hub.confirm(LI, Override("wang", "", ""))
    with pytest.raises(OverrideUnsigned):
        hub.confirm(LI, Override("", "li", ""))


def test_a_certificate_alone_is_no_person(hub: Hub) -> None:
    with pytest.raises(NotSignedIn):
        hub.ask(None, ASKING)
    hub.ask(ZHANG, ASKING)
    with pytest.raises(NotSignedIn):
        hub.confirm(None, CONFIRMING)


def test_nothing_is_asked_for_of_a_period_that_is_not_over_or_without_a_reason(hub: Hub) -> None:
    with pytest.raises(OverrideUnsigned):
        hub.ask(ZHANG, Override("zhang", "", " "))
    hub.now = datetime(2026, 11, 30, 15, 59, tzinfo=UTC)
    with pytest.raises(PeriodNotOver):
        hub.ask(ZHANG, ASKING)


def test_what_was_asked_for_a_day_ago_is_not_confirmed_any_more(hub: Hub) -> None:
    hub.ask(ZHANG, ASKING)
    hub.now += timedelta(hours=24)
    with pytest.raises(NoOverrideToConfirm):
        hub.confirm(LI, CONFIRMING)
