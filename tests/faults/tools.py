"""The tools of the machine that faults are made with: a test that lacks one says so, and fails where CI is set."""

import os
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest

from tests.faults.machines import PRIVATE

DEBIAN: Final = {
    "ip": "iproute2",
    "tc": "iproute2",
    "nft": "nftables",
    "fiu-run": "fiu-utils",
    "faketime": "faketime",
    "fusermount3": "fuse3",
}
"""Commands, and the package that has each; `make tools` installs them where that can be done."""

MAY_BE_MISSING_IN_CI: Final[frozenset[str]] = frozenset()
"""Tools (and ``namespaces``, ``/dev/fuse``) whose tests may be left out even in CI; there is none."""


def need(*tools: str) -> None:
    """Skip the test where a tool is missing, or fail it in CI, and say which."""
    missing = [tool for tool in tools if not _there(tool)]
    if not missing:
        return
    told = ", ".join(f"{tool} ({DEBIAN[tool]})" if tool in DEBIAN else tool for tool in missing)
    sentence = f"this machine has not got {told}, by which the faults are made"
    if os.environ.get("CI", "").lower() in {"1", "true", "yes"} and not set(missing) <= MAY_BE_MISSING_IN_CI:
        pytest.fail(sentence, pytrace=False)
    pytest.skip(sentence)


def _there(tool: str) -> bool:
    if tool == "namespaces":
        return subprocess.run([*PRIVATE, "true"], capture_output=True, check=False).returncode == 0
    if tool.startswith("/"):
        return Path(tool).exists()
    return shutil.which(tool) is not None
