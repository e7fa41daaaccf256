"""The node's settings: a TOML file, and the environment over it (`KX_NODE_…`). A wrong one is named at the start."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic_settings import NoDecode, SettingsConfigDict

from kuaixiang.accounts.settings import SignInSettings
from kuaixiang.domain.calendar import WorkingCalendar
from kuaixiang.domain.clocks import Rules
from kuaixiang.domain.tree import BureauTree
from kuaixiang.facts import FactsError, load_calendar, load_staff, load_tree, national_tree, published_calendar
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.settings import (
    ImpossibleSetting,
    LimitSettings,
    OperationSettings,
    TraceSettings,
    held_to_one_scheme,
)
from kuaixiang.web.serving import is_loopback
from node.callbacks.hook_file import HooksUnusable, load_hooks

ENV_PREFIX: Final = "KX_NODE_"


class NodeSettings(SignInSettings, LimitSettings, OperationSettings, TraceSettings):
    """What a node must be told. Give it to `node.service.serve`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    bureaus: Annotated[tuple[str, ...], NoDecode, Field(min_length=1)]
    """Codes of the bureaus whose ledgers this node keeps, in the environment separated by commas; all of one site."""
    tree: Path | None = None
    """The tree of bureaus, whose `endpoint` column says where each node answers; the shipped one when absent."""
    calendar: Path | None = None
    """The working calendar; the shipped one when absent."""
    staff: Path | None = None
    """Departments and officers of the bureaus, read again when it changes; when absent, terminals are believed."""
    database: Annotated[str, Field(repr=False)] = "sqlite:///var/node.db"
    """SQLAlchemy URL: SQLite in a file or PostgreSQL, with its password; it is in no message and no log."""
    data_key: Path | None = None
    """File of the keys of private data at rest, mode 0600, made when a new ledger has none; beside a SQLite database
    (`node.db.key`) or `var/node.key` when absent."""
    standby: bool = False
    """Whether this is one of two processes over the same PostgreSQL database: it waits while the other one holds the
    ledger, and takes over when that is gone. To be set for both."""
    nats_url: SecretStr | None = SecretStr("tls://127.0.0.1:4222")
    """The NATS server of the bureaus' site, a cluster's three with commas between, to whom this node shows its
    certificate; empty: the hub reads the ledgers by gRPC."""
    nats_monitor: Annotated[str, Field(pattern=r"^(http://.+)?$")] = ""
    """Where the site's NATS server shows how it is (`http://host:8222`), to watch its leaf links; one node of a site is
    enough. Empty: they are not watched."""
    listen: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")] = "127.0.0.1:7440"
    """host:port for gRPC; port 0 takes a free one."""
    metrics_host: str = "127.0.0.1"
    """Address for /metrics, which has neither TLS nor a password: one inside the data centre."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9440
    """Port of /metrics; 0 takes a free one."""
    certificates: Path = Path("certificates")
    """Folder that `kx pki issue --bureau` has written: ca.crt, tls.crt, tls.key; ca.crl, if there is one."""
    clock: Path | None = None
    """File of a shared business clock, for demonstrations and replays; the machine's clock when absent."""
    reflection: bool = False
    """Whether gRPC's reflection answers."""
    dispatch_workdays: Annotated[int, Field(ge=1, le=5)] = 1
    """Working days for 分办; the notice says 及时 (§四(一)2)."""
    follow_up_workdays: Annotated[int, Field(ge=1, le=250)] = 20
    """Working days for 回访; the notice says 定期 (§四(四))."""
    follow_up_sample_percent: Annotated[int, Field(ge=0, le=100)] = 100
    """The share of cases that are to be followed up; the notice says 定期 (§四(四))."""
    returns_max: Annotated[int, Field(ge=1, le=1_000)] = 2
    """How often bureaus may send a case back to each other before their lowest common superior rules (§二(四))."""
    joint_workdays_total_max: Annotated[int, Field(ge=5)] | None = None
    """Working days for joint handling with its extension; the notice sets no cap (§四(二)2)."""
    backdating_workdays_max: Annotated[int, Field(ge=0, le=5)] = 1
    """How many working days after it happened an act may be recorded."""
    reconcile_hour: Annotated[int, Field(ge=0, le=23)] = 2
    """The hour in Shanghai, by the business clock, at which each ledger is compared with its superior's (对账)."""
    reconcile_days: Annotated[int, Field(ge=1, le=3660)] = 366
    """How many days of hand-overs, up to today, are compared when no period is named."""
    cosign_seconds: Annotated[float, Field(ge=0.1, le=3600)] = 30.0
    """Seconds between two showings of a ledger to its witness 台账见证; what a lost disk takes beyond that is lost."""
    cosigned_start_seconds: Annotated[float, Field(ge=0, le=600)] = 10.0
    """Seconds that a start waits for the witnesses' word that its ledgers are the latest; then it does without."""
    require_cosigned_start: bool = False
    """Whether a ledger takes no acts until its witnesses have said that it is the latest, however long that takes."""
    duplicates_days: Annotated[int, Field(ge=0, le=366)] = 90
    """How many days back cases are compared with one about to be registered; 0 compares none."""
    retention_years: Annotated[int, Field(ge=1, le=100)] | None = None
    """Years after its write-off for which a case keeps its private data; then they are erased, on record. Never when
    absent."""
    desk: Annotated[str, Field(pattern=r"^(.+:\d{1,5})?$")] = ""
    """host:port for the officers' pages, beyond this machine with sign-in and TLS; port 0: a free one; empty: none."""
    gateway: Annotated[str, Field(pattern=r"^(.+:\d{1,5})?$")] = ""
    """host:port for channels' programs (HTTP/JSON, Open311), who bring tokens; port 0: a free one; empty: none."""
    hooks: Path | None = None
    """Where channels are told of their cases by web hooks, a TOML file by bureau and channel, read again when it
    changes; nowhere when absent."""
    notifier: str = ""
    """What sends messages to taxpayers: `spool`, or the name of an entry point of the group `kuaixiang.notifiers`. It
    is given their contacts; empty: nobody is."""
    notifier_options: Annotated[Mapping[str, str], Field(default_factory=dict, repr=False)]
    """What that notifier must be told, a table of texts; the spool's `file`."""
    callback_hours: Annotated[float, Field(gt=0, le=24 * 366)] = 72.0
    """Hours for which a web hook or a message is tried again before it is given up and listed."""
    demonstration: bool = False
    """Whether everybody on the list of staff may step in at the desk without a password; for demonstrations only."""
    log_level: str = "info"
    """debug, info, warning or error; one JSON object a line, to standard error."""

    @field_validator("bureaus", mode="before")
    @classmethod
    def _split(cls, value: object) -> object:
        return tuple(part.strip() for part in value.split(",") if part.strip()) if isinstance(value, str) else value

    @field_validator("nats_url", mode="before")
    @classmethod
    def _none(cls, value: object) -> object:
        return value or None

    @model_validator(mode="after")
    def _fit(self) -> "NodeSettings":
        try:
            tree = self.load_tree()
        except FactsError as failure:
            raise ImpossibleSetting("tree", str(failure)) from failure
        if self.nats_url is not None:
            held_to_one_scheme("nats_url", self.nats_url.get_secret_value())
        strange = [code for code in self.bureaus if code not in tree]
        if strange:
            raise ImpossibleSetting("bureaus", f"{', '.join(strange)} is not in the tree {tree.version}")
        sites = {tree.site(code) for code in self.bureaus}
        if len(sites) > 1:
            raise ImpossibleSetting("bureaus", f"are of the sites {', '.join(sorted(sites))}; a node serves one")
        try:
            self.load_calendar()
        except FactsError as failure:
            raise ImpossibleSetting("calendar", str(failure)) from failure
        if self.staff is not None:
            try:
                listed = load_staff(self.staff)
            except FactsError as failure:
                raise ImpossibleSetting("staff", str(failure)) from failure
            missing = [code for code in self.bureaus if code not in listed]
            if missing:
                raise ImpossibleSetting("staff", f"{self.staff} lists nobody of {', '.join(missing)}")
        if self.standby and self.database.startswith("sqlite"):
            raise ImpossibleSetting("standby", "needs PostgreSQL: an SQLite file is of one machine")
        if self.standby and self.accounts.startswith("sqlite"):
            # A token that was revoked would be good again after a takeover.
            raise ImpossibleSetting("accounts", "must be in PostgreSQL with standby: an SQLite file is of one machine")
        self.check_sign_in(staff=self.staff, demonstration=self.demonstration)
        self.check_pages("desk", self.desk, is_loopback=is_loopback(self.desk))
        self.check_pages("gateway", self.gateway, is_loopback=is_loopback(self.gateway))
        if self.gateway and not self.needs_sign_in:
            raise ImpossibleSetting(
                "gateway", "lets in who brings a token, and nobody signs in who could issue one: set users or oidc"
            )
        self._check_hooks()
        return self

    def _check_hooks(self) -> None:
        try:
            if self.hooks is not None:
                load_hooks(self.hooks, self.bureaus)
        except HooksUnusable as failure:
            raise ImpossibleSetting("hooks", str(failure)) from failure

    def load_tree(self) -> BureauTree:
        """The tree of bureaus. Raises `FactsError`."""
        return national_tree() if self.tree is None else load_tree(self.tree)

    def load_calendar(self) -> WorkingCalendar:
        """The working calendar. Raises `FactsError`."""
        return published_calendar() if self.calendar is None else load_calendar(self.calendar)

    @property
    def rules(self) -> Rules:
        """The limits in force: what the notice fixes, and what it leaves to a setting."""
        return Rules(
            dispatch_workdays=self.dispatch_workdays,
            follow_up_workdays=self.follow_up_workdays,
            follow_up_sample_percent=self.follow_up_sample_percent,
            returns_max=self.returns_max,
            joint_workdays_total_max=self.joint_workdays_total_max,
            backdating_workdays_max=self.backdating_workdays_max,
        )

    @property
    def certificate_paths(self) -> CertificatePaths:
        """The three files of the certificates' folder."""
        return CertificatePaths.in_folder(self.certificates)
