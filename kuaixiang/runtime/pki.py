"""The federation's own certificate authority, and the certificates it issues.

One authority for the federation; one certificate per process. A node's names every bureau it hosts, because one process
of a provincial data centre serves many counties. Each code gets a DNS name, which gRPC clients can verify, and a SPIFFE
URI, which says who a peer is. Keys are ECDSA P-256 and never leave the folder they were made in.

Certificates live in real time, even where business time is virtual: `valid_from` lets a replay of 2012 have
certificates that were valid in 2012 and still are.
"""

import contextlib
import ipaddress
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final, Literal

import structlog
from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from prometheus_client import Counter, Gauge

from kuaixiang.runtime.files import Stamp, replacing, stamp_of
from kuaixiang.runtime.vault import mode_open

Kind = Literal["node", "office", "hub", "nats", "reader"]

TRUST_DOMAIN: Final = "kuaixiang"
DNS_SUFFIX: Final = "kuaixiang.internal"
ROLE_OF_KIND: Final[dict[Kind, str]] = {
    "node": "bureau",
    "office": "office",
    "hub": "hub",
    "nats": "nats",
    "reader": "reader",
}

AUTHORITY_DAYS: Final = 3650
CERTIFICATE_DAYS: Final = 397
"""Thirteen months, as the public authorities of 2026 allow at most: renewed every year, with a month to spare."""
CLOCK_SKEW: Final = timedelta(minutes=5)
"""A new certificate starts this much in the past, so that a peer whose clock is slow accepts it at once."""
CODES_MAX: Final = 100
"""Codes in one certificate. gRPC's TLS drops a client whose certificate is over 8.4 KB (117 codes, measured with grpcio
1.85), because the server's session tickets repeat it. A province's bureaus are hosted by a few processes."""
CODE_DIGITS: Final = 6
HOST_NAME: Final = re.compile(r"(?!-)[A-Za-z0-9-]{1,63}(\.[A-Za-z0-9-]{1,63})*")
"""What a host may be called; no wildcard, and no name of the federation, by which a user of NATS is known."""

AUTHORITY_CERTIFICATE: Final = "ca.crt"
AUTHORITY_KEY: Final = "ca.key"
AUTHORITY_LIST: Final = "ca.crl"
"""The authority's list of revoked certificates (`kuaixiang.runtime.revocation`)."""
CERTIFICATE: Final = "tls.crt"
KEY: Final = "tls.key"

RENEWALS: Final = Counter(
    "kx_certificate_renewals_total",
    "Changed certificate files that this process took into use or refused, by outcome.",
    ["outcome"],
)

EXPIRES: Final = Gauge(
    "kx_certificate_expires_timestamp_seconds", "When the certificate that this process shows expires, Unix time."
)
EXPIRES_SOON: Final = timedelta(days=30)
"""Whoever renews certificates by hand wants a month's notice; the log says so at each start and renewal."""

log = structlog.get_logger(__name__)


class PkiError(Exception):
    """A certificate cannot be made or used."""


class AuthorityMissing(PkiError):
    """There is no certificate authority in the folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"There is no certificate authority in {folder}; make one with `kx pki init {folder}` first.")


class AuthorityExists(PkiError):
    """The folder already holds an authority, whose certificates a new one would make worthless."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(
            f"{folder} already holds a certificate authority. A new one would make all its certificates worthless; "
            "choose another folder, or move the old one away."
        )


class CertificateExists(PkiError):
    """The folder already holds a certificate and its renewal was not asked for."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        super().__init__(f"{folder} already holds a certificate; say `--force` to replace it.")


class NoCodes(PkiError):
    """A certificate was asked for that names nobody."""

    def __init__(self, kind: Kind) -> None:
        self.kind = kind
        super().__init__(f"A certificate for a {kind} must name at least one bureau code.")


class TooManyCodes(PkiError):
    """A certificate was asked for that names more bureaus than a connection could carry."""

    def __init__(self, count: int) -> None:
        self.count = count
        super().__init__(
            f"{count} codes do not go into one certificate; the limit is {CODES_MAX}. Spread them over more processes."
        )


class MalformedCode(PkiError):
    """A bureau code is not six digits."""

    def __init__(self, code: str) -> None:
        self.code = code
        super().__init__(f"{code!r} is no bureau code; it must be {CODE_DIGITS} digits.")


class HostNotItsOwn(PkiError):
    """A host name for a certificate that is none, or that is a name of the federation's own."""

    def __init__(self, host: str) -> None:
        self.host = host
        super().__init__(f"{host!r} is no host name or address that a NATS site could be dialled at.")


class ValidityImpossible(PkiError):
    """A validity that ends before it begins, or beyond what a certificate can say."""

    def __init__(self, days: int) -> None:
        self.days = days
        super().__init__(f"A certificate cannot be valid for {days} days from the day asked for.")


class AuthorityNotValid(PkiError):
    """The certificate asked for would be valid while its authority is not."""

    def __init__(self, asked: tuple[datetime, datetime], authority: tuple[datetime, datetime]) -> None:
        self.asked = asked
        self.authority = authority
        super().__init__(
            f"The certificate would be valid from {asked[0]:%Y-%m-%d} to {asked[1]:%Y-%m-%d}, "
            f"its authority only from {authority[0]:%Y-%m-%d} to {authority[1]:%Y-%m-%d}."
        )


class FileUnreadable(PkiError):
    """A certificate or key file is absent, closed to this user, or is not what its name says."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be used: {reason}.")


class KeyOpen(PkiError):
    """A key file can be read by others than its owner."""

    def __init__(self, path: Path, mode: int) -> None:
        self.path = path
        self.mode = mode
        super().__init__(
            f"The key {path} is open to others than its owner (mode {mode:04o}). "
            f"Close it: chmod 600 {path}; and if others may have read it, issue a new certificate."
        )


class FolderUnwritable(PkiError):
    """A certificate or key cannot be written."""

    def __init__(self, path: Path, reason: str) -> None:
        self.path = path
        self.reason = reason
        super().__init__(f"{path} cannot be written: {reason}.")


class KeyMismatch(PkiError):
    """A key file does not belong to the certificate beside it."""

    def __init__(self, certificate: Path, key: Path) -> None:
        self.certificate = certificate
        self.key = key
        super().__init__(f"The key {key} does not belong to the certificate {certificate}.")


class IssuedElsewhere(PkiError):
    """No authority of the file has issued the certificate beside it."""

    def __init__(self, ca: Path) -> None:
        self.ca = ca
        super().__init__(f"No authority in {ca} has issued the certificate beside it.")


@dataclass(frozen=True, slots=True)
class AuthorityPaths:
    """Where an authority lives: its certificate, for everybody, and its key, for nobody."""

    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "AuthorityPaths":
        """The two files of an authority's folder, whether or not they exist."""
        return cls(folder / AUTHORITY_CERTIFICATE, folder / AUTHORITY_KEY)


@dataclass(frozen=True, slots=True)
class CertificatePaths:
    """Where a process finds whom to trust, who it is, and its key."""

    ca: Path
    certificate: Path
    key: Path

    @classmethod
    def in_folder(cls, folder: Path) -> "CertificatePaths":
        """The three files that `issue` writes into a folder, whether or not they exist."""
        return cls(folder / AUTHORITY_CERTIFICATE, folder / CERTIFICATE, folder / KEY)


@dataclass(frozen=True, slots=True)
class Credentials:
    """What `CertificatePaths` hold, read and checked: the key belongs to the certificate, both are P-256."""

    ca_pem: bytes
    certificate_pem: bytes
    certificate_der: bytes
    key_pem: bytes = field(repr=False)
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)


def dns_name(kind: Kind, code: str) -> str:
    """The DNS name of a node, office, hub, NATS site or reader, which clients verify. Raises `MalformedCode`."""
    return f"{_checked(code)}.{ROLE_OF_KIND[kind]}.{DNS_SUFFIX}"


def spiffe_uri(kind: Kind, code: str) -> str:
    """The SPIFFE URI of a node, office, hub, NATS site or reader. Raises `MalformedCode`."""
    return f"spiffe://{TRUST_DOMAIN}/{ROLE_OF_KIND[kind]}/{_checked(code)}"


def init_authority(
    folder: Path, name: str, *, days: int = AUTHORITY_DAYS, valid_from: datetime | None = None
) -> AuthorityPaths:
    """Make the federation's authority in a folder, its key readable by this user only.

    `valid_from` is now when absent. Raises `AuthorityExists`, `ValidityImpossible`, `FolderUnwritable`.
    """
    paths = AuthorityPaths.in_folder(folder)
    if paths.certificate.exists() or paths.key.exists():
        raise AuthorityExists(folder)
    begins, ends = _validity(valid_from, days)
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    identifier = x509.SubjectKeyIdentifier.from_public_key(key.public_key())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage(authority=True), critical=True)
        .add_extension(identifier, critical=False)
        .sign(key, hashes.SHA256())
    )
    write_file(paths.key, _pem_of_key(key), 0o600)
    write_file(paths.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return paths


def issue(
    folder_ca: Path,
    out_folder: Path,
    kind: Kind,
    codes: Sequence[str],
    days: int = CERTIFICATE_DAYS,
    *,
    hosts: Sequence[str] = (),
    valid_from: datetime | None = None,
    force: bool = False,
) -> CertificatePaths:
    """Issue a certificate for one process that acts for these codes, with a new key and a copy of the authority's.

    The authority's `ca.crt` is copied whole: while one authority follows another it holds both, the new one first; and
    with it the list of what is revoked, if there is one.
    `hosts` are names and addresses by which a NATS site is dialled by other sites, whose servers verify those; nobody
    else is verified by them. `valid_from` is now when absent; `force` replaces a certificate that is there (a running
    server picks the new one up by itself). Raises `AuthorityMissing`, `CertificateExists`, `NoCodes`, `TooManyCodes`,
    `MalformedCode`, `HostNotItsOwn`, `ValidityImpossible`, `AuthorityNotValid`, `FileUnreadable`, `KeyMismatch`,
    `FolderUnwritable`.
    """
    wanted = tuple(dict.fromkeys(codes))
    if not wanted:
        raise NoCodes(kind)
    if len(wanted) > CODES_MAX:
        raise TooManyCodes(len(wanted))
    names: list[x509.GeneralName] = [x509.DNSName(dns_name(kind, code)) for code in wanted]
    names += [x509.UniformResourceIdentifier(spiffe_uri(kind, code)) for code in wanted]
    names += [_host(kind, host) for host in hosts]
    paths = CertificatePaths.in_folder(out_folder)
    if not force and (paths.certificate.exists() or paths.key.exists()):
        raise CertificateExists(out_folder)
    trusted_pem, authority, authority_key = load_authority(folder_ca)
    begins, ends = _validity(valid_from, days)
    if begins < authority.not_valid_before_utc or ends > authority.not_valid_after_utc:
        raise AuthorityNotValid((begins, ends), (authority.not_valid_before_utc, authority.not_valid_after_utc))
    key = ec.generate_private_key(ec.SECP256R1())
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, dns_name(kind, wanted[0]))]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(begins)
        .not_valid_after(ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=True)
        .add_extension(
            x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CLIENT_AUTH, ExtendedKeyUsageOID.SERVER_AUTH]), critical=False
        )
        .add_extension(x509.SubjectAlternativeName(names), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority_key.public_key()), critical=False)
        .sign(authority_key, hashes.SHA256())
    )
    write_file(paths.ca, trusted_pem, 0o644)
    revoked = folder_ca / AUTHORITY_LIST
    if revoked.exists():
        write_file(out_folder / AUTHORITY_LIST, read_file(revoked), 0o644)
    write_file(paths.key, _pem_of_key(key), 0o600)
    write_file(paths.certificate, certificate.public_bytes(serialization.Encoding.PEM), 0o644)
    return paths


def load(paths: CertificatePaths) -> Credentials:
    """Read a process's certificate, key and authority. Raises `FileUnreadable`, `KeyOpen`, `KeyMismatch`."""
    ca_pem = read_file(paths.ca)
    read_certificates(paths.ca, ca_pem)
    certificate_pem = read_file(paths.certificate)
    certificate = read_certificates(paths.certificate, certificate_pem)[0]
    key_pem = _read_key(paths.key)
    key = _parse_key(paths.key, key_pem)
    if key.public_key() != certificate.public_key():
        raise KeyMismatch(paths.certificate, paths.key)
    certificate_der = certificate.public_bytes(serialization.Encoding.DER)
    return Credentials(ca_pem, certificate_pem, certificate_der, key_pem, certificate, key)


def issuer_of(certificate: x509.Certificate, ca: Path) -> x509.Certificate:
    """The authority in a file that has issued a certificate. Raises `FileUnreadable`, `IssuedElsewhere`."""
    for authority in read_certificates(ca, read_file(ca)):
        if has_issued(authority, certificate):
            return authority
    raise IssuedElsewhere(ca)


def has_issued(authority: x509.Certificate, certificate: x509.Certificate) -> bool:
    """Whether that authority has signed the certificate."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


class LiveCredentials:
    """A process's credentials, read again when a file has changed.

    A renewal replaces several files one after the other. While they do not fit together the last good ones stay in use
    and the reason is logged and counted, once; every look tries again. Raises `FileUnreadable`, `KeyMismatch` when
    made. Safe between threads.
    """

    def __init__(self, paths: CertificatePaths) -> None:
        self.paths = paths
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._refused = self._seen
        self._current = load(paths)
        # Looked at again when it is asked for: nobody need connect for a renewal to show.
        EXPIRES.set_function(self._ends)
        self._tell_expiry()

    def current(self) -> Credentials:
        """The newest credentials that fit together. Costs three `stat` calls while nothing has changed."""
        stamp = self._stamp()
        if stamp != self._seen:
            with self._lock:
                self._renew(stamp)
        return self._current

    def _renew(self, stamp: "_Stamp") -> None:
        if stamp == self._seen:  # another thread was quicker
            return
        try:
            self._current = load(self.paths)
        except PkiError as failure:
            if stamp != self._refused:
                self._refused = stamp
                RENEWALS.labels(outcome="refused").inc()
                log.warning(
                    "A changed certificate cannot be used; the last good one stays in use.",
                    action="renew_certificate",
                    reason=str(failure),
                )
            return
        self._seen = stamp
        self._tell_expiry()
        RENEWALS.labels(outcome="loaded").inc()
        log.info(
            "A renewed certificate is in use.",
            action="renew_certificate",
            certificate=str(self.paths.certificate),
            expires=self._current.certificate.not_valid_after_utc.isoformat(),
        )

    def _ends(self) -> float:
        return self.current().certificate.not_valid_after_utc.timestamp()

    def _tell_expiry(self) -> None:
        ends = self._current.certificate.not_valid_after_utc
        if ends - datetime.now(UTC) < EXPIRES_SOON:
            log.warning(
                "The certificate expires soon, or has expired: then no new connection is made with it.",
                action="certificate.expires",
                certificate=str(self.paths.certificate),
                expires=ends.isoformat(),
            )

    def _stamp(self) -> "_Stamp":
        return tuple(stamp_of(path) for path in (self.paths.ca, self.paths.certificate, self.paths.key))


_Stamp = tuple[Stamp | None, ...]


def _checked(code: str) -> str:
    if len(code) != CODE_DIGITS or not (code.isascii() and code.isdigit()):
        raise MalformedCode(code)
    return code


def _host(kind: Kind, host: str) -> x509.GeneralName:
    if kind != "nats":
        raise HostNotItsOwn(host)
    with contextlib.suppress(ValueError):
        return x509.IPAddress(ipaddress.ip_address(host))
    if not HOST_NAME.fullmatch(host) or host.lower().endswith(DNS_SUFFIX):
        raise HostNotItsOwn(host)
    return x509.DNSName(host)


def _validity(valid_from: datetime | None, days: int) -> tuple[datetime, datetime]:
    start = (valid_from or datetime.now(UTC)).astimezone(UTC).replace(microsecond=0)
    try:
        begins, ends = start - CLOCK_SKEW, start + timedelta(days=days)
    except OverflowError:
        raise ValidityImpossible(days) from None
    # Before 1950 an X.509 time cannot be written.
    if days < 1 or begins.year < 1950:  # noqa: PLR2004 - said above
        raise ValidityImpossible(days)
    return begins, ends


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def load_authority(folder: Path) -> tuple[bytes, x509.Certificate, ec.EllipticCurvePrivateKey]:
    """All that is trusted, in PEM; the authority that issues, which is the first of it; its key.

    Raises `AuthorityMissing`, `FileUnreadable`, `KeyMismatch`.
    """
    paths = AuthorityPaths.in_folder(folder)
    if not (paths.certificate.exists() and paths.key.exists()):
        raise AuthorityMissing(folder)
    trusted_pem = read_file(paths.certificate)
    certificate = read_certificates(paths.certificate, trusted_pem)[0]
    key = _parse_key(paths.key, _read_key(paths.key))
    if key.public_key() != certificate.public_key():
        raise KeyMismatch(paths.certificate, paths.key)
    return trusted_pem, certificate, key


def read_file(path: Path) -> bytes:
    """What is in a file. Raises `FileUnreadable`."""
    try:
        return path.read_bytes()
    except OSError as failure:
        raise FileUnreadable(path, failure.strerror or str(failure)) from failure


def _read_key(path: Path) -> bytes:
    pem = read_file(path)
    if mode := mode_open(path):
        raise KeyOpen(path, mode)
    return pem


def read_certificates(path: Path, pem: bytes) -> list[x509.Certificate]:
    """The certificates in a file's content, at least one. Raises `FileUnreadable`."""
    try:
        return x509.load_pem_x509_certificates(pem)
    except ValueError as failure:
        raise FileUnreadable(path, "it holds no PEM certificate") from failure


def _parse_key(path: Path, pem: bytes) -> ec.EllipticCurvePrivateKey:
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except (ValueError, TypeError) as failure:
        raise FileUnreadable(path, "it holds no PEM key without a passphrase") from failure
    if not (isinstance(key, ec.EllipticCurvePrivateKey) and isinstance(key.curve, ec.SECP256R1)):
        raise FileUnreadable(path, "its key is not ECDSA P-256")
    return key


def _pem_of_key(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def write_file(path: Path, content: bytes, mode: int) -> None:
    """Replace a file whole, as `replacing` does. Raises `FolderUnwritable`."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with replacing(path, mode) as file:
            file.write(content)
    except OSError as failure:
        raise FolderUnwritable(path, failure.strerror or str(failure)) from failure
