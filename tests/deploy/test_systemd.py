"""The units of deploy/systemd: systemd reads them, they expose little, and they start what there is to start."""

import re
import shutil
import subprocess
from configparser import RawConfigParser
from pathlib import Path

import pytest
from typer.testing import CliRunner

from kx.main import app

UNITS = sorted((Path(__file__).resolve().parents[2] / "deploy" / "systemd").glob("*.*"))
SERVICES = [unit for unit in UNITS if unit.suffix == ".service"]
EXPOSURE_MAX = 2.0
"""Of 10; what is left is the network, which a service of the network needs."""
INSTANCE = "330106"
LOOKED_AT_SECONDS = 120


def analyze(*arguments: str) -> subprocess.CompletedProcess[str]:
    program = shutil.which("systemd-analyze")
    if program is None:
        pytest.skip("systemd is not on this machine")
    return subprocess.run([program, *arguments], check=False, capture_output=True, text=True, timeout=LOOKED_AT_SECONDS)


def option(unit: Path, section: str, name: str) -> str:
    """The last value of an option; systemd's lists repeat their names."""
    parser = RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # names have capitals
    parser.read_string(unit.read_text("utf-8"))
    return parser.get(section, name, fallback="")


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The units as they would be installed, with programs of this machine in the places of ours."""
    folder = tmp_path_factory.mktemp("units")
    for unit in UNITS:
        text = re.sub(r"^(ExecStart=)\S+", r"\1/bin/true", unit.read_text("utf-8"), flags=re.MULTILINE)
        text = text.replace("file:///opt/kuaixiang/docs/OPERATING.md", "https://example.org")
        (folder / unit.name.replace("@.", f"@{INSTANCE}.")).write_text(text, encoding="utf-8")
    return folder


def test_there_are_units_for_each_service() -> None:
    assert {
        "kx-hub-backup@.service",
        "kx-hub-backup@.timer",
        "kx-hub@.service",
        "kx-node-backup@.service",
        "kx-node-backup@.timer",
        "kx-node@.service",
        "nats-server@.service",
    } == {unit.name for unit in UNITS}


def test_systemd_reads_every_unit(installed: Path) -> None:
    done = analyze("verify", "--man=no", "--generators=no", *map(str, sorted(installed.iterdir())))
    ours = [line for line in (done.stderr + done.stdout).splitlines() if "kx-" in line or "nats-" in line]
    assert [] == ours
    assert 0 == done.returncode


def test_a_unit_with_a_mistake_is_found(installed: Path, tmp_path: Path) -> None:
    unit = tmp_path / "kx-node@1.service"
    text = (installed / f"kx-node@{INSTANCE}.service").read_text("utf-8")
    unit.write_text(text.replace("ProtectSystem=strict", "ProtectSystem=perhaps"), encoding="utf-8")
    assert "protect system value" in analyze("verify", "--man=no", "--generators=no", str(unit)).stderr


@pytest.mark.parametrize("unit", SERVICES, ids=lambda unit: unit.name)
def test_a_service_exposes_little(unit: Path) -> None:
    threshold = str(int(EXPOSURE_MAX * 10))
    done = analyze("security", "--offline=yes", f"--threshold={threshold}", "--no-pager", str(unit))
    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize("unit", [unit for unit in SERVICES if unit.name.startswith("kx-")], ids=lambda unit: unit.name)
def test_a_service_runs_a_command_that_there_is(unit: Path) -> None:
    program, *command = option(unit, "Service", "ExecStart").split()
    assert "/opt/kuaixiang/.venv/bin/kx" == program
    at = command.index("--config")
    shown = CliRunner().invoke(app, [*command[:at], "--help"], env={"COLUMNS": "200", "NO_COLOR": "1", "TERM": "dumb"})
    assert 0 == shown.exit_code
    assert "--config" in shown.stdout
    kind = "hub" if "hub" in unit.name else "node"
    assert f"/etc/kuaixiang/{kind}-%i.toml" == command[at + 1]


def test_each_timer_has_its_service() -> None:
    names = {unit.name for unit in UNITS}
    assert [] == [
        unit.name for unit in UNITS if unit.suffix == ".timer" and unit.with_suffix(".service").name not in names
    ]
