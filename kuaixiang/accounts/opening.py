"""Opens what signing in needs at a service, by its settings, for the time that it serves."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Final

import structlog

from kuaixiang.accounts.officers import Officers
from kuaixiang.accounts.oidc import Provider, load_provider
from kuaixiang.accounts.sessions import Sessions
from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.accounts.store import Store
from kuaixiang.accounts.tokens import Tokens
from kuaixiang.accounts.users import UsersFile
from kuaixiang.domain.staff import Staff
from kuaixiang.domain.words import Role
from kuaixiang.runtime.loops import Loop
from kuaixiang.runtime.writer import PULSE_SECONDS

_log: Final = structlog.get_logger(__name__)


@contextlib.asynccontextmanager
async def officers_of(
    settings: SignInSettings,
    database: str,
    *,
    bureaus: Iterable[str],
    staff: Callable[[str], Staff],
    roles: Iterable[Role] = Role,
    fenced: bool = False,
) -> AsyncIterator[Officers | None]:
    """Who signs in at the service whose database is `database`; None where terminals are believed, which is logged.

    `fenced`: as for the accounts' `Store`.

    Raises `DatabaseHeld` and the like, `UsersFileUnusable`, `ProviderUnusable`.
    """
    if not settings.needs_sign_in:
        _log.warning(
            "Nobody signs in: terminals are believed who acts and reads. Set users, or oidc.", action="sign_in.none"
        )
        yield None
        return
    async with contextlib.AsyncExitStack() as stack:
        store = await asyncio.to_thread(Store, settings.accounts_url(database), fenced=fenced)
        stack.push_async_callback(store.close)
        if fenced:
            await stack.enter_async_context(Loop("accounts-pulse", store.pulse, PULSE_SECONDS))
        sessions = Sessions(
            store,
            idle=timedelta(hours=settings.session_idle_hours),
            longest=timedelta(hours=settings.session_hours),
        )
        officers = Officers(
            bureaus=bureaus,
            staff=staff,
            users=UsersFile(settings.users) if settings.users is not None else None,
            sessions=sessions,
            tokens=Tokens(store, lambda: datetime.now(UTC)),
            provider=Provider(load_provider(settings.oidc)) if settings.oidc is not None else None,
            roles=roles,
            store=store,
        )
        await officers.start()
        stack.push_async_callback(officers.stop)
        yield officers
