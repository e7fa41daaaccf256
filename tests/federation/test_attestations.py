"""What a bureau between makes up in the name of one further away: orders, rulings, answers. Real nodes, real keys."""

import io
from typing import Any

import grpc
import pytest
import sqlalchemy as sa

from kuaixiang.domain import acts, order_acts
from kuaixiang.domain.words import Custody, OrderStage, ReferralKind, Role
from kuaixiang.runtime.audit import Proven, Tampered, verify_export
from kuaixiang.runtime.clock import to_micros
from kuaixiang.wire.errors import RemoteRefusal
from kuaixiang.wire.v1 import referral_pb2, supervision_pb2
from kuaixiang.wire.v1.supervision_pb2 import Attestation
from node.export import export_ledger
from node.federation import attestations
from node.federation.statements import owed_of_order
from node.ledger import evidence, schema
from node.orders import DOWN, UP, receipt_id_of
from tests.federation.bureaus import (
    COUNTY,
    FAR_COUNTY,
    HEADQUARTERS,
    MONDAY,
    OTHER_COUNTY,
    PREFECTURE,
    PROVINCE,
    SECONDS,
    TEXT,
    Federation,
)
from tests.federation.test_orders import (
    ACKNOWLEDGE,
    ANSWER,
    ISSUE,
    SALT,
    act,
    everywhere,
    history,
    issue,
    reached,
    refused,
    sealed,
)
from tests.node.callers import refusal_of
from tests.node.test_export import entries_of, written

MADE_UP = "立即停止办理该企业的全部诉求"


def made_up_order(issuer: str = HEADQUARTERS) -> supervision_pb2.OrderStatement:
    """An order that the prefecture says the headquarters have issued."""
    return supervision_pb2.OrderStatement(
        order_id=f"{issuer}-2026-D000077",
        nonce="made-up",
        step=1,
        stage=OrderStage.ISSUED,  # type: ignore[arg-type]
        issuer=issuer,
        from_bureau=PREFECTURE,
        to_bureau=COUNTY,
        final_bureau=COUNTY,
        level=1,  # type: ignore[arg-type]
        answer_workdays=1,
        text=MADE_UP,
        issued_at_us=to_micros(MONDAY),
    )


def signed_by(bureaus: Federation, signer: str, word: Attestation, salt: bytes = b"") -> Any:
    return attestations.signed(word, bureaus.node(signer).seal.sign, salt)


def kept(bureaus: Federation, bureau: str, receipt_id: str) -> Attestation | None:
    found = evidence.attestation(bureaus.office(bureau).ledger.database, bureau, receipt_id)
    return Attestation.FromString(found.attestation) if found is not None else None


async def test_a_parent_cannot_issue_an_order_in_a_higher_superiors_name(bureaus: Federation) -> None:
    paths = bureaus.node(PREFECTURE).paths
    order = made_up_order()
    request = sealed(bureaus, PREFECTURE, order)
    request.ClearField("attestation")
    refusal = await refused(bureaus, request, paths)
    assert (grpc.StatusCode.PERMISSION_DENIED, "NotAttested") == (refusal.code, refusal.rule)
    request.attestation.CopyFrom(signed_by(bureaus, PREFECTURE, attestations.of_statement(order, SALT), SALT))
    assert "SignatureNotProven" == (await refused(bureaus, request, paths)).rule
    # The headquarters' own word, but for something else that they have ordered.
    true = made_up_order()
    true.text = "请说明逾期原因"
    request.attestation.CopyFrom(signed_by(bureaus, HEADQUARTERS, attestations.of_statement(true, SALT), SALT))
    assert "AttestationDiffers" == (await refused(bureaus, request, paths)).rule
    request.attestation.attestation = b"\xff" * 40_000
    assert "FieldMalformed" == (await refused(bureaus, request, paths)).rule
    # Its own it may issue without: nobody but itself has to be believed.
    own = sealed(bureaus, PREFECTURE, made_up_order(PREFECTURE))
    own.ClearField("attestation")
    async with bureaus.supervision(COUNTY, paths) as stub:
        await stub.DeliverOrder(own, timeout=SECONDS)


async def test_an_order_altered_or_ended_on_its_way_is_refused_and_every_ledger_keeps_its_issuers_word(
    bureaus: Federation,
) -> None:
    order_id = await issue(bureaus)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED)
    await bureaus.node(PREFECTURE).stop()
    await bureaus.node(PREFECTURE).start(deliver=False)
    statement = supervision_pb2.OrderStatement()
    for code in (PROVINCE, PREFECTURE, COUNTY):
        said = owed_statement(bureaus, order_id)
        word = kept(bureaus, code, receipt_id_of(said, DOWN))
        assert word is not None
        assert (HEADQUARTERS, order_id, list(said.case_ids)) == (
            word.bureau,
            word.order.order_id,
            list(word.order.case_ids),
        )
        statement = said
    paths = bureaus.node(PREFECTURE).paths
    ended = supervision_pb2.OrderStatement()
    ended.CopyFrom(statement)
    ended.step, ended.stage, ended.note = 2, OrderStage.CANCELLED, "误发"  # type: ignore[assignment]
    ended.from_bureau, ended.to_bureau = PREFECTURE, COUNTY
    request = sealed(bureaus, PREFECTURE, ended)
    of_the_first = evidence.attestation(bureaus.office(COUNTY).ledger.database, COUNTY, receipt_id_of(statement, DOWN))
    assert of_the_first is not None
    request.attestation.CopyFrom(of_the_first)
    assert "AttestationDiffers" == (await refused(bureaus, request, paths)).rule


def exported(bureaus: Federation, *, private: bool = True) -> bytes:
    """The county's ledger as it is exported."""
    file, node = io.BytesIO(), bureaus.node(COUNTY)
    ledger = node.parts.ledger
    export_ledger(ledger.database, ledger.heads[COUNTY], file, node.paths, private=private)
    return file.getvalue()


def verified(bureaus: Federation, content: bytes) -> Proven:
    return verify_export(io.BytesIO(content), bureaus.node(COUNTY).paths.ca.read_bytes())


async def test_an_exported_order_is_held_to_the_word_of_its_issuer(bureaus: Federation) -> None:
    order_id = await issue(bureaus)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED)
    await act(bureaus, HEADQUARTERS, order_id, order_acts.CancelOrder(reason="误发"))
    await everywhere(bureaus, order_id, OrderStage.CANCELLED)
    for private in (True, False):
        content = exported(bureaus, private=private)
        proven = verified(bureaus, content)
        assert (2, 0) == (proven.attested, proven.unattested)
        assert private is (ISSUE.text.encode() in content)
    header, entries = entries_of(exported(bureaus))
    kept_word = entries[0].attestations[0]
    word = referral_pb2.SignedAttestation.FromString(kept_word)
    for spoiled in (word.attestation[:-1], word.attestation.replace(COUNTY.encode(), OTHER_COUNTY.encode())):
        word.attestation = spoiled
        entries[0].attestations[0] = word.SerializeToString()
        with pytest.raises(Tampered) as found:
            verified(bureaus, written(header, entries))
        assert 1 == found.value.seq
    word = referral_pb2.SignedAttestation.FromString(kept_word)
    word.salt = bytes(16)
    entries[0].attestations[0] = word.SerializeToString()
    with pytest.raises(Tampered, match="says something else"):
        verified(bureaus, written(header, entries))
    del entries[0].attestations[:]
    with pytest.raises(Tampered, match="1 words of other bureaus; signed for are"):
        verified(bureaus, written(header, entries))
    # As an order that an earlier version has received: there is nobody's word for it but the neighbour's.
    database = bureaus.office(COUNTY).ledger.database
    with database.writing.begin():
        database.writing.execute(sa.delete(schema.ATTESTATIONS).where(schema.ATTESTATIONS.c.seq == 1))
    proven = verified(bureaus, exported(bureaus))
    assert (1, 1) == (proven.attested, proven.unattested)


def owed_statement(bureaus: Federation, order_id: str) -> supervision_pb2.OrderStatement:
    """What the headquarters have said of an order, made again."""
    entries = [item for item in history(bureaus, HEADQUARTERS, order_id) if item.entry.version == 1]
    statement = owed_of_order(entries, PROVINCE)
    assert isinstance(statement, supervision_pb2.OrderStatement)
    return statement


async def test_a_parent_cannot_answer_an_order_in_its_subordinates_name(bureaus: Federation) -> None:
    order_id = await issue(bureaus)
    await everywhere(bureaus, order_id, OrderStage.RECEIVED)
    await bureaus.node(PREFECTURE).stop()
    await bureaus.node(PREFECTURE).start(deliver=False)
    await act(bureaus, COUNTY, order_id, ACKNOWLEDGE)
    await act(bureaus, COUNTY, order_id, ANSWER)
    await reached(bureaus, PREFECTURE, order_id, OrderStage.ANSWERED)
    report = owed_of_order(history(bureaus, PREFECTURE, order_id), PROVINCE)
    assert isinstance(report, supervision_pb2.OrderReport)
    assert int(report.stage) == OrderStage.ANSWERED
    word = evidence.attestation(bureaus.office(PREFECTURE).ledger.database, PREFECTURE, receipt_id_of(report, UP))
    assert word is not None
    paths = bureaus.node(PREFECTURE).paths
    for answer, attestation, rule in (
        (ANSWER.answer, None, "NotAttested"),
        ("已按要求办结全部诉求", word, "AttestationDiffers"),
    ):
        report.answer = answer
        payload = report.SerializeToString()
        request = supervision_pb2.ReportOrderRequest(
            report=payload, signature=bureaus.node(PREFECTURE).seal.sign(payload), attestation=attestation
        )
        assert rule == (await refused(bureaus, request, paths, PROVINCE)).rule
    await bureaus.node(PREFECTURE).stop()
    await bureaus.node(PREFECTURE).start()
    await everywhere(bureaus, order_id, OrderStage.ANSWERED)


def made_up_ruling(ruled_by: str, epoch: int = 3) -> referral_pb2.Offer:
    """A case that the prefecture gives to the county by a ruling that it says a superior has made."""
    path = [HEADQUARTERS, PROVINCE, PREFECTURE]
    return referral_pb2.Offer(
        referral_id=f"ruled-{epoch}",
        case_id=f"{COUNTY}-2026-0000077",
        epoch=epoch,
        from_bureau=PREFECTURE,
        to_bureau=COUNTY,
        final_bureau=COUNTY,
        path=path[path.index(ruled_by) :],
        referral_kind=int(ReferralKind.REFER),  # type: ignore[arg-type]
        reason="裁定由你局办理",
        snapshot=referral_pb2.Snapshot(
            category=4,  # type: ignore[arg-type]
            channel=4,  # type: ignore[arg-type]
            origin_bureau=COUNTY,
            registered_at_us=to_micros(MONDAY),
            taxpayer_name="济南某某商贸有限公司",
            contact="13800138000",
            text=TEXT,
            returns=2,
            disputants=[COUNTY, FAR_COUNTY],
            ruled_by=ruled_by,
        ),
        offered_at_us=to_micros(MONDAY),
    )


async def offer_refused(bureaus: Federation, offer: referral_pb2.Offer, attestation: Any = None) -> RemoteRefusal:
    payload = offer.SerializeToString()
    node = bureaus.node(PREFECTURE)
    request = referral_pb2.OfferRequest(offer=payload, signature=node.seal.sign(payload), attestation=attestation)
    before = bureaus.office(COUNTY).ledger.heads[COUNTY]
    async with bureaus.stub(COUNTY, node.paths) as stub:
        refusal = await refusal_of(stub.Offer(request, timeout=SECONDS))
    assert before == bureaus.office(COUNTY).ledger.heads[COUNTY]
    return refusal


async def test_a_parent_cannot_bind_a_bureau_by_a_ruling_that_a_higher_superior_has_not_made(
    bureaus: Federation,
) -> None:
    for ruled_by in (HEADQUARTERS, PROVINCE):
        offer = made_up_ruling(ruled_by)
        refusal = await offer_refused(bureaus, offer)
        assert (grpc.StatusCode.PERMISSION_DENIED, "NotAttested") == (refusal.code, refusal.rule)
        forged = signed_by(bureaus, PREFECTURE, attestations.of_ruling(offer))
        assert "SignatureNotProven" == (await offer_refused(bureaus, offer, forged)).rule
        # What that superior did rule, of this case at an earlier time: it binds once.
        earlier = signed_by(bureaus, ruled_by, attestations.of_ruling(offer))
        assert "AttestationDiffers" == (await offer_refused(bureaus, made_up_ruling(ruled_by, epoch=7), earlier)).rule


async def test_a_true_ruling_goes_down_all_the_tiers_under_its_superiors_own_signature(bureaus: Federation) -> None:
    case_id = await bureaus.register(COUNTY)
    for _ in range(2):
        await bureaus.refer(COUNTY, case_id, FAR_COUNTY)
        await bureaus.reached(FAR_COUNTY, case_id, Custody.OWNED)
        await bureaus.act(FAR_COUNTY, case_id, acts.Return(reason="不属本局"))
        await bureaus.reached(COUNTY, case_id, Custody.OWNED)
    await bureaus.act(COUNTY, case_id, acts.AskRuling(reason="两次退回"))
    await bureaus.reached(HEADQUARTERS, case_id, Custody.OWNED)
    ruling = acts.Rule(final_bureau=COUNTY, reason="属地管理")
    await bureaus.act(HEADQUARTERS, case_id, ruling, Role.BUREAU_HEAD)
    case = await bureaus.reached(COUNTY, case_id, Custody.OWNED)
    assert HEADQUARTERS == case.ruled_by
    incoming = case.incoming
    assert incoming is not None
    word = kept(bureaus, COUNTY, incoming.referral_id)
    assert word is not None
    assert (HEADQUARTERS, case_id, COUNTY) == (word.bureau, word.ruling.case_id, word.ruling.final_bureau)


async def test_what_was_decided_gets_its_receipt_again_whatever_has_become_of_its_authors_certificate(
    bureaus: Federation,
) -> None:
    paths = bureaus.node(PREFECTURE).paths
    offer = made_up_ruling(PROVINCE)
    payload = offer.SerializeToString()
    ruled = referral_pb2.OfferRequest(
        offer=payload,
        signature=bureaus.node(PREFECTURE).seal.sign(payload),
        attestation=signed_by(bureaus, PROVINCE, attestations.of_ruling(offer)),
    )
    async with bureaus.stub(COUNTY, paths) as stub:
        receipt = await stub.Offer(ruled, timeout=SECONDS)
        # As if it were signed by a certificate that nobody believes any more.
        ruled.attestation.CopyFrom(signed_by(bureaus, PREFECTURE, attestations.of_ruling(offer)))
        assert receipt == await stub.Offer(ruled, timeout=SECONDS)
        head = bureaus.office(COUNTY).ledger.heads[COUNTY]
    order = sealed(bureaus, PREFECTURE, made_up_order())
    async with bureaus.supervision(COUNTY, paths) as supervision:
        told = await supervision.DeliverOrder(order, timeout=SECONDS)
        order.attestation.CopyFrom(
            signed_by(bureaus, PREFECTURE, attestations.of_statement(made_up_order(), SALT), SALT)
        )
        assert told == await supervision.DeliverOrder(order, timeout=SECONDS)
    assert (head.seq + 1) == bureaus.office(COUNTY).ledger.heads[COUNTY].seq
