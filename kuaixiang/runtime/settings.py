"""Settings of a service: a TOML file, and the environment over it. A wrong one is named when the service starts."""

import os
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import TypeVar

from pydantic import ValidationError
from pydantic_settings import BaseSettings


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


def _problems(failure: ValidationError) -> dict[str, str]:
    found: dict[str, str] = {}
    for error in failure.errors(include_url=False, include_input=False):
        message = error["msg"].removeprefix("Value error, ")
        name = ".".join(map(str, error["loc"]))
        if not name:
            name, _, message = message.partition(": ")
        found[name] = message
    return found
