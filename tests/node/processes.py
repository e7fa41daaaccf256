"""A node in a process of its own, to be killed and started again at the same ports."""

import json
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from demo.federation import child_environment
from demo.processes import ChildProcess
from kuaixiang.runtime.settings import read_settings
from node.settings import NodeSettings

READY_SECONDS = 120.0


@contextmanager
def node_process(settings: NodeSettings, folder: Path) -> Iterator[ChildProcess]:
    """The process of a node with these settings, not started yet."""
    given = settings.model_dump(mode="json", exclude_defaults=True) | {"database": settings.database, "nats_url": ""}
    config = folder / "node.toml"
    config.write_text("\n".join(f"{name} = {_toml(value)}" for name, value in given.items()), encoding="utf-8")
    assert read_settings(NodeSettings, config) == settings
    command = [sys.executable, "-c", "from kx.main import app; app()", "node", "serve", "--config", str(config)]
    with ChildProcess("node", command, log=folder / "node.log", environment=child_environment(folder)) as made:
        yield made


def start(process: ChildProcess) -> None:
    """Starts it, and waits until it serves."""
    process.start().wait_ready(lambda: "The node serves on port" in process.log_tail(), READY_SECONDS)


def _toml(value: object) -> str:
    if isinstance(value, dict):
        return f"{{{', '.join(f'{name} = {_toml(one)}' for name, one in value.items())}}}"
    return json.dumps(value)
