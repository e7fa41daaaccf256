"""What a newcomer meets first: make, the lock, the entry points."""

import re
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path

ROOT = Path(__file__).parents[2]
LOCK = (ROOT / "requirements.lock").read_text(encoding="utf-8")
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))

REQUIREMENT = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)(?:\[[^\]]*\])?")


def normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def requirement_name(requirement: str) -> str:
    match = REQUIREMENT.match(requirement)
    assert match, requirement
    return normal(match.group(1))


def locked() -> dict[str, str]:
    """Each locked package with its whole entry, hashes included."""
    entries = re.split(r"\n(?=[A-Za-z0-9])", "\n" + re.sub(r"(?m)^\s*#.*\n", "", LOCK))
    return {requirement_name(entry): entry for entry in entries if entry.strip()}


def make(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["make", *arguments], cwd=ROOT, check=False, capture_output=True, text=True, timeout=240)


def test_help_is_the_default_and_lists_every_target() -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", (ROOT / "Makefile").read_text(encoding="utf-8"), re.MULTILINE))
    listed = dict(re.findall(r"^  ([a-z-]+) +(\S.*)$", make().stdout, re.MULTILINE))
    assert targets == set(listed)
    assert {"setup", "check", "test", "demo", "bench", "proto"} <= targets


def test_every_target_is_phony() -> None:
    text = (ROOT / "Makefile").read_text(encoding="utf-8")
    targets = set(re.findall(r"^([a-z][a-z-]*):", text, re.MULTILINE))
    assert targets == set(re.findall(r"^\.PHONY: ([a-z-]+)$", text, re.MULTILINE))


def test_an_unsuitable_python_is_refused_by_name() -> None:
    done = make("--always-make", "PYTHON=/bin/false", ".venv/.installed")
    assert done.returncode != 0
    assert "/bin/false is not a Python >= 3.11" in done.stderr


def test_lock_has_hashes_for_every_package() -> None:
    assert [] == [name for name, entry in locked().items() if "==" not in entry or "--hash=sha256:" not in entry]


def test_lock_names_no_host_and_no_path() -> None:
    assert [] == [
        line for line in LOCK.splitlines() if re.search(r"://|--(?:extra-)?index-url|--find-links|file:|(?<!\w)/", line)
    ]


def test_lock_covers_everything_the_project_asks_for() -> None:
    project = PROJECT["project"]
    asked = [
        *project["dependencies"],
        *(item for extra in project["optional-dependencies"].values() for item in extra),
        *(item for group in PROJECT["dependency-groups"].values() for item in group if isinstance(item, str)),
        *PROJECT["build-system"]["requires"],
    ]
    assert [] == sorted({requirement_name(item) for item in asked} - set(locked()))


def test_group_dev_includes_every_other_group() -> None:
    groups = PROJECT["dependency-groups"]
    assert set(groups) - {"dev"} == {item["include-group"] for item in groups["dev"]}


def test_installed_package_is_this_one() -> None:
    runtime = [item for item in requires("kuaixiang") or [] if "extra ==" not in item]
    assert {requirement_name(item) for item in PROJECT["project"]["dependencies"]} == {
        requirement_name(item) for item in runtime
    }


def test_kx_is_installed_and_names_its_commands() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("kx"), "--help"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    assert [] == [
        name for name in ("node", "hub", "case", "replay", "demo", "pki", "calendar", "tree") if name not in done.stdout
    ]


def test_hooks_download_nothing() -> None:
    text = (ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8")
    assert ["local"] == re.findall(r"- repo: (\S+)", text)
    assert {"system"} == set(re.findall(r"language: (\S+)", text))
