"""A process's seal: it signs what a bureau of ours says, and checks what another is said to have said."""

from datetime import datetime
from hashlib import sha256
from typing import Final

import structlog

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.runtime import signing
from kuaixiang.runtime.clock import SystemClock
from kuaixiang.runtime.pki import CertificatePaths, LiveCredentials
from kuaixiang.runtime.revocation import serial_text
from kuaixiang.runtime.tls import Peer
from kuaixiang.runtime.trust import Trust
from kuaixiang.wire.v1 import referral_pb2

_log: Final = structlog.get_logger(__name__)
_REAL: Final = SystemClock()
"""Certificates live in real time, even where business time is virtual."""


class SignatureNotProven(Refused):
    """A signature does not prove that the bureau signed this."""

    condition = Condition.FORBIDDEN
    field = "signature"
    remedy = "Sign the bytes as they are sent, by the key of the bureau's present certificate."
    remedy_chinese = "请用该单位现行证书的密钥，对发送的原文签名。"

    def __init__(self, bureau: str, why: signing.SignatureRefused) -> None:
        self.bureau = bureau
        super().__init__(
            f"What bureau {bureau} is said to have signed is not proven: {why}",
            f"不能证明该内容由单位 {bureau} 签名：{why.chinese}",
        )


class Seal:
    """Signs and checks by the files of a process's certificate, as last renewed. Raises `pki.PkiError`.

    `trust` says whose signatures are not believed; by default those of revoked certificates.
    """

    def __init__(self, paths: CertificatePaths, trust: Trust | None = None) -> None:
        self._paths = paths
        self._live = LiveCredentials(paths)
        self._trust = trust or Trust(paths)

    def sign(self, payload: bytes) -> referral_pb2.Signature:
        """The process's signature over the payload; may be called from any thread."""
        signature = signing.sign(payload, self._paths)
        return referral_pb2.Signature(certificate_der=signature.certificate_der, value=signature.value)

    def renewed(self, payload: bytes, signature: referral_pb2.Signature) -> referral_pb2.Signature:
        """A signature of ours that was kept, made anew if this process has another certificate since.

        The earlier one may have been revoked, or taken out of the tree, and would prove nothing to whoever asks now.
        """
        return signature if signature.certificate_der == self._live.current().certificate_der else self.sign(payload)

    def fingerprint(self) -> str:
        """SHA-256 of the certificate it signs by, in hexadecimal."""
        return sha256(self._live.current().certificate_der).hexdigest()

    def check(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        """Returns if that bureau has signed the payload just now; raises `SignatureNotProven`."""
        try:
            self._check_pinned(self._verify(payload, signature, bureau))
        except signing.SignatureRefused as why:
            raise self._refusal(bureau, why) from why

    def check_kept(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        """Like `check`, for what may have been signed before and kept: a directive of last year, a receipt.

        Its signer's certificate may have expired since, and the tree may list others: whoever was away for a while
        would otherwise believe nothing that leads to the present tree. A revoked one proves nothing here either.
        """
        try:
            try:
                self._verify(payload, signature, bureau)
            except signing.CertificateNotValid as expired:
                if expired.at < expired.ends:
                    raise
                self._verify(payload, signature, bureau, expired.ends)
        except signing.SignatureRefused as why:
            raise self._refusal(bureau, why) from why

    def _verify(
        self, payload: bytes, signature: referral_pb2.Signature, bureau: str, at: datetime | None = None
    ) -> Peer:
        trusted_pem = self._live.current().ca_pem
        signer = signing.verify(payload, _signature(signature), bureau, trusted_pem, at or _REAL.now())
        if self._trust.revoked(signer):
            raise signing.RevokedSigner(serial_text(signer.serial))
        return signer

    def _check_pinned(self, signer: Peer) -> None:
        bureau = self._trust.unpinned(signer)
        if bureau:
            raise signing.UnpinnedSigner(bureau, signer.fingerprint)

    @staticmethod
    def _refusal(bureau: str, why: signing.SignatureRefused) -> SignatureNotProven:
        _log.warning(
            "A signature does not prove what it is shown for.",
            action="referral.signature_refused",
            bureau=bureau,
            reason=type(why).__name__,
        )
        return SignatureNotProven(bureau, why)


def _signature(signature: referral_pb2.Signature) -> signing.Signature:
    return signing.Signature(signature.certificate_der, signature.value)
