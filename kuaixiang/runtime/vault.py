"""Private data at rest: sealed under a data key that is kept in a file of its own, apart from the database.

What it meets is whoever gets the database without that file: a disk that was thrown away or stolen, a backup, a dump.
Whoever has both reads everything, and so does whoever reads the memory of the running process.

A sealed value is `key id ‖ nonce ‖ AES-256-GCM(value)`, bound to its place (a table's name and the row's key) as
associated data: moved to another row it does not open. Nonces are drawn, never counted: a ledger that was restored from
a copy counts the same numbers again, and a nonce that is used twice gives two texts away.

What must be looked up by being equal (the words that cases are found by, a channel's own reference) is kept as a
keyed digest, a *token*. Tokens of one bureau say which entries share a word and how often, and nothing of which word.
"""

import os
import stat
from base64 import b32encode
from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from hashlib import blake2b, sha256
from pathlib import Path
from typing import Final, Self

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from kuaixiang.runtime.chance import Chance
from kuaixiang.runtime.files import alone_with, replacing

KEY_BYTES: Final = 32
KEY_ID_BYTES: Final = 4
"""A file holds two keys at most for long, so that four bytes tell them apart."""
NONCE_BYTES: Final = 12
"""Drawn for each value: up to 2^32 values under one key the chance that two are equal is below 2^-32 (NIST SP 800-38D,
8.3). A province that records 100 million entries a year comes there in forty years."""
SEALED_BYTES_MORE: Final = KEY_ID_BYTES + NONCE_BYTES + 16
"""By how much a sealed value is longer than the value: the tag has 16 bytes."""
TOKEN_BYTES: Final = 5
"""Of a word, eight letters and digits: among a million different words of a bureau, one in a million that is looked for
stands for another one, too. Longer ones cost each registration more, in the index."""
REFERENCE_BYTES: Final = 20
"""Of a reference: two that were taken for one would lose a case."""
TOKENS_CACHED_MAX: Final = 100_000
"""Words whose tokens are remembered, some 15 MB: nearly all pairs of characters that officers write. When there are
more, all are forgotten: many are numbers, which do not come again."""
PLAIN: Final = bytes(KEY_ID_BYTES)
"""What stands for the key id of a value that an older version has left unsealed."""

_KEY_LINE: Final = "kuaixiang-data-key-1"
_FILE_HEADING: Final = """\
# The keys of private data at rest; the last one is in use. Whoever has this file and a copy of the database reads what
# taxpayers have told. Keep a copy of it, and not where the database or its backups are: without it they are lost.
"""
_CHANCE: Final = Chance()


class VaultError(Exception):
    """The keys of private data cannot be used."""


class KeyFileOpen(VaultError):
    """A file that holds a key can be read by others than its owner."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.mode = mode
        super().__init__(
            f"The key file {path} is open to others than its owner (mode {mode:04o}). "
            f"Close it: chmod 600 {path}; and if others may have read it, replace the key."
        )


class KeyFileUnusable(VaultError):
    """A key file cannot be read or written, or is not what its name says."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"The key file {path} cannot be used: {reason}.")


class KeyMissing(VaultError):
    """The database holds values that were sealed under keys that the file does not have."""

    def __init__(self, path: Path, missing: Collection[bytes], *, file_exists: bool) -> None:
        self.path = path
        self.missing = frozenset(missing)
        named = ", ".join(sorted(key_id.hex() for key_id in missing))
        what = f"does not hold the key {named}" if file_exists else "does not exist"
        super().__init__(
            f"The key file {path} {what}, under which this database's private data are sealed. "
            f"Put the right key file there (key {named}), from where its copy is kept; nothing has been changed."
        )


class SealBroken(ValueError):
    """A sealed value does not open: it, or its place, was changed, or it was sealed under another key."""

    def __init__(self, place: str) -> None:
        self.place = place
        super().__init__(f"The sealed value at {place} does not open.")


def mode_open(file: Path | int) -> int:
    """The mode of a file, or of a descriptor's, that is open to others than its owner, else 0. Raises `OSError`.

    A file of root's may be read by its group where the service is not root: so Kubernetes hands over secrets, and
    so administrators who do not want a service to change its own key.
    """
    found = os.stat(file)  # noqa: PTH116 - descriptors too
    mode = stat.S_IMODE(found.st_mode)
    closed_to = 0o037 if found.st_uid == 0 and os.geteuid() != 0 else 0o077
    return mode if mode & closed_to else 0


@dataclass(frozen=True, slots=True, repr=False)
class DataKey:
    """A key of private data. `key_id` names it beside what is sealed under it and tells nothing of it."""

    secret: bytes
    key_id: bytes

    @classmethod
    def of(cls, secret: bytes) -> Self:
        """The key of these 32 bytes."""
        return cls(secret, sha256(b"kuaixiang data key id\0" + secret).digest()[:KEY_ID_BYTES])

    @classmethod
    def new(cls) -> Self:
        """A key that there was never before."""
        return cls.of(os.urandom(KEY_BYTES))

    def __repr__(self) -> str:
        return f"DataKey({self.key_id.hex()})"


class KeyFile:
    """A file of data keys, one on a line, the one in use last; readable by its owner alone."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def read(self) -> tuple[DataKey, ...]:
        """The keys, the one in use last; none where there is no file. Raises `KeyFileOpen`, `KeyFileUnusable`."""
        try:
            mode = mode_open(self.path)
            lines = self.path.read_text("ascii").splitlines()
        except FileNotFoundError:
            return ()
        except (OSError, UnicodeDecodeError) as failure:
            raise KeyFileUnusable(self.path, _reason(failure)) from failure
        if mode:
            raise KeyFileOpen(self.path, mode)
        keys = []
        for number, line in enumerate(lines, start=1):
            if not line.strip() or line.startswith("#"):
                continue
            kind, _, digits = line.partition(" ")
            # The line is not quoted: it may hold a key.
            try:
                secret = bytes.fromhex(digits)
            except ValueError:
                secret = b""
            if kind != _KEY_LINE or len(secret) != KEY_BYTES:
                raise KeyFileUnusable(self.path, f"line {number} is no data key")
            keys.append(DataKey.of(secret))
        if not keys:
            raise KeyFileUnusable(self.path, "it holds no key")
        return tuple(keys)

    def write(self, keys: Sequence[DataKey]) -> None:
        """Replaces the file whole, durably before this returns. Raises `KeyFileUnusable`."""
        lines = "".join(f"{_KEY_LINE} {key.secret.hex()}\n" for key in keys)
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with replacing(self.path) as file:
                file.write((_FILE_HEADING + lines).encode("ascii"))
        except OSError as failure:
            raise KeyFileUnusable(self.path, _reason(failure)) from failure

    def read_or_create(self) -> tuple[DataKey, ...]:
        """The keys; a first one is made where there is no file. Raises `KeyFileOpen`, `KeyFileUnusable`."""
        keys = self.read()
        if keys:
            return keys
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            # Of two processes that begin at once the second must not replace what the first seals under.
            with alone_with(self.path):
                keys = self.read()
                if not keys:
                    keys = (DataKey.new(),)
                    self.write(keys)
        except OSError as failure:
            raise KeyFileUnusable(self.path, _reason(failure)) from failure
        return keys


class Vault:
    """Seals and opens values under the keys of a process. For any thread.

    `keys` are what may be opened, the one to seal under last; with `plain`, also what an older version left unsealed.
    """

    def __init__(self, keys: Sequence[DataKey], *, plain: bool = False) -> None:
        self.keys = tuple(keys)
        self.plain = plain
        self.current = keys[-1]
        self._ciphers = {key.key_id: AESGCM(key.secret) for key in keys}
        self._sealer = self._ciphers[self.current.key_id]
        self._known: dict[str, _Tokens] = {}
        self._words_known = 0

    @property
    def key_id(self) -> bytes:
        """The id of the key that is in use."""
        return self.current.key_id

    def seal(self, place: str, value: bytes) -> bytes:
        """The value sealed for its place."""
        nonce = _CHANCE.draw(NONCE_BYTES)
        return self.current.key_id + nonce + self._sealer.encrypt(nonce, value, place.encode())

    def open(self, place: str, sealed: bytes) -> bytes:
        """The value that was sealed for that place. Raises `SealBroken`."""
        sealed = bytes(sealed)
        key_id = sealed[:KEY_ID_BYTES]
        if self.plain and key_id == PLAIN:
            return sealed[KEY_ID_BYTES:]
        cipher = self._ciphers.get(key_id)
        nonce = sealed[KEY_ID_BYTES : KEY_ID_BYTES + NONCE_BYTES]
        if cipher is None or len(sealed) < SEALED_BYTES_MORE:
            raise SealBroken(place)
        try:
            return cipher.decrypt(nonce, sealed[KEY_ID_BYTES + NONCE_BYTES :], place.encode())
        except InvalidTag:
            raise SealBroken(place) from None

    def tokens(self, bureau: str, words: Iterable[str]) -> list[str]:
        """What stands for words in a bureau's index under the key in use; in an order that tells nothing of theirs."""
        known = self._known.get(bureau)
        if known is None:
            known = self._known[bureau] = _Tokens(_subkey(self.current.secret, bureau))
        had = len(known)
        tokens = sorted(set(map(known.__getitem__, words)))
        self._words_known += len(known) - had
        if self._words_known > TOKENS_CACHED_MAX:
            self._known.clear()
            self._words_known = 0
        return tokens

    def tokens_asked(self, bureau: str, words: Collection[str]) -> list[list[str]]:
        """What to look for so that all the words are found, under each of the keys."""
        keys = [_subkey(key.secret, bureau) for key in self.keys]
        return [[_token(key, word, TOKEN_BYTES) for word in words] for key in keys]

    def references(self, bureau: str, reference: str) -> list[str]:
        """What stands for a channel's own reference, under each of the keys, the one in use last."""
        return [_token(_subkey(key.secret, bureau), reference, REFERENCE_BYTES) for key in self.keys]


@lru_cache(maxsize=4096)
def _subkey(secret: bytes, bureau: str) -> bytes:
    """The key of a bureau's tokens: those of two bureaus have nothing in common."""
    return blake2b(bureau.encode(), key=secret, person=b"kx tokens", digest_size=KEY_BYTES).digest()


_LETTERS: Final = "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"
_PAIRS: Final = tuple(first + second for first in _LETTERS for second in _LETTERS)
"""What base 32 (RFC 4648) makes of each ten bits: a registration has a hundred tokens, and with b32encode each of those
that are new took half as long again."""


class _Tokens(dict[str, str]):
    """A bureau's words and their tokens: nearly every pair of characters comes again; a registration has a hundred."""

    __slots__ = ("_key",)

    def __init__(self, key: bytes) -> None:
        super().__init__()
        self._key = key

    def __missing__(self, word: str) -> str:
        token = self[word] = _token(self._key, word, TOKEN_BYTES)
        return token


def _token(key: bytes, word: str, size: int) -> str:
    """Letters and digits: nothing that a database could take for anything else. `size` is a multiple of five."""
    digest = blake2b(word.encode("utf-8", "surrogatepass"), key=key, digest_size=size).digest()
    if size != TOKEN_BYTES:
        return b32encode(digest).decode()
    number = int.from_bytes(digest)
    return _PAIRS[number >> 30] + _PAIRS[number >> 20 & 1023] + _PAIRS[number >> 10 & 1023] + _PAIRS[number & 1023]


def _reason(failure: OSError | UnicodeDecodeError) -> str:
    return failure.strerror or str(failure) if isinstance(failure, OSError) else "it is not text"
