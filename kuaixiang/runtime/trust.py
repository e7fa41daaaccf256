"""Whom this process believes beyond what the handshake checks: nobody revoked, and nobody whom the tree does not pin.

The handshake knows authority and dates alone. At every call a server looks up the caller's serial in the authority's
list, and its fingerprint among those that the tree lists for each bureau that the certificate names; where the tree
lists none, every certificate of the authority will do. Both are read anew, so that what was revoked or taken out of the
tree is refused also on a connection that is open.

A client in Python does not see the server's certificate: its handshake checks authority and name. What it is answered
is signed where it must be proven, and whoever signs is looked up like a caller.
"""

from kuaixiang.domain.tree import BureauTree
from kuaixiang.runtime.in_force import InForce
from kuaixiang.runtime.pki import CertificatePaths
from kuaixiang.runtime.revocation import LiveRevocations
from kuaixiang.runtime.tls import Peer


class Trust:
    """What this process holds against certificates. Raises `pki.PkiError` when made, for a list that cannot be used."""

    def __init__(self, paths: CertificatePaths, trees: InForce[BureauTree] | None = None) -> None:
        self._revocations = LiveRevocations(paths.ca)
        self._trees = trees

    def revoked(self, peer: Peer) -> bool:
        """Whether the authority has revoked the certificate."""
        return peer.serial in self._revocations.current().serials

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
