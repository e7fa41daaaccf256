"""Words of bureaus further away: what an issuer has ordered, a superior has ruled, or a receiver has reported.

Offers, statements and reports are signed by the neighbour that brings them, which may only be passing them on. So
whoever says something of his own that goes further than one bureau signs it besides, without what changes from hop to
hop; the bureaus between pass that on as it came, and each checks it before anything is in its ledger. A bureau between
can hold it up, and can neither alter it nor make one.

What is private of it, an order's wording or an answer, is in it as a digest under a salt that travels beside.
"""

from collections.abc import Callable
from typing import Final

from google.protobuf.message import DecodeError

from kuaixiang.domain.errors import Condition, FieldMalformed, Refused
from kuaixiang.domain.labels import Both
from kuaixiang.runtime.chance import Chance
from kuaixiang.wire.chain import SALT_BYTES, texts_digest
from kuaixiang.wire.v1 import referral_pb2, supervision_pb2
from kuaixiang.wire.v1.referral_pb2 import SignedAttestation
from kuaixiang.wire.v1.supervision_pb2 import Attestation
from node.federation.receipts import Check

ATTESTATION_BYTES_MAX: Final = 32 * 1024
"""A hundred cases' numbers, and as much again for the rest; nothing in it is a text."""
_CHANCE: Final = Chance()

Sign = Callable[[bytes], referral_pb2.Signature]


class NotAttested(Refused):
    """What a neighbour passes on of a bureau further away comes without that bureau's own signature."""

    condition = Condition.FORBIDDEN
    field = "attestation"
    remedy = (
        "It must be said anew by that bureau, from a node of this version; whoever passes it on cannot sign for it."
    )
    remedy_chinese = "须由该单位以本版本的节点重新作出；转递单位不能代签。"

    def __init__(self, bureau: str) -> None:
        self.bureau = bureau
        super().__init__(
            f"What is passed on in the name of bureau {bureau} does not have its signature on it.",
            f"以单位 {bureau} 名义转递的内容没有该单位自己的签名。",
        )


class AttestationDiffers(Refused):
    """A bureau's own signature is on something else than what a neighbour passes on in its name."""

    condition = Condition.FORBIDDEN
    field = "attestation"
    remedy = "Pass it on as that bureau has signed it."
    remedy_chinese = "请按该单位签名的原文转递。"

    def __init__(self, bureau: str) -> None:
        self.bureau = bureau
        super().__init__(
            f"Bureau {bureau} has signed something else than what is passed on in its name.",
            f"以单位 {bureau} 名义转递的内容与该单位的签名原文不符。",
        )


# ---------------------------------------------------------------- whose word it is


def of_statement(statement: supervision_pb2.OrderStatement, salt: bytes) -> Attestation:
    """An issuer's word for what is said of its order."""
    said = supervision_pb2.OrderStatement()
    said.CopyFrom(statement)
    for field in ("from_bureau", "to_bureau", "text", "note"):
        said.ClearField(field)
    digest = texts_digest(salt, statement.text, statement.note)
    return Attestation(bureau=statement.issuer, private_digest=digest, order=said)


def of_report(report: supervision_pb2.OrderReport, receiver: str, salt: bytes) -> Attestation:
    """The word of the bureau that an order is for, on what has become of it."""
    said = supervision_pb2.OrderReport()
    said.CopyFrom(report)
    for field in ("from_bureau", "to_bureau", "answer", "because"):
        said.ClearField(field)
    digest = texts_digest(salt, report.answer, report.because)
    return Attestation(bureau=receiver, private_digest=digest, report=said)


def of_ruling(offer: referral_pb2.Offer) -> Attestation:
    """The word of the superior whose ruling an offer carries out."""
    epoch = max(0, offer.epoch - len(offer.path) + 1)
    ruling = referral_pb2.Ruling(case_id=offer.case_id, final_bureau=offer.final_bureau, epoch=epoch)
    return Attestation(bureau=offer.snapshot.ruled_by, ruling=ruling)


def new_salt() -> bytes:
    """A salt for a word of a bureau of ours."""
    return _CHANCE.draw(SALT_BYTES)


def signed(attestation: Attestation, sign: Sign, salt: bytes = b"") -> SignedAttestation:
    """A word of a bureau of ours, as it travels."""
    payload = attestation.SerializeToString()
    return SignedAttestation(attestation=payload, signature=sign(payload), salt=salt)


# ---------------------------------------------------------------- checked, and passed on


def check_attestation(came: SignedAttestation, expected: Attestation, check: Check, *, directly: bool) -> bytes:
    """What is to be kept of a word that came; empty where none did, and none is needed.

    `directly`: it came from the bureau whose word it is, and goes no further. Raises `NotAttested`,
    `AttestationDiffers`, `FieldMalformed`, and what `check` raises.
    """
    bureau = expected.bureau
    if not came.attestation:
        if directly:
            return b""
        raise NotAttested(bureau)
    if len(came.attestation) > ATTESTATION_BYTES_MAX or len(came.salt) > SALT_BYTES:
        raise FieldMalformed(
            "attestation",
            Both(f"has {len(came.attestation)} bytes", f"有 {len(came.attestation)} 字节，过大"),
            Both(f"It has at most {ATTESTATION_BYTES_MAX}.", f"最多 {ATTESTATION_BYTES_MAX} 字节。"),
        )
    try:
        said = Attestation.FromString(came.attestation)
    except DecodeError as failure:
        raise AttestationDiffers(bureau) from failure
    if said != expected:
        raise AttestationDiffers(bureau)
    check(came.attestation, came.signature, bureau)
    return came.SerializeToString()


def restate(message: supervision_pb2.OrderStatement | supervision_pb2.OrderReport, kept: SignedAttestation) -> None:
    """Puts into a message what the bureau whose word it passes on has said, as that was signed.

    What a bureau between knows of an order may be less: a word that was overtaken on the way has not reached it.
    """
    attestation = Attestation.FromString(kept.attestation)
    hop = (message.from_bureau, message.to_bureau)
    if isinstance(message, supervision_pb2.OrderStatement):
        texts = (message.text, message.note)
        message.CopyFrom(attestation.order)
        message.text, message.note = texts
    else:
        texts = (message.answer, message.because)
        message.CopyFrom(attestation.report)
        message.answer, message.because = texts
    message.from_bureau, message.to_bureau = hop
