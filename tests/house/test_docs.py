"""The documents say what the code does: every metric, setting, RPC and command, and no link leads nowhere."""

import importlib.util
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from types import ModuleType

import pytest
from typer.testing import CliRunner

from hub.settings import HubSettings
from kuaixiang.domain.labels import name
from kuaixiang.domain.words import Role
from kuaixiang.facts.staff import parse_staff
from kx.main import app
from node.settings import NodeSettings

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
DOCUMENTS = sorted(
    path
    for path in (
        *ROOT.glob("*.md"),
        *DOCS.rglob("*.md"),
        *(ROOT / "deploy").rglob("*.md"),
        *(ROOT / "demo").rglob("*.md"),
        *(ROOT / "kuaixiang").rglob("*.md"),
    )
)
PACKAGES = ("kuaixiang", "node", "hub", "kx", "demo")
METRIC = re.compile(r"(?:Counter|Gauge|Histogram|Summary|Info)\(\s*\"([a-z_]+)\"")
VARIABLE_OF_TESTS = re.compile(r"\"(KX_DATA|(?:KX_)?TEST_[A-Z_]+)\"")
LINK = re.compile(r"(?<!`)!?\[[^\]]*\]\(([^)\s]+)\)")
HEADING = re.compile(r"^#+\s+(.*)$", re.MULTILINE)


@cache
def reference() -> ModuleType:
    """The program that writes the tables."""
    spec = importlib.util.spec_from_file_location("list_reference", DOCS / "list_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@cache
def text_of(path: Path) -> str:
    return path.read_text("utf-8")


def without_code(text: str) -> str:
    return re.sub(r"```.*?```", "", text, flags=re.DOTALL)


def sources() -> Iterator[Path]:
    for package in PACKAGES:
        yield from (path for path in (ROOT / package).rglob("*.py") if "v1" not in path.parts)


def test_the_tables_of_settings_and_metrics_are_current() -> None:
    for path, expected in reference().documents().items():
        assert expected == text_of(path), f"{path.name}: run python -m docs.list_reference --write"


def test_every_metric_of_the_code_is_documented_and_has_our_prefix() -> None:
    named = {name for path in sources() for name in METRIC.findall(text_of(path))}
    assert named
    assert [] == sorted(name for name in named if not name.startswith("kx_"))
    assert [] == sorted(name for name in named if f"`{name}`" not in text_of(DOCS / "METRICS.md"))


def test_every_metric_that_a_document_names_is_one_of_the_code() -> None:
    named = {name for path in sources() for name in METRIC.findall(text_of(path))}
    for path in DOCUMENTS:
        mentioned = set(re.findall(r"`(kx_[a-z_]+)[`{ ]", text_of(path)))
        assert set() == mentioned - named, path.name


@pytest.mark.parametrize("kind", [NodeSettings, HubSettings])
def test_every_setting_is_documented_with_a_sentence(kind: type[NodeSettings] | type[HubSettings]) -> None:
    said = reference().sentences(kind)
    assert [] == [name for name in kind.model_fields if not said.get(name)]
    rows = text_of(DOCS / "SETTINGS.md")
    prefix = str(kind.model_config["env_prefix"])
    assert [] == [name for name in kind.model_fields if f"| `{name}` | `{prefix}{name.upper()}` |" not in rows]


def test_every_variable_of_the_command_line_is_documented() -> None:
    read = {name for path in (ROOT / "kx").rglob("*.py") for name in re.findall(r'envvar="(\w+)"', text_of(path))}
    assert read
    assert [] == sorted(name for name in read if f"`{name}`" not in text_of(DOCS / "SETTINGS.md"))


def test_every_variable_of_the_tests_is_documented() -> None:
    read = {name for path in (ROOT / "tests").rglob("*.py") for name in VARIABLE_OF_TESTS.findall(text_of(path))}
    assert {"KX_DATA", "KX_TEST_SEED"} <= read
    assert [] == sorted(name for name in read if f"`{name}`" not in text_of(DOCS / "SETTINGS.md"))


def test_every_role_of_an_officer_is_documented() -> None:
    (row,) = (line for line in text_of(DOCS / "SETTINGS.md").splitlines() if line.startswith("| `--role` |"))
    assert [] == [name(role) for role in Role if role is not Role.SYSTEM and name(role) not in row]


def test_the_list_of_staff_that_is_shown_is_one_that_a_node_takes() -> None:
    (shown,) = re.findall(r"```toml\n(.*?)```", text_of(ROOT / "deploy" / "README.md"), re.DOTALL)
    assert ["330106"] == list(parse_staff(shown))


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for target in LINK.findall(without_code(text_of(path))):
        if "://" in target:
            continue
        name, _, anchor = target.partition("#")
        there = (path.parent / name).resolve() if name else path
        assert there.exists(), f"{path.name}: {target}"
        if anchor:
            headings = {
                re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in HEADING.findall(text_of(there))
            }
            assert anchor in headings, f"{path.name}: {target}"


def test_the_files_that_a_document_names_are_there() -> None:
    """`folder/file` in a document is a path from the top of the repository, or from the document's own folder."""
    for path in DOCUMENTS:
        for file in re.findall(r"`((?:[\w.-]+/)+[\w.-]*)`", without_code(text_of(path))):
            if file.split("/")[0] in {"kuaixiang", "node", "hub", "kx", "demo", "deploy", "docs", "proto", "tests"}:
                assert (ROOT / file).exists() or (path.parent / file).exists(), f"{path.name}: {file}"


def test_the_commands_of_the_readme_are_targets_of_the_makefile() -> None:
    targets = set(re.findall(r"^\.PHONY: ([a-z-]+)$", text_of(ROOT / "Makefile"), re.MULTILINE))
    asked = set(re.findall(r"\bmake ([a-z-]+)", text_of(ROOT / "README.md")))
    assert {"demo", "test"} <= asked
    assert asked <= targets


def commands() -> list[tuple[Path, str]]:
    """Every `kx …` line in a shell block of a document, continuation lines joined."""
    found = []
    for path in DOCUMENTS:
        for block in re.findall(r"```(?:sh|shell|bash)\n(.*?)```", text_of(path), re.DOTALL):
            for line in block.replace("\\\n", " ").splitlines():
                match = re.search(r"(?:^|\s|/)kx ((?:[a-z-]+)(?: [a-z-]+)?)(.*)$", line.split(" #")[0])
                if match:
                    found.append((path, " ".join(match.group(0).split()).split("kx ", 1)[1]))
    return found


@cache
def help_of(*words: str) -> str:
    done = CliRunner().invoke(app, [*words, "--help"], env={"COLUMNS": "300", "NO_COLOR": "1", "TERM": "dumb"})
    assert 0 == done.exit_code, f"kx {' '.join(words)}: {done.output}"
    return done.stdout


def test_the_readme_shows_the_command_line() -> None:
    assert 6 <= len([line for path, line in commands() if path.name == "README.md" and path.parent == ROOT])


@pytest.mark.parametrize(
    ("path", "line"), commands(), ids=[f"{path.relative_to(ROOT)}: {line[:30]}" for path, line in commands()]
)
def test_every_command_in_a_document_exists_with_its_options(path: Path, line: str) -> None:
    words = line.split()
    depth = 1 if words[0] in {"demo", "replay", "reconcile", "simulate"} else 2
    shown = help_of(*words[:depth])
    for option in re.findall(r"(?<=\s)--[a-z][a-z-]*", re.sub(r"\"[^\"]*\"|'[^']*'", "", line)):
        assert re.search(rf"(?<![\w-]){option}(?![\w-])", shown), f"{path.name}: kx {line}: no {option}"
