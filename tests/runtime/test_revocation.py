"""The authority's list of revoked certificates: who is on it stays on it, whatever becomes of the file."""

import json
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from typer.testing import CliRunner

from kuaixiang.runtime import pki, revocation
from kuaixiang.runtime.revocation import LiveRevocations, load_revocations, revoke, serial_of, serial_text
from kx.pki import app


@pytest.fixture(autouse=True)
def _looked_at_each_time(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(revocation, "LOOK_SECONDS", 0.0)


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "pki", "Test federation")
    return tmp_path / "pki"


@pytest.fixture
def paths(tmp_path: Path, authority: Path) -> pki.CertificatePaths:
    return pki.issue(authority, tmp_path / "node", "node", ["110101"])


def copied(listed: Path, paths: pki.CertificatePaths) -> None:
    shutil.copy(listed, paths.ca.with_name(pki.AUTHORITY_LIST))


def serial(paths: pki.CertificatePaths) -> int:
    return pki.load(paths).certificate.serial_number


def test_without_a_list_nothing_is_revoked(paths: pki.CertificatePaths) -> None:
    assert revocation.NONE == load_revocations(paths.ca)


def test_a_list_grows_and_each_is_numbered_and_nothing_is_taken_off(authority: Path) -> None:
    for serials in ([1], [2, 1], []):
        revoke(authority, serials)
    listed = load_revocations(authority / "ca.crt")
    assert (frozenset({1, 2}), [3]) == (listed.serials, [number for _, number in listed.numbers])


def test_a_list_is_one_that_other_tools_read(authority: Path) -> None:
    crl = x509.load_pem_x509_crl(revoke(authority, [255]).read_bytes())
    found = crl.get_revoked_certificate_by_serial_number(255)
    assert found is not None
    assert 255 == found.serial_number


def test_a_new_certificate_brings_the_list_along(tmp_path: Path, authority: Path) -> None:
    revoke(authority, [7])
    paths = pki.issue(authority, tmp_path / "out", "node", ["110101"])
    assert {7} == load_revocations(paths.ca).serials


def test_a_changed_list_is_in_force_at_once(authority: Path, paths: pki.CertificatePaths) -> None:
    live = LiveRevocations(paths.ca)
    assert frozenset() == live.current().serials
    for serials in ([1], [2]):
        copied(revoke(authority, serials), paths)
    assert {1, 2} == live.current().serials


def test_a_list_that_has_expired_stays_in_force(authority: Path, paths: pki.CertificatePaths) -> None:
    copied(revoke(authority, [1], days=1, now=datetime.now(UTC) - timedelta(days=30)), paths)
    live = LiveRevocations(paths.ca)
    assert {1} == live.current().serials
    assert revocation.FRESH_UNTIL._value.get() < datetime.now(UTC).timestamp()


@pytest.mark.parametrize("fault", ["removed", "broken", "older", "a stranger's"])
def test_a_list_that_cannot_be_used_leaves_the_last_good_one_in_force(
    tmp_path: Path, authority: Path, paths: pki.CertificatePaths, fault: str
) -> None:
    listed = paths.ca.with_name(pki.AUTHORITY_LIST)
    first = revoke(authority, [1]).read_bytes()
    copied(revoke(authority, [2]), paths)
    live = LiveRevocations(paths.ca)
    match fault:
        case "removed":
            listed.unlink()
        case "broken":
            listed.write_bytes(first[: len(first) // 2])
        case "older":
            listed.write_bytes(first)
        case _:
            pki.init_authority(tmp_path / "strangers", "Strangers")
            copied(revoke(tmp_path / "strangers", []), paths)
    refused = revocation.LISTS_REFUSED._value.get()
    assert {1, 2} == live.current().serials
    assert refused + 1 == revocation.LISTS_REFUSED._value.get()
    assert {1, 2} == live.current().serials
    assert refused + 1 == revocation.LISTS_REFUSED._value.get()


def test_a_process_does_not_begin_with_a_list_that_cannot_be_used(
    tmp_path: Path, authority: Path, paths: pki.CertificatePaths
) -> None:
    pki.init_authority(tmp_path / "strangers", "Strangers")
    copied(revoke(tmp_path / "strangers", [serial(paths)]), paths)
    with pytest.raises(revocation.ListUntrusted):
        LiveRevocations(paths.ca)


def test_a_list_of_two_authorities_says_what_both_say(
    tmp_path: Path, authority: Path, paths: pki.CertificatePaths
) -> None:
    pki.init_authority(tmp_path / "next", "Next")
    paths.ca.write_bytes(paths.ca.read_bytes() + (tmp_path / "next" / "ca.crt").read_bytes())
    lists = [revoke(folder, [number]).read_bytes() for number, folder in ((1, authority), (2, tmp_path / "next"))]
    paths.ca.with_name(pki.AUTHORITY_LIST).write_bytes(b"".join(lists))
    assert {1, 2} == load_revocations(paths.ca).serials


def test_a_list_without_the_part_of_an_authority_that_is_still_trusted_takes_nothing_off(
    tmp_path: Path, authority: Path, paths: pki.CertificatePaths
) -> None:
    pki.init_authority(tmp_path / "next", "Next")
    present, following = paths.ca.read_bytes(), (tmp_path / "next" / "ca.crt").read_bytes()
    paths.ca.write_bytes(following + present)
    of_present, of_next = revoke(authority, [1]).read_bytes(), revoke(tmp_path / "next", [2]).read_bytes()
    listed = paths.ca.with_name(pki.AUTHORITY_LIST)
    listed.write_bytes(of_next + of_present)
    live = LiveRevocations(paths.ca)
    listed.write_bytes(of_next)
    assert {1, 2} == live.current().serials
    # With its authority, a list may go.
    paths.ca.write_bytes(following)
    assert {2} == live.current().serials


@pytest.mark.parametrize("text", ["", "xyz", "-1", "0x", "A" * 41])
def test_a_malformed_serial_is_refused(text: str) -> None:
    with pytest.raises(revocation.MalformedSerial):
        serial_of(text)


def test_a_serial_is_read_as_it_is_shown() -> None:
    assert [0xABC, 0xABC, 0xABC] == [serial_of(text) for text in (serial_text(0xABC), "0A:BC", "0xabc")]


def test_kx_revokes_by_the_serial_that_kx_shows_and_names_it_in_the_check(
    authority: Path, paths: pki.CertificatePaths
) -> None:
    folder = str(paths.ca.parent)
    run = CliRunner()
    assert 0 == run.invoke(app, ["check", folder]).exit_code
    shown = json.loads(run.invoke(app, ["show", folder, "--json"]).stdout)
    assert (64, False) == (len(shown["fingerprint"]), shown["revoked"])
    assert 0 == run.invoke(app, ["revoke", str(authority), shown["serial"]]).exit_code
    copied(authority / pki.AUTHORITY_LIST, paths)
    checked = run.invoke(app, ["check", folder, "--json"])
    assert 0 != checked.exit_code
    assert ["the certificate is revoked"] == json.loads(checked.stdout)["faults"]
    assert 0 != run.invoke(app, ["revoke", str(authority), "not a serial"]).exit_code


def test_kx_names_what_expires(tmp_path: Path, authority: Path) -> None:
    paths = pki.issue(authority, tmp_path / "short", "node", ["110101"], days=10)
    copied(revoke(authority, [], days=5), paths)
    checked = CliRunner().invoke(app, ["check", str(paths.ca.parent), "--json"])
    assert 0 != checked.exit_code
    assert 2 == len(json.loads(checked.stdout)["faults"])
    assert 0 == CliRunner().invoke(app, ["check", str(paths.ca.parent), "--within", "1"]).exit_code


def test_kx_names_a_certificate_of_another_authority(tmp_path: Path, paths: pki.CertificatePaths) -> None:
    pki.init_authority(tmp_path / "strangers", "Strangers")
    paths.ca.write_bytes((tmp_path / "strangers" / "ca.crt").read_bytes())
    with pytest.raises(pki.IssuedElsewhere):
        pki.issuer_of(pki.load(paths).certificate, paths.ca)
    assert 0 != CliRunner().invoke(app, ["check", str(paths.ca.parent)]).exit_code
