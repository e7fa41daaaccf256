"""What is kept of signing in outlasts a restart, over both databases, and opens nothing to whoever reads it."""

import asyncio
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import sqlalchemy as sa

from kuaixiang.accounts.lockout import FORGOTTEN_SECONDS, Lockout
from kuaixiang.accounts.people import Person
from kuaixiang.accounts.sessions import SESSIONS_OF_ONE_MAX, Sessions, session_of
from kuaixiang.accounts.store import METADATA, PAUSES, SESSIONS, Store
from kuaixiang.accounts.tokens import Tokens
from kuaixiang.domain.authority import ChannelToken
from kuaixiang.domain.sign_in import SignInEnded, TooManyAttempts
from kuaixiang.domain.words import Channel, Role, TokenScope

COUNTY = "110101"
OFFICER = Person(bureau=COUNTY, actor="R01", name="任", role=Role.REGISTRAR, department="tax-service")
HOTLINE = ChannelToken(bureau=COUNTY, channel=Channel.HOTLINE, scopes=frozenset({TokenScope.REGISTER}))
TYPED = "my secret typed as the number"


class Clock:
    """The machine's time, which a test moves."""

    def __init__(self) -> None:
        self.at = datetime(2026, 9, 21, 1, tzinfo=UTC)

    def __call__(self) -> datetime:
        return self.at


@pytest.fixture
def clock() -> Clock:
    return Clock()


async def test_a_pause_that_begins_while_the_one_before_is_forgotten_is_kept(database_url: str, clock: Clock) -> None:
    store = Store(database_url)
    lockout, one, other = Lockout(clock, store), (COUNTY, "R01"), (COUNTY, "T01")

    def guess(account: tuple[str, str]) -> None:
        for _ in range(9):
            lockout.failed(account, "")

    guess(one)
    await lockout.step()
    lockout.succeeded(one)
    guess(other)
    forgetting = asyncio.create_task(lockout.step())
    await asyncio.sleep(0)
    guess(one)
    await asyncio.gather(forgetting, lockout.step())
    assert 2 == len(store.rows(PAUSES))
    await store.close()


async def test_a_pause_lasts_as_long_as_it_would_have_without_the_restart(database_url: str, clock: Clock) -> None:
    account = (COUNTY, "R01")
    store = Store(database_url)
    lockout = Lockout(clock, store)
    for _ in range(9):
        lockout.failed(account, "10.0.0.1")
    await lockout.step()
    await store.close()

    store = Store(database_url)
    lockout = Lockout(clock, store)
    clock.at += timedelta(seconds=31)
    with pytest.raises(TooManyAttempts) as again:
        lockout.check(account, "")
    assert "1" == again.value.facts["retry_seconds"]
    clock.at += timedelta(seconds=1)
    lockout.check(account, "")
    # The next wrong password doubles what the ninth has cost.
    lockout.failed(account, "")
    with pytest.raises(TooManyAttempts) as doubled:
        lockout.check(account, "")
    assert "64" == doubled.value.facts["retry_seconds"]
    lockout.succeeded(account)
    await lockout.step()
    assert [] == list(store.rows(PAUSES))
    await store.close()


async def test_what_was_typed_as_a_number_is_in_no_row_and_nothing_is_kept_beyond_its_time(
    database_url: str, clock: Clock
) -> None:
    store = Store(database_url)
    lockout = Lockout(clock, store)
    for _ in range(4):
        lockout.failed((COUNTY, TYPED), "10.0.0.1")
    await lockout.step()
    assert [] == list(store.rows(PAUSES))
    lockout.failed((COUNTY, TYPED), "10.0.0.1")
    await lockout.step()
    [row] = store.rows(PAUSES)
    assert TYPED not in str(row)
    clock.at += timedelta(seconds=FORGOTTEN_SECONDS + 1)
    await lockout.step()
    assert [] == list(store.rows(PAUSES))
    await store.close()


async def test_sessions_and_tokens_are_there_after_a_restart_and_known_by_hashes_alone(
    database_url: str, clock: Clock
) -> None:
    store = Store(database_url)
    sessions, tokens = Sessions(store, now=clock), Tokens(store, clock)
    token = await sessions.begin(session_of(OFFICER))
    gone = await sessions.begin(session_of(OFFICER))
    await sessions.end(gone)
    secret, issued = await tokens.issue(HOTLINE, "B01", clock.at + timedelta(days=30))
    revoked, other = await tokens.issue(HOTLINE, "B01", clock.at + timedelta(days=30))
    await tokens.revoke(COUNTY, other.token_id)
    tokens.use(secret)
    await tokens.step()
    await store.close()

    store = Store(database_url)
    sessions, tokens = Sessions(store, now=clock), Tokens(store, clock)
    again = sessions.of(token)
    assert (OFFICER, None) == (again.person if again else None, sessions.of(gone))
    assert HOTLINE == tokens.use(secret)
    assert [clock.at] == [one.used_at for one in tokens.of(COUNTY) if one.token_id == issued.token_id]
    with pytest.raises(SignInEnded):
        tokens.use(revoked)
    kept = [str(row) for table in METADATA.sorted_tables for row in store.rows(table)]
    assert 3 == len(kept)
    assert not any(one in row for one in (token, secret, revoked) for row in kept)
    await store.close()


async def test_an_account_has_a_bounded_number_of_sessions(database_url: str, clock: Clock) -> None:
    store = Store(database_url)
    sessions = Sessions(store, now=clock)
    tokens = [await sessions.begin(session_of(OFFICER)) for _ in range(SESSIONS_OF_ONE_MAX + 5)]
    assert [False] * 5 + [True] * SESSIONS_OF_ONE_MAX == [sessions.of(token) is not None for token in tokens]
    assert SESSIONS_OF_ONE_MAX == len(store.rows(SESSIONS))
    await store.close()


async def test_a_database_of_the_version_before_is_brought_up_to_date(tmp_path: Path, clock: Clock) -> None:
    url = f"sqlite:///{tmp_path}/accounts.db"
    store = Store(url)
    token = await Sessions(store, now=clock).begin(session_of(OFFICER))
    await store.close()
    engine = sa.create_engine(url)
    with engine.begin() as connection:
        connection.exec_driver_sql("DROP TABLE sign_in_pauses")
        connection.exec_driver_sql("UPDATE accounts_version SET version_num = '0001'")
    engine.dispose()
    store = Store(url)
    assert Sessions(store, now=clock).of(token) is not None
    assert [] == list(store.rows(PAUSES))
    await store.close()
