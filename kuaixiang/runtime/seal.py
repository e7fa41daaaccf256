"""A process's seal: it signs what a bureau of ours says, and checks what another is said to have said."""

from hashlib import sha256
from typing import Final

import structlog

from kuaixiang.domain.errors import Condition, Refused
from kuaixiang.runtime import signing
from kuaixiang.runtime.clock import SystemClock
from kuaixiang.runtime.pki import CertificatePaths, LiveCredentials
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
    """Signs and checks by the files of a process's certificate, as last renewed. Raises `pki.PkiError`."""

    def __init__(self, paths: CertificatePaths) -> None:
        self._paths = paths
        self._live = LiveCredentials(paths)

    def sign(self, payload: bytes) -> referral_pb2.Signature:
        """The process's signature over the payload; may be called from any thread."""
        signature = signing.sign(payload, self._paths)
        return referral_pb2.Signature(certificate_der=signature.certificate_der, value=signature.value)

    def fingerprint(self) -> str:
        """SHA-256 of the certificate it signs by, in hexadecimal."""
        return sha256(self._live.current().certificate_der).hexdigest()

    def check(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        """Returns if that bureau has signed the payload just now; raises `SignatureNotProven`."""
        try:
            self._verify(payload, signature, bureau)
        except signing.SignatureRefused as why:
            raise self._refusal(bureau, why) from why

    def check_kept(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        """Like `check`, for what may have been signed before and kept: a repeated receipt is the first, word for word.

        Its signer's certificate may have expired since, while a link was down.
        """
        try:
            try:
                self._verify(payload, signature, bureau)
            except signing.CertificateNotValid as expired:
                if expired.at < expired.ends:
                    raise
                signing.verify(payload, _signature(signature), bureau, self._live.current().ca_pem, expired.ends)
        except signing.SignatureRefused as why:
            raise self._refusal(bureau, why) from why

    def _verify(self, payload: bytes, signature: referral_pb2.Signature, bureau: str) -> None:
        signing.verify(payload, _signature(signature), bureau, self._live.current().ca_pem, _REAL.now())

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
