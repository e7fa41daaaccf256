"""What the last release has written is read alike by this version: the wire changes by additions alone."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
RELEASED = ROOT / "proto" / "released.binpb"


def breaking(folder: Path) -> subprocess.CompletedProcess[str]:
    buf = Path(sys.executable).with_name("buf")
    return subprocess.run(
        [buf, "breaking", "--against", RELEASED], cwd=folder, check=False, capture_output=True, text=True, timeout=240
    )


def test_todays_wire_means_what_the_last_releases_did() -> None:
    done = breaking(ROOT)
    assert 0 == done.returncode, done.stdout


@pytest.mark.parametrize(
    ("file", "before", "after", "why"),
    [
        ("cosign.proto", "uint64 generation = 2;", "uint64 generation = 12;", "was deleted"),
        ("cosign.proto", "string witness = 2;", "uint64 witness = 2;", "changed type"),
        ("ledger.proto", "string bureau = 1;", "string office = 1;", "changed name"),
    ],
)
def test_a_field_that_gets_another_number_type_or_name_is_found(
    tmp_path: Path, file: str, before: str, after: str, why: str
) -> None:
    shutil.copy(ROOT / "buf.yaml", tmp_path)
    shutil.copytree(ROOT / "proto", tmp_path / "proto")
    path = tmp_path / "proto" / "kuaixiang" / "wire" / "v1" / file
    text = path.read_text("utf-8")
    assert before in text
    path.write_text(text.replace(before, after, 1), encoding="utf-8")
    done = breaking(tmp_path)
    assert 0 != done.returncode
    assert why in done.stdout
