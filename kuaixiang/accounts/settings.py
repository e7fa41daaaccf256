"""Settings of signing in and of pages, which a node and a hub have alike."""

from pathlib import Path
from typing import Annotated

from pydantic import Field, field_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kuaixiang.accounts.oidc import ProviderUnusable, load_provider
from kuaixiang.accounts.users import UsersFileUnusable, load_users
from kuaixiang.runtime.settings import ImpossibleSetting

ACCOUNTS_SUFFIX = "-accounts"


class SignInSettings(BaseSettings):
    """How officers sign in, and where the pages may be reached from."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    users: Path | None = None
    """Who signs in with a password (`kx staff password`); only this service's account may read the file."""
    oidc: Path | None = None
    """Who the identity provider is (OpenID Connect), and which of its claims say who somebody is here."""
    sign_in: bool | None = None
    """Whether terminals and pages need somebody signed in; when absent: with users or an identity provider they do."""
    accounts: str = ""
    """SQLAlchemy URL for sessions and channels' tokens; empty: beside the SQLite file, else in the same database."""
    session_idle_hours: Annotated[float, Field(gt=0, le=24)] = 10.0
    """Who has not asked for anything so long signs in again."""
    session_hours: Annotated[float, Field(gt=0, le=168)] = 24.0
    """A sign-in lasts so long, however it is used."""
    pages_certificates: Path | None = None
    """Folder with tls.crt and tls.key that browsers trust, for the pages; when absent they stay on this machine."""
    pages_hosts: Annotated[tuple[str, ...], NoDecode] = ()
    """Names under which browsers reach the pages, in the environment separated by commas; others are refused."""
    pages_behind_proxy: bool = False
    """A proxy on this machine ends TLS before the pages and says in X-Forwarded-For who asks."""

    @field_validator("pages_hosts", mode="before")
    @classmethod
    def _split_hosts(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @property
    def needs_sign_in(self) -> bool:
        """Whether terminals are not believed."""
        configured = self.users is not None or self.oidc is not None
        return configured if self.sign_in is None else self.sign_in

    def accounts_url(self, database: str) -> str:
        """Where sessions and tokens are kept, by the service's own database."""
        if self.accounts or not database.startswith("sqlite"):
            return self.accounts or database
        stem, dot, suffix = database.rpartition(".")
        return f"{stem}{ACCOUNTS_SUFFIX}.{suffix}" if dot and "/" not in suffix else f"{database}{ACCOUNTS_SUFFIX}"

    def check_sign_in(self, *, staff: Path | None, demonstration: bool) -> None:
        """The settings of signing in make sense together; raises `ImpossibleSetting`."""
        if self.users is not None:
            if staff is None:
                raise ImpossibleSetting("users", "needs staff: the list that says who has which roles")
            try:
                load_users(self.users)
            except UsersFileUnusable as wrong:
                raise ImpossibleSetting("users", str(wrong)) from wrong
        if self.oidc is not None:
            try:
                load_provider(self.oidc)
            except ProviderUnusable as wrong:
                raise ImpossibleSetting("oidc", str(wrong)) from wrong
        if self.needs_sign_in and self.users is None and self.oidc is None:
            raise ImpossibleSetting("sign_in", "is required and there is no way to: set users or oidc")
        if self.needs_sign_in and demonstration:
            raise ImpossibleSetting("demonstration", "lets everybody in without a password, and sign_in asks for one")

    def check_pages(self, name: str, address: str, *, is_loopback: bool) -> None:
        """The pages may be reached as they would be at that address; raises `ImpossibleSetting`."""
        if not address or is_loopback:
            return
        if not self.needs_sign_in:
            raise ImpossibleSetting(
                name, f"{address} can be reached from other machines, and nobody signs in: set users or oidc"
            )
        if self.pages_certificates is None:
            raise ImpossibleSetting(
                name, f"{address} can be reached from other machines, and without TLS: set pages_certificates"
            )
        if not self.pages_hosts:
            raise ImpossibleSetting("pages_hosts", f"is empty, and {name} can be reached from other machines")
