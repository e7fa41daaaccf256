"""Who is at the pages: sessions of people who have stepped in, kept in the process's memory.

A session is known by a random token in a cookie that scripts cannot read and other sites cannot send. What it may do is
decided where it is asked: the session only says who, of which bureau, in which role.
"""

import hmac
import secrets
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, Protocol

from kuaixiang.domain.words import Role

TOKEN_BYTES: Final = 32
IDLE_HOURS_MAX: Final = 10
"""A working day and a break: who has not asked for anything so long steps in again."""
SESSIONS_MAX: Final = 10_000
"""Sessions that are kept; the one unused longest gives way."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Person:
    """Somebody at the pages, in one capacity: an officer of a bureau, or whoever reads the figures of a scope."""

    bureau: str
    actor: str
    name: str
    role: Role
    department: str


@dataclass(slots=True)
class Session:
    """A person who has stepped in. `csrf` is in every form, so that a form is one of ours."""

    person: Person
    csrf: str = field(default_factory=lambda: secrets.token_urlsafe(TOKEN_BYTES))
    used_at: datetime = field(default_factory=lambda: datetime.now(UTC))

    def is_form_of(self, token: str) -> bool:
        """Whether a form's token is this session's."""
        return hmac.compare_digest(self.csrf.encode(), token.encode(errors="replace"))


class SignIn(Protocol):
    """How somebody becomes a person of the pages."""

    def people(self) -> Sequence[Person]:
        """Who may step in without a password, in the demonstration; empty elsewhere."""
        ...

    def knows(self, person: Person) -> bool:
        """Whether the person is still somebody here, in that capacity."""
        ...


class Sessions:
    """The sessions of one process. For the event loop's thread."""

    def __init__(self, now: Callable[[], datetime] = lambda: datetime.now(UTC)) -> None:
        self._now = now
        self._sessions: OrderedDict[str, Session] = OrderedDict()

    def begin(self, person: Person) -> str:
        """A new session; its token."""
        token = secrets.token_urlsafe(TOKEN_BYTES)
        self._sessions[token] = Session(person, used_at=self._now())
        while len(self._sessions) > SESSIONS_MAX:
            self._sessions.popitem(last=False)
        return token

    def of(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a token; None for one that is unknown or has been idle too long.

        `touch`: somebody is there. What a page asks by itself does not keep a session.
        """
        session = self._sessions.get(token)
        if session is None:
            return None
        now = self._now()
        if now - session.used_at > timedelta(hours=IDLE_HOURS_MAX):
            del self._sessions[token]
            return None
        if touch:
            session.used_at = now
            self._sessions.move_to_end(token)
        return session

    def end(self, token: str) -> None:
        """Forget a session."""
        self._sessions.pop(token, None)
