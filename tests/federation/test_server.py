"""What a bureau answers to peers and strangers: forged, malformed and impossible calls leave no trace in its ledger."""

from collections.abc import Callable
from typing import Any

import grpc
import pytest

from kuaixiang.domain.words import Custody, Outcome, Refusal, Stage
from kuaixiang.runtime import pki
from kuaixiang.runtime.clock import to_micros
from kuaixiang.runtime.seal import Seal
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import referral_pb2
from node.federation import offers
from node.federation.server import EPOCH_MAX, OFFER_BYTES_MAX, OFFERED_EPOCH_MAX, PATH_BUREAUS_MAX, SKEW_MICROS_MAX
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    FAR_PROVINCE,
    HEADQUARTERS,
    MONDAY,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    Federation,
    sealed,
)
from tests.node.callers import refusal_of

NOW_US = to_micros(MONDAY)
Change = Callable[[referral_pb2.Offer], Any]


async def offered(bureaus: Federation, final_bureau: str = PREFECTURE) -> referral_pb2.Offer:
    """The offer of a new case of the county's, not sent."""
    node = bureaus.node(COUNTY)
    await node.stop()
    await node.start(deliver=False)
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, final_bureau)
    offer = offers.owed(bureaus.history(COUNTY, case_id), PREFECTURE)
    assert isinstance(offer, referral_pb2.Offer)
    return offer


async def refused(
    bureaus: Federation, request: referral_pb2.OfferRequest, paths: pki.CertificatePaths
) -> RemoteRefusal:
    """The prefecture's refusal; its ledger stays as it was."""
    before = bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
    async with bureaus.stub(PREFECTURE, paths) as stub:
        refusal = await refusal_of(stub.Offer(request, timeout=SECONDS))
    assert before == bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
    return refusal


async def decided(bureaus: Federation, offer: referral_pb2.Offer, sender: str) -> referral_pb2.Decision:
    node = bureaus.node(sender)
    async with bureaus.stub(offer.to_bureau, node.paths) as stub:
        receipt = await stub.Offer(sealed(offer, node.seal), timeout=SECONDS)
    bureaus.node(sender).seal.check(receipt.decision, receipt.signature, offer.to_bureau)
    return referral_pb2.Decision.FromString(receipt.decision)


async def test_an_offer_changed_after_it_was_signed_is_refused(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    request = sealed(offer, bureaus.node(COUNTY).seal)
    offer.snapshot.text = "另一件事"
    request.offer = offer.SerializeToString()
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths)
    assert (grpc.StatusCode.PERMISSION_DENIED, "SignatureNotProven") == (refusal.code, refusal.rule)


async def test_an_offer_signed_by_another_bureau_is_refused(bureaus: Federation) -> None:
    request = sealed(await offered(bureaus), bureaus.node(PROVINCE).seal)
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths)
    assert "SignatureNotProven" == refusal.rule


async def test_an_offer_without_a_signature_is_refused(bureaus: Federation) -> None:
    request = referral_pb2.OfferRequest(offer=(await offered(bureaus)).SerializeToString())
    refusal = await refused(bureaus, request, bureaus.node(COUNTY).paths)
    assert "SignatureNotProven" == refusal.rule


async def test_an_offer_by_a_certificate_of_another_authority_does_not_get_through(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    foreign = bureaus.folder / "foreign"
    pki.init_authority(foreign, "Another federation")
    paths = pki.issue(foreign, bureaus.folder / "stranger", "node", [COUNTY])
    refusal = await refused(bureaus, sealed(offer, Seal(paths)), bureaus.node(COUNTY).paths)
    assert "SignatureNotProven" == refusal.rule
    paths = pki.CertificatePaths(bureaus.node(COUNTY).paths.ca, paths.certificate, paths.key)
    async with bureaus.stub(PREFECTURE, paths) as stub:
        with pytest.raises(grpc.aio.AioRpcError) as failed:
            await stub.Offer(sealed(offer, Seal(paths)), timeout=SECONDS)
    assert grpc.StatusCode.UNAVAILABLE is failed.value.code()


async def test_nobody_but_the_bureaus_own_node_may_offer_its_cases(bureaus: Federation) -> None:
    request = sealed(await offered(bureaus), bureaus.node(COUNTY).seal)
    others: tuple[tuple[pki.Kind, str], ...] = (("node", FAR_PROVINCE), ("office", COUNTY), ("hub", HEADQUARTERS))
    for kind, code in others:
        paths = pki.issue(bureaus.authority, bureaus.folder / kind, kind, [code])
        refusal = await refused(bureaus, request, paths)
        assert (grpc.StatusCode.PERMISSION_DENIED, "NotAuthorised") == (refusal.code, refusal.rule)


async def test_a_bureau_that_is_neither_superior_nor_subordinate_may_not_offer(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    offer.from_bureau, offer.path[:] = FAR_PROVINCE, [FAR_PROVINCE]
    node = bureaus.node(FAR_PROVINCE)
    refusal = await refused(bureaus, sealed(offer, node.seal), node.paths)
    assert "NotAuthorised" == refusal.rule


def change(**fields: Any) -> Change:
    def apply(offer: referral_pb2.Offer) -> None:
        for name, value in fields.items():
            if name == "path":
                offer.path[:] = value
            elif name in referral_pb2.Snapshot.DESCRIPTOR.fields_by_name:
                setattr(offer.snapshot, name, value)
            else:
                setattr(offer, name, value)

    return apply


MALFORMED: list[tuple[Change, str]] = [
    (change(referral_id=""), "offer.referral_id"),
    (change(referral_id="x" * 65), "offer.referral_id"),
    (change(case_id="a case"), "offer.case_id"),
    (change(previous_referral_id="?"), "offer.previous_referral_id"),
    (change(epoch=0), "epoch"),
    (change(epoch=EPOCH_MAX + 1), "epoch"),
    (change(epoch=OFFERED_EPOCH_MAX + 1), "epoch"),
    (change(final_bureau="Jinan"), "offer.final_bureau"),
    (change(origin_bureau=""), "offer.snapshot.origin_bureau"),
    (change(path=["county"]), "offer.path"),
    (change(path=[COUNTY] * (PATH_BUREAUS_MAX + 1)), "offer.path"),
    (change(offered_at_us=0), "offer.offered_at_us"),
    (change(offered_at_us=NOW_US + SKEW_MICROS_MAX + 1), "offer.offered_at_us"),
    (change(registered_at_us=-1), "offer.snapshot.registered_at_us"),
    (change(registered_at_us=2**62), "offer.snapshot.registered_at_us"),
    (change(reason="长" * 10_001), "offer.reason"),
    (change(text="长" * 10_001), "offer.snapshot.text"),
    (change(contact="1" * 201), "offer.snapshot.contact"),
    (change(place="x\0"), "offer.snapshot.place"),
    (change(ruled_by="总局"), "offer.snapshot.ruled_by"),
    (change(returns=EPOCH_MAX + 1), "offer.snapshot.returns"),
    (lambda offer: offer.snapshot.disputants.append("张三 13800000000"), "offer.snapshot.disputants"),
    (lambda offer: offer.snapshot.disputants.extend([COUNTY] * (PATH_BUREAUS_MAX + 1)), "offer.snapshot.returns"),
]


async def test_a_malformed_offer_is_refused_naming_the_field(bureaus: Federation) -> None:
    offer, node = await offered(bureaus), bureaus.node(COUNTY)
    for make, field in MALFORMED:
        changed = referral_pb2.Offer()
        changed.CopyFrom(offer)
        make(changed)
        refusal = await refused(bureaus, sealed(changed, node.seal), node.paths)
        assert (grpc.StatusCode.INVALID_ARGUMENT, field) == (refusal.code, refusal.field)
        assert all((*refusal.sentence, *refusal.remedy))


async def test_bytes_that_are_no_offer_are_refused(bureaus: Federation) -> None:
    node = bureaus.node(COUNTY)
    for content in (b"\xff\xff", b"\x0a\x02\xff\xfe", b"x" * (OFFER_BYTES_MAX + 1)):
        request = referral_pb2.OfferRequest(offer=content, signature=node.seal.sign(content))
        refusal = await refused(bureaus, request, node.paths)
        assert (grpc.StatusCode.INVALID_ARGUMENT, "offer") == (refusal.code, refusal.field)


async def test_an_offer_for_a_bureau_of_another_node_is_refused(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    offer.to_bureau, offer.from_bureau, offer.path[:] = PROVINCE, PREFECTURE, [PREFECTURE]
    node = bureaus.node(PREFECTURE)
    refusal = await refused(bureaus, sealed(offer, node.seal), node.paths)
    assert (grpc.StatusCode.NOT_FOUND, "NotThisBureau") == (refusal.code, refusal.rule)


AGAINST_A_RULE: list[tuple[Change, Refusal]] = [
    (change(final_bureau=COUNTY), Refusal.WRONG_ADDRESSEE),
    (change(final_bureau="990000"), Refusal.WRONG_ADDRESSEE),
    (change(path=[PREFECTURE, COUNTY]), Refusal.LOOP),
    (change(path=[FAR_COUNTY] * 12 + [COUNTY]), Refusal.TOO_MANY_HOPS),
    (change(path=[]), Refusal.INVALID),
    (change(path=["990000", COUNTY]), Refusal.INVALID),
    (change(taxpayer_name=""), Refusal.INVALID),
    (change(contact="nobody"), Refusal.INVALID),
    (change(category=0), Refusal.INVALID),
    (change(category=77), Refusal.INVALID),
    (change(ruled_by=COUNTY), Refusal.INVALID),
]


async def test_an_offer_that_breaks_a_rule_is_refused_for_good_and_recorded(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    for number, (make, refusal) in enumerate(AGAINST_A_RULE, start=1):
        changed = referral_pb2.Offer()
        changed.CopyFrom(offer)
        changed.referral_id = f"referral-{number}"
        make(changed)
        decision = await decided(bureaus, changed, COUNTY)
        assert (False, refusal) == (decision.accepted, int(decision.refusal))
        head = bureaus.office(PREFECTURE).ledger.heads[PREFECTURE]
        assert (number, head.seq, head.hash) == (head.seq, decision.seq, decision.hash)
        assert decision == await decided(bureaus, changed, COUNTY)
    assert bureaus.known(PREFECTURE, offer.case_id) is None


async def test_an_offer_of_a_case_that_the_receiver_owns_is_refused(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    assert (await decided(bureaus, offer, COUNTY)).accepted
    offer.referral_id = "another"
    assert Refusal.STALE_EPOCH == int((await decided(bureaus, offer, COUNTY)).refusal)
    offer.referral_id, offer.epoch = "a-third", 2
    assert Refusal.CONFLICT == int((await decided(bureaus, offer, COUNTY)).refusal)
    assert Custody.OWNED is (await bureaus.case(PREFECTURE, offer.case_id)).custody


async def test_an_unknown_offer_withdrawn_is_refused_for_good(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    request = withdrawal(offer)
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        receipt = await stub.Withdraw(request, timeout=SECONDS)
        assert receipt == await stub.Withdraw(request, timeout=SECONDS)
    assert Refusal.WITHDRAWN == int(referral_pb2.Decision.FromString(receipt.decision).refusal)
    assert Refusal.WITHDRAWN == int((await decided(bureaus, offer, COUNTY)).refusal)


async def test_an_accepted_offer_cannot_be_withdrawn(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    assert (await decided(bureaus, offer, COUNTY)).accepted
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        receipt = await stub.Withdraw(withdrawal(offer), timeout=SECONDS)
    assert referral_pb2.Decision.FromString(receipt.decision).accepted


async def test_a_malformed_withdrawal_is_refused(bureaus: Federation) -> None:
    request = withdrawal(await offered(bureaus))
    request.referral_id = ""
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        refusal = await refusal_of(stub.Withdraw(request, timeout=SECONDS))
    assert "referral_id" == refusal.field


async def test_a_conclusion_of_a_case_that_was_never_here_is_refused(bureaus: Federation) -> None:
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        refusal = await refusal_of(stub.Conclude(conclusion("370102-2026-0000009"), timeout=SECONDS))
    assert (grpc.StatusCode.NOT_FOUND, "UnknownCase") == (refusal.code, refusal.rule)


async def test_a_conclusion_of_a_case_that_this_bureau_holds_is_refused(bureaus: Federation) -> None:
    offer = await offered(bureaus)
    await decided(bureaus, offer, COUNTY)
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        refusal = await refusal_of(stub.Conclude(conclusion(offer.case_id, epoch=7), timeout=SECONDS))
    assert (grpc.StatusCode.PERMISSION_DENIED, "ImpossibleConclusion") == (refusal.code, refusal.rule)
    assert Stage.FORWARDED is (await bureaus.case(PREFECTURE, offer.case_id)).stage


MALFORMED_CONCLUSIONS: list[tuple[str, Any]] = [
    ("outcome", 0),
    ("outcome", 99),
    ("handled_by", "nobody"),
    ("completed_at_us", 0),
    ("completed_at_us", 2**62),
    ("result", "长" * 10_001),
    ("epoch", EPOCH_MAX + 1),
    ("case_id", ""),
]


async def test_a_malformed_conclusion_is_refused_naming_the_field(bureaus: Federation) -> None:
    async with bureaus.stub(PREFECTURE, bureaus.node(COUNTY).paths) as stub:
        for field, value in MALFORMED_CONCLUSIONS:
            request = conclusion("370102-2026-0000001")
            setattr(request, field, value)
            refusal = await refusal_of(stub.Conclude(request, timeout=SECONDS))
            assert (grpc.StatusCode.INVALID_ARGUMENT, field) == (refusal.code, refusal.field)


async def test_a_case_is_followed_from_its_first_bureau_to_the_one_that_has_it(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    office = pki.issue(bureaus.authority, bureaus.folder / "office", "office", [COUNTY])
    async with bureaus.stub(COUNTY, office) as stub:
        answer = await stub.Track(referral_pb2.TrackRequest(bureau=COUNTY, case_id=case_id), timeout=SECONDS)
    found = [(segment.bureau, int(segment.custody)) for segment in answer.segments]
    assert [
        (COUNTY, Custody.RELEASED),
        (PREFECTURE, Custody.RELEASED),
        (PROVINCE, Custody.RELEASED),
        (HEADQUARTERS, Custody.OWNED),
    ] == found
    assert "" == answer.unreachable
    assert 2 == len(answer.segments[-1].clocks)


async def test_following_a_case_names_the_bureau_that_cannot_be_reached(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    await bureaus.node(HEADQUARTERS).stop()
    async with bureaus.stub(COUNTY, bureaus.node(COUNTY).paths) as stub:
        answer = await stub.Track(referral_pb2.TrackRequest(bureau=COUNTY, case_id=case_id), timeout=SECONDS)
    assert ([COUNTY, PREFECTURE, PROVINCE], HEADQUARTERS) == (
        [segment.bureau for segment in answer.segments],
        answer.unreachable,
    )


async def test_following_a_case_ends_where_a_bureau_was_asked_already(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    question = referral_pb2.TrackRequest(bureau=COUNTY, case_id=case_id, asked=[PREFECTURE])
    async with bureaus.stub(COUNTY, bureaus.node(COUNTY).paths) as stub:
        answer = await stub.Track(question, timeout=SECONDS)
    assert [COUNTY] == [segment.bureau for segment in answer.segments]


async def test_following_a_case_past_more_bureaus_than_a_way_can_have_is_refused(bureaus: Federation) -> None:
    question = referral_pb2.TrackRequest(
        bureau=COUNTY, case_id="370102-2026-0000001", asked=[PREFECTURE] * (PATH_BUREAUS_MAX + 1)
    )
    async with bureaus.stub(COUNTY, bureaus.node(COUNTY).paths) as stub:
        refusal = await refusal_of(stub.Track(question, timeout=SECONDS))
    assert ("FieldMalformed", "asked") == (refusal.rule, refusal.field)


async def test_a_bureau_that_had_nothing_to_do_with_a_case_does_not_learn_of_it(bureaus: Federation) -> None:
    case_id = await relayed(bureaus)
    stranger = pki.issue(bureaus.authority, bureaus.folder / "stranger", "node", [FAR_PROVINCE])
    for wanted in (case_id, "370102-2026-9999999"):
        async with bureaus.stub(PROVINCE, stranger) as stub:
            refusal = await refusal_of(
                stub.Track(referral_pb2.TrackRequest(bureau=PROVINCE, case_id=wanted), timeout=SECONDS)
            )
        assert "NotAuthorised" == refusal.rule


async def relayed(bureaus: Federation) -> str:
    """A case of the county's that headquarters has."""
    case_id = await bureaus.register(COUNTY)
    await bureaus.refer(COUNTY, case_id, HEADQUARTERS)
    for code in (COUNTY, PREFECTURE, PROVINCE):
        await bureaus.reached(code, case_id, Custody.RELEASED)
    return case_id


def withdrawal(offer: referral_pb2.Offer) -> referral_pb2.WithdrawRequest:
    return referral_pb2.WithdrawRequest(
        referral_id=offer.referral_id,
        case_id=offer.case_id,
        epoch=offer.epoch,
        from_bureau=offer.from_bureau,
        to_bureau=offer.to_bureau,
        offered_at_us=offer.offered_at_us,
    )


def conclusion(case_id: str, epoch: int = 1) -> referral_pb2.ConcludeRequest:
    outcome: Any = Outcome.COMPLETED
    return referral_pb2.ConcludeRequest(
        case_id=case_id,
        from_bureau=COUNTY,
        to_bureau=PREFECTURE,
        referral_id="some-referral",
        epoch=epoch,
        outcome=outcome,
        handled_by=OTHER_COUNTY,
        completed_at_us=NOW_US,
        result="已办结",
    )
