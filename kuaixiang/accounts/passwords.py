"""Passwords: hashed by argon2id, compared in the same time whether or not there is such an account."""

from functools import cache
from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

HASHER: Final = PasswordHasher()
"""argon2-cffi's own choice of RFC 9106: 64 MiB, three passes, some 50 ms; to guess a million takes half a day."""


def hash_of(password: str) -> str:
    """The hash to keep; takes tens of milliseconds and 64 MiB: not for the event loop."""
    return HASHER.hash(password)


def is_hash(text: str) -> bool:
    """Whether it is a hash of ours."""
    if not text.startswith("$argon2id$"):
        return False
    try:
        HASHER.check_needs_rehash(text)
    except (InvalidHashError, ValueError):
        return False
    return True


def fits(kept: str | None, password: str) -> bool:
    """Whether the password is the one of the kept hash; for None as long as for one that is wrong, and False."""
    nobodys = _nobodys()  # asked for in any case: to make it, once, must not tell that there is no such account
    try:
        HASHER.verify(kept or nobodys, password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None


@cache
def _nobodys() -> str:
    """What the password of an account that does not exist is compared with."""
    return HASHER.hash("nobody has this password")
