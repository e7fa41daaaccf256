"""Files that people write, as somebody with bad intentions writes them: read, or refused by a sentence that names the file."""

import os
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from kuaixiang.facts import CALENDAR_FILE, FactsError, load_calendar, load_staff, load_tree

FACTS = Path(__file__).parents[2] / "kuaixiang" / "facts"
STAFF = """
[110101.departments.tax-service]
name = "纳税服务股"
kind = "tax_service"

[[110101.officers]]
actor = "officer-1"
name = "甲"
roles = ["registrar"]
departments = ["tax-service"]
"""
TREE = """# version: 1
gb_code,name,tier,parent,endpoint,desk
000000,国家税务总局,national,,,
110000,北京,provincial,000000,,
110101,东城,county,110000,,
"""
KINDS: dict[str, tuple[Callable[[Path], Any], bytes]] = {
    "tree": (load_tree, TREE.encode()),
    "calendar": (load_calendar, (FACTS / CALENDAR_FILE).read_bytes()[:6_000]),
    "staff": (load_staff, STAFF.encode()),
}
POISON = (
    b"\x00",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b'"',
    b"'",
    b"\r",
    b",",
    b"=",
    b"[[",
    b"]",
    b"\n" * 50,
    b"9" * 5_000,
    b"a" * 100_000,
    b"2026-02-30",
    b"0001-01-01",
    b"9999-12-31",
    "国家\u202e".encode(),
    b"inf",
    b"1e999",
    b"{" * 2_000,
    b"[" * 2_000,
)
EACH = 150
SEED = int(os.environ.get("KX_TEST_SEED", "20261126"))


def spoiled(content: bytes, chance: random.Random) -> bytes:
    """The content with something wrong in it, or several things."""
    data = bytearray(content)
    for _ in range(chance.choice((1, 1, 2, 4))):
        at = chance.randrange(len(data) + 1)
        match chance.randrange(5):
            case 0:
                data[at:at] = chance.choice(POISON)
            case 1:
                del data[at : at + chance.choice((1, 7, 100, 3_000))]
            case 2:
                data[at : at + 1] = chance.randbytes(1)
            case 3:
                lines = bytes(data).split(b"\n")
                lines.insert(chance.randrange(len(lines)), chance.choice(lines))
                data = bytearray(b"\n".join(lines))
            case _:
                lines = bytes(data).split(b"\n")
                chance.shuffle(lines)
                data = bytearray(b"\n".join(lines))
    return bytes(data)


@pytest.mark.parametrize("kind", KINDS)
def test_a_spoiled_file_is_read_or_refused_by_a_sentence(kind: str, tmp_path: Path) -> None:
    load, content = KINDS[kind]
    file = tmp_path / f"{kind}.file"
    refused = 0
    chance = random.Random(f"{SEED} {kind}")
    for number in range(EACH):
        file.write_bytes(spoiled(content, chance))
        try:
            load(file)
        except FactsError as refusal:
            refused += file.name in str(refusal)
        except Exception as failure:
            kept = Path(tmp_path) / "spoiled"
            kept.write_bytes(file.read_bytes())
            pytest.fail(f"number {number} of seed {SEED}: {failure!r}; the file is {kept}")
    assert refused > EACH // 10
