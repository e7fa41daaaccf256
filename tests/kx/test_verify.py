"""`kx node export`, `kx verify`, `kx node rotate-key`: over the ledger of a real node that is stopped for it."""

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from kuaixiang.runtime import pki
from kuaixiang.wire.export import FIRST_LINE
from tests.kx.conftest import COUNTY, Officers, kx, refusal, told

pytestmark = pytest.mark.nats
REQUEST = ("--taxpayer", "云水谣书店", "--contact", "13812345678", "--text", "发票如何开具", "--category", "纳税服务")


@pytest.fixture(scope="module")
def stopped(officers: Officers) -> Iterator[str]:
    """The settings file of a node that has two cases and does not run."""
    registrar = officers.at(COUNTY, "registrar", "counter")
    for number in range(2):
        assert registrar("register", *REQUEST, "--key", f"exported-{number}").exit_code == 0
    officers.run(officers.federation.stop_node(COUNTY))
    try:
        yield str(officers.federation.node(COUNTY).config)
    finally:
        officers.run(officers.federation.restart_node(COUNTY))


def test_an_export_is_proven_and_a_changed_one_is_named(stopped: str, officers: Officers, tmp_path: Path) -> None:
    out, authority = tmp_path / "ledger.kx", str(officers.federation.authority / "ca.crt")
    export = ("node", "export", "--config", stopped, "--bureau", COUNTY, "--out", str(out), "--json")
    written = told(kx(*export))
    assert 0o600 == stat.S_IMODE(out.stat().st_mode)
    proven = told(kx("verify", str(out), "--authority", authority, "--json"))
    assert ("whole", written["entries"], written["hash"]) == (proven["verdict"], proven["entries"], proven["hash"])
    assert "Whole 完整" in kx("verify", str(out), "--authority", authority).stdout
    content = bytearray(out.read_bytes())
    assert "云水谣".encode() not in content
    content[-40] ^= 1
    out.write_bytes(content)
    changed = kx("verify", str(out), "--authority", authority)
    assert (1, True) == (changed.exit_code, f"entry {written['entries']}" in changed.stderr)
    out.write_bytes(FIRST_LINE + b"\xff\xff\xff\xff")
    assert 2 == kx("verify", str(out), "--authority", authority).exit_code
    assert 2 == kx("verify", str(tmp_path / "absent"), "--authority", authority).exit_code


def test_what_is_wrong_with_a_header_names_the_header_once(tmp_path: Path) -> None:
    pki.init_authority(tmp_path / "ca", "test")
    out = tmp_path / "ledger.kx"
    for content in (b"no ledger", FIRST_LINE):
        out.write_bytes(content)
        wrong = kx("verify", str(out), "--authority", str(tmp_path / "ca" / "ca.crt"))
        assert (2, 1) == (wrong.exit_code, wrong.stderr.count("文件头")), wrong.stderr
        assert "文件头：" in wrong.stderr


def test_an_export_with_what_is_private_names_who_makes_it_and_is_recorded(
    stopped: str, officers: Officers, tmp_path: Path
) -> None:
    out, authority = tmp_path / "ledger.kx", str(officers.federation.authority / "ca.crt")
    export = ("node", "export", "--config", stopped, "--bureau", COUNTY, "--out", str(out), "--json")
    before = told(kx(*export))["entries"]
    assert "FieldMissing" == refusal(kx(*export, "--private"))["rule"]
    assert before + 1 == told(kx(*export, "--private", "--actor", "ops-7"))["entries"]
    assert b"ops-7" in out.read_bytes()
    assert "云水谣".encode() in out.read_bytes()
    proven = told(kx("verify", str(out), "--authority", authority, "--json"))
    assert (True, 0) == (proven["private_checked"] >= 2, proven["private_unchecked"])
    assert "NotThisBureau" == refusal(kx(*export, "--bureau", "999999"))["rule"]


def test_a_rotated_key_is_another_one_and_everything_is_found_again(
    stopped: str, officers: Officers, tmp_path: Path
) -> None:
    (key_file,) = officers.federation.keys.glob(f"node-{COUNTY}.key")
    before = key_file.read_text("ascii")
    rotated = told(kx("node", "rotate-key", "--config", stopped, "--json"))
    assert rotated["values"] >= 2
    after = key_file.read_text("ascii")
    assert before != after
    assert 0o600 == stat.S_IMODE(key_file.stat().st_mode)
    out = tmp_path / "ledger.kx"
    export = ("node", "export", "--config", stopped, "--bureau", COUNTY, "--out", str(out), "--private", "--json")
    told(kx(*export, "--actor", "ops-7"))
    proven = told(kx("verify", str(out), "--authority", str(officers.federation.authority / "ca.crt"), "--json"))
    assert proven["private_checked"] >= 2
    key_file.write_text(before, "ascii")
    try:
        assert "KeyMissing" == refusal(kx("node", "rebuild", "--config", stopped, "--json"))["rule"]
    finally:
        key_file.write_text(after, "ascii")
