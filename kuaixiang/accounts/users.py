"""The users file: who signs in with a password, by bureau and number. `kx staff password` writes it.

    [330106]
    zj-0007 = { password = "$argon2id$v=19$…", must_change = true }
    zj-0008 = { password = "$argon2id$v=19$…", disabled = true }

Names, roles and departments are the list of staff's: there is one truth about who may do what. Nobody but the service
may read the file: a hash can be tried at leisure by whoever has it.
"""

import asyncio
import os
import re
import stat
import tomllib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import structlog
from prometheus_client import Counter

from kuaixiang.accounts.passwords import is_hash
from kuaixiang.domain.identifiers import is_division_code
from kuaixiang.runtime.files import OWN, Stamp, alone_with, replacing, stamp_of
from kuaixiang.runtime.loops import Loop

LOOK_SECONDS: Final = 2.0
"""Whoever has been disabled is out within this time; a look is one `stat`."""
FILE_BYTES_MAX: Final = 4 * 1024 * 1024
"""Some 20,000 users: a provincial data centre's."""
MODE: Final = OWN
_KEYS: Final = frozenset({"password", "must_change", "disabled"})
_ACTOR: Final = re.compile(r"[A-Za-z0-9_-]+")
"""What TOML takes as a key without quotes; other numbers are quoted."""

FAILED: Final = Counter("kx_users_failures_total", "Times the changed users file could not be used.")

_log: Final = structlog.get_logger(__name__)


class UsersFileUnusable(Exception):
    """The users file cannot be used; nothing of it is taken. The sentence holds nothing of what is in it."""

    def __init__(self, file: Path, problem: str, remedy: str) -> None:
        self.file = file
        super().__init__(f"{file} {problem}: {remedy}")


@dataclass(frozen=True, slots=True)
class User:
    """Somebody who may sign in with a password."""

    password: str = field(repr=False)
    must_change: bool = False
    disabled: bool = False


Users = Mapping[tuple[str, str], User]
"""By bureau and number."""


def load_users(file: Path) -> Users:
    """Reads the file; raises `UsersFileUnusable`, also when others than its owner may read it."""
    try:
        with file.open("rb") as opened:
            _check_mode(file, os.fstat(opened.fileno()))
            content = opened.read(FILE_BYTES_MAX + 1)
    except OSError as failure:
        raise UsersFileUnusable(
            file, f"cannot be read ({failure.strerror})", "make it with kx staff password"
        ) from failure
    if len(content) > FILE_BYTES_MAX:
        raise UsersFileUnusable(file, "is too large", "it holds one line for each user")
    try:
        tables = tomllib.loads(content.decode())
    except (ValueError, RecursionError):
        raise UsersFileUnusable(file, "is not TOML", "write it with kx staff password") from None
    users: dict[tuple[str, str], User] = {}
    for bureau, table in tables.items():
        if not is_division_code(bureau) or not isinstance(table, dict):
            raise UsersFileUnusable(file, f"has {bureau}, which is no bureau", "put users under [CODE]")
        for actor, given in table.items():
            users[bureau, actor] = _user(file, f"{bureau}.{actor}", given)
    return users


def _check_mode(file: Path, found: os.stat_result) -> None:
    if stat.S_IMODE(found.st_mode) & ~MODE:
        raise UsersFileUnusable(file, "can be read or written by others", f"chmod 600 {file}")
    if found.st_uid not in {os.geteuid(), 0}:
        raise UsersFileUnusable(file, "belongs to another account", "give it to the account of this service")


def _user(file: Path, place: str, given: Any) -> User:  # noqa: ANN401 - whatever TOML holds
    if not isinstance(given, dict) or not given.keys() <= _KEYS or not isinstance(given.get("password"), str):
        raise UsersFileUnusable(file, f"says something else of {place}", f"write {', '.join(sorted(_KEYS))}")
    if not is_hash(given["password"]):
        raise UsersFileUnusable(file, f"has no argon2id hash at {place}", "set it with kx staff password")
    if not all(isinstance(given.get(name, False), bool) for name in ("must_change", "disabled")):
        raise UsersFileUnusable(file, f"says something else of {place}", "write must_change = true or false")
    return User(given["password"], given.get("must_change", False), given.get("disabled", False))


def save_users(file: Path, users: Users) -> None:
    """Writes the file anew, for its owner alone; whoever reads it meanwhile finds the old one or the new one."""
    lines = ["# Who signs in with a password; written by kx staff password. Nobody but the service may read it.", ""]
    for bureau in sorted({bureau for bureau, _ in users}):
        lines.append(f"[{bureau}]")
        lines += [_line(actor, users[code, actor]) for code, actor in sorted(users) if code == bureau]
        lines.append("")
    with replacing(file, MODE) as opened:
        opened.write("\n".join(lines).encode("utf-8"))


def _line(actor: str, user: User) -> str:
    escaped = actor.replace("\\", "\\\\").replace('"', '\\"')
    key = actor if _ACTOR.fullmatch(actor) else f'"{escaped}"'
    more = "".join(f", {name} = true" for name in ("must_change", "disabled") if getattr(user, name))
    return f'{key} = {{ password = "{user.password}"{more} }}'


@contextmanager
def changing(file: Path) -> Iterator[dict[tuple[str, str], User]]:
    """The users as the file has them now, to be changed; written when the block has ended well and changed them.

    Nobody else changes them between: a password that its owner has just replaced, or a user who has just been disabled,
    does not come back. Raises `UsersFileUnusable`, `OSError`.
    """
    with alone_with(file):
        known = load_users(file) if file.exists() else {}
        users = dict(known)
        yield users
        if users != known:
            save_users(file, users)


class UsersFile:
    """The users as their file said when it was last right. `step` is one look at it.

    A file that has become wrong, or that others may read, changes nothing: an alarm can be set on the counter.
    Raises `UsersFileUnusable`.
    """

    def __init__(self, file: Path, look_seconds: float = LOOK_SECONDS) -> None:
        self._file = file
        self._seen = stamp_of(file)
        self._users = load_users(file)
        self._loop = Loop("users", self.step, look_seconds)

    def of(self, bureau: str, actor: str) -> User | None:
        """Somebody who may sign in with a password; None for nobody, and for one who is disabled."""
        user = self._users.get((bureau, actor))
        return None if user is None or user.disabled else user

    async def set_password(self, bureau: str, actor: str, was: User, password: str) -> User | None:
        """Writes a password that its owner has chosen; the user as he is then. Raises `UsersFileUnusable`, `OSError`.

        None, and nothing is written, when the file has him no more as he `was` when he proved who he is: he has been
        disabled or taken out since, or has another password.
        """
        user = User(password)

        def write() -> tuple[Users, Stamp | None] | None:
            with changing(self._file) as users:
                now = users.get((bureau, actor))
                if now is None or now.disabled or now.password != was.password:
                    return None
                users[bureau, actor] = user
            return users, stamp_of(self._file)

        written = await asyncio.to_thread(write)
        if written is None:
            return None
        self._users, self._seen = written
        return user

    async def start(self) -> None:
        """Begin to look at the file."""
        self._loop.start()

    async def stop(self) -> None:
        """End."""
        await self._loop.stop()

    async def step(self) -> bool:
        """Read the file again if it has changed; there is never more to do at once."""
        state = await asyncio.to_thread(stamp_of, self._file)
        if state == self._seen:
            return False
        self._seen = state
        try:
            self._users = await asyncio.to_thread(load_users, self._file)
        except UsersFileUnusable as wrong:
            FAILED.inc()
            _log.error(
                "The changed users file cannot be used; the one before holds.",
                action="users.failed",
                reason=str(wrong),
            )
        else:
            _log.info("The users file was read again.", action="users.reload", users=len(self._users))
        return False
