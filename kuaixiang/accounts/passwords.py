"""Passwords: hashed by argon2id, compared in the same time whether or not there is such an account."""

from typing import Final

from argon2 import PasswordHasher
from argon2.exceptions import InvalidHashError, VerificationError

HASHER: Final = PasswordHasher()
"""argon2-cffi's own choice of RFC 9106: 64 MiB, three passes, some 50 ms; to guess a million takes half a day."""

_NOBODYS: Final = HASHER.hash("nobody has this password")
"""What the password of an account that does not exist is compared with."""


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
    try:
        HASHER.verify(kept or _NOBODYS, password)
    except (VerificationError, InvalidHashError):
        return False
    return kept is not None
