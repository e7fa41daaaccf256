"""Incomplete figures are published by two persons who have signed in, each of whom names himself."""

from datetime import UTC, datetime, timedelta

import pytest

from hub.publishing import Override, OverrideByOne, OverrideUnsigned
from hub.seconding import NoOverrideToConfirm, Seconding
from kuaixiang.domain.authority import SignedIn
from kuaixiang.domain.periods import parse_period
from kuaixiang.domain.sign_in import NotSignedIn, NotYourself
from kuaixiang.domain.words import Role
from kuaixiang.runtime.clock import to_micros

SCOPE, NOVEMBER = "110000", parse_period("2026-11")
ZHANG, LI = (SignedIn(bureau=SCOPE, actor=actor, roles=frozenset({Role.SUPERVISOR})) for actor in ("zhang", "li"))
ASKING, CONFIRMING = Override("", "", "上级要求当日通报"), Override("zhang", "", "")


class Hub:
    """What waits at a hub, and its business time."""

    def __init__(self) -> None:
        self.now = datetime(2026, 12, 3, 2, tzinfo=UTC)
        self.waiting = Seconding(lambda: to_micros(self.now))


@pytest.fixture
def hub() -> Hub:
    return Hub()


def test_one_asks_with_a_reason_and_another_confirms(hub: Hub) -> None:
    hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, ASKING)
    assert Override("zhang", "li", "上级要求当日通报") == hub.waiting.confirm(LI, SCOPE, NOVEMBER, CONFIRMING)
    hub.waiting.done(SCOPE, NOVEMBER)
    with pytest.raises(NoOverrideToConfirm):
        hub.waiting.confirm(LI, SCOPE, NOVEMBER, CONFIRMING)


def test_nobody_confirms_what_he_has_asked_for_himself(hub: Hub) -> None:
    hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, ASKING)
    with pytest.raises(OverrideByOne):
        hub.waiting.confirm(ZHANG, SCOPE, NOVEMBER, CONFIRMING)


def test_nobody_signs_for_somebody_else(hub: Hub) -> None:
    for override in (Override("li", "", "因"), Override("", "li", "因")):
        with pytest.raises(NotYourself):
            hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, override)
    hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, ASKING)
    with pytest.raises(NotYourself):
        hub.waiting.confirm(LI, SCOPE, NOVEMBER, Override("zhang", "wang", ""))
    with pytest.raises(NoOverrideToConfirm):
        hub.waiting.confirm(LI, SCOPE, NOVEMBER, Override("wang", "", ""))
    with pytest.raises(OverrideUnsigned):
        hub.waiting.confirm(LI, SCOPE, NOVEMBER, Override("", "li", ""))


def test_a_certificate_alone_is_no_person(hub: Hub) -> None:
    with pytest.raises(NotSignedIn):
        hub.waiting.ask(None, SCOPE, NOVEMBER, ASKING)
    hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, ASKING)
    with pytest.raises(NotSignedIn):
        hub.waiting.confirm(None, SCOPE, NOVEMBER, CONFIRMING)


def test_what_was_asked_for_a_day_ago_is_not_confirmed_any_more(hub: Hub) -> None:
    hub.waiting.ask(ZHANG, SCOPE, NOVEMBER, ASKING)
    hub.now += timedelta(hours=24)
    with pytest.raises(NoOverrideToConfirm):
        hub.waiting.confirm(LI, SCOPE, NOVEMBER, CONFIRMING)
