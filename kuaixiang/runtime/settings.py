"""Settings of a service: a TOML file, and the environment over it. A wrong one is named when the service starts."""

import importlib.util
import os
import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Final, TypeVar
from urllib.parse import urlsplit

from pydantic import Field, ValidationError, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from kuaixiang.runtime.limits import DEFAULT_LIMITS, DEFAULT_PAGE_LIMITS, CallLimits, PageLimits

OPENTELEMETRY: Final = ("opentelemetry.sdk", "opentelemetry.exporter.otlp.proto.http")
"""What the extra `tracing` of the distribution brings."""


class WrongSetting(Exception):
    """One or more settings cannot be used; `problems` names each with what is wrong."""

    def __init__(self, problems: Mapping[str, str], env_prefix: str) -> None:
        self.problems = dict(problems)
        super().__init__(
            "The service cannot start: "
            + "; ".join(f"setting {name}: {problem}" for name, problem in self.problems.items())
            + f". Correct the file, or the environment variable {env_prefix}<NAME>."
        )


class ImpossibleSetting(ValueError):
    """A setting that only makes no sense together with others; raised in a model's own validator."""

    def __init__(self, name: str, problem: str) -> None:
        super().__init__(f"{name}: {problem}")


class LimitSettings(BaseSettings):
    """What one caller may ask of a service, which a node and a hub have alike."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    calls_per_second: Annotated[float, Field(ge=0)] = DEFAULT_LIMITS.calls_per_second
    """gRPC calls a second that one certificate may make, five seconds' worth of them at once; 0: any number."""
    token_calls_per_second: Annotated[float, Field(ge=0)] = DEFAULT_LIMITS.token_calls_per_second
    """Likewise what one API token may make, besides; 0: any number."""
    calls_at_once: Annotated[int, Field(ge=1)] = DEFAULT_LIMITS.calls_at_once
    """Calls of one certificate that may be under way at a time."""
    streams_at_once: Annotated[int, Field(ge=1)] = DEFAULT_LIMITS.streams_at_once
    """Streams of one certificate that may be open at a time: lists watched, journals and files on their way."""
    page_requests_per_second: Annotated[float, Field(ge=0)] = DEFAULT_PAGE_LIMITS.requests_per_second
    """Requests for pages a second by one session, five seconds' worth of them at once; 0: any number."""

    @property
    def call_limits(self) -> CallLimits:
        """What one caller may ask over gRPC."""
        return CallLimits(
            calls_per_second=self.calls_per_second,
            token_calls_per_second=self.token_calls_per_second,
            calls_at_once=self.calls_at_once,
            streams_at_once=self.streams_at_once,
        )

    @property
    def page_limits(self) -> PageLimits:
        """What one session may ask of the pages."""
        return PageLimits(requests_per_second=self.page_requests_per_second)


class OperationSettings(BaseSettings):
    """How a service is kept going, which a node and a hub have alike."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    backups: Path | None = None
    """Folder of backups, where `kx backup` puts them, and whose newest one's age metrics and `kx doctor` tell."""
    backups_kept: Annotated[int, Field(ge=1, le=10_000)] = 14
    """How many backups are kept; older ones are removed when another one is whole."""
    drain_seconds: Annotated[float, Field(ge=0, le=600)] = 0.0
    """Seconds at a stop in which the service answers still and says NOT_SERVING, so that a balancer sees it in time."""


class TraceSettings(BaseSettings):
    """Whether and where a service tells what its acts set going, which a node and a hub have alike."""

    model_config = SettingsConfigDict(extra="forbid", frozen=True)

    traces_endpoint: Annotated[str, Field(pattern=r"^(https?://[^/?#@]+/[^?#]+)?$")] = ""
    """Where a collector takes traces by OTLP over HTTP, with its path (`http://collector:4318/v1/traces`); needs the
    extra `tracing`. Empty: there are none."""
    traces_sample_ratio: Annotated[float, Field(ge=0, le=1)] = 0.1
    """The share of requests (gRPC, HTTP) that begin a trace, where a known caller has not decided it already."""

    @model_validator(mode="after")
    def _can_trace(self) -> "TraceSettings":
        if self.traces_endpoint and not _has(OPENTELEMETRY):
            raise ImpossibleSetting(
                "traces_endpoint", "needs OpenTelemetry, which is not installed: pip install 'kuaixiang[tracing]'"
            )
        return self


def held_to_one_scheme(name: str, urls: str) -> None:
    """Refuses addresses with commas between of which some ask for TLS and others do not. Raises `ImpossibleSetting`."""
    schemes = sorted({urlsplit(url.strip()).scheme for url in urls.split(",")})
    if len(schemes) > 1:
        raise ImpossibleSetting(
            name, f"mixes {' and '.join(f'{scheme}://' for scheme in schemes)}; all servers of a site have one scheme"
        )


S = TypeVar("S", bound=BaseSettings)


def read_settings(kind: type[S], file: Path | None = None, **given: object) -> S:
    """Reads settings: `given` ones win over the environment, that wins over the file. Raises `WrongSetting`."""
    prefix = str(kind.model_config.get("env_prefix", ""))
    try:
        written = {} if file is None else tomllib.loads(file.read_text("utf-8"))
    except OSError as failure:
        raise WrongSetting({str(file): failure.strerror or str(failure)}, prefix) from failure
    except (ValueError, RecursionError) as failure:
        raise WrongSetting({str(file): f"is not TOML: {failure}"}, prefix) from failure
    in_environment = {name.upper() for name in os.environ}
    from_file = {name: value for name, value in written.items() if f"{prefix}{name}".upper() not in in_environment}
    try:
        return kind(**{**from_file, **given})
    except ValidationError as failure:
        raise WrongSetting(_problems(failure), prefix) from failure


def _has(modules: Iterable[str]) -> bool:
    try:
        return all(importlib.util.find_spec(name) is not None for name in modules)
    except ModuleNotFoundError:  # not even a package that it would lie in
        return False


def _problems(failure: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for error in failure.errors(include_url=False, include_input=False):
        message = error["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, error["loc"]))
        if not name:
            name, _, message = message.partition(": ")
        found[name] = message
    return found
