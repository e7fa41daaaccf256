"""What a backup of a node must hold: the chain of each of its ledgers, whole, and the keys that open what is private.

A copy is proven before it is called a backup. The proof is that of `kx verify`, without the signature that an export
adds: every entry is there, each hash follows from the one before and from the bytes that are stored, and every private
part that is kept opens under the key file and is the one whose digest the entry has.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

import sqlalchemy as sa

from kuaixiang.runtime.backups import CopyBroken, End
from kuaixiang.runtime.vault import PLAIN, KeyFile, KeyMissing, SealBroken, Vault
from kuaixiang.wire import chain
from node.ledger import schema
from node.ledger.database import private_place

ENTRIES_AT_ONCE: Final = 2_000
"""Entries read at a time, some two megabytes."""


def vault_of(connection: sa.Connection, key_file: KeyFile) -> tuple[Vault | None, tuple[str, ...]]:
    """The keys of a ledger's database, and the ids that it needs; None where nothing is sealed yet.

    Raises `VaultError` for a key file that is missing, wrong or open to others.
    """
    needed = {bytes.fromhex(one) for one in connection.execute(sa.select(schema.DATA_KEYS.c.key_id)).scalars()}
    sealed_under = needed - {PLAIN}
    if not sealed_under:
        return None, ()
    keys = key_file.read()
    missing = sealed_under - {key.key_id for key in keys}
    if missing:
        raise KeyMissing(key_file.path, missing, file_exists=bool(keys))
    return Vault(keys, plain=PLAIN in needed), tuple(sorted(one.hex() for one in sealed_under))


def prove(
    connection: sa.Connection, bureaus: Sequence[str], vault: Vault | None, told: Callable[[int], None] = lambda _: None
) -> Mapping[str, End]:
    """Proves the chains of the bureaus' ledgers in a database, and says where they end; `told` how many entries.

    `connection` sees one instant. Without a vault private parts are counted to be there and not opened. Raises
    `CopyBroken`.
    """
    done = 0
    ends: dict[str, End] = {}
    for bureau in bureaus:
        head = _Chain(bureau, vault)
        for rows in _entries(connection, bureau):
            for row in rows:
                head.entry(row)
            done += len(rows)
            told(done)
        ends[bureau] = head.end(connection)
    return ends


class _Chain:
    """The entries of one bureau so far."""

    def __init__(self, bureau: str, vault: Vault | None) -> None:
        self._bureau = bureau
        self._vault = vault
        self._seq = 0
        self._generation = 0
        self._hash = chain.GENESIS

    def entry(self, row: sa.Row[int, int, bytes, bytes, bytes, bytes | None]) -> None:
        seq, generation, public, digest, said, sealed = row
        if seq != self._seq + 1:
            raise self._broken(self._seq + 1, "is not there", "缺失")
        if not all(isinstance(one, bytes) for one in (public, digest, said, sealed or b"")):
            raise self._broken(seq, "cannot be read", "无法读取")  # SQLite keeps whatever somebody has put there
        linked = chain.link(self._hash, generation, seq, digest, public)
        if linked != said or generation < self._generation:
            raise self._broken(seq, "is not what the chain has", "与链不符")
        self._seq, self._generation, self._hash = seq, generation, linked
        if sealed is not None and self._vault is not None:
            self._private(seq, digest, sealed)

    def end(self, connection: sa.Connection) -> End:
        table = schema.BUREAUS
        query = sa.select(table.c.generation, table.c.seq, table.c.hash).where(table.c.bureau == self._bureau)
        head = connection.execute(query).one_or_none()
        if head is None and self._seq == 0:
            return End(0, 0, chain.GENESIS.hex())
        if head is None or (head.seq, bytes(head.hash)) != (self._seq, self._hash):
            raise self._broken(self._seq, "is not the end that the ledger knows", "不是台账所知的末尾")
        return End(int(head.generation), self._seq, self._hash.hex())

    def _private(self, seq: int, digest: bytes, sealed: bytes) -> None:
        assert self._vault is not None  # noqa: S101 - asked by the caller
        try:
            opened = self._vault.open(private_place(self._bureau, seq), sealed)
        except SealBroken:
            raise self._broken(seq, "has a private part that does not open", "隐私内容无法解密") from None
        if chain.private_digest(opened[: chain.SALT_BYTES], opened[chain.SALT_BYTES :]) != digest:
            raise self._broken(seq, "has another private part", "隐私内容与摘要不符")

    def _broken(self, seq: int, why: str, why_chinese: str) -> CopyBroken:
        what = f"The ledger of {self._bureau} in the copy"
        return CopyBroken(what, f"entry {seq} {why}", f"单位 {self._bureau} 第 {seq} 条{why_chinese}")


def _after(journal: sa.Table, parts: sa.Table, bureau: str) -> sa.Select[int, int, bytes, bytes, bytes, bytes | None]:
    """The next entries after a position, of the ledger or of its archive."""
    of_both = (parts.c.bureau == journal.c.bureau) & (parts.c.seq == journal.c.seq)
    return (
        sa.select(
            journal.c.seq,
            journal.c.generation,
            journal.c.public,
            journal.c.private_digest,
            journal.c.hash,
            parts.c.sealed,
        )
        .select_from(journal.outerjoin(parts, of_both))
        .where(journal.c.bureau == bureau, journal.c.seq > sa.bindparam("after"))
        .order_by(journal.c.seq)
        .limit(ENTRIES_AT_ONCE)
    )


def _entries(
    connection: sa.Connection, bureau: str
) -> Iterator[Sequence[sa.Row[int, int, bytes, bytes, bytes, bytes | None]]]:
    archives = schema.ARCHIVES.c
    archived = connection.execute(sa.select(sa.func.max(archives.last_seq)).where(archives.bureau == bureau)).scalar()
    after = 0
    if archived:
        query = _after(schema.A_JOURNAL, schema.A_PRIVATE, bureau).where(schema.A_JOURNAL.c.seq <= archived)
        while rows := connection.execute(query, {"after": after}).all():
            yield rows
            after = int(rows[-1][0])
    # What an archiving that was broken off has left here was proven there.
    query = _after(schema.JOURNAL, schema.PRIVATE, bureau)
    while rows := connection.execute(query, {"after": after}).all():
        yield rows
        after = int(rows[-1][0])
