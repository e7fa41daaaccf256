"""Who is at a service: the one place that its gRPC server and its pages ask.

Where signing in is required, a terminal's certificate says which bureau's terminal it is and no more: who acts or reads
comes from what the officer, or the channel's program, sends with the call. Peers (nodes, hubs) are known by their
certificates and send nothing.
"""

import asyncio
import hashlib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Final

import structlog
from google.protobuf.descriptor import Descriptor, FieldDescriptor
from prometheus_client import Counter

from kuaixiang.accounts import passwords
from kuaixiang.accounts.lockout import Lockout
from kuaixiang.accounts.oidc import IdentityRefused, Provider
from kuaixiang.accounts.people import Claims, Person, capacities, roles_of
from kuaixiang.accounts.sessions import PREFIX as SESSION_PREFIX
from kuaixiang.accounts.sessions import Session, Sessions, session_of
from kuaixiang.accounts.store import Store
from kuaixiang.accounts.tokens import PREFIX as TOKEN_PREFIX
from kuaixiang.accounts.tokens import Tokens
from kuaixiang.accounts.users import User, UsersFile
from kuaixiang.domain.authority import Caller, SignedIn
from kuaixiang.domain.errors import Refused
from kuaixiang.domain.labels import Both
from kuaixiang.domain.sign_in import (
    PASSWORD_CHARACTERS_MAX,
    NewPasswordNeeded,
    NoPasswords,
    NotSignedIn,
    NotThisOffice,
    SignInEnded,
    WrongPassword,
    check_password_fits,
    check_person,
)
from kuaixiang.domain.staff import Staff
from kuaixiang.domain.words import Role
from kuaixiang.runtime import tracing
from kuaixiang.runtime.loops import Loop
from kuaixiang.wire.v1 import case_pb2

HASHES_AT_ONCE_MAX: Final = 2
"""Passwords that are looked at at a time, 64 MiB each: more would take the machine from those who are signed in."""
STEP_SECONDS: Final = 60.0
"""How often it is written down which sessions and tokens were used: a crash costs idle time, never a session."""
WITHOUT_SIGN_IN: Final = frozenset({"SignIn"})
"""Calls that a terminal makes to become somebody."""

SIGN_INS: Final = Counter(
    "kx_sign_ins_total", "Attempts to sign in, by way and by whether somebody came in.", ["way", "outcome"]
)

_log: Final = structlog.get_logger(__name__)


class Officers:
    """Signs officers in and knows who they are. `now` is the machine's time.

    `staff` gives a bureau's list; `roles` are those in which one may be at this service. Without `users` there are no
    passwords. `required`: terminals are not believed. `store` keeps pauses after wrong passwords.
    """

    def __init__(
        self,
        *,
        bureaus: Iterable[str],
        staff: Callable[[str], Staff],
        users: UsersFile | None,
        sessions: Sessions,
        tokens: Tokens | None,
        provider: Provider | None = None,
        roles: Iterable[Role] = Role,
        required: bool = True,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        store: Store | None = None,
    ) -> None:
        self.bureaus = frozenset(bureaus)
        self.sessions = sessions
        self.tokens = tokens
        self.provider = provider
        self.required = required
        self.now = now
        self._staff = staff
        self._users = users
        self._roles = frozenset(roles)
        self._lockout = Lockout(now, store)
        self._hashing = asyncio.Semaphore(HASHES_AT_ONCE_MAX)
        self._loop = Loop("accounts", self.step, STEP_SECONDS)

    @property
    def takes_passwords(self) -> bool:
        """Whether officers may sign in with a password here."""
        return self._users is not None

    async def start(self) -> None:
        """Begin to look at the users file and to write down what was used."""
        if self._users is not None:
            await self._users.start()
        self._loop.start()

    async def stop(self) -> None:
        """End, with everything written down."""
        await self._loop.stop()
        await self.step()
        if self._users is not None:
            await self._users.stop()

    async def step(self) -> bool:
        """Write down what was used; never more to do at once."""
        await self.sessions.step()
        await self._lockout.step()
        if self.tokens is not None:
            await self.tokens.step()
        return False

    # ------------------------------------------------------------ signing in and out

    async def sign_in(
        self, bureau: str, actor: str, password: str, *, new_password: str = "", address: str = ""
    ) -> tuple[str, Session]:
        """Signs somebody in by his password; the token and the session, which are new ones.

        With `new_password` that one holds from now on, and whoever was signed in with the old one is out. Raises
        `NoPasswords`, `TooManyAttempts`, `WrongPassword`, `NewPasswordNeeded`, `PasswordUnfit`.
        """
        if self._users is None:
            raise NoPasswords
        account = (bureau, actor)
        self._lockout.check(account, address)
        user = self._users.of(bureau, actor)
        with tracing.part("check password"):
            async with self._hashing:
                # Once more: others may have guessed while this one waited.
                self._lockout.check(account, address)
                within = password[: PASSWORD_CHARACTERS_MAX + 1]
                right = await asyncio.to_thread(passwords.fits, user.password if user is not None else None, within)
                if not right:
                    self._lockout.failed(account, address)
                    await self._lockout.step()
        claims = Claims(bureau=bureau, actor=actor)
        person = next(iter(self.capacities(claims)), None)
        if not right or user is None or person is None:
            # Neither the number nor whether there is one is told, not even to the log: a password may be typed there.
            SIGN_INS.labels("password", "refused").inc()
            _log.warning("A sign-in was refused.", action="sign_in.refused", way="password", bureau=self._known(bureau))
            raise WrongPassword
        self._lockout.succeeded(account)
        await self._lockout.step()
        if new_password:
            user = await self._change_password(user, bureau, actor, password, new_password)
        elif user.must_change:
            raise NewPasswordNeeded
        return await self._begin("password", session_of(person, claims, _fingerprint(user)))

    async def _change_password(self, user: User, bureau: str, actor: str, password: str, new_password: str) -> User:
        assert self._users is not None  # noqa: S101 - whoever has a user has the file
        check_password_fits(new_password, actor, password)
        async with self._hashing:
            kept = await asyncio.to_thread(passwords.hash_of, new_password)
        changed = await self._users.set_password(bureau, actor, user, kept)
        if changed is None:
            SIGN_INS.labels("password", "refused").inc()
            _log.warning("A sign-in was refused.", action="sign_in.refused", way="password", bureau=self._known(bureau))
            raise WrongPassword
        await self.sessions.end_all(bureau, actor)
        _log.info("An officer has changed his password.", action="sign_in.password", bureau=bureau, actor=actor)
        return changed

    async def sign_in_by_provider(self, browser: str, answer: Mapping[str, str]) -> tuple[str, Session, str]:
        """Signs in whom the provider has sent back; the token, the session, and where he was going.

        Raises `IdentityRefused`, `ProviderAway`.
        """
        assert self.provider is not None  # noqa: S101 - the page is there where the provider is
        try:
            with tracing.part("ask identity provider"):
                claims, to = await self.provider.complete(browser, answer)
            person = self._person_of(claims)
        except Refused:
            SIGN_INS.labels("provider", "refused").inc()
            raise
        token, session = await self._begin("provider", session_of(person, claims, _PROVEN_ELSEWHERE))
        return token, session, to

    def _person_of(self, claims: Claims) -> Person:
        """Whom the provider names, as one who works here; raises `IdentityRefused`."""
        person = next(iter(self.capacities(claims)), None)
        if person is None:
            raise IdentityRefused(Both("whom it names has no role here", "其中的人员在本系统没有岗位"))
        return person

    async def _begin(self, way: str, session: Session) -> tuple[str, Session]:
        token = await self.sessions.begin(session)
        SIGN_INS.labels(way, "signed in").inc()
        _log.info(
            "An officer has signed in.",
            action="sign_in.done",
            way=way,
            bureau=session.claims.bureau,
            actor=session.claims.actor,
        )
        return token, session

    async def sign_out(self, token: str, *, everywhere: bool = False) -> int:
        """Ends a sign-in, or all of that officer's; how many."""
        session = self.session_of(token, touch=False)
        if session is None:
            return 0
        claims = session.claims
        _log.info("An officer has signed out.", action="sign_in.ended", bureau=claims.bureau, actor=claims.actor)
        if everywhere:
            return await self.sessions.end_all(claims.bureau, claims.actor)
        await self.sessions.end(token)
        return 1

    # ------------------------------------------------------------ who it is

    def capacities(self, claims: Claims) -> list[Person]:
        """In which capacities somebody may be here now; empty for nobody."""
        if claims.bureau not in self.bureaus:
            return []
        return capacities(self._staff(claims.bureau), claims, self._roles)

    def session_of(self, token: str, *, touch: bool = True) -> Session | None:
        """The session of a token, while its officer is who he was: on the list of staff, with the same password."""
        session = self.sessions.of(token, touch=touch)
        return session if session is not None and self._stands(session) else None

    def _stands(self, session: Session) -> bool:
        claims = session.claims
        if session.credential != _PROVEN_ELSEWHERE:
            user = self._users.of(claims.bureau, claims.actor) if self._users is not None else None
            if user is None or session.credential != _fingerprint(user):
                return False
        now = self.capacities(claims)
        if session.person in now:
            return True
        # The capacity is gone, the officer is not: he goes on in another one.
        if now:
            session.person = now[0]
        return bool(now)

    def _known(self, bureau: str) -> str:
        """A bureau for the log; what is none of this service's may be anything."""
        return bureau if bureau in self.bureaus else ""

    # ------------------------------------------------------------ gRPC's gate

    async def admit(self, caller: Caller, method: str, authorization: str, *, again: bool = False) -> Caller:
        """The caller with who came with the call; raises `Refused` for what may not come in.

        `again`: a stream goes on, which keeps no session.
        """
        bearer = authorization.removeprefix("Bearer ").strip()
        if not bearer:
            if (
                self.required
                and method not in WITHOUT_SIGN_IN
                and caller.offices
                and not (caller.bureaus | caller.hubs)
            ):
                raise NotSignedIn
            return caller
        if method in WITHOUT_SIGN_IN:
            return caller
        if bearer.startswith(TOKEN_PREFIX):
            if self.tokens is None:
                raise SignInEnded
            token = self.tokens.use(bearer)
            return replace(_at_office_of(caller, token.bureau), token=token)
        claims = await self._claims(bearer, touch=not again)
        staff = self._staff(claims.bureau)
        listed = staff.officers.get(claims.actor)
        officer = SignedIn(
            bureau=claims.bureau,
            actor=claims.actor,
            roles=roles_of(staff, claims),
            name=(listed.name if listed is not None else "") or claims.name,
        )
        return replace(_at_office_of(caller, claims.bureau), officer=officer)

    async def _claims(self, bearer: str, *, touch: bool) -> Claims:
        if self.provider is not None and not bearer.startswith(SESSION_PREFIX):
            claims = await self.provider.claims_of(bearer)
            self._person_of(claims)
            return claims
        session = self.session_of(bearer, touch=touch) if bearer.startswith(SESSION_PREFIX) else None
        if session is None:
            raise SignInEnded
        return session.claims

    def check(self, caller: Caller, message: Any) -> None:  # noqa: ANN401 - any request
        """Whoever a request says acts or reads is who came with the call; raises `Refused`."""
        if not self.required:
            return
        for path in _headers_in(message.DESCRIPTOR):
            for header in _at(message, path):
                check_person(caller, header.bureau, header.actor, _role(header.role))
        if _names_reader(message.DESCRIPTOR) and (message.actor or getattr(message, "private", 0)):
            check_person(caller, message.bureau, message.actor, _role(message.role), "actor")
        elif _names_actor_alone(message.DESCRIPTOR) and caller.officer is not None:
            check_person(caller, caller.officer.bureau, message.actor, None, "actor")


_PROVEN_ELSEWHERE: Final = "provider"
"""The credential of whom the identity provider has vouched for."""


def _fingerprint(user: User) -> str:
    """What changes with the password, and tells nothing of it."""
    return hashlib.sha256(user.password.encode()).hexdigest()[:32]


def _at_office_of(caller: Caller, bureau: str) -> Caller:
    """The caller at a terminal of that bureau, and of that one alone; raises `NotThisOffice`."""
    if bureau not in caller.offices:
        raise NotThisOffice(bureau)
    return replace(caller, offices=frozenset({bureau}))


def _role(number: int) -> Role | None:
    """A role by its number; None for what is none, which is refused where it is used."""
    return Role(number) if number in set(Role) else None


_Path = tuple[FieldDescriptor, ...]
_HEADERS: dict[Descriptor, tuple[_Path, ...]] = {}


def _headers_in(kind: Descriptor) -> tuple[_Path, ...]:
    """Where a message says who acts: its header, and those of the registrations inside it."""
    known = _HEADERS.get(kind)
    if known is None:
        known = _HEADERS[kind] = tuple(_paths(kind, 1))
    return known


def _paths(kind: Descriptor, deeper: int) -> Iterable[_Path]:
    for field in kind.fields:
        inner = field.message_type
        if inner is None:
            continue
        if inner is case_pb2.ActHeader.DESCRIPTOR:
            yield (field,)
        elif deeper:
            yield from ((field, *rest) for rest in _paths(inner, deeper - 1))


def _at(message: Any, path: _Path) -> Iterable[Any]:  # noqa: ANN401 - any message
    """The messages there: as many as a repeated field has, none where nothing is given."""
    if not path:
        yield message
        return
    field, *deeper = path
    if field.is_repeated:
        for one in getattr(message, field.name):
            yield from _at(one, tuple(deeper))
    elif message.HasField(field.name):
        yield from _at(getattr(message, field.name), tuple(deeper))


def _names_reader(kind: Descriptor) -> bool:
    """Whether a message says by itself who reads."""
    return {"bureau", "actor", "role"} <= set(kind.fields_by_name.keys())


def _names_actor_alone(kind: Descriptor) -> bool:
    """Whether a message names a person, of whichever bureau asks."""
    return "actor" in kind.fields_by_name and "bureau" not in kind.fields_by_name
