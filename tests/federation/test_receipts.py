"""A receipt carries the words of both bureaus: either can prove a hand-over alone, and a false word proves nothing."""

from dataclasses import dataclass

import pytest

from kuaixiang.domain.errors import FieldMalformed
from kuaixiang.domain.words import Custody
from kuaixiang.runtime.seal import SignatureNotProven
from kuaixiang.wire.v1 import referral_pb2
from node.federation.receipts import ReceiptUnproven, check_hand_over, hand_over_of, prove
from node.ledger import evidence
from tests.federation.bureaus import COUNTY, PREFECTURE, TEXT, Federation


@dataclass(frozen=True)
class HandedOver:
    case_id: str
    given: referral_pb2.Receipt
    got: referral_pb2.Receipt


async def handed_over(bureaus: Federation) -> HandedOver:
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, PREFECTURE)
    await bureaus.reached(COUNTY, case_id, Custody.RELEASED)
    (got,) = evidence.receipts(bureaus.office(COUNTY).ledger.database, COUNTY, case_id)
    (given,) = evidence.receipts(bureaus.office(PREFECTURE).ledger.database, PREFECTURE, case_id)
    return HandedOver(case_id, referral_pb2.Receipt.FromString(given), referral_pb2.Receipt.FromString(got))


async def test_each_of_the_two_can_prove_a_hand_over_alone_without_anything_private(bureaus: Federation) -> None:
    done = await handed_over(bureaus)
    assert done.given == done.got
    for receipt, bureau in ((done.given, PREFECTURE), (done.got, COUNTY)):
        said, decision = prove(receipt, bureaus.node(bureau).seal.check_kept)
        assert (COUNTY, PREFECTURE, done.case_id, True) == (
            said.from_bureau,
            decision.bureau,
            decision.case_id,
            decision.accepted,
        )
        assert TEXT.encode() not in receipt.SerializeToString()


async def test_a_receipt_with_a_false_word_on_it_proves_nothing(bureaus: Federation) -> None:
    done = await handed_over(bureaus)
    check = bureaus.node(COUNTY).seal.check_kept
    stripped = referral_pb2.Receipt(decision=done.got.decision, signature=done.got.signature)
    with pytest.raises(ReceiptUnproven, match="its sender's word is not on it"):
        prove(stripped, check)
    other = referral_pb2.Receipt.FromString(done.got.SerializeToString())
    said = referral_pb2.HandOver.FromString(other.hand_over)
    said.offered_at_us += 1
    other.hand_over = said.SerializeToString()
    with pytest.raises(SignatureNotProven):
        prove(other, check)
    said.case_id = "370102-2026-0000099"
    other.hand_over = said.SerializeToString()
    with pytest.raises(ReceiptUnproven, match="different hand-overs"):
        prove(other, check)
    refused = referral_pb2.Receipt.FromString(done.got.SerializeToString())
    decision = referral_pb2.Decision.FromString(refused.decision)
    decision.accepted = False
    refused.decision = decision.SerializeToString()
    with pytest.raises(SignatureNotProven):
        prove(refused, check)


async def test_the_word_of_a_sender_for_another_offer_is_refused(bureaus: Federation) -> None:
    offer = referral_pb2.Offer(referral_id="r-1", case_id="c-1", epoch=1, from_bureau=COUNTY, to_bureau=PREFECTURE)
    seal = bureaus.node(COUNTY).seal
    for payload, word in ((offer.SerializeToString(), b"of another offer"), (b"of another offer", b"")):
        said = hand_over_of(offer, word or offer.SerializeToString()).SerializeToString()
        request = referral_pb2.OfferRequest(offer=payload, hand_over=said, hand_over_signature=seal.sign(said))
        with pytest.raises(FieldMalformed, match="is not of this offer"):
            check_hand_over(request, offer, seal.check)
    good = hand_over_of(offer, offer.SerializeToString()).SerializeToString()
    request = referral_pb2.OfferRequest(
        offer=offer.SerializeToString(), hand_over=good, hand_over_signature=bureaus.node(PREFECTURE).seal.sign(good)
    )
    with pytest.raises(SignatureNotProven):
        check_hand_over(request, offer, seal.check)
