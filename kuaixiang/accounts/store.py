"""The accounts' database: sessions, channels' tokens, pauses after wrong passwords; each known by a hash. No journal.

Tokens are 256 random bits, so that SHA-256 of them is as good as argon2: there is nothing to guess, and a call costs a
microsecond. Whoever reads this database can sign in as nobody.
"""

import asyncio
import hashlib
import os
import secrets
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Final

import sqlalchemy as sa
import structlog

from kuaixiang.runtime import tracing
from kuaixiang.runtime.database import FENCE_SECONDS, LOCK_SECONDS_MAX, Database
from kuaixiang.runtime.writer import EXIT_COMMIT_FAILED

_log: Final = structlog.get_logger(__name__)

TOKEN_BYTES: Final = 32
MIGRATIONS: Final = Path(__file__).parent / "migrations"
METADATA: Final = sa.MetaData()

SESSIONS: Final = sa.Table(
    "sessions",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("bureau", sa.Text, nullable=False),
    sa.Column("actor", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("role", sa.SmallInteger, nullable=False),
    sa.Column("department", sa.Text, nullable=False),
    sa.Column("claimed_roles", sa.Text, nullable=False),
    sa.Column("claimed_departments", sa.Text, nullable=False),
    sa.Column("credential", sa.Text, nullable=False),
    sa.Column("csrf", sa.Text, nullable=False),
    sa.Column("began_at_us", sa.BigInteger, nullable=False),
    sa.Column("used_at_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
TOKENS: Final = sa.Table(
    "channel_tokens",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("token_id", sa.Text, nullable=False),
    sa.Column("bureau", sa.Text, nullable=False),
    sa.Column("channel", sa.SmallInteger, nullable=False),
    sa.Column("scopes", sa.Text, nullable=False),
    sa.Column("issued_by", sa.Text, nullable=False),
    sa.Column("issued_at_us", sa.BigInteger, nullable=False),
    sa.Column("expires_at_us", sa.BigInteger, nullable=False),
    sa.Column("revoked_at_us", sa.BigInteger, nullable=False),
    sa.Column("used_at_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)
PAUSES: Final = sa.Table(
    "sign_in_pauses",
    METADATA,
    sa.Column("key", sa.Text, primary_key=True),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("last_at_us", sa.BigInteger, nullable=False),
    sa.Column("until_us", sa.BigInteger, nullable=False),
    sqlite_with_rowid=False,
)


def new_secret(prefix: str) -> str:
    """A fresh secret; the prefix tells what it is, so that one that has leaked is found by whoever looks for such."""
    return f"{prefix}{secrets.token_urlsafe(TOKEN_BYTES)}"


def key_of(secret: str) -> str:
    """What a secret is kept as."""
    return hashlib.sha256(secret.encode(errors="replace")).hexdigest()


class Store:
    """The database, held by this process alone. Raises what `Database` raises.

    `fenced`: of two processes the other one may have held it until a moment ago, and this one is to lose it when it
    stands still; `pulse` is then to be called as often as `Database.fence` says.
    """

    def __init__(self, url: str, *, fenced: bool = False) -> None:
        seconds = 2 * FENCE_SECONDS if fenced else LOCK_SECONDS_MAX
        self._database = Database(url, service="accounts", migrations=MIGRATIONS, lock_seconds_max=seconds)
        if fenced:
            self._database.fence()
        self._put = {table: self._database.put(table) for table in (SESSIONS, TOKENS, PAUSES)}
        self._drop = {table: self._database.drop(table, "key") for table in (SESSIONS, PAUSES)}
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix="accounts")

    def rows(self, table: sa.Table) -> Sequence[Any]:
        """All rows of a table, for a service that starts."""
        with self._database.reading() as connection:
            return connection.execute(sa.select(table)).all()

    async def put(self, table: sa.Table, rows: Sequence[tuple[Any, ...]]) -> None:
        """Adds rows or replaces those of the same key; durable when it returns."""
        await self._write(lambda: self._database.run(self._put[table], rows))

    async def drop(self, table: sa.Table, keys: Iterable[str]) -> None:
        """Deletes sessions or pauses; durable when it returns."""
        gone = [(key,) for key in keys]
        if gone:
            await self._write(lambda: self._database.run(self._drop[table], gone))

    async def pulse(self) -> bool:
        """Lets the database hear of a fenced store; the process ends when it is not held any more. Never more to do."""

        def feel() -> None:
            try:
                self._database.pulse()
            except Exception:  # noqa: BLE001 - whatever it is, another process may hold the database
                _log.exception("The accounts are not held any more; the process ends.", action="accounts.not_held")
                os._exit(EXIT_COMMIT_FAILED)

        await asyncio.get_running_loop().run_in_executor(self._thread, feel)
        return False

    async def close(self) -> None:
        """Finish what was begun and give the database back."""
        await asyncio.to_thread(self._thread.shutdown)
        await asyncio.to_thread(self._database.close)

    async def _write(self, work: Callable[[], None]) -> None:
        def run() -> None:
            with self._database.writing.begin():
                work()

        with tracing.part("accounts write"):
            await asyncio.get_running_loop().run_in_executor(self._thread, run)
