"""Whoever follows docs/OPERATING.md has three tiers on three machines: its chapters are typed word for word."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kx.looking_here import FORGETFUL
from tests.deploy.bare_machines import CHAPTER, WHERE, blocks
from tests.faults.machines import PRIVATE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "OPERATING.md"
DISK = "/var/tmp"
"""The doctor would rather not see a ledger on a disk that a restart empties."""
INSTALLED_SECONDS = 3_600
"""A minute and a half alone; a busy machine takes its time."""


def typed(document: Path, log: Path) -> subprocess.CompletedProcess[str]:
    """The chapters typed in namespaces of their own."""
    program = (sys.executable, "-m", "tests.deploy.bare_machines")
    with (
        log.open("w", encoding="utf-8") as errors,
        tempfile.TemporaryDirectory(dir=DISK, prefix="kx-machines-") as disk,
    ):
        return subprocess.run(
            [*PRIVATE, "--uts", *program, str(ROOT), str(document), disk],
            cwd=ROOT,
            check=False,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            timeout=INSTALLED_SECONDS,
        )


def can_have_machines() -> bool:
    """Whether this is root on a Linux that lets it have namespaces and layered folders."""
    if os.geteuid() != 0 or any(shutil.which(tool) is None for tool in ("unshare", "nsenter", "ip", "useradd", "git")):
        return False
    kind = subprocess.run(
        ["findmnt", "-n", "-o", "FSTYPE", "-T", DISK], check=False, capture_output=True, text=True, timeout=60
    )
    if kind.stdout.strip() in FORGETFUL:
        return False
    layered = "mount -t tmpfs t /mnt && mkdir /mnt/u /mnt/w && mount -t overlay o -o lowerdir=/etc,upperdir=/mnt/u,workdir=/mnt/w /etc"
    return 0 == subprocess.run([*PRIVATE, "sh", "-c", layered], check=False, capture_output=True, timeout=60).returncode


needs_machines = pytest.mark.skipif(not can_have_machines(), reason="no namespaces and layered folders for this user")


def test_every_block_of_the_chapters_is_typed_somewhere() -> None:
    found = list(blocks(DOCUMENT.read_text("utf-8")))
    assert set(WHERE) == {block.heading for block in found}


def test_a_block_that_nobody_would_type_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="Somewhere else"):
        list(blocks(f"{CHAPTER}\n### Somewhere else\n```sh\ntrue\n```\n"))


@pytest.mark.slow
@pytest.mark.nats
@needs_machines
def test_the_chapters_typed_word_for_word_make_three_tiers_and_carry_a_case_to_the_nation_s_figure(
    tmp_path: Path,
) -> None:
    done = typed(DOCUMENT, tmp_path / "log")
    assert 0 == done.returncode, (tmp_path / "log").read_text("utf-8")[-8000:]
    told = json.loads(done.stdout)
    assert 1 == told["nation"]["facts"]["registered"]
    assert 1 == told["nation"]["facts"]["referred_up"]
    assert "owned" == told["province"]["case"]["custody"]


@pytest.mark.slow
@pytest.mark.nats
@needs_machines
@pytest.mark.parametrize(
    ("right", "instead"),
    [
        ("kx nats tree.csv --out nats --server 000000=hq.example\n", "kx nats tree.csv --out nats\n"),
        ("install -m 0755 /opt/kuaixiang/.venv/bin/nats-server /usr/local/bin/\n", ""),
    ],
)
def test_a_mistake_in_the_document_is_found_and_named(tmp_path: Path, right: str, instead: str) -> None:
    text = DOCUMENT.read_text("utf-8")
    assert 1 == text.count(right)
    wrong = tmp_path / "OPERATING.md"
    wrong.write_text(text.replace(right, instead), "utf-8")
    done = typed(wrong, tmp_path / "log")
    assert 0 != done.returncode
    assert "line " in (tmp_path / "log").read_text("utf-8")
