"""Signatures over what two bureaus must later be able to prove: offers, receipts, heads.

ECDSA P-256 over SHA-256 with the key of the bureau's own certificate, which travels with the signature. A verified
certificate is remembered, so that the next signature by it costs one ECDSA verification.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from functools import lru_cache
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec

from kuaixiang.domain.labels import listed
from kuaixiang.runtime.pki import CertificatePaths, LiveCredentials
from kuaixiang.runtime.tls import IDENTITIES_CACHED, Peer, peer_of_certificate

SIGNERS_CACHED: Final = 16
"""Certificates that one process signs with: one, and a few in a demonstration that hosts several nodes."""

_ALGORITHM: Final = ec.ECDSA(hashes.SHA256())
# Whatever `cryptography` says of bytes that claim to be a certificate; it has no common class for it.
_UNREADABLE: Final = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.ExtensionNotFound,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class SignatureRefused(Exception):
    """A signature does not prove what it is shown for; `chinese` says it in Chinese."""

    def __init__(self, sentence: str, chinese: str) -> None:
        super().__init__(sentence)
        self.chinese = chinese


class ForgedSignature(SignatureRefused):
    """The payload was not signed by the key of the certificate shown with it."""

    def __init__(self, bureau_code: str) -> None:
        self.bureau_code = bureau_code
        super().__init__(
            f"The signature shown for bureau {bureau_code} does not belong to this payload.",
            f"单位 {bureau_code} 的签名与内容不符。",
        )


class WrongSigner(SignatureRefused):
    """The certificate is the federation's, but names other bureaus than the one said to have signed."""

    def __init__(self, bureau_code: str, named: frozenset[str]) -> None:
        self.bureau_code = bureau_code
        self.named = named
        found = ", ".join(sorted(named)) or "no bureau"
        super().__init__(
            f"The signature should be of bureau {bureau_code}; its certificate names {found}.",
            f"签名应由单位 {bureau_code} 作出，而证书所列单位为：{listed(sorted(named)) or '无'}。",
        )


class Distrust(StrEnum):
    """Why a signer's certificate is not trusted."""

    MALFORMED = "it is malformed"
    AUTHORITY = "it is an authority's, which signs nothing but certificates"
    KEY_KIND = "its key is not ECDSA P-256"
    ANCHOR_MALFORMED = "the authority to trust is malformed"
    STRANGER = "the federation's authority did not issue it"


_DISTRUST_CHINESE: Final[Mapping[Distrust, str]] = {
    Distrust.MALFORMED: "格式有误",
    Distrust.AUTHORITY: "属于证书颁发机构，只能签发证书",
    Distrust.KEY_KIND: "密钥不是 ECDSA P-256",
    Distrust.ANCHOR_MALFORMED: "所信任的颁发机构证书格式有误",
    Distrust.STRANGER: "不是由本联邦的颁发机构签发",
}


class UntrustedCertificate(SignatureRefused):
    """The certificate shown with a signature is none that the federation's authority issued for this use."""

    def __init__(self, reason: Distrust) -> None:
        self.reason = reason
        super().__init__(
            f"The signer's certificate is not trusted: {reason}.", f"签名证书不可信：{_DISTRUST_CHINESE[reason]}。"
        )


class CertificateNotValid(SignatureRefused):
    """The certificate, or its authority's, was not valid at the instant of signing."""

    def __init__(self, at: datetime, begins: datetime, ends: datetime) -> None:
        self.at = at
        self.begins = begins
        self.ends = ends
        super().__init__(
            f"The signer's certificate is valid from {begins.isoformat()} to {ends.isoformat()}, "
            f"not at {at.isoformat()}.",
            f"签名证书有效期为 {begins.isoformat()} 至 {ends.isoformat()}，在 {at.isoformat()} 无效。",
        )


class RevokedSigner(SignatureRefused):
    """The authority has revoked the signer's certificate: whoever has its key may be anybody."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        super().__init__(f"The signer's certificate {serial} is revoked.", f"签名证书 {serial} 已被吊销。")


class UnpinnedSigner(SignatureRefused):
    """The signer's certificate is not among those that the tree lists for a bureau that it names."""

    def __init__(self, bureau_code: str, fingerprint: str) -> None:
        self.bureau_code = bureau_code
        self.fingerprint = fingerprint
        super().__init__(
            f"The signer's certificate {fingerprint[:16]}… is not one that the tree lists for {bureau_code}.",
            f"签名证书 {fingerprint[:16]}… 不在机构树为单位 {bureau_code} 所列的证书之中。",
        )


@dataclass(frozen=True, slots=True)
class Signature:
    """A signature and the certificate whose key made it."""

    certificate_der: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class _Signer:
    key: ec.EllipticCurvePublicKey
    peer: Peer
    begins: datetime
    ends: datetime


def sign(payload: bytes, paths: CertificatePaths) -> Signature:
    """Sign with the process's certificate, as renewed last. Raises `pki.FileUnreadable`, `pki.KeyMismatch`."""
    credentials = _live(paths).current()
    return Signature(credentials.certificate_der, credentials.key.sign(payload, _ALGORITHM))


def verify(payload: bytes, signature: Signature, bureau_code: str, authority_pem: bytes, at: datetime) -> Peer:
    """Give the signer, if that bureau signed with a certificate of the authority that was valid at that instant.

    `authority_pem` holds one or more of the federation's authorities. Raises `UntrustedCertificate`,
    `CertificateNotValid`, `WrongSigner`, `ForgedSignature`.
    """
    signer = _signer(signature.certificate_der, authority_pem)
    if not signer.begins <= at <= signer.ends:
        raise CertificateNotValid(at, signer.begins, signer.ends)
    if bureau_code not in signer.peer.identity.bureaus:
        raise WrongSigner(bureau_code, signer.peer.identity.bureaus)
    try:
        signer.key.verify(signature.value, payload, _ALGORITHM)
    except InvalidSignature:
        raise ForgedSignature(bureau_code) from None
    return signer.peer


@lru_cache(maxsize=SIGNERS_CACHED)
def _live(paths: CertificatePaths) -> LiveCredentials:
    return LiveCredentials(paths)


@lru_cache(maxsize=IDENTITIES_CACHED)
def _signer(certificate_der: bytes, authority_pem: bytes) -> _Signer:
    """Check everything about a certificate that does not depend on the instant. Raises `UntrustedCertificate`."""
    try:
        certificate = x509.load_der_x509_certificate(certificate_der)
        key = certificate.public_key()
        is_authority = _is_authority(certificate)
        peer = peer_of_certificate(certificate)
    except _UNREADABLE as failure:
        raise UntrustedCertificate(Distrust.MALFORMED) from failure
    # Before the issuer's signature, which is whole bytes, stands how many of its last bits count for nothing. With
    # another number there it would verify all the same, and be another certificate by its fingerprint.
    if certificate_der[-len(certificate.signature) - 1]:
        raise UntrustedCertificate(Distrust.MALFORMED)
    if is_authority:
        raise UntrustedCertificate(Distrust.AUTHORITY)
    if not (isinstance(key, ec.EllipticCurvePublicKey) and isinstance(key.curve, ec.SECP256R1)):
        raise UntrustedCertificate(Distrust.KEY_KIND)
    authority = _issuer_of(certificate, authority_pem)
    return _Signer(
        key,
        peer,
        max(certificate.not_valid_before_utc, authority.not_valid_before_utc),
        min(certificate.not_valid_after_utc, authority.not_valid_after_utc),
    )


def _issuer_of(certificate: x509.Certificate, authority_pem: bytes) -> x509.Certificate:
    try:
        authorities = x509.load_pem_x509_certificates(authority_pem)
    except ValueError as failure:
        raise UntrustedCertificate(Distrust.ANCHOR_MALFORMED) from failure
    for authority in authorities:
        try:
            certificate.verify_directly_issued_by(authority)
        except (InvalidSignature, *_UNREADABLE):
            continue
        if _is_authority(authority):
            return authority
    raise UntrustedCertificate(Distrust.STRANGER)


def _is_authority(certificate: x509.Certificate) -> bool:
    return certificate.extensions.get_extension_for_class(x509.BasicConstraints).value.ca
