"""Signatures prove who said what, and nothing else passes for one."""

from datetime import UTC, datetime, timedelta
from itertools import product
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519

from kuaixiang.runtime import pki
from kuaixiang.runtime.signing import (
    CertificateNotValid,
    Distrust,
    ForgedSignature,
    Signature,
    UntrustedCertificate,
    WrongSigner,
    sign,
    verify,
)

OFFER = "一户一案: offer of a case".encode()


@pytest.fixture
def authority(tmp_path: Path) -> Path:
    pki.init_authority(tmp_path / "pki", "Test federation")
    return tmp_path / "pki"


@pytest.fixture
def paths(tmp_path: Path, authority: Path) -> pki.CertificatePaths:
    return pki.issue(authority, tmp_path / "node", "node", ["110101", "110102"])


@pytest.fixture
def anchor(authority: Path) -> bytes:
    return (authority / "ca.crt").read_bytes()


def now() -> datetime:
    return datetime.now(UTC)


def test_a_signature_verifies_for_each_bureau_of_its_certificate(paths: pki.CertificatePaths, anchor: bytes) -> None:
    signature = sign(OFFER, paths)
    verify(OFFER, signature, "110101", anchor, now())
    verify(OFFER, signature, "110102", anchor, now())


def test_another_payload_is_a_forgery(paths: pki.CertificatePaths, anchor: bytes) -> None:
    with pytest.raises(ForgedSignature) as refusal:
        verify(OFFER + b".", sign(OFFER, paths), "110101", anchor, now())
    assert refusal.value.bureau_code == "110101"


@pytest.mark.parametrize("value", [b"", b"\x00", b"\x30\x06\x02\x01\x00\x02\x01\x00", b"x" * 10_000])
def test_a_value_that_is_no_signature_is_a_forgery(paths: pki.CertificatePaths, anchor: bytes, value: bytes) -> None:
    with pytest.raises(ForgedSignature):
        verify(OFFER, Signature(sign(OFFER, paths).certificate_der, value), "110101", anchor, now())


def test_a_signature_under_another_certificate_of_the_same_bureau_is_a_forgery(
    tmp_path: Path, authority: Path, paths: pki.CertificatePaths, anchor: bytes
) -> None:
    other = pki.load(pki.issue(authority, tmp_path / "other", "node", ["110101"]))
    with pytest.raises(ForgedSignature):
        verify(OFFER, Signature(other.certificate_der, sign(OFFER, paths).value), "110101", anchor, now())


def test_a_bureau_cannot_sign_for_another(paths: pki.CertificatePaths, anchor: bytes) -> None:
    with pytest.raises(WrongSigner, match="of bureau 110000; its certificate names 110101, 110102") as refusal:
        verify(OFFER, sign(OFFER, paths), "110000", anchor, now())
    assert frozenset({"110101", "110102"}) == refusal.value.named


@pytest.mark.parametrize("kind", ["office", "hub"])
def test_an_office_or_a_hub_cannot_sign_as_the_bureau_of_its_code(
    tmp_path: Path, authority: Path, anchor: bytes, kind: pki.Kind
) -> None:
    paths = pki.issue(authority, tmp_path / kind, kind, ["110101"])
    with pytest.raises(WrongSigner, match="names no bureau"):
        verify(OFFER, sign(OFFER, paths), "110101", anchor, now())


def test_a_certificate_of_another_authority_of_the_same_name_is_not_trusted(tmp_path: Path, anchor: bytes) -> None:
    pki.init_authority(tmp_path / "strangers", "Test federation")
    stranger = pki.issue(tmp_path / "strangers", tmp_path / "stranger", "node", ["110101"])
    with pytest.raises(UntrustedCertificate) as refusal:
        verify(OFFER, sign(OFFER, stranger), "110101", anchor, now())
    assert refusal.value.reason is Distrust.STRANGER


def test_any_of_several_authorities_may_have_issued_it(
    tmp_path: Path, paths: pki.CertificatePaths, anchor: bytes
) -> None:
    following = pki.init_authority(tmp_path / "next", "Next authority").certificate.read_bytes()
    verify(OFFER, sign(OFFER, paths), "110101", following + anchor, now())


def test_a_bureau_cannot_issue_certificates_with_its_own(paths: pki.CertificatePaths, anchor: bytes) -> None:
    """A chain of two is refused, however well it is signed."""
    ours = pki.load(paths)
    key = ec.generate_private_key(ec.SECP256R1())
    forged = leaf(key, ours.certificate.subject, ours.key)
    signature = Signature(forged, key.sign(OFFER, ec.ECDSA(hashes.SHA256())))
    for trusted in (anchor, anchor + ours.certificate_pem):
        with pytest.raises(UntrustedCertificate) as refusal:
            verify(OFFER, signature, "110000", trusted, now())
        assert refusal.value.reason is Distrust.STRANGER


def test_the_authoritys_own_certificate_signs_no_payload(authority: Path, anchor: bytes) -> None:
    key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    der = x509.load_pem_x509_certificate(anchor).public_bytes(serialization.Encoding.DER)
    with pytest.raises(UntrustedCertificate) as refusal:
        verify(OFFER, Signature(der, key.sign(OFFER, ec.ECDSA(hashes.SHA256()))), "110101", anchor, now())
    assert refusal.value.reason is Distrust.AUTHORITY


def test_a_key_of_another_kind_is_not_trusted(authority: Path, anchor: bytes) -> None:
    issuer_key = serialization.load_pem_private_key((authority / "ca.key").read_bytes(), None)
    assert isinstance(issuer_key, ec.EllipticCurvePrivateKey)
    issuer = x509.load_pem_x509_certificate(anchor).subject
    for key in (ed25519.Ed25519PrivateKey.generate(), ec.generate_private_key(ec.SECP384R1())):
        with pytest.raises(UntrustedCertificate) as refusal:
            verify(OFFER, Signature(leaf(key, issuer, issuer_key), b"value"), "110000", anchor, now())
        assert refusal.value.reason is Distrust.KEY_KIND


@pytest.mark.parametrize("der", [b"", b"no certificate", b"0" * 100_000])
def test_a_malformed_certificate_is_not_trusted(anchor: bytes, der: bytes) -> None:
    with pytest.raises(UntrustedCertificate) as refusal:
        verify(OFFER, Signature(der, b"value"), "110101", anchor, now())
    assert refusal.value.reason is Distrust.MALFORMED


@pytest.mark.filterwarnings("ignore::cryptography.utils.CryptographyDeprecationWarning")
def test_every_bit_of_a_certificate_counts(authority: Path, tmp_path: Path, anchor: bytes) -> None:
    # One whose issuer's signature ends with zeros, of which it could be said that they count for nothing.
    paths = pki.issue(authority, tmp_path / "zeros", "node", ["110101"])
    while pki.load(paths).certificate_der[-1] % 4:
        paths = pki.issue(authority, tmp_path / "zeros", "node", ["110101"], force=True)
    signature = sign(OFFER, paths)
    for position, bit in product(range(len(signature.certificate_der)), range(8)):
        der = bytearray(signature.certificate_der)
        der[position] ^= 1 << bit
        with pytest.raises(UntrustedCertificate):
            verify(OFFER, Signature(bytes(der), signature.value), "110101", anchor, now())


def test_a_malformed_authority_is_named(paths: pki.CertificatePaths) -> None:
    with pytest.raises(UntrustedCertificate) as refusal:
        verify(OFFER, sign(OFFER, paths), "110101", b"no authority", now())
    assert refusal.value.reason is Distrust.ANCHOR_MALFORMED


def test_a_signature_holds_only_within_the_validity_of_its_certificate(
    paths: pki.CertificatePaths, anchor: bytes
) -> None:
    signature = sign(OFFER, paths)
    certificate = pki.load(paths).certificate
    begins, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    verify(OFFER, signature, "110101", anchor, begins)
    verify(OFFER, signature, "110101", anchor, ends)
    for at in (begins - timedelta(seconds=1), ends + timedelta(seconds=1)):
        with pytest.raises(CertificateNotValid) as refusal:
            verify(OFFER, signature, "110101", anchor, at)
        assert (at, begins, ends) == (refusal.value.at, refusal.value.begins, refusal.value.ends)


def test_a_renewed_certificate_signs_at_once_and_old_signatures_still_hold(
    authority: Path, paths: pki.CertificatePaths, anchor: bytes
) -> None:
    before = sign(OFFER, paths)
    pki.issue(authority, paths.certificate.parent, "node", ["110101"], force=True)
    after = sign(OFFER, paths)
    assert before.certificate_der != after.certificate_der
    verify(OFFER, before, "110101", anchor, now())
    verify(OFFER, after, "110101", anchor, now())


def leaf(
    key: ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey,
    issuer: x509.Name,
    issuer_key: ec.EllipticCurvePrivateKey,
) -> bytes:
    """A certificate for bureau 110000, well formed, signed by whoever it is."""
    uri = x509.UniformResourceIdentifier(pki.spiffe_uri("node", "110000"))
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now() - timedelta(days=1))
        .not_valid_after(now() + timedelta(days=1))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([uri]), critical=True)
        .sign(issuer_key, hashes.SHA256())
        .public_bytes(serialization.Encoding.DER)
    )
