"""Wrong passwords cost time: for each account and each address a pause that grows with every further one.

Counted in memory; whoever has to wait is in the store, too, so that a restart lifts no pause. He is known there by a
hash, and comes there after several failures only: what is typed as a number may be a password. An account that is not
there is counted like any other, so that a pause tells nothing.
"""

import asyncio
import math
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from ipaddress import IPv6Address, ip_address
from typing import Any, Final

from prometheus_client import Counter

from kuaixiang.accounts.store import PAUSES, Store, key_of
from kuaixiang.domain.sign_in import TooManyAttempts
from kuaixiang.runtime.clock import from_micros, to_micros
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
OWN_BITS: Final = 64
"""Of an IPv6 address, the part that whoever is at it chooses himself: he would have another address for each guess."""
KEPT_MAX: Final = 20_000
"""Accounts and addresses that are remembered; those that failed longest ago give way."""

PAUSED: Final = Counter("kx_sign_in_paused_total", "Attempts to sign in that were not looked at before their time.")


@dataclass(slots=True)
class _Failures:
    count: int
    last: datetime
    until: datetime


class Lockout:
    """Counts wrong passwords. `now` is the machine's time: a demonstration's clock must not shorten a pause.

    With a `store` pauses outlast a restart, once `step` has returned.
    """

    def __init__(self, now: Callable[[], datetime], store: Store | None = None) -> None:
        self._now = now
        self._store = store
        rows = () if store is None else sorted(store.rows(PAUSES), key=lambda row: int(row.last_at_us))
        self._failures: OrderedDict[str, _Failures] = OrderedDict((row.key, _read(row)) for row in rows)
        self._changed: set[str] = set()
        self._kept = set(self._failures)
        self._writing = asyncio.Lock()

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
            if pause:
                self._changed.add(key)
        while len(self._failures) > KEPT_MAX:
            self._failures.popitem(last=False)

    def succeeded(self, account: tuple[str, str]) -> None:
        """The right password: the account begins anew; its address does not, whoever owns one account."""
        self._failures.pop(_known_by(account), None)

    async def step(self) -> bool:
        """Write down who has to wait, and forget whom nobody remembers; never more to do at once."""
        # One after the other: a pause that has just begun must not fall to who forgets the one before it.
        async with self._writing:
            await self._write()
        return False

    async def _write(self) -> None:
        now = self._now()
        # Whoever failed longest ago comes first.
        while self._failures and self._is_forgotten(next(iter(self._failures.values())), now):
            self._failures.popitem(last=False)
        if self._store is None:
            return
        changed, self._changed = self._changed & self._failures.keys(), set()
        gone = self._kept - self._failures.keys()
        self._kept = (self._kept - gone) | changed
        if changed:
            await self._store.put(PAUSES, [_row(key, self._failures[key]) for key in changed])
        await self._store.drop(PAUSES, gone)

    def _until(self, key: str, now: datetime) -> datetime:
        known = self._failures.get(key)
        return now if known is None or self._is_forgotten(known, now) else known.until

    @staticmethod
    def _is_forgotten(known: _Failures, now: datetime) -> bool:
        return now - known.last > timedelta(seconds=FORGOTTEN_SECONDS)


def _keys(account: tuple[str, str], address: str) -> Iterable[tuple[str, int]]:
    yield _known_by(account), FREE_FOR_ACCOUNT
    if address:
        yield _known_by((_counted(address),)), FREE_FOR_ADDRESS


def _counted(address: str) -> str:
    """What an address is counted under: its network where it has many, the IPv4 address where it stands for one."""
    try:
        found = ip_address(address)
    except ValueError:
        return address
    if not isinstance(found, IPv6Address):
        return str(found)
    return str(found.ipv4_mapped or IPv6Address(int(found) >> OWN_BITS << OWN_BITS))


def _known_by(names: tuple[str, ...]) -> str:
    return key_of("\n".join(names))


def _row(key: str, known: _Failures) -> tuple[Any, ...]:
    return key, known.count, to_micros(known.last), to_micros(known.until)


def _read(row: Any) -> _Failures:  # noqa: ANN401 - a row of the table
    return _Failures(row.failures, from_micros(row.last_at_us), from_micros(row.until_us))
