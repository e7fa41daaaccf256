"""Wrong passwords cost time: for each account and each address a pause that grows with every further one.

Counted in memory: a restart forgets it, and costs an attacker more than a pause does. An account that is not there is
counted like any other, so that a pause tells nothing.
"""

import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from prometheus_client import Counter

from kuaixiang.domain.sign_in import TooManyAttempts
from kuaixiang.runtime.loops import doubled

FREE_FOR_ACCOUNT: Final = 4
"""Wrong passwords of one account without a pause: the Caps Lock key, twice."""
FREE_FOR_ADDRESS: Final = 20
"""Wrong passwords from one address without a pause: a hall's officers may share one."""
PAUSE_SECONDS: Final = 2
"""The first pause; each further wrong password doubles it …"""
PAUSE_SECONDS_MAX: Final = 300
"""… up to this: 288 guesses a day, and whoever is kept out by a stranger's guesses waits five minutes."""
FORGOTTEN_SECONDS: Final = 3600
"""Wrong passwords so long ago count no more."""
KEPT_MAX: Final = 20_000
"""Accounts and addresses that are remembered; those that failed longest ago give way."""
NAME_CHARACTERS_MAX: Final = 128
"""Of a bureau, a number or an address that is remembered, far beyond any there is: a stranger may send megabytes."""

PAUSED: Final = Counter("kx_sign_in_paused_total", "Attempts to sign in that were not looked at before their time.")


@dataclass(slots=True)
class _Failures:
    count: int
    last: datetime
    until: datetime


class Lockout:
    """Counts wrong passwords. `now` is the machine's time: a demonstration's clock must not shorten a pause."""

    def __init__(self, now: Callable[[], datetime]) -> None:
        self._now = now
        self._failures: OrderedDict[tuple[str, ...], _Failures] = OrderedDict()

    def check(self, account: tuple[str, str], address: str) -> None:
        """Raises `TooManyAttempts` while a pause of the account or of the address lasts."""
        now = self._now()
        until = max((self._until(key, now) for key, _ in _keys(account, address)), default=now)
        if until > now:
            PAUSED.inc()
            raise TooManyAttempts(until, math.ceil((until - now).total_seconds()))

    def failed(self, account: tuple[str, str], address: str) -> None:
        """A wrong password."""
        now = self._now()
        for key, free in _keys(account, address):
            known = self._failures.pop(key, None)
            count = 1 if known is None or self._is_forgotten(known, now) else known.count + 1
            over = count - free
            pause = doubled(over, PAUSE_SECONDS, PAUSE_SECONDS_MAX) if over > 0 else 0
            self._failures[key] = _Failures(count, now, now + timedelta(seconds=pause))
        while len(self._failures) > KEPT_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, account: tuple[str, str]) -> None:
        """The right password: the account begins anew; its address does not, whoever owns one account."""
        self._failures.pop(_known_by(account), None)

    def _until(self, key: tuple[str, ...], now: datetime) -> datetime:
        known = self._failures.get(key)
        return now if known is None or self._is_forgotten(known, now) else known.until

    @staticmethod
    def _is_forgotten(known: _Failures, now: datetime) -> bool:
        return now - known.last > timedelta(seconds=FORGOTTEN_SECONDS)


def _keys(account: tuple[str, str], address: str) -> Iterable[tuple[tuple[str, ...], int]]:
    yield _known_by(account), FREE_FOR_ACCOUNT
    if address:
        yield _known_by((address,)), FREE_FOR_ADDRESS


def _known_by(names: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(name[:NAME_CHARACTERS_MAX] for name in names)
