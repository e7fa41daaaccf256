"""Whom this process believes beyond what the handshake checks: nobody revoked, and nobody whom the tree does not pin.

The handshake knows authority and dates alone, and only once. At every call a server asks whether the authority is
trusted still, and looks up the caller's serial in its list, and its fingerprint among those that the tree lists for
each bureau that the certificate names; where the tree lists none, every certificate of the authority will do. So
whoever was revoked or taken out of the tree is refused also on a connection that is open, and everybody whose authority
is gone.

A client in Python does not see the server's certificate: its handshake checks authority and name. What it is answered
is signed where it must be proven, and whoever signs is looked up like a caller.
"""

import time
from functools import lru_cache

from cryptography import x509

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime import revocation
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.pki import CertificatePaths, LiveCredentials, has_issued
from kuaixiang.runtime.tls import IDENTITIES_CACHED, Peer


class Trust:
    """What this process holds against certificates. Raises `pki.PkiError` when made, for a list that cannot be used."""

    def __init__(self, paths: CertificatePaths, trees: InForce[BureauTree] | None = None) -> None:
        self._live = LiveCredentials(paths)
        self._trusted_pem = self._live.current().ca_pem
        self._looked_at = time.monotonic()
        self._revocations = revocation.LiveRevocations(paths.ca)
        self._trees = trees

    def revoked(self, peer: Peer) -> bool:
        """Whether the authority has revoked the certificate."""
        return peer.serial in self._revocations.current().serials

    def strange(self, peer: Peer) -> bool:
        """Whether no authority that is trusted now has issued the certificate: one may be gone since the handshake."""
        now = time.monotonic()
        if now - self._looked_at >= revocation.LOOK_SECONDS:
            self._looked_at, self._trusted_pem = now, self._live.current().ca_pem
        return not _issued(peer.certificate, self._trusted_pem)

    def unpinned(self, peer: Peer) -> str:
        """A bureau that the certificate names and for which the tree lists other ones; empty when there is none."""
        tree = self._trees.value if self._trees is not None else None
        if tree is None:
            return ""
        for code in sorted(peer.identity.bureaus):
            if code in tree:
                pinned = tree.get(code).fingerprints
                if pinned and peer.fingerprint not in pinned:
                    return code
        return ""


@lru_cache(maxsize=IDENTITIES_CACHED)
def _issued(certificate: x509.Certificate, trusted_pem: bytes) -> bool:
    return any(has_issued(authority, certificate) for authority in x509.load_pem_x509_certificates(trusted_pem))
