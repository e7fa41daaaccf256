"""The hash chain of a journal: what each entry's hash covers.

`hash = SHA-256(previous hash ‖ generation ‖ seq ‖ private digest ‖ public part)`, the two numbers as unsigned 64-bit
big-endian integers, the public part byte for byte as stored and sent, never a re-serialisation. The private part
enters by its digest alone, `SHA-256(salt ‖ payload)`, so that those who may not see it can verify the chain, and so
that it can be erased without breaking the chain.
"""

from collections.abc import Iterable
from hashlib import sha256
from struct import Struct

HASH_BYTES = 32
SALT_BYTES = 16

GENESIS = bytes(HASH_BYTES)
"""What stands before the first entry of a journal."""

NO_PRIVATE = bytes(HASH_BYTES)
"""The private digest of an entry that has no private part."""

_POSITION = Struct(">QQ")


def link(prev_hash: bytes, generation: int, seq: int, private_digest: bytes, public: bytes) -> bytes:
    """Returns the hash of one entry, given the hash of the entry before it (`GENESIS` before seq 1)."""
    return sha256(prev_hash + _POSITION.pack(generation, seq) + private_digest + public).digest()


def links(prev_hash: bytes, generation: int, first_seq: int, entries: Iterable[tuple[bytes, bytes]]) -> list[bytes]:
    """Returns the hashes of consecutive entries, each (private digest, public part), the first at `first_seq`."""
    hashes = []
    pack = _POSITION.pack
    for seq, (private_digest, public) in enumerate(entries, start=first_seq):
        prev_hash = sha256(prev_hash + pack(generation, seq) + private_digest + public).digest()
        hashes.append(prev_hash)
    return hashes


def private_digest(salt: bytes, payload: bytes) -> bytes:
    """Returns the digest by which a private part enters the chain."""
    return sha256(salt + payload).digest()


def texts_digest(salt: bytes, first: str, second: str) -> bytes:
    """Returns the digest of two private texts, neither of which can be taken for a part of the other."""
    begins = first.encode()
    return private_digest(salt, len(begins).to_bytes(4, "big") + begins + second.encode())
