"""The hub's settings: a TOML file, and the environment over it (`KX_HUB_…`). A wrong one is named at the start."""

from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.domain.tree import BureauTree, UnknownBureau
from kuaixiang.facts import FactsError, load_staff, load_tree, national_tree
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.settings import (
    ImpossibleSetting,
    LimitSettings,
    OperationSettings,
    TraceSettings,
    held_to_one_scheme,
)
from kuaixiang.web.serving import is_loopback

ENV_PREFIX: Final = "KX_HUB_"


class HubSettings(SignInSettings, LimitSettings, OperationSettings, TraceSettings):
    """What a hub must be told. Give it to `hub.service.serve`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    scope: Annotated[str, Field(pattern=r"^\d{6}$")] = "000000"
    """The bureau whose subtree is counted: 000000 for the nation."""
    tree: Path | None = None
    """The tree of bureaus, whose `endpoint` column says where each ledger answers; the shipped one when absent."""
    database: Annotated[str, Field(repr=False)] = "sqlite:///var/hub.db"
    """SQLAlchemy URL: SQLite in a file or PostgreSQL, with its password; it is in no message and no log."""
    nats_url: SecretStr = SecretStr("tls://127.0.0.1:4222")
    """The NATS server of the scope's own site, a cluster's three with commas between, to whom this hub shows its
    certificate."""
    sites: Annotated[tuple[str, ...], NoDecode] = ()
    """Codes of the sites to follow, in the environment separated by commas; all of the scope when empty."""
    listen: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")] = "127.0.0.1:7450"
    """host:port for gRPC; port 0 takes a free one."""
    metrics_host: str = "127.0.0.1"
    """Address for /metrics, which has neither TLS nor a password: one inside the data centre."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9450
    """Port of /metrics; 0 takes a free one."""
    certificates: Path = Path("certificates")
    """Folder that `kx pki issue --hub` has written: ca.crt, tls.crt, tls.key; ca.crl, if there is one."""
    clock: Path | None = None
    """File of a shared business clock, for demonstrations and replays; the machine's clock when absent."""
    reflection: bool = False
    """Whether gRPC's reflection answers."""
    board: Annotated[str, Field(pattern=r"^(.+:\d{1,5})?$")] = ""
    """host:port for the board's pages, beyond this machine with sign-in and TLS; empty: no pages."""
    staff: Path | None = None
    """Who of which bureau of the scope has which roles, as a node's list says it; needed where officers sign in."""
    demonstration: bool = False
    """Whether supervisors step in at the board without a password. Never where figures are real."""
    refill_after_seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0
    """A bureau that is behind for so long without progress is read from its ledger."""
    silent_after_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """A bureau not heard from for so long is not up to date, and is asked: four heads of 30 s have not come."""
    totals_seconds: Annotated[float, Field(ge=0, le=3600)] = 5.0
    """How often other systems are told the month's totals on NATS, if they have changed; 0: never."""
    settle_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """A reconciliation waits so long for the fold to reach the end of a ledger that is being written to."""
    reconcile_hour: Annotated[int, Field(ge=0, le=23)] = 3
    """The hour in Shanghai, by the business clock, at which the hub compares itself with its ledgers every day."""
    reconcile_whole_days: Annotated[int, Field(ge=1, le=366)] = 28
    """In how many days each ledger is read entry by entry once; every day each is compared by its hash."""
    log_level: str = "info"
    """debug, info, warning or error; one JSON object a line, to standard error."""

    @field_validator("sites", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @model_validator(mode="after")
    def _known(self) -> "HubSettings":
        try:
            tree = self.load_tree()
        except FactsError as failure:
            raise ImpossibleSetting("tree", str(failure)) from failure
        if self.scope not in tree:
            raise ImpossibleSetting("scope", str(UnknownBureau(self.scope)))
        held_to_one_scheme("nats_url", self.nats_url.get_secret_value())
        strange = sorted(set(self.sites) - set(sites_of(tree, self.scope)))
        if strange:
            raise ImpossibleSetting("sites", f"{', '.join(strange)} serve no bureau of {self.scope}")
        if self.staff is not None:
            try:
                load_staff(self.staff)
            except FactsError as failure:
                raise ImpossibleSetting("staff", str(failure)) from failure
        self.check_sign_in(staff=self.staff, demonstration=self.demonstration)
        self.check_pages("board", self.board, is_loopback=is_loopback(self.board))
        return self

    def load_tree(self) -> BureauTree:
        """The tree of bureaus. Raises `FactsError`."""
        return national_tree() if self.tree is None else load_tree(self.tree)

    def followed_sites(self, tree: BureauTree) -> tuple[str, ...]:
        """The sites to follow."""
        return self.sites or sites_of(tree, self.scope)

    @property
    def certificate_paths(self) -> CertificatePaths:
        """The three files of the certificates' folder."""
        return CertificatePaths.in_folder(self.certificates)


def sites_of(tree: BureauTree, scope: str) -> tuple[str, ...]:
    """The sites that serve the bureaus of a scope."""
    return tuple(dict.fromkeys(map(tree.site, tree.subtree(scope))))
