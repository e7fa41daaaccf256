"""The ledger's database with the keys of what is private in it, brought together before anything is served."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import sqlalchemy as sa

from kuaixiang.runtime.database import Database
from kuaixiang.runtime.vault import PLAIN, KeyFile, KeyMissing, Vault
from kuaixiang.wire.chain import SALT_BYTES
from node.ledger import schema
from node.ledger.archive import Archive

MIGRATIONS: Final = Path(__file__).parent / "migrations"
KEY_FILE_POSTGRESQL: Final = Path("var/node.key")
"""Where the key of a ledger in PostgreSQL is when nothing else is said."""


def default_key_file(url: str) -> Path:
    """Where the key file is when nothing else is said: beside a SQLite database, else under `var`."""
    parsed = sa.make_url(url)
    if parsed.get_backend_name() == "sqlite" and parsed.database:
        return Path(f"{parsed.database}.key")
    return KEY_FILE_POSTGRESQL


class LedgerDatabase(Database):
    """The ledger's database, and the vault of its private data.

    A database that holds nothing sealed gets a key file where there is none. Raises what `Database` and `Archive`
    raise, and `VaultError` for a key file that is missing, wrong or open to others.
    """

    def __init__(self, url: str, key_file: Path | None = None) -> None:
        super().__init__(url, service="ledger", migrations=MIGRATIONS)
        self.key_file = KeyFile(key_file or default_key_file(url))
        try:
            self.archive = Archive(self)
            self.vault = self._open_vault()
        except BaseException:
            self.close()
            raise

    def adopt(self, vault: Vault) -> None:
        """From now on what is private is sealed under this vault's key; the database remembers which keys it needs."""
        table = schema.DATA_KEYS
        with self.writing.begin():
            known = set(self.writing.execute(sa.select(table.c.key_id)).scalars())
            if vault.key_id.hex() not in known:
                self.writing.execute(sa.insert(table).values(key_id=vault.key_id.hex()))
        self.vault = vault

    def forget(self, key_ids: Sequence[bytes]) -> None:
        """Nothing is sealed under these keys any more."""
        table = schema.DATA_KEYS
        with self.writing.begin():
            self.writing.execute(sa.delete(table).where(table.c.key_id.in_([key_id.hex() for key_id in key_ids])))

    def key_ids(self) -> set[bytes]:
        """The keys under which something in this database may be sealed."""
        with self.reading() as connection:
            return {bytes.fromhex(one) for one in connection.execute(sa.select(schema.DATA_KEYS.c.key_id)).scalars()}

    # ------------------------------------------------------------ what is private of an entry

    def seal_private(self, bureau: str, seq: int, salt: bytes, payload: bytes) -> bytes:
        """The private part of an entry with its salt, as it is stored."""
        return self.vault.seal(private_place(bureau, seq), salt + payload)

    def open_private(self, bureau: str, seq: int, sealed: bytes) -> bytes:
        """The private part of an entry. Raises `SealBroken`."""
        return self.vault.open(private_place(bureau, seq), sealed)[SALT_BYTES:]

    def open_salted(self, bureau: str, seq: int, sealed: bytes) -> tuple[bytes, bytes]:
        """The salt and the private part of an entry. Raises `SealBroken`."""
        opened = self.vault.open(private_place(bureau, seq), sealed)
        return opened[:SALT_BYTES], opened[SALT_BYTES:]

    def _open_vault(self) -> Vault:
        needed = self.key_ids()
        sealed_under = needed - {PLAIN}
        keys = self.key_file.read() if sealed_under else self.key_file.read_or_create()
        missing = sealed_under - {key.key_id for key in keys}
        if missing:
            raise KeyMissing(self.key_file.path, missing, file_exists=bool(keys))
        vault = Vault(keys, plain=PLAIN in needed)
        self.adopt(vault)
        return vault


def private_place(bureau: str, seq: int) -> str:
    """Where an entry's private part is sealed to."""
    return f"private/{bureau}/{seq}"


def chunk_place(digest: str, number: int) -> str:
    """Where a piece of a file's content is sealed to."""
    return f"blob_chunks/{digest}/{number}"


def attestation_place(bureau: str, receipt_id: str) -> str:
    """Where the word of a bureau further away is sealed to."""
    return f"attestations/{bureau}/{receipt_id}"


def request_place(bureau: str, request_key: str) -> str:
    """Where the digest of a request is sealed to."""
    return f"requests/{bureau}/{request_key}"
