"""Sessions of people who have signed in: in memory, and in the store, so that a restart ends none of them.

A session is known by a random token: in a cookie that scripts cannot read and other sites cannot send, or in the
metadata of a terminal's calls. What it may do is decided where it is asked: the session only says who.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from kuaixiang.accounts.people import Claims, Person
from kuaixiang.accounts.store import SESSIONS, TOKEN_BYTES, Store, key_of, new_secret
from kuaixiang.domain.words import Role
from kuaixiang.runtime.clock import from_micros, to_micros

PREFIX: Final = "kx-session-"
IDLE_HOURS: Final = 10
"""A working day and a break: who has not asked for anything so long signs in again."""
HOURS_MAX: Final = 24
"""Whoever works on signs in once a day all the same."""
SESSIONS_MAX: Final = 10_000
"""Sessions that are kept; the one unused longest gives way."""
SESSIONS_OF_ONE_MAX: Final = 20
"""Of one account: terminals, browsers and scripts of one officer; the one unused longest gives way."""


@dataclass(slots=True)
class Session:
    """A person who has signed in, or stepped in at the demonstration's pages.

    `csrf` is in every form, so that a form is one of ours. `credential` stands for what was proven with: when it is
    not the account's any more, the session is over.
    """

    person: Person
    claims: Claims
    credential: str = ""
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES), repr=False)
    began_at: datetime = field(default_factory=lambda: datetime.now(UTC))
    used_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def is_form_of(self, token: str) -> bool:
        """Whether a form's token is this session's."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


def session_of(person: Person, claims: Claims | None = None, credential: str = "") -> Session:
    """A session of a person that begins now."""
    return Session(person, claims or Claims(bureau=person.bureau, actor=person.actor), credential)


class Sessions:
    """The sessions of one service. For the event loop's thread. `now` is the machine's time."""

    def __init__(
        self,
        store: Store | None = None,
        *,
        idle: timedelta = timedelta(hours=IDLE_HOURS),
        longest: timedelta = timedelta(hours=HOURS_MAX),
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._store = store
        self._idle = idle
        self._longest = longest
        self._now = now
        self._touched: set[str] = set()
        rows = () if store is None else sorted(store.rows(SESSIONS), key=lambda row: int(row.used_at_us))
        self._sessions: OrderedDict[str, Session] = OrderedDict((row.key, _read(row)) for row in rows)

    async def begin(self, session: Session) -> str:
        """Begins a session; its token, which was nobody's before. Durable when it returns."""
        token = new_secret(PREFIX)
        key = key_of(token)
        session.began_at = session.used_at = self._now()
        await self._write(key, session)
        self._sessions[key] = session
        await self._make_room(session.claims)
        return token

    async def change(self, token: str, person: Person) -> None:
        """The same somebody goes on in another capacity."""
        session = self.of(token)
        if session is not None:
            session.person = person
            await self._write(key_of(token), session)

    def of(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a token; None for one that is unknown, has been idle too long, or has lasted too long.

        `touch`: somebody is there. What a page asks by itself does not keep a session.
        """
        key = key_of(token)
        session = self._sessions.get(key)
        if session is None or self._is_over(session):
            return None
        if touch:
            session.used_at = self._now()
            self._touched.add(key)
            self._sessions.move_to_end(key)
        return session

    def ends_at(self, session: Session) -> datetime:
        """When a session ends at the latest, however it is used."""
        return session.began_at + self._longest

    async def end(self, token: str) -> None:
        """Forget a session."""
        await self._forget([key_of(token)])

    async def end_all(self, bureau: str, actor: str) -> int:
        """Forget every session of an account; how many there were."""
        keys = self._of_account(bureau, actor)
        await self._forget(keys)
        return len(keys)

    async def step(self) -> bool:
        """Write down which sessions were used and forget those that are over; never more to do at once."""
        await self._forget([key for key, session in self._sessions.items() if self._is_over(session)])
        touched, self._touched = self._touched & self._sessions.keys(), set()
        if touched and self._store is not None:
            await self._store.put(SESSIONS, [_row(key, self._sessions[key]) for key in touched])
        return False

    def _is_over(self, session: Session) -> bool:
        now = self._now()
        return now - session.used_at > self._idle or now - session.began_at > self._longest

    def _of_account(self, bureau: str, actor: str) -> list[str]:
        return [
            key
            for key, session in self._sessions.items()
            if (session.claims.bureau, session.claims.actor) == (bureau, actor)
        ]

    async def _make_room(self, claims: Claims) -> None:
        # The demonstration has one officer's sessions in as many tests as there are: only what is kept is bounded so.
        ones = self._of_account(claims.bureau, claims.actor) if self._store is not None else []
        await self._forget([*ones[:-SESSIONS_OF_ONE_MAX], *list(self._sessions)[:-SESSIONS_MAX]])

    async def _write(self, key: str, session: Session) -> None:
        if self._store is not None:
            await self._store.put(SESSIONS, [_row(key, session)])

    async def _forget(self, keys: Iterable[str]) -> None:
        gone = [key for key in dict.fromkeys(keys) if self._sessions.pop(key, None) is not None]
        if self._store is not None:
            await self._store.drop(SESSIONS, gone)


def _row(key: str, session: Session) -> tuple[Any, ...]:
    person, claims = session.person, session.claims
    return (
        key,
        claims.bureau,
        claims.actor,
        person.name,
        int(person.role),
        person.department,
        " ".join(str(int(role)) for role in sorted(claims.roles)),
        " ".join(sorted(claims.departments)),
        session.credential,
        session.csrf,
        to_micros(session.began_at),
        to_micros(session.used_at),
    )


def _read(row: Any) -> Session:  # noqa: ANN401 - a row of the table
    return Session(
        person=Person(
            bureau=row.bureau, actor=row.actor, name=row.name, role=Role(row.role), department=row.department
        ),
        claims=Claims(
            bureau=row.bureau,
            actor=row.actor,
            name=row.name,
            roles=frozenset(Role(int(role)) for role in row.claimed_roles.split()),
            departments=frozenset(row.claimed_departments.split()),
        ),
        credential=row.credential,
        csrf=row.csrf,
        began_at=from_micros(row.began_at_us),
        used_at=from_micros(row.used_at_us),
    )
