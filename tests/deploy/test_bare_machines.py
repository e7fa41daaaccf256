"""Whoever follows docs/OPERATING.md has three tiers on three machines, and adds a fourth: it is typed word for word."""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from kx.looking_here import FORGETFUL
from tests.deploy.bare_machines import ADDING, AGAIN, CHAPTER, INSTEAD, WHERE, WHERE_ADDED, blocks
from tests.faults.machines import PRIVATE

ROOT = Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "OPERATING.md"
DISK = "/var/tmp"
"""The doctor would rather not see a ledger on a disk that a restart empties."""
INSTALLED_SECONDS = 1_800
"""Two minutes or three alone; a busy machine takes its time."""


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
    document = DOCUMENT.read_text("utf-8")
    assert set(WHERE) == {block.heading for block in blocks(document)}
    assert set(WHERE_ADDED) == {block.heading for block in blocks(document, ADDING, WHERE_ADDED)}


def test_what_is_typed_once_more_for_a_county_that_is_added_is_what_the_document_says() -> None:
    chapter = DOCUMENT.read_text("utf-8").partition(f"\n{ADDING}\n")[2].partition("\n### ")[0]
    for heading in ("Every machine", *AGAIN):
        assert f"(#{heading.lower().replace(',', '').replace(' ', '-')})" in chapter
    assert all(f"`{one}`" in chapter for pair in INSTEAD.items() for one in pair)


def test_a_block_that_nobody_would_type_ends_the_run() -> None:
    with pytest.raises(SystemExit, match="Somewhere else"):
        list(blocks(f"{CHAPTER}\n### Somewhere else\n```sh\ntrue\n```\n"))


@pytest.mark.slow
@pytest.mark.nats
@needs_machines
@pytest.mark.timeout(INSTALLED_SECONDS + 60)
def test_the_chapters_typed_word_for_word_make_three_tiers_and_add_a_county_whose_case_is_answered_and_counted(
    tmp_path: Path,
) -> None:
    done = typed(DOCUMENT, tmp_path / "log")
    assert 0 == done.returncode, (tmp_path / "log").read_text("utf-8")[-8000:]
    told = json.loads(done.stdout)
    assert 1 == told["nation"]["facts"]["registered"]
    assert 1 == told["nation"]["facts"]["referred_up"]
    assert "owned" == told["province"]["case"]["custody"]

    # The county that was added: nothing was restarted for it, its case went up and came back, and the hub counts it.
    assert [] == told["restarted"]
    assert "concluded" == told["new_county"]["case"]["stage"]
    assert (1, 1, 1) == tuple(told["heard"][f"bureaus_{how}"] for how in ("expected", "heard", "up_to_date"))
    assert (1, 1) == (told["of_new_county"]["facts"]["registered"], told["of_new_county"]["facts"]["referred_up"])
    assert 2 == told["nation_then"]["facts"]["registered"]


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
