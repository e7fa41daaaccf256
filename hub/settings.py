"""The hub's settings: a TOML file, and the environment over it (`KX_HUB_…`). A wrong one is named at the start."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Final

from pydantic import Field, SecretStr, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from kuaixiang.domain.tree import BureauTree, UnknownBureau
from kuaixiang.facts import FactsError, load_tree, national_tree
from kuaixiang.runtime.pki import CertificatePaths

ENV_PREFIX: Final = "KX_HUB_"


class WrongSetting(Exception):
    """One or more settings cannot be used; `problems` names each with what is wrong."""

    def __init__(self, problems: Mapping[str, str]) -> None:
        self.problems = dict(problems)
        super().__init__(
            "The hub cannot start: "
            + "; ".join(f"setting {name}: {problem}" for name, problem in self.problems.items())
            + f". Correct the file, or the environment variable {ENV_PREFIX}<NAME>."
        )


class _Wrong(ValueError):
    """A setting that only makes no sense together with others; pydantic collects it."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


class HubSettings(BaseSettings):
    """What a hub must be told. Give it to `hub.service.serve`."""

    model_config = SettingsConfigDict(env_prefix=ENV_PREFIX, extra="forbid", frozen=True)

    scope: Annotated[str, Field(pattern=r"^\d{6}$")] = "000000"
    """The bureau whose subtree is counted: 000000 for the nation."""
    tree: Path | None = None
    """The tree of bureaus, whose `endpoint` column says where each ledger answers; the shipped one when absent."""
    database: str = "sqlite:///var/hub.db"
    """SQLAlchemy URL: SQLite in a file or PostgreSQL."""
    nats_url: SecretStr = SecretStr("nats://127.0.0.1:4222")
    """The NATS server of the scope's own site, with user and password."""
    sites: Annotated[tuple[str, ...], NoDecode] = ()
    """Codes of the sites to follow, in the environment separated by commas; all of the scope when empty."""
    listen: Annotated[str, Field(pattern=r"^.+:\d{1,5}$")] = "127.0.0.1:7450"
    """host:port for gRPC; port 0 takes a free one."""
    metrics_host: str = "127.0.0.1"
    """Address for /metrics, which has neither TLS nor a password: one inside the data centre."""
    metrics_port: Annotated[int, Field(ge=0, le=65_535)] = 9450
    """Port of /metrics; 0 takes a free one."""
    certificates: Path = Path("certificates")
    """Folder that `kx pki issue --hub` has written: ca.crt, tls.crt, tls.key."""
    clock: Path | None = None
    """File of a shared business clock, for demonstrations and replays; the machine's clock when absent."""
    reflection: bool = False
    """Whether gRPC's reflection answers."""
    refill_after_seconds: Annotated[float, Field(gt=0, le=3600)] = 3.0
    """A bureau that is behind for so long without progress is read from its ledger."""
    silent_after_seconds: Annotated[float, Field(gt=0, le=86_400)] = 120.0
    """A bureau not heard from for so long is not up to date, and is asked: four heads of 30 s have not come."""
    settle_seconds: Annotated[float, Field(ge=0, le=600)] = 5.0
    """A reconciliation waits so long for the fold to reach the end of a ledger that is being written to."""
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
            raise _Wrong("tree", str(failure)) from failure
        if self.scope not in tree:
            raise _Wrong("scope", str(UnknownBureau(self.scope)))
        strange = sorted(set(self.sites) - set(sites_of(tree, self.scope)))
        if strange:
            raise _Wrong("sites", f"{', '.join(strange)} serve no bureau of {self.scope}")
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


def load_settings(file: Path | None = None, **given: object) -> HubSettings:
    """Read the settings: `given` ones win over the environment, that wins over the file. Raises `WrongSetting`."""
    try:
        written = {} if file is None else tomllib.loads(file.read_text("utf-8"))
    except OSError as failure:
        raise WrongSetting({str(file): failure.strerror or str(failure)}) from failure
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as failure:
        raise WrongSetting({str(file): f"is not TOML: {failure}"}) from failure
    in_environment = {name.upper() for name in os.environ}
    from_file = {name: value for name, value in written.items() if f"{ENV_PREFIX}{name}".upper() not in in_environment}
    try:
        return HubSettings(**{**from_file, **given})
    except ValidationError as failure:
        raise WrongSetting(_problems(failure)) from failure


def _problems(failure: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for error in failure.errors(include_url=False, include_input=False):
        message = error["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, error["loc"]))
        if not name:
            name, _, message = message.partition(": ")
        found[name] = message
    return found
