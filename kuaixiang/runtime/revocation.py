"""Certificates that are not to be believed any more: the list that the authority has signed, `ca.crl` beside `ca.crt`.

It is an X.509 CRL, so that other tools read it too, and holds serial numbers. Python's gRPC cannot give a list to the
handshake; whoever is called looks a caller's serial up at every call instead (`kuaixiang.runtime.trust`).

**A list only grows tighter.** One that has expired stays in force, and an alarm tells its age: whoever is on it stays
out, and nobody else is sent away because a list was not renewed. One that is taken away, is broken, is signed by no
authority that is trusted, or has a lower number than the one before is refused, and the last good one stays.
"""

import threading
import time
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Final

import structlog
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from prometheus_client import Counter, Gauge

from kuaixiang.runtime.files import stamp_of
from kuaixiang.runtime.pki import (
    AUTHORITY_LIST,
    CLOCK_SKEW,
    AuthorityPaths,
    FileUnreadable,
    PkiError,
    load_authority,
    read_certificates,
    read_file,
    write_file,
)

LIST_DAYS: Final = 90
"""How long a list says that it is fresh. It is in force beyond that; the alarm on its age is what the days are for."""
SERIALS_MAX: Final = 100_000
"""A hundred times a nation's certificates in ten years; such a list is 4 MB."""
LOOK_SECONDS: Final = 1.0
"""How often a process looks whether the file has changed."""
SERIAL_DIGITS_MAX: Final = 40
"""An X.509 serial has at most 20 bytes."""

REVOKED: Final = Gauge("kx_revoked_certificates", "Serial numbers on the list of revoked certificates in force.")
FRESH_UNTIL: Final = Gauge(
    "kx_revocations_fresh_until_seconds",
    "Until when the list of revoked certificates says that it is fresh, as Unix time; 0: there is no list.",
)
LISTS_REFUSED: Final = Counter(
    "kx_revocations_refused_total", "Changed lists of revoked certificates that could not be used; the last one stays."
)

_log: Final = structlog.get_logger(__name__)


class MalformedSerial(PkiError):
    """A serial number is not hexadecimal digits."""

    def __init__(self, serial: str) -> None:
        self.serial = serial
        super().__init__(
            f"{serial!r} is no serial number; `kx pki show` tells it, in hexadecimal digits with or without colons."
        )


class ListOutdated(PkiError):
    """A list of revoked certificates has a lower number than one that was in use."""

    def __init__(self, path: Path, number: int, known: int) -> None:
        self.path = path
        self.number = number
        self.known = known
        super().__init__(f"{path} is list {number}; list {known} was in use before.")


class ListUntrusted(PkiError):
    """A list of revoked certificates is signed by no authority that is trusted."""

    def __init__(self, path: Path) -> None:
        self.path = path
        super().__init__(f"{path} holds no list that an authority of ca.crt has signed.")


@dataclass(frozen=True, slots=True)
class Revocations:
    """What is revoked, until when the lists say that they are fresh, and the number of each authority's list."""

    serials: frozenset[int] = frozenset()
    fresh_until: datetime | None = None
    numbers: tuple[tuple[bytes, int], ...] = ()
    """By the authority's key."""


NONE: Final = Revocations()


def serial_of(text: str) -> int:
    """A serial number as it is shown: hexadecimal, with or without colons. Raises `MalformedSerial`."""
    digits = text.replace(":", "").removeprefix("0x")
    if not digits or len(digits) > SERIAL_DIGITS_MAX or not all(one in "0123456789abcdefABCDEF" for one in digits):
        raise MalformedSerial(text)
    return int(digits, 16)


def serial_text(serial: int) -> str:
    """A serial number as OpenSSL writes it."""
    text = f"{serial:X}"
    return text.zfill(len(text) + len(text) % 2)


def revoke(folder: Path, serials: Iterable[int], days: int = LIST_DAYS, *, now: datetime | None = None) -> Path:
    """Write the authority's list anew with these serials added, under the next number; without any: as fresh as new.

    Nothing is ever taken off. Raises `AuthorityMissing`, `FileUnreadable`, `KeyMismatch`, `ListUntrusted`,
    `FolderUnwritable`.
    """
    trusted_pem, authority, key = load_authority(folder)
    path = AuthorityPaths.in_folder(folder).certificate.with_name(AUTHORITY_LIST)
    at = (now or datetime.now(UTC)).replace(microsecond=0)
    known = x509.load_pem_x509_crl(_own(path, authority)) if path.exists() else None
    listed = {one.serial_number: one.revocation_date_utc for one in known} if known is not None else {}
    for serial in serials:
        listed.setdefault(serial, at)
    number = _number(known) + 1 if known is not None else 1
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(authority.subject)
        .last_update(at - CLOCK_SKEW)
        .next_update(at + timedelta(days=days))
        .add_extension(x509.CRLNumber(number), critical=False)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key()), critical=False)
    )
    for serial, since in sorted(listed.items()):
        builder = builder.add_revoked_certificate(
            x509.RevokedCertificateBuilder().serial_number(serial).revocation_date(since).build()
        )
    pem = builder.sign(key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)
    others = b"".join(one for one in _blocks(path) if not _signed_by(one, authority)) if path.exists() else b""
    _read(path, pem + others, trusted_pem)
    write_file(path, pem + others, 0o644)
    return path


def load_revocations(ca: Path) -> Revocations:
    """The list beside a file of authorities; an empty one where there is none.

    Raises `FileUnreadable`, `ListUntrusted`.
    """
    path = ca.with_name(AUTHORITY_LIST)
    return _read(path, read_file(path), read_file(ca)) if path.exists() else NONE


class LiveRevocations:
    """The list beside a process's authority, read again when either file has changed. Safe between threads.

    Raises `FileUnreadable`, `ListUntrusted` when made.
    """

    def __init__(self, ca: Path) -> None:
        self._ca = ca
        self._path = ca.with_name(AUTHORITY_LIST)
        self._lock = threading.Lock()
        self._seen = self._stamp()
        self._current = load_revocations(ca)
        self._looked_at = time.monotonic()
        _show(self._current)

    def current(self) -> Revocations:
        """The list in force."""
        now = time.monotonic()
        if now - self._looked_at >= LOOK_SECONDS:
            self._looked_at = now
            stamp = self._stamp()
            if stamp != self._seen:
                with self._lock:
                    self._renew(stamp)
        return self._current

    def _renew(self, stamp: tuple[object, ...]) -> None:
        self._seen = stamp
        try:
            found = _read(self._path, read_file(self._path), read_file(self._ca))
            numbers = dict(found.numbers)
            trusted = {one.fingerprint(hashes.SHA256()) for one in read_certificates(self._ca, read_file(self._ca))}
            for key, known in self._current.numbers:
                # One that is left out says nothing any more, as number 0 would; a former authority's may go.
                if key in trusted and numbers.get(key, 0) < known:
                    raise ListOutdated(self._path, numbers.get(key, 0), known)
        except PkiError as failure:
            LISTS_REFUSED.inc()
            _log.error(
                "A changed list of revoked certificates cannot be used; the last good one stays in force.",
                action="revocations.refused",
                reason=str(failure),
            )
            return
        self._current = found
        _show(found)
        _log.info("A list of revoked certificates is in force.", action="revocations", serials=len(found.serials))

    def _stamp(self) -> tuple[object, ...]:
        return stamp_of(self._path), stamp_of(self._ca)


def _show(revocations: Revocations) -> None:
    REVOKED.set(len(revocations.serials))
    FRESH_UNTIL.set(revocations.fresh_until.timestamp() if revocations.fresh_until else 0)


def _blocks(path: Path) -> list[bytes]:
    """Every PEM list in a file."""
    return _split(read_file(path))


def _split(pem: bytes) -> list[bytes]:
    end = b"-----END X509 CRL-----"
    return [part[part.index(b"-----BEGIN") :] + end + b"\n" for part in pem.split(end) if b"-----BEGIN" in part]


def _own(path: Path, authority: x509.Certificate) -> bytes:
    for block in _blocks(path):
        if _signed_by(block, authority):
            return block
    raise ListUntrusted(path)


def _signed_by(block: bytes, authority: x509.Certificate) -> bool:
    key = authority.public_key()
    try:
        return isinstance(key, ec.EllipticCurvePublicKey) and x509.load_pem_x509_crl(block).is_signature_valid(key)
    except (ValueError, TypeError):
        return False


def _number(crl: x509.CertificateRevocationList) -> int:
    try:
        return crl.extensions.get_extension_for_class(x509.CRLNumber).value.crl_number
    except x509.ExtensionNotFound:
        return 0


def _read(path: Path, pem: bytes, trusted_pem: bytes) -> Revocations:
    """The lists of a file that authorities which are trusted have signed; those of former authorities say nothing."""
    authorities = read_certificates(path, trusted_pem)
    serials: set[int] = set()
    fresh: list[datetime] = []
    numbers: list[tuple[bytes, int]] = []
    for block in _split(pem):
        for authority in authorities:
            if not _signed_by(block, authority):
                continue
            crl = x509.load_pem_x509_crl(block)
            serials |= {one.serial_number for one in crl}
            if crl.next_update_utc is not None:
                fresh.append(crl.next_update_utc)
            numbers.append((authority.fingerprint(hashes.SHA256()), _number(crl)))
    if not numbers:
        raise ListUntrusted(path)
    if len(serials) > SERIALS_MAX:
        raise FileUnreadable(path, f"it lists more than {SERIALS_MAX} certificates")
    return Revocations(frozenset(serials), min(fresh, default=None), tuple(numbers))
