"""The federation's authority and its certificates, and `kx pki`."""

import threading
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import PolicyBuilder, Store
from typer.testing import CliRunner

from kuaixiang.runtime import pki
from kx.pki import app


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "pki", "Test federation")
    return tmp_path / "pki"


def certificate_of(paths: pki.CertificatePaths) -> x509.Certificate:
    return x509.load_pem_x509_certificate(paths.certificate.read_bytes())


def test_an_authority_is_p256_for_ten_years_and_signs_only_certificates(authority: Path) -> None:
    certificate = x509.load_pem_x509_certificate((authority / "ca.crt").read_bytes())
    constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    usage = certificate.extensions.get_extension_for_class(x509.KeyUsage).value
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert key.curve.name == "secp256r1"
    assert (constraints.ca, constraints.path_length) == (True, 0)
    assert (usage.key_cert_sign, usage.digital_signature) == (True, False)
    lifetime = certificate.not_valid_after_utc - certificate.not_valid_before_utc
    assert timedelta(days=3650) + pki.CLOCK_SKEW == lifetime


def test_keys_are_readable_by_their_owner_only(authority: Path, tmp_path: Path) -> None:
    paths = pki.issue(authority, tmp_path / "out", "node", ["110101"])
    assert (0o600, 0o600) == ((authority / "ca.key").stat().st_mode & 0o777, paths.key.stat().st_mode & 0o777)
    assert [] == [draft for draft in tmp_path.rglob(".*") if draft.is_file()]


def test_a_certificate_names_each_of_its_bureaus_twice(authority: Path, tmp_path: Path) -> None:
    certificate = certificate_of(pki.issue(authority, tmp_path / "out", "node", ["110101", "110102", "110101"]))
    names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert [
        "110101.bureau.kuaixiang.internal",
        "110102.bureau.kuaixiang.internal",
    ] == names.get_values_for_type(x509.DNSName)
    assert [
        "spiffe://kuaixiang/bureau/110101",
        "spiffe://kuaixiang/bureau/110102",
    ] == names.get_values_for_type(x509.UniformResourceIdentifier)


@pytest.mark.parametrize(
    ("kind", "dns", "uri"),
    [
        ("node", "110101.bureau.kuaixiang.internal", "spiffe://kuaixiang/bureau/110101"),
        ("office", "110101.office.kuaixiang.internal", "spiffe://kuaixiang/office/110101"),
        ("hub", "110101.hub.kuaixiang.internal", "spiffe://kuaixiang/hub/110101"),
    ],
)
def test_each_kind_has_names_of_its_own(kind: pki.Kind, dns: str, uri: str) -> None:
    assert (dns, uri) == (pki.dns_name(kind, "110101"), pki.spiffe_uri(kind, "110101"))


def test_a_certificate_serves_and_calls_and_verifies_by_an_independent_check(authority: Path, tmp_path: Path) -> None:
    paths = pki.issue(authority, tmp_path / "out", "hub", ["000000"])
    certificate = certificate_of(paths)
    usages = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert {ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH} == set(usages)
    store = Store(x509.load_pem_x509_certificates(paths.ca.read_bytes()))
    verifier = PolicyBuilder().store(store).build_server_verifier(x509.DNSName("000000.hub.kuaixiang.internal"))
    assert certificate == verifier.verify(certificate, [])[0]


def test_serial_numbers_are_random(authority: Path, tmp_path: Path) -> None:
    serials = {
        certificate_of(pki.issue(authority, tmp_path / str(n), "node", ["110101"])).serial_number for n in range(3)
    }
    assert len(serials) == 3
    assert min(serials) > 2**64


def test_more_codes_than_a_connection_can_carry_are_refused(authority: Path, tmp_path: Path) -> None:
    codes = [f"{n:06d}" for n in range(pki.CODES_MAX + 1)]
    with pytest.raises(pki.TooManyCodes, match="the limit is 100"):
        pki.issue(authority, tmp_path / "out", "node", codes)


def test_without_an_authority_nothing_is_issued_and_the_way_out_is_named(tmp_path: Path) -> None:
    with pytest.raises(pki.AuthorityMissing, match="`kx pki init"):
        pki.issue(tmp_path / "none", tmp_path / "out", "node", ["110101"])
    assert not (tmp_path / "out").exists()


def test_a_second_authority_does_not_replace_the_first(authority: Path) -> None:
    before = (authority / "ca.key").read_bytes()
    with pytest.raises(pki.AuthorityExists):
        pki.init_authority(authority, "Another")
    assert before == (authority / "ca.key").read_bytes()


def test_a_certificate_is_replaced_only_by_force_and_then_with_a_new_key(authority: Path, tmp_path: Path) -> None:
    first = pki.load(pki.issue(authority, tmp_path / "out", "node", ["110101"]))
    with pytest.raises(pki.CertificateExists, match="--force"):
        pki.issue(authority, tmp_path / "out", "node", ["110101"])
    assert first.key_pem == pki.load(pki.CertificatePaths.in_folder(tmp_path / "out")).key_pem
    second = pki.load(pki.issue(authority, tmp_path / "out", "node", ["110101"], force=True))
    assert first.key_pem != second.key_pem


@pytest.mark.parametrize("code", ["", "11010", "1101011", "11010a", "１１０１０１", "110101\n", "../../"])
def test_a_malformed_code_is_refused(authority: Path, tmp_path: Path, code: str) -> None:
    with pytest.raises(pki.MalformedCode, match="must be 6 digits"):
        pki.issue(authority, tmp_path / "out", "node", [code])


def test_a_certificate_for_nobody_is_refused(authority: Path, tmp_path: Path) -> None:
    with pytest.raises(pki.NoCodes):
        pki.issue(authority, tmp_path / "out", "office", [])


@pytest.mark.parametrize("days", [0, -1, 10**9])
def test_an_impossible_validity_is_refused(authority: Path, tmp_path: Path, days: int) -> None:
    with pytest.raises(pki.ValidityImpossible):
        pki.issue(authority, tmp_path / "out", "node", ["110101"], days)


def test_a_certificate_does_not_outlive_its_authority(authority: Path, tmp_path: Path) -> None:
    with pytest.raises(pki.AuthorityNotValid):
        pki.issue(authority, tmp_path / "out", "node", ["110101"], 3651)
    with pytest.raises(pki.AuthorityNotValid):
        pki.issue(authority, tmp_path / "out", "node", ["110101"], valid_from=datetime(2012, 1, 1, tzinfo=UTC))


def test_a_replay_of_2012_can_have_certificates_that_were_valid_then_and_still_are(tmp_path: Path) -> None:
    then = datetime(2012, 1, 1, tzinfo=UTC)
    pki.init_authority(tmp_path / "pki", "Replay", days=20_000, valid_from=then)
    certificate = certificate_of(
        pki.issue(tmp_path / "pki", tmp_path / "out", "node", ["110101"], 19_000, valid_from=then)
    )
    assert certificate.not_valid_before_utc <= then
    assert certificate.not_valid_after_utc > datetime.now(UTC)


def test_a_file_that_is_not_what_its_name_says_is_named(authority: Path, tmp_path: Path) -> None:
    paths = pki.issue(authority, tmp_path / "out", "node", ["110101"])
    paths.key.write_text("no key")
    with pytest.raises(pki.FileUnreadable) as refusal:
        pki.load(paths)
    assert paths.key == refusal.value.path
    paths.certificate.unlink()
    with pytest.raises(pki.FileUnreadable, match="No such file"):
        pki.load(paths)


def test_a_key_of_another_certificate_is_refused(authority: Path, tmp_path: Path) -> None:
    ours = pki.issue(authority, tmp_path / "ours", "node", ["110101"])
    theirs = pki.issue(authority, tmp_path / "theirs", "node", ["110102"])
    with pytest.raises(pki.KeyMismatch):
        pki.load(pki.CertificatePaths(ours.ca, ours.certificate, theirs.key))


def test_an_unwritable_folder_is_named(authority: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(pki.FolderUnwritable):
        pki.issue(authority, tmp_path / "file" / "out", "node", ["110101"])


def test_credentials_do_not_show_their_key(authority: Path, tmp_path: Path) -> None:
    credentials = pki.load(pki.issue(authority, tmp_path / "out", "node", ["110101"]))
    assert "PRIVATE KEY" not in repr(credentials)


def test_live_credentials_keep_the_last_good_pair_while_a_renewal_is_half_done(authority: Path, tmp_path: Path) -> None:
    paths = pki.issue(authority, tmp_path / "out", "node", ["110101"])
    live = pki.LiveCredentials(paths)
    first = live.current()
    fresh = pki.issue(authority, tmp_path / "fresh", "node", ["110101"])
    refused = pki.RENEWALS.labels(outcome="refused")
    before = refused._value.get()
    paths.key.write_bytes(fresh.key.read_bytes())
    assert first is live.current()
    assert first is live.current()
    assert before + 1 == refused._value.get()
    paths.certificate.write_bytes(fresh.certificate.read_bytes())
    assert pki.load(fresh).certificate_der == live.current().certificate_der


def test_live_credentials_never_tear_while_threads_look_and_files_change(authority: Path, tmp_path: Path) -> None:
    paths = pki.issue(authority, tmp_path / "out", "node", ["110101"])
    live = pki.LiveCredentials(paths)
    torn: list[bool] = []
    done = threading.Event()

    def look() -> None:
        while not done.is_set():
            seen = live.current()
            torn.append(seen.key.public_key() != seen.certificate.public_key())

    threads = [threading.Thread(target=look) for _ in range(3)]
    for thread in threads:
        thread.start()
    try:
        for _ in range(20):
            pki.issue(authority, tmp_path / "out", "node", ["110101"], force=True)
    finally:
        done.set()
        for thread in threads:
            thread.join(10)
    assert not any(torn)
    assert pki.load(paths).certificate_der == live.current().certificate_der


def test_kx_pki_makes_an_authority_and_issues_for_several_bureaus(tmp_path: Path) -> None:
    run = CliRunner().invoke
    assert run(app, ["init", str(tmp_path / "pki")]).exit_code == 0
    out = tmp_path / "certs"
    issued = run(app, ["issue", str(tmp_path / "pki"), "--bureau", "110101", "--bureau", "110102", "--out", str(out)])
    assert issued.exit_code == 0
    assert "spiffe://kuaixiang/bureau/110102" in issued.stdout
    names = certificate_of(pki.CertificatePaths.in_folder(out)).extensions.get_extension_for_class(
        x509.SubjectAlternativeName
    )
    assert len(names.value.get_values_for_type(x509.DNSName)) == 2


@pytest.mark.parametrize(
    ("option", "role"), [("--office", "office"), ("--hub", "hub"), ("--nats", "nats"), ("--reader", "reader")]
)
def test_kx_pki_issues_for_offices_and_hubs(tmp_path: Path, authority: Path, option: str, role: str) -> None:
    issued = CliRunner().invoke(app, ["issue", str(authority), option, "000000", "--out", str(tmp_path / "out")])
    assert issued.exit_code == 0
    assert f"spiffe://kuaixiang/{role}/000000" in issued.stdout


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["issue", "{empty}", "--bureau", "110101", "--out", "{out}"], "`kx pki init"),
        (["issue", "{pki}", "--out", "{out}"], "one of --bureau, --office, --hub, --nats and --reader"),
        (["issue", "{pki}", "--bureau", "110101", "--hub", "000000", "--out", "{out}"], "only one of them"),
        (["issue", "{pki}", "--bureau", "beijing", "--out", "{out}"], "'beijing' is no bureau code"),
        (["init", "{pki}"], "already holds a certificate authority"),
    ],
)
def test_kx_pki_refuses_with_a_sentence_and_exit_code_2(
    tmp_path: Path, authority: Path, arguments: list[str], sentence: str
) -> None:
    folders = {"empty": tmp_path / "empty", "out": tmp_path / "out", "pki": authority}
    result = CliRunner().invoke(app, [argument.format(**folders) for argument in arguments])
    assert result.exit_code == 2
    assert sentence in result.stderr.replace("\n", " ")
    assert not (tmp_path / "out").exists()


def test_a_nats_site_is_verified_by_the_hosts_at_which_it_is_dialled(tmp_path: Path, authority: Path) -> None:
    paths = pki.issue(authority, tmp_path / "site", "nats", ["330000"], hosts=["nats-hq", "127.0.0.1"])
    names = pki.load(paths).certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert ["330000.nats.kuaixiang.internal", "nats-hq"] == names.get_values_for_type(x509.DNSName)
    assert ["127.0.0.1"] == [str(address) for address in names.get_values_for_type(x509.IPAddress)]


@pytest.mark.parametrize(
    ("kind", "host"),
    [
        ("node", "nats-hq"),
        ("hub", "127.0.0.1"),
        ("nats", "*.example.org"),
        ("nats", "000000.hub.kuaixiang.internal"),
        ("nats", "330106.bureau.Kuaixiang.Internal"),
        ("nats", "a b"),
        ("nats", ""),
    ],
)
def test_no_host_makes_a_certificate_somebody_elses(tmp_path: Path, authority: Path, kind: pki.Kind, host: str) -> None:
    with pytest.raises(pki.HostNotItsOwn):
        pki.issue(authority, tmp_path / "site", kind, ["330000"], hosts=[host])
