"""SECURITY.md names tests that exist: a threat that nobody tests any more is not met."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "SECURITY.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w./-]+(?:::\w+)?)`", TEXT)))


def test_each_threat_has_tests() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ")][2:]
    assert len(rows) > 10
    assert [row.split("|")[1].strip() for row in rows if "`tests/" not in row] == []


@pytest.mark.parametrize("named", NAMED)
def test_a_test_that_is_named_exists(named: str) -> None:
    file, _, test = named.partition("::")
    path = ROOT / file
    assert path.exists()
    assert not test or re.search(rf"def {test}\(", path.read_text("utf-8"))


@pytest.mark.parametrize("target", sorted(set(re.findall(r"`make ([a-z-]+)", TEXT))))
def test_a_target_that_is_named_exists(target: str) -> None:
    assert re.search(rf"(?m)^{target}:", (ROOT / "Makefile").read_text("utf-8"))
