"""Tokens of channels 渠道: for programs that register and ask for status, in one bureau, as one channel, for a time."""

import secrets
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Final

from kuaixiang.accounts.store import TOKENS, Store, key_of, new_secret
from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.sign_in import NoSuchToken, SignInEnded
from kuaixiang.domain.words import Channel, TokenScope
from kuaixiang.runtime.clock import EPOCH, from_micros, to_micros

PREFIX: Final = "kx-channel-"
ID_BYTES: Final = 4
"""Of the number by which a token is listed and revoked; it opens nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class IssuedToken:
    """A token as it is listed. `used_at` and `revoked_at` are `EPOCH` where that has not been."""

    token_id: str
    allows: ChannelToken
    issued_by: str
    issued_at: datetime
    expires_at: datetime
    revoked_at: datetime = EPOCH
    used_at: datetime = EPOCH


class Tokens:
    """The tokens that a service's bureaus have issued. For the event loop's thread. `now` is the machine's time."""

    def __init__(self, store: Store, now: Callable[[], datetime]) -> None:
        self._store = store
        self._now = now
        self._touched: set[str] = set()
        self._tokens: dict[str, IssuedToken] = {row.key: _read(row) for row in store.rows(TOKENS)}

    async def issue(self, allows: ChannelToken, issued_by: str, expires_at: datetime) -> tuple[str, IssuedToken]:
        """A new token: its secret, which is shown once and kept nowhere, and what is listed of it."""
        secret = new_secret(PREFIX)
        issued = IssuedToken(
            token_id=secrets.token_hex(ID_BYTES),
            allows=allows,
            issued_by=issued_by,
            issued_at=self._now(),
            expires_at=expires_at,
        )
        await self._keep(key_of(secret), issued)
        return secret, issued

    async def revoke(self, bureau: str, token_id: str) -> IssuedToken:
        """From now on the token is good for nothing; raises `NoSuchToken`."""
        for key, issued in self._tokens.items():
            if (issued.allows.bureau, issued.token_id) == (bureau, token_id):
                gone = issued if issued.revoked_at > EPOCH else replace(issued, revoked_at=self._now())
                await self._keep(key, gone)
                return gone
        raise NoSuchToken(bureau)

    def of(self, bureau: str) -> list[IssuedToken]:
        """The tokens of a bureau, the latest first, also those that are over."""
        ones = (issued for issued in self._tokens.values() if issued.allows.bureau == bureau)
        return sorted(ones, key=lambda issued: issued.issued_at, reverse=True)

    def use(self, secret: str) -> ChannelToken:
        """What a token allows whoever sends it; raises `SignInEnded` for one that is unknown, expired or revoked."""
        key, now = key_of(secret), self._now()
        issued = self._tokens.get(key)
        if issued is None or issued.revoked_at > EPOCH or now >= issued.expires_at:
            raise SignInEnded
        self._tokens[key] = replace(issued, used_at=now)
        self._touched.add(key)
        return issued.allows

    async def step(self) -> bool:
        """Write down which tokens were used; never more to do at once."""
        touched, self._touched = self._touched, set()
        if touched:
            await self._store.put(TOKENS, [_row(key, self._tokens[key]) for key in touched])
        return False

    async def _keep(self, key: str, issued: IssuedToken) -> None:
        await self._store.put(TOKENS, [_row(key, issued)])
        self._tokens[key] = issued


def _row(key: str, issued: IssuedToken) -> tuple[Any, ...]:
    allows = issued.allows
    return (
        key,
        issued.token_id,
        allows.bureau,
        int(allows.channel),
        " ".join(str(int(scope)) for scope in sorted(allows.scopes)),
        issued.issued_by,
        to_micros(issued.issued_at),
        to_micros(issued.expires_at),
        to_micros(issued.revoked_at),
        to_micros(issued.used_at),
    )


def _read(row: Any) -> IssuedToken:  # noqa: ANN401 - a row of the table
    return IssuedToken(
        token_id=row.token_id,
        allows=ChannelToken(
            bureau=row.bureau,
            channel=Channel(row.channel),
            scopes=frozenset(TokenScope(int(scope)) for scope in row.scopes.split()),
        ),
        issued_by=row.issued_by,
        issued_at=from_micros(row.issued_at_us),
        expires_at=from_micros(row.expires_at_us),
        revoked_at=from_micros(row.revoked_at_us),
        used_at=from_micros(row.used_at_us),
    )
