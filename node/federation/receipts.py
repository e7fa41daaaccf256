"""Receipts with the words of both bureaus on them: either can prove a hand-over alone, and nothing private is in it.

The sender signs, besides the offer itself, a `HandOver`: which case goes from whom to whom, when, and the digest of the
offer. The receiver checks that it is of that offer and returns it in its receipt, beside its own signed decision.
"""

from collections.abc import Callable
from hashlib import sha256

from google.protobuf.message import DecodeError

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.labels import Both
from kuaixiang.wire.v1 import referral_pb2

Check = Callable[[bytes, referral_pb2.Signature, str], None]
"""Returns if a bureau has signed a payload; raises why it is not proven."""


class ReceiptUnproven(Exception):
    """A kept receipt does not prove the hand-over; `chinese` says it in Chinese."""

    def __init__(self, what: Both) -> None:
        self.chinese = what.chinese
        super().__init__(what.english)


def hand_over_of(offer: referral_pb2.Offer, payload: bytes) -> referral_pb2.HandOver:
    """What the sender of an offer, serialized as `payload`, says of the hand-over."""
    return referral_pb2.HandOver(
        referral_id=offer.referral_id,
        case_id=offer.case_id,
        epoch=offer.epoch,
        from_bureau=offer.from_bureau,
        to_bureau=offer.to_bureau,
        offered_at_us=offer.offered_at_us,
        offer_digest=sha256(payload).digest(),
    )


def check_hand_over(request: referral_pb2.OfferRequest, offer: referral_pb2.Offer, check: Check) -> None:
    """Returns if an offer comes with its sender's word for the hand-over, or with none.

    Raises `FieldMalformed` for the word for another offer, `SignatureNotProven`.
    """
    if not request.hand_over:
        return
    try:
        said = referral_pb2.HandOver.FromString(request.hand_over)
    except DecodeError as failure:
        raise _of_another() from failure
    if said != hand_over_of(offer, request.offer):
        raise _of_another()
    check(request.hand_over, request.hand_over_signature, offer.from_bureau)


def prove(receipt: referral_pb2.Receipt, check: Check) -> tuple[referral_pb2.HandOver, referral_pb2.Decision]:
    """What a receipt with both words on it proves; raises `ReceiptUnproven`, and what `check` raises."""
    try:
        said = referral_pb2.HandOver.FromString(receipt.hand_over)
        decision = referral_pb2.Decision.FromString(receipt.decision)
    except DecodeError as failure:
        raise ReceiptUnproven(Both("it cannot be read", "无法读取")) from failure
    if not receipt.hand_over:
        raise ReceiptUnproven(Both("its sender's word is not on it", "没有移出单位的签名"))
    if (said.referral_id, said.case_id, said.epoch, said.to_bureau) != (
        decision.referral_id,
        decision.case_id,
        decision.epoch,
        decision.bureau,
    ):
        raise ReceiptUnproven(Both("the two words are of different hand-overs", "双方签名不是同一次移交"))
    check(receipt.hand_over, receipt.hand_over_signature, said.from_bureau)
    check(receipt.decision, receipt.signature, decision.bureau)
    return said, decision


def _of_another() -> FieldMalformed:
    return FieldMalformed(
        "hand_over",
        Both("is not of this offer", "与移交单不一致"),
        Both("Sign the hand-over of the offer that is sent.", "请对所发送移交单的移交凭证签名。"),
    )
