"""Who may import whom."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOMAIN = sorted((ROOT / "kuaixiang" / "domain").rglob("*.py"))
PACKAGES = ("kuaixiang", "node", "hub", "kx", "demo")

# Names that read a clock wherever they appear: `datetime.now()`, `date.today()`, `time.monotonic()`, ...
CLOCKS = {"now", "today", "utcnow", "monotonic", "perf_counter", "time_ns", "monotonic_ns"}


def imported(path: Path) -> Iterator[tuple[int, str]]:
    """Line and dotted name of every import in a file, wherever it stands."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.lineno, "." * node.level + (node.module or "")


def test_contracts_hold() -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("lint-imports"), "--no-logo"],
        cwd=ROOT,
        check=False,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", DOMAIN, ids=lambda path: path.stem)
def test_domain_imports_the_standard_library_and_itself_only(path: Path) -> None:
    strangers = [
        f"line {line}: {name}"
        for line, name in imported(path)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith("kuaixiang.domain")
    ]
    assert strangers == []


@pytest.mark.parametrize("path", DOMAIN, ids=lambda path: path.stem)
def test_domain_reads_no_clock_and_opens_nothing(path: Path) -> None:
    readings = [
        f"line {node.lineno}: {name}()"
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Call)
        and (
            (isinstance(node.func, ast.Attribute) and (name := node.func.attr) in CLOCKS)
            or (isinstance(node.func, ast.Name) and (name := node.func.id) in {"open", "input", "print"})
        )
    ]
    assert readings == []


def test_a_command_that_asks_a_hub_loads_no_library_of_databases() -> None:
    program = "import sys, kx.hub; print(*sorted({'sqlalchemy', 'alembic', 'psycopg'} & sys.modules.keys()))"
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=ROOT, check=True, capture_output=True, text=True, timeout=240
    )
    assert "" == done.stdout.strip()


@pytest.mark.parametrize("package", PACKAGES)
def test_every_package_carries_its_types(package: str) -> None:
    assert (ROOT / package / "__init__.py").is_file()
    assert (ROOT / package / "py.typed").is_file()
