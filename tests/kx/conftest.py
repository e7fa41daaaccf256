"""The command as its users call it, and a federation of three real nodes to call it against."""

import asyncio
import json
from collections.abc import Callable, Coroutine, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, TypeVar

import pytest
from typer.testing import CliRunner, Result

from demo.federation import Federation, part_of
from kuaixiang.domain.calendar import SHANGHAI
from kuaixiang.facts import national_tree
from kx.main import app

HEADQUARTERS, PROVINCE, COUNTY = "000000", "110000", "110101"
START = datetime(2026, 9, 28, 9, 0, tzinfo=SHANGHAI)
"""A Monday, three working days before the National Day holidays."""
WIDE = {"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"}

T = TypeVar("T")


def kx(*arguments: str, environment: dict[str, str] | None = None, stdin: str = "") -> Result:
    """What `kx` says to these arguments."""
    return CliRunner().invoke(
        app, list(arguments), input=stdin, env={**WIDE, **(environment or {})}, catch_exceptions=False
    )


def told(result: Result) -> Any:
    """The JSON that a command printed, which must have gone well."""
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def refusal(result: Result, exit_code: int = 2) -> Any:
    """The refusal that a command printed as JSON."""
    assert result.exit_code == exit_code, result.output
    return json.loads(result.stdout)["error"]


@dataclass
class Officers:
    """A running federation, and the officers of its bureaus at their terminals."""

    federation: Federation
    _loop: asyncio.AbstractEventLoop

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        return self._loop.run_until_complete(work)

    def environment(self, bureau: str, role: str, department: str, actor: str) -> dict[str, str]:
        service = self.federation.node(bureau)
        return {
            "KX_NODE": service.endpoint,
            "KX_CERTIFICATES": str(service.terminal.ca.parent),
            "KX_BUREAU": bureau,
            "KX_TREE": str(self.federation.tree_file),
            "KX_ROLE": role,
            "KX_DEPARTMENT": department,
            "KX_ACTOR": actor,
        }

    def at(
        self, bureau: str, role: str = "tax-service", department: str = "", actor: str = "", *, group: str = "case"
    ) -> Callable[..., Result]:
        """The commands of a group, as that officer gives them."""
        environment = self.environment(bureau, role, department or role, actor or f"{role}-{bureau}")

        def command(*arguments: str, stdin: str = "", **more: str) -> Result:
            return kx(group, *arguments, environment={**environment, **more}, stdin=stdin)

        return command


@contextmanager
def running(
    bureaus: Sequence[str] = (HEADQUARTERS, PROVINCE, COUNTY),
    placement: Sequence[list[str]] = ([HEADQUARTERS], [PROVINCE], [COUNTY]),
    **more: Any,
) -> Iterator[Officers]:
    """A federation of these bureaus, with a process for each place, on a clock that stands still."""
    with TemporaryDirectory(prefix="kuaixiang-kx-") as directory:
        tree = part_of(national_tree(), bureaus)
        federation = Federation(Path(directory), tree, placement=placement, clock_start=START, **more)
        loop = asyncio.new_event_loop()
        try:
            loop.run_until_complete(federation.start())
            yield Officers(federation, loop)
        finally:
            loop.run_until_complete(federation.stop())
            loop.close()


@pytest.fixture(scope="module")
def officers() -> Iterator[Officers]:
    """The three, without a hub."""
    with running() as made:
        yield made
